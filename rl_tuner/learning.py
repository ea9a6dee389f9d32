"""A learning run: an agent learns on a suite, is logged and checkpointed, and continued where it was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from rl_tuner.actions import KINDS
from rl_tuner.agent_kinds import AGENTS
from rl_tuner.agents.agent import Agent, EpisodeSummary
from rl_tuner.checkpoint import read_checkpoint, write_checkpoint
from rl_tuner.config import choose, require_range, to_dict
from rl_tuner.course import CourseConfig
from rl_tuner.envs.suites import load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv
from rl_tuner.episode_logs import EpisodeLog, VectorEpisodeLog
from rl_tuner.errors import ConfigError
from rl_tuner.runs import RunDirectory
from rl_tuner.seeding import Streams
from rl_tuner.space import STANDARD, search_space
from rl_tuner.tracking import Tracker

RECENT = 100
"""Means and rates of a running fit are over so many of the last episodes."""
MOST_ENVS = 4096
"""More jobs side by side only use memory."""
FORMERLY: dict[str, Any] = {"num_envs": 1}
"""What settings were that the ``config.json`` of an earlier version does not hold."""
EPISODES_LOGGED = 10
"""So many of a run's episodes are written to TensorBoard decision by decision."""


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """What is learned, on what, and how it is judged; frozen and JSON-able.

    Attributes:
        agent: A name of `AGENTS`.
        suite: Jobs are drawn from its train split, evaluated on its validation split.
        steps: Decisions to learn from, >= 1; 0 for the agent's own number. PPO finishes its last rollout and
            tables their last episodes, or the last step of all `num_envs`, so slightly more may be done.
        actions: "discrete", "continuous" or "anchored"; empty for the agent's own default.
        reward: A name of `rl_tuner.rewards.REWARDS`.
        hyperparameters: Those acted on.
        decisions: Decisions an episode.
        intervals: "geometric" or "uniform".
        rails: Whether the rails are on.
        seed: Of the agent and of the jobs drawn.
        eval_jobs: Jobs of the evaluation, >= 2.
        num_envs: Jobs that train side by side, <= `MOST_ENVS`; 0 for the agent's own number.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    agent: str = "ppo"
    suite: str = "quick"
    steps: int = 0
    actions: str = ""
    reward: str = "log_improvement"
    hyperparameters: tuple[str, ...] = STANDARD
    decisions: int = 20
    intervals: str = "geometric"
    rails: bool = True
    seed: int = 0
    eval_jobs: int = 10
    num_envs: int = 0

    def __post_init__(self) -> None:
        kind = AGENTS[choose("agent", self.agent, AGENTS)]
        object.__setattr__(self, "actions", self.actions or kind.actions[0])
        if choose("actions", self.actions, KINDS) not in kind.actions:
            raise ConfigError(
                f"{self.agent} learns {' or '.join(kind.actions)} actions, not {self.actions} ones"
            )
        object.__setattr__(self, "steps", self.steps or kind.steps)
        object.__setattr__(self, "num_envs", self.num_envs or kind.num_envs)
        load_suite(self.suite)
        search_space(self.hyperparameters)
        CourseConfig(self.decisions, self.intervals, self.reward, self.rails)
        Streams(self.seed)
        require_range("steps", self.steps, 1)
        require_range("num_envs", self.num_envs, 1, MOST_ENVS)
        require_range("eval_jobs", self.eval_jobs, 2)

    @property
    def command(self) -> str:
        """The command line that runs this."""
        given = to_dict(self) | {"hyperparameters": ",".join(self.hyperparameters)}
        rails = "--rails" if given.pop("rails") else "--no-rails"
        options = [f"--{name.replace('_', '-')} {value}" for name, value in given.items()]
        return " ".join(["rl-tuner train", *options, rails])

    def make_env(self, split: str) -> TuningEnv | VectorTuningEnv:
        """The environment on a split of the suite: with one job at a time, or with `num_envs`."""
        options: dict[str, Any] = {
            "suite": self.suite,
            "split": split,
            "actions": self.actions,
            "reward": self.reward,
            "hyperparameters": self.hyperparameters,
            "decisions": self.decisions,
            "intervals": self.intervals,
            "rails": self.rails,
        }
        return TuningEnv(**options) if self.num_envs == 1 else VectorTuningEnv(self.num_envs, **options)

    def make_agent(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Agent:
        """The agent, untrained."""
        cls = getattr(import_module("rl_tuner.agents"), AGENTS[self.agent].cls)
        agent: Agent = cls(env, seed=self.seed)
        return agent


@dataclass(frozen=True, slots=True)
class Standing:
    """How a fit stands at an episode's end.

    Attributes:
        steps: Decisions learned from.
        mean_return: Over the last `RECENT` episodes, in nats.
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
        self.agent = config.make_agent(self._log)
        self.untrained = self.agent.policy({"name": "untrained"})
        self._recent: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        if self.checkpoint.is_file():
            state = read_checkpoint(self.checkpoint, ("agent", "recent"))
            self.agent.set_state(state["agent"])
            self._recent.extend(state["recent"])

    def fit(
        self,
        on_episode: Callable[[Standing], object] | None = None,
        on_step: Callable[[int], object] | None = None,
    ) -> Agent:
        """Learns until the configured steps are done in all; nothing if they are.

        Args:
            on_episode: Called at each episode's end.
            on_step: Called after each step of the environment, or of all jobs side by side, with the
                decisions made so far: between the ends of episodes, which come many at once.
        """
        saved = time.monotonic()
        self._log.decisions.restart(self.agent.steps, on_step)
        with Tracker(self.run.path, purge_step=self.agent.steps + 1) as tracker:

            def ended(summary: EpisodeSummary) -> None:
                nonlocal saved
                now = self._note(summary)
                self._track(tracker, summary, now)
                if time.monotonic() - saved >= self._pause:
                    self.save()
                    saved = time.monotonic()
                if on_episode is not None:
                    on_episode(now)

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
