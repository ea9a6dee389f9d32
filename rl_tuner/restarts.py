"""Restarts: when a training that is past its best begins again, with the hyperparameters it has reached.

A run that overfits early spends most of its budget on weights that are never kept. What is left of the
budget is better spent on another attempt: the network begins anew, the hyperparameters stay where the policy
has taken them, and the best weights of all attempts are kept.
"""

from __future__ import annotations

import numpy as np

from rl_tuner.history import Interval, Track, Value

PAST = 0.1
"""Share of the whole budget that has passed since the best loss, at least."""
MOST_ATTEMPTS = 1 + round(1 / PAST)
"""Each one but the last uses `PAST` of the budget, or more."""


def worse(interval: Interval, track: Track) -> Value:
    """Whether an interval ended above the best loss; never where there is no validation.

    Args:
        interval: What was measured; with a loss that is not finite it ended above.
        track: The attempt's, after the interval.
    """
    above = np.logical_not(interval.lowest <= track.lowest)
    return above & np.logical_not(np.isnan(interval.val_loss))


def due(used: Value, begun: Value, best_used: Value, budget: Value, decisions: int) -> Value:
    """Whether an attempt that is `worse` than its best is to give way to the next one.

    It is when as much was spent since its best loss as that took to reach, and `PAST` of the budget, and
    what is left holds the decisions of another attempt. Numbers, or arrays of shape (N,).

    Args:
        used: How much of the budget is spent in all.
        begun: How much was when the attempt began.
        best_used: How much was at its best loss.
        budget: The whole budget.
        decisions: Of an attempt.
    """
    past = used - best_used
    return (past >= best_used - begun) & (past >= PAST * budget) & (budget - used >= decisions)
