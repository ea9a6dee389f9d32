"""Quantile bins: every bin of a column holds about as many of the observations it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rl_tuner.binning import Binning
from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError


def quantile_binning(observations: NDArray[np.floating], bins: Mapping[int, int]) -> Binning:
    """Fits a binning to observations.

    An edge lies half-way between two neighbouring observed values, so that a flag's 0 and 1 part however
    rare the 1 is. Edges that coincide are merged: a column may get fewer bins than asked for, and a
    constant one gets a single bin.

    Args:
        observations: Shape (n, F), n >= 1, finite.
        bins: Column → largest number of bins, >= 1.

    Raises:
        ConfigError: There are no observations, they are not finite, or a column does not exist.
    """
    data = np.asarray(observations, dtype=np.float64)
    if data.ndim != 2 or not len(data):
        raise ConfigError(f"bins are fitted to observations of shape (n, F), got {data.shape}")
    edges = []
    for column, count in bins.items():
        require_range(f"number of bins of column {column}", count, 1)
        if not 0 <= column < data.shape[1]:
            raise ConfigError(f"no column {column}: the observations have {data.shape[1]}")
        edges.append(_edges(column, data[:, column], count))
    return Binning(tuple(bins), tuple(edges))


def _edges(column: int, values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """The inner edges of one column, at most bins - 1 of them."""
    if not np.isfinite(values).all():
        raise ConfigError(f"column {column} of the observations holds values that are not finite")
    distinct = np.unique(values)
    at = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    below = np.searchsorted(distinct, np.unique(at))
    below = below[below < len(distinct) - 1]
    edges: NDArray[np.float64] = np.unique((distinct[below] + distinct[below + 1]) / 2)
    return edges
