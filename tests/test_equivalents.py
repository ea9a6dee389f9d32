from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.equivalents import (
    best_of_curve,
    break_even,
    crossing,
    selection_weights,
    trial_equivalents,
)
from rl_tuner.errors import ConfigError
from rl_tuner.statistics import Array

INF = float("inf")
pools = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, INF]), st.floats(-1, 1)), min_size=1, max_size=7)
"""Trials as (validation loss, score), with ties and crashes."""


def by_enumeration(trials: list[tuple[float, float]], k: int) -> float:
    """The mean score over all subsets of k trials of the best ones by validation."""
    scores = []
    for subset in combinations(trials, k):
        least = min(val for val, _ in subset)
        scores.append(np.mean([score for val, score in subset if val == least]))
    return float(np.mean(scores))


@given(pools)
def test_the_best_of_k_is_the_mean_over_all_subsets_of_k_trials(trials: list[tuple[float, float]]) -> None:
    # A tie within a subset is shared among its members there, and among all equal trials here: on average
    # over subsets that is the same.
    curve = best_of_curve(*zip(*trials, strict=True))
    expected = [by_enumeration(trials, k) for k in range(1, len(trials) + 1)]
    np.testing.assert_allclose(curve, expected, atol=1e-12)


@pytest.mark.parametrize("pool", [1, 2, 9, 40])
def test_the_weights_are_the_binomial_probabilities(pool: int) -> None:
    expected = [[comb(pool - 1 - r, k - 1) / comb(pool, k) for r in range(pool)] for k in range(1, pool + 1)]
    np.testing.assert_allclose(selection_weights(pool), expected, rtol=1e-10)


def test_the_weights_of_a_thousand_trials_are_probabilities() -> None:
    weights = selection_weights(1000)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.min() >= 0
    assert weights[-1].tolist() == [1.0] + [0.0] * 999


def test_one_trial_scores_the_mean_and_all_of_them_what_the_search_selected() -> None:
    curve = best_of_curve([0.3, 0.1, INF], [0.2, 0.9, -1.0])
    assert curve.tolist() == pytest.approx([0.1 / 3, (0.9 + 0.9 + 0.2) / 3, 0.9])


def test_a_validation_loss_that_misleads_makes_a_longer_search_worse() -> None:
    assert best_of_curve([0.1, 0.2], [0.0, 1.0]).tolist() == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize(
    ("score", "k"),
    [
        (-0.5, 0.0),  # no better than no training
        (0.0, 0.0),
        (0.2, 0.5),  # half of what one trial gives
        (0.4, 1.0),
        (0.5, 1.5),
        (0.6, 2.0),
        (0.69, 2.9),
        (0.7, 3.0),
        (0.8, 3.0),  # above all: capped
    ],
)
def test_the_crossing_is_linear_between_whole_trials(score: float, k: float) -> None:
    assert crossing(np.array([0.4, 0.6, 0.7]), score) == pytest.approx(k)


def test_the_crossing_of_a_curve_that_falls_again_or_is_flat_is_its_first() -> None:
    assert crossing(np.array([0.4, 0.8, 0.5, 0.9]), 0.6) == pytest.approx(1.5)
    assert crossing(np.array([0.5, 0.5, 0.5]), 0.5) == pytest.approx(1)
    assert crossing(np.array([-0.5, 0.5]), 0.25) == pytest.approx(1.75)


def test_several_curves_cross_each_at_its_own_place() -> None:
    found = crossing(np.array([[0.5, 1.0], [0.2, 0.4]]), np.array([0.75, 0.1]))
    assert found.tolist() == pytest.approx([1.5, 0.5])


def test_equivalents_computed_by_hand() -> None:
    # Job 0: curve (0.4, 0.8); job 1, two seeds: (0.2, 0.5) and (0.6, 0.7), in the mean (0.4, 0.6).
    curves = np.array([[[0.4, 0.8], [0.4, 0.8]], [[0.2, 0.5], [0.6, 0.7]]])
    scores = np.array([[0.6, 0.6], [0.8, 0.2]])
    e = trial_equivalents(curves, scores)
    # The mean curve is (0.4, 0.7), the mean score 0.55.
    assert e.of_mean.mean == pytest.approx(1.5)
    # Job 0 by itself: 0.6 at 1.5. Job 1: 0.5 at 1.5.
    assert e.mean_over_jobs.mean == pytest.approx(1.5)
    assert (e.pool, e.censored, e.censored_jobs) == (2, False, 0.0)


