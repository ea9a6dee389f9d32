"""The schedules there are, by name, and those that are no mere table of factors over progress."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.schedule import Schedule, require_factor, require_whole, stand_in
from rl_tuner.torch_schedules import (
    Cosine,
    CosineRestarts,
    Exponential,
    Linear,
    OneCycle,
    Step,
    WarmupStableDecay,
)

__all__ = [
    "SCHEDULES",
    "SCHEDULE_OPTIONS",
    "BatchGrowth",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "EarlyStopping",
    "Exponential",
    "Linear",
    "OneCycle",
    "OptionRange",
    "Plateau",
    "Schedule",
    "Step",
    "WarmupStableDecay",
    "make_schedule",
]


class Constant(Schedule):
    """The start value throughout."""

    name = "constant"

    def __init__(self) -> None:
        super().__init__()

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Always 1."""
        return 1.0


class EarlyStopping(Schedule):
    """The start value until the validation loss no longer falls; the job then ends before its budget.

    Goodfellow, Bengio & Courville, 2016, "Deep Learning", algorithm 7.1. Who runs the job stops it (see
    `rl_tuner.course_config.CourseConfig.patience`); where trials always run to their end, as in a search,
    this is the constant schedule.

    Args:
        patience: Decisions, of a hundred, without a new best loss; 1 to 100.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "early-stopping"

    def __init__(self, patience: int = 10) -> None:
        super().__init__(patience=require_whole("patience", patience, 1, 100))

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Always 1."""
        return 1.0


class Plateau(Schedule):
    """Divides the learning rate by ten when the validation loss no longer falls.

    Torch's `ReduceLROnPlateau`, with its defaults at a hundred decisions. A patience in shares of the budget
    means the same at any number of them; it is counted in intervals as long as the coming one.

    Args:
        patience: Share of the budget without improvement before the learning rate falls, in (0, 1].
        reduction: What it is multiplied by then, in [1e-6, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "plateau"

    def __init__(self, patience: float = 0.1, reduction: float = 0.1) -> None:
        super().__init__()
        self._patience = require_range("patience", patience, 0, 1, above=True)
        self._reduction = require_factor("reduction", reduction)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Starts anew at factor 1."""
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        self._optimizer = stand_in()
        self._scheduler = ReduceLROnPlateau(self._optimizer, factor=self._reduction)

    def factor(self, observation: NDArray[np.float32]) -> float:
        """Torch's factor after it has seen the loss, here relative to the loss before training."""
        self._scheduler.patience = round(self._patience / self.coming(observation))
        self._scheduler.step(math.exp(self.feature(observation, "val_vs_first")))
        return float(self._optimizer.param_groups[0]["lr"])

    def get_state(self) -> dict[str, Any]:
        """The scheduler's counters and the factor."""
        return {**self._scheduler.state_dict(), "factor_now": self._optimizer.param_groups[0]["lr"]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave."""
        counters = dict(state)
        self._optimizer.param_groups[0]["lr"] = counters.pop("factor_now")
        self._scheduler.load_state_dict(counters)


class BatchGrowth(Schedule):
    """Larger batches where step would have a lower learning rate.

    Smith et al., 2018, "Don't Decay the Learning Rate, Increase the Batch Size". The batch size grows by as
    many powers of two as the cut holds; the learning rate is cut by what is left, and by all of it where the
    batch can grow no more. So learning rate over batch size falls as the step schedule's would, but for one
    interval after a drop whose batch exceeds the dataset: how large that is shows only then.

    Args:
        first: See `Step`.
        drops: See `Step`.
        reduction: See `Step`.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "batch-growth"

    def __init__(self, first: float = 0.5, drops: int = 2, reduction: float = 0.1) -> None:
        super().__init__(["lr", "batch_size"])
        self._step = Step(first, drops, reduction)

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The places of learning rate and batch size, shape (2,), as fractions of their reach."""
        doublings = self._doublings(observation) / self.space.hyperparameters[1].reach
        return np.array([self.lr_fraction(self.factor(observation)), min(doublings, 1.0)])

    def factor(self, observation: NDArray[np.float32]) -> float:
        """What is left for the learning rate: the step schedule's factor times the batch size's."""
        doublings = min(self._doublings(observation), self._room(observation))
        return self._step.at(self.middle(observation)) * math.exp2(doublings)

    def _doublings(self, observation: NDArray[np.float32]) -> int:
        """How many doublings of the batch size the step schedule's cut holds; more of them than may fit."""
        return math.floor(-math.log2(self._step.at(self.middle(observation))) + 1e-9)

    def _room(self, observation: NDArray[np.float32]) -> float:
        """How many doublings from its start value the batch size can grow, as far as one can tell."""
        h = self.space.hyperparameters[1]
        if not self.feature(observation, "batch_size_available"):
            return 0.0
        asked = self.feature(observation, "batch_size_last_action") * h.reach
        got = self.feature(observation, "batch_size_vs_start") * h.reach
        if asked > got + 1e-3:  # the job's own limit, which nothing else tells of
            return got
        low, high = h.coordinate(h.low), h.coordinate(h.high)
        share = (self.feature(observation, "batch_size_in_bounds") + 1) / 2
        room = (1 - share) * (high - low) + got
        return min(round(room, 5), h.reach)  # an observation is of single precision


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "cosine-restarts": CosineRestarts,
    "onecycle": OneCycle,
    "wsd": WarmupStableDecay,
    "linear": Linear,
    "plateau": Plateau,
    "early-stopping": EarlyStopping,
    "batch-growth": BatchGrowth,
}


@dataclass(frozen=True, slots=True)
class OptionRange:
    """Where a search may look for a schedule's own parameter.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether to search on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


_FLOOR = OptionRange(1e-3, 0.3, log=True)
_REDUCTION = OptionRange(0.05, 0.5, log=True)
_FIRST = OptionRange(0.3, 0.7)

SCHEDULE_OPTIONS: dict[str, dict[str, OptionRange]] = {
    "constant": {},
    "step": {"first": _FIRST, "reduction": _REDUCTION},
    "exponential": {"floor": _FLOOR},
    "cosine": {"floor": _FLOOR},
    "cosine-restarts": {"floor": _FLOOR},
    "onecycle": {"peak": OptionRange(0.1, 0.5), "initial": OptionRange(0.01, 0.3, log=True)},
    "wsd": {"warmup": OptionRange(0.01, 0.2), "decay": OptionRange(0.1, 0.5)},
    "linear": {"floor": _FLOOR},
    "plateau": {"patience": OptionRange(0.03, 0.3, log=True), "reduction": _REDUCTION},
    "early-stopping": {},
    "batch-growth": {"first": _FIRST, "reduction": _REDUCTION},
}
"""Constructor arguments that a search may vary, by the schedule's name; not all that there are."""


def make_schedule(name: str, options: Mapping[str, float] | None = None) -> Schedule:
    """The schedule of that name.

    Args:
        name: One of `SCHEDULES`.
        options: Its own parameters: its constructor's arguments, by name.

    Raises:
        ConfigError: The name or an option is unknown, or a value out of range.
    """
    schedule = SCHEDULES[choose("schedule", name, SCHEDULES)]
    known = inspect.signature(schedule).parameters
    for option in options or {}:
        if not known:
            raise ConfigError(f"the schedule {name!r} has no options, got {option!r}")
        choose(f"option of the schedule {name!r}", option, known)
    return schedule(**(options or {}))
