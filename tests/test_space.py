from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.actions import ActionMap
from rl_tuner.errors import ConfigError
from rl_tuner.space import (
    HYPERPARAMETERS,
    STANDARD,
    Anchor,
    Hyperparameter,
    SearchSpace,
    search_space,
)

SPACE = search_space()
NAMES = ("lr", "batch_size", "weight_decay", "dropout", "momentum")
ALL = tuple(HYPERPARAMETERS)
ZEROS = [h.name for h in HYPERPARAMETERS.values() if h.zero]

STARTS = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.floats(1e-9, 100),
        "batch_size": st.integers(1, 5000).map(float),
        "weight_decay": st.just(0.0) | st.floats(1e-9, 1),
        "dropout": st.just(0.0) | st.floats(1e-4, 0.95),
        "momentum": st.just(0.0) | st.floats(1e-3, 0.9999),
    },
)
FRACTIONS = st.lists(st.lists(st.floats(-1, 1), min_size=5, max_size=5), max_size=30)


def plain(**changes: Any) -> Hyperparameter:
    return dataclasses.replace(Hyperparameter("x", 0.01, 1.0, "log", step=1.0, reach=2.0), **changes)


@pytest.mark.parametrize(
    ("scale", "value", "coordinate"),
    [
        ("log", math.e, 1.0),
        ("log", 1.0, 0.0),
        ("logit", 0.5, 0.0),
        ("logit", 0.75, math.log(3)),
        ("log2", 64, 6.0),
    ],
)
def test_coordinates_computed_by_hand(scale: str, value: float, coordinate: float) -> None:
    high = {"log": 100.0, "logit": 0.9, "log2": 1024.0}[scale]
    h = Hyperparameter("x", 0.1 if scale != "log2" else 1.0, high, scale, step=1.0, reach=2.0)
    assert h.coordinate(value) == pytest.approx(coordinate, abs=1e-12)
    assert float(h.value(np.float64(coordinate))) == pytest.approx(value)


@given(st.sampled_from(ALL), st.floats(0, 1))
def test_a_value_between_the_bounds_comes_back_from_its_coordinate(name: str, share: float) -> None:
    h = HYPERPARAMETERS[name]
    value = h.low + share * (h.high - h.low)
    if h.scale == "log2":
        value = float(round(value))
    back = float(h.value(np.float64(h.coordinate(value))))
    assert back == pytest.approx(0.0 if h.zero and value == h.low else value, rel=1e-9)


@given(STARTS)
def test_offset_zero_gives_the_start_value_bit_for_bit(start: dict[str, float]) -> None:
    anchor = SPACE.anchor(start)
    values = SPACE.values(anchor, np.zeros(5))
    assert values == start
    assert all(type(v) is float for v in values.values())


