from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.scores import (
    FLOOR,
    best_test_losses,
    best_val_losses,
    normalized_score,
    row_scores,
    table,
)
from tests.comparing import make_row
from tests.searching_rows import make_trial

INF, NAN = float("inf"), float("nan")
losses = st.floats(0.001, 100)


def score(loss: float, start: float, best: float) -> float:
    return float(normalized_score(loss, start, best))


@pytest.mark.parametrize(
    ("loss", "expected"), [(2.0, 0.0), (0.5, 1.0), (1.25, 0.5), (3.5, -1.0), (3.0, -2 / 3), (99.0, -1.0)]
)
def test_no_training_scores_zero_the_best_known_one_and_an_explosion_the_floor(
    loss: float, expected: float
) -> None:
    assert score(loss, 2.0, 0.5) == pytest.approx(expected)


@given(losses, losses, losses, st.floats(0.01, 100), st.floats(-50, 50))
def test_the_unit_and_the_zero_of_a_loss_leave_its_score(
    loss: float, start: float, best: float, unit: float, zero: float
) -> None:
    if start - best > 0.01:
        moved = [unit * x + zero for x in (loss, start, best)]
        assert score(*moved) == pytest.approx(score(loss, start, best), abs=1e-6)


@given(st.one_of(losses, st.just(INF), st.just(NAN)), st.one_of(losses, st.just(INF)), losses)
def test_a_score_is_finite_at_least_the_floor_and_at_most_one_for_what_is_not_below_the_best(
    loss: float, start: float, best: float
) -> None:
    found = score(loss, start, best)
    assert np.isfinite(found)
    assert found >= FLOOR
    assert found <= 1 or loss < best


@given(losses, losses, losses, losses)
def test_a_lower_loss_never_scores_less(a: float, b: float, start: float, best: float) -> None:
    assert score(min(a, b), start, best) >= score(max(a, b), start, best)


@pytest.mark.parametrize(
    ("loss", "start", "best", "expected"),
    [
        (1.0, 1.0, 1.0, 1.0),  # nothing better than no training is known
        (1.1, 1.0, 1.0, FLOOR),
        (0.8, 0.5, 0.8, 1.0),  # it was given a best that is above the start
        (0.9, 0.5, 0.8, FLOOR),
        (INF, INF, INF, FLOOR),
        (1.0, INF, 0.5, 1.0),
        (INF, INF, 0.5, FLOOR),
        (INF, 2.0, 1.0, FLOOR),
        (NAN, 2.0, 1.0, FLOOR),
    ],
)
def test_degenerate_jobs_score_the_limits(loss: float, start: float, best: float, expected: float) -> None:
    assert score(loss, start, best) == expected


def test_the_best_known_loss_of_a_job_is_over_methods_seeds_trials_and_untrained_weights() -> None:
    search = make_row(
        "random@2",
        0,
        1,
        0.7,
        val_loss=0.6,
        trials=(make_trial(0.6, 0.7), make_trial(0.65, 0.3)),  # validation did not choose the best by test
        start_test_loss=2.0,
        job_budget=100,
    )
    rows = [
        make_row("a", 0, 0, 0.5, val_loss=0.55, start_test_loss=2.0, job_budget=100),
        search,
        make_row("a", 7, 0, 5.0, val_loss=INF, start_val_loss=3.0, start_test_loss=4.0, job_budget=100),
    ]
    assert best_test_losses(rows).tolist() == [0.3, 4.0]
    assert best_val_losses(rows).tolist() == [0.55, 3.0]


def test_each_seed_is_scored_from_its_own_start() -> None:
    rows = [
        make_row("a", 3, 1, 1.0, start_test_loss=2.0, job_budget=100),
        make_row("a", 3, 0, 1.0, start_test_loss=4.0, job_budget=100),
        make_row("a", 5, 0, 8.0, start_test_loss=9.0, job_budget=100),
        make_row("a", 5, 1, INF, start_test_loss=9.0, job_budget=100),
    ]
    found = row_scores(rows, np.array([0.0, 7.0]))
    np.testing.assert_allclose(found, [[0.75, 0.5], [0.5, FLOOR]])


def test_a_missing_or_double_row_is_refused() -> None:
    rows = [make_row("a", j, s, start_test_loss=2.0, job_budget=100) for j in range(2) for s in range(2)]
    with pytest.raises(ConfigError, match="one row for each of 2 jobs and 2 seeds, got 3"):
        table(rows[:3], lambda row: row.test_loss)
    with pytest.raises(ConfigError, match="got 5"):
        table([*rows, rows[0]], lambda row: row.test_loss)
    with pytest.raises(ConfigError, match="0 jobs and 0 seeds, got 0"):
        table([], lambda row: row.test_loss)
