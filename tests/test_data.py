"""Pools and splits, against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from rl_tuner import DatasetError
from rl_tuner.envs.data import DatasetPool, TensorPool, make_pool

CPU = torch.device("cpu")


class Squares(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(i), float(i * i)]), i % 2


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_a_dataset_and_its_tensors_give_the_same_batches() -> None:
    x = torch.tensor([[float(i), float(i * i)] for i in range(5)])
    y = torch.tensor([0, 1, 0, 1, 0])
    index = np.array([3, 0, 4])
    for pool in (make_pool((x, y), CPU), make_pool(Squares(), CPU), make_pool((x.numpy(), y.numpy()), CPU)):
        inputs, targets = next(iter(pool.batches([index])))
        assert torch.equal(inputs, torch.tensor([[3.0, 9.0], [0.0, 0.0], [4.0, 16.0]]))
        assert targets.tolist() == [1, 0, 0]
        assert len(pool) == 5


def test_a_tensor_dataset_is_indexed_as_a_whole_and_others_sample_by_sample() -> None:
    pair = TensorDataset(torch.zeros(4, 2), torch.zeros(4))
    assert isinstance(make_pool(pair, CPU), TensorPool)
    assert isinstance(make_pool(Subset(pair, [0, 1]), CPU), DatasetPool)


def test_arrays_of_doubles_come_in_the_default_precision_and_integers_stay_whole() -> None:
    pool = make_pool((np.zeros((2, 3)), np.array([0, 1])), CPU)
    inputs, targets = next(iter(pool.batches([np.array([0])])))
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((3, 2)), np.zeros(4)), r"train .*\(3, 2\).*\(4,\)"),
        ((np.zeros(3),), "tuple of 1"),
        ((np.zeros((0, 2)), np.zeros(0)), "train holds no samples"),
        ((np.float32(1), np.zeros(1)), "first dimensions"),
        (Endless(), "Endless"),
        ([1, 2], "got list"),
    ],
)
def test_what_is_no_split_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make_pool(data, CPU, "train")
