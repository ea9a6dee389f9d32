"""Data sets of every kind: split once, scaled by the train part, made harder as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.preprocessing import StandardScaler

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs.data import Split
from rl_tuner.envs.difficulty import Difficulty
from rl_tuner.envs.samples import Samples


def split_table(
    x: np.ndarray, targets: np.ndarray, *, classes: int, seed: int, impute: bool = False, **shares: float
) -> Split:
    names = tuple(str(i) for i in range(classes))
    return Samples("table", x, targets, names, impute=impute).split(seed, **shares)


def rows_of(part: torch.Tensor, mean: np.ndarray, scale: np.ndarray) -> set[tuple[float, ...]]:
    raw = part.double().numpy() * scale + mean
    return {tuple(row) for row in np.round(raw, 3).tolist()}


def test_the_three_parts_hold_every_sample_once() -> None:
    x = np.arange(50.0).reshape(25, 2)
    split = split_table(x, np.arange(25.0), classes=0, seed=4)
    fitted = split.preprocessing
    parts = [rows_of(p[0], np.array(fitted.mean), np.array(fitted.scale)) for p in _parts(split)]
    assert [len(p) for p in parts] == [15, 5, 5]
    assert set.union(*parts) == {tuple(row) for row in x.tolist()}


def _parts(split: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [split.train, split.validation, split.test]


def test_scaling_is_fitted_on_the_train_part_and_only_there() -> None:
    data = load_diabetes()
    split = split_table(data.data, data.target, classes=0, seed=0)
    train_x, train_y = (t.double().numpy() for t in split.train)
    np.testing.assert_allclose(train_x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train_x.std(0), 1, rtol=1e-5)
    assert abs(train_y.mean()) < 1e-6
    assert abs(train_y.std() - 1) < 1e-5
    assert np.abs(split.test[0].double().numpy().mean(0)).max() > 1e-3  # not scaled by its own mean
    fitted = split.preprocessing
    raw = train_x * fitted.scale + np.array(fitted.mean)
    scaler = StandardScaler().fit(raw)
    np.testing.assert_allclose(fitted.inputs(data.data), scaler.transform(data.data), atol=1e-5)


def test_a_constant_column_is_centred_and_not_blown_up() -> None:
    x = np.column_stack([np.full(20, 7.0), np.arange(20.0)])
    split = split_table(x, np.arange(20.0), classes=0, seed=0)
    assert torch.equal(split.train[0][:, 0], torch.zeros(12))
    assert torch.isfinite(split.test[0]).all()


def test_classes_keep_their_shares_in_every_part() -> None:
    data = load_wine()
    split = split_table(data.data, data.target, classes=3, seed=1)
    whole = np.bincount(data.target) / len(data.target)
    for _, targets in _parts(split):
        np.testing.assert_allclose(np.bincount(targets.numpy()) / len(targets), whole, atol=0.02)


def test_a_class_of_one_sample_is_split_without_strata() -> None:
    targets = np.array([0] * 10 + [1] * 9 + [2])
    split = split_table(np.arange(20.0)[:, None], targets, classes=3, seed=0)
    assert sorted(torch.cat([t for _, t in _parts(split)]).tolist()) == sorted(targets.tolist())


def test_the_seed_decides_the_split_and_nothing_else_does(untouched_rng: None) -> None:
    data = load_wine()
    first, again, other = (split_table(data.data, data.target, classes=3, seed=s) for s in (5, 5, 6))
    assert torch.equal(first.train[0], again.train[0])
    assert not torch.equal(first.train[1], other.train[1])


@pytest.mark.parametrize(
    ("shares", "name"),
    [
        ({"validation": 0.0}, "validation"),
        ({"test": -0.1}, "test"),
        ({"validation": 0.5, "test": 0.5}, "0.9"),
    ],
)
def test_shares_out_of_range_are_refused(shares: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        split_table(np.zeros((20, 1)), np.arange(20.0), classes=0, seed=0, **shares)  # type: ignore[arg-type]


def test_too_few_samples_and_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DatasetError, match="3 samples are too few"):
        split_table(np.zeros((3, 1)), np.arange(3.0), classes=0, seed=0)
    x = np.zeros((20, 2))
    x[3, 1] = np.nan
    with pytest.raises(DatasetError, match=r"missing values.*column 1"):
        split_table(x, np.arange(20.0), classes=0, seed=0)
    x[3, 1] = -np.inf
    with pytest.raises(DatasetError, match="infinite values in column 1"):
        split_table(x, np.arange(20.0), classes=0, seed=0, impute=True)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_few_labels_leave_the_scaling_of_inputs_to_the_whole_train_part(kind: str) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(5, 3, (100, 4)) if kind == "table" else rng.random((100, 1, 2, 2), np.float32)
    samples = Samples(kind, inputs, rng.normal(0, 1, 100))
    every, few = (samples.split(0, difficulty=Difficulty(samples=n)) for n in (None, 10))
    assert torch.equal(every.test[0], few.test[0])
    rows = {tuple(row) for row in every.train[0].tolist()}
    assert all(tuple(row) in rows for row in few.train[0].tolist())
    assert abs(float(few.train[1].mean())) < 1e-6  # labels are those of the few alone
    assert abs(float(every.train[1].mean())) < 1e-6
