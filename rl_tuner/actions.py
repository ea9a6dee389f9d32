"""The one place where an action becomes hyperparameters, for environments and tuners alike.

An action moves the *offset* (distance from the start value, see `rl_tuner.space`) of each hyperparameter:

- "discrete": `MultiDiscrete`, one choice of a fraction of the hyperparameter's step, 0 among them;
- "continuous": `Box(-1, 1)`, that fraction itself, the batch size's change rounded to whole powers of two;
- "anchored": `Box(-1, 1)`, the offset outright, as a fraction of the reach. Schedules act this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.errors import ConfigError
from rl_tuner.space import Anchor, Array, SearchSpace

if TYPE_CHECKING:
    from gymnasium import spaces

KINDS = ("discrete", "continuous", "anchored")


class ActionMap:
    """Maps actions to offsets in a search space.

    Args:
        space: The hyperparameters moved, D of them.
        kind: "discrete", "continuous" or "anchored".

    Raises:
        ConfigError: The kind is unknown.
    """

    def __init__(self, space: SearchSpace, kind: str) -> None:
        self.space = space
        self.kind = choose("actions", kind, KINDS)
        self.counts = np.array([len(h.choices) for h in space.hyperparameters])
        self._table = np.full((len(space), self.counts.max()), np.nan)
        for row, h in zip(self._table, space.hyperparameters, strict=True):
            row[: len(h.choices)] = h.choices
        self._whole = np.array([h.scale == "log2" for h in space.hyperparameters])
        self._any_whole = bool(self._whole.any())

    @property
    def gym_space(self) -> spaces.Space[Any]:
        """The Gymnasium action space of one job."""
        from gymnasium import spaces

        if self.kind == "discrete":
            return spaces.MultiDiscrete(self.counts)
        return spaces.Box(-1.0, 1.0, (len(self.space),), np.float32)

    def fraction(self, action: NDArray[Any]) -> Array:
        """The action as fractions of step (or of reach, if anchored), in [-1, 1].

        Args:
            action: Shape (…, D): choice numbers, or reals, which are clipped to [-1, 1].

        Raises:
            ConfigError: The shape does not fit, a choice does not exist, or a value is not finite.
        """
        action = np.asarray(action)
        if action.shape[-1:] != (len(self.space),):
            raise ConfigError(
                f"an action over {', '.join(self.space.names)} has {len(self.space)} entries, "
                f"got shape {action.shape}"
            )
        if action.dtype.kind not in "biuf":
            raise ConfigError(f"an action holds numbers, got {action.tolist()}")
        if self.kind == "discrete":
            # NaN fails both comparisons; its remainder would be a warning.
            if not ((action >= 0) & (action < self.counts)).all() or (action % 1 != 0).any():
                raise ConfigError(
                    f"choices are whole numbers from 0 and below {self.counts.tolist()}, "
                    f"got {action.tolist()}"
                )
            return self._table[np.arange(len(self.space)), action.astype(np.int64)]
        if not np.isfinite(action).all():
            raise ConfigError(f"an action must be finite, got {action.tolist()}")
        return np.minimum(np.maximum(action.astype(np.float64), -1.0), 1.0)

    def move(self, anchor: Anchor, offset: Array, action: NDArray[Any]) -> Array:
        """The offsets after an action, within the anchor's limits; 0 where the job lacks one.

        Args:
            anchor: Start values and limits.
            offset: Offsets before, shape (…, D).
            action: Shape (…, D).
        """
        return self.shift(anchor, offset, self.fraction(action))

    def shift(self, anchor: Anchor, offset: Array, fraction: Array) -> Array:
        """`move` by an action that is already given as fractions of step (or of reach, if anchored)."""
        change = fraction * (self.space.reaches if self.kind == "anchored" else self.space.steps)
        # The change is rounded, not the offset: at a bound off the grid "no change" must not move.
        if self._any_whole:
            change = np.where(self._whole, np.rint(change), change)
        return self.clamp(anchor, change if self.kind == "anchored" else offset + change)

    def cut(self, anchor: Anchor, offset: Array, name: str, factor: float | Array) -> Array:
        """The offsets after one hyperparameter on a log scale is multiplied by `factor`, within limits.

        `factor` is one number, or an array of shape (…), one for each row of `offset`.
        """
        moved = offset.copy()
        if name in self.space.names:
            moved[..., self.space.names.index(name)] += np.log(factor)
        return self.clamp(anchor, moved)

    @staticmethod
    def clamp(anchor: Anchor, offset: Array) -> Array:
        """Offsets within the anchor's limits, which are 0 where the job lacks the hyperparameter."""
        return np.minimum(np.maximum(offset, anchor.low), anchor.high)
