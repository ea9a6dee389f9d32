"""The agents learn something: on jobs they have not seen, they beat what they were before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rl_tuner.agents import EvolutionStrategy, PPOAgent, QLearning
from rl_tuner.agents.agent import Agent
from rl_tuner.envs import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv
from rl_tuner.policy import Policy
from rl_tuner.rollout import run_episode

HELD_OUT = range(1_000_000, 1_000_024)
AGENTS: dict[str, tuple[str, int, Callable[[Any], Agent]]] = {
    "q-learning": ("discrete", 4_000, lambda env: QLearning(env, seed=0)),
    "ppo": ("continuous", 4_000, lambda env: PPOAgent(env, seed=0)),
}
MANY_AGENTS = {
    **AGENTS,
    "ppo": ("continuous", 8_000, AGENTS["ppo"][2]),
    "es": ("continuous", 16_000, lambda env: EvolutionStrategy(env, population=8, seed=0)),
}
"""On many jobs PPO learns with fewer passes over what it collected. ES learns from whole episodes only."""


def returns(policy: Policy) -> np.ndarray[Any, Any]:
    """Of each held-out job of the train split, in nats."""
    env = TuningEnv.for_policy(policy, suite="quick", split="train")
    return np.array([run_episode(env, policy, seed).return_ for seed in HELD_OUT])


def gain(agent: Agent, steps: int) -> float:
    """How much higher the mean return is after so many steps than before, in nats."""
    before = returns(agent.policy())
    after = returns(agent.fit(steps).policy())
    return float(after.mean() - before.mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_a_trained_policy_beats_the_untrained_one_on_jobs_it_has_not_seen(name: str) -> None:
    kind, steps, make = AGENTS[name]
    agent = make(TuningEnv(suite="quick", split="train", actions=kind))
    assert gain(agent, steps) > 0.05  # about 0.25, where this was written


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY_AGENTS)
def test_it_does_so_too_when_it_learns_from_many_jobs_side_by_side(name: str) -> None:
    kind, steps, make = MANY_AGENTS[name]
    agent = make(VectorTuningEnv(32, suite="quick", split="train", actions=kind))
    assert gain(agent, steps) > 0.05
