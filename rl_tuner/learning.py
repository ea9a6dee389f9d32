"""A learning run: an agent learns on a suite, is logged and checkpointed, and continued where it was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym

from rl_tuner.actions import KINDS
from rl_tuner.agents.agent import Agent, EpisodeSummary
from rl_tuner.checkpoint import read_checkpoint, write_checkpoint
from rl_tuner.config import choose, require_range, to_dict
from rl_tuner.course import CourseConfig
from rl_tuner.envs.suites import load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.runs import RunDirectory
from rl_tuner.seeding import Streams
from rl_tuner.space import HYPERPARAMETERS, search_space
from rl_tuner.tracking import Tracker

if TYPE_CHECKING:
    from rl_tuner.history import Record

RECENT = 100
"""Means and rates of a running fit are over so many of the last episodes."""
EPISODES_LOGGED = 10
"""So many of a run's episodes are written to TensorBoard decision by decision."""


class AgentKind(NamedTuple):
    """An agent by its name on the command line.

    Attributes:
        cls: Its class in `rl_tuner.agents`.
        actions: The kinds of actions it can learn, its default first.
        description: One line for `rl-tuner list`.
    """

    cls: str
    actions: tuple[str, ...]
    description: str


AGENTS: dict[str, AgentKind] = {
    "ppo": AgentKind(
        "PPOAgent", ("continuous", "discrete", "anchored"), "proximal policy optimization on a small network"
    ),
    "q-learning": AgentKind(
        "QLearning", ("discrete",), "tabular Q-learning, a table for each hyperparameter"
    ),
    "sarsa": AgentKind("Sarsa", ("discrete",), "tabular SARSA: learns the value of what it does, on-policy"),
}


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """What is learned, on what, and how it is judged; frozen and JSON-able.

    Attributes:
        agent: A name of `AGENTS`.
        suite: Jobs are drawn from its train split, evaluated on its validation split.
        steps: Decisions to learn from, >= 1.
        actions: "discrete", "continuous" or "anchored"; empty for the agent's own default.
        reward: A name of `rl_tuner.rewards.REWARDS`.
        hyperparameters: Those acted on.
        decisions: Decisions an episode.
        intervals: "geometric" or "uniform".
        rails: Whether the rails are on.
        seed: Of the agent and of the jobs drawn.
        eval_jobs: Jobs of the evaluation, >= 2.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    agent: str = "ppo"
    suite: str = "quick"
    steps: int = 10_000
    actions: str = ""
    reward: str = "log_improvement"
    hyperparameters: tuple[str, ...] = tuple(HYPERPARAMETERS)
    decisions: int = 20
    intervals: str = "geometric"
    rails: bool = True
    seed: int = 0
    eval_jobs: int = 10

    def __post_init__(self) -> None:
        kind = AGENTS[choose("agent", self.agent, AGENTS)]
        object.__setattr__(self, "actions", self.actions or kind.actions[0])
        if choose("actions", self.actions, KINDS) not in kind.actions:
            raise ConfigError(
                f"{self.agent} learns {' or '.join(kind.actions)} actions, not {self.actions} ones"
            )
        load_suite(self.suite)
        search_space(self.hyperparameters)
        CourseConfig(self.decisions, self.intervals, self.reward, self.rails)
        Streams(self.seed)
        require_range("steps", self.steps, 1)
        require_range("eval_jobs", self.eval_jobs, 2)

    @property
    def command(self) -> str:
        """The command line that runs this."""
        given = to_dict(self) | {"hyperparameters": ",".join(self.hyperparameters)}
        rails = "--rails" if given.pop("rails") else "--no-rails"
        options = [f"--{name.replace('_', '-')} {value}" for name, value in given.items()]
        return " ".join(["rl-tuner train", *options, rails])

    def make_env(self, split: str) -> TuningEnv:
        """The environment on a split of the suite."""
        return TuningEnv(
            suite=self.suite,
            split=split,
            actions=self.actions,
            reward=self.reward,
            hyperparameters=self.hyperparameters,
            decisions=self.decisions,
            intervals=self.intervals,
            rails=self.rails,
        )

    def make_agent(self, env: gym.Env[Any, Any]) -> Agent:
        """The agent, untrained."""
        cls = getattr(import_module("rl_tuner.agents"), AGENTS[self.agent].cls)
        agent: Agent = cls(env, seed=self.seed)
        return agent


class EpisodeLog(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the records of the last finished episode, which an agent that resets at once would lose."""

    def __init__(self, env: TuningEnv) -> None:
        super().__init__(env)
        self.tuning = env
        self.finished: tuple[Record, ...] = ()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        result = super().step(action)
        if result[2]:
            self.finished = self.tuning.records
        return result


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

    A tabular agent ends with the same tables whether it was interrupted or not, bit for bit. PPO loses
    the part of a rollout since its last update: it goes on from the same network and optimizer, but with
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
        self._log = EpisodeLog(config.make_env("train"))
        self.agent = config.make_agent(self._log)
        self.untrained = self.agent.policy({"name": "untrained"})
        self._recent: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        if self.checkpoint.is_file():
            state = read_checkpoint(self.checkpoint, ("agent", "recent"))
            self.agent.set_state(state["agent"])
            self._recent.extend(state["recent"])

    def fit(self, on_episode: Callable[[Standing], object] | None = None) -> Agent:
        """Learns until the configured steps are done in all; nothing if they are.

        Args:
            on_episode: Called at each episode's end.
        """
        saved = time.monotonic()
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
                for record in self._log.finished:
                    one.record(record)

    def save(self) -> None:
        """Writes the checkpoint.

        Raises:
            ConfigError: It cannot be written.
        """
        write_checkpoint(
            self.checkpoint, {"agent": self.agent.get_state(), "recent": [list(r) for r in self._recent]}
        )
