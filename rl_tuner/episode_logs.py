"""What a learning run watches of its environment: decisions made, and the logs of episodes that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.vector import VectorWrapper

if TYPE_CHECKING:
    from rl_tuner.envs.parallel_env import ParallelTuningEnv
    from rl_tuner.envs.tuning_env import TuningEnv
    from rl_tuner.envs.vector_env import VectorTuningEnv
    from rl_tuner.history import Record


class DecisionCount:
    """Counts decisions, and tells of them as they are made."""

    def __init__(self) -> None:
        self._made = 0
        self._told: Callable[[int], object] | None = None

    def restart(self, made: int, told: Callable[[int], object] | None) -> None:
        """Counts on from `made`; `told` is called with the count whenever it rises."""
        self._made, self._told = made, told

    def add(self, made: int) -> None:
        """So many more were made."""
        self._made += made
        if self._told is not None:
            self._told(self._made)


class EpisodeLog(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the log of the last finished episode, which an agent that resets at once would lose.

    Attributes:
        decisions: Counts those of the environment.
    """

    def __init__(self, env: TuningEnv) -> None:
        super().__init__(env)
        self.decisions = DecisionCount()
        self._tuning = env
        self._finished: tuple[Record, ...] = ()

    def final_records(self, slot: int = 0) -> tuple[Record, ...]:  # noqa: ARG002 (there is only one)
        """The log of the episode that ended last; empty before one did."""
        return self._finished

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        result = super().step(action)
        if result[2]:
            self._finished = self._tuning.records
        self.decisions.add(1)
        return result


class VectorEpisodeLog(VectorWrapper):
    """As `EpisodeLog`, of a vector environment, which keeps those logs itself.

    Attributes:
        decisions: Counts those of all slots.
    """

    def __init__(self, env: VectorTuningEnv | ParallelTuningEnv) -> None:
        super().__init__(env)
        self.decisions = DecisionCount()
        self._tuning = env

    def final_records(self, slot: int) -> tuple[Record, ...]:
        """See `VectorTuningEnv.final_records`."""
        return self._tuning.final_records(slot)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """See `gymnasium.vector.VectorEnv.step`."""
        result = super().step(actions)
        self.decisions.add(self.num_envs)
        return result
