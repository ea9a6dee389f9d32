"""Which of an environment's features an agent's networks read, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.agents.agent import TuningSpaces
from rl_tuner.config import choose
from rl_tuner.errors import ConfigError


class FeatureSelection:
    """Some of an environment's features, or all.

    Args:
        tuning: What the environment says of itself; None if it names no features.
        features: The names read, in any order; None for all.
        seen: F, how many features the environment's observations have.

    Attributes:
        names: The names read, in the environment's order; None for all.
        width: How many features are read.

    Raises:
        ConfigError: A name is unknown or repeated, or there is none; or the environment names no features.
    """

    def __init__(self, tuning: TuningSpaces | None, features: Sequence[str] | None, seen: int) -> None:
        self._seen = self.width = seen
        self.names: tuple[str, ...] | None = None
        self._columns: NDArray[np.int64] | None = None
        if features is None:
            return
        if tuning is None:
            raise ConfigError(
                "features=… needs an environment that names its features, such as TuningEnv, and no wrapper "
                "that changes its observations or actions"
            )
        known = tuning.feature_names
        _check(features, known)
        columns = sorted(known.index(name) for name in features)
        if len(columns) < len(known):
            self.names = tuple(known[column] for column in columns)
            self._columns, self.width = np.array(columns, dtype=np.int64), len(columns)

    def of(self, observations: NDArray[Any], memory: int = 1) -> NDArray[Any]:
        """What is read of observations; they themselves where that is all.

        Args:
            observations: Shape (…, memory * F): each the last `memory` ones, oldest first.
            memory: See above.

        Returns:
            Shape (…, memory * width).

        Raises:
            ConfigError: They have another shape.
        """
        if observations.shape[-1:] != (memory * self._seen,):
            raise ConfigError(
                f"act() reads {memory} observations in one, shape ({memory * self._seen},), got "
                f"{observations.shape}"
            )
        if self._columns is None:
            return observations
        batch = observations.shape[:-1]
        read = np.take(observations.reshape(*batch, memory, -1), self._columns, axis=-1)  # contiguous
        return read.reshape(*batch, -1)

    def require_same(self, state: Mapping[str, Any]) -> None:
        """Refuses the state of an agent that reads other features: its weights would fit, and mean others.

        Args:
            state: Its "features" are the names, a list, or None (as in states before there was a choice).

        Raises:
            ConfigError: They are not these.
        """
        theirs = state.get("features")
        if theirs != self.state:
            raise ConfigError(
                f"the state is of an agent that reads {_words(theirs)}, this one reads {_words(self.state)}"
            )

    @property
    def state(self) -> list[str] | None:
        """The names as `require_same` wants them."""
        return None if self.names is None else list(self.names)


def _check(features: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(features, str) or not features:
        raise ConfigError(f"features must be names of features, at least one, got {features!r}")
    for name in features:
        choose("feature", name, known)
        if list(features).count(name) > 1:
            raise ConfigError(f"features must be different ones, got {name!r} more than once")


def _words(names: Sequence[str] | None) -> str:
    return "all features" if names is None else f"the features {', '.join(names)}"
