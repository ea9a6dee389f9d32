"""Job families: the distributions that a suite's jobs are drawn from."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from numbers import Integral
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from rl_tuner.config import choose, require_range
from rl_tuner.envs.architectures import ROWS, check_architecture
from rl_tuner.envs.datasets import kind_of
from rl_tuner.envs.difficulty import Difficulty
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import MOST_BUDGET, OPTIMIZERS
from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.errors import ConfigError
from rl_tuner.space import HYPERPARAMETERS, LARGEST, STANDARD
from rl_tuner.usual_lr import usual_lr

T = TypeVar("T")
SANE_LR: Mapping[str, float] = MappingProxyType(
    {name: usual_lr(cls, options.get("momentum", 0.0)) for name, (cls, options) in OPTIMIZERS.items()}
)
"""The usual learning rate, by optimizer; start values are drawn around it."""
DATA_SEEDS = (0, 8)
"""How many ways the samples of a real data set are split, unless a family says otherwise."""
START: Mapping[str, tuple[float | None, ...]] = {
    "batch_size": (32, 64, 128),
    "weight_decay": (0.0, 1e-4, 1e-2),
    "momentum": (0.8, 0.9, 0.95),
    "dropout": (None, 0.0, 0.1, 0.3),
    **dict.fromkeys(REGULARIZERS, (None,)),
}
"""Start values that are drawn from, evenly, unless a family says otherwise; None: the job lacks it."""
OPTIONAL = ("dropout", *REGULARIZERS)
MOST_PRETRAINING, MOST_DECADES, MOST_SEED, MOST_WEIGHT = 0.9, 10, 2**32, 1e9
MOVING = ("momentum", "nesterov", "adam", "adamw")
"""Optimizers whose momentum starts at a drawn value; that of "sgd" and "rmsprop" starts at 0, as torch's."""


