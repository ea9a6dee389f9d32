from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from rl_tuner.aggregates import (
    improvement_interval,
    iqm,
    iqm_interval,
    mean_rank,
    median_interval,
    performance_profile,
    probability_of_improvement,
    ranks,
    wilson_interval,
)
from rl_tuner.errors import ConfigError
from rl_tuner.statistics import Array

INF = float("inf")
values = st.floats(-1, 1, width=32)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 5))
tables = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values))
few = st.sampled_from([-INF, 0.0, 0.5, 1.0])
"""Scores with many ties, one of them infinite."""
pairs = shapes.flatmap(
    lambda shape: st.tuples(arrays(np.float64, shape, elements=few), arrays(np.float64, shape, elements=few))
)


def noise(jobs: int, seeds: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(jobs, seeds))


@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=values))
def test_the_iqm_is_scipys_quarter_trimmed_mean(x: Array) -> None:
    np.testing.assert_allclose(iqm(x), stats.trim_mean(x, 0.25, axis=1), atol=1e-12)


def test_the_iqm_computed_by_hand() -> None:
    # A quarter of 10 is 2 whole values: 3 … 8 stay.
    assert iqm([100, 3, 4, 5, -50, 6, 7, 8, 200, -60]) == pytest.approx(5.5)


@given(tables)
def test_no_single_run_of_four_or_more_decides_the_iqm(x: Array) -> None:
    flat = np.sort(x.ravel())
    if flat.size >= 4:
        worse = np.append(-1e9, flat[1:])
        assert iqm(worse) == iqm(flat)


@pytest.mark.parametrize("seeds", [2, 3, 12])
def test_the_stratified_interval_of_one_job_is_scipys_percentile_bootstrap(seeds: int) -> None:
    x = noise(1, seeds)
    ours = iqm_interval(x, stratified=True, resamples=6000)
    theirs = stats.bootstrap(
        (x[0],),
        lambda v, axis: stats.trim_mean(v, 0.25, axis=axis),
        n_resamples=6000,
        method="percentile",
        rng=3,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.06)


def test_the_stratified_interval_of_several_jobs_resamples_each_for_itself_as_scipy_would() -> None:
    x = noise(3, 8) + np.array([[0.0], [5.0], [10.0]])

    def pooled(a: Array, b: Array, c: Array, axis: int) -> Any:
        joined = np.concatenate(np.broadcast_arrays(a, b, c), axis=axis)
        return stats.trim_mean(joined, 0.25, axis=axis)

    ours = iqm_interval(x, stratified=True, resamples=6000)
    theirs = stats.bootstrap(
        tuple(x), pooled, n_resamples=6000, method="percentile", vectorized=True, rng=3
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.06)


def test_an_interval_about_other_jobs_is_wider_than_one_about_these() -> None:
    x = noise(8, 5) + 5 * np.arange(8)[:, None]
    assert iqm_interval(x).half_width > 3 * iqm_interval(x, stratified=True).half_width


def test_a_profile_of_one_seed_a_job_has_scipys_band_and_no_stratified_one() -> None:
    x = noise(15, 1)
    ours, theirs = performance_profile(x, [0.0], resamples=6000), x[:, 0] > 0
    above = stats.bootstrap((theirs,), np.mean, n_resamples=6000, method="percentile", rng=1)
    assert (ours.low[0], ours.high[0]) == pytest.approx(tuple(above.confidence_interval), abs=0.07)
    assert np.isnan(performance_profile(x, [0.0], stratified=True).low).all()
    assert np.isnan(iqm_interval(x, stratified=True).low)


@given(pairs)
def test_the_probability_of_improvement_is_the_share_of_pairs_counted_one_by_one(
    xy: tuple[Array, Array],
) -> None:
    x, y = xy
    shares = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(p, q)])
        for p, q in zip(x, y, strict=True)
    ]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(shares))


@given(pairs)
def test_a_pair_of_methods_shares_the_probability_out(xy: tuple[Array, Array]) -> None:
    x, y = xy
    there, back = improvement_interval(x, y, resamples=200), improvement_interval(y, x, resamples=200)
    assert there.mean + back.mean == pytest.approx(1)
    if there.n > 1:
        assert there.low + back.high == pytest.approx(1)
    assert improvement_interval(x, x, resamples=50).mean == 0.5


def test_the_probability_of_improvement_of_methods_with_other_numbers_of_seeds() -> None:
    assert probability_of_improvement([[1, 5]], [[0, 2, 5]]) == pytest.approx((1 + 0 + 0 + 1 + 1 + 0.5) / 6)


