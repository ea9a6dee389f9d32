"""Episodes side by side on the batched engine: the fast twin of `rl_tuner.rollout`, the reference.

Episodes whose policies want to be run alike (search space, kind of action, decisions, rails) share the slots
of one engine; those of one job gain the most there, since only networks of one architecture share work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.slots import Slots
from rl_tuner.envs.tuning_setup import Setup, Source, options_for
from rl_tuner.policy import Policy
from rl_tuner.rollout import Episode
from rl_tuner.space import Anchor

SLOTS = 64
"""Episodes side by side at most: more gain little, and hold more weights in memory."""
OnDecision = Callable[[int, NDArray[np.float32], Anchor], object]
"""(number of the run, observation of shape (F,), the anchor in force) before each decision."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """An episode that is to be run.

    Attributes:
        policy: What acts. The episode has a copy of its own, reset with the seed: what is given here neither
            acts nor remembers anything.
        seed: Of the job's streams (and of the job drawn, if none is given), as in `TuningEnv.reset`.
        job: The job to run; None draws one from the suite.
    """

    policy: Policy
    seed: int
    job: Source | None = None


def run_side_by_side(
    runs: Sequence[Run],
    *,
    suite: str = "quick",
    split: str = "train",
    slots: int = SLOTS,
    on_episode: Callable[[], object] | None = None,
    on_decision: OnDecision | None = None,
) -> list[Episode]:
    """Runs episodes, each as `rl_tuner.rollout.run_episode` would, to floating-point tolerance.

    Dropout masks are others, but not their distribution. The same runs in the same order give the same
    episodes bit for bit; beside other neighbours an episode may differ in the last bits, which long training
    can make more of.

    Args:
        runs: Which episodes.
        suite: Where jobs are drawn from for runs without one.
        split: Of the suite.
        slots: How many run side by side at most, >= 1.
        on_episode: Called whenever one has ended.
        on_decision: Called before each decision.

    Returns:
        An episode for each run, in order.

    Raises:
        ConfigError: The suite or the split is unknown, or a job cannot hold a policy's decisions.
        JobError, DatasetError: A job cannot be built or trained.
    """
    require_counts({"slots": slots})
    episodes: dict[int, Episode] = {}
    for alike in _alike(runs):
        setup = Setup(None, suite, split, **options_for(runs[alike[0]].policy))
        for numbers in np.array_split(alike, -(-len(alike) // slots)):
            batch = _Batch(setup, {number: runs[number] for number in numbers.tolist()}, on_decision)
            for number, episode in batch.play():
                episodes[number] = episode
                if on_episode is not None:
                    on_episode()
    return [episodes[number] for number in range(len(runs))]


def _alike(runs: Sequence[Run]) -> list[list[int]]:
    """Numbers of the runs whose policies want the same environment, group by group."""
    groups: dict[object, list[int]] = {}
    for number, run in enumerate(runs):
        policy = run.policy
        groups.setdefault((policy.space, policy.actions.kind, policy.config), []).append(number)
    return list(groups.values())


class _Batch:
    """Runs in slots, in order, from their beginnings to their ends."""

    def __init__(self, setup: Setup, runs: dict[int, Run], on_decision: OnDecision | None) -> None:
        num = len(runs)
        self._numbers, self._on_decision = list(runs), on_decision
        self._policies = [copy.deepcopy(run.policy) for run in runs.values()]
        self._seeds = [run.seed for run in runs.values()]
        self._side = Slots(setup, 1, BatchedEngine(num, averaging=setup.config.averaging))
        self._side.rngs.seed(self._seeds, np.ones(num, np.bool_))
        for job, slots in _by_job(runs.values()):
            self._side.start(np.isin(np.arange(num), slots), job)
        for policy, seed in zip(self._policies, self._seeds, strict=True):
            policy.reset(seed)
        infos = self._side.infos(np.zeros(num, np.int64), np.ones(num, np.bool_))
        self._names: list[str] = infos["job"].tolist()
        self._start_losses: list[float] = infos["val_loss"].tolist()
        self._choices = setup.actions.kind == "discrete"

    def play(self) -> Iterable[tuple[int, Episode]]:
        """Trains all of them; yields a run's number and its episode as soon as it has ended."""
        side = self._side
        active = np.ones(len(self._numbers), np.bool_)
        while active.any():
            outcome = side.train(self._act(active), active)
            active = active & ~outcome.finished
            for slot in np.flatnonzero(outcome.finished).tolist():
                yield self._numbers[slot], self._episode(slot)

    def _act(self, active: NDArray[np.bool_]) -> NDArray[Any]:
        """The policies' actions, shape (N, D); 0 in slots whose episode is over."""
        courses = self._side.courses
        observation = courses.observation()
        actions: NDArray[Any] = np.zeros(courses.offset.shape, np.int64 if self._choices else np.float64)
        for slot in np.flatnonzero(active).tolist():
            if self._on_decision is not None:
                self._on_decision(self._numbers[slot], observation[slot], _row(courses.anchor, slot))
            actions[slot] = self._policies[slot].act(observation[slot])
        return actions

    def _episode(self, slot: int) -> Episode:
        """What came of a slot's run, which has just ended."""
        engine, courses = self._side.engine, self._side.courses
        engine.restore_best(slot)
        has_test = engine.seat(slot).job.test is not None
        return Episode(
            job=self._names[slot],
            seed=self._seeds[slot],
            policy=self._policies[slot].name,
            return_=float(courses.return_[slot]),
            start_val_loss=self._start_losses[slot],
            val_loss=float(courses.overall.lowest[slot]),
            test=engine.evaluate(slot, "test") if has_test else {},
            samples=int(courses.used[slot]),
            val_samples=int(self._side.val_samples[slot]),
            crashed=bool(courses.crashed[slot]),
            rescues=int(courses.rescues[slot]),
            records=courses.records(slot),
        )


def _by_job(runs: Iterable[Run]) -> list[tuple[Source | None, list[int]]]:
    """The jobs, and the slots that each runs in."""
    found: dict[int, tuple[Source | None, list[int]]] = {}
    for slot, run in enumerate(runs):
        found.setdefault(id(run.job), (run.job, []))[1].append(slot)
    return list(found.values())


def _row(anchors: Anchor, slot: int) -> Anchor:
    """A slot's own anchor, copied."""
    return Anchor(*(getattr(anchors, field.name)[slot].copy() for field in fields(anchors)))
