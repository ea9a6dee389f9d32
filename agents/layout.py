"""The layout of tables: what their rows tell apart, and in which order their choices are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_tuner.agents.agent import TuningSpaces
from rl_tuner.binning import Binning
from rl_tuner.config import choose, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import smallest_first

SHARED_BINS: dict[str, int] = {"progress": 4, "update_to_weight": 6, "rescued": 2}
"""Default features of every table, and into how many bins they are cut."""
OWN_BINS: dict[str, int] = {}
"""Default features of each hyperparameter's own table, none: ``{"in_bounds": 3}`` would add `lr_in_bounds` to
the table of lr, and so on, but in some thousand steps the larger tables stay too empty."""


def feature_bins(
    tuning: TuningSpaces, shared: Mapping[str, int] | None, own: Mapping[str, int] | None
) -> list[dict[int, int]]:
    """Column → bins, for each hyperparameter's table.

    Args:
        tuning: What is tuned.
        shared: Feature → bins, for every table; None for `SHARED_BINS`.
        own: Feature of a hyperparameter → bins, for its own table; None for `OWN_BINS`.

    Raises:
        ConfigError: There is no such feature, or a number of bins is below 1.
    """
    chosen = []
    for name in tuning.space.names:
        wanted = dict(SHARED_BINS if shared is None else shared)
        wanted |= {f"{name}_{feature}": n for feature, n in (OWN_BINS if own is None else own).items()}
        columns = {f: tuning.feature_names.index(choose("feature", f, tuning.feature_names)) for f in wanted}
        chosen.append({columns[f]: int(require_range(f"bins of {f!r}", n, 1)) for f, n in wanted.items()})
    return chosen


def column_bins(space: gym.Space[Any], bins: int) -> dict[int, int]:
    """Column → bins where features have no names: all columns of a Box; the one of a Discrete is 0.

    Raises:
        ConfigError: The observations are of another kind.
    """
    if isinstance(space, spaces.Discrete):
        return {0: int(space.n)}
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"tables need Discrete or Box observations, got {space}")
    return dict.fromkeys(range(int(np.prod(space.shape))), int(require_range("bins", bins, 1)))


def first_binning(space: gym.Space[Any], columns: Mapping[int, int]) -> Binning:
    """What is known before anything was observed: Discrete numbers as they are, one bin for all of a Box."""
    if isinstance(space, spaces.Discrete):
        return Binning((0,), (np.arange(1, space.n, dtype=np.float64) + float(space.start) - 0.5,))
    return Binning(tuple(columns), tuple(np.empty(0) for _ in columns))


def choice_counts(space: gym.Space[Any]) -> NDArray[np.int64]:
    """Number of choices of each part of the action, shape (D,).

    Raises:
        ConfigError: The actions are not choices.
    """
    if isinstance(space, spaces.Discrete):
        return np.array([space.n], dtype=np.int64)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return space.nvec.astype(np.int64)
    raise ConfigError(f"tables need Discrete or MultiDiscrete actions (starting at 0), got {space}")


def tie_orders(tuning: TuningSpaces | None, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """How equal values are settled: by the smallest change, or the lowest number where nothing is tuned."""
    if tuning is None:
        return [np.arange(count) for count in counts]
    return [smallest_first(h.choices) for h in tuning.space.hyperparameters]
