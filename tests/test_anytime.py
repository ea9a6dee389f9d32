from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_tuner.anytime import (
    anytime_curve,
    anytime_scores,
    anytime_steps,
    budget_axis,
    time_to_target,
    times_to_target,
)
from rl_tuner.results import Row
from tests.comparing import make_record, make_row
from tests.searching_rows import make_trial, search_row

INF = float("inf")


def run(*steps: tuple[int, float], job: int = 0, seed: int = 0, **changes: Any) -> Row:
    """A run of 100 samples with these best losses after so many samples, from 2.0."""
    records = tuple(make_record(i, used, best) for i, (used, best) in enumerate(steps))
    values: dict[str, Any] = {"records": records, "start_test_loss": 2.0, "job_budget": 100}
    return make_row("a", job, seed, **{**values, **changes})


def test_the_curve_is_a_staircase_from_the_loss_before_training() -> None:
    curve = anytime_curve(run((30, 1.0), (100, 0.4)), np.linspace(0, 1, 11))
    assert curve.tolist() == [2.0] * 3 + [1.0] * 7 + [0.4]


def test_the_curve_of_a_crashed_run_stays_at_its_best_to_the_end() -> None:
    row = run((30, 1.0), crashed=True, samples=30)
    assert anytime_curve(row, np.linspace(0, 1, 11)).tolist() == [2.0] * 3 + [1.0] * 8


def test_what_came_before_the_last_phase_is_left_out() -> None:
    row = run((20, 0.01), (40, 0.001), (70, 1.0), (100, 0.5), last_phase=40)
    assert anytime_curve(row, [0.2, 0.4, 0.7, 1.0]).tolist() == [2.0, 2.0, 1.0, 0.5]
    assert time_to_target(row, best=0.5) == 1.0


def test_a_run_keeps_what_it_has_after_its_budget() -> None:
    assert anytime_curve(run((30, 1.0), (100, 0.4)), [1.0, 5.0, 16.0]).tolist() == [0.4] * 3


def test_a_validation_loss_that_rises_or_is_infinite_does_not_undo_a_better_one() -> None:
    losses = ((20, 0.5, 0.5), (40, INF, 0.5), (100, 0.9, 0.5))
    records = tuple(make_record(i, used, best, val_loss=v) for i, (used, v, best) in enumerate(losses))
    row = make_row("a", records=records, start_test_loss=2.0, job_budget=100)
    assert anytime_curve(row, [0.2, 0.4, 1.0]).tolist() == [0.5] * 3


def test_every_whole_sample_counts_from_the_very_place_it_was_used_at() -> None:
    for used in range(1, 101):
        assert anytime_curve(run((used, 1.0)), [used / 100]).tolist() == [1.0], used
        assert anytime_curve(run((used, 1.0)), [(used - 0.01) / 100]).tolist() == [2.0], used


def test_a_searchs_trials_stand_one_after_another_and_show_when_they_end() -> None:
    row = search_row("random@3", 0, 0, [(1.5, 1.0), (INF, INF), (0.5, 0.6)])
    assert (
        anytime_curve(row, [0, 0.99, 1, 1.99, 2, 2.99, 3, 16]).tolist() == [2.0] * 2 + [1.5] * 4 + [0.5] * 2
    )


def test_pruned_trials_take_the_room_they_used() -> None:
    trials = [make_trial(1.5, 1.0, 25, pruned=True), make_trial(1.0, 1.0, 100), make_trial(3.0, 1.0, 75)]
    used, best = anytime_steps(search_row("halving@2", 0, 0, trials))
    assert used.tolist() == [0, 25, 125]
    assert best.tolist() == [2.0, 1.5, 1.0]


def test_the_axis_is_even_over_the_first_budget_and_reaches_the_longest_search() -> None:
    single, longest = budget_axis(1), budget_axis(16)
    np.testing.assert_allclose(np.diff(single), 1 / 40)
    assert (single[0], single[-1], longest[-1]) == (0, 1, 16)
    np.testing.assert_array_equal(longest[: len(single)], single)
    assert np.all(np.diff(longest) > 0)


def test_anytime_scores_are_those_of_the_validation_losses_by_job_and_seed() -> None:
    rows = [
        run((50, 1.0), (100, 0.0), job=1, seed=1),
        run((50, 1.5), (100, 0.5), job=1, seed=0),
        run((50, 9.0), (100, 5.0), job=4, seed=0, start_val_loss=10.0),
        run((50, 10.0), crashed=True, samples=50, job=4, seed=1, start_val_loss=10.0),
    ]
    scores = anytime_scores(rows, np.array([0.0, 5.0]), [0, 0.5, 1])
    expected = [[[0, 0.25, 0.75], [0, 0.5, 1]], [[0, 0.2, 1], [0, 0, 0]]]
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize(("target", "time"), [(0.5, 0.3), (0.51, 0.7), (0.8, 0.7), (0.81, INF), (1.0, INF)])
def test_the_target_is_reached_at_the_end_of_the_interval_that_reached_it(target: float, time: float) -> None:
    row = run((30, 1.0), (70, 0.4), (100, 0.4))  # scores 0.5, 0.8, 0.8
    assert time_to_target(row, 0.0, target) == time


def test_a_target_that_no_training_meets_is_reached_at_once() -> None:
    assert time_to_target(run((100, 2.0)), 2.0) == 0


def test_a_search_reaches_a_target_with_the_end_of_a_trial_in_budgets_of_one_run() -> None:
    row = search_row("random@3", 0, 0, [(1.5, 1.0), (0.1, 1.0), (0.0, 0.6)])
    assert time_to_target(row, 0.0, 0.9) == 2


def test_times_are_by_job_and_seed_each_to_its_own_jobs_best() -> None:
    rows = [run((40, 1.0), (100, 0.5), job=job, seed=seed) for seed in (1, 0) for job in (2, 0)]
    assert times_to_target(rows, np.array([1.0, 0.0])).tolist() == [[0.4, 0.4], [INF, INF]]
