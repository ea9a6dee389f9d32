from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.history import BEST, WORST, Extent, Interval, Track, log_level, log_ratio, pick

NAN, INF = math.nan, math.inf
LOSSES = st.floats(0, 1e6) | st.sampled_from([NAN, INF])


def fields(track: Track) -> dict[str, float]:
    return {name: getattr(track, name) for name in Track.__slots__}


def test_the_criterion_is_validation_loss_or_without_it_training_loss() -> None:
    assert Interval(train_late=2.0, val_loss=3.0).criterion == 3.0
    assert Interval(train_late=2.0).criterion == 2.0
    assert Interval(train_late=2.0, val_loss=INF).criterion == INF
    mixed = Interval(train_late=np.array([2.0, 2.0]), val_loss=np.array([NAN, 3.0]))
    np.testing.assert_array_equal(mixed.criterion, [2.0, 3.0])


def test_a_track_with_validation_computed_by_hand() -> None:
    track = Track.begin(4.0, Extent.of(6400, 64, 800), 6.0)
    shown = Interval(train_early=3.0, train_late=2.5, val_loss=2.0, test_loss=5.0, grad_norm=0.5)
    track = track.accept(shown)
    assert fields(track) == {
        "first": 4.0, "last": 2.0, "best": 2.0, "lowest": 2.0, "test_first": 6.0, "test_kept": 5.0,
        "train_first": 3.0, "train_last": 2.5, "train_best": 2.5, "grad_first": 0.5, "grad_last": 0.5,
        "updates": 100, "epochs": 8,
    }  # fmt: skip
    shown = Interval(train_early=2.4, train_late=2.6, val_loss=2.2, test_loss=3.0, grad_norm=0.4)
    track = track.accept(shown)
    assert fields(track) == {
        "first": 4.0, "last": 2.2, "best": 2.0, "lowest": 2.0, "test_first": 6.0, "test_kept": 5.0,
        "train_first": 3.0, "train_last": 2.6, "train_best": 2.5, "grad_first": 0.5, "grad_last": 0.4,
        "updates": 100, "epochs": 8,
    }  # fmt: skip
    track = track.accept(Interval(train_late=2.6, val_loss=2.1, averaged_loss=1.5))
    assert (track.last, track.best, track.lowest) == (2.1, 2.0, 1.5)


def test_without_validation_the_first_training_losses_are_the_first_value() -> None:
    track = Track.begin(NAN).accept(Interval(train_early=3.0, train_late=2.0))
    assert (track.first, track.last, track.best) == (3.0, 2.0, 2.0)
    track = track.accept(Interval(train_early=1.5, train_late=2.5))
    assert (track.first, track.last, track.best) == (3.0, 2.5, 2.0)


def test_without_validation_a_first_interval_that_worsens_leaves_the_first_value_as_best() -> None:
    track = Track.begin(NAN).accept(Interval(train_early=3.0, train_late=5.0))
    assert (track.first, track.last, track.best) == (3.0, 5.0, 3.0)


def test_a_gradient_that_was_not_measured_leaves_the_last_one() -> None:
    track = Track.begin(1.0).accept(Interval(val_loss=1.0, grad_norm=0.5)).accept(Interval(val_loss=1.0))
    assert (track.grad_first, track.grad_last) == (0.5, 0.5)


def test_accepting_does_not_change_the_track_before() -> None:
    before = Track.begin(4.0)
    before.accept(Interval(train_early=3.0, train_late=2.0, val_loss=1.0, grad_norm=1.0))
    assert (before.first, before.last, before.best) == (4.0, 4.0, 4.0)
    assert math.isnan(before.train_first)


@given(
    st.lists(LOSSES, min_size=3, max_size=3),
    st.lists(st.tuples(LOSSES, LOSSES, LOSSES, LOSSES), min_size=3, max_size=3),
)
def test_tracks_side_by_side_are_the_same_as_one_by_one(
    first: list[float], shown: list[tuple[float, float, float, float]]
) -> None:
    names = ("train_early", "train_late", "val_loss", "grad_norm")
    columns = {name: np.array(c) for name, c in zip(names, zip(*shown, strict=True), strict=True)}
    extents = Extent(np.array([1.0, 2.0, NAN]), np.array([NAN, 3.0, 4.0]))
    together = Track.begin(np.array(first), extents, np.array(first))
    together = together.accept(Interval(**columns)).accept(Interval(**columns))
    for i, (start, row) in enumerate(zip(first, shown, strict=True)):
        interval = Interval(**dict(zip(names, row, strict=True)))
        extent = Extent(extents.updates[i], extents.epochs[i])
        alone = Track.begin(start, extent, start).accept(interval).accept(interval)
        for name, value in fields(alone).items():
            np.testing.assert_array_equal(getattr(together, name)[i], value)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e2))
def test_log_ratio_of_ordinary_losses_is_the_logarithm_of_their_ratio(
    a: float, b: float, scale: float
) -> None:
    assert log_ratio(a, b, scale) == pytest.approx(math.log(a / b), abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "scale", "ratio"),
    [
        (0.0, 1.0, 1.0, math.log(1e-6)),  # raised to 1e-6 of the scale
        (-5.0, 2.0, 2.0, math.log(1e-6)),
        (0.0, 0.0, 1.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (INF, 1.0, 1.0, INF),
        (1.0, INF, 1.0, -INF),
        (NAN, 1.0, 1.0, NAN),
        (1.0, 1.0, NAN, NAN),
    ],
)
def test_log_ratio_at_the_edges_by_hand(a: float, b: float, scale: float, ratio: float) -> None:
    np.testing.assert_allclose(log_ratio(a, b, scale), ratio)


@pytest.mark.parametrize(
    ("value", "first", "level"),
    [
        (2.0, 4.0, -math.log(2)),
        (4.0, 4.0, 0.0),
        (1e9, 1.0, WORST),
        (INF, 1.0, WORST),
        (NAN, 1.0, WORST),
        (1.0, NAN, WORST),
        (0.0, 1.0, BEST),
    ],
)
def test_levels_by_hand(value: float, first: float, level: float) -> None:
    assert log_level(value, first) == pytest.approx(level)


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_a_level_is_a_number_between_best_and_worst_whatever_the_losses(value: float, first: float) -> None:
    assert BEST <= log_level(value, first) <= WORST


def test_pick_keeps_a_number_a_number_and_an_array_an_array() -> None:
    assert np.ndim(pick(True, 1.0, 2.0)) == 0
    assert not isinstance(pick(True, 1.0, 2.0), np.ndarray)
    chosen: Any = pick(np.array([True, False]), 1.0, 2.0)
    assert chosen.tolist() == [1.0, 2.0]
