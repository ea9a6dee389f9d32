"""Training jobs as Gymnasium environments. Importing this registers ``rl_tuner/Tuning-v0``.

One job: `tuning_env` on `engine`, the plain PyTorch loop. Many jobs, from the outside in:

- `vector_env` → `slots`, `slot_rngs`, `vector_info`: episodes side by side;
- `batched_engine` → `allocation`, `seats`: which job trains where, on `engine` if it cannot be batched;
- `group`: the jobs of one architecture, in `rows` of weights and optimizer state, samples in an `arena`;
- `rounds` after a `plan`, or `uniform` (`ticks`, `block`, `programs`, `compiling`): the inner loop;
- `stacked` (`stacked_layers`, `leaf_rules`, `dropout`), `row_losses`, `update_rules` (`torch_rules`): parts;
- `stack_check`, `signatures`: what makes it safe to batch a stranger's module.
"""

import gymnasium as gym

from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.suites import JobFamily, JobSpec, Suite, load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv

__all__ = ["JobFamily", "JobSpec", "Suite", "TrainingJob", "TuningEnv", "VectorTuningEnv", "load_suite"]

gym.register(
    id="rl_tuner/Tuning-v0",
    entry_point="rl_tuner.envs.tuning_env:TuningEnv",
    vector_entry_point="rl_tuner.envs.vector_env:VectorTuningEnv",
)
