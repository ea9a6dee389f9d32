"""Restarts: when a training begins again, with the hyperparameters it has reached.

A run that overfits early spends most of its budget on weights that are never kept. What is left of the
budget is better spent on another attempt: the network begins anew, the hyperparameters stay where the policy
has taken them, and the best weights of all attempts are kept.

So is what follows a false start: a network that was damaged by a learning rate far too high learns badly at
the right one, too, though its loss need never have exploded for the rails to see it.
"""

from __future__ import annotations

import numpy as np

from rl_tuner.history import Interval, Track, Value

PAST = 0.1
"""Share of the whole budget that has passed since the best loss, at least."""
MOST_ATTEMPTS = 2 + round(1 / PAST)
"""Each one uses `PAST` of the budget, or more; but the last one, and a first one that was a false start."""
EARLY = (0.035, 0.075)
"""The shares of a training's budget between which it is asked whether its start was a false one: late enough
for a policy to have come down by two decades and a half (20 geometric decisions of at most half a decade),
early enough to cost little, and not to take an annealed learning rate for one that was too high."""
FALL = 0.1
"""It was if the learning rate is at this share of the first one by then, or below."""


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


def false_start(
    interval: Interval, spent: Value, budget: Value, decisions: int, lr: Value, first_lr: Value
) -> Value:
    """Whether a first attempt began at a learning rate that was far too high, and is to give way to another.

    Never where there is no validation. Numbers, or arrays of shape (N,).

    Args:
        interval: The last one.
        spent: How much of the training's budget is spent; of its last phase's, for a job in phases.
        budget: That budget.
        decisions: Of an attempt; what is left is to hold them.
        lr: The learning rate reached; NaN where it is not tuned.
        first_lr: That of the start.
    """
    early = (spent >= EARLY[0] * budget) & (spent < EARLY[1] * budget)
    fallen = (lr <= FALL * first_lr) & np.logical_not(np.isnan(interval.val_loss))
    return early & fallen & (budget - spent >= decisions)
