"""Storage of a group's jobs: a row each of weights and optimizer state, and the copies that rails restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.errors import ConfigError, JobError

Ints = NDArray[np.int64]
STATE = ("theta", "first", "second", "steps")
"""What training changes: weights, the optimizer's two buffers, and its number of updates."""
AVERAGE = "average_theta"
"""The average of the weights so far, where one is kept (see `rl_tuner.averaging`)."""
SETTINGS = ("lr", "weight_decay", "momentum", "dropout", *REGULARIZERS)
"""Hyperparameters that are columns here; the batch size is the sampler's."""


class Rows:
    """Rows of stacked tensors, taken when a job starts and given back when it ends.

    Args:
        width: P, parameters a row.
        dropouts: L, dropout layers.
        dtype: Of the weights.
        device: Where they are.
        averaging: Whether an average of the weights is kept.

    Attributes:
        tensors: "theta", "first" and "second" (rows, P), "steps" (rows, 1) in double precision, and maybe
            `AVERAGE`; the same with "good_" in front, the state that rails restore, and "best_theta".
        averaging: As given.
        state: Names of those tensors that training changes.
        settings: The hyperparameters, float64 arrays of shape (rows,); 0 where a job has no such one.
        tunable: Which of them each job has, bool arrays of shape (rows,).
        ratios: Each dropout layer's rate over the largest one's, shape (rows, L).
        kinds: Number of the optimizer's rule, shape (rows,).
        seeds: Of the dropout streams, uint64, shape (rows,).
        drawn: Updates whose dropout masks were drawn, restored ones included, shape (rows,).
    """

    def __init__(
        self, width: int, dropouts: int, dtype: torch.dtype, device: torch.device, averaging: bool = False
    ) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.averaging = averaging
        self.state = (*STATE, AVERAGE) if averaging else STATE
        for prefix, name in product(("", "good_"), self.state):
            columns, kind = (1, torch.float64) if name == "steps" else (width, dtype)
            self.tensors[prefix + name] = torch.zeros((0, columns), dtype=kind, device=device)
        self.tensors["best_theta"] = torch.zeros((0, width), dtype=dtype, device=device)
        self.settings = {name: np.zeros(0) for name in SETTINGS}
        self.tunable = {name: np.zeros(0, np.bool_) for name in SETTINGS}
        self.ratios = np.zeros((0, dropouts))
        self.kinds = np.zeros(0, np.int64)
        self.seeds = np.zeros(0, np.uint64)
        self.drawn = np.zeros(0, np.int64)
        self._free: list[int] = []
        self._device = device

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return len(self.kinds)

    @property
    def used(self) -> int:
        """Rows taken."""
        return self.capacity - len(self._free)

    @property
    def bytes_per_row(self) -> int:
        """Memory a job takes, in bytes, besides its data."""
        return sum(t.element_size() * t.shape[1] for t in self.tensors.values())

    def take(
        self,
        theta: torch.Tensor,
        settings: Mapping[str, float],
        *,
        kind: int = 0,
        second: float = 0.0,
        ratios: ArrayLike = 1.0,
        seed: int = 0,
    ) -> int:
        """A free row for a job that has not trained yet; nothing is left of the row's last job.

        Args:
            theta: Its weights, shape (P,); they are its last good and its best ones as well.
            settings: Its hyperparameters; of those in `SETTINGS`, the others are passed over.
            kind: See `kinds`.
            second: What the optimizer's second buffer is filled with.
            ratios: See `ratios`; shape (L,).
            seed: See `seeds`.
        """
        if not self._free:
            self._grow(max(4, 2 * self.capacity))
        row = self._free.pop()
        self.begin_again(row, theta, second)
        self.tensors["best_theta"][row] = theta
        for name in SETTINGS:
            self.settings[name][row] = settings.get(name, 0.0)
            self.tunable[name][row] = name in settings
        self.ratios[row], self.kinds[row], self.seeds[row], self.drawn[row] = ratios, kind, seed, 0
        return row

    def begin_again(self, row: int, theta: torch.Tensor, second: float = 0.0) -> None:
        """Puts a row before its first update; its best weights, hyperparameters and dropout stream stay.

        Args:
            row: Which one.
            theta: The weights, shape (P,); they are its last good ones as well.
            second: See `take`.
        """
        for name, tensor in self.tensors.items():
            if name != "best_theta":
                tensor[row] = theta if name.endswith("theta") else second if name.endswith("second") else 0.0

    def release(self, row: int) -> None:
        """Gives a row back."""
        self._free.append(row)

    def copy(self, rows: Ints, source: str, target: str) -> None:
        """Copies the state of some rows: "" is the live one, "good_" the kept one."""
        index = self.index(rows)
        for name in self.state:
            kept = self.tensors[source + name].index_select(0, index)
            self.tensors[target + name].index_copy_(0, index, kept)

    def copy_row(self, source: int, target: int) -> None:
        """Copies a row's weights and optimizer state, live, good and best, to another row.

        Raises:
            JobError: Another optimizer trains there.
        """
        if self.kinds[source] != self.kinds[target]:
            raise JobError(f"rows {source} and {target} are trained by different optimizers")
        for tensor in self.tensors.values():
            tensor[target] = tensor[source]

    def keep_best(self, rows: Ints, source: str = "theta") -> None:
        """Notes these rows' present weights, or with `AVERAGE` the average of them, as their best."""
        index = self.index(rows)
        self.tensors["best_theta"].index_copy_(0, index, self.tensors[source].index_select(0, index))

    def restore_best(self, row: int) -> None:
        """Puts a row's best weights back, and leaves the optimizer's state as it is."""
        self.tensors["theta"][row] = self.tensors["best_theta"][row]

    def rates(self, rows: Sequence[int] | Ints) -> NDArray[np.float64]:
        """Present rate of each dropout layer, shape (len(rows), L)."""
        index = np.asarray(rows, np.int64)
        rates: NDArray[np.float64] = self.settings["dropout"][index][:, None] * self.ratios[index]
        return rates

    def write(self, name: str, rows: Ints, values: NDArray[np.float64]) -> None:
        """Sets a hyperparameter of some rows.

        Raises:
            ConfigError: One of the jobs has none of that name.
        """
        if name not in self.tunable or not self.tunable[name][rows].all():
            there = [known for known, has in self.tunable.items() if has[rows].all()]
            raise ConfigError(f"a job has no hyperparameter {name!r}; it has {', '.join(there)}, batch_size")
        self.settings[name][rows] = values

    def index(self, rows: Sequence[int] | Ints) -> torch.Tensor:
        """Rows as an index tensor."""
        return torch.as_tensor(np.asarray(rows, np.int64), device=self._device)

    def get_row(self, row: int) -> dict[str, Any]:
        """What training and tuning change in a row, copied."""
        return {
            "tensors": {name: t[row].clone() for name, t in self.tensors.items()},
            "settings": {name: float(a[row]) for name, a in self.settings.items()},
            "drawn": int(self.drawn[row]),
        }

    def set_row(self, row: int, state: Mapping[str, Any]) -> None:
        """Puts back what `get_row` gave.

        Raises:
            JobError: The state is of a job with another number of parameters.
        """
        saved, width = len(state["tensors"]["theta"]), self.tensors["theta"].shape[1]
        if saved != width:
            raise JobError(f"the state is of a job with {saved} parameters, this one has {width}")
        for name, tensor in self.tensors.items():
            tensor[row] = state["tensors"][name]
        for name, array in self.settings.items():
            array[row] = state["settings"][name]
        self.drawn[row] = state["drawn"]

    def _grow(self, capacity: int) -> None:
        old = self.capacity
        for name, tensor in self.tensors.items():
            larger = tensor.new_zeros((capacity, tensor.shape[1]))
            larger[:old] = tensor
            self.tensors[name] = larger
        self.settings = {name: _longer(array, capacity) for name, array in self.settings.items()}
        self.tunable = {name: _longer(array, capacity) for name, array in self.tunable.items()}
        self.ratios, self.kinds = _longer(self.ratios, capacity), _longer(self.kinds, capacity)
        self.seeds, self.drawn = _longer(self.seeds, capacity), _longer(self.drawn, capacity)
        self._free = [*range(capacity - 1, old - 1, -1), *self._free]


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    """A copy with zeros behind."""
    larger = np.zeros((length, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
