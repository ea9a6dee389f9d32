"""What watches Stable-Baselines3 learn, and tells `Agent.fit`'s callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from rl_tuner.agents.agent import Callback, EpisodeSummary


class EpisodeMonitor(BaseCallback):
    """Sums up episodes, and says when the last rollout was learned from.

    Episodes that end in the same step are told in the order of their environments.

    Args:
        episodes: Episodes finished before.
        callback: Called at each episode's end.
        on_update: Called with the number of episodes before each rollout: all earlier ones are learned.

    Attributes:
        stopped: Whether the callback asked to stop.
    """

    def __init__(self, episodes: int, callback: Callback | None, on_update: Callable[[int], None]) -> None:
        super().__init__()
        self.episodes = episodes
        self.stopped = False
        self._callback, self._on_update = callback, on_update

    def _on_training_start(self) -> None:
        self._returns = np.zeros(self.training_env.num_envs)
        self._lengths = np.zeros(self.training_env.num_envs, dtype=np.int64)

    def _on_rollout_start(self) -> None:
        self._on_update(self.episodes)
        fresh = self.model._last_episode_starts  # some were dropped to start together
        self._returns[fresh], self._lengths[fresh] = 0.0, 0

    def _on_step(self) -> bool:
        self._returns += self.locals["rewards"]
        self._lengths += 1
        ended = np.flatnonzero(self.locals["dones"]).tolist()
        if ended:
            scalars = {name: float(value) for name, value in self.logger.name_to_value.items()}
            for i in ended:
                self._finish(i, scalars)
                if self.stopped:
                    break
        return not self.stopped

    def _finish(self, i: int, scalars: Mapping[str, float]) -> None:
        """The episode of environment i is over."""
        self.episodes += 1
        summary = EpisodeSummary(
            episode=self.episodes,
            steps=self.num_timesteps,
            return_=float(self._returns[i]),
            length=int(self._lengths[i]),
            crashed=bool(self.locals["infos"][i].get("crashed", False)),
            scalars=scalars,
            env=i,
        )
        self._returns[i], self._lengths[i] = 0.0, 0
        if self._callback is not None and self._callback(summary) is False:
            self.stopped = True
