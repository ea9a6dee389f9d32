"""How much PPO collects between two updates, and how it is cut up."""

from __future__ import annotations

import math
from typing import NamedTuple

from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError

_EPISODE = 20
"""Decisions of an episode, unless told otherwise."""
_EPISODES = 20
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


def rollout_settings(num_envs: int) -> RolloutSettings:
    """The settings that suit a number of environments, for episodes of about 20 decisions.

    A rollout is whole episodes of every environment, at least 20 episodes in all: one environment collects
    400 steps, 128 environments 20 steps each (2,560 in all), in smaller parts. Ten passes, since an update
    is cheap next to the training of the jobs. All divides: n_steps is a multiple of 20, and so is a rollout.

    Args:
        num_envs: Number of environments, >= 1.

    Raises:
        ConfigError: There is none.
    """
    require_range("num_envs", num_envs, 1)
    n_steps = _EPISODE * max(math.ceil(_EPISODES / num_envs), 1)
    return RolloutSettings(n_steps, 4 if num_envs < _MANY else 10, 10)


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
