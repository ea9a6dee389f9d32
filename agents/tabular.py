"""Tabular Q-learning and SARSA, factored over the parts of an action."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_tuner.agents.agent import Agent, Callback, EpisodeSummary, TuningSpaces
from rl_tuner.agents.discretizer import quantile_binning
from rl_tuner.agents.factored import Choices, FactoredQ
from rl_tuner.agents.layout import choice_counts, column_bins, feature_bins, first_binning, tie_orders
from rl_tuner.binning import Binning
from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import QTablePolicy


class Transition(NamedTuple):
    """One step in the environment.

    Attributes:
        observation: Shape (F,).
        choices: What was done, D choice numbers.
        reward: What it gave.
        following: The next observation, shape (F,).
        next_choices: What is done there; None after a terminal step, where there is nothing to bootstrap
            from.
    """

    observation: NDArray[np.float64]
    choices: Choices
    reward: float
    following: NDArray[np.float64]
    next_choices: Choices | None


class TabularAgent(Agent):
    """The base of `QLearning` and `Sarsa`, which differ in what they bootstrap from.

    The first `warmup` steps act at random; quantile bins are fitted to what was observed, what was seen
    is learned from, and from then on every step is learned from at once. Exploration is ε-greedy in each
    part of the action, ε falling on a line.

    Args:
        env: Observations Box or Discrete; actions MultiDiscrete or Discrete. Its episodes must end.
        learning_rate: The step size α, in (0, 1].
        averaging: Whether entries take larger steps while they are new (see `FactoredQ.update`).
        gamma: Discount, in [0, 1].
        epsilon_start: Exploration at the start of `fit`, in [0, 1].
        epsilon_end: Exploration at the end.
        epsilon_decay: Share of the fit's steps over which ε falls, in (0, 1].
        shared: Feature → bins, for every table; None for `layout.SHARED_BINS` (or, where features have no
            names, for all columns, `bins` each).
        own: Feature of a hyperparameter → bins, for its own table; None for `layout.OWN_BINS`.
        bins: See `shared`.
        warmup: Steps before the bins are fitted, >= 1; none is needed for Discrete observations.
        seed: Of exploration and episodes.

    Raises:
        ConfigError: An argument is out of range, a feature is unknown, or a space is of another kind.
    """

    def __init__(  # noqa: PLR0913 (each one a public setting of the agent)
        self,
        env: gym.Env[Any, Any],
        *,
        learning_rate: float = 0.05,
        averaging: bool = True,
        gamma: float = 1.0,
        epsilon_start: float = 0.3,
        epsilon_end: float = 0.05,
        epsilon_decay: float = 0.8,
        shared: Mapping[str, int] | None = None,
        own: Mapping[str, int] | None = None,
        bins: int = 8,
        warmup: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(TuningSpaces.of(env), seed)
        self.env = env
        self.learning_rate = require_range("learning_rate", learning_rate, 0, 1, above=True)
        self.averaging = averaging
        self.gamma = require_range("gamma", gamma, 0, 1)
        self.epsilon_start = require_range("epsilon_start", epsilon_start, 0, 1)
        self.epsilon_end = require_range("epsilon_end", epsilon_end, 0, 1)
        self.epsilon_decay = require_range("epsilon_decay", epsilon_decay, 0, 1, above=True)
        self.warmup = int(require_range("warmup", warmup, 1))
        self._counts = choice_counts(env.action_space)
        if self.tuning is not None:
            self._bins = feature_bins(self.tuning, shared, own)
        elif shared is not None or own is not None:
            raise ConfigError("shared and own name features, but this environment does not name any")
        else:
            self._bins = [column_bins(env.observation_space, bins)] * len(self._counts)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed]))
        self._seen: list[Transition] = []
        self._fitted = isinstance(env.observation_space, spaces.Discrete)
        first = [first_binning(env.observation_space, columns) for columns in self._bins]
        self.q = FactoredQ(first, tie_orders(self.tuning, self._counts))

    @abstractmethod
    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:
        """The value of going on from the observation `following`."""

    def fit(self, steps: int, callback: Callback | None = None) -> Self:
        """See `Agent.fit`; stops at the end of an episode."""
        require_range("steps", steps, 0)
        while self.steps < steps:
            summary = self._episode(steps)
            if callback is not None and callback(summary) is False:
                break
        return self

    def act(self, observation: NDArray[Any] | int) -> Any:
        """The greedy action."""
        return self._to_env(self.q.greedy(self.q.rows(_flat(observation))))

    def epsilon(self, steps: int) -> float:
        """Exploration now, in a fit of so many steps in all; 1 while warming up."""
        if not self._fitted:
            return 1.0
        share = min(self.steps / (self.epsilon_decay * steps), 1.0)
        return self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)

    def get_state(self) -> dict[str, Any]:
        """See `Agent.get_state`. At an episode's end, continuing from it is bit-identical."""
        return {
            "agent": self.name,
            "steps": self.steps,
            "episodes": self.episodes,
            "rng": self._rng.bit_generator.state,
            "q": self.q.get_state(),
            "fitted": self._fitted,
            "seen": [(s.tolist(), a, r, t.tolist(), b) for s, a, r, t, b in self._seen],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Agent.set_state`."""
        self._check_state(state)
        self.q.set_state(state["q"])
        self.steps, self.episodes = state["steps"], state["episodes"]
        self._rng.bit_generator.state = state["rng"]
        self._fitted = state["fitted"]
        self._seen = [Transition(np.array(s), a, r, np.array(t), b) for s, a, r, t, b in state["seen"]]

    def _episode(self, steps: int) -> EpisodeSummary:
        """One episode, learned from step by step."""
        observation, _ = self.env.reset(seed=self._episode_seed(self.episodes))
        here, total, length, errors = _flat(observation), 0.0, 0, 0.0
        choices = self._explore(here, self.epsilon(steps))
        over = False
        while not over:
            observation, reward, terminated, truncated, info = self.env.step(self._to_env(choices))
            over = bool(terminated or truncated)
            following, epsilon = _flat(observation), self.epsilon(steps)
            ahead = None if terminated else self._explore(following, epsilon)
            self.steps, length, total = self.steps + 1, length + 1, total + float(reward)
            errors += abs(self._take(Transition(here, choices, float(reward), following, ahead)))
            if ahead is not None:
                here, choices = following, ahead
        self.episodes += 1
        crashed = bool(info.get("crashed", False))
        scalars = {"epsilon": epsilon, "td_error": errors / length, "rows_visited": self._rows_visited()}
        return EpisodeSummary(self.episodes, self.steps, total, length, crashed, scalars)

    def _take(self, transition: Transition) -> float:
        """Learns from a transition, or keeps it until the bins are fitted; the TD error, 0 if kept."""
        if self._fitted:
            return self._learn(transition)
        self._seen.append(transition)
        if len(self._seen) >= self.warmup:
            self._fit_bins()
        return 0.0

    def _learn(self, transition: Transition) -> float:
        """One temporal-difference update; the error δ = r + γ · bootstrap − Q(s, a)."""
        here, choices, reward, following, ahead = transition
        rows = self.q.rows(here)
        target = reward + (0.0 if ahead is None else self.gamma * self.bootstrap(following, ahead))
        error = target - self.q.value(rows, choices)
        self.q.update(rows, choices, error, self.learning_rate, self.averaging)
        return error

    def _explore(self, observation: NDArray[np.float64], epsilon: float) -> Choices:
        """ε-greedy, in each part of the action on its own."""
        best = self.q.greedy(self.q.rows(observation))
        random = self._rng.integers(self._counts)
        explores = self._rng.random(len(self._counts)) < epsilon
        return tuple(int(r) if e else b for r, e, b in zip(random, explores, best, strict=True))

    def _fit_bins(self) -> None:
        """Ends the warm-up: fits the bins to what was seen, and learns from it."""
        observations = np.stack([transition.observation for transition in self._seen])
        self.q = FactoredQ([quantile_binning(observations, bins) for bins in self._bins], self.q.orders)
        self._fitted = True
        for transition in self._seen:
            self._learn(transition)
        self._seen = []

    def _rows_visited(self) -> float:
        """Share of the tables' rows that were visited."""
        visited = [visits.any(axis=1) for visits in self.q.visits]
        return float(np.concatenate(visited).mean())

    def _to_env(self, choices: Choices) -> Any:
        if isinstance(self.env.action_space, spaces.Discrete):
            return int(self.env.action_space.start) + choices[0]
        return np.array(choices, dtype=np.int64)

    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> QTablePolicy:
        used = sorted({column for binning in self.q.binnings for column in binning.columns})
        binnings = [Binning(tuple(used.index(c) for c in b.columns), b.edges) for b in self.q.binnings]
        tables = [table.copy() for table in self.q.tables]
        names = [tuning.feature_names[column] for column in used]
        return QTablePolicy(tuning.space, tuning.config, provenance, binnings, tables, names)


class QLearning(TabularAgent):
    """Q-learning: bootstraps from the best next choices, whatever is done there.

    Watkins & Dayan, 1992, "Q-learning": ``Q(s, a) += α (r + γ max_b Q(s', b) − Q(s, a))``. For the
    arguments see `TabularAgent`.
    """

    name = "q-learning"

    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:  # noqa: ARG002 (SARSA's)
        """``max_b Q(s', b)``."""
        rows = self.q.rows(following)
        return self.q.value(rows, self.q.greedy(rows))


class Sarsa(TabularAgent):
    """SARSA: bootstraps from the next choices actually made, and so learns the exploring policy's values.

    Rummery & Niranjan, 1994, "On-line Q-learning using connectionist systems":
    ``Q(s, a) += α (r + γ Q(s', a') − Q(s, a))``. For the arguments see `TabularAgent`.
    """

    name = "sarsa"

    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:
        """``Q(s', a')``."""
        return self.q.value(self.q.rows(following), next_choices)


def _flat(observation: Any) -> NDArray[np.float64]:
    return np.asarray(observation, dtype=np.float64).reshape(-1)
