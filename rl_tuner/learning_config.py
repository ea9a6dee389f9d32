"""What a learning run is told: the agent, the jobs it learns on, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from math import gcd
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from rl_tuner.actions import KINDS
from rl_tuner.agent_kinds import AGENTS, AgentKind
from rl_tuner.agents.agent import Agent
from rl_tuner.config import choose, require_counts, require_range, to_dict
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.parallel_env import ParallelTuningEnv
from rl_tuner.envs.suites import load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.features import FEATURE_GROUPS, features_without
from rl_tuner.policy import LearnedPolicy
from rl_tuner.seeding import Streams
from rl_tuner.space import STANDARD, search_space

MOST_ENVS = 4096
"""More jobs side by side only use memory."""
FORMERLY: dict[str, Any] = {
    "num_envs": 1,
    "group_size": 1,
    "memory": 1,
    "workers": 1,
    "without": [],
    "averaging": False,
    "averaging_at_work": False,
    "restarts_at_work": False,
}
"""What settings were, in JSON, that the ``config.json`` of an earlier version does not hold."""


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """What is learned, on what, and how it is judged; frozen and JSON-able.

    Attributes:
        agent: A name of `AGENTS`.
        suite: Jobs are drawn from its train split, evaluated on its validation split.
        steps: Decisions to learn from, >= 1; 0 for the agent's own number. PPO finishes its last rollout and
            tables their last episodes, or the last step of all `num_envs`, so slightly more may be done.
        actions: "discrete", "continuous" or "anchored"; empty for the agent's own default.
        reward: A name of `rl_tuner.rewards.REWARDS`; empty for the agent's own default.
        hyperparameters: Those acted on.
        decisions: Decisions an episode.
        intervals: "geometric" or "uniform".
        rails: Whether the rails are on.
        averaging: Whether averages of the weights (see `rl_tuner.averaging`) count in learning.
        averaging_at_work: Whether they count where the policy is put to work or judged; None for the agent's
            own default, and True with `averaging`.
        restarts_at_work: Whether trainings begin again (see `rl_tuner.restarts`) where the policy is put to
            work or judged; None for the agent's own default. In learning they never do.
        seed: Of the agent and of the jobs drawn.
        eval_jobs: Jobs of the evaluation, >= 2.
        num_envs: Jobs that train side by side, <= `MOST_ENVS`; 0 for the agent's own number.
        group_size: So many of them are the same job, >= 1; divides `num_envs`. 0 for the agent's own number,
            or what it has in common with `num_envs`.
        memory: The policy reads so many of the last decisions, >= 1; above 1 for agents with a network.
        without: Groups of features that the policy does not read, names of
            `rl_tuner.features.FEATURE_GROUPS`; for agents with a network.
        workers: Processes that the jobs are spread over, >= 1; divides the number of groups. What is learned
            differs with it by rounding errors only.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    agent: str = "ppo"
    suite: str = "quick"
    steps: int = 0
    actions: str = ""
    reward: str = ""
    hyperparameters: tuple[str, ...] = STANDARD
    decisions: int = 20
    intervals: str = "geometric"
    rails: bool = True
    averaging: bool = False
    averaging_at_work: bool | None = None
    restarts_at_work: bool | None = None
    seed: int = 0
    eval_jobs: int = 10
    num_envs: int = 0
    group_size: int = 0
    memory: int = 1
    without: tuple[str, ...] = ()
    workers: int = 1

    def __post_init__(self) -> None:
        kind = AGENTS[choose("agent", self.agent, AGENTS)]
        object.__setattr__(self, "actions", self.actions or kind.actions[0])
        if choose("actions", self.actions, KINDS) not in kind.actions:
            raise ConfigError(
                f"{self.agent} learns {' or '.join(kind.actions)} actions, not {self.actions} ones"
            )
        object.__setattr__(self, "reward", self.reward or kind.reward)
        if self.averaging_at_work is None:
            object.__setattr__(self, "averaging_at_work", self.averaging or kind.averaging_at_work)
        if self.restarts_at_work is None:
            object.__setattr__(self, "restarts_at_work", kind.restarts_at_work)
        object.__setattr__(self, "steps", self.steps or kind.steps)
        object.__setattr__(self, "num_envs", self.num_envs or kind.num_envs)
        object.__setattr__(self, "group_size", self.group_size or gcd(kind.group_size, self.num_envs))
        load_suite(self.suite)
        search_space(self.hyperparameters)
        CourseConfig(self.decisions, self.intervals, self.reward, self.rails)
        Streams(self.seed)
        require_range("steps", self.steps, 1)
        require_range("num_envs", self.num_envs, 1, MOST_ENVS)
        require_range("eval_jobs", self.eval_jobs, 2)
        require_counts({"group_size": self.group_size, "memory": self.memory, "workers": self.workers})
        features_without(search_space(self.hyperparameters), self.without)
        object.__setattr__(self, "without", tuple(g for g in FEATURE_GROUPS if g in self.without))
        self._check_kind(kind)
        if self.num_envs % (self.group_size * self.workers):
            raise ConfigError(
                f"num_envs must be a multiple of group_size × workers = {self.group_size} × {self.workers}, "
                f"got {self.num_envs}"
            )

    def _check_kind(self, kind: AgentKind) -> None:
        """Refuses what only another kind of agent can do."""
        if self.memory > 1 and not kind.network:
            raise ConfigError(f"{self.agent} learns policies without a memory, got memory {self.memory}")
        if self.without and not kind.network:
            raise ConfigError(
                f"{self.agent} learns tables of a few features of its own, and cannot be told to learn "
                f"without {', '.join(self.without)}"
            )
        if kind.options.get("advantages", "gae") != "gae" and self.group_size < 2:
            raise ConfigError(
                f"{self.agent} compares runs of the same job: group_size must be >= 2, got {self.group_size}"
            )

    @property
    def command(self) -> str:
        """The command line that runs this."""
        lists = {"hyperparameters": ",".join(self.hyperparameters), "without": ",".join(self.without)}
        given = to_dict(self) | lists
        names = ("rails", "averaging", "averaging_at_work", "restarts_at_work")
        switches = [f"--{'' if given.pop(name) else 'no-'}{name.replace('_', '-')}" for name in names]
        options = [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value != ""]
        return " ".join(["rl-tuner train", *options, *switches])

    def make_env(self, split: str) -> TuningEnv | VectorTuningEnv | ParallelTuningEnv:
        """The environment on a split of the suite: with one job at a time, or with `num_envs`.

        One that is spread over processes is to be closed.
        """
        options: dict[str, Any] = {
            "suite": self.suite,
            "split": split,
            "actions": self.actions,
            "reward": self.reward,
            "hyperparameters": self.hyperparameters,
            "decisions": self.decisions,
            "intervals": self.intervals,
            "rails": self.rails,
            "averaging": self.averaging,
        }
        if self.num_envs == 1:
            return TuningEnv(**options)
        options["group_size"] = self.group_size
        if self.workers == 1:
            return VectorTuningEnv(self.num_envs, **options)
        return ParallelTuningEnv(self.num_envs, self.workers, **options)

    def make_agent(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Agent:
        """The agent, untrained."""
        cls = getattr(import_module("rl_tuner.agents"), AGENTS[self.agent].cls)
        agent: Agent = cls(env, seed=self.seed, **self.agent_options())
        return agent

    def policy(self, agent: Agent, provenance: Mapping[str, Any] | None = None) -> LearnedPolicy:
        """What the agent has learned, to be run as this says; see `rl_tuner.agents.agent.Agent.policy`."""
        policy = agent.policy(provenance)
        averaging, restarts = bool(self.averaging_at_work), bool(self.restarts_at_work)
        policy.config = replace(policy.config, averaging=averaging, restarts=restarts)
        return policy

    def agent_options(self) -> dict[str, Any]:
        """What the agent's class is given besides environment and seed."""
        kind = AGENTS[self.agent]
        options = dict(kind.options)
        if kind.network:
            options["memory"] = self.memory
            features = features_without(search_space(self.hyperparameters), self.without)
            # Always 0 in learning without averages: what it would do at work with them is chance.
            blind = self.averaging_at_work and not self.averaging
            unseen = ("averaged_over_val",) if blind else ()
            options["features"] = tuple(name for name in features if name not in unseen)
        if kind.cls == "EvolutionStrategy":  # PPO asks the environment
            options["group_size"] = self.group_size
        return options
