"""What makes data harder: as much of it as asked, on the parts it is meant for, and by the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_tuner import ConfigError
from rl_tuner.envs.data import Split
from rl_tuner.envs.difficulty import (
    LEAST_OF_A_CLASS,
    Difficulty,
    balanced_rows,
    few_rows,
    spoil_inputs,
    spoil_targets,
)
from rl_tuner.envs.samples import KINDS, Samples

CLASSES, N = 4, 400


def make(kind: str = "table", regression: bool = False) -> Samples:
    rng = np.random.default_rng(0)
    inputs = {
        "table": rng.normal(3.0, 5.0, (N, 6)),
        "image": rng.random((N, 1, 4, 4), np.float32),
        "sound": rng.uniform(-1, 1, (N, 1, 16)).astype(np.float32),
        "tokens": rng.integers(0, CLASSES, (N, 5)),
        "ratings": rng.integers(0, 7, (N, 2)),
    }[kind]
    vocabulary = {"tokens": (CLASSES,), "ratings": (7, 7)}.get(kind, ())
    if regression or kind == "ratings":
        return Samples(kind, inputs, rng.normal(10.0, 4.0, N), vocabulary=vocabulary)
    shape = (N, 5) if kind == "tokens" else (N,)
    return Samples(kind, inputs, rng.integers(0, CLASSES, shape), tuple("abcd"), vocabulary=vocabulary)


def tensors(split: Split) -> list[torch.Tensor]:
    return [t for part in (split.train, split.validation, split.test) for t in part]


@pytest.mark.parametrize("kind", KINDS)
def test_no_difficulty_leaves_the_split_as_it_was(kind: str) -> None:
    plain, asked = make(kind).split(3), make(kind).split(3, difficulty=Difficulty())
    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(asked), strict=True))


@pytest.mark.parametrize("kind", ["table", "image", "sound"])
def test_columns_are_scaled_alike_however_many_samples_are_left(kind: str) -> None:
    # Pretraining on all inputs and fine-tuning on a few of them must see the same columns.
    data = make(kind)
    few, every = (data.split(3, difficulty=Difficulty(samples=n, scale=2.0)) for n in (50, None))
    plain_few, plain = (data.split(3, difficulty=Difficulty(samples=n)) for n in (50, None))
    factors = [hard.test[0] / easy.test[0] for hard, easy in ((few, plain_few), (every, plain))]
    torch.testing.assert_close(factors[0], factors[1], rtol=1e-4, atol=0)
    assert factors[0].max() != 1


HARD = Difficulty(samples=50, noise=0.5, label_noise=0.3, imbalance=4.0, scale=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_all_that_is_drawn(kind: str, untouched_rng: None) -> None:
    first, again, other = (make(kind).split(seed, difficulty=HARD) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert not torch.equal(first.train[0], other.train[0])
    assert len(first.train[0]) == 50


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_wrong_in_the_train_part_alone(kind: str) -> None:
    plain = make(kind).split(2)
    noisy = make(kind).split(2, difficulty=Difficulty(label_noise=0.3))
    assert torch.equal(plain.train[0], noisy.train[0])
    for part in ("validation", "test"):
        assert torch.equal(getattr(plain, part)[1], getattr(noisy, part)[1])
    if plain.classes:
        wrong = (plain.train[1] != noisy.train[1]).float().mean()
        assert abs(wrong - 0.3) < 0.07
    else:
        assert abs((plain.train[1] - noisy.train[1]).std() - 0.3) < 0.05


@settings(deadline=None, max_examples=30)
@given(classes=st.integers(2, 9), share=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_a_wrong_class_is_another_one_of_the_classes(classes: int, share: float, seed: int) -> None:
    targets = torch.arange(200) % classes
    spoiled = spoil_targets(targets, classes, Difficulty(label_noise=share), np.random.default_rng(seed))
    assert spoiled.min() >= 0
    assert spoiled.max() < classes
    everywhere = spoil_targets(targets, classes, Difficulty(label_noise=1.0), np.random.default_rng(seed))
    assert (everywhere != targets).all()


def test_noise_has_the_stated_size_in_every_part_of_what_is_measured() -> None:
    for kind in KINDS:
        plain = make(kind).split(1)
        noisy = make(kind).split(1, difficulty=Difficulty(noise=0.7))
        for part in ("train", "validation", "test"):
            added = (getattr(noisy, part)[0] - getattr(plain, part)[0]).double()
            expected = 0.0 if kind in ("tokens", "ratings") else 0.7
            assert abs(float(added.std()) - expected) < 0.06, kind


def test_columns_of_a_table_get_scales_of_their_own_and_pixels_share_one() -> None:
    for kind, factors in (("table", 6), ("image", 1), ("sound", 1)):
        plain = make(kind).split(1)
        scaled = make(kind).split(1, difficulty=Difficulty(scale=2.0))
        ratio = (scaled.test[0] / plain.test[0]).double().numpy()
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-4)
        assert len(np.unique(np.round(np.log10(ratio[0]), 3))) == factors
        assert (np.abs(np.log10(ratio)) <= 2.0 + 1e-6).all()
        again = (scaled.train[0] / plain.train[0])[0].double().numpy()
        np.testing.assert_allclose(again, ratio[0], rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(ratio=st.floats(1.5, 30.0), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_the_rarest_class_is_as_many_times_rarer_as_asked(ratio: float, classes: int, seed: int) -> None:
    targets = np.repeat(np.arange(classes), 600)
    rows = balanced_rows(targets, classes, Difficulty(imbalance=ratio), np.random.default_rng(seed))
    assert (np.diff(rows) > 0).all()
    counts = np.sort(np.bincount(targets[rows], minlength=classes))
    assert counts[-1] == 600
    assert abs(600 / counts[0] / ratio - 1) < 0.05
    expected = np.sort(600 * ratio ** (-np.arange(classes) / (classes - 1)))
    np.testing.assert_allclose(counts, expected, atol=0.51)


def test_a_rare_class_keeps_some_samples_and_other_targets_keep_all() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], [1000, 8])
    counts = np.bincount(targets[balanced_rows(targets, 2, Difficulty(imbalance=500.0), rng)])
    assert counts.min() == LEAST_OF_A_CLASS
    for other, classes in ((np.zeros((30, 4), int), 4), (np.linspace(0, 1, 30), 0)):
        rows = balanced_rows(other, classes, Difficulty(imbalance=9.0), rng)
        np.testing.assert_array_equal(rows, np.arange(30))


def test_few_rows_are_some_of_the_rows_and_no_more_than_asked() -> None:
    rows = np.arange(100, 200)
    few = few_rows(rows, Difficulty(samples=30), np.random.default_rng(0))
    assert len(set(few.tolist())) == 30
    assert set(few.tolist()) < set(rows.tolist())
    np.testing.assert_array_equal(few_rows(rows, Difficulty(samples=500), np.random.default_rng(0)), rows)


def test_what_is_given_is_left_as_it_was() -> None:
    inputs, targets = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    before = inputs.clone(), targets.clone()
    rng = np.random.default_rng(0)
    spoil_inputs([inputs, inputs[:5]], "table", HARD, rng)
    spoil_targets(targets, 3, HARD, rng)
    assert torch.equal(inputs, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", 1),
        ("noise", -1),
        ("label_noise", 1.1),
        ("imbalance", 0.5),
        ("scale", 9),
        ("noise", np.nan),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        Difficulty(**{field: value})
