from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.features import (
    CLIP,
    FEATURE_GROUPS,
    HYPERPARAMETER_FEATURES,
    JOB_FEATURES,
    FeatureSet,
    features_without,
)
from rl_tuner.history import Interval, Track
from rl_tuner.space import search_space

SPACE = search_space()
FEATURES = FeatureSet(SPACE)
START = {"lr": 1e-3, "batch_size": 64.0, "weight_decay": 1e-4, "dropout": 0.5, "momentum": 0.9}
ANCHOR = SPACE.anchor(START, usual={"lr": 1e-3})
ANY = st.floats(allow_nan=True, allow_infinity=True)
POSITIVE = st.floats(1e-2, 1e2)
INTERVAL = ("train_early", "train_late", "train_noise", "val_loss", "grad_norm", "grad_alive", "update_ratio")
LOSSES = ("train_early", "train_late", "val_loss", "grad_norm")  # what a factor on the loss scales


def observe(**changes: Any) -> dict[str, float]:
    arguments: dict[str, Any] = {
        "track": Track(), "interval": Interval(), "progress": 0.0, "next_interval": 0.1, "anchor": ANCHOR,
        "offset": np.zeros(5), "fraction": np.zeros(5), "rescued": False, "rescues": 0.0, "since_best": 0.0,
        "best_offset": np.zeros(5),
    }  # fmt: skip
    unknown = set(changes) - set(arguments)
    assert not unknown, unknown
    observation = FEATURES.observe(**{**arguments, **changes})
    return dict(zip(FEATURES.names, observation.tolist(), strict=True))


def test_names_are_unique_and_those_documented_in_order() -> None:
    assert len(set(FEATURES.names)) == len(FEATURES.names) == len(FEATURES) == 24 + 5 * 5
    assert FEATURES.names[: len(JOB_FEATURES)] == JOB_FEATURES
    assert FEATURES.names[len(JOB_FEATURES) : len(JOB_FEATURES) + 5] == (
        "lr_vs_start",
        "batch_size_vs_start",
        "weight_decay_vs_start",
        "dropout_vs_start",
        "momentum_vs_start",
    )
    assert HYPERPARAMETER_FEATURES == ("vs_start", "in_bounds", "available", "last_action", "vs_best")


def test_every_feature_is_in_one_group() -> None:
    grouped = [name for group in FEATURE_GROUPS.values() for name in group]
    assert sorted(grouped) == sorted([*JOB_FEATURES, *HYPERPARAMETER_FEATURES])


def test_what_is_left_without_groups_keeps_its_order() -> None:
    space = search_space(["lr", "dropout"])
    assert features_without(space, ()) == FeatureSet(space).names
    assert features_without(space, ("validation", "gradients", "values", "best")) == (
        *("progress", "next_interval", "updates", "epochs"),
        *("train_vs_last", "train_vs_best", "train_vs_first", "train_trend", "train_noise"),
        *("nonfinite", "rescued", "rescues"),
        *("lr_last_action", "dropout_last_action"),
    )


@given(st.sets(st.sampled_from(sorted(FEATURE_GROUPS)), max_size=len(FEATURE_GROUPS) - 1))
def test_without_some_groups_and_without_the_others_is_everything_once(without: set[str]) -> None:
    others = set(FEATURE_GROUPS) - without
    kept = features_without(SPACE, without)
    dropped = features_without(SPACE, others) if without else ()
    assert sorted(kept + dropped) == sorted(FEATURES.names)


def test_an_unknown_group_is_refused_and_so_is_nothing_left() -> None:
    with pytest.raises(ConfigError, match=r"unknown group of features 'validaton'.*'validation'"):
        features_without(SPACE, ("validaton",))
    with pytest.raises(ConfigError, match="no feature left"):
        features_without(SPACE, tuple(FEATURE_GROUPS))


def test_observations_lie_in_the_gym_space() -> None:
    assert FEATURES.gym_space == spaces.Box(-CLIP, CLIP, (49,), np.float32)
    observation = FEATURES.observe(
        track=Track.begin(1.0), interval=Interval(val_loss=math.inf, finite=False), progress=1.0,
        next_interval=1e-9, anchor=ANCHOR, offset=ANCHOR.high, fraction=np.ones(5), rescued=True,
        rescues=1.0, since_best=1.0, best_offset=ANCHOR.low,
    )  # fmt: skip
    assert FEATURES.gym_space.contains(observation)


def test_before_training_all_but_the_job_itself_is_zero() -> None:
    seen = observe(track=Track.begin(2.0), interval=Interval(val_loss=2.0))
    named = {"next_interval"} | {f"{n}_in_bounds" for n in START} | {f"{n}_available" for n in START}
    assert {name for name, value in seen.items() if value != 0} <= named
    assert seen["lr_available"] == 1


