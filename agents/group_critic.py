"""A critic for groups: what a run's place among the other runs of its job says of how it will go on.

The mean of the group is a baseline for the job, but not for the state that a run is in: one that is behind
will gain more, whatever it does now. Late in training such differences, and the luck of all later decisions,
are most of what a return-to-go shows. This critic learns the differences, so that an advantage can look a few
decisions ahead, and take the critic's word for what is behind them (generalized advantage estimation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.agents.groups import Bools, Floats, Groups, Ints
from rl_tuner.errors import ConfigError

FORGET = 0.85
"""What earlier rollouts count for at each further one: the policy that they are about has changed."""
RIDGE = 200.0
"""Penalty, in decisions: so many that say nothing stand beside those that were seen."""
ROLLOUTS = 2
"""It is silent until it has learned from so many."""
CLIP = 5.0
"""Facts are clipped to so many of their standard deviations."""
NEIGHBOURS = 1
"""A decision is learned about from so many before and after it, too."""
_ARRAYS = ("squares", "products", "seen", "scale")


def differences(groups: Groups, observations: NDArray[Any], rewards: NDArray[Any]) -> Floats:
    """In what a run differs from its group, when it takes a decision.

    Args:
        groups: Of the rollout.
        observations: What the decisions were based on, shape (T, N, F).
        rewards: Shape (T, N).

    Returns:
        The return so far, the observation, and the squares of both, each less its mean over the members of
        the group that take the same decision; shape (T, N, 2 (F + 1)).
    """
    facts = np.concatenate([groups.returns_so_far(rewards)[..., None], observations], axis=-1)
    facts = np.concatenate([facts, facts**2], axis=-1)
    return np.stack([groups.centred(facts[..., k]) for k in range(facts.shape[-1])], axis=-1)


class GroupCritic:
    """Ridge regression of a centred, scaled return-to-go on `differences`, for each decision of an episode.

    Args:
        decisions: Of the longest episode, >= 1.
        facts: K, their number.
    """

    def __init__(self, decisions: int, facts: int) -> None:
        self._squares = np.zeros((decisions, facts, facts))
        self._products = np.zeros((decisions, facts))
        self._seen = np.zeros(decisions)
        self._scale = np.zeros(facts)
        self.rollouts = 0

    @property
    def ready(self) -> bool:
        """Whether it has learned from enough rollouts to say something."""
        return self.rollouts >= ROLLOUTS

    def values(self, facts: Floats, decision: Ints, compared: Bools) -> Floats:
        """Predictions, shape (T, N); 0 where nothing is compared.

        Args:
            facts: Shape (T, N, K).
            decision: See `Groups`.
            compared: Likewise.
        """
        found = np.zeros(decision.shape)
        scaled = self._scaled(facts)
        for d in np.unique(decision[compared]).tolist():
            here = compared & (decision == d)
            found[here] = scaled[here] @ self._weights(d)
        return found

    def learn(self, facts: Floats, decision: Ints, compared: Bools, targets: Floats) -> None:
        """Takes in a rollout; `targets` are what the values should have been, shape (T, N)."""
        if not self.rollouts:
            self._scale = np.sqrt((facts[compared] ** 2).mean(0)) if compared.any() else self._scale
        self.rollouts += 1
        for kept in (self._squares, self._products, self._seen):
            kept *= FORGET
        scaled = self._scaled(facts)
        for d in np.unique(decision[compared]).tolist():
            here = compared & (decision == d)
            x = scaled[here]
            self._squares[d] += x.T @ x
            self._products[d] += x.T @ targets[here]
            self._seen[d] += len(x)

    def get_state(self) -> dict[str, Any]:
        """What it has learned, as tensors: a checkpoint holds no arrays."""
        tensors = {name: torch.tensor(getattr(self, f"_{name}")) for name in _ARRAYS}
        return {**tensors, "rollouts": self.rollouts}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets it.

        Raises:
            ConfigError: It is of another number of decisions or facts.
        """
        self.check_state(state)
        for name in _ARRAYS:
            setattr(self, f"_{name}", torch.as_tensor(state[name]).numpy().copy())
        self.rollouts = int(state["rollouts"])

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuses what `set_state` would.

        Raises:
            ConfigError: It is of another number of decisions or facts.
        """
        for name in _ARRAYS:
            mine, theirs = getattr(self, f"_{name}").shape, tuple(state[name].shape)
            if mine != theirs:
                raise ConfigError(f"the critic's state is of shape {theirs}, not {mine}")

    def _scaled(self, facts: Floats) -> Floats:
        return np.clip(facts / (self._scale + 1e-4), -CLIP, CLIP)

    def _weights(self, decision: int) -> Floats:
        near = slice(max(decision - NEIGHBOURS, 0), decision + NEIGHBOURS + 1)
        squares, seen = self._squares[near].sum(0), max(self._seen[near].sum(), 1.0)
        # The penalty of a fact goes with its own size, as if all had variance 1.
        penalty = np.diag(squares) * RIDGE / seen + 1e-3
        weights: Floats = np.linalg.solve(squares + np.diag(penalty), self._products[near].sum(0))
        return weights
