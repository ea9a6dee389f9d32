"""When decisions fall: the plan of intervals over a job's budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose, require_range
from rl_tuner.errors import ConfigError

KINDS = ("geometric", "uniform")
LAST_TO_FIRST = 30.0
"""A geometric plan's last interval is this many times its first."""


def boundaries(budget: int, decisions: int, kind: str = "geometric") -> NDArray[np.int64]:
    """Where the intervals end, in the budget's unit (training samples, or updates).

    Short early intervals and longer late ones ("geometric") let a policy recover cheaply from a bad start
    value; equal ones are "uniform". Interval k is the training between decisions k and k + 1.

    Args:
        budget: What the job may use, >= decisions.
        decisions: Number of intervals, >= 1.
        kind: "geometric" or "uniform".

    Returns:
        Strictly increasing ends, shape (decisions,); the last one is `budget`.

    Raises:
        ConfigError: A value is out of range.
    """
    choose("intervals", kind, KINDS)
    require_range("decisions", decisions, 1)
    for what, value in (("decisions", decisions), ("budget", budget)):
        if value % 1:
            raise ConfigError(f"{what} must be a whole number, got {value!r}")
    budget, decisions = int(budget), int(decisions)
    if budget < decisions:
        raise ConfigError(
            f"a budget of {budget} cannot hold {decisions} decisions: lower decisions or raise the budget "
            "(more epochs)"
        )
    growth = LAST_TO_FIRST if kind == "geometric" else 1.0
    shares = growth ** np.linspace(0, 1, decisions)
    ends = np.rint(budget * np.cumsum(shares) / shares.sum()).astype(np.int64)
    # Rounding may merge the shortest ones: push each end past the one before, and below those behind.
    steps = np.arange(decisions)
    ends = np.maximum.accumulate(np.maximum(ends, 1) - steps) + steps
    fitting: NDArray[np.int64] = np.minimum(ends, budget - (decisions - 1 - steps))
    return fitting


def phase_boundaries(budgets: Sequence[int], decisions: int, kind: str = "geometric") -> NDArray[np.int64]:
    """`boundaries` of a job in phases: each has intervals of its own, so that it ends with one of them.

    Args:
        budgets: What each phase may use, at least one phase.
        decisions: Number of intervals in all, at least one a phase.
        kind: "geometric" or "uniform".

    Returns:
        Strictly increasing ends since the first phase's start, shape (decisions,).

    Raises:
        ConfigError: A value is out of range, or the phases are more than the decisions.
    """
    if len(budgets) == 1:
        return boundaries(budgets[0], decisions, kind)
    boundaries(sum(budgets), decisions, kind)  # complains of what is out of range as a whole
    for number, budget in enumerate(budgets):
        require_range(f"budget of phase {number}", budget, 1)
    parts, start = [], 0
    for budget, part in zip(budgets, divide_decisions(budgets, decisions), strict=True):
        parts.append(start + boundaries(budget, part, kind))
        start += budget
    return np.concatenate(parts)


def divide_decisions(budgets: Sequence[int], decisions: int) -> list[int]:
    """Divides decisions between phases in proportion to their budgets, by Webster's method.

    Each phase gets one at least, and none more than its budget can hold.

    Args:
        budgets: What each phase may use, >= 1.
        decisions: How many there are, at most what all budgets can hold.

    Raises:
        ConfigError: The phases are more than the decisions.
    """
    if decisions < len(budgets):
        raise ConfigError(
            f"a job of {len(budgets)} phases needs a decision for each, got {decisions}: raise decisions"
        )
    shares, taken = np.array(budgets, np.float64), np.ones(len(budgets), np.int64)
    for _ in range(decisions - len(budgets)):
        claims = np.where(taken < shares, shares / (2 * taken + 1), 0.0)
        taken[np.argmax(claims)] += 1
    return [int(part) for part in taken]
