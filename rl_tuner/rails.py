"""Rails: what counts as a destroyed network, and what is done about it.

A policy that trains with rails learns to be bold safely: after an interval that diverged or collapsed,
the last good state is restored, the learning rate is cut, and the observation says so. The samples stay
spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval, Track, Value, pick


class Verdict(IntEnum):
    """What an interval came to."""

    GOOD = 0
    DIVERGED = 1
    COLLAPSED = 2


@dataclass(frozen=True, slots=True)
class Rails:
    """Limits and remedies.

    Attributes:
        multiple: Diverged is a criterion above ``multiple * best + slack * first`` (or anything not finite).
        slack: See `multiple`; forgives noise where the best loss is close to zero.
        stuck: Collapsed is a criterion back at or above ``stuck * first`` …
        alive: … while fewer than this share of the parameter tensors still has a gradient: a network can
            die (all units off) without its loss exploding.
        lr_cut: The restored run goes on at this factor of the lower learning rate: the one of the last good
            state or the one that failed. (It is left alone where it is not among the tuned ones.)
        rescues: So many restorations in a row; the next failure ends the job as crashed. A job that goes on
            well in between is no lost one, however often it overfits.
    """

    multiple: float = 1.5
    slack: float = 0.1
    stuck: float = 0.9
    alive: float = 0.5
    lr_cut: float = 0.3
    rescues: int = 8

    def __post_init__(self) -> None:
        require_range("rails.multiple", self.multiple, 1)
        require_range("rails.slack", self.slack, 0)
        require_range("rails.stuck", self.stuck, 0)
        require_range("rails.alive", self.alive, 0, 1)
        require_range("rails.lr_cut", self.lr_cut, 0, 1, above=True)
        require_range("rails.rescues", self.rescues, 0)

    def share(self, rescues: Value) -> Value:
        """A number of rescues, in a row or not, over as many as may be in a row; at most 1."""
        return np.minimum(rescues / max(self.rescues, 1), 1.0)

    def judge(self, interval: Interval, track: Track) -> Value:
        """The `Verdict` on an interval, as an int or an int array of shape (N,).

        Args:
            interval: What was measured.
            track: The track *before* the interval.
        """
        value = interval.criterion
        best = pick(np.isnan(track.best), np.inf, track.best)
        first = pick(np.isnan(track.first), np.inf, track.first)
        with np.errstate(invalid="ignore"):  # 0 * inf: a limit that is NaN is exceeded by nothing
            exploded = value > self.multiple * np.abs(best) + self.slack * np.abs(first)
            dead = (value >= self.stuck * first) & (interval.grad_alive < self.alive)
        verdict = pick(dead, Verdict.COLLAPSED, Verdict.GOOD)
        return pick(exploded | not_finite(interval), Verdict.DIVERGED, verdict)


def not_finite(interval: Interval) -> Value:
    """Whether an interval showed a loss or a parameter that is not finite; the verdict without rails."""
    return np.logical_not(interval.finite) | ~np.isfinite(interval.criterion)


def make_rails(rails: bool | Rails) -> Rails | None:
    """True for the standard rails, False for none, or your own.

    Raises:
        ConfigError: It is something else.
    """
    if isinstance(rails, Rails):
        return rails
    if not isinstance(rails, bool):
        raise ConfigError(f"rails must be True, False or a Rails, got {rails!r}")
    return Rails() if rails else None
