"""Agents that keep a table for each part of an action: what Q-learning and SARSA share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rl_tuner.agents.agent import Agent, Callback, EpisodeSummary, TuningSpaces
from rl_tuner.agents.discretizer import quantile_binning
from rl_tuner.agents.experience import RunningEpisode, Transition, flat
from rl_tuner.agents.factored import Choices, FactoredQ
from rl_tuner.agents.layout import choice_counts, column_bins, feature_bins, first_binning, tie_orders
from rl_tuner.agents.vector_steps import single_spaces, slot_steps
from rl_tuner.binning import Binning
from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import QTablePolicy


class TabularAgent(Agent):
    """The base of `QLearning` and `Sarsa`, which differ in what they bootstrap from.

    The first `warmup` steps act at random; quantile bins are fitted to what was observed, what was seen
    is learned from, and from then on every step is learned from at once. Exploration is ε-greedy in each
    part of the action, ε falling on a line.

    Args:
        env: Observations Box or Discrete; actions MultiDiscrete or Discrete. Its episodes must end. Or a
            vector environment of such, which resets in the same step: every slot acts, and is learned from
            in slot order, at each of its steps.
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
        warmup: Steps before the bins are fitted, >= 1, and in a vector environment at least an episode of
            every slot; none is needed for Discrete observations.
        seed: Of exploration and episodes.

    Raises:
        ConfigError: An argument is out of range, a feature is unknown, or a space is of another kind.
    """

    def __init__(  # noqa: PLR0913 (each one a public setting of the agent)
        self,
        env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
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
        observation_space, self._action_space = single_spaces(env)
        self.learning_rate = require_range("learning_rate", learning_rate, 0, 1, above=True)
        self.averaging = averaging
        self.gamma = require_range("gamma", gamma, 0, 1)
        self.epsilon_start = require_range("epsilon_start", epsilon_start, 0, 1)
        self.epsilon_end = require_range("epsilon_end", epsilon_end, 0, 1)
        self.epsilon_decay = require_range("epsilon_decay", epsilon_decay, 0, 1, above=True)
        self.warmup = int(require_range("warmup", warmup, 1))
        self._counts = choice_counts(self._action_space)
        if self.tuning is not None:
            self._bins = feature_bins(self.tuning, shared, own)
        elif shared is not None or own is not None:
            raise ConfigError("shared and own name features, but this environment does not name any")
        else:
            self._bins = [column_bins(observation_space, bins)] * len(self._counts)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed]))
        self._seen: list[Transition] = []
        self._whole = True
        self._fitted = isinstance(observation_space, spaces.Discrete)
        first = [first_binning(observation_space, columns) for columns in self._bins]
        self.q = FactoredQ(first, tie_orders(self.tuning, self._counts))

    @abstractmethod
    def bootstrap(self, following: NDArray[np.float64], next_choices: Choices) -> float:
        """The value of going on from the observation `following`."""

    def fit(self, steps: int, callback: Callback | None = None) -> Self:
        """See `Agent.fit`; stops at the end of an episode.

        On a vector environment it stops at the end of the step that reaches them, in mid-episode: the
        episodes under way are given up, and the next call starts with new ones.

        A fit that comes to its end before the warm-up does has learned nothing yet, and warns of it.
        """
        require_range("steps", steps, 0)
        if self.steps >= steps:
            return self
        env = self.env
        for summary in self._many(env, steps) if isinstance(env, VectorEnv) else self._one(env, steps):
            if callback is not None and callback(summary) is False:
                break
        else:
            if not self._fitted:
                self._warn_of_warmup()
        return self

    def act(self, observation: NDArray[Any] | int) -> Any:
        """The greedy action."""
        return self._to_env(self.q.greedy(self.q.rows(flat(observation))))

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

    def _one(self, env: gym.Env[Any, Any], steps: int) -> Iterator[EpisodeSummary]:
        """Episode after episode in a single environment, each learned from step by step."""
        while self.steps < steps:
            observation, _ = env.reset(seed=self._episode_seed(self.episodes))
            episode, over = self._begin(observation, steps), False
            while not over:
                observation, reward, terminated, truncated, info = env.step(self._to_env(episode.choices))
                over = bool(terminated or truncated)
                self._move(episode, observation, float(reward), bool(terminated), steps)
            self.episodes += 1
            yield self._summary(episode, bool(info.get("crashed", False)), self.episodes)

    def _many(self, venv: VectorEnv[Any, Any, Any], steps: int) -> Iterator[EpisodeSummary]:
        """Episodes side by side in a vector environment; those that end in one step are told after it.

        So whatever is asked of the agent when it tells of an episode, the whole step was learned from. The
        warm-up sees whole episodes: in many slots its steps would all be early ones.
        """
        observations, _ = venv.reset(seed=self._episode_seed(self.steps))
        episodes: list[RunningEpisode | None] = [None] * venv.num_envs
        unfinished = set(range(venv.num_envs)) if venv.num_envs > 1 else set()
        self._whole = not unfinished
        while self.steps < steps:
            running = [e or self._begin(o, steps) for e, o in zip(episodes, observations, strict=True)]
            result = venv.step(np.array([self._to_env(episode.choices) for episode in running]))
            observations, ended = result[0], []
            for slot, (episode, step) in enumerate(zip(running, slot_steps(result), strict=True)):
                self._move(episode, step.observation, step.reward, step.terminated, steps)
                episodes[slot] = None if step.over else episode
                if step.over:
                    ended.append((slot, step.crashed))
            unfinished -= {slot for slot, _ in ended}
            self._whole = not unfinished
            self._end_warmup()  # here too: there may be no next step
            before, self.episodes = self.episodes, self.episodes + len(ended)
            for number, (slot, crashed) in enumerate(ended, before + 1):
                yield self._summary(running[slot], crashed, number, slot)

    def _begin(self, observation: Any, steps: int) -> RunningEpisode:
        """An episode that starts with an observation, and what is done there."""
        here = flat(observation)
        return RunningEpisode(here, self._explore(here, self.epsilon(steps)))

    def _move(
        self, episode: RunningEpisode, observation: Any, reward: float, terminated: bool, steps: int
    ) -> None:
        """Learns from a step of an episode, and decides on the next one."""
        following, epsilon = flat(observation), self.epsilon(steps)
        ahead = None if terminated else self._explore(following, epsilon)
        self.steps += 1
        error = self._take(Transition(episode.here, episode.choices, reward, following, ahead))
        episode.length, episode.total = episode.length + 1, episode.total + reward
        episode.errors, episode.epsilon = episode.errors + abs(error), epsilon
        if ahead is not None:
            episode.here, episode.choices = following, ahead

    def _summary(self, episode: RunningEpisode, crashed: bool, number: int, slot: int = 0) -> EpisodeSummary:
        scalars = {"epsilon": episode.epsilon, "td_error": episode.td_error, "rows_visited": self.q.visited}
        return EpisodeSummary(number, self.steps, episode.total, episode.length, crashed, scalars, slot)

    def _take(self, transition: Transition) -> float:
        """Learns from a transition, or keeps it until the bins are fitted; the TD error, 0 if kept."""
        if self._fitted:
            return self._learn(transition)
        self._seen.append(transition)
        self._end_warmup()
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

    def _end_warmup(self) -> None:
        """Ends the warm-up where it is over."""
        if self._whole and not self._fitted and len(self._seen) >= self.warmup:
            self._fit_bins()

    def _warn_of_warmup(self) -> None:
        whole = "" if self._whole else ", and at least an episode of every slot in one fit"
        gym.logger.warn(
            f"nothing was learned yet: the warm-up was not over after {len(self._seen)} steps, "
            f"it takes {self.warmup}{whole}; fit for more steps, or set a smaller warmup"
        )

    def _fit_bins(self) -> None:
        """Fits the bins to what was seen in the warm-up, and learns from it."""
        observations = np.stack([transition.observation for transition in self._seen])
        self.q = FactoredQ([quantile_binning(observations, bins) for bins in self._bins], self.q.orders)
        self._fitted = True
        for transition in self._seen:
            self._learn(transition)
        self._seen = []

    def _to_env(self, choices: Choices) -> Any:
        if isinstance(self._action_space, spaces.Discrete):
            return int(self._action_space.start) + choices[0]
        return np.array(choices, dtype=np.int64)

    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> QTablePolicy:
        used = sorted({column for binning in self.q.binnings for column in binning.columns})
        binnings = [Binning(tuple(used.index(c) for c in b.columns), b.edges) for b in self.q.binnings]
        tables = [table.copy() for table in self.q.tables]
        names = [tuning.feature_names[column] for column in used]
        return QTablePolicy(tuning.space, tuning.config, provenance, binnings, tables, names)