@dataclass(frozen=True, slots=True)
class JobFamily:
    """A distribution over jobs. Of what has several values one is drawn, evenly.

    Attributes:
        datasets: See `JobSpec.dataset`; architectures must fit the kinds of all of them.
        architectures: See `JobSpec.architecture`.
        optimizers: See `JobSpec.optimizer`.
        budget: Smallest and largest budget in samples, drawn log-uniformly.
        lr_decades: The start lr is a sane one times 10 to a power drawn evenly from this range.
        start: Start values by hyperparameter, where they are not those of `START`; None for a job that lacks
            it. Momentum is for the optimizers in `MOVING`.
        data: Values by a field's name of `rl_tuner.envs.difficulty.Difficulty`; `samples` 0 for all.
        pretraining: See `JobSpec.pretraining`.
        weights: See `JobSpec.weights`.
        fixed_share: Chance of each hyperparameter but the lr to be fixed at its start value, so that a
            policy learns to do without (a user's loop rarely offers all).
        data_seeds: First one, and the one behind the last.
        name: The family's name.
        unseen: See `JobSpec.unseen`.
        weight: How often the family is drawn from a mixture, against others.

    Raises:
        ConfigError: A name is unknown, something does not fit, or a number is out of range.
    """

    datasets: tuple[str, ...]
    architectures: tuple[str, ...]
    optimizers: tuple[str, ...] = ("adam", "momentum")
    budget: tuple[int, int] = (4_000, 12_000)
    lr_decades: tuple[float, float] = (-2.0, 2.0)
    start: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    data: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pretraining: tuple[float, ...] = (0.0,)
    weights: tuple[str, ...] = ("",)
    fixed_share: float = 0.2
    data_seeds: tuple[int, int] = DATA_SEEDS
    name: str = ""
    unseen: tuple[str, ...] = ()
    weight: float = 1.0

    def sample(self, rng: np.random.Generator) -> JobSpec:
        """Draws a job."""
        optimizer = _draw(self.optimizers, rng)
        dataset, architecture = _draw(self.datasets, rng), _draw(self.architectures, rng)
        budget = int(np.exp(rng.uniform(*np.log(self.budget))))
        data_seed = int(rng.integers(*self.data_seeds))
        lr = float(SANE_LR[optimizer] * 10 ** rng.uniform(*self.lr_decades))
        start = {name: _draw(values, rng) for name, values in {**START, **self.start}.items()}
        start["momentum"] = _momentum(optimizer, start["momentum"])
        own = [name for name in STANDARD if name != "lr"]
        own += [name for name in REGULARIZERS if start.get(name) is not None]
        return JobSpec(
            dataset=dataset,
            architecture=architecture,
            optimizer=optimizer,
            budget=budget,
            data_seed=data_seed,
            lr=lr,
            fixed=tuple(name for name in own if rng.random() < self.fixed_share),
            family=self.name,
            unseen=self.unseen,
            pretraining=_draw(self.pretraining, rng),
            weights=_draw(self.weights, rng),
            **{name: _draw(values, rng) for name, values in self.data.items()},  # type: ignore[arg-type]
            **start,  # type: ignore[arg-type]
        )

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError(f"name must be text, got {reprlib.repr(self.name)}")
        for name in ("datasets", "architectures", "optimizers", "weights"):
            for value in _require_values(name, getattr(self, name)):
                if not isinstance(value, str):
                    raise ConfigError(f"{name} must hold names, got {reprlib.repr(value)}")
        kinds = {kind_of(dataset) for dataset in self.datasets}
        for architecture, kind in product(self.architectures, sorted(kinds)):
            check_architecture(architecture, kind)
        for optimizer in self.optimizers:
            choose("optimizer", optimizer, OPTIMIZERS)
        for share in _require_values("pretraining", self.pretraining):
            if require_range("pretraining", share, 0, MOST_PRETRAINING) and not kinds <= {*ROWS}:
                raise ConfigError(f"pretraining is for {', '.join(ROWS)}, not {', '.join(kinds - {*ROWS})}")
        _require_bounds("budget", self.budget, 1, MOST_BUDGET, whole=True)
        _require_bounds("data_seeds", self.data_seeds, 0, MOST_SEED, whole=True, apart=True)
        _require_bounds("lr_decades", self.lr_decades, -MOST_DECADES, MOST_DECADES)
        require_range("fixed_share", self.fixed_share, 0, 1)
        require_range("weight", self.weight, 0, MOST_WEIGHT, above=True)
        self._check_values()

    def _check_values(self) -> None:
        """Sees to it that nothing drawn can be out of range."""
        for name, starts in self.start.items():
            choose("start value", name, START)
            for value in _require_values(f"start.{name}", starts):
                if value is not None:
                    least = 1 if name == "batch_size" else 0
                    HYPERPARAMETERS[name].coordinate(require_range(f"start.{name}", value, least, LARGEST))
                elif name not in OPTIONAL:
                    raise ConfigError(f"start.{name} cannot be none: {', '.join(OPTIONAL)} can")
        for name, values in self.data.items():
            choose("difficulty", name, [f.name for f in fields(Difficulty)])
            for value in _require_values(f"data.{name}", values):
                require_range(f"data.{name}", value, 0, MOST_BUDGET)
                given: dict[str, Any] = {name: value or None if name == "samples" else value}
                Difficulty(**given)
        _require_whole("start.batch_size", self.start.get("batch_size", ()))
        _require_whole("data.samples", self.data.get("samples", ()))


def _momentum(optimizer: str, drawn: float | None) -> float | None:
    if optimizer in MOVING:
        return drawn
    return None if optimizer in ("adagrad", "adadelta") else 0.0


def _require_values(name: str, values: Sequence[T]) -> Sequence[T]:
    if not isinstance(values, tuple) or not values:
        raise ConfigError(f"{name} must be a list with at least one value, got {reprlib.repr(values)}")
    return values


def _require_bounds(
    name: str, bounds: Sequence[float], low: float, high: float, *, whole: bool = False, apart: bool = False
) -> None:
    """Checks a smallest and a largest value, which are two different ones if `apart`."""
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        raise ConfigError(f"{name} must be the smallest and the largest value, got {reprlib.repr(bounds)}")
    first, last = bounds
    require_range(f"the first of {name}", first, low, high)
    require_range(f"the last of {name}", last, first, high, above=apart)
    if whole:
        _require_whole(name, bounds)


def _require_whole(name: str, values: Sequence[float | None]) -> None:
    for value in values:
        if not isinstance(value, Integral):
            raise ConfigError(f"{name} must be whole numbers, got {value!r}")


def _draw(values: Sequence[T], rng: np.random.Generator) -> T:
    """One of the values; the only one without touching the generator."""
    return values[int(rng.integers(len(values)))]
