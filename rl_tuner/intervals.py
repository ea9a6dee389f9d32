"""When decisions fall: the plan of intervals over a job's budget."""

from __future__ import annotations

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
