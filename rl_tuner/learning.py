"""A learning run: an agent learns on a suite, is logged and checkpointed, and continued where it was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rl_tuner.agents.agent import Agent, EpisodeSummary
from rl_tuner.checkpoint import read_checkpoint, write_checkpoint
from rl_tuner.config import require_range
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.episode_logs import EpisodeLog, VectorEpisodeLog
from rl_tuner.learning_config import LearningConfig
from rl_tuner.runs import RunDirectory
from rl_tuner.tracking import Tracker

RECENT = 100
"""Means and rates of a running fit are over so many of the last episodes."""
EPISODES_LOGGED = 10
"""So many of a run's episodes are written to TensorBoard decision by decision."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a fit stands at an episode's end.

    Attributes:
        steps: Decisions learned from.
        mean_return: Over the last `RECENT` episodes.
        crash_rate: Over the same.
    """

    steps: int
    mean_return: float
    crash_rate: float


class Learner:
    """An agent at work in a run's folder: logged, checkpointed, and continued where it was.

    With one job at a time, a tabular agent ends with the same tables whether it was interrupted or not, bit
    for bit. With several side by side it loses the episodes under way, though not what it learned from them;
    PPO loses the part of a rollout since its last update. Both go on from what they had learned, but with
    other episodes.

    To be closed when it has learned (`contextlib.closing` does it): what was learned stays.

    Args:
        config: What is learned.
        run: The run's folder; a checkpoint in it is continued from.
        checkpoint_seconds: At an episode's end a checkpoint is written if the last one is older.

    Raises:
        ConfigError: The checkpoint is damaged or of other settings.
    """

    def __init__(self, config: LearningConfig, run: RunDirectory, checkpoint_seconds: float = 10.0) -> None:
        self.config, self.run = config, run
        self.checkpoint = run.path / "checkpoint.pt"
        self._pause = require_range("checkpoint interval", checkpoint_seconds, 0)
        env = config.make_env("train")
        self._log = EpisodeLog(env) if isinstance(env, TuningEnv) else VectorEpisodeLog(env)
        self._recent: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        try:
            self.agent = config.make_agent(self._log)
            self.untrained = config.policy(self.agent, {"name": "untrained"})
            self._resume()
        except BaseException:
            self.close()
            raise

    def _resume(self) -> None:
        """Goes on from the checkpoint, if there is one."""
        if self.checkpoint.is_file():
            state = read_checkpoint(self.checkpoint, ("agent", "recent"))
            self.agent.set_state(state["agent"])
            self._recent.extend(state["recent"])

    def close(self) -> None:
        """Closes the environment, whose processes end; there is no `fit` after it."""
        self._log.close()

    def fit(
        self,
        on_episode: Callable[[Standing], object] | None = None,
        on_step: Callable[[int], object] | None = None,
    ) -> Agent:
        """Learns until the configured steps are done in all; nothing if they are.

        Args:
            on_episode: Called at each episode's end; returning False stops, as in `Agent.fit`.
            on_step: Called after each step of the environment, or of all jobs side by side, with the
                decisions made so far: between the ends of episodes, which come many at once.
        """
        saved = time.monotonic()
        self._log.decisions.restart(self.agent.steps, on_step)
        with Tracker(self.run.path, purge_step=self.agent.steps + 1) as tracker:

            def ended(summary: EpisodeSummary) -> bool:
                nonlocal saved
                now = self._note(summary)
                self._track(tracker, summary, now)
                if time.monotonic() - saved >= self._pause:
                    self.save()
                    saved = time.monotonic()
                return on_episode is None or on_episode(now) is not False

            self.agent.fit(self.config.steps, ended)
        self.save()
        return self.agent

    def _note(self, summary: EpisodeSummary) -> Standing:
        self._recent.append((float(summary.return_), bool(summary.crashed)))
        returns, crashes = zip(*self._recent, strict=True)
        return Standing(summary.steps, sum(returns) / len(returns), sum(crashes) / len(crashes))

    def _track(self, tracker: Tracker, summary: EpisodeSummary, now: Standing) -> None:
        values = {
            "episode/return": summary.return_,
            "episode/mean_return": now.mean_return,
            "episode/crash_rate": now.crash_rate,
            **{f"agent/{name}": value for name, value in summary.scalars.items()},
        }
        tracker.scalars(values, summary.steps)
        every = max(self.config.steps // self.config.decisions // EPISODES_LOGGED, 1)
        if summary.episode % every == 0:
            with Tracker(self.run.path / "episodes" / f"{summary.episode:06d}", purge_step=0) as one:
                for record in self._log.final_records(summary.env):
                    one.record(record)

    def save(self) -> None:
        """Writes the checkpoint.

        Raises:
            ConfigError: It cannot be written.
        """
        write_checkpoint(
            self.checkpoint, {"agent": self.agent.get_state(), "recent": [list(r) for r in self._recent]}
        )
