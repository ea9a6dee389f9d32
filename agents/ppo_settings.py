"""PPO's settings, how much it collects between two updates, and how that is cut up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from rl_tuner.config import choose, require_counts, require_range
from rl_tuner.errors import ConfigError

ADVANTAGES = ("gae", "group", "group_gae")
_EPISODE = 20
"""Decisions of an episode, unless told otherwise."""
_STEPS = 400
"""A rollout holds at least so many."""
_MANY = 16
"""From so many environments on, a rollout is large enough for more minibatches."""


class RolloutSettings(NamedTuple):
    """How much is collected between two updates, and how it is learned from.

    Attributes:
        n_steps: Steps of each environment.
        minibatches: Into how many equal parts the rollout is cut, in each epoch.
        n_epochs: Passes over the rollout.
    """

    n_steps: int
    minibatches: int
    n_epochs: int


def rollout_settings(num_envs: int, decisions: int = _EPISODE) -> RolloutSettings:
    """The settings that suit a number of environments.

    A rollout is whole episodes of every environment, at least 400 steps in all: with episodes of 20 decisions
    one environment collects 400 steps, 128 environments 20 steps each (2,560 in all), in smaller parts. Ten
    passes, since an update is cheap next to the training of the jobs.

    Args:
        num_envs: Number of environments, >= 1.
        decisions: Steps of an episode, >= 1, unless it ends early.

    Raises:
        ConfigError: There is none.
    """
    require_range("num_envs", num_envs, 1)
    require_range("decisions", decisions, 1)
    n_steps = decisions * math.ceil(_STEPS / (decisions * num_envs))
    return RolloutSettings(max(n_steps, 2), 4 if num_envs < _MANY else 10, 10)


def minibatch_size(batch_size: int | None, n_steps: int, num_envs: int, minibatches: int) -> int:
    """The size of the minibatches: as given, or the smallest that cuts a rollout into no more than so many.

    Args:
        batch_size: What was given; None if nothing was.
        n_steps: Steps of each environment in a rollout.
        num_envs: Number of environments.
        minibatches: At most so many, if nothing was given.

    Raises:
        ConfigError: What was given is below 2, or does not divide the rollout.
    """
    collected = n_steps * num_envs
    if batch_size is None:
        least = max(math.ceil(collected / minibatches), 2)
        return next(size for size in range(least, collected + 1) if collected % size == 0)
    require_range("batch_size", batch_size, 2)
    if collected % batch_size:
        raise ConfigError(
            f"batch_size must divide the {collected} steps of a rollout ({n_steps} steps of each of "
            f"{num_envs} environments), got {batch_size}"
        )
    return batch_size


@dataclass(frozen=True, slots=True)
class PPOSettings:
    """What `PPOAgent` is told, checked; the meanings stand there.

    Raises:
        ConfigError: A value is unknown or out of range, or contradicts another.
    """

    learning_rate: float
    learning_rate_end: float | None
    n_steps: int | None
    batch_size: int | None
    n_epochs: int | None
    gamma: float
    gae_lambda: float
    gae_lambda_end: float | None
    clip_range: float
    ent_coef: float
    ent_coef_end: float | None
    hidden: tuple[int, ...]
    log_std_init: float
    log_std_end: float | None
    advantages: str
    group_size: int | None
    advantage_clip: float
    memory: int
    privileged: bool

    def __post_init__(self) -> None:
        require_range("learning_rate", self.learning_rate, 0, above=True)
        require_range("gamma", self.gamma, 0, 1)
        require_range("gae_lambda", self.gae_lambda, 0, 1)
        if self.gae_lambda_end is not None:
            require_range("gae_lambda_end", self.gae_lambda_end, 0, 1)
        require_range("clip_range", self.clip_range, 0, above=True)
        require_range("ent_coef", self.ent_coef, 0)
        for name in ("learning_rate_end", "ent_coef_end"):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), 0)
        if self.n_steps is not None:
            require_range("n_steps", self.n_steps, 2)
        if self.n_epochs is not None:
            require_range("n_epochs", self.n_epochs, 1)
        require_counts({"memory": self.memory})
        self._check_advantages()

    def _check_advantages(self) -> None:
        choose("advantages", self.advantages, ADVANTAGES)
        require_range("advantage_clip", self.advantage_clip, 0, above=True)
        if self.grouped:
            if self.privileged:
                raise ConfigError(
                    f"privileged=True is for the value network, which advantages={self.advantages!r} lacks"
                )
        elif self.group_size is not None:
            raise ConfigError(f"group_size={self.group_size} is for advantages='group', got 'gae'")

    @property
    def grouped(self) -> bool:
        """Whether advantages are against the others of a group."""
        return self.advantages != "gae"

    def whole_rollout(self, num_envs: int, decisions: int | None) -> RolloutSettings:
        """What is collected between two updates: `rollout_settings`' where nothing was given.

        Args:
            num_envs: Number of environments.
            decisions: Steps of an episode that does not end early; None if nobody knows.

        Raises:
            ConfigError: Groups are compared, and no episode would be whole in a rollout.
        """
        suited = rollout_settings(num_envs, _EPISODE if decisions is None else decisions)
        n_steps = suited.n_steps if self.n_steps is None else self.n_steps
        if self.grouped and decisions is not None and n_steps < decisions:
            raise ConfigError(
                f"advantages={self.advantages!r} compares whole episodes: n_steps must be >= {decisions}, "
                f"the decisions of an episode, got {n_steps}"
            )
        n_epochs = suited.n_epochs if self.n_epochs is None else self.n_epochs
        return RolloutSettings(n_steps, suited.minibatches, n_epochs)

    def group_of(self, num_envs: int, environments: int | None) -> int:
        """How many environments side by side are compared.

        Args:
            num_envs: Number of environments.
            environments: How many of them run the same jobs, as they say themselves; None if they do not.

        Raises:
            ConfigError: They do not run the same jobs, or are not whole groups.
        """
        own = 1 if environments is None else environments
        size = own if self.group_size is None else self.group_size
        require_counts({"group_size": size})
        if size < 2:
            raise ConfigError(
                f"advantages={self.advantages!r} needs a group_size >= 2, so that environments run the same "
                f"jobs side by side (VectorTuningEnv(…, group_size=8)), got {size}"
            )
        if num_envs % size:
            raise ConfigError(f"group_size must divide the {num_envs} environments, got {size}")
        if environments is not None and environments % size:
            raise ConfigError(
                f"the environments run the same jobs in groups of {environments}, not of {size}"
            )
        return size
