"""Data pools: a split's samples, kept once in memory and indexed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, TensorDataset, default_collate

from rl_tuner.envs.preprocessing import Preprocessing
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
class DataShape:
    """What a network must know of its data.

    Attributes:
        kind: One of `rl_tuner.envs.samples.KINDS`.
        sample: A sample's natural shape: (d,) of a table, (C, H, W) of an image, (channels, length) of a
            sound, (T,) of tokens, (2,) of ratings.
        outputs: Number of classes; 1 for a regression.
        vocabulary: Tokens are 0 … V - 1: (V,). Ratings: (users, items). Else ().
        every_position: Whether each position of a sequence has a target, (n, T); the outputs are then
            (n, classes, T).
    """

    kind: str
    sample: tuple[int, ...]
    outputs: int
    vocabulary: tuple[int, ...] = ()
    every_position: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Samples split and scaled: pairs (inputs (n, ...), targets (n, ...)).

    Inputs are float32 rows (n, d), those of images and sounds flattened, or int64: tokens (n, T), ratings
    (n, 2).

    Attributes:
        train: What is trained on; scaling and imputation were fitted here and only here.
        validation: What decisions, the best model and early stopping look at.
        test: What nothing looks at before the end.
        shape: What a network must know.
        classes: Number of classes; 0 for regression.
        preprocessing: What raw rows and targets went through, a saved model needs it; None for tokens.
    """

    train: tuple[torch.Tensor, torch.Tensor]
    validation: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]
    shape: DataShape
    classes: int
    preprocessing: Preprocessing | None

    @property
    def features(self) -> int:
        """Number of input columns."""
        return int(self.train[0].shape[1])

    @property
    def task(self) -> str:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @property
    def nbytes(self) -> int:
        """Memory of all parts, in bytes."""
        return sum(t.nbytes for part in (self.train, self.validation, self.test) for t in part)
