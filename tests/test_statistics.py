from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rl_tuner.errors import ConfigError
from rl_tuner.statistics import (
    LOSS_FLOOR,
    Estimate,
    bootstrap_interval,
    drawn_counts,
    log_losses,
    mean_interval,
    paired_difference,
    per_job,
    resample,
    share_below,
    verdict,
)

INF, NAN = float("inf"), float("nan")


def median(values: Any) -> Any:
    return np.median(values, axis=1)


def mean(values: Any) -> Any:
    return np.mean(values, axis=1)


samples = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@given(samples, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_scipys_one_sample_t_interval(values: list[float], level: float) -> None:
    ours = mean_interval(values, level)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    assert ours.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert ours.half_width == pytest.approx(half, rel=1e-9, abs=1e-9)
    assert ours.n == len(values)


def test_the_interval_computed_by_hand() -> None:
    # 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3).
    e = mean_interval([1, 2, 3])
    assert (e.mean, e.low, e.high) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)


@given(samples, st.floats(-100, 100), st.floats(0.01, 100))
def test_shifting_and_scaling_values_shifts_and_scales_the_interval(
    values: list[float], shift: float, scale: float
) -> None:
    before, after = mean_interval(values), mean_interval(np.array(values) * scale + shift)
    assert after.mean == pytest.approx(before.mean * scale + shift, rel=1e-6, abs=1e-3)
    assert after.half_width == pytest.approx(before.half_width * scale, rel=1e-6, abs=1e-3)


