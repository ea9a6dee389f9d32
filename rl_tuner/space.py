"""The search space: which hyperparameters an action moves, on what scale, and how far.

Inside rl-tuner a hyperparameter's place is an *offset*: its distance from the start value on its own
scale (see `Hyperparameter.scale`). Offset 0 is the start value, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose, from_dict, require_range, to_dict
from rl_tuner.errors import ConfigError

Array = NDArray[np.float64]
SCALES = ("log", "logit", "log2")
LARGEST = 1e30
"""Steps, reaches and bounds lie below it: an infinite one would make offsets that are not numbers."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One hyperparameter: its bounds, its scale, and how far a decision may move it.

    Attributes:
        name: The name that PyTorch users know: "lr", "weight_decay", ….
        low: Smallest value, > 0.
        high: Largest value.
        scale: "log" (natural logarithm), "logit" (for probabilities) or "log2" (whole numbers, moved by
            powers of two).
        step: Largest change by one decision, in units of the scale.
        reach: Largest distance from the start value, in units of the scale, however many decisions.
        choices: What a discrete action chooses from, as fractions of `step`; 0 (no change) among them.
        zero: Whether `low` stands for zero: at the low end the value is exactly 0.0, and a start value of
            0.0 sits there.
    """

    name: str
    low: float
    high: float
    scale: str
    step: float
    reach: float
    choices: tuple[float, ...] = (-1.0, 0.0, 1.0)
    zero: bool = False

    def __post_init__(self) -> None:
        choose(f"scale of {self.name}", self.scale, SCALES)
        whole = self.scale == "log2"
        require_range(f"{self.name}.low", self.low, 1 if whole else 0, above=not whole)
        require_range(
            f"{self.name}.high",
            self.high,
            self.low,
            1 - 1e-9 if self.scale == "logit" else LARGEST,
            above=True,
        )
        require_range(f"{self.name}.step", self.step, 0, LARGEST, above=True)
        require_range(f"{self.name}.reach", self.reach, self.step, LARGEST)
        if not isinstance(self.choices, tuple) or not all(isinstance(c, Real) for c in self.choices):
            raise ConfigError(f"{self.name}.choices must be numbers, got {self.choices!r}")
        if 0.0 not in self.choices or len(set(self.choices)) != len(self.choices):
            raise ConfigError(f"{self.name}.choices must be distinct and hold 0 (no change): {self.choices}")
        if any(not -1 <= c <= 1 for c in self.choices):
            raise ConfigError(f"{self.name}.choices are fractions of step in [-1, 1], got {self.choices}")

    def coordinate(self, value: float) -> float:
        """The value on the hyperparameter's scale.

        Raises:
            ConfigError: The value lies outside of what the scale can hold.
        """
        if self.zero and 0 <= value < self.low:
            value = self.low
        limit = 1.0 if self.scale == "logit" else np.inf
        if not 0 < value < limit:
            least = "at least 0" if self.zero else "above 0"
            raise ConfigError(f"{self.name} must be {least} and below {limit:g}, got {value!r}")
        if self.scale == "logit":
            return float(np.log(value) - np.log1p(-value))
        return float(np.log2(value) if self.scale == "log2" else np.log(value))

    def value(self, coordinate: Array) -> Array:
        """The inverse of `coordinate`, element by element; shape kept."""
        if self.scale == "log2":
            return np.rint(np.exp2(coordinate))
        value = np.exp(coordinate) if self.scale == "log" else 1 / (1 + np.exp(-coordinate))
        if self.zero:
            # A hair's breadth above `low`: an offset that was clipped there must read as zero.
            return np.where(value <= self.low * (1 + 1e-9), 0.0, value)
        return np.asarray(value)


LR = Hyperparameter(
    "lr", 1e-7, 10.0, "log", step=np.log(10) / 2, reach=3 * np.log(10), choices=(-1.0, -0.25, 0.0, 0.25, 1.0)
)
BATCH_SIZE = Hyperparameter("batch_size", 8, 1024, "log2", step=1.0, reach=4.0)
WEIGHT_DECAY = Hyperparameter(
    "weight_decay", 1e-6, 0.3, "log", step=np.log(10) / 2, reach=4 * np.log(10), zero=True
)
DROPOUT = Hyperparameter("dropout", 0.01, 0.8, "logit", step=1.0, reach=6.0, zero=True)
MOMENTUM = Hyperparameter("momentum", 0.1, 0.99, "logit", step=0.5, reach=4.0, zero=True)
L1 = Hyperparameter("l1", 1e-6, 0.3, "log", step=np.log(10) / 2, reach=4 * np.log(10), zero=True)
L2 = Hyperparameter("l2", 1e-6, 0.3, "log", step=np.log(10) / 2, reach=4 * np.log(10), zero=True)
LABEL_SMOOTHING = Hyperparameter("label_smoothing", 0.001, 0.5, "logit", step=1.0, reach=6.0, zero=True)
MAX_GRAD_NORM = Hyperparameter("max_grad_norm", 0.01, 100.0, "log", step=np.log(10) / 2, reach=3 * np.log(10))

HYPERPARAMETERS: dict[str, Hyperparameter] = {
    h.name: h
    for h in (
        LR, BATCH_SIZE, WEIGHT_DECAY, DROPOUT, MOMENTUM, L1, L2, LABEL_SMOOTHING, MAX_GRAD_NORM,
    )
}  # fmt: skip
"""All that a search space may hold, by name."""
STANDARD: tuple[str, ...] = tuple(h.name for h in (LR, BATCH_SIZE, WEIGHT_DECAY, DROPOUT, MOMENTUM))
"""Names of the standard search space; policy files depend on them and on their order."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A job's start values, and how far from them its hyperparameters may go.

    Attributes:
        start: Start values, shape (D,) in the space's order; NaN where the job lacks the hyperparameter.
        coordinate: The start values on their scales, shape (D,); 0 where lacking.
        low: Smallest offset, <= 0, shape (D,).
        high: Largest offset, >= 0, shape (D,).
        available: Which hyperparameters the job has, bool, shape (D,).
        usual: Offset at which a hyperparameter has the value that is usual for the job's optimizer, shape
            (D,); NaN where none is known.
    """

    start: Array
    coordinate: Array
    low: Array
    high: Array
    available: NDArray[np.bool_]
    usual: Array


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The hyperparameters that an action moves, in a fixed order.

    Args:
        hyperparameters: At least one, with distinct names.
    """

    hyperparameters: tuple[Hyperparameter, ...]
    steps: Array = field(init=False, repr=False, compare=False)
    reaches: Array = field(init=False, repr=False, compare=False)
    _lows: Array = field(init=False, repr=False, compare=False)
    _highs: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [h.name for h in self.hyperparameters]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"a search space needs at least one hyperparameter, each once; got {names}")
        object.__setattr__(self, "steps", np.array([h.step for h in self.hyperparameters]))
        object.__setattr__(self, "reaches", np.array([h.reach for h in self.hyperparameters]))
        object.__setattr__(self, "_lows", np.array([h.coordinate(h.low) for h in self.hyperparameters]))
        object.__setattr__(self, "_highs", np.array([h.coordinate(h.high) for h in self.hyperparameters]))

    @property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters' names, in order."""
        return tuple(h.name for h in self.hyperparameters)

    def __len__(self) -> int:
        return len(self.hyperparameters)

    def anchor(
        self,
        start: Mapping[str, float | None],
        limits: Mapping[str, float] | None = None,
        usual: Mapping[str, float] | None = None,
    ) -> Anchor:
        """Fixes the start values that offsets are counted from.

        A start value outside of the bounds widens them to itself: a user's own setting is never refused
        for being unusual.

        Args:
            start: A value for each name the job has; None or absent for one it lacks.
            limits: Upper bounds of this job, where they are below the space's own: a batch is no larger
                than the dataset.
            usual: Values that are usual for the job's optimizer, where any are known; NaN is unknown, too.

        Raises:
            ConfigError: A value that its scale cannot hold.
        """
        n = len(self)
        values, coordinate, low, high = np.full(n, np.nan), np.zeros(n), np.zeros(n), np.zeros(n)
        places = np.full(n, np.nan)
        for i, h in enumerate(self.hyperparameters):
            value = start.get(h.name)
            if value is None:
                continue
            values[i], coordinate[i] = value, h.coordinate(value)
            highest = h.coordinate(limits[h.name]) if limits and h.name in limits else self._highs[i]
            low[i] = min(max(self._lows[i] - coordinate[i], -h.reach), 0.0)
            high[i] = max(min(highest - coordinate[i], self._highs[i] - coordinate[i], h.reach), 0.0)
            if usual and not np.isnan(usual.get(h.name, np.nan)):
                places[i] = h.coordinate(usual[h.name]) - coordinate[i]
        return Anchor(values, coordinate, low, high, ~np.isnan(values), places)

    def array(self, anchor: Anchor, offset: Array) -> Array:
        """The hyperparameters' values at offsets of shape (…, D), in that shape; NaN where lacking.

        Offset 0 gives the start value bit for bit.
        """
        coordinate = anchor.coordinate + offset
        values = np.empty(coordinate.shape)
        with np.errstate(over="ignore"):  # a start value near the largest number, which stays as it is
            for i, h in enumerate(self.hyperparameters):
                values[..., i] = h.value(coordinate[..., i])
        return np.where((offset == 0) | ~anchor.available, anchor.start, values)

    def values(self, anchor: Anchor, offset: Array) -> dict[str, float]:
        """The hyperparameters' values at an offset of shape (D,) by name, lacking ones left out.

        Offset 0 gives the start value bit for bit.
        """
        named = zip(self.names, self.array(anchor, offset).tolist(), anchor.available.tolist(), strict=True)
        return {name: value for name, value, available in named if available}

    def position(self, anchor: Anchor, offset: Array) -> Array:
        """Where an offset lies between the bounds: -1 at `low`, 1 at `high`; 0 where lacking."""
        place = 2 * (anchor.coordinate + offset - self._lows) / (self._highs - self._lows) - 1
        return np.where(anchor.available, np.minimum(np.maximum(place, -1.0), 1.0), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain JSON-able types."""
        return {"hyperparameters": [to_dict(h) for h in self.hyperparameters]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: A key is unknown or missing, or a value out of range.
        """
        if set(data) != {"hyperparameters"} or not isinstance(data["hyperparameters"], list):
            raise ConfigError(
                f"a search space holds a list 'hyperparameters' and nothing else, got {list(data)}"
            )
        return cls(tuple(from_dict(Hyperparameter, h) for h in data["hyperparameters"]))


def search_space(names: Sequence[str] | None = None) -> SearchSpace:
    """The standard search space, or one of the named hyperparameters.

    Args:
        names: Any of `HYPERPARAMETERS`; None for the five of `STANDARD`: "lr", "batch_size", "weight_decay",
            "dropout", "momentum" (β1 for Adam and its likes). The others are "l1" and "l2" (penalties on the
            training loss), "label_smoothing" and "max_grad_norm" (gradient clipping).

    Raises:
        ConfigError: A name is unknown, repeated, or none is given.
    """
    if names is None:
        names = STANDARD
    if isinstance(names, str):
        raise ConfigError(f"hyperparameters must be a sequence of names, got the string {names!r}")
    return SearchSpace(tuple(HYPERPARAMETERS[choose("hyperparameter", n, HYPERPARAMETERS)] for n in names))