def test_an_observation_computed_by_hand() -> None:
    track = Track(
        first=8.0,
        last=2.0,
        best=1.0,
        lowest=0.5,
        train_first=6.0,
        train_last=3.0,
        train_best=1.5,
        grad_first=4.0,
        grad_last=2.0,
        updates=100 / 10**0.5,
        epochs=1000,
    )
    interval = Interval(
        samples=100, updates=10, train_early=4.0, train_late=3.0, train_noise=0.25, val_loss=4.0,
        averaged_loss=3.0, grad_norm=1.0, grad_alive=0.75, update_ratio=1e-2,
    )  # fmt: skip
    offset = SPACE.reaches * np.array([0.5, -0.25, 0.0, 0.0, 1.0])
    seen = observe(
        track=track, interval=interval, progress=0.5, next_interval=0.01, offset=offset,
        fraction=np.array([1.0, -1.0, 0.5, 0.0, 0.25]), rescued=True, rescues=0.25, since_best=0.375,
        best_offset=SPACE.reaches * np.array([0.75, -0.25, -1.0, 0.5, 0.0]),
    )  # fmt: skip
    log = math.log
    assert {name: seen[name] for name in JOB_FEATURES} == pytest.approx(
        {
            "progress": 0.5,
            "next_interval": -1.0,
            "updates": -0.5,
            "epochs": 1.0,
            "val_vs_last": log(2),
            "val_vs_best": log(4),
            "val_vs_first": -log(2),
            "train_vs_last": 0.0,
            "train_vs_best": log(2),
            "train_vs_first": -log(2),
            "val_over_train": log(4 / 3),
            "averaged_over_val": log(3 / 4),
            "train_trend": log(3 / 4),
            "train_noise": 0.25,
            "update_to_weight": 1.0,
            "grad_vs_last": -log(2),
            "grad_vs_first": -log(4),
            "grad_alive": 0.75,
            "no_validation": 0.0,
            "nonfinite": 0.0,
            "rescued": 1.0,
            "rescues": 0.25,
            "since_best": 0.375,
            "lr_vs_usual": 1.5,
        },
        abs=1e-6,
    )
    assert [seen[f"{n}_vs_start"] for n in START] == pytest.approx([0.5, -0.25, 0, 0, 1])
    assert [seen[f"{n}_last_action"] for n in START] == pytest.approx([1, -1, 0.5, 0, 0.25])
    assert [seen[f"{n}_vs_best"] for n in START] == pytest.approx([-0.25, 0, 1, -0.5, 1])
    lr = 2 * (math.log(1e-3 * 10**1.5) - math.log(1e-7)) / math.log(1e8) - 1
    assert seen["lr_in_bounds"] == pytest.approx(lr)
    assert seen["batch_size_in_bounds"] == pytest.approx(2 * (5 - 3) / 7 - 1)


def test_the_first_interval_is_compared_with_what_it_began_with() -> None:
    seen = observe(
        track=Track.begin(4.0),
        interval=Interval(train_early=3.0, train_late=1.5, val_loss=2.0, grad_norm=1.0),
    )
    assert seen["val_vs_last"] == seen["val_vs_best"] == seen["val_vs_first"] == pytest.approx(-math.log(2))
    assert seen["train_vs_first"] == pytest.approx(-math.log(2))
    assert seen["train_vs_last"] == seen["grad_vs_last"] == 0  # there is no earlier interval


def test_without_validation_the_flag_is_up_and_training_loss_stands_in() -> None:
    track = Track.begin(math.nan).accept(Interval(train_early=4.0, train_late=2.0))
    seen = observe(track=track, interval=Interval(train_early=1.5, train_late=1.0))
    assert seen["no_validation"] == 1
    assert seen["val_vs_last"] == pytest.approx(-math.log(2))
    assert seen["val_vs_first"] == pytest.approx(-math.log(4))
    assert seen["val_over_train"] == 0


def test_without_validation_the_flag_is_the_only_thing_that_differs_before_training() -> None:
    validated = observe(track=Track.begin(2.0), interval=Interval(val_loss=2.0))
    assert observe() == {**validated, "no_validation": 1.0}


def test_without_validation_the_flag_stays_up_when_the_training_loss_is_not_a_number() -> None:
    interval = Interval(updates=3, train_early=1.0, train_late=math.nan, finite=False)
    seen = observe(track=Track.begin(math.nan), interval=interval)
    assert seen["no_validation"] == 1
    assert seen["nonfinite"] == 1


