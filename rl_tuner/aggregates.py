"""What a method's runs on many jobs come to, after Agarwal et al. (2021).

"Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS) asks for interquartile means,
probabilities of improvement and performance profiles, with bootstrap intervals, in the place of bare means.
Every interval here is about other jobs of the kind unless it is asked for `stratified` (see
`rl_tuner.statistics.resample`). Percentile intervals from few jobs are too narrow: with five, some seventeen
in twenty held the true value in simulations, with twenty nineteen. Verdicts rest on t intervals therefore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_tuner.config import require_counts, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.statistics import (
    LEVEL,
    RESAMPLES,
    Array,
    Estimate,
    bootstrap_interval,
    drawn_counts,
    mean_interval,
    per_job,
    percentile_interval,
    resample,
    units_of,
)

TRIM = 0.25
"""Share of the values that an interquartile mean leaves out at either end."""


def iqm(values: ArrayLike) -> Array:
    """Interquartile mean along the last axis: the mean without the lowest and the highest quarter.

    Of n values, ``floor(n / 4)`` are left out at either end, as `scipy.stats.trim_mean(values, 0.25)` does.

    Args:
        values: Shape (…, n), n >= 1.

    Returns:
        Shape (…).
    """
    x = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = int(TRIM * x.shape[-1])
    middle: Array = x[..., cut : x.shape[-1] - cut].mean(axis=-1)
    return middle


def iqm_interval(
    scores: ArrayLike, *, stratified: bool = False, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Interquartile mean of all runs with its 95% bootstrap interval.

    Args:
        scores: Shape (jobs, seeds).
        stratified: Whether the interval is about these jobs only, as in the paper.
        seed: Of the resampling.
        resamples: How many, >= 1.
    """
    return bootstrap_interval(scores, iqm, seed, LEVEL, resamples, stratified=stratified)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """The probability that a run of x scores higher than a run of y on the same job, in [0, 1].

    The mean over jobs of the share of all pairs of seeds with x > y, ties counting half.

    Args:
        x: Scores, shape (jobs, seeds of x).
        y: Scores, shape (jobs, seeds of y).

    Raises:
        ConfigError: The numbers of jobs differ.
    """
    return float(_wins(*_matched(x, y)))


def improvement_interval(
    x: ArrayLike, y: ArrayLike, *, stratified: bool = False, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """The probability of improvement with its 95% bootstrap interval.

    Both methods ran the same experiments, so that a resample draws the same jobs and seeds of both.

    Args:
        x: Scores, shape (jobs, seeds).
        y: Scores, of the same shape.
        stratified: Whether the interval is about these jobs only.
        seed: Of the resampling.
        resamples: How many, >= 1.

    Raises:
        ConfigError: The shapes differ.
    """
    a, b = _matched(x, y)
    if a.shape != b.shape:
        raise ConfigError(f"paired scores must have the same shape, got {a.shape} and {b.shape}")
    draw = resample(a.shape, seed, resamples, stratified=stratified)
    return percentile_interval(float(_wins(a, b)), _wins(a[draw], b[draw]), units_of(a, stratified))


def _matched(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or not a.size or not b.size:
        raise ConfigError(f"scores must have shapes (jobs, seeds) of the same jobs, got {a.shape}, {b.shape}")
    return a, b


def _wins(x: Array, y: Array) -> Array:
    """Shares of the pairs of shape (…, jobs, seeds) that x wins, shape (…)."""
    twice = np.zeros(x.shape[:-1], np.int64)
    for i in range(x.shape[-1]):
        for j in range(y.shape[-1]):  # a win counts in both lines, a tie in one
            twice += x[..., i] > y[..., j]
            twice += x[..., i] >= y[..., j]
    share: Array = (twice / (2 * x.shape[-1] * y.shape[-1])).mean(-1)
    return share


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares of runs that score above thresholds, each with a pointwise 95% band.

    Attributes:
        share: One for each threshold.
        low: Lower end of the band; NaN where there is none.
        high: Upper end.
    """

    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def performance_profile(
    scores: ArrayLike,
    taus: ArrayLike,
    *,
    stratified: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Profile:
    """The share of runs with a score above each threshold, which shows the whole distribution.

    Args:
        scores: Shape (jobs, seeds).
        taus: Thresholds, shape (T,).
        stratified: Whether the band is about these jobs only.
        seed: Of the resampling.
        resamples: How many, >= 1.
    """
    x, tau = np.asarray(scores, dtype=np.float64), np.asarray(taus, dtype=np.float64)
    units = units_of(x, stratified)
    above = (x.reshape(-1, 1) > tau).astype(np.float64)  # (runs, T)
    rows, columns = resample(x.shape, seed, resamples, stratified=stratified)
    drawn = (rows * x.shape[1] + columns).reshape(resamples, -1)
    found = drawn_counts(drawn, x.size) @ above / x.size
    band = [
        percentile_interval(share, column, units)
        for share, column in zip(above.mean(0).tolist(), found.T, strict=True)
    ]
    return Profile(tuple(e.mean for e in band), tuple(e.low for e in band), tuple(e.high for e in band))


def ranks(losses: ArrayLike) -> Array:
    """Ranks of methods in each experiment: 1 for the lowest loss; equal ones share the mean of their ranks.

    Args:
        losses: Shape (methods, …); infinite ones are equal and last.

    Returns:
        The same shape, values in [1, methods].
    """
    from scipy import stats

    found: Array = stats.rankdata(np.asarray(losses, dtype=np.float64), method="average", axis=0)
    return found


def mean_rank(ranked: ArrayLike, methods: int) -> Estimate:
    """Mean of a method's ranks with the t interval over jobs, held within [1, methods].

    Args:
        ranked: The method's ranks, shape (jobs, seeds).
        methods: How many were ranked.
    """
    e = mean_interval(per_job(ranked))
    low, high = np.clip([e.low, e.high], 1, methods)  # NaN stays NaN
    return Estimate(e.mean, float(low), float(high), e.n)


def median_interval(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Median of all runs with its 95% bootstrap interval, where values may be infinite, as times not reached.

    The ends of the interval are order statistics of the resampled medians, infinite where those are.

    Args:
        values: Shape (jobs, seeds), none of them NaN or -inf.
        seed: Of the resampling.
        resamples: How many, >= 1.
    """
    x = np.asarray(values, dtype=np.float64)
    units, median = units_of(x, stratified=False), float(np.median(x))
    if units < 2:
        return Estimate(median, float("nan"), float("nan"), units)
    found = np.sort(np.median(x[resample(x.shape, seed, resamples)].reshape(resamples, -1), axis=1))
    tail = int((1 - LEVEL) / 2 * resamples)
    return Estimate(median, float(found[tail]), float(found[-1 - tail]), units)


def wilson_interval(successes: int, n: int) -> Estimate:
    """A share with its 95% Wilson score interval, which stays within [0, 1] and has a length at 0 and 1 too.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference". It takes the runs
    for independent; where those of a job fail together it is too narrow.

    Args:
        successes: How many of n, in [0, n].
        n: Number of runs, >= 1.

    Raises:
        ConfigError: A value is out of range.
    """
    from scipy import stats

    require_counts({"n": n})
    require_range("successes", successes, 0, n)
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n)
