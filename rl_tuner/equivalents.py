"""Trial equivalents: how many trials of random search a method is worth, and when its training has paid.

A random search of k trials keeps the model with the lowest validation loss. Of K trials that were run, every
subset of k is as good a search, so that the expected score of what a search of k keeps follows exactly for
k = 1 … K, as Dodge et al. (2019), "Show Your Work: Improved Reporting of Experimental Results", do it for
draws with replacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_tuner.config import require_counts, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.statistics import RESAMPLES, Array, Estimate, drawn_counts, percentile_interval

TOLERANCE = 1e-9
"""Scores this close are equal: a search's own mean is the last value of its own curve but for rounding."""


@dataclass(frozen=True, slots=True)
class Equivalents:
    """The least number of random-search trials whose selected model scores as high as a method does.

    More trials find a lower validation loss, but where few validation samples mislead not always a better
    test score: a curve may fall again. The first crossing never says too much for a method; a search of K
    trials may so be worth fewer than K.

    Attributes:
        of_mean: Where the curve of the mean over jobs and seeds first reaches the method's mean score.
        mean_over_jobs: The mean of the same number found for each job by itself (for each seed, where there
            is one job).
        pool: Trials that a search had; no number is larger.
        censored: Whether the method's mean is above the whole curve, so that `of_mean` is "more than pool".
        censored_jobs: Share of the jobs of which that is true, where `mean_over_jobs` counts the pool.
    """

    of_mean: Estimate
    mean_over_jobs: Estimate
    pool: int
    censored: bool
    censored_jobs: float


def selection_weights(pool: int) -> Array:
    """Probabilities that a trial is the best of k drawn without replacement.

    The trial of rank r (0 the best) is if it is drawn and none before it is:
    ``C(K - 1 - r, k - 1) / C(K, k)``.

    Args:
        pool: K, the number of trials, >= 1.

    Returns:
        Shape (K, K): entry [k - 1, r]; rows sum to 1.
    """
    require_counts({"pool": pool})
    k = np.arange(1, pool + 1)[:, None]
    rank = np.arange(pool - 1)
    # By the ratio of neighbours, as the binomials themselves overflow.
    ratios = np.maximum(pool - rank - k, 0) / (pool - 1 - rank)
    weights: Array = k / pool * np.cumprod(np.hstack([np.ones((pool, 1)), ratios]), axis=1)
    return weights


def best_of_curve(val_losses: ArrayLike, scores: ArrayLike) -> Array:
    """The expected score of the trial that validation selects among k of a pool, for k = 1 … K.

    Trials of equal validation loss (infinite ones, say) are each as likely to be selected as the other.

    Args:
        val_losses: Shape (K,), none of them NaN.
        scores: What is averaged of the same trials, finite, shape (K,).

    Returns:
        Shape (K,); the first value is the mean of the scores, the last the score of the selected trial.

    Raises:
        ConfigError: The shapes differ, or there is no trial.
    """
    val, score = np.asarray(val_losses, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if val.ndim != 1 or val.shape != score.shape or not val.size:
        raise ConfigError(f"a pool needs a loss and a score for each trial, got {val.shape}, {score.shape}")
    _, group = np.unique(val, return_inverse=True)  # groups of equal losses, in ascending order
    shared = (np.bincount(group, score) / np.bincount(group))[group]
    curve: Array = selection_weights(val.size) @ shared[np.argsort(val)]
    return curve


def crossing(curves: Array, targets: ArrayLike) -> Array:
    """The smallest k at which a curve reaches its target, linear in between, from a score of 0 at k = 0.

    Args:
        curves: Scores at k = 1 … K, shape (…, K).
        targets: Shape (…).

    Returns:
        Shape (…), values in [0, K]: 0 where the target is at most 0, K where the curve stays below it.
    """
    curve = np.concatenate([np.zeros((*curves.shape[:-1], 1)), curves], axis=-1)
    target = np.asarray(targets, dtype=np.float64)[..., None]
    reached = curve >= target - TOLERANCE
    k = np.argmax(reached, axis=-1)  # the first one; 0 also where there is none
    after = np.take_along_axis(curve, k[..., None], -1)
    before = np.take_along_axis(curve, np.maximum(k - 1, 0)[..., None], -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.minimum((target - before) / (after - before), 1.0)[..., 0]
    inside = np.where(k > 0, k - 1 + share, 0.0)
    found: Array = np.where(reached.any(-1), inside, curves.shape[-1])
    return found


def trial_equivalents(
    curves: ArrayLike, scores: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Equivalents:
    """How many trials a method is worth, with 95% bootstrap intervals over jobs (over seeds if there is one).

    An end of an interval at `pool` means "or more".

    Args:
        curves: Of the random search with each job and seed (`best_of_curve`), shape (jobs, seeds, K); or
            (jobs, 1, K) where a job's seeds share a pool.
        scores: The method's, shape (jobs, seeds).
        seed: Of the resampling.
        resamples: How many, >= 1.

    Raises:
        ConfigError: The shapes do not fit.
    """
    pools, own = np.asarray(curves, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    alike = pools.ndim == 3 and pools.shape[:2] == own.shape
    shared = pools.ndim == 3 and len(own) > 1 and pools.shape[:2] == (len(own), 1)
    if not (alike or shared) or not pools.size:
        raise ConfigError(f"curves (jobs, seeds, K) and scores (jobs, seeds), got {pools.shape}, {own.shape}")
    curve, score = (pools[0], own[0]) if len(own) == 1 else (pools.mean(1), own.mean(1))  # (units, …)
    units, pool = curve.shape
    each = crossing(curve, score)
    drawn = np.random.default_rng(seed).integers(units, size=(resamples, units))
    share = drawn_counts(drawn, units) / units
    of_mean = crossing(share @ curve, share @ score)
    mean_curve, mean_score = curve.mean(0), float(score.mean())
    return Equivalents(
        of_mean=percentile_interval(float(crossing(mean_curve, mean_score)), of_mean, units),
        mean_over_jobs=percentile_interval(float(each.mean()), share @ each, units),
        pool=pool,
        censored=bool(mean_score > mean_curve.max() + TOLERANCE),
        censored_jobs=float(np.mean(score > curve.max(-1) + TOLERANCE)),
    )


def break_even(training_budgets: float, equivalents: float, budgets: float = 1.0) -> float | None:
    """The number of jobs after which a policy's training has paid.

    On each of them the policy needs its own `budgets` where a random search as good needs `equivalents`.

    Args:
        training_budgets: What the training cost, in jobs' budgets (episodes), >= 0.
        equivalents: Trials that the policy is worth.
        budgets: What it uses itself.

    Returns:
        The number of jobs; None if nothing is saved.
    """
    require_range("training_budgets", training_budgets, 0)
    saved = equivalents - budgets
    return training_budgets / saved if saved > 0 else None
