"""How the members of a population vary: where their hyperparameters begin, and how they move.

A place is an array of coordinates, shape (D,): each hyperparameter of the search space on its own scale (see
`rl_tuner.space`). Those that are not varied stay at the center.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rl_tuner.errors import ConfigError
from rl_tuner.search_dimensions import Dimension
from rl_tuner.settings import Setting
from rl_tuner.space import Array, Hyperparameter, SearchSpace

FACTORS = (0.8, 1.25)
"""What a hyperparameter (of a probability: its odds) is multiplied by."""
RESAMPLED = 0.25
"""Chance of each hyperparameter to be drawn anew instead."""


@dataclass(frozen=True, slots=True)
class Explorer:
    """Draws places and changes them, within the dimensions' ranges.

    Args:
        space: D hyperparameters.
        dimensions: Those that vary, each a name of the space.
        rng: Decides.

    Attributes:
        varied: Numbers of those that vary, in the order of `dimensions`.
        low: The smallest place, shape (D,).
        high: The largest place.
        center: The middle; a batch size is a whole number there.

    Raises:
        ConfigError: A dimension is not in the space.
    """

    space: SearchSpace
    dimensions: Sequence[Dimension]
    rng: np.random.Generator
    varied: tuple[int, ...] = field(init=False)
    low: Array = field(init=False)
    high: Array = field(init=False)
    center: Array = field(init=False)

    def __post_init__(self) -> None:
        names = self.space.names
        foreign = [d.name for d in self.dimensions if d.name not in names]
        if foreign:
            raise ConfigError(f"pbt changes {', '.join(names)} while they train, not {', '.join(foreign)}")
        low, high, center = np.zeros((3, len(names)))
        varied = tuple(names.index(d.name) for d in self.dimensions)
        for i, d in zip(varied, self.dimensions, strict=True):
            h = self.space.hyperparameters[i]
            low[i], high[i] = h.coordinate(d.low), h.coordinate(d.high)
            center[i] = h.coordinate(float(h.value(np.array((low[i] + high[i]) / 2))))
        for name, value in (("varied", varied), ("low", low), ("high", high), ("center", center)):
            object.__setattr__(self, name, value)

    def draw(self) -> Array:
        """A place drawn at random, as random search draws a setting."""
        place = self.center.copy()
        for i, dimension in zip(self.varied, self.dimensions, strict=True):
            place[i] = self.space.hyperparameters[i].coordinate(_draw(dimension, self.rng))
        return place

    def explore(self, place: Array) -> Array:
        """A place near this one; each hyperparameter is drawn anew with chance `RESAMPLED`.

        Others are multiplied by one of `FACTORS`; a batch size is halved, kept or doubled.
        """
        moved, fresh = place.copy(), self.draw()
        for i in self.varied:
            anew, step = self.rng.random() < RESAMPLED, self._step(self.space.hyperparameters[i])
            moved[i] = fresh[i] if anew else min(max(moved[i] + step, self.low[i]), self.high[i])
        return moved

    def setting(self, place: Array) -> Setting:
        """The static setting of a place: what varies, by name."""
        h = self.space.hyperparameters
        return Setting({h[i].name: float(h[i].value(place[i : i + 1])[0]) for i in self.varied})

    def _step(self, h: Hyperparameter) -> float:
        if h.scale == "log2":
            return float(self.rng.integers(-1, 2))
        return float(np.log(FACTORS[int(self.rng.integers(len(FACTORS)))]))


def _draw(dimension: Dimension, rng: np.random.Generator) -> float:
    """A value drawn from a dimension's range, spread as the dimension says."""
    from optuna.trial import FixedTrial

    space = dimension.distribution
    drawn: float
    if dimension.scale == "log2":
        drawn = int(rng.integers(int(space.low), int(space.high) + 1))
    elif space.log:
        drawn = float(np.exp(rng.uniform(np.log(space.low), np.log(space.high))))
    else:
        drawn = float(rng.uniform(space.low, space.high))
    return dimension.suggest(FixedTrial({dimension.parameter: drawn}))
