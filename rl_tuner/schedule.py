"""What a schedule is: a policy whose learning rate is given by a formula, not learned.

Schedules act "anchored": the action says outright how far a hyperparameter stands from its start value. They
run as anybody runs them: a hundred even decisions, so that a smooth curve is smooth, and no rails. But they
read where the coming interval lies off the observation, so that any number and spacing of decisions will do.

Those that know only progress are schedulers of PyTorch's: one drives a stand-in optimizer at learning rate 1
over a fine grid of the budget, and the table of learning rates that comes out is evaluated at the middle of
the coming interval.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_range
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import ConfigError
from rl_tuner.policy import Policy
from rl_tuner.space import search_space

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

DECISIONS = 100
GRID = 4200
"""Steps of a table. The middles of 20 and of 100 even intervals lie on it, and the ends of 1/7 and 3/7."""


class Schedule(Policy):
    """A policy over the learning rate that is given by a formula, not learned.

    Args:
        hyperparameters: What it moves, the learning rate first.
        patience: Decisions without a new best loss after which the job stops early; None for never.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    def __init__(self, hyperparameters: Sequence[str] = ("lr",), patience: int | None = None) -> None:
        config = CourseConfig(DECISIONS, "uniform", rails=False, patience=patience)
        super().__init__(search_space(hyperparameters), "anchored", config)
        self._column = {name: i for i, name in enumerate(self.feature_names)}

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The learning rate's place, shape (1,), as a fraction of its reach in log units."""
        return np.array([self.lr_fraction(self.factor(observation))])

    @abstractmethod
    def factor(self, observation: NDArray[np.float32]) -> float:
        """The learning rate over its start value for the coming interval, >= 0."""

    def lr_fraction(self, factor: float) -> float:
        """A factor of the learning rate, >= 0, as an action: what is below its reach counts as its end."""
        reach = self.space.hyperparameters[0].reach
        return math.log(max(factor, math.exp(-reach))) / reach

    def feature(self, observation: NDArray[np.float32], name: str) -> float:
        """One feature of an observation over this schedule's search space."""
        return float(observation[self._column[name]])

    def coming(self, observation: NDArray[np.float32]) -> float:
        """The coming interval's share of the budget, > 0."""
        return float(10.0 ** (self.feature(observation, "next_interval") - 1))

    def middle(self, observation: NDArray[np.float32]) -> float:
        """Where the middle of the coming interval lies, as a share of the budget in [0, 1]."""
        return min(max(self.feature(observation, "progress") + self.coming(observation) / 2, 0.0), 1.0)


class TorchSchedule(Schedule):
    """A scheduler of torch's, read off as a table; subclasses say which one.

    Attributes:
        jumps: Whether the factor jumps: between two steps of the grid it then holds, and is not interpolated.
    """

    jumps = False

    @abstractmethod
    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """Torch's scheduler, to be stepped `GRID` times over the budget."""

    @cached_property
    def factors(self) -> NDArray[np.float64]:
        """The learning rate over its start value at each step of the grid, shape (GRID + 1,)."""
        optimizer = stand_in()
        scheduler = self.scheduler(optimizer)
        optimizer.step()  # torch warns if only its scheduler is stepped
        found = [optimizer.param_groups[0]["lr"]]
        for _ in range(GRID):
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return np.array(found, np.float64)

    def at(self, progress: float) -> float:
        """The factor where a share in [0, 1] of the budget is spent."""
        step = progress * GRID
        if self.jumps:  # an observation is of single precision: what is a hair below a step is on it
            return float(self.factors[min(int(step + 1e-2), GRID)])
        return float(np.interp(step, np.arange(GRID + 1), self.factors))

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Torch's factor at the middle of the coming interval."""
        return self.at(self.middle(observation))

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchSchedule:
        """Itself: it has no memory, and each copy would read off its own table."""
        return self


def stand_in() -> Optimizer:
    """An optimizer at learning rate 1, which a scheduler of torch's turns into its factor."""
    import torch

    return torch.optim.SGD([torch.zeros(1)], lr=1.0)


def require_factor(what: str, value: float, *, zero: bool = False) -> float:
    """Returns a factor of the learning rate that lies in [1e-6, 1), or in [0, 1) with `zero`.

    Raises:
        ConfigError: It does not.
    """
    return require_range(what, value, 0 if zero else 1e-6, 1 - 1e-9)


def require_whole(what: str, value: float, low: int, high: int) -> int:
    """Returns a whole number in [low, high] as an int: 3.0 will do, as JSON or a sampler may give it.

    Raises:
        ConfigError: It is no such number.
    """
    require_range(what, value, low, high)
    if value % 1:
        raise ConfigError(f"{what} must be a whole number, got {value!r}")
    return int(value)
