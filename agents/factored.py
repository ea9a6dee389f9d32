"""Action values that are a sum over the parts of an action, each part with a table of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.binning import Binning
from rl_tuner.errors import ConfigError
from rl_tuner.policies import greedy

Rows = tuple[int, ...]
Choices = tuple[int, ...]


class FactoredQ:
    """``Q(s, a) = Σ_d Q_d(s_d, a_d)``, D tables; with D = 1 an ordinary table.

    Value decomposition: Sunehag et al., 2018, "Value-Decomposition Networks for Cooperative Multi-Agent
    Learning", equation 2. The best action is the best choice of each part on its own.

    Args:
        binnings: For each part, how an observation becomes a row of its table.
        orders: For each part its choices, in the order that settles equal values.
    """

    def __init__(self, binnings: Sequence[Binning], orders: Sequence[NDArray[np.int64]]) -> None:
        self.binnings, self.orders = tuple(binnings), tuple(orders)
        shapes = [(binning.rows, len(order)) for binning, order in zip(binnings, orders, strict=True)]
        self.tables = [np.zeros(shape) for shape in shapes]
        self.visits = [np.zeros(shape, dtype=np.int64) for shape in shapes]

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def visited(self) -> float:
        """Share of the tables' rows that were visited."""
        return float(np.concatenate([visits.any(axis=1) for visits in self.visits]).mean())

    def rows(self, observation: NDArray[np.floating]) -> Rows:
        """The row of each table, for an observation of shape (F,)."""
        return tuple(binning.row(observation) for binning in self.binnings)

    def greedy(self, rows: Rows) -> Choices:
        """The choices of highest value."""
        return tuple(
            greedy(table[row], order)
            for table, row, order in zip(self.tables, rows, self.orders, strict=True)
        )

    def value(self, rows: Rows, choices: Choices) -> float:
        """Q(s, a)."""
        return float(sum(table[row, c] for table, row, c in zip(self.tables, rows, choices, strict=True)))

    def update(
        self, rows: Rows, choices: Choices, error: float, learning_rate: float, averaging: bool
    ) -> None:
        """Moves Q(s, a) by the step size times the error, an equal share to each table.

        Args:
            rows: Of s.
            choices: Of a.
            error: The temporal-difference error δ, of the sum.
            learning_rate: The step size α.
            averaging: Whether the step size of an entry is 1/visits for as long as that is larger than α:
                the entry is then the plain mean of its first 1/α targets.
        """
        for table, visits, row, choice in zip(self.tables, self.visits, rows, choices, strict=True):
            visits[row, choice] += 1
            rate = max(learning_rate, 1 / visits[row, choice]) if averaging else learning_rate
            table[row, choice] += rate * error / len(self)

    def get_state(self) -> dict[str, Any]:
        """Edges, values and visits, as tensors."""
        import torch

        return {
            "edges": [[torch.from_numpy(e.copy()) for e in b.edges] for b in self.binnings],
            "tables": [torch.from_numpy(table.copy()) for table in self.tables],
            "visits": [torch.from_numpy(visits.copy()) for visits in self.visits],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, the bins' edges included.

        Raises:
            ConfigError: The state has other columns or choices.
        """
        columns = [binning.columns for binning in self.binnings]
        if [len(edges) for edges in state["edges"]] != [len(c) for c in columns]:
            raise ConfigError("the state's tables are over other features or parts of the action")
        edges = [tuple(e.numpy().copy() for e in own) for own in state["edges"]]
        binnings = tuple(Binning(c, own) for c, own in zip(columns, edges, strict=True))
        tables = [table.numpy().copy() for table in state["tables"]]
        wanted = [(b.rows, len(order)) for b, order in zip(binnings, self.orders, strict=True)]
        if [table.shape for table in tables] != wanted:
            raise ConfigError(f"the state's tables have shapes {[t.shape for t in tables]}, not {wanted}")
        self.binnings, self.tables = binnings, tables
        self.visits = [visits.numpy().copy() for visits in state["visits"]]
