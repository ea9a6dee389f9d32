"""Evolution strategies: a policy's weights are perturbed, and moved to where episodes went better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rl_tuner.agents.agent import Agent, Callback, EpisodeSummary, TuningSpaces
from rl_tuner.agents.feature_selection import FeatureSelection
from rl_tuner.agents.member_episodes import first_episodes
from rl_tuner.agents.member_networks import ActionHead, FlatMLP
from rl_tuner.agents.mirrored import centred_ranks, gradient, mirrored
from rl_tuner.agents.vector_steps import single_spaces
from rl_tuner.config import require_counts, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import MLPPolicy, run_layers


class EvolutionStrategy(Agent):
    """An evolution strategy on the weights of the network that `PPOAgent` has as its actor.

    Salimans et al., 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning" (arXiv
    1703.03864), with mirrored perturbations and Adam. In each generation every member of a population plays
    the same jobs, with the same seeds, so that members differ by their weights alone; returns are ranked
    within each job. It explores in the weights only: within an episode a member acts without noise, and only
    the episode's return counts.

    Args:
        env: A Gymnasium vector environment that resets in the same step, whose slots are alike, or a single
            environment; observations a Box of shape (F,), actions Box, Discrete or MultiDiscrete. Its
            episodes must end, and depend on the reset's seed and the actions alone.
        population: Members of a generation, P; even, >= 2.
        group_size: So many slots side by side get the same seed, and play the same job for different
            members; divides both the number of slots and the population, which plays a job in population /
            group_size turns. None for as many as can.
        sigma: Standard deviation of the perturbations at the start of `fit`, > 0.
        sigma_end: At its end; falls on a line.
        learning_rate: Of Adam at the start of `fit`, > 0.
        learning_rate_end: At its end, >= 0; falls on a line.
        hidden: Units of the hidden layers (tanh).
        memory: Observations that the network sees: the last ones, oldest first, and zeros before an
            episode's start.
        features: Names of those that the network reads, and so the policy; None for all.
        seed: Of weights, perturbations and episodes.

    Attributes:
        group_size: See above.

    Raises:
        ConfigError: An argument is out of range, a space is of another kind, or the environment has no
            features of those names.
    """

    name = "es"

    def __init__(  # noqa: PLR0913 (each one a public setting of the agent)
        self,
        env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
        *,
        population: int = 16,
        group_size: int | None = None,
        sigma: float = 0.05,
        sigma_end: float = 0.02,
        learning_rate: float = 0.02,
        learning_rate_end: float = 0.003,
        hidden: Sequence[int] = (64, 64),
        memory: int = 1,
        features: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(TuningSpaces.of(env), seed)
        observations, actions = single_spaces(env)
        if not isinstance(observations, spaces.Box) or len(observations.shape) != 1:
            raise ConfigError(f"EvolutionStrategy needs Box observations of shape (F,), got {observations}")
        units = {f"hidden[{i}]": width for i, width in enumerate(hidden)}
        require_counts({"population": population, "memory": memory, **units})
        require_range("sigma", sigma, 0, above=True)
        require_range("sigma_end", sigma_end, 0, above=True)
        require_range("learning_rate", learning_rate, 0, above=True)
        require_range("learning_rate_end", learning_rate_end, 0)
        self.env = env if isinstance(env, VectorEnv) else _alone(env)
        self.population, self.memory = population, memory
        self.group_size = _group_size(group_size, population, self.env.num_envs)
        self._sigma, self._learning_rate = (sigma, sigma_end), (learning_rate, learning_rate_end)
        self._head = ActionHead(actions)
        self._read = FeatureSelection(self.tuning, features, observations.shape[0])
        self._network = FlatMLP([memory * self._read.width, *hidden, self._head.outputs])
        self._weights = self._network.initial(self._episode_seed(0))
        self._optimizer = torch.optim.Adam([self._weights], maximize=True)
        self._scalars: dict[str, float] = {}

    def fit(self, steps: int, callback: Callback | None = None) -> Self:
        """See `Agent.fit`; whole generations, in which `steps` counts what belongs to their episodes.

        A stopped (or interrupted) fit drops the generation under way: the agent is as it was before it.
        """
        require_range("steps", steps, 0)
        while self.steps < steps:
            if not self._generation(self.steps / steps, callback):
                break
        return self

    def act(self, observation: NDArray[Any] | int) -> Any:
        """The action of the unperturbed network.

        Args:
            observation: The environment's, with all of its features. With a memory the last `memory`
                ones, oldest first, with zeros before the episode's start: shape (memory * F,).

        Raises:
            ConfigError: It is of another shape.
        """
        seen = np.asarray(observation, dtype=np.float32)
        if seen.ndim != 1:
            raise ConfigError(f"act() takes one observation at a time, got shape {seen.shape}")
        inputs = torch.from_numpy(self._read.of(seen, self.memory))
        layers = [(w.clone(), b.clone()) for w, b in self._network.layers(self._weights)]  # as a policy's
        return self._head.actions(run_layers(layers, inputs)[None])[0]

    def get_state(self) -> dict[str, Any]:
        """See `Agent.get_state`; the state after the last generation, from which all goes on bit for bit."""
        return {
            "agent": self.name,
            "steps": self.steps,
            "episodes": self.episodes,
            "weights": self._weights.clone(),
            "optimizer": deepcopy(self._optimizer.state_dict()),
            "scalars": dict(self._scalars),
            "features": self._read.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Agent.set_state`."""
        self._check_state(state)
        self._read.require_same(state)
        if state["weights"].shape != self._weights.shape:
            raise ConfigError(
                f"the state is of a network of {state['weights'].numel()} weights, this one has "
                f"{self._network.size}: another environment, hidden or memory"
            )
        self._weights.copy_(state["weights"])
        self._optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self.steps, self.episodes = state["steps"], state["episodes"]
        self._scalars = dict(state["scalars"])

    def _generation(self, share: float, callback: Callback | None) -> bool:
        """Plays and learns from one generation, after that share of the fit; False if it was stopped."""
        sigma, learning_rate = (a + share * (b - a) for a, b in (self._sigma, self._learning_rate))
        self._scalars |= {"sigma": sigma, "learning_rate": learning_rate}
        noise = self._noise()
        played = self._play(mirrored(self._weights, noise, sigma), callback)
        if played is None:
            return False
        returns, steps = played
        step = gradient(centred_ranks(returns), noise, sigma)
        self._weights.grad = step
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        self.steps, self.episodes = self.steps + steps, self.episodes + returns.size
        self._scalars |= {"gradient_norm": float(step.norm()), "spread": float(returns.std(axis=1).mean())}
        return True

    def _noise(self) -> torch.Tensor:
        """This generation's perturbations, shape (P/2, n), drawn from the seed and the steps so far alone."""
        rng = np.random.default_rng([self.seed, self.steps, 1])
        shape = (self.population // 2, self._network.size)
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    def _play(
        self, members: torch.Tensor, callback: Callback | None
    ) -> tuple[NDArray[np.float64], int] | None:
        """Every member's episode.

        Args:
            members: Weights, shape (P, n).
            callback: Told of each episode.

        Returns:
            Returns of shape (jobs, P), and the steps that they took; None if the callback asked to stop.
        """
        jobs = self.env.num_envs // self.group_size
        returns = np.empty((jobs, self.population))
        steps, episodes = 0, self.episodes
        for first in range(0, self.population, self.group_size):
            turn = members[first : first + self.group_size].repeat(jobs, 1)
            layers, before = self._network.layers(turn), steps
            for slot, return_, length, crashed, taken in first_episodes(
                self.env, self._seeds(), layers, self._head, self.memory, self._read
            ):
                job, place = divmod(slot, self.group_size)
                returns[job, first + place] = return_
                steps, episodes = before + taken, episodes + 1
                summary = EpisodeSummary(
                    episodes, self.steps + steps, return_, length, crashed, dict(self._scalars), slot
                )
                if callback is not None and callback(summary) is False:
                    return None
        return returns, steps

    def _seeds(self) -> int | list[int]:
        """Of the slots in this generation: equal in a group; as one number where each is a group."""
        first = self._episode_seed(1 + self.steps)
        if self.group_size == 1:
            return first
        return [first + slot // self.group_size for slot in range(self.env.num_envs)]

    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> MLPPolicy:
        layers = self._network.layers(self._weights.clone())
        return MLPPolicy(
            tuning.space,
            tuning.actions.kind,
            tuning.config,
            self._read.names or tuning.feature_names,
            provenance,
            layers,
            "tanh",
            memory=self.memory,
        )


def _alone(env: gym.Env[Any, Any]) -> VectorEnv[Any, Any, Any]:
    """A single environment as a vector of one, which is never reset but by the agent."""
    return SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.DISABLED)


def _group_size(given: int | None, population: int, slots: int) -> int:
    """The group size as given, or the largest that divides both the population and the slots.

    Raises:
        ConfigError: It does not divide them, or the population is odd.
    """
    if population % 2:
        raise ConfigError(f"population must be even, for its members are mirrored in pairs, got {population}")
    if given is None:
        return math.gcd(population, slots)
    require_counts({"group_size": given})
    for what, number in (("number of slots", slots), ("population", population)):
        if number % given:
            raise ConfigError(f"group_size must divide the {what}, {number}, got {given}")
    return given
