"""Group-relative advantages: what a decision came to, against others' decisions in the same job."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

SCALE_FLOOR = 0.05
"""In nats, added to a job's scale: where nothing matters, noise must not be amplified to advantages."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class GroupAdvantages(NamedTuple):
    """What a rollout of T steps in N slots came to.

    Attributes:
        advantages: float64 in [-clip, clip], shape (T, N); 0 where nothing is compared.
        compared: Which decisions have a baseline, shape (T, N).
        apart: Slots of the groups whose members do not all stand at the start of the same job, shape (N,).
    """

    advantages: Floats
    compared: Bools
    apart: Bools


def group_advantages(
    rewards: NDArray[np.floating[Any]],
    starts: Bools,
    over: Bools,
    group_size: int,
    gamma: float,
    clip: float,
) -> GroupAdvantages:
    """Advantages against the mean of the group, in units of the job's scale.

    Slots side by side are groups; the members' k-th episodes since the rollout's start are of the same job.
    With G_d the return-to-go of a member's decision d in an episode of that job::

        advantage_d = clip((G_d - mean of the group's G_d) / (scale + SCALE_FLOOR))

    where the mean is over the members that still take decision d, and the scale is the root mean square of
    all the job's centred returns-to-go. (Shao et al., 2024, "DeepSeekMath", arXiv 2402.03300, divide by the
    standard deviation of the group's outcomes in the same way; Kool et al., 2019, "Buy 4 REINFORCE Samples,
    Get a Baseline for Free!", leave a member out of its own baseline, which is the same up to a factor.)

    Nothing is compared, and the advantage is 0, in an episode that began before the rollout or goes on after
    it, and where fewer than two members take the decision: the others crashed before, or their episodes are
    not whole.

    Args:
        rewards: Shape (T, N).
        starts: Whether a step is the first of its episode, shape (T, N).
        over: Whether the last step ended an episode, shape (N,).
        group_size: Slots of a group, >= 2; divides N.
        gamma: Discount, in [0, 1].
        clip: Advantages are clipped to ±clip, > 0.
    """
    ends = np.vstack([starts[1:], over[None]])
    togo = _returns_to_go(rewards, ends, gamma)
    episode: Ints = np.cumsum(starts, axis=0, dtype=np.int64)
    whole = (episode > 0) & np.logical_or.accumulate(ends[::-1], axis=0)[::-1]
    job, moment = _numbered(episode, starts, group_size)
    counts, mean = _means(togo, moment, whole)
    compared = whole & (counts >= 2)
    centred = np.where(compared, togo - mean, 0.0)
    scale = np.sqrt(_means(centred**2, job, compared)[1])
    advantages = np.clip(centred / (scale + SCALE_FLOOR), -clip, clip)
    return GroupAdvantages(advantages, compared, _apart(episode[-1], over, group_size))


def _returns_to_go(rewards: NDArray[np.floating[Any]], ends: Bools, gamma: float) -> Floats:
    """Discounted sums of the rewards from each step to its episode's end, shape (T, N)."""
    togo = rewards.astype(np.float64)
    for t in range(len(togo) - 2, -1, -1):
        togo[t] += np.where(ends[t], 0.0, gamma * togo[t + 1])
    return togo


def _numbered(episode: Ints, starts: Bools, group_size: int) -> tuple[Ints, Ints]:
    """Numbers the jobs, and the decisions in them: equal where members of a group may be compared.

    Args:
        episode: Episodes begun in each slot up to each step, shape (T, N).
        starts: See `group_advantages`.
        group_size: See `group_advantages`.
    """
    steps, slots = episode.shape
    step = np.arange(steps)[:, None]
    first = np.maximum.accumulate(np.where(starts, step, 0), axis=0)
    job = episode + (np.arange(slots) // group_size) * (steps + 1)
    return job, job * steps + step - first


def _means(values: Floats, labels: Ints, counted: Bools) -> tuple[Floats, Floats]:
    """How many of a label are counted, and their mean (0 where none is), at each place of `labels`."""
    length = int(labels.max()) + 1
    counts = np.bincount(labels[counted], minlength=length)
    sums = np.bincount(labels[counted], values[counted], minlength=length)
    return counts[labels].astype(np.float64), (sums / np.maximum(counts, 1))[labels]


def _apart(begun: Ints, over: Bools, group_size: int) -> Bools:
    """See `GroupAdvantages.apart`; `begun` are the episodes begun in each slot, shape (N,)."""
    by_group = begun.reshape(-1, group_size)
    together = over.reshape(-1, group_size).all(axis=1) & (by_group == by_group[:, :1]).all(axis=1)
    return np.repeat(~together, group_size)


class GroupBuffer(RolloutBuffer):
    """A rollout buffer whose advantages are `group_advantages`, so that no value function is needed.

    Returns are what the value function says already: its loss is zero.

    Args:
        *args: See `RolloutBuffer`.
        group_size: Slots side by side that run the same jobs in the same order, >= 2.
        clip: See `group_advantages`.
        **kwargs: See `RolloutBuffer`.

    Attributes:
        apart: See `GroupAdvantages`; all False before the advantages are computed.
        compared: Share of the rollout's decisions that have a baseline, in [0, 1].
    """

    def __init__(self, *args: Any, group_size: int, clip: float, **kwargs: Any) -> None:
        self.group_size, self.clip = group_size, clip
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        self.apart: Bools = np.zeros(self.n_envs, np.bool_)
        self.compared = 0.0

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: NDArray[Any]) -> None:  # noqa: ARG002 (nothing is bootstrapped)
        """Computes the advantages of a full buffer.

        Args:
            last_values: Not used: an episode that goes on is not learned from.
            dones: Whether the last step ended an episode, shape (slots,).
        """
        result = group_advantages(
            self.rewards,
            self.episode_starts.astype(np.bool_),
            np.asarray(dones, np.bool_),
            self.group_size,
            self.gamma,
            self.clip,
        )
        self.advantages = result.advantages.astype(np.float32)
        self.returns = self.values.copy()
        self.apart, self.compared = result.apart, float(result.compared.mean())
