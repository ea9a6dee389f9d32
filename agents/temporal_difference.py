"""Q-learning and SARSA: what each of the two bootstraps from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl_tuner.agents.factored import Choices
from rl_tuner.agents.tabular import TabularAgent


class QLearning(TabularAgent):
    """Q-learning: bootstraps from the best next choices, whatever is done there.

    Watkins & Dayan, 1992, "Q-learning": ``Q(s, a) += α (r + γ max_b Q(s', b) − Q(s, a))``. For the
    arguments see `TabularAgent`.
    """

    name = "q-learning"

    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:  # noqa: ARG002 (SARSA's)
        """``max_b Q(s', b)``."""
        rows = self.q.rows(following)
        return self.q.value(rows, self.q.greedy(rows))


class Sarsa(TabularAgent):
    """SARSA: bootstraps from the next choices actually made, and so learns the exploring policy's values.

    Rummery & Niranjan, 1994, "On-line Q-learning using connectionist systems":
    ``Q(s, a) += α (r + γ Q(s', a') − Q(s, a))``. For the arguments see `TabularAgent`.
    """

    name = "sarsa"

    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:
        """``Q(s', a')``."""
        return self.q.value(self.q.rows(following), next_choices)