def test_a_method_above_the_whole_curve_is_worth_more_than_the_pool_and_says_so() -> None:
    curves = np.array([[[0.4, 0.5]], [[0.4, 0.9]]])
    e = trial_equivalents(curves, [[0.9], [0.8]])
    assert (e.of_mean.mean, e.censored) == (2, True)
    assert e.censored_jobs == 0.5
    assert e.mean_over_jobs.mean == pytest.approx((2 + 1.8) / 2)
    assert not trial_equivalents(curves, [[0.5], [0.9]]).censored  # at its very end it is not above


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_search_of_the_whole_pool_is_worth_its_own_trials(
    jobs: int, seeds: int, pool: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    loss = rng.random((jobs, seeds, pool))
    score = 1 - loss  # the test agrees with validation: more trials are always better
    curves = np.array(
        [[best_of_curve(v, s) for v, s in zip(*x, strict=True)] for x in zip(loss, score, strict=True)]
    )
    e = trial_equivalents(curves, score.max(-1), resamples=20)
    assert e.of_mean.mean == pytest.approx(pool, abs=1e-6)
    assert e.mean_over_jobs.mean == pytest.approx(pool, abs=1e-6)
    assert not e.censored
    assert e.censored_jobs == 0


def test_the_interval_is_the_percentiles_over_resampled_jobs() -> None:
    rng = np.random.default_rng(0)
    curves = np.sort(rng.random((6, 2, 5)), axis=-1)
    scores = rng.uniform(0.3, 0.6, (6, 2))
    found = []
    for _ in range(2000):
        jobs = rng.integers(6, size=6)
        found.append(_slow_crossing(curves[jobs].mean((0, 1)), float(scores[jobs].mean())))
    e = trial_equivalents(curves, scores, resamples=4000)
    low, high = np.quantile(found, [0.025, 0.975])
    assert (e.of_mean.low, e.of_mean.high) == pytest.approx((low, high), abs=0.1)
    assert e.of_mean.n == 6


def _slow_crossing(curve: Array, score: float) -> float:
    """The first crossing on a grid of thousandths."""
    k = np.arange(0, len(curve), 1e-3)
    on_grid = np.interp(k, np.arange(len(curve) + 1), [0, *curve])
    reached = np.flatnonzero(on_grid >= score)
    return float(k[reached[0]]) if reached.size else float(len(curve))


def test_one_job_has_an_interval_over_its_seeds_and_one_run_has_none() -> None:
    curves = np.array([[[0.4, 0.8], [0.2, 0.6], [0.3, 0.9]]])
    assert trial_equivalents(curves, [[0.5, 0.5, 0.5]]).of_mean.n == 3
    single = trial_equivalents(curves[:, :1], [[0.6]]).of_mean
    assert single.mean == pytest.approx(1.5)
    assert np.isnan(single.low)


def test_a_policys_training_has_paid_after_its_cost_over_what_a_job_saves() -> None:
    assert break_even(3000, 7) == 500
    assert break_even(3000, 7, budgets=2) == 600
    assert break_even(0, 7) == 0


@pytest.mark.parametrize("k", [0.0, 0.4, 1.0])
def test_a_policy_worth_one_trial_or_less_never_pays(k: float) -> None:
    assert break_even(3000, k) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_curve([0.1], [0.1, 0.2]), r"a score for each trial, got \(1,\), \(2,\)"),
        (lambda: best_of_curve([], []), r"got \(0,\), \(0,\)"),
        (lambda: selection_weights(0), "pool must be >= 1, got 0"),
        (lambda: trial_equivalents([[[0.1]]], [[0.1, 0.2]]), r"got \(1, 1, 1\), \(1, 2\)"),
        (lambda: break_even(-1, 5), "training_budgets must be >= 0, got -1"),
    ],
)
def test_unfit_values_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
