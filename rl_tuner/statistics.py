"""Honest figures: means with 95% intervals, paired differences, and what may be said of them.

Runs on the same job resemble each other, so that they are no independent evidence about other jobs. Where
there are several jobs, the sample is one number a job, the mean over its seeds (`per_job`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError

Array = NDArray[np.float64]
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
) -> Estimate:
    """A statistic of all values with its percentile bootstrap interval, for what is far from normal.

    Jobs are drawn with replacement, then seeds within each (Davison & Hinkley, 1997, "Bootstrap Methods and
    their Application", section 3.8).

    Args:
        values: Shape (jobs, seeds).
        statistic: Arrays of shape (resamples, n) → shape (resamples,), such as a median along axis 1.
        seed: Of the resampling.
        level: See `mean_interval`.
        resamples: How many, >= 1.
    """
    x = np.asarray(values, dtype=np.float64)
    units = per_job(x).size
    _check_level(level)
    require_range("resamples", resamples, 1)
    jobs, seeds = x.shape
    rng = np.random.default_rng(seed)
    rows = rng.integers(jobs, size=(resamples, jobs, 1))
    columns = rng.integers(seeds, size=(resamples, jobs, seeds))
    found = statistic(x[rows, columns].reshape(resamples, -1))
    value = float(statistic(x.reshape(1, -1))[0])
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


def verdict(log_ratio: Estimate) -> str:
    """What may be said of a method whose log loss ratio to the baseline has this estimate.

    Returns:
        "better" or "worse" only where the interval excludes zero, "no difference shown" where it does not,
        and "too few runs" where there is no interval because the sample is a single value.
    """
    if log_ratio.excludes_zero:
        return "better" if log_ratio.high < 0 else "worse"
    return "too few runs" if log_ratio.n < 2 else "no difference shown"


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
