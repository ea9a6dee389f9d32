"""What a policy is: observation → action, with a memory that can be reset and carried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import PolicyError
from rl_tuner.features import FeatureSet
from rl_tuner.space import SearchSpace


class Policy(ABC):
    """Observation → action. Learned policies and schedules alike.

    Args:
        space: The hyperparameters it moves, D of them.
        kind: How it acts: "discrete", "continuous" or "anchored" (see `rl_tuner.actions`).
        config: How it wants to be run: number and spacing of its decisions, rails.

    Attributes:
        feature_names: What it reads of an observation, in order; all F features unless a subclass says
            otherwise.
    """

    def __init__(self, space: SearchSpace, kind: str, config: CourseConfig) -> None:
        self.space = space
        self.actions = ActionMap(space, kind)
        self.config = config
        self.feature_names: tuple[str, ...] = FeatureSet(space).names

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for tables and plots."""

    @abstractmethod
    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The action, shape (D,), for an observation of shape (F,) over the same search space."""

    def reset(self, seed: int | None = None) -> None:  # noqa: B027 (most policies have nothing to forget)
        """Forgets the episode. `seed` starts the policy's own randomness, where it has any."""

    def get_state(self) -> dict[str, Any]:
        """The policy's memory within an episode; empty if it has none."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues with a memory that `get_state` gave.

        Raises:
            PolicyError: The policy has no memory, but one was given.
        """
        if state:
            raise PolicyError(f"the policy {self.name!r} has no memory, got a state with {', '.join(state)}")
