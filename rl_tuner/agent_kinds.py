"""The agents that a learning run can be given, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class AgentKind(NamedTuple):
    """An agent by its name on the command line.

    Attributes:
        cls: Its class in `rl_tuner.agents`.
        actions: The kinds of actions it can learn, its default first.
        num_envs: Jobs that it learns from side by side unless told otherwise.
        steps: Decisions that it learns from unless told otherwise.
        group_size: So many of those jobs are the same one; divides `num_envs`.
        reward: What it is paid unless told otherwise: a name of `rl_tuner.rewards.REWARDS`.
        averaging_at_work: Whether its policies ask for averages of the weights unless told otherwise.
        restarts_at_work: Whether its policies ask for restarts (`rl_tuner.restarts`) unless told otherwise.
        network: Whether what it learns is a network, which can read several decisions, or fewer features.
        options: What else its class is given.
        description: One line for `rl-tuner list`.
    """

    cls: str
    actions: tuple[str, ...]
    num_envs: int
    steps: int
    group_size: int
    reward: str
    averaging_at_work: bool
    restarts_at_work: bool
    network: bool
    options: Mapping[str, Any]
    description: str


RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "advantages": "group_gae",
        "gae_lambda": 1.0,
        "gae_lambda_end": 0.5,
        "learning_rate": 1e-3,
        "learning_rate_end": 1e-4,
        "n_epochs": 6,
        "ent_coef": 0.003,
        "ent_coef_end": 0.0,
        "log_std_init": -0.7,
    }
)
"""How "grpo" learns: what the networks that come along were learned with (see benchmarks/README.md)."""

AGENTS: dict[str, AgentKind] = {
    "ppo": AgentKind(
        cls="PPOAgent",
        actions=("continuous", "discrete", "anchored"),
        num_envs=128,
        steps=100_000,
        group_size=1,
        reward="log_improvement",
        averaging_at_work=False,
        restarts_at_work=False,
        network=True,
        options={},
        description="proximal policy optimization on a small network",
    ),
    "grpo": AgentKind(
        cls="PPOAgent",
        actions=("continuous", "discrete", "anchored"),
        num_envs=256,
        steps=300_000,
        group_size=16,
        reward="best_improvement",
        averaging_at_work=True,
        restarts_at_work=True,
        network=True,
        options=RECIPE,
        description="PPO by groups: advantages against other runs of the same job",
    ),
    "es": AgentKind(
        cls="EvolutionStrategy",
        actions=("continuous", "discrete", "anchored"),
        num_envs=128,
        steps=100_000,
        group_size=16,
        reward="log_improvement",
        averaging_at_work=False,
        restarts_at_work=False,
        network=True,
        options={},
        description="evolution strategy on the weights of a small network",
    ),
    "q-learning": AgentKind(
        cls="QLearning",
        actions=("discrete",),
        num_envs=1,
        steps=10_000,
        group_size=1,
        reward="log_improvement",
        averaging_at_work=False,
        restarts_at_work=False,
        network=False,
        options={},
        description="tabular Q-learning, a table for each hyperparameter",
    ),
    "sarsa": AgentKind(
        cls="Sarsa",
        actions=("discrete",),
        num_envs=1,
        steps=10_000,
        group_size=1,
        reward="log_improvement",
        averaging_at_work=False,
        restarts_at_work=False,
        network=False,
        options={},
        description="tabular SARSA: learns the value of what it does, on-policy",
    ),
}
