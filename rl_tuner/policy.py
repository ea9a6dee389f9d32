"""What a policy is: observation → action, with a memory that can be reset and carried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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


class LearnedPolicy(Policy):
    """A policy that was learned: it has a name, features it reads by name, and a provenance.

    Args:
        space: The hyperparameters it moves, D of them.
        kind: How it acts.
        config: How it was trained and wants to be run.
        feature_names: The features it reads, in order.
        provenance: Where it comes from, JSON-able: suite, seeds, steps, versions, scores.

    Raises:
        PolicyError: A feature is not one of this version's.
    """

    def __init__(
        self,
        space: SearchSpace,
        kind: str,
        config: CourseConfig,
        feature_names: Sequence[str],
        provenance: Mapping[str, Any],
    ) -> None:
        super().__init__(space, kind, config)
        known = self.feature_names
        foreign = [name for name in feature_names if name not in known]
        if foreign:
            raise PolicyError(
                f"the policy reads the feature {foreign[0]!r}, which this rl-tuner does not compute"
            )
        self.feature_names = tuple(feature_names)
        self.provenance = dict(provenance)
        self._columns = np.array([known.index(name) for name in feature_names], dtype=np.int64)

    @property
    def name(self) -> str:
        """The name in the provenance, or the kind of policy."""
        return str(self.provenance.get("name", type(self).__name__))

    def read(self, observation: NDArray[Any]) -> NDArray[Any]:
        """What the policy reads of observations of shape (…, F): `feature_names`, the last axis."""
        read: NDArray[Any] = np.asarray(observation)[..., self._columns]
        return read
