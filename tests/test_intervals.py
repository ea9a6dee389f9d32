from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.intervals import LAST_TO_FIRST, boundaries


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
