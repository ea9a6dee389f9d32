from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval, Track
from rl_tuner.rails import Rails, Verdict, make_rails, not_finite

NAN, INF = math.nan, math.inf
RAILS = Rails()  # diverged above 1.5 * best + 0.1 * first; collapsed at 0.9 * first with gradients gone
GOOD, DIVERGED, COLLAPSED = Verdict
VALUES = st.floats(0, 100) | st.sampled_from([NAN, INF])


@pytest.mark.parametrize(
    ("first", "best", "val", "alive", "finite", "verdict"),
    [
        (4.0, 2.0, 3.4, 1.0, True, GOOD),  # at the limit 1.5 * 2 + 0.1 * 4
        (4.0, 2.0, 3.41, 1.0, True, DIVERGED),
        (4.0, 4.0, 6.3, 1.0, True, GOOD),
        (4.0, 4.0, 6.5, 1.0, True, DIVERGED),
        (4.0, 0.0, 0.39, 1.0, True, GOOD),  # noise near zero is forgiven
        (4.0, 0.0, 0.41, 1.0, True, DIVERGED),
        (4.0, 2.0, 1.0, 1.0, False, DIVERGED),  # a parameter or loss was not finite
        (4.0, 2.0, INF, 1.0, True, DIVERGED),
        (4.0, 4.0, 3.6, 0.4, True, COLLAPSED),  # back at 0.9 * first, gradients gone
        (4.0, 4.0, 3.5, 0.4, True, GOOD),  # below it
        (4.0, 4.0, 3.6, 0.5, True, GOOD),  # gradients alive
        (4.0, 4.0, 3.6, NAN, True, GOOD),  # gradients not measured
        (4.0, 1.0, 4.0, 0.0, True, DIVERGED),  # both: divergence is named
        (-1.0, -10.0, -5.0, 1.0, True, GOOD),  # losses below zero (likelihoods)
    ],
)
def test_verdicts_by_hand(
    first: float, best: float, val: float, alive: float, finite: bool, verdict: Verdict
) -> None:
    interval = Interval(train_late=1.0, val_loss=val, grad_alive=alive, finite=finite)
    assert RAILS.judge(interval, Track(first=first, last=best, best=best)) == verdict


@pytest.mark.parametrize(("late", "verdict"), [(5.0, GOOD), (1e9, GOOD), (INF, DIVERGED), (NAN, DIVERGED)])
@pytest.mark.parametrize("rails", [RAILS, Rails(slack=0.0, stuck=0.0)])
def test_without_validation_the_first_interval_has_nothing_to_be_compared_with(
    rails: Rails, late: float, verdict: Verdict
) -> None:
    interval = Interval(train_early=5.0, train_late=late, grad_alive=0.0, finite=math.isfinite(late))
    assert rails.judge(interval, Track.begin(NAN)) == verdict


def test_without_validation_later_intervals_are_judged_by_training_loss() -> None:
    track = Track.begin(NAN).accept(Interval(train_early=4.0, train_late=2.0))
    assert RAILS.judge(Interval(train_late=3.4), track) == GOOD
    assert RAILS.judge(Interval(train_late=3.5), track) == DIVERGED


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(val_loss=1.0), False),
        (Interval(val_loss=1.0, finite=False), True),
        (Interval(val_loss=INF), True),
        (Interval(train_late=NAN), True),
        (Interval(train_late=1.0), False),
    ],
)
def test_not_finite_by_hand(interval: Interval, expected: bool) -> None:
    assert bool(not_finite(interval)) is expected


@given(
    st.lists(
        st.tuples(VALUES, VALUES, VALUES, VALUES, st.floats(0, 1), st.booleans()), min_size=4, max_size=4
    )
)
def test_jobs_side_by_side_are_judged_like_one_by_one(rows: list[tuple[Any, ...]]) -> None:
    first, best, late, val, alive, finite = (np.array(c) for c in zip(*rows, strict=True))
    together = RAILS.judge(
        Interval(train_late=late, val_loss=val, grad_alive=alive, finite=finite),
        Track(first=first, best=best),
    )
    alone = [
        RAILS.judge(
            Interval(train_late=r[2], val_loss=r[3], grad_alive=r[4], finite=r[5]), Track(r[0], best=r[1])
        )
        for r in rows
    ]
    assert together.tolist() == [int(v) for v in alone]


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 100), st.floats(0, 1), st.floats(1e-3, 1e3))
def test_a_factor_on_the_loss_changes_no_verdict(
    first: float, best: float, val: float, alive: float, factor: float
) -> None:
    limit = RAILS.multiple * best + RAILS.slack * first
    if any(math.isclose(val, edge, rel_tol=1e-9) for edge in (limit, RAILS.stuck * first)):
        return
    plain = RAILS.judge(Interval(val_loss=val, grad_alive=alive), Track(first, best=best))
    scaled = RAILS.judge(
        Interval(val_loss=factor * val, grad_alive=alive), Track(factor * first, best=factor * best)
    )
    assert plain == scaled


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("multiple", 0.9), ("slack", -0.1), ("stuck", -1.0), ("alive", 1.1), ("lr_cut", 0.0), ("lr_cut", 1.1),
        ("rescues", -1), ("multiple", NAN),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name_and_value(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^rails\.{field} must be .*, got {value}$"):
        Rails(**{field: value})


def test_make_rails_reads_true_false_and_ones_own() -> None:
    own = Rails(rescues=1)
    assert make_rails(True) == Rails()
    assert make_rails(False) is None
    assert make_rails(own) is own


@pytest.mark.parametrize("rails", [None, 1, "on", {"rescues": 1}])
def test_make_rails_refuses_anything_else_by_value(rails: Any) -> None:
    with pytest.raises(ConfigError, match="rails must be True, False or a Rails, got"):
        make_rails(rails)