def test_a_normal_samples_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = [e.low <= 3 <= e.high for e in (mean_interval(x) for x in rng.normal(3, 2, (2000, 5)))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_a_single_value_has_a_mean_but_no_interval() -> None:
    e = mean_interval([4.0])
    assert e.mean == 4
    assert np.isnan(e.low)
    assert np.isnan(e.high)
    assert not e.excludes_zero


@pytest.mark.parametrize(("values", "mean"), [([1, INF], INF), ([1, 2, NAN], NAN), ([-INF, INF], NAN)])
def test_a_value_that_is_not_finite_is_not_dropped_and_leaves_no_interval(
    values: list[float], mean: float
) -> None:
    e = mean_interval(values)
    assert e.mean == pytest.approx(mean, nan_ok=True)
    assert np.isnan([e.low, e.high]).all()
    assert e.n == len(values)


@given(samples)
def test_a_sample_does_not_differ_from_itself(values: list[float]) -> None:
    e = paired_difference(values, values)
    assert (e.mean, e.low, e.high) == (0, 0, 0)
    assert verdict(e) == "no difference shown"


def test_two_runs_that_both_failed_do_not_differ() -> None:
    assert paired_difference([INF, 1.0], [INF, 1.0]).mean == 0


@given(samples, samples)
def test_swapping_a_pair_flips_the_difference_and_the_verdict(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    there, back = paired_difference(a[:n], b[:n]), paired_difference(b[:n], a[:n])
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    flipped = {"better": "worse", "worse": "better"}
    assert verdict(back) == flipped.get(verdict(there), verdict(there))


def test_pairing_sees_a_small_steady_difference_that_unpaired_samples_hide() -> None:
    jobs = np.array([1.0, 5.0, 20.0, 80.0])
    better = jobs - np.array([0.10, 0.11, 0.09, 0.10])
    assert verdict(paired_difference(better, jobs)) == "better"
    assert stats.ttest_ind(better, jobs).pvalue > 0.9


@given(samples, samples)
def test_the_verdict_agrees_with_scipys_paired_t_test(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    x, y = np.array(a[:n]), np.array(b[:n])
    if np.ptp(x - y) < 1e-3:
        return  # scipy's p value is not defined without spread
    p = stats.ttest_rel(x, y).pvalue
    if abs(p - 0.05) > 1e-6:
        assert (verdict(paired_difference(x, y)) != "no difference shown") == (p < 0.05)


@pytest.mark.parametrize(
    ("low", "high", "n", "word"),
    [
        (-0.2, -0.1, 5, "better"),
        (0.1, 0.2, 5, "worse"),
        (-0.1, 0.2, 5, "no difference shown"),
        (-0.1, 0.0, 5, "no difference shown"),
        (0.0, 0.1, 5, "no difference shown"),
        (NAN, NAN, 5, "no difference shown"),
        (NAN, NAN, 1, "too few runs"),
    ],
)
def test_better_is_said_only_where_the_interval_excludes_zero(
    low: float, high: float, n: int, word: str
) -> None:
    assert verdict(Estimate((low + high) / 2, low, high, n)) == word


@pytest.mark.parametrize(("low", "high", "word"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse")])
def test_a_higher_score_is_better_where_that_is_asked(low: float, high: float, word: str) -> None:
    assert verdict(Estimate(0, low, high, 5), higher_is_better=True) == word


def test_logs_of_losses_are_natural_and_finite_at_zero() -> None:
    logs = log_losses([[1.0, np.e], [0.0, INF]])
    np.testing.assert_allclose(logs, [[0, 1], [np.log(LOSS_FLOOR), INF]])


def test_several_jobs_count_once_each_however_many_seeds() -> None:
    assert per_job([[1, 3], [10, 20]]).tolist() == [2, 15]
    repeated = np.repeat([[1.0], [2.0], [4.0]], 50, axis=1)
    assert mean_interval(per_job(repeated)) == mean_interval([1, 2, 4])


def test_a_single_job_counts_its_seeds() -> None:
    assert per_job([[1, 2, 5]]).tolist() == [1, 2, 5]


@pytest.mark.parametrize("jobs", [1, 12])
def test_the_bootstrap_agrees_with_scipys_percentile_bootstrap(jobs: int) -> None:
    flat = np.random.default_rng(1).lognormal(size=12)
    values = flat[None] if jobs == 1 else flat[:, None]
    ours = bootstrap_interval(values, median, resamples=4000)
    theirs = stats.bootstrap((flat,), np.median, n_resamples=4000, method="percentile", rng=2)
    assert ours.mean == np.median(flat)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.1)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.1)


def test_the_bootstrap_is_wider_where_jobs_differ_than_where_only_seeds_do() -> None:
    flat = np.random.default_rng(0).normal(size=40)
    by_seed = bootstrap_interval(flat.reshape(4, 10), mean)
    by_job = bootstrap_interval(np.sort(flat).reshape(4, 10), mean)
    assert by_job.half_width > 1.5 * by_seed.half_width


def test_the_bootstrap_repeats_itself_for_the_same_seed_and_leaves_global_randomness_alone(
    untouched_rng: None,
) -> None:
    values = np.random.default_rng(3).normal(size=(4, 3))
    assert bootstrap_interval(values, mean, seed=5) == bootstrap_interval(values, mean, seed=5)
    assert bootstrap_interval(values, mean, seed=5) != bootstrap_interval(values, mean, seed=6)


def test_the_bootstrap_of_infinite_losses_keeps_the_median_and_gives_no_interval() -> None:
    e = bootstrap_interval([[1.0, 2.0, INF]], median)
    assert e.mean == 2
    assert np.isnan(e.low)


def test_a_stratified_draw_takes_each_job_once_and_any_of_its_seeds() -> None:
    rows, columns = np.broadcast_arrays(*resample((4, 3), resamples=500, stratified=True))
    assert columns.shape == (500, 4, 3)
    assert all(np.unique(rows[:, job]).tolist() == [job] for job in range(4))
    np.testing.assert_allclose(np.bincount(columns.ravel()) / columns.size, 1 / 3, atol=0.03)


def test_a_draw_for_other_jobs_takes_jobs_and_then_seeds_of_each_evenly() -> None:
    rows, columns = np.broadcast_arrays(*resample((4, 3), resamples=2000))
    assert np.all(rows == rows[:, :, :1])
    shares = np.bincount((3 * rows + columns).ravel(), minlength=12) / rows.size
    np.testing.assert_allclose(shares, 1 / 12, atol=0.01)
    assert np.mean([np.unique(drawn[:, 0]).size < 4 for drawn in rows]) > 0.8  # 1 - 4!/4⁴ = 0.91 of them


def test_counts_of_a_draw_sum_as_the_draw_itself_does() -> None:
    drawn = np.random.default_rng(0).integers(5, size=(30, 8))
    values = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    np.testing.assert_array_equal(drawn_counts(drawn, 5) @ values, values[drawn].sum(axis=1))


def test_a_stratified_interval_of_one_seed_a_job_is_none() -> None:
    e = bootstrap_interval([[1.0], [2.0], [3.0]], mean, stratified=True)
    assert e.mean == 2
    assert np.isnan(e.low)
    assert bootstrap_interval([[1.0, 2.0], [2.0, 3.0]], mean, stratified=True).n == 2


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [([1, 2], [2, 3], 1.0), ([1, 5], [2, 3], 0.5), ([1, 1], [1, 1], 0.5), ([1, INF], [INF, INF], 0.75)],
)
def test_the_share_of_pairs_below_counts_ties_half(a: list[float], b: list[float], share: float) -> None:
    assert share_below(a, b) == share


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), r"shape \(n,\) with n >= 1, got \(0,\)"),
        (lambda: mean_interval([[1.0]]), r"got \(1, 1\)"),
        (lambda: mean_interval([1.0, 2.0], level=1.0), "level must be > 0 and < 1, got 1.0"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), r"got \(1,\) and \(2,\)"),
        (lambda: per_job([1.0, 2.0]), r"shape \(jobs, seeds\), none of them 0, got \(2,\)"),
        (lambda: bootstrap_interval([[1.0]], mean, resamples=0), "resamples must be >= 1, got 0"),
        (lambda: resample((0, 3)), "jobs must be >= 1, got 0"),
    ],
)
def test_unfit_samples_are_refused_with_their_shape(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