@pytest.mark.parametrize(
    ("start", "usual", "decades"), [(1e-3, 0.1, -2.0), (1.0, 1e-3, 3.0), (0.1, 0.1, 0.0)]
)
def test_a_learning_rate_is_seen_in_decades_above_the_usual_one(
    start: float, usual: float, decades: float
) -> None:
    anchor = SPACE.anchor({"lr": start}, usual={"lr": usual})
    assert observe(anchor=anchor)["lr_vs_usual"] == pytest.approx(decades, abs=1e-6)
    lower = np.array([-math.log(10), 0, 0, 0, 0])
    assert observe(anchor=anchor, offset=lower)["lr_vs_usual"] == pytest.approx(decades - 1, abs=1e-6)


@pytest.mark.parametrize(
    ("start", "usual"), [({"lr": 0.1}, {"lr": math.nan}), ({"lr": 0.1}, {}), ({"dropout": 0.1}, {"lr": 1.0})]
)
def test_where_no_usual_learning_rate_is_known_none_is_seen(
    start: dict[str, float], usual: dict[str, float]
) -> None:
    assert observe(anchor=SPACE.anchor(start, usual=usual), offset=np.ones(5))["lr_vs_usual"] == 0


def test_a_space_without_a_learning_rate_sees_none() -> None:
    features = FeatureSet(search_space(["dropout"]))
    anchor = features.space.anchor({"dropout": 0.1}, usual={"lr": 1.0})
    observation = features.observe(
        track=Track(), interval=Interval(), progress=0.0, next_interval=0.1, anchor=anchor,
        offset=np.zeros(1), fraction=np.zeros(1), rescued=False, rescues=0.0, since_best=0.0,
        best_offset=np.zeros(1),
    )  # fmt: skip
    assert observation[features.names.index("lr_vs_usual")] == 0


def test_what_is_lacking_reads_as_zero_and_unavailable() -> None:
    anchor = SPACE.anchor({"lr": 1e-3})
    seen = observe(anchor=anchor, fraction=np.ones(5))
    for name in ("batch_size", "weight_decay", "dropout", "momentum"):
        assert [seen[f"{name}_{f}"] for f in HYPERPARAMETER_FEATURES] == [0, 0, 0, 0, 0]
    assert seen["lr_available"] == seen["lr_last_action"] == 1


@st.composite
def situations(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[Track, Interval]:
    track = Track(**{name: draw(values) for name in Track.__slots__})
    interval = Interval(**{name: draw(values) for name in INTERVAL}, finite=draw(st.booleans()))
    return track, interval


@given(situations(ANY), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_every_feature_is_finite_and_clipped_whatever_was_measured(
    situation: tuple[Track, Interval], progress: float, next_interval: float, rescued: bool
) -> None:
    track, interval = situation
    seen = observe(
        track=track, interval=interval, progress=progress, next_interval=next_interval, rescued=rescued
    )
    assert all(-CLIP <= value <= CLIP for value in seen.values())


@given(situations(POSITIVE | st.just(math.nan)), st.floats(1e-6, 1e6))
def test_a_factor_on_the_loss_changes_nothing(situation: tuple[Track, Interval], factor: float) -> None:
    track, interval = situation
    of_losses = set(Track.__slots__) - {"updates", "epochs"}
    scaled_track = dataclasses.replace(track, **{name: factor * getattr(track, name) for name in of_losses})
    scaled = dataclasses.replace(interval, **{name: factor * getattr(interval, name) for name in LOSSES})
    plain, other = observe(track=track, interval=interval), observe(track=scaled_track, interval=scaled)
    assert other == pytest.approx(plain, abs=1e-5)


@given(st.lists(situations(ANY), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_jobs_side_by_side_give_the_rows_of_one_by_one(
    situations_: list[tuple[Track, Interval]], rescued: list[bool]
) -> None:
    def column(index: int, name: str) -> np.ndarray[Any, Any]:
        return np.array([getattr(s[index], name) for s in situations_])

    progress, offset = np.array([0.0, 0.5, 1.0]), np.array([[0.5], [0.0], [-0.5]]) * SPACE.reaches
    fraction = np.tile([0.5, -1.0, 0.0, 1.0, 0.25], (3, 1))
    together = FEATURES.observe(
        track=Track(**{n: column(0, n) for n in Track.__slots__}),
        interval=Interval(**{n: column(1, n) for n in (*INTERVAL, "finite")}),
        progress=progress, next_interval=np.full(3, 0.1), anchor=ANCHOR, offset=offset, fraction=fraction,
        rescued=np.array(rescued), rescues=progress, since_best=progress / 2, best_offset=-offset,
    )  # fmt: skip
    for i, (track, interval) in enumerate(situations_):
        alone = FEATURES.observe(
            track=track, interval=interval, progress=progress[i], next_interval=0.1, anchor=ANCHOR,
            offset=offset[i], fraction=fraction[i], rescued=rescued[i], rescues=progress[i],
            since_best=progress[i] / 2, best_offset=-offset[i],
        )  # fmt: skip
        assert alone.dtype == together.dtype == np.float32
        np.testing.assert_array_equal(together[i], alone)
