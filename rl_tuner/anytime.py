"""What one would have on stopping early: the best validation loss so far, over the budget used.

The axis is the same for all methods, budgets of one run of the job: a single run goes from 0 to 1, a search
of 16 trials from 0 to 16, one trial after another, whatever ran side by side; a population's members, which
need each other, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rl_tuner.results import Row
from rl_tuner.scores import normalized_score, table
from rl_tuner.statistics import Array

TARGET = 0.9
"""The anytime score that counts as done, of a time to target."""
SHARES = 40
"""Points of an axis within the first budget, and as many for all that follow."""


def anytime_steps(row: Row) -> tuple[Array, Array]:
    """When the best validation loss so far may have changed, and what it then was.

    What a job's earlier phases came to is another loss, and left out.

    Returns:
        Training samples used, ascending from 0, and the best loss from there on, beginning with the one
        before training; each of shape (steps,).
    """
    if row.trials:
        used = np.array([0, *(used for used, _ in row.curve)])
        best = np.minimum.accumulate([row.start_val_loss, *(loss for _, loss in row.curve)])
    else:
        records = [record for record in row.records if record.used > row.last_phase]
        used = np.array([0, *(record.used for record in records)])
        best = np.array([row.start_val_loss, *(record.best for record in records)])
    return used.astype(np.float64), best.astype(np.float64)


def anytime_curve(row: Row, budgets: ArrayLike) -> Array:
    """The best validation loss at places of the common axis.

    It is the loss before training until the first decision, and the last value once the run has ended, also
    by a crash.

    Args:
        row: One run, or a search.
        budgets: Places >= 0, in budgets of one run of the job, shape (n,).

    Returns:
        Shape (n,).
    """
    ends, best = anytime_steps(row)
    # Whole samples: 0.29 of 100 would else lie a hair before the 29th.
    used = np.round(np.asarray(budgets, dtype=np.float64) * row.job_budget, 6)
    curve: Array = best[np.searchsorted(ends, used, side="right") - 1]
    return curve


def budget_axis(budgets: float) -> Array:
    """Places of an axis from 0 to so many budgets: evenly to 1, then by even ratios, as searches are long."""
    first = np.linspace(0, min(budgets, 1.0), SHARES + 1)
    return first if budgets <= 1 else np.append(first, np.geomspace(1, budgets, SHARES + 1)[1:])


def anytime_scores(rows: Sequence[Row], best: Array, budgets: ArrayLike) -> Array:
    """Normalized scores of the anytime curves of a method.

    Args:
        rows: The method's.
        best: The best validation loss known for each job (`rl_tuner.scores.best_val_losses`), shape (jobs,).
        budgets: Places of the axis, shape (n,).

    Returns:
        Shape (jobs, seeds, n).
    """
    places = np.asarray(budgets, dtype=np.float64)
    start = table(rows, lambda row: row.start_val_loss)
    known = dict(zip(sorted({row.job for row in rows}), best, strict=True))
    ordered = sorted(rows, key=lambda row: (row.job, row.seed))
    scores = [
        normalized_score(anytime_curve(row, places), row.start_val_loss, known[row.job]) for row in ordered
    ]
    return np.array(scores).reshape(*start.shape, len(places))


def time_to_target(row: Row, best: float, target: float = TARGET) -> float:
    """Budgets of one run of the job until the anytime score first reaches a target.

    Args:
        row: One run, or a search.
        best: The best validation loss known for the job.
        target: The score, > 0 and at most 1.

    Returns:
        Budgets >= 0, as of the decision that reached it; inf if none did.
    """
    ends, losses = anytime_steps(row)
    reached = np.flatnonzero(normalized_score(losses, row.start_val_loss, best) >= target)
    return float(ends[reached[0]]) / row.job_budget if reached.size else float("inf")


def times_to_target(rows: Sequence[Row], best: Array, target: float = TARGET) -> Array:
    """`time_to_target` of each of a method's rows, shape (jobs, seeds); `best` as for `anytime_scores`."""
    known = dict(zip(sorted({row.job for row in rows}), best.tolist(), strict=True))
    return table(rows, lambda row: time_to_target(row, known[row.job], target))
