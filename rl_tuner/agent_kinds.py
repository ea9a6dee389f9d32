"""The agents that a learning run can be given, by name."""

from __future__ import annotations

from typing import NamedTuple


class AgentKind(NamedTuple):
    """An agent by its name on the command line.

    Attributes:
        cls: Its class in `rl_tuner.agents`.
        actions: The kinds of actions it can learn, its default first.
        num_envs: Jobs that it learns from side by side unless told otherwise.
        steps: Decisions that it learns from unless told otherwise.
        description: One line for `rl-tuner list`.
    """

    cls: str
    actions: tuple[str, ...]
    num_envs: int
    steps: int
    description: str


AGENTS: dict[str, AgentKind] = {
    "ppo": AgentKind(
        cls="PPOAgent",
        actions=("continuous", "discrete", "anchored"),
        num_envs=128,
        steps=100_000,
        description="proximal policy optimization on a small network",
    ),
    "q-learning": AgentKind(
        cls="QLearning",
        actions=("discrete",),
        num_envs=1,
        steps=10_000,
        description="tabular Q-learning, a table for each hyperparameter",
    ),
    "sarsa": AgentKind(
        cls="Sarsa",
        actions=("discrete",),
        num_envs=1,
        steps=10_000,
        description="tabular SARSA: learns the value of what it does, on-policy",
    ),
}
