"""Honest figures: means with 95% intervals, paired differences, and what may be said of them.

Runs on the same job resemble each other, so that they are no independent evidence about other jobs. Where
there are several jobs, the sample is one number a job, the mean over its seeds (`per_job`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_tuner.config import require_counts
from rl_tuner.errors import ConfigError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
LEVEL = 0.95
LOSS_FLOOR = 1e-12
"""Losses below count as this much in ratios: a ratio to zero says nothing."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or another statistic, with its interval.

    Attributes:
        mean: The statistic's value on the sample.
        low: Lower end of the interval; NaN where there is none (one value, or one that is not finite).
        high: Upper end.
        n: Size of the sample.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length; NaN where there is none."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies above zero or below it; False where there is none."""
        return self.low > 0 or self.high < 0


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval, ``mean ± t_{n-1} s / √n``.

    Nothing is dropped: with a value that is not finite the mean is not finite either, and has no interval.

    Args:
        values: Shape (n,), n >= 1.
        level: Probability that such an interval covers the true mean of normal values, in (0, 1).

    Raises:
        ConfigError: There is no value, or more than one dimension.
    """
    from scipy import stats

    x = _sample(values)
    _check_level(level)
    n = x.size
    with np.errstate(all="ignore"):  # inf - inf, and squares beyond the largest float, are handled below
        mean = float(x.mean())
        spread = float(x.std(ddof=1)) if n > 1 else float("nan")
    if not np.isfinite(spread):
        return Estimate(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / float(np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean and Student's t interval of ``a - b``, pair by pair; two equal infinities differ by 0.

    Args:
        a: Shape (n,).
        b: Shape (n,), measured on the same jobs and seeds, in the same order.
        level: See `mean_interval`.

    Raises:
        ConfigError: The shapes differ, or hold nothing.
    """
    x, y = _pair(a, b)
    with np.errstate(invalid="ignore"):
        return mean_interval(np.where(x == y, 0.0, x - y), level)


def log_losses(losses: ArrayLike) -> Array:
    """Natural logarithms of losses >= 0, raised to `LOSS_FLOOR`; infinite ones stay so. Shape kept."""
    logs: Array = np.log(np.maximum(np.asarray(losses, dtype=np.float64), LOSS_FLOOR))
    return logs


def per_job(values: ArrayLike) -> Array:
    """The independent sample among the values of several jobs and seeds.

    Args:
        values: Shape (jobs, seeds).

    Returns:
        The mean over the seeds of each job, shape (jobs,); for a single job its values, shape (seeds,):
        what is said is then about that job alone.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or not x.size:
        raise ConfigError(f"values must have shape (jobs, seeds), none of them 0, got {x.shape}")
    with np.errstate(invalid="ignore"):
        sample: Array = x[0] if len(x) == 1 else x.mean(axis=1)
    return sample


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[Array], Array],
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    *,
    stratified: bool = False,
) -> Estimate:
    """A statistic of all values with its percentile bootstrap interval, for what is far from normal.

    Args:
        values: Shape (jobs, seeds).
        statistic: Arrays of shape (resamples, n) → shape (resamples,), such as a median along axis 1.
        seed: Of the resampling.
        level: See `mean_interval`.
        resamples: How many, >= 1.
        stratified: What is drawn (see `resample`).
    """
    x = np.asarray(values, dtype=np.float64)
    units = units_of(x, stratified)
    draw = resample(x.shape, seed, resamples, stratified=stratified)
    found = statistic(x[draw].reshape(resamples, -1))
    return percentile_interval(float(statistic(x.reshape(1, -1))[0]), found, units, level)


def units_of(values: ArrayLike, stratified: bool) -> int:
    """How many independent values `resample` draws from, which is an interval's n; below 2 there is none.

    Those of `per_job`; stratified, the seeds of a job.

    Raises:
        ConfigError: `values` does not have shape (jobs, seeds).
    """
    units = per_job(values).size
    return np.asarray(values).shape[1] if stratified else units


def resample(
    shape: tuple[int, ...], seed: int = 0, resamples: int = RESAMPLES, *, stratified: bool = False
) -> tuple[Indices, Indices]:
    """Draws of a bootstrap of values of the shape (jobs, seeds), as indices of the job and of the seed.

    Without `stratified`, jobs are drawn with replacement, then seeds within each (Davison & Hinkley, 1997,
    "Bootstrap Methods and their Application", section 3.8): the interval is about other jobs of the kind.
    With it, only the seeds are, within each job (Agarwal et al., 2021, "Deep Reinforcement Learning at the
    Edge of the Statistical Precipice"): the interval is about other seeds of the very same jobs. It is
    narrower, and says nothing where each job ran with one seed.

    Returns:
        Indices that broadcast to shape (resamples, jobs, seeds).

    Raises:
        ConfigError: A number is below 1.
    """
    jobs, seeds = shape
    require_counts({"jobs": jobs, "seeds": seeds, "resamples": resamples})
    rng = np.random.default_rng(seed)
    rows = np.arange(jobs)[None, :, None] if stratified else rng.integers(jobs, size=(resamples, jobs, 1))
    return rows, rng.integers(seeds, size=(resamples, jobs, seeds))


def drawn_counts(drawn: Indices, units: int) -> Array:
    """How often each unit is in each resample: a product with it sums over resamples at little cost.

    Args:
        drawn: Numbers of units, shape (resamples, n), each in [0, units).
        units: How many there are.

    Returns:
        Shape (resamples, units); rows sum to n.
    """
    flat = drawn + units * np.arange(len(drawn))[:, None]
    counts = np.bincount(flat.ravel(), minlength=units * len(drawn)).reshape(len(drawn), units)
    return counts.astype(np.float64)


def percentile_interval(value: float, found: Array, units: int, level: float = LEVEL) -> Estimate:
    """The value of a statistic with the percentile interval of its resampled values.

    Args:
        value: On the sample itself.
        found: On the resamples, shape (resamples,).
        units: How many independent values were drawn from; below 2 there is no interval, nor where a
            resampled value is not finite.
        level: See `mean_interval`.
    """
    _check_level(level)
    if units < 2 or not np.isfinite(found).all():
        return Estimate(value, float("nan"), float("nan"), units)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), units)


def share_below(a: ArrayLike, b: ArrayLike) -> float:
    """Share of the pairs with ``a < b``, ties counting half, in [0, 1].

    Needs no finite values: an infinite loss is above every finite one.
    """
    x, y = _pair(a, b)
    return float(np.mean(np.where(x == y, 0.5, x < y)))


def verdict(difference: Estimate, *, higher_is_better: bool = False) -> str:
    """What may be said of a method whose paired difference to another has this estimate.

    Args:
        difference: Of what is compared, such as the log loss ratio: the method's less the other's.
        higher_is_better: Whether a positive difference is in the method's favour, as of a score.

    Returns:
        "better" or "worse" only where the interval excludes zero, "no difference shown" where it does not,
        and "too few runs" where there is no interval because the sample is a single value.
    """
    if difference.excludes_zero:
        return "better" if (difference.low > 0) == higher_is_better else "worse"
    return "too few runs" if difference.n < 2 else "no difference shown"


def _sample(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size:
        raise ConfigError(f"a sample must have shape (n,) with n >= 1, got {x.shape}")
    return x


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or not x.size:
        raise ConfigError(f"paired samples must have the same shape and a value, got {x.shape} and {y.shape}")
    return x, y


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level must be > 0 and < 1, got {level!r}")
