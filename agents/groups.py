"""Which decisions of a rollout stand side by side: the same one, in the same job, by members of a group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE_FLOOR = 0.05
"""In the reward's unit, added to a job's scale: where nothing matters, noise must not become advantages."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Groups:
    """The decisions of a rollout of T steps in N slots, numbered so that like can be compared with like.

    Slots side by side are groups; the members' k-th episodes since the rollout's start are of the same job.
    Nothing is compared in an episode that began before the rollout or goes on after it, and where fewer than
    two members take the decision: the others crashed before, or their episodes are not whole.

    Args:
        starts: Whether a step is the first of its episode, shape (T, N).
        over: Whether the last step ended an episode, shape (N,).
        group_size: Slots of a group, >= 2; divides N.

    Attributes:
        ends: Whether a step is the last of its episode, shape (T, N).
        decision: Number of the decision in its episode, from 0, shape (T, N).
        compared: Which decisions have others beside them, shape (T, N).
        apart: Slots of the groups whose members do not all stand at the start of the same job, shape (N,).
    """

    def __init__(self, starts: Bools, over: Bools, group_size: int) -> None:
        steps, slots = starts.shape
        self.ends: Bools = np.vstack([starts[1:], over[None]])
        episode: Ints = np.cumsum(starts, axis=0, dtype=np.int64)
        step = np.arange(steps)[:, None]
        self.decision: Ints = step - np.maximum.accumulate(np.where(starts, step, 0), axis=0)
        self._job = episode + (np.arange(slots) // group_size) * (steps + 1)
        self._moment = self._job * steps + self.decision
        whole = (episode > 0) & np.logical_or.accumulate(self.ends[::-1], axis=0)[::-1]
        self.compared: Bools = whole & (_count(self._moment, whole) >= 2)
        self.apart = _apart(episode[-1], over, group_size)

    def centred(self, values: NDArray[Any]) -> Floats:
        """Values, shape (T, N), less the mean of the members that take the same decision; 0 where alone."""
        return np.where(self.compared, values - _mean(values, self._moment, self.compared), 0.0)

    def scale(self, centred: Floats) -> Floats:
        """Root mean square over all that is compared in a job, plus `SCALE_FLOOR`, shape (T, N)."""
        return np.sqrt(_mean(centred**2, self._job, self.compared)) + SCALE_FLOOR

    def returns_to_go(self, rewards: NDArray[Any], gamma: float) -> Floats:
        """Discounted sums of the rewards from each step to its episode's end, shape (T, N)."""
        togo = rewards.astype(np.float64)
        for t in range(len(togo) - 2, -1, -1):
            togo[t] += np.where(self.ends[t], 0.0, gamma * togo[t + 1])
        return togo

    def returns_so_far(self, rewards: NDArray[Any]) -> Floats:
        """Sums of the rewards of the episode before each step, shape (T, N)."""
        so_far = np.zeros(rewards.shape)
        for t in range(len(rewards) - 1):
            so_far[t + 1] = np.where(self.ends[t], 0.0, so_far[t] + rewards[t])
        return so_far


def _count(labels: Ints, counted: Bools) -> Ints:
    """How many of a label are counted, at each place of `labels`."""
    return np.bincount(labels[counted], minlength=int(labels.max()) + 1)[labels]


def _mean(values: NDArray[Any], labels: Ints, counted: Bools) -> Floats:
    """The mean of those of a label that are counted, 0 where none is, at each place of `labels`."""
    sums = np.bincount(labels[counted], values[counted], minlength=int(labels.max()) + 1)
    return sums[labels] / np.maximum(_count(labels, counted), 1)


def _apart(begun: Ints, over: Bools, group_size: int) -> Bools:
    """See `Groups.apart`; `begun` are the episodes begun in each slot, shape (N,)."""
    by_group = begun.reshape(-1, group_size)
    together = over.reshape(-1, group_size).all(axis=1) & (by_group == by_group[:, :1]).all(axis=1)
    return np.repeat(~together, group_size)
