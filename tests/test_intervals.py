from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.intervals import KINDS, LAST_TO_FIRST, boundaries, divide_decisions, phase_boundaries


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int]:
    decisions = draw(st.integers(1, 200))
    return draw(st.integers(decisions, 10**9) | st.integers(decisions, 2 * decisions)), decisions


@given(plans(), st.sampled_from(["geometric", "uniform"]))
def test_ends_are_whole_strictly_increasing_positive_and_spend_the_budget(
    plan: tuple[int, int], kind: str
) -> None:
    budget, decisions = plan
    ends = boundaries(budget, decisions, kind)
    assert ends.dtype == np.int64
    assert ends.shape == (decisions,)
    assert ends[0] >= 1
    assert (np.diff(ends) > 0).all()
    assert ends[-1] == budget


@given(plans())
def test_uniform_intervals_differ_by_at_most_one(plan: tuple[int, int]) -> None:
    lengths = np.diff(boundaries(*plan, "uniform"), prepend=0)
    assert lengths.max() - lengths.min() <= 1


@given(plans())
def test_geometric_intervals_never_shrink_by_more_than_rounding(plan: tuple[int, int]) -> None:
    lengths = np.diff(boundaries(*plan, "geometric"), prepend=0)
    assert (np.diff(lengths) >= -1).all()


@pytest.mark.parametrize("decisions", [2, 5, 20])
def test_geometric_intervals_grow_by_the_stated_factor_from_first_to_last(decisions: int) -> None:
    lengths = np.diff(boundaries(10**9, decisions), prepend=0)
    ratios = lengths[1:] / lengths[:-1]
    np.testing.assert_allclose(ratios, LAST_TO_FIRST ** (1 / (decisions - 1)), rtol=1e-5)
    assert lengths[-1] / lengths[0] == pytest.approx(LAST_TO_FIRST, rel=1e-5)


@pytest.mark.parametrize(
    ("budget", "decisions", "kind", "ends"),
    [
        (100, 4, "uniform", [25, 50, 75, 100]),
        (10, 4, "uniform", [2, 5, 8, 10]),
        (310, 2, "geometric", [10, 310]),
        (5, 5, "geometric", [1, 2, 3, 4, 5]),
        (7, 1, "geometric", [7]),
        (6, 4, "geometric", [1, 2, 3, 6]),
    ],
)
def test_ends_computed_by_hand(budget: int, decisions: int, kind: str, ends: list[int]) -> None:
    assert boundaries(budget, decisions, kind).tolist() == ends


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0), "decisions must be >= 1, got 0"),
        ((10, 2.5), "decisions must be a whole number, got 2.5"),
        ((10.5, 2), "budget must be a whole number, got 10.5"),
        ((3, 4), "a budget of 3 cannot hold 4 decisions"),
        ((10, 2, "geometrc"), "unknown intervals 'geometrc' .did you mean 'geometric'"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_value(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        boundaries(*arguments)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), st.data(), st.sampled_from(KINDS))
def test_each_phase_ends_with_an_interval_and_has_a_plan_of_its_own(
    budgets: list[int], data: st.DataObject, kind: str
) -> None:
    decisions = data.draw(st.integers(len(budgets), min(sum(budgets), 60)))
    ends = phase_boundaries(budgets, decisions, kind)
    assert ends.shape == (decisions,)
    assert (np.diff(ends, prepend=0) > 0).all()
    shares = divide_decisions(budgets, decisions)
    expected, start = [], 0
    for budget, share in zip(budgets, shares, strict=True):
        expected += (start + boundaries(budget, share, kind)).tolist()
        start += budget
    assert ends.tolist() == expected


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.data())
def test_decisions_are_divided_whole_one_at_least_and_none_that_a_budget_cannot_hold(
    budgets: list[int], data: st.DataObject
) -> None:
    decisions = data.draw(st.integers(len(budgets), sum(budgets)))
    shares = divide_decisions(budgets, decisions)
    assert sum(shares) == decisions
    assert all(1 <= share <= budget for share, budget in zip(shares, budgets, strict=True))


@pytest.mark.parametrize(
    ("budgets", "decisions", "shares"),
    [
        ([100], 7, [7]),
        ([100, 100], 20, [10, 10]),
        ([1000, 3000], 20, [5, 15]),
        ([100, 200, 700], 10, [1, 2, 7]),
        ([1, 10**6], 20, [1, 19]),
        ([2, 10], 12, [2, 10]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([530, 240, 230], 10, [6, 2, 2]),  # the tenth: 530 / 11 is more than 240 / 5
    ],
)
def test_decisions_divided_by_hand(budgets: list[int], decisions: int, shares: list[int]) -> None:
    assert divide_decisions(budgets, decisions) == shares


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([100, 100], 1), "a job of 2 phases needs a decision for each, got 1: raise decisions"),
        (([3, 4], 8), "a budget of 7 cannot hold 8 decisions"),
        (([100, 0], 5), "budget of phase 1 must be >= 1, got 0"),
        (([100, 2.5], 5), "budget must be a whole number"),
        (([100, 100], 5, "even"), "unknown intervals 'even'"),
    ],
)
def test_phases_that_do_not_fit_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        phase_boundaries(*arguments)
