"""Group-relative advantages: what a decision came to, against others' decisions in the same job."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

from rl_tuner.agents.group_critic import GroupCritic, differences
from rl_tuner.agents.groups import Bools, Floats, Groups


def group_advantages(rewards: NDArray[Any], groups: Groups, gamma: float, clip: float) -> Floats:
    """Advantages against the mean of the group, in units of the job's scale.

    With G_d the return-to-go of a member's decision d in an episode of a job::

        advantage_d = clip((G_d - mean of the group's G_d) / (scale + SCALE_FLOOR))

    where the mean is over the members that still take decision d, and the scale is the root mean square of
    all the job's centred returns-to-go. (Shao et al., 2024, "DeepSeekMath", arXiv 2402.03300, divide by the
    standard deviation of the group's outcomes in the same way; Kool et al., 2019, "Buy 4 REINFORCE Samples,
    Get a Baseline for Free!", leave a member out of its own baseline, which is the same up to a factor.)

    Args:
        rewards: Shape (T, N).
        groups: Of the rollout.
        gamma: Discount, in [0, 1].
        clip: Advantages are clipped to ±clip, > 0.

    Returns:
        In [-clip, clip], shape (T, N); 0 where nothing is compared.
    """
    centred = groups.centred(groups.returns_to_go(rewards, gamma))
    return np.clip(centred / groups.scale(centred), -clip, clip)


def group_gae(
    rewards: NDArray[Any], values: Floats, groups: Groups, gamma: float, gae_lambda: float, clip: float
) -> Floats:
    """Generalized advantage estimation in terms of the group: with centred, scaled rewards.

    With r_d a member's reward less the mean of the group's, in units of the job's scale as in
    `group_advantages`, and V_d what a critic predicts of the sum of those that come::

        δ_d = r_d + γ V_{d+1} - V_d,    advantage_d = clip(δ_d + γ λ advantage_{d+1})

    (Schulman et al., 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    arXiv 1506.02438, equation 16). With λ = 1 and V = 0 it is `group_advantages`, as long as all members of a
    group take the same number of decisions.

    Args:
        rewards: Shape (T, N).
        values: Shape (T, N), 0 where nothing is compared.
        groups: Of the rollout.
        gamma: Discount, in [0, 1].
        gae_lambda: λ, in [0, 1].
        clip: Advantages are clipped to ±clip, > 0.

    Returns:
        In [-clip, clip], shape (T, N); 0 where nothing is compared.
    """
    scaled = groups.centred(rewards) / groups.scale(groups.centred(groups.returns_to_go(rewards, gamma)))
    advantages, after, value_after = np.zeros(rewards.shape), np.zeros(()), np.zeros(())
    for t in reversed(range(len(rewards))):
        goes_on = gamma * ~groups.ends[t]
        delta = scaled[t] + goes_on * value_after - values[t]
        advantages[t] = after = np.where(groups.compared[t], delta + goes_on * gae_lambda * after, 0.0)
        value_after = values[t]
    return np.clip(advantages, -clip, clip)


class GroupBuffer(RolloutBuffer):
    """A rollout buffer whose advantages are relative to groups, so that no value network is needed.

    Returns are what the value function says already: its loss is zero.

    Args:
        *args: See `RolloutBuffer`.
        group_size: Slots side by side that run the same jobs in the same order, >= 2.
        clip: See `group_advantages`.
        critic: Decisions of the longest episode, for a `GroupCritic` that learns beside: as soon as it is
            ready advantages are `group_gae`, in units of their root mean square. 0 for none: they are
            `group_advantages`.
        **kwargs: See `RolloutBuffer`.

    Attributes:
        apart: See `Groups`; all False before the advantages are computed.
        compared: Share of the rollout's decisions that have a baseline, in [0, 1].
        critic: The critic, if there is one.
        explained: Share of the variance of centred returns-to-go that it foretold; NaN while it is silent.
    """

    def __init__(self, *args: Any, group_size: int, clip: float, critic: int = 0, **kwargs: Any) -> None:
        self.group_size, self.clip = group_size, clip
        self.explained = float("nan")
        super().__init__(*args, **kwargs)
        facts = 2 * (1 + int(np.prod(self.obs_shape)))
        self.critic = GroupCritic(critic, facts) if critic else None

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
        groups = Groups(self.episode_starts.astype(np.bool_), np.asarray(dones, np.bool_), self.group_size)
        advantages = group_advantages(self.rewards, groups, self.gamma, self.clip)
        if self.critic is not None:
            advantages = self._by_critic(self.critic, groups, advantages)
        self.advantages = advantages.astype(np.float32)
        self.returns = self.values.copy()
        self.apart, self.compared = groups.apart, float(groups.compared.mean())

    def _by_critic(self, critic: GroupCritic, groups: Groups, targets: Floats) -> Floats:
        """The advantages by the critic as it is, which then learns the rollout's `group_advantages`."""
        facts = differences(groups, self.observations, self.rewards)
        advantages = targets
        if critic.ready:
            values = critic.values(facts, groups.decision, groups.compared)
            self.explained = 1 - _square(targets - values) / max(_square(targets), 1e-12)
            advantages = group_gae(self.rewards, values, groups, self.gamma, self.gae_lambda, self.clip)
            advantages /= max(_square(advantages[groups.compared]) ** 0.5, 1e-8)
        critic.learn(facts, groups.decision, groups.compared, targets)
        return advantages


def _square(values: Floats) -> float:
    """Mean square; 0 of none."""
    return float(np.mean(values**2)) if values.size else 0.0
