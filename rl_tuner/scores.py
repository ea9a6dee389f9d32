"""Scores that can be averaged over jobs: 0 is the loss before training, 1 the best one known for the job.

Losses of different jobs have different scales, so that their mean is decided by the job with the largest
ones. A normalized score is linear in the loss, the same whatever unit the loss has, and at most 1 by
construction: the best known loss is taken over all that a comparison has seen of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rl_tuner.errors import ConfigError
from rl_tuner.results import Row
from rl_tuner.statistics import Array

FLOOR = -1.0
"""The lowest score. A run that exploded may have any loss; clipped, no single one decides a mean."""


def normalized_score(losses: ArrayLike, start: ArrayLike, best: ArrayLike) -> Array:
    """``(start - loss) / (start - best)``, raised to `FLOOR`.

    A loss that is not finite scores `FLOOR`. Where nothing is known to be better than no training
    (``start <= best``), what reaches the best scores 1 and all else `FLOOR`: the limits of the formula. An
    infinite start likewise gives every finite loss 1.

    Args:
        losses: Losses, any shape.
        start: The loss before training, of a shape that broadcasts with `losses`.
        best: The best known loss of the job, likewise.

    Returns:
        Scores, at least `FLOOR`, at most 1 where ``loss >= best``; the broadcast shape.
    """
    loss, first, least = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (losses, start, best))
    )
    with np.errstate(all="ignore"):
        ratio = (first - loss) / (first - least)
    ratio = np.where(first > least, ratio, np.where(loss <= least, 1.0, FLOOR))
    ratio = np.where(np.isposinf(first), 1.0, ratio)
    score: Array = np.where(np.isfinite(loss), np.maximum(ratio, FLOOR), FLOOR)
    return score


def table(rows: Sequence[Row], value: Callable[[Row], float]) -> Array:
    """A value of each of a method's rows, shape (jobs, seeds), both in ascending order.

    Raises:
        ConfigError: A job and seed has no row, or more than one.
    """
    jobs, seeds = sorted({row.job for row in rows}), sorted({row.seed for row in rows})
    found = {(row.job, row.seed): value(row) for row in rows}
    if not rows or not len(rows) == len(found) == len(jobs) * len(seeds):
        raise ConfigError(
            f"a method needs one row for each of {len(jobs)} jobs and {len(seeds)} seeds, got {len(rows)}"
        )
    return np.array([[found[job, seed] for seed in seeds] for job in jobs], dtype=np.float64)


def best_test_losses(rows: Sequence[Row]) -> Array:
    """The best test loss known for each job, in ascending order of the jobs, shape (jobs,).

    Of all rows and of all trials of searches among them, and of the weights before training.
    """
    return _best(rows, lambda row: [row.start_test_loss, row.test_loss, *(t.test_loss for t in row.trials)])


def best_val_losses(rows: Sequence[Row]) -> Array:
    """The best validation loss known for each job, likewise."""
    return _best(rows, lambda row: [row.start_val_loss, row.val_loss, *(t.val_loss for t in row.trials)])


def _best(rows: Sequence[Row], losses: Callable[[Row], list[float]]) -> Array:
    best: dict[int, float] = {}
    for row in rows:
        best[row.job] = min([best.get(row.job, float("inf")), *losses(row)])
    return np.array([best[job] for job in sorted(best)], dtype=np.float64)


def row_scores(rows: Sequence[Row], best: Array) -> Array:
    """Normalized scores of a method's test losses.

    Args:
        rows: The method's.
        best: See `best_test_losses`, of all methods, shape (jobs,).

    Returns:
        Shape (jobs, seeds); each seed is scored from its own loss before training.
    """
    losses, start = table(rows, lambda row: row.test_loss), table(rows, lambda row: row.start_test_loss)
    return normalized_score(losses, start, best[:, None])
