"""What single and vector environments share: how jobs are tuned, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.suites import load_suite
from rl_tuner.errors import ConfigError
from rl_tuner.features import FeatureSet
from rl_tuner.policy import Policy
from rl_tuner.rails import Rails
from rl_tuner.seeding import Streams
from rl_tuner.space import SearchSpace, search_space

Source = JobSpec | TrainingJob
"""What an episode's job is built from."""


class Setup:
    """The settings that every tuning environment has, checked.

    Args:
        job: The user's own job; None draws jobs from a suite.
        suite: Name of the suite.
        split: Its "train", "validation" or "test" part.
        actions: "discrete", "continuous" or "anchored".
        reward: A name of `rl_tuner.rewards.REWARDS`.
        hyperparameters: Names of those acted on, or a search space; None for all five.
        decisions: Decisions an episode.
        intervals: "geometric" or "uniform".
        rails: True, False, or your own.
        early_stopping: Decisions without a new best after which an episode ends; None for never.
        averaging: Whether averages of the weights are kept, and validated beside them.
        restarts: Whether trainings that are past their best, or had a false start, begin again.

    Raises:
        ConfigError: An argument is unknown or out of range.
    """

    def __init__(  # noqa: PLR0913 (each one a public option of the environments)
        self,
        job: TrainingJob | None,
        suite: str,
        split: str,
        actions: str,
        reward: str,
        hyperparameters: Sequence[str] | SearchSpace | None,
        decisions: int,
        intervals: str,
        rails: bool | Rails,
        early_stopping: int | None,
        averaging: bool = False,
        restarts: bool = False,
    ) -> None:
        if job is not None and not isinstance(job, TrainingJob):
            raise ConfigError(f"job must be a TrainingJob, got {type(job).__name__}")
        space = hyperparameters
        self.space = space if isinstance(space, SearchSpace) else search_space(space)
        self.config = CourseConfig(decisions, intervals, reward, rails, early_stopping, averaging, restarts)
        self.actions = ActionMap(self.space, actions)
        self.features = FeatureSet(self.space)
        self._family = load_suite(suite).family(split)
        self._own_job = job

    def draw(self, rng: np.random.Generator, job: object = None) -> tuple[Source, Streams]:
        """The next episode's job and its random streams.

        Args:
            rng: One number is drawn from it.
            job: Taken instead of drawing one.

        Raises:
            ConfigError: `job` is no job; nothing was drawn.
        """
        source = require_job(job) or self._own_job
        streams = Streams(int(rng.integers(2**62)))
        return source or self._family.sample(streams.numpy("data")), streams

    def settings(self) -> dict[str, Any]:
        """What a snapshot must share with the environment that continues from it."""
        return {"search space": self.space, "kind of action": self.actions.kind, "config": self.config}


def require_job(job: object) -> Source | None:
    """Returns what reset was given as a job.

    Raises:
        ConfigError: It is no job.
    """
    if job is None or isinstance(job, JobSpec | TrainingJob):
        return job
    raise ConfigError(f"options['job'] must be a TrainingJob or a JobSpec, got {type(job).__name__}")


def require_same(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Checks the settings that a snapshot was taken with.

    Args:
        saved: Those of the environment it was taken of.
        mine: Those of the environment that is to continue from it.

    Raises:
        ConfigError: They differ.
    """
    for name, value in mine.items():
        if name not in saved or saved[name] != value:
            raise ConfigError(
                f"the state is of an environment with another {name}: {saved.get(name)}, here {value}"
            )


def options_for(policy: Policy) -> dict[str, Any]:
    """The arguments of an environment in which a policy runs as it wants to."""
    config = policy.config
    return {
        "actions": policy.actions.kind,
        "reward": config.reward,
        "hyperparameters": policy.space,
        "decisions": config.decisions,
        "intervals": config.intervals,
        "rails": config.rails,
        "early_stopping": config.patience,
        "averaging": config.averaging,
        "restarts": config.restarts,
    }
