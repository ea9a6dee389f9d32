"""Schedules: policies that look only at progress (and, on a plateau, at the validation loss).

They act "anchored": the action says outright how far the learning rate stands from its start value. They
run as anybody runs them: a hundred even decisions, so that a smooth curve is smooth, and no rails.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.course import CourseConfig
from rl_tuner.policy import Policy
from rl_tuner.space import search_space

DECISIONS = 100


class Schedule(Policy):
    """A policy over the learning rate that is given by a formula, not learned."""

    def __init__(self) -> None:
        config = CourseConfig(decisions=DECISIONS, intervals="uniform", rails=False)
        super().__init__(search_space(["lr"]), "anchored", config)
        self._column = {name: i for i, name in enumerate(self.feature_names)}

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The learning rate's place, shape (1,), as a fraction of its reach in log units."""
        reach = self.space.hyperparameters[0].reach
        smallest = math.exp(-reach)
        return np.array([math.log(max(self.factor(observation), smallest)) / reach])

    @abstractmethod
    def factor(self, observation: NDArray[np.float32]) -> float:
        """The learning rate over its start value for the coming interval, >= 0."""

    def _feature(self, observation: NDArray[np.float32], name: str) -> float:
        return float(observation[self._column[name]])


class Constant(Schedule):
    """The start value throughout."""

    name = "constant"

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Always 1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine from the start value to (nearly) zero: SGDR without restarts.

    Loshchilov & Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5, at the
    middle of the coming interval.
    """

    name = "cosine"

    def factor(self, observation: NDArray[np.float32]) -> float:
        """``(1 + cos(π progress)) / 2``."""
        middle = self._feature(observation, "progress") + 0.5 / self.config.decisions
        return (1 + math.cos(math.pi * min(middle, 1.0))) / 2


class Plateau(Schedule):
    """`torch.optim.lr_scheduler.ReduceLROnPlateau` with its defaults, on the validation loss.

    Args:
        patience: Decisions without improvement before the learning rate falls.
        reduction: What it is multiplied by then.
    """

    name = "plateau"

    def __init__(self, patience: int = 10, reduction: float = 0.1) -> None:
        super().__init__()
        self._patience, self._reduction = patience, reduction
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Starts anew at factor 1."""
        import torch

        # A stand-in optimizer at learning rate 1: torch's scheduler turns it into the factor.
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, factor=self._reduction, patience=self._patience
        )

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Torch's factor after it has seen the loss, here relative to the loss before training."""
        self._scheduler.step(math.exp(self._feature(observation, "val_vs_first")))
        return float(self._optimizer.param_groups[0]["lr"])

    def get_state(self) -> dict[str, Any]:
        """The scheduler's counters and the factor."""
        return {**self._scheduler.state_dict(), "factor_now": self._optimizer.param_groups[0]["lr"]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave."""
        counters = dict(state)
        self._optimizer.param_groups[0]["lr"] = counters.pop("factor_now")
        self._scheduler.load_state_dict(counters)


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "plateau": Plateau,
}
