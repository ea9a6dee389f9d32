"""Training jobs as Gymnasium environments. Importing this registers ``rl_tuner/Tuning-v0``."""

import gymnasium as gym

from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.suites import JobFamily, JobSpec, Suite, load_suite
from rl_tuner.envs.tuning_env import TuningEnv

__all__ = ["JobFamily", "JobSpec", "Suite", "TrainingJob", "TuningEnv", "load_suite"]

gym.register(id="rl_tuner/Tuning-v0", entry_point="rl_tuner.envs.tuning_env:TuningEnv")
