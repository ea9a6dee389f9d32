"""What a vector environment is asked for, checked before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.envs.tuning_setup import Source, require_job
from rl_tuner.errors import ConfigError

Bools = NDArray[np.bool_]


def asked_reset(options: Mapping[str, Any] | None, num_envs: int, ready: bool) -> tuple[Source | None, Bools]:
    """The job that a reset's options name, or None, and the slots that it is of, shape (num_envs,).

    Args:
        options: See `VectorTuningEnv.reset`.
        num_envs: Number of slots.
        ready: Whether a job runs in every slot.

    Raises:
        ConfigError: An option is unknown or does not fit.
        gymnasium.error.ResetNeeded: Some slots are to be reset before all of them were.
    """
    options = options or {}
    for key in options:
        choose("reset option", key, ("job", "reset_mask"))
    job, mask = require_job(options.get("job")), options.get("reset_mask")
    if mask is None:
        return job, np.ones(num_envs, np.bool_)
    array = np.asarray(mask)
    if array.shape != (num_envs,) or array.dtype != np.bool_ or not array.any():
        raise ConfigError(f"reset_mask must be bools of shape ({num_envs},), one of them True")
    if not ready and not array.all():
        raise gym.error.ResetNeeded("reset all slots before some of them")
    return job, array


def require_running(ready: bool, ended: Bools, mode: AutoresetMode) -> None:
    """Checks that a step can be taken.

    Args:
        ready: Whether a job runs in every slot, and no step failed half-way.
        ended: The slots whose jobs ended and were not followed by others yet, shape (num_envs,).
        mode: When those follow.

    Raises:
        gymnasium.error.ResetNeeded: It cannot.
    """
    if not ready:
        raise gym.error.ResetNeeded("call reset() first: no jobs run, or a step of them failed")
    if ended.any() and mode == AutoresetMode.DISABLED:
        slots = np.flatnonzero(ended).tolist()
        raise gym.error.ResetNeeded(f"the jobs in slots {slots} are finished: reset them by reset_mask")
