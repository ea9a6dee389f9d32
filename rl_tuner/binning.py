"""Bins over observations: how a table can be looked up with real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Binning:
    """Turns some columns of an observation into the number of a table's row.

    Attributes:
        columns: The k columns used.
        edges: For each of them the inner edges, strictly increasing; e edges make e + 1 bins, and a value
            on an edge belongs to the bin above it.
    """

    columns: tuple[int, ...]
    edges: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.edges):
            raise ConfigError(f"{len(self.columns)} columns need as many edges, got {len(self.edges)}")
        for column, edges in zip(self.columns, self.edges, strict=True):
            if edges.ndim != 1 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
                raise ConfigError(f"the edges of column {column} must be finite and strictly increasing")

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of bins along each column."""
        return tuple(len(edges) + 1 for edges in self.edges)

    @property
    def rows(self) -> int:
        """Number of rows of a table over these bins."""
        return int(np.prod(self.shape, dtype=np.int64))

    def row(self, observation: NDArray[np.floating]) -> int:
        """The row of an observation of shape (F,), in [0, rows)."""
        row = 0
        for column, edges in zip(self.columns, self.edges, strict=True):
            row = row * (len(edges) + 1) + int(np.searchsorted(edges, observation[column], side="right"))
        return row