@given(st.lists(STARTS, min_size=1, max_size=6), st.integers(0, 2**32))
def test_jobs_side_by_side_have_the_values_of_one_by_one(starts: list[dict[str, float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = [SPACE.anchor(start) for start in starts]
    offsets = np.stack([rng.uniform(a.low, a.high) * rng.integers(0, 2, 5) for a in anchors])
    rows = Anchor(*(np.stack([getattr(a, f.name) for a in anchors]) for f in dataclasses.fields(Anchor)))
    together = SPACE.array(rows, offsets)
    assert together.shape == (len(starts), 5)
    for start, anchor, offset, row in zip(starts, anchors, offsets, together, strict=True):
        assert SPACE.values(anchor, offset) == {n: v for n, v in zip(NAMES, row, strict=True) if n in start}
        assert np.isnan(row).tolist() == [n not in start for n in NAMES]
        np.testing.assert_array_equal(
            row[(offset == 0) & anchor.available],
            [start[n] for n, o in zip(NAMES, offset, strict=True) if o == 0 and n in start],
        )


@pytest.mark.parametrize("lr", [5e-324, 1.7e308])
def test_a_start_value_at_the_end_of_the_floats_is_kept_without_a_warning(lr: float) -> None:
    space = search_space(["lr"])
    assert space.values(space.anchor({"lr": lr}), np.zeros(1)) == {"lr": lr}


@given(STARTS, FRACTIONS, st.sampled_from(["continuous", "anchored", "discrete"]))
def test_no_sequence_of_actions_leaves_the_bounds_or_the_reach(
    start: dict[str, float], fractions: list[list[float]], kind: str
) -> None:
    actions = ActionMap(SPACE, kind)
    anchor, offset = SPACE.anchor(start), np.zeros(5)
    for fraction in fractions:
        action = np.array(fraction)
        if kind == "discrete":
            action = np.floor((action + 1) / 2.0001 * actions.counts)
        offset = actions.move(anchor, offset, action)
        values = SPACE.values(anchor, offset)
        assert set(values) == set(start)
        assert (np.abs(offset) <= SPACE.reaches).all()
        for name, value in values.items():
            h = HYPERPARAMETERS[name]
            low = min(0.0 if h.zero else h.low, start[name])
            assert low * (1 - 1e-9) <= value <= max(h.high, start[name]) * (1 + 1e-9)
            if h.scale == "log2":
                assert value == round(value)


@given(st.sampled_from(NAMES), STARTS)
def test_limits_hold_the_start_value_and_go_no_further_than_reach_and_bounds(
    name: str, start: dict[str, float]
) -> None:
    anchor, i, h = SPACE.anchor(start), NAMES.index(name), HYPERPARAMETERS[name]
    assert -h.reach <= anchor.low[i] <= 0 <= anchor.high[i] <= h.reach
    if name not in start:
        assert anchor.low[i] == anchor.high[i] == 0
        assert not anchor.available[i]


@pytest.mark.parametrize(
    ("start", "low", "high"),
    [
        (1.0, math.log(0.01), 0.0),  # at the upper bound
        (0.01, 0.0, math.log(100)),  # at the lower one
        (5.0, math.log(0.002), 0.0),  # above: the start value is the new upper bound
        (0.002, 0.0, math.log(500)),  # below: the new lower one
    ],
)
def test_a_start_value_outside_of_the_bounds_widens_them_to_itself(
    start: float, low: float, high: float
) -> None:
    space = SearchSpace((plain(reach=100.0),))
    anchor = space.anchor({"x": start})
    np.testing.assert_allclose([anchor.low[0], anchor.high[0]], [low, high], atol=1e-12)


def test_reach_limits_the_way_from_the_start_value_before_the_bounds_do() -> None:
    anchor = SearchSpace((plain(reach=2.0),)).anchor({"x": 0.1})
    np.testing.assert_allclose([anchor.low[0], anchor.high[0]], [-2.0, 2.0])


@pytest.mark.parametrize("name", ZEROS)
def test_the_low_end_is_exactly_zero_and_a_way_leads_back_from_it(name: str) -> None:
    h, space = HYPERPARAMETERS[name], search_space([name])
    anchor = space.anchor({name: float(h.value(np.float64(h.coordinate(h.low) + 2 * h.step)))})
    assert space.values(anchor, anchor.low) == {name: 0.0}
    up = space.values(anchor, anchor.low + h.step)[name]
    assert float(h.coordinate(up)) == pytest.approx(h.coordinate(h.low) + h.step)


@pytest.mark.parametrize("name", ZEROS)
def test_a_start_value_of_zero_stands_at_the_low_end(name: str) -> None:
    h, space = HYPERPARAMETERS[name], search_space([name])
    anchor = space.anchor({name: 0.0})
    assert space.values(anchor, np.zeros(1)) == {name: 0.0}
    assert anchor.low[0] == 0
    raised = space.values(anchor, np.array([h.step]))[name]
    assert float(h.coordinate(raised)) == pytest.approx(h.coordinate(h.low) + h.step)


@given(st.sampled_from([8, 16, 64, 256, 1024]), st.lists(st.integers(0, 2), max_size=12))
def test_batch_sizes_from_a_power_of_two_are_powers_of_two(start: int, choices: list[int]) -> None:
    space = search_space(["batch_size"])
    actions, anchor, offset = ActionMap(space, "discrete"), space.anchor({"batch_size": start}), np.zeros(1)
    for choice in choices:
        offset = actions.move(anchor, offset, np.array([choice]))
        assert math.log2(space.values(anchor, offset)["batch_size"]).is_integer()


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("lr", 1e-7, -1),
        ("lr", 10.0, 1),
        ("lr", 1e-3, 0),
        ("dropout", 0.8, 1),
        ("dropout", 0.0, -1),
        ("lr", 99.0, 1),
    ],
)
def test_position_runs_from_minus_one_to_one_between_the_bounds(
    name: str, value: float, place: float
) -> None:
    space = search_space([name])
    position = space.position(space.anchor({name: value}), np.zeros(1))
    np.testing.assert_allclose(position, [place], atol=1e-12)


def test_position_of_a_lacking_hyperparameter_is_zero() -> None:
    space = search_space(["lr", "dropout"])
    assert space.position(space.anchor({"lr": 10.0}), np.zeros(2)).tolist() == [1.0, 0.0]


def test_none_and_absence_both_mean_that_the_job_lacks_it() -> None:
    space = search_space(["lr", "dropout"])
    for start in ({"lr": 0.1}, {"lr": 0.1, "dropout": None}):
        anchor = space.anchor(start)
        assert anchor.available.tolist() == [True, False]
        assert space.values(anchor, np.zeros(2)) == {"lr": 0.1}


@given(st.lists(st.sampled_from(ALL), min_size=1, unique=True))
def test_a_space_survives_json_unchanged(names: list[str]) -> None:
    space = search_space(names)
    back = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert back == space
    assert back.names == tuple(names)
    np.testing.assert_array_equal(back.steps, space.steps)
    np.testing.assert_array_equal(back.reaches, space.reaches)


def test_the_standard_space_has_its_five_in_the_documented_order() -> None:
    assert SPACE.names == NAMES == STANDARD
    assert len(SPACE) == 5


def test_a_named_space_may_hold_regularizers_too() -> None:
    assert (*NAMES, "l1", "l2", "label_smoothing", "max_grad_norm") == ALL
    assert search_space(ALL).names == ALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "linear"}, "unknown scale of x 'linear'"),
        ({"low": 0.0}, r"x\.low must be > 0, got 0\.0"),
        ({"high": 0.01}, r"x\.high must be > 0\.01.*, got 0\.01"),
        ({"low": 0.5, "high": 1.0, "scale": "logit"}, r"x\.high must be > 0\.5 and < 1, got 1\.0"),
        ({"low": 0.5, "high": 4.0, "scale": "log2"}, r"x\.low must be >= 1, got 0\.5"),
        ({"step": 0.0}, r"x\.step must be > 0.*, got 0\.0"),
        ({"step": math.inf, "reach": math.inf}, r"x\.step must be .*, got inf"),
        ({"reach": math.inf}, r"x\.reach must be .*, got inf"),
        ({"reach": 0.5}, r"x\.reach must be >= 1.*, got 0\.5"),
        ({"step": math.nan}, r"x\.step must be > 0.*, got nan"),
        ({"choices": (-1.0, 1.0)}, r"x\.choices must be distinct and hold 0 \(no change\): \(-1\.0, 1\.0\)"),
        ({"choices": (0.0, 1.0, 1.0)}, r"x\.choices must be distinct"),
        ({"choices": (0.0, 2.0)}, r"x\.choices are fractions of step in \[-1, 1\], got \(0\.0, 2\.0\)"),
        ({"choices": (0.0, math.nan)}, r"x\.choices are fractions of step"),
        ({"choices": "0"}, r"x\.choices must be numbers, got '0'"),
        ({"choices": (0.0, "up")}, r"x\.choices must be numbers, got \(0\.0, 'up'\)"),
    ],
)
def test_a_hyperparameter_that_makes_no_sense_is_refused_with_its_value(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plain(**changes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", 0.0, r"lr must be above 0 and below inf, got 0\.0"),
        ("lr", -1.0, r"lr must be above 0 and below inf, got -1\.0"),
        ("lr", math.inf, "lr must be above 0 and below inf, got inf"),
        ("lr", math.nan, "lr must be above 0 and below inf, got nan"),
        ("weight_decay", -1e-3, r"weight_decay must be at least 0 and below inf, got -0\.001"),
        ("dropout", 1.0, r"dropout must be at least 0 and below 1, got 1\.0"),
        ("momentum", math.nan, "momentum must be at least 0 and below 1, got nan"),
    ],
)
def test_a_start_value_that_the_scale_cannot_hold_is_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SPACE.anchor({name: value})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lr", "lr"], r"each once; got \['lr', 'lr'\]"),
        ([], r"at least one hyperparameter, each once; got \[\]"),
        (["learning_rate"], "unknown hyperparameter 'learning_rate'"),
        (["drop_out"], "did you mean 'dropout'"),
        ("lr", "must be a sequence of names, got the string 'lr'"),
    ],
)
def test_a_search_space_of_wrong_names_is_refused(names: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search_space(names)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"a list 'hyperparameters' and nothing else, got \[\]"),
        ({"hyperparameters": [], "more": 1}, r"got \['hyperparameters', 'more'\]"),
        ({"hyperparameters": "lr"}, "holds a list 'hyperparameters'"),
        ({"hyperparameters": ["lr"]}, "Hyperparameter must be a mapping of its fields, got 'lr'"),
        ({"hyperparameters": [{"name": "lr"}]}, "Hyperparameter needs low, high, scale, step, reach"),
        ({"hyperparameters": [{"nam": "lr"}]}, "unknown Hyperparameter key 'nam' .did you mean 'name'"),
    ],
)
def test_a_malformed_description_of_a_space_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpace.from_dict(data)


def test_a_job_limits_its_own_batch_size() -> None:
    space = search_space(["lr", "batch_size"])
    anchor = space.anchor({"lr": 0.1, "batch_size": 64}, {"batch_size": 106})
    assert space.values(anchor, anchor.high)["batch_size"] == 106
    assert space.values(anchor, space.anchor({"lr": 0.1, "batch_size": 64}).high)["batch_size"] == 1024
