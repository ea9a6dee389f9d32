"""Rewards: what an interval's training was worth, in nats or in shares of validation loss.

All are differences of one bounded quantity, the *level* log(V / V_0) clipped to [-10, 3] or its exponential,
so that with γ = 1 the return telescopes and a crash can be priced below every finite outcome. A job in phases
has a V_0 of its own in each: its return is the sum over the phases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rl_tuner.config import choose
from rl_tuner.history import WORST, Track, Value, log_level, pick


def log_improvement(before: Track, after: Track, last: Value) -> Value:
    """``log V_{t-1} - log V_t``; the return is ``log(V_0 / V_T)``, in [-3, 10] nats."""
    return _level(before.last, after.first) - _level(after.last, after.first)


def best_improvement(before: Track, after: Track, last: Value) -> Value:
    """The fall of the best loss so far; the return is ``log(V_0 / min V)``, in [0, 10] nats."""
    return _level(before.lowest, after.first) - _level(after.lowest, after.first)


def final_improvement(before: Track, after: Track, last: Value) -> Value:
    """Zero until the last interval (of each phase), then ``log(V_0 / min V)``, in [0, 10] nats."""
    level = _level(after.lowest, after.first)
    return pick(last, -level, 0.0 * level)


def relative_improvement(before: Track, after: Track, last: Value) -> Value:
    """The fall of the best loss so far over the first loss; the return is ``1 - min V / V_0``, in [0, 1].

    What the score of a comparison counts: of two losses near zero the lower one is worth hardly more.
    """
    return np.exp(_level(before.lowest, after.first)) - np.exp(_level(after.lowest, after.first))


def test_improvement(before: Track, after: Track, last: Value) -> Value:
    """The fall of the *kept* weights' test loss; the return is ``log(T_0 / T_kept)``, in [-3, 10] nats.

    Kept are the weights with the best validation loss so far. The smallest of many losses on few samples is
    no measure of what the weights are worth, and whoever is paid for it learns to make it small; samples
    that do not select pay for what a comparison counts. `best_improvement` where a job has no test part.
    """
    tested = np.logical_not(np.isnan(after.test_first))
    first = pick(tested, after.test_first, after.first)
    earlier, later = (pick(tested, track.test_kept, track.lowest) for track in (before, after))
    return _level(earlier, first) - _level(later, first)


Reward = Callable[[Track, Track, Value], Value]
"""(track before, track after, whether the episode or phase ends here) → reward, float or (N,).

Whether it ends is a bool, or a bool array of shape (N,)."""

REWARDS: dict[str, Reward] = {
    "log_improvement": log_improvement,
    "best_improvement": best_improvement,
    "final_improvement": final_improvement,
    "relative_improvement": relative_improvement,
    "test_improvement": test_improvement,
}
_UNITS = {"relative_improvement": "shares of the first loss"}


def reward_function(name: str) -> Reward:
    """The reward of that name.

    Raises:
        ConfigError: There is none.
    """
    return REWARDS[choose("reward", name, REWARDS)]


def reward_unit(name: str) -> str:
    """What the reward of that name is counted in, for people."""
    return _UNITS.get(name, "nats")


def reads_test(name: str) -> bool:
    """Whether the reward of that name needs the test loss: it is measured for such a one only."""
    return name == "test_improvement"


def crash_return(phases: Value = 1) -> Value:
    """The return of a crashed episode of so many phases: one below the worst finite one of any reward."""
    return -WORST * phases - 1.0


def crash_reward(return_so_far: Value, phases: Value = 1) -> Value:
    """The last reward of a crashed episode: it brings the return to `crash_return`, whatever was earned."""
    return crash_return(phases) - return_so_far


def _level(value: Value, first: Value) -> Value:
    # Before the first interval of a job without validation nothing is measured: level 0, the start.
    level = log_level(value, first)
    return pick(np.isnan(value), 0.0, level)
