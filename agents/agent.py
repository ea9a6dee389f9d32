"""What an agent is: it is given an environment, learns in it, and gives a policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import ConfigError
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.space import SearchSpace


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """What the callback of `Agent.fit` is told at each episode's end.

    Attributes:
        episode: Number of the episode, from 1.
        steps: Environment steps done so far, this episode's among them.
        return_: Undiscounted sum of the episode's rewards.
        length: Steps of the episode.
        crashed: Whether the environment said so (``info["crashed"]``).
        scalars: The agent's own figures, by name: epsilon, approx_kl, ….
        env: Index of the environment that it ran in, from 0.
    """

    episode: int
    steps: int
    return_: float
    length: int
    crashed: bool
    scalars: Mapping[str, float] = field(default_factory=dict)
    env: int = 0


Callback = Callable[[EpisodeSummary], bool | None]
"""Called at each episode's end; returning False stops the fit."""


@dataclass(frozen=True, slots=True)
class TuningSpaces:
    """What a policy file must say of the environment that its policy was learned in.

    Attributes:
        space: The hyperparameters moved.
        actions: How actions are read.
        config: How jobs are tuned.
        feature_names: Names of the observation's entries.
    """

    space: SearchSpace
    actions: ActionMap
    config: CourseConfig
    feature_names: tuple[str, ...]

    @classmethod
    def of(cls, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> TuningSpaces | None:
        """Those of an environment; None if it tunes nothing, or if a wrapper stands in between.

        A wrapper that changes observations or actions would be lost: the policy file knows nothing of it.
        """
        wrapper: Any = env
        while isinstance(wrapper, gym.Wrapper | VectorWrapper):
            if isinstance(wrapper, changing_wrappers()):
                return None
            wrapper = wrapper.env
        if isinstance(wrapper, SyncVectorEnv):
            found = [cls.of(one) for one in wrapper.envs]
            return None if None in found else found[0]
        try:
            return cls(wrapper.space, wrapper.actions, wrapper.config, wrapper.feature_names)
        except AttributeError:
            return None


def changing_wrappers() -> tuple[type[Any], ...]:
    """Gymnasium's kinds of wrapper, of one or many environments, that change what a policy sees or does."""
    return (
        gym.ObservationWrapper,
        gym.ActionWrapper,
        gym.wrappers.NormalizeObservation,
        gym.vector.VectorObservationWrapper,
        gym.vector.VectorActionWrapper,
        gym.wrappers.vector.NormalizeObservation,
    )


class Agent(ABC):
    """What learns a policy.

    `fit` and `act` work on any environment of fitting spaces; `policy` and `save` want a tuning one, for
    a policy file says what its observations and actions mean.

    Attributes:
        name: The name on the command line.
        steps: Environment steps learned from so far.
        episodes: Episodes finished so far.
        seed: Of everything random in the agent and of its episodes.
    """

    name: ClassVar[str]

    def __init__(self, tuning: TuningSpaces | None, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seed must be an integer >= 0, got {seed!r}")
        self.tuning = tuning
        self.seed = seed
        self.steps = 0
        self.episodes = 0

    @abstractmethod
    def fit(self, steps: int, callback: Callback | None = None) -> Self:
        """Learns until `steps` environment steps are done in all, earlier calls' included.

        So the same call continues what was interrupted, after `set_state` or after a callback's stop.

        Args:
            steps: In all; the last episode (or rollout) is finished, so slightly more may be done.
            callback: Called at each episode's end; returning False stops.
        """

    @abstractmethod
    def act(self, observation: NDArray[Any] | int) -> Any:
        """The best known action for an observation, in the environment's own action space."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """All that was learned, and what is needed to go on: plain types and tensors only.

        ``torch.save`` writes it and ``torch.load(weights_only=True)`` reads it.
        """

    @abstractmethod
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, in an agent of the same settings.

        Raises:
            ConfigError: The state is of another kind of agent, or does not fit the environment.
        """

    @abstractmethod
    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> LearnedPolicy:
        """The policy as it stands."""

    def policy(self, provenance: Mapping[str, Any] | None = None) -> LearnedPolicy:
        """The policy as it stands: greedy, and free of whatever it was learned with.

        Args:
            provenance: JSON-able, kept in the policy's file: suite, split, versions, scores, …. Its name,
                agent, seed, steps and episodes are filled in unless given.

        Raises:
            ConfigError: The environment is not a tuning one.
        """
        if self.tuning is None:
            raise ConfigError(
                f"{type(self).__name__}.policy() needs an environment that tunes hyperparameters (with "
                "space, actions, config and feature_names), and no wrapper that changes its observations or "
                "actions; for any other, ask act()"
            )
        known = {
            "name": self.name,
            "agent": self.name,
            "seed": self.seed,
            "steps": self.steps,
            "episodes": self.episodes,
        }
        return self._learned(self.tuning, {**known, **(provenance or {})})

    def save(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Writes `policy(provenance)` as a policy file and returns its path.

        Raises:
            ConfigError: See `policy`.
            PolicyError: The file cannot be written.
        """
        return save_policy(self.policy(provenance), path)

    def _check_state(self, state: Mapping[str, Any]) -> None:
        if state.get("agent") != self.name:
            raise ConfigError(f"the state is of the agent {state.get('agent')!r}, not of {self.name!r}")

    def _episode_seed(self, number: int) -> int:
        """The seed of the environment's episode of that number, in [0, 2^32)."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
