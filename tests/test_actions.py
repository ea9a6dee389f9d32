from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_tuner.actions import KINDS, ActionMap
from rl_tuner.errors import ConfigError
from rl_tuner.space import Hyperparameter, SearchSpace, search_space

HALF = np.log(10) / 2  # the step of lr and weight_decay
SPACE = search_space()
START = {"lr": 1e-3, "batch_size": 64.0, "weight_decay": 1e-4, "dropout": 0.5, "momentum": 0.9}
TOY = SearchSpace(
    (
        Hyperparameter("a", 1e-3, 1e3, "log", step=1.0, reach=2.0, choices=(-1.0, -0.5, 0.0, 0.5, 1.0)),
        Hyperparameter("b", 1, 1024, "log2", step=1.0, reach=3.0),
        Hyperparameter("c", 0.01, 0.99, "logit", step=0.5, reach=1.0, choices=(0.0, 1.0)),
    )
)
TOY_ANCHOR = TOY.anchor({"a": 1.0, "b": 16, "c": 0.5})


def draw_action(actions: ActionMap, fractions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if actions.kind == "discrete":
        return np.floor((fractions + 1) / 2.0001 * actions.counts).astype(np.int64)
    return fractions


@pytest.mark.parametrize(
    ("kind", "offset", "action", "moved"),
    [
        ("discrete", [0, 0, 0], [0, 0, 0], [-1, -1, 0]),
        ("discrete", [0, 0, 0], [2, 1, 0], [0, 0, 0]),
        ("discrete", [0, 0, 0], [3, 2, 1], [0.5, 1, 0.5]),
        ("discrete", [1.5, 3, 1], [4, 2, 1], [2, 3, 1]),  # at the reach
        ("continuous", [0, 0, 0], [0.25, 0.4, -1], [0.25, 0, -0.5]),  # batch size: whole powers of two
        ("continuous", [0, 0, 0], [-0.25, 0.6, 1], [-0.25, 1, 0.5]),
        ("continuous", [0.5, 1, 0.5], [7, -7, 7], [1.5, 0, 1]),  # beyond [-1, 1] counts as ±1
        ("continuous", [-2, -3, -1], [-1, -1, -1], [-2, -3, -1]),
        ("anchored", [1, 2, 0.5], [0, 0, 0], [0, 0, 0]),
        ("anchored", [1, 2, 0.5], [0.5, 0.5, -0.5], [1, 2, -0.5]),
        ("anchored", [1, 2, 0.5], [-1, 1, 1], [-2, 3, 1]),
    ],
)
def test_moves_computed_by_hand(
    kind: str, offset: list[float], action: list[float], moved: list[float]
) -> None:
    result = ActionMap(TOY, kind).move(TOY_ANCHOR, np.array(offset, float), np.array(action))
    np.testing.assert_allclose(result, moved, atol=1e-12)


def test_the_standard_steps_are_those_documented() -> None:
    """One full step: lr and weight decay by sqrt(10), batch size by 2, dropout 1 and momentum 0.5 logits."""
    anchor = SPACE.anchor(START)
    values = SPACE.values(anchor, ActionMap(SPACE, "continuous").move(anchor, np.zeros(5), np.ones(5)))
    assert values == pytest.approx(
        {
            "lr": 1e-3 * 10**0.5,
            "batch_size": 128,
            "weight_decay": 1e-4 * 10**0.5,
            "dropout": 1 / (1 + np.exp(-1)),
            "momentum": 1 / (1 + np.exp(-(np.log(9) + 0.5))),
        }
    )


@given(
    st.sampled_from(KINDS),
    hnp.arrays(np.float64, (6, 5), elements=st.floats(-1, 1)),
    hnp.arrays(np.float64, (6, 5), elements=st.floats(-1, 1)),
)
def test_a_batch_of_actions_moves_like_its_rows_one_by_one(
    kind: str, before: np.ndarray[Any, Any], fractions: np.ndarray[Any, Any]
) -> None:
    actions, anchor = ActionMap(SPACE, kind), SPACE.anchor(START)
    offset = actions.clamp(anchor, before * SPACE.reaches)
    action = draw_action(actions, fractions)
    batch = actions.move(anchor, offset, action)
    rows = [actions.move(anchor, o, a) for o, a in zip(offset, action, strict=True)]
    np.testing.assert_array_equal(batch, np.stack(rows))
    np.testing.assert_array_equal(actions.fraction(action), [actions.fraction(a) for a in action])


@given(
    st.sampled_from(KINDS),
    st.sets(st.sampled_from(SPACE.names), max_size=4),
    hnp.arrays(np.float64, (8, 5), elements=st.floats(-1, 1)),
)
def test_a_hyperparameter_that_the_job_lacks_never_moves(
    kind: str, names: set[str], fractions: np.ndarray[Any, Any]
) -> None:
    actions, anchor = ActionMap(SPACE, kind), SPACE.anchor({n: START[n] for n in names})
    offset = np.zeros(5)
    for action in draw_action(actions, fractions):
        offset = actions.move(anchor, offset, action)
    assert (offset[~anchor.available] == 0).all()


@pytest.mark.parametrize("start", [50, 64, 100, 1000, 3000, 3])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_no_change_leaves_the_batch_size_even_at_a_bound_off_the_grid(kind: str, start: int) -> None:
    space = search_space(["batch_size"])
    actions, anchor = ActionMap(space, kind), space.anchor({"batch_size": start})
    still = np.array([1] if kind == "discrete" else [0.0])
    for limit in (anchor.low, anchor.high):
        np.testing.assert_array_equal(actions.move(anchor, limit, still), limit)


def test_a_step_back_from_a_bound_halves_the_batch_size() -> None:
    space = search_space(["batch_size"])
    actions, anchor = ActionMap(space, "discrete"), space.anchor({"batch_size": 100})
    offset = actions.move(anchor, anchor.high, np.array([0]))
    assert space.values(anchor, anchor.high) == {"batch_size": 1024}
    assert space.values(anchor, offset) == {"batch_size": 512}


def test_moving_does_not_change_the_offsets_or_the_action_handed_in() -> None:
    offset, action = np.full(5, 0.5), np.full(5, 3.0)
    ActionMap(SPACE, "continuous").move(SPACE.anchor(START), offset, action)
    assert (offset == 0.5).all()
    assert (action == 3.0).all()


def test_the_gym_spaces_are_as_documented() -> None:
    assert ActionMap(SPACE, "discrete").gym_space == spaces.MultiDiscrete([5, 3, 3, 3, 3])
    for kind in ("continuous", "anchored"):
        assert ActionMap(SPACE, kind).gym_space == spaces.Box(-1, 1, (5,), np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_every_action_of_the_gym_space_is_accepted_as_a_fraction(kind: str) -> None:
    actions = ActionMap(SPACE, kind)
    space = actions.gym_space
    space.seed(0)
    for _ in range(50):
        fraction = actions.fraction(space.sample())
        assert fraction.shape == (5,)
        assert fraction.dtype == np.float64
        assert (np.abs(fraction) <= 1).all()


def test_discrete_choices_are_read_from_each_hyperparameters_own_list() -> None:
    fraction = ActionMap(TOY, "discrete").fraction(np.array([[0, 0, 0], [4, 2, 1], [1, 1, 0]]))
    np.testing.assert_array_equal(fraction, [[-1, -1, 0], [1, 1, 1], [-0.5, 0, 0]])


def test_a_cut_multiplies_the_named_hyperparameter_alone_within_limits() -> None:
    actions, anchor = ActionMap(SPACE, "continuous"), SPACE.anchor(START)
    cut = actions.cut(anchor, np.full(5, 0.0), "lr", 0.3)
    assert SPACE.values(anchor, cut) == pytest.approx({**START, "lr": 0.3e-3})
    floor = actions.cut(anchor, anchor.low, "lr", 0.3)
    np.testing.assert_array_equal(floor, anchor.low)


def test_a_cut_of_what_the_space_does_not_hold_changes_nothing() -> None:
    space = search_space(["dropout"])
    offset = ActionMap(space, "discrete").cut(space.anchor({"dropout": 0.5}), np.array([0.5]), "lr", 0.3)
    assert offset.tolist() == [0.5]


@pytest.mark.parametrize(
    ("kind", "action", "message"),
    [
        ("continuous", [0.0, 0.0], r"an action over a, b, c has 3 entries, got shape \(2,\)"),
        ("continuous", 0.0, r"got shape \(\)"),
        ("discrete", [[0], [0], [0]], r"got shape \(3, 1\)"),
        ("continuous", [0.0, np.nan, 0.0], "an action must be finite, got .0.0, nan, 0.0."),
        ("anchored", [0.0, np.inf, 0.0], "an action must be finite, got .0.0, inf, 0.0."),
        ("discrete", [5, 0, 0], r"choices are whole numbers from 0 and below \[5, 3, 2\], got \[5, 0, 0\]"),
        ("discrete", [0, -1, 0], r"below \[5, 3, 2\], got \[0, -1, 0\]"),
        ("discrete", [0.0, 0.5, 0.0], r"whole numbers.*got \[0\.0, 0\.5, 0\.0\]"),
        ("discrete", [0.0, np.nan, 0.0], r"whole numbers.*got \[0\.0, nan, 0\.0\]"),
        ("discrete", ["up", "up", "up"], "an action holds numbers, got"),
        ("continuous", [None, None, None], "an action holds numbers, got"),
    ],
)
def test_an_action_that_does_not_fit_is_refused(kind: str, action: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ActionMap(TOY, kind).fraction(np.array(action))


def test_an_unknown_kind_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown actions 'discreet' \(did you mean 'discrete'"):
        ActionMap(SPACE, "discreet")
