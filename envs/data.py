"""Data pools: a split's samples, kept once in memory and indexed, and how they are split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, TensorDataset, default_collate

from rl_tuner.config import require_range
from rl_tuner.envs.preprocessing import Preprocessing, fit, require_numbers
from rl_tuner.errors import DatasetError

Samples: TypeAlias = "torch.Tensor | NDArray[Any]"
Data: TypeAlias = "Dataset[Any] | tuple[Samples, Samples]"
"""What a job accepts as a split: (inputs, targets), tensors or arrays, or a map-style `Dataset` of pairs."""


class Pool(Protocol):
    """A split's samples."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batches(self, indices: Sequence[NDArray[np.int64]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets of the samples at each of the `indices`, in turn."""
        ...

    def in_order(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples in order, `size` at a time."""
        ...


@dataclass(frozen=True, slots=True)
class TensorPool:
    """Samples in two tensors: inputs (n, …) and targets (n, …) on the job's device."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, indices: Sequence[NDArray[np.int64]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets of the samples at each of the `indices`, in turn, gathered all at once."""
        index = torch.from_numpy(np.concatenate(indices)).to(self.inputs.device)
        sizes = [len(part) for part in indices]
        inputs, targets = self.inputs.index_select(0, index), self.targets.index_select(0, index)
        return zip(torch.split(inputs, sizes), torch.split(targets, sizes), strict=True)

    def in_order(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples in order, `size` at a time: views, nothing is copied."""
        return zip(torch.split(self.inputs, size), torch.split(self.targets, size), strict=True)


@dataclass(frozen=True, slots=True)
class DatasetPool:
    """Samples of a map-style `Dataset`, fetched one by one: what transforms at random needs this."""

    dataset: Dataset[Any]
    device: torch.device

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batches(self, indices: Sequence[NDArray[np.int64]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets of the samples at each of the `indices`, collated as a `DataLoader` does."""
        for part in indices:
            inputs, targets = default_collate([self.dataset[i] for i in part.tolist()])
            yield inputs.to(self.device), targets.to(self.device)

    def in_order(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples in order, `size` at a time."""
        return self.batches(np.split(np.arange(len(self)), range(size, len(self), size)))


def make_pool(data: Data, device: torch.device, what: str = "data") -> Pool:
    """The pool that fits the data.

    Args:
        data: See `Data`.
        device: Where batches are wanted.
        what: The split's name, for messages.

    Raises:
        DatasetError: It is no such data, is empty, or inputs and targets differ in length.
    """
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        data = (data.tensors[0], data.tensors[1])
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DatasetError(f"{what} must be a pair (inputs, targets), got a tuple of {len(data)}")
        inputs, targets = (_tensor(part).to(device) for part in data)
        if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
            raise DatasetError(
                f"{what} has inputs of shape {tuple(inputs.shape)}, targets of shape {tuple(targets.shape)}: "
                "their first dimensions must be equal"
            )
        pool: Pool = TensorPool(inputs, targets)
    elif isinstance(data, Dataset) and hasattr(data, "__len__"):
        pool = DatasetPool(data, device)
    else:
        raise DatasetError(
            f"{what} must be (inputs, targets) or a Dataset with a length, got {type(data).__name__}"
        )
    if len(pool) == 0:
        raise DatasetError(f"{what} holds no samples")
    return pool


def _tensor(part: Samples) -> torch.Tensor:
    """Tensors as they are; arrays of doubles, NumPy's default, in torch's default precision."""
    if isinstance(part, np.ndarray) and part.dtype == np.float64:
        part = part.astype(np.float32)
    return torch.as_tensor(part)


@dataclass(frozen=True, slots=True)
class Split:
    """One table, split and scaled: pairs (inputs (n, d) float32, targets (n,)).

    Attributes:
        train: What is trained on; scaling and imputation were fitted here and only here.
        validation: What decisions, the best model and early stopping look at.
        test: What nothing looks at before the end.
        classes: Number of classes; 0 for regression.
        preprocessing: What the columns went through; a saved model needs it.
    """

    train: tuple[torch.Tensor, torch.Tensor]
    validation: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]
    classes: int
    preprocessing: Preprocessing

    @property
    def features(self) -> int:
        """Number of input columns."""
        return int(self.train[0].shape[1])

    @property
    def task(self) -> str:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"


def split_table(
    inputs: NDArray[Any],
    targets: NDArray[Any],
    *,
    classes: int,
    seed: int,
    validation: float = 0.2,
    test: float = 0.2,
    impute: bool = False,
) -> Split:
    """Splits a table into train, validation and test, and scales it by the train part.

    Inputs, and the targets of a regression, are standardized with the train part's mean and deviation.
    Classification is stratified where every class has enough samples for it.

    Args:
        inputs: Shape (n, d), finite numbers; NaN too with `impute`.
        targets: Shape (n,): class numbers from 0, or finite numbers.
        classes: Number of classes; 0 for regression.
        seed: Of the shuffle.
        validation: Share of all samples, in (0, 1).
        test: Share of all samples, in (0, 1).
        impute: Fill missing inputs with the train part's median of their column.

    Raises:
        ConfigError: A share is out of range.
        DatasetError: Fewer samples than three splits need, or inputs that are not finite.
    """
    require_range("validation + test", validation + test, 0, 0.9, above=True)
    require_range("validation", validation, 0, above=True)
    require_range("test", test, 0, above=True)
    require_numbers(inputs, (), impute=impute)
    rest, test_rows = _hold_out(np.arange(len(targets)), targets, classes, test, seed)
    train_rows, val_rows = _hold_out(rest, targets, classes, validation, seed)
    fitted = fit(inputs[train_rows], None if classes else targets[train_rows], impute=impute)

    def part(rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        truth = targets[rows]
        return fitted.inputs(inputs[rows]), (
            torch.from_numpy(truth.astype(np.int64)) if classes else fitted.targets(truth)
        )

    return Split(part(train_rows), part(val_rows), part(test_rows), classes, fitted)


def _hold_out(
    rows: NDArray[np.int64], targets: NDArray[Any], classes: int, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that are left, and those held out: a share of all samples, at least one."""
    from sklearn.model_selection import train_test_split

    held = max(1, round(len(targets) * share))
    if len(rows) - held < 2:
        raise DatasetError(f"{len(targets)} samples are too few for train, validation and test parts")
    strata = _strata(targets[rows], classes, held, len(rows))
    left, out = train_test_split(rows, test_size=held, random_state=seed, stratify=strata)
    return left, out


def _strata(targets: NDArray[Any], classes: int, held: int, n: int) -> NDArray[Any] | None:
    """The targets if they can be stratified: two of each class, and room for each on both sides."""
    if not classes:
        return None
    counts = np.unique(targets, return_counts=True)[1]
    return targets if counts.min() >= 2 and min(held, n - held) >= len(counts) else None
