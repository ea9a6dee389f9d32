"""What a policy sees and does on average over jobs: what `rl_tuner.controls` are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts
from rl_tuner.envs.suites import load_suite
from rl_tuner.features import FeatureSet
from rl_tuner.intervals import boundaries
from rl_tuner.policy import Policy
from rl_tuner.rollout import Episode
from rl_tuner.seeding import Streams
from rl_tuner.side_by_side import Run, run_side_by_side
from rl_tuner.space import Anchor, SearchSpace

JOBS = 32
"""Jobs of the train split that a policy's mean observations and actions are taken over."""
RESOLUTION = 10_000
"""Budget a decision, of the planned places of decisions."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a policy sees and does on average, over the budget.

    Attributes:
        progress: Shares of the budget, ascending from 0, shape (n,).
        observations: Mean observation there, shape (n, F).
        offsets: Mean place of each hyperparameter after a decision there, over the jobs that have it, as a
            fraction of its reach, shape (n, D).
    """

    progress: NDArray[np.float64]
    observations: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def seen(self, progress: float) -> NDArray[np.float32]:
        """The mean observation at a share of the budget, shape (F,)."""
        row = _between(self.progress, self.observations, np.array([progress]))[0]
        return np.asarray(row, np.float32)

    def done(self, progress: float) -> NDArray[np.float64]:
        """The mean place after a decision at a share of the budget, shape (D,)."""
        row: NDArray[np.float64] = _between(self.progress, self.offsets, np.array([progress]))[0]
        return row


def _between(
    places: NDArray[np.float64], table: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows of a table (n, columns) at ascending places (n,), by straight lines between them."""
    return np.stack([np.interp(wanted, places, column) for column in table.T], axis=-1)


def habits(
    policy: Policy, suite: str, jobs: int = JOBS, seed: int = 0, on_job: Callable[[], object] | None = None
) -> Habits:
    """Runs a policy on jobs of a suite's train split, and takes the means.

    Args:
        policy: Which.
        suite: Name or file.
        jobs: How many are drawn.
        seed: Of the draw.
        on_job: Called after each.

    Raises:
        ConfigError: The suite is unknown, or `jobs` below 1.
    """
    require_counts({"jobs": jobs})
    family, rng = load_suite(suite).family("train"), Streams(seed).numpy("data")
    runs = [Run(policy, seed + number, family.sample(rng)) for number in range(jobs)]
    watches = [_Watch([], []) for _ in runs]
    episodes = run_side_by_side(
        runs, on_episode=on_job, on_decision=lambda number, *noted: watches[number].note(*noted)
    )
    config = policy.config
    # Where decisions fall by plan; on a job they fall a little later, where batches end.
    ends = boundaries(config.decisions * RESOLUTION, config.decisions, config.intervals)
    places = np.array([0, *ends[:-1]]) / ends[-1]
    column = FeatureSet(policy.space).names.index("progress")
    seen, done = [], []
    for watch, episode in zip(watches, episodes, strict=True):
        observations = np.array(watch.seen, np.float64)
        progress = observations[:, column]
        seen.append(_between(progress, observations, places))
        done.append(_between(progress, watch.places(policy.space, episode), places))
    return Habits(places, _mean(np.array(seen)), _mean(np.array(done)))


@dataclass(frozen=True, slots=True)
class _Watch:
    """What a policy sees in an episode, decision by decision, and the anchors in force then."""

    seen: list[NDArray[np.float32]]
    anchors: list[Anchor]

    def note(self, observation: NDArray[np.float32], anchor: Anchor) -> None:
        """One more decision."""
        self.seen.append(observation.copy())
        self.anchors.append(anchor)

    def places(self, space: SearchSpace, episode: Episode) -> NDArray[np.float64]:
        """Where the hyperparameters stood after each decision, shape (decisions, D); see `_place`."""
        noted = zip(episode.records, self.anchors, strict=True)
        return np.array([_place(space, anchor, record.values) for record, anchor in noted])


def _place(space: SearchSpace, anchor: Anchor, values: Mapping[str, float]) -> NDArray[np.float64]:
    """Where hyperparameters stand, as fractions of their reach, shape (D,); NaN where the job lacks one."""
    place = np.full(len(space), np.nan)
    for i, h in enumerate(space.hyperparameters):
        if h.name in values:
            place[i] = (h.coordinate(values[h.name]) - anchor.coordinate[i]) / h.reach
    return place


def _mean(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over jobs of tables of shape (jobs, n, columns); NaN left out, 0 where all are."""
    there = ~np.isnan(tables)
    mean: NDArray[np.float64] = np.where(there, tables, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    return mean


class WrappedPolicy(Policy):
    """A policy made from another one: run as it is run.

    Attributes:
        clock: Where an observation has the share of the budget that is spent.
    """

    def __init__(self, policy: Policy, kind: str) -> None:
        super().__init__(policy.space, kind, policy.config)
        self._policy = policy
        self.clock = self.feature_names.index("progress")

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode."""
        self._policy.reset(seed)

    def get_state(self) -> dict[str, Any]:
        """The policy's own memory."""
        return self._policy.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues with a memory that `get_state` gave."""
        self._policy.set_state(state)
