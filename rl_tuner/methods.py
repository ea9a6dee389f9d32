"""What a comparison compares: policies and schedules, tuning-free optimizers, searches, a static setting.

Each is a `Method`: given a job and a seed it trains, within its budget, and tells what came of it as a `Row`.
The budget is counted in training samples and the same for all: a job's own for a single run, and for a search
as many of them as it has trials (``random@16``), unless its trials share one (``random/16``).
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from rl_tuner.config import require_range
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.tuning_free import require_tuning_free, tuning_free
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.policy import LearnedPolicy, Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.results import Place, Row
from rl_tuner.rollout import Beginning, beginning, run_episode
from rl_tuner.schedules import Constant
from rl_tuner.searches import SearchConfig
from rl_tuner.searching import run_search
from rl_tuner.static_setting import STATIC, StaticSetting

BASELINE = "constant"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A job and a seed, which every method is run on.

    Attributes:
        spec: The job.
        job: Its number in the comparison, from 0.
        seed: The repetition's number, from 0.
        episode_seed: Given to the environment: decides initial weights, batches and dropout.
    """

    spec: JobSpec
    job: int
    seed: int
    episode_seed: int


class Method(ABC):
    """A contestant. Picklable, so that worker processes can run it.

    Attributes:
        identity: What it is, so that a run is not continued with another one: a name, or a file's SHA-256.
    """

    identity: str

    @abstractmethod
    def run(self, name: str, experiment: Experiment) -> Row:
        """Trains, and tells what came of it.

        Args:
            name: Its own name in the comparison.
            experiment: On what.

        Raises:
            ConfigError: The job has no test split.
            JobError, DatasetError: The job cannot be built or trained.
        """


class PolicyMethod(Method):
    """One run under a policy, learned or a schedule, in the environment in which it wants to be run.

    Attributes:
        policy: What acts.
        batched: Whether its jobs train side by side with others, or each on an engine of its own.
    """

    batched = True

    def __init__(self, policy: Policy, identity: str = "") -> None:
        self.policy = policy
        self.identity = identity or policy.name

    def job(self, spec: JobSpec) -> Source:
        """What it trains, given an experiment's job."""
        return spec

    def with_option(self, option: str, on: bool) -> Self:
        """The same with averages of the weights or restarts, or without, whatever the policy wants.

        Args:
            option: "averaging" or "restarts", of `rl_tuner.course_config.CourseConfig`.
            on: With it, or without.
        """
        other = copy.copy(self)
        other.policy = copy.deepcopy(self.policy)
        change: dict[str, Any] = {option: on}
        other.policy.config = replace(self.policy.config, **change)
        other.identity = f"{self.identity}+{'' if on else 'no-'}{option}"
        return other

    def run(self, name: str, experiment: Experiment) -> Row:
        """See `Method.run`; by the plain loop, as `rl_tuner.chunks` does it to floating-point tolerance."""
        began = time.process_time()
        env = TuningEnv.for_policy(self.policy)
        episode = run_episode(env, self.policy, experiment.episode_seed, self.job(experiment.spec))
        seconds = time.process_time() - began
        return Row.of(episode, place(name, experiment), seconds)


class OptimizerMethod(PolicyMethod):
    """One run with an optimizer that needs no tuning in place of the job's own; nothing else changes.

    Raises:
        ConfigError: There is no such optimizer, or its package is missing.
    """

    batched = False

    def __init__(self, optimizer: str) -> None:
        require_tuning_free(optimizer)
        self.optimizer = optimizer
        super().__init__(Constant(), optimizer)

    def job(self, spec: JobSpec) -> Source:
        """The job with the optimizer."""
        return tuning_free(self.optimizer, spec)


class StaticMethod(PolicyMethod):
    """One run at a setting that is the same for all jobs (see `rl_tuner.static_setting`)."""

    def __init__(self, setting: StaticSetting) -> None:
        super().__init__(load_policy(setting.schedule), STATIC)
        self.setting = setting

    def job(self, spec: JobSpec) -> Source:
        """The job at the setting."""
        return self.setting.apply(spec)


class StartedMethod(PolicyMethod):
    """One run under a policy or schedule that starts at a learning rate of its own choice, not the job's.

    Args:
        policy: What acts.
        lr_factor: Learning rate over the optimizer's usual one (`rl_tuner.envs.families.SANE_LR`), > 0.
        identity: The policy's.

    Raises:
        ConfigError: The factor is out of range.
    """

    def __init__(self, policy: Policy, lr_factor: float, identity: str) -> None:
        self.lr_factor = require_range("the factor of the start learning rate", lr_factor, 0, above=True)
        super().__init__(policy, f"{identity}@{lr_factor:g}x")

    def job(self, spec: JobSpec) -> Source:
        """The job at that learning rate."""
        return replace(spec, lr=SANE_LR[spec.optimizer] * self.lr_factor)


class SearchMethod(Method):
    """A search: its trials trained on the job, one chosen by validation."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.identity = f"{config.sampler}{'/' if config.shared else '@'}{config.trials}"

    def run(self, name: str, experiment: Experiment) -> Row:
        """See `Method.run`."""
        began = time.process_time()
        result = run_search(self.config, experiment.spec, experiment.episode_seed)
        where = place(name, experiment)
        budget = where.beginning.budget * (1 if self.config.shared else self.config.trials)
        return Row.of_search(result, where, budget, time.process_time() - began)


def place(name: str, experiment: Experiment) -> Place:
    """Where a method's row of an experiment stands."""
    start = _beginning(experiment.spec, experiment.episode_seed)
    return Place(name, experiment.job, experiment.seed, experiment.episode_seed, start)


@lru_cache(maxsize=8)
def _beginning(spec: JobSpec, seed: int) -> Beginning:
    """Every method of an experiment asks for it."""
    return beginning(spec, seed)


def learned(methods: Mapping[str, Method]) -> dict[str, LearnedPolicy]:
    """Those of the methods that are learned policies, by name; from the jobs' own start values."""
    return {
        name: method.policy
        for name, method in methods.items()
        if type(method) is PolicyMethod and isinstance(method.policy, LearnedPolicy)
    }