def test_the_interval_of_the_probability_of_improvement_is_scipys_paired_bootstrap() -> None:
    x, y = noise(1, 12)[0], noise(1, 12, 1)[0] - 0.5

    def share(a: Array, b: Array, axis: int = -1) -> Any:
        return np.mean(np.asarray(a)[..., :, None] > np.asarray(b)[..., None, :], axis=(-1, -2))

    ours = improvement_interval(x[None], y[None], resamples=6000)
    theirs = stats.bootstrap(
        (x, y), share, paired=True, vectorized=False, n_resamples=6000, method="percentile", rng=3
    ).confidence_interval
    assert ours.mean == share(x, y)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_steady_small_wins_are_surely_an_improvement() -> None:
    y = noise(6, 1)
    e = improvement_interval(y + 1e-6, y)
    assert (e.mean, e.low, e.high) == (1, 1, 1)


@given(tables, st.lists(values, min_size=1, max_size=5))
def test_the_profile_is_the_share_of_runs_above_each_threshold(x: Array, taus: list[float]) -> None:
    profile = performance_profile(x, taus, resamples=50)
    flat = x.ravel().tolist()
    for tau, share in zip(taus, profile.share, strict=True):
        assert share == pytest.approx(sum(v > tau for v in flat) / len(flat))


def test_the_band_of_a_profile_holds_it_and_closes_where_all_runs_agree() -> None:
    x = np.abs(noise(10, 4))
    profile = performance_profile(x, [-1.0, 0.5, 1.0, 99.0])
    assert np.all(np.array(profile.low) <= profile.share)
    assert np.all(np.array(profile.share) <= profile.high)
    assert (profile.low[0], profile.high[0], profile.low[3], profile.high[3]) == (1, 1, 0, 0)
    assert profile.high[1] - profile.low[1] > 0.1


def test_the_profile_of_a_single_run_has_no_band() -> None:
    profile = performance_profile([[0.5]], [0.0, 1.0])
    assert profile.share == (1, 0)
    assert np.isnan([*profile.low, *profile.high]).all()


def test_ranks_computed_by_hand() -> None:
    losses = [[[0.1, 0.2]], [[0.1, INF]], [[0.3, INF]], [[0.2, 0.1]]]
    expected = [[[1.5, 2]], [[1.5, 3.5]], [[4, 3.5]], [[3, 1]]]
    np.testing.assert_array_equal(ranks(losses), expected)


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.just(3), st.just(2)), elements=few))
def test_ranks_count_the_methods_below_and_half_of_the_equal_ones(losses: Array) -> None:
    found = ranks(losses)
    for i, method in enumerate(losses):
        below = (losses < method).sum(0)
        equal = (losses == method).sum(0)
        np.testing.assert_allclose(found[i], below + (equal + 1) / 2)


def test_a_mean_rank_never_leaves_the_ranks_there_are() -> None:
    e = mean_rank([[1, 1], [1, 1], [2, 1.5]], 4)
    assert e.mean == pytest.approx((1 + 1 + 1.75) / 3)
    assert e.low == 1
    assert mean_rank([[1.0]], 1).mean == 1


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_crash_rates_interval_is_scipys_wilson_interval(kn: tuple[int, int]) -> None:
    ours = wilson_interval(*kn)
    theirs = stats.binomtest(*kn).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.mean == kn[0] / kn[1]


def test_a_median_that_half_of_the_runs_never_reach_is_infinite() -> None:
    assert median_interval([[0.1, INF, INF]]).mean == INF
    assert median_interval([[0.1, INF]]).mean == INF
    e = median_interval([[0.1], [0.2], [0.3], [0.4], [INF], [INF], [INF]])
    assert (e.mean, e.high) == (0.4, INF)
    assert 0.1 <= e.low <= 0.4


def test_the_interval_of_a_finite_median_is_scipys() -> None:
    x = np.random.default_rng(1).lognormal(size=11)
    ours = median_interval(x[:, None], resamples=4001)
    theirs = stats.bootstrap((x,), np.median, n_resamples=4000, method="percentile", rng=2)
    assert ours.mean == np.median(x)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.1)


def test_resampling_repeats_itself_and_leaves_global_randomness_alone(untouched_rng: None) -> None:
    x = noise(4, 3)
    assert iqm_interval(x, seed=5) == iqm_interval(x, seed=5)
    assert iqm_interval(x, seed=5) != iqm_interval(x, seed=6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probability_of_improvement([[1.0]], [[1.0], [2.0]]), r"same jobs, got \(1, 1\), \(2, 1\)"),
        (lambda: improvement_interval([[1.0, 2.0]], [[1.0]]), r"same shape, got \(1, 2\) and \(1, 1\)"),
        (lambda: iqm_interval([1.0]), r"\(jobs, seeds\), none of them 0, got \(1,\)"),
        (lambda: iqm_interval([[1.0]], resamples=0), "resamples must be >= 1, got 0"),
        (lambda: wilson_interval(3, 2), "successes must be >= 0 and <= 2, got 3"),
        (lambda: wilson_interval(0, 0), "n must be >= 1, got 0"),
    ],
)
def test_unfit_values_are_refused_with_their_shape(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
