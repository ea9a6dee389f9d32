"""What a tabular agent lives through: one step, and an episode under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl_tuner.agents.factored import Choices


class Transition(NamedTuple):
    """One step in the environment.

    Attributes:
        observation: Shape (F,).
        choices: What was done, D choice numbers.
        reward: What it gave.
        following: The next observation, shape (F,).
        next_choices: What is done there; None after a terminal step, where there is nothing to bootstrap
            from.
    """

    observation: NDArray[np.float64]
    choices: Choices
    reward: float
    following: NDArray[np.float64]
    next_choices: Choices | None


@dataclass(slots=True)
class RunningEpisode:
    """An episode under way, in one environment or in one slot of many.

    Attributes:
        here: The present observation, shape (F,).
        choices: What is done there next.
        total: Sum of the rewards so far.
        length: Steps so far.
        errors: Sum of the absolute temporal-difference errors so far.
        epsilon: Exploration at the last step.
    """

    here: NDArray[np.float64]
    choices: Choices
    total: float = 0.0
    length: int = 0
    errors: float = 0.0
    epsilon: float = 0.0

    @property
    def td_error(self) -> float:
        """The mean absolute temporal-difference error of its steps."""
        return self.errors / self.length


def flat(observation: Any) -> NDArray[np.float64]:
    """An observation as a vector of shape (F,); a copy, for an environment may use its arrays anew."""
    return np.array(observation, dtype=np.float64).reshape(-1)
