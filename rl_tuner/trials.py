"""Trials: jobs at static settings, each under a schedule of its own, side by side on the batched engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.slots import Slots
from rl_tuner.envs.tuning_setup import Setup, Source
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record
from rl_tuner.policy import Policy

SLOTS = 64
"""Trials side by side: more share no more of the work where a suite's networks differ."""
DECISIONS = 20
"""Validations of a trial, and steps of its schedule: as many as a learned policy's usual number."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a job at a static setting.

    Attributes:
        records: Interval by interval.
        crashed: Whether it diverged: a loss or parameter was not finite.
        test: Loss and metrics of the best weights on the test split; empty if they were not asked for.
        complete: Whether it came to its last phase; what is recorded of another is another loss.
        start_val_loss: Validation loss before training, of the last phase it came to.
        samples: Training samples used.
        val_samples: Validation samples evaluated.
        last_phase: Training samples used when its present phase began: 0 in the first one.
    """

    records: tuple[Record, ...]
    crashed: bool
    test: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    start_val_loss: float = float("nan")
    samples: int = 0
    val_samples: int = 0
    last_phase: int = 0

    @property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """The training samples used at each new best validation loss of the last phase, and that loss."""
        steps: list[tuple[int, float]] = []
        for record in self.records if self.complete else ():
            if record.used > self.last_phase and record.best < (steps[-1][1] if steps else float("inf")):
                steps.append((record.used, float(record.best)))
        return tuple(steps)

    @property
    def val_loss(self) -> float:
        """The best validation loss, of the last phase if there are several; inf if it ended before that."""
        # One that was stopped as its last phase began has only records of another loss.
        came_there = self.records and self.records[-1].used > self.last_phase
        best = self.records[-1].best if came_there else self.start_val_loss
        return best if self.complete and np.isfinite(best) else float("inf")


class TrialRunner:
    """Jobs in slots, side by side, each from decision to decision; when to start and stop them is for others.

    There are no rails: a trial that diverges ends there, as anybody's training would.

    Args:
        slots: How many run side by side, >= 1.
        decisions: Intervals of a trial, each with a validation at its end, >= 1.
        intervals: "uniform" or "geometric".

    Attributes:
        space: The hyperparameters that schedules, or `move`, may change, D of them: the standard ones.
    """

    def __init__(self, slots: int, decisions: int = DECISIONS, intervals: str = "uniform") -> None:
        require_counts({"slots": slots})
        # Its own job or suite is never asked for one: `start` is always given the job.
        setup = Setup(
            None, "quick", "train", "anchored", "log_improvement", None, decisions, intervals, False, None
        )
        self.space = setup.space
        self._names = setup.features.names
        self._side = Slots(setup, 1, BatchedEngine(slots))
        self._num = slots
        self._offsets = np.zeros((slots, len(self.space)))
        self._policies: dict[int, _Reader | None] = {}
        self._finished: set[int] = set()

    @property
    def free(self) -> list[int]:
        """Slots where nothing runs and nothing waits to be stopped."""
        return [slot for slot in range(self._num) if slot not in self._policies]

    @property
    def running(self) -> list[int]:
        """Slots whose trials have budget left."""
        return [slot for slot in sorted(self._policies) if slot not in self._finished]

    def start(self, slot: int, job: Source, seed: int, policy: Policy | None = None) -> None:
        """Starts a trial in a free slot.

        Args:
            slot: Which.
            job: What to train, at its start values.
            seed: Of the job's streams, as in `TuningEnv.reset`: initial weights, batches, dropout.
            policy: A schedule, which moves what it knows; None holds everything at its start values, but for
                `move`. No two trials may share one that has a memory.

        Raises:
            ConfigError: The slot is not free, or the policy does not act anchored on some of `space`.
            JobError, DatasetError: The job cannot be built. All slots are lost then.
        """
        if slot in self._policies:
            raise ConfigError(f"a trial runs in slot {slot}: stop it first")
        reader = None if policy is None else _Reader(policy, self.space.names, self._names)
        mask = np.arange(self._num) == slot
        self._side.rngs.seed([seed] * self._num, mask)
        self._side.start(mask, job)
        self._offsets[slot] = 0.0
        if policy is not None:
            policy.reset(seed)
        self._policies[slot] = reader

    def advance(self) -> list[int]:
        """Trains every running trial until its next decision; returns the slots whose trials ended now.

        Raises:
            JobError: A job cannot be trained. All slots are lost then.
        """
        running = self.running
        mask = np.isin(np.arange(self._num), running)
        observation = self._side.courses.observation()
        actions = self._offsets / self.space.reaches
        for slot in running:
            reader = self._policies[slot]
            if reader is not None:
                reader.write(observation[slot], actions[slot])
        outcome = self._side.train(actions, mask)
        ended: list[int] = np.flatnonzero(outcome.finished).tolist()
        self._finished.update(ended)
        return ended

    def records(self, slot: int) -> tuple[Record, ...]:
        """What the trial in a slot has come to, interval by interval."""
        return self._side.courses.records(slot)

    def phase(self, slot: int) -> int:
        """Number of the phase that the trial in a slot is in, from 0."""
        return int(self._side.courses.phase[slot])

    def val_losses(self) -> NDArray[np.float64]:
        """The present validation loss of each slot's trial, shape (slots,); inf where it diverged."""
        losses = np.asarray(self._side.courses.interval.criterion, np.float64)
        return np.where(self._side.courses.crashed | ~np.isfinite(losses), np.inf, losses)

    def place(self, slot: int) -> NDArray[np.float64]:
        """Offsets of a trial's hyperparameters from their start values, shape (D,), as trained with last."""
        offset: NDArray[np.float64] = self._side.courses.offset[slot].copy()
        return offset

    def move(self, slot: int, offset: NDArray[np.float64]) -> None:
        """Sets offsets, shape (D,), for the coming intervals, as far as the job allows; if no policy does.

        Raises:
            ConfigError: A policy moves the trial, or there is none.
        """
        if self._policies.get(slot, self) is not None:
            raise ConfigError(f"the trial in slot {slot} is moved by a policy, or there is none")
        anchor = self._side.courses.anchor
        self._offsets[slot] = np.clip(offset, anchor.low[slot], anchor.high[slot])

    def copy(self, source: int, target: int) -> None:
        """Gives a trial the weights of another one of the same job, as population-based training does.

        The target takes over weights, optimizer state, best weights and loss history. It keeps what it has
        used, its batch order and its hyperparameters.

        Raises:
            ConfigError: One of the two has ended, or they are in different phases.
            JobError: The jobs differ.
        """
        for slot in (source, target):
            if slot not in self.running:
                raise ConfigError(f"no trial runs in slot {slot}")
        self._side.copy(source, target)

    def stop(self, slot: int, test: bool = False) -> Trial:
        """Ends a trial, whether its budget is spent or not, and frees the slot.

        Args:
            slot: Which.
            test: Whether the best weights are scored on the test split. `Trial.test` is empty all the same
                if the trial was stopped before its last phase.

        Raises:
            ConfigError: There is no trial.
        """
        if slot not in self._policies:
            raise ConfigError(f"there is no trial in slot {slot}")
        courses, engine = self._side.courses, self._side.engine
        complete = bool(courses.phase[slot] == courses.phases[slot] - 1)
        scores: dict[str, float] = {}
        if test and (complete or slot in self._finished):
            engine.restore_best(slot)
            scores = engine.evaluate(slot, "test")
        trial = Trial(
            records=courses.records(slot),
            crashed=bool(courses.crashed[slot]),
            test=scores,
            complete=complete,
            start_val_loss=float(courses.overall.first[slot]),
            samples=int(courses.used[slot]),
            val_samples=int(self._side.val_samples[slot]),
            last_phase=int(courses.phase_start[slot]),
        )
        courses.finished[slot] = True
        del self._policies[slot]
        self._finished.discard(slot)
        return trial


class _Reader:
    """A schedule, which reads and moves some of the hyperparameters of a larger search space."""

    def __init__(self, policy: Policy, names: Sequence[str], features: Sequence[str]) -> None:
        if policy.actions.kind != "anchored" or not set(policy.space.names) <= set(names):
            raise ConfigError(
                f"a trial's policy must act anchored on some of {', '.join(names)}; {policy.name!r} acts "
                f"{policy.actions.kind} on {', '.join(policy.space.names)}"
            )
        self._policy = policy
        self._read = [features.index(name) for name in policy.feature_names]
        self._written = [names.index(name) for name in policy.space.names]

    def write(self, observation: NDArray[np.float32], action: NDArray[np.float64]) -> None:
        """Writes the policy's part of an action, shape (D,), on an observation of shape (F,)."""
        action[self._written] = self._policy.act(observation[self._read])


def run_trials(
    jobs: Sequence[Source],
    seeds: Sequence[int],
    policies: Sequence[Policy | None] | None = None,
    *,
    decisions: int = DECISIONS,
    intervals: str = "geometric",
    slots: int = SLOTS,
    test: bool = False,
    on_trial: Callable[[], object] | None = None,
) -> list[Trial]:
    """Trains each job at its start values, and validates it where an environment would decide.

    Args:
        jobs: What to train.
        seeds: Of each job's streams: initial weights, batches, dropout.
        policies: A schedule for each job, or None for constant values; see `TrialRunner.start`.
        decisions: Intervals, each with a validation at its end.
        intervals: "geometric" or "uniform".
        slots: How many run side by side.
        test: Whether the best weights are scored on the test split.
        on_trial: Called whenever one has ended.

    Returns:
        A trial for each job, in order.

    Raises:
        ConfigError: There are not as many seeds or policies as jobs, or a budget is below the decisions.
        JobError, DatasetError: A job cannot be built or trained.
    """
    moved = [None] * len(jobs) if policies is None else policies
    for what, given in (("seeds", seeds), ("policies", moved)):
        if len(given) != len(jobs):
            raise ConfigError(f"{len(jobs)} jobs need as many {what}, got {len(given)}")
    if not jobs:
        return []
    runner = TrialRunner(max(1, min(slots, len(jobs))), decisions, intervals)
    number_in: dict[int, int] = {}
    found: dict[int, Trial] = {}
    waiting = iter(range(len(jobs)))
    while len(found) < len(jobs):
        for slot, number in zip(runner.free, waiting, strict=False):
            runner.start(slot, jobs[number], seeds[number], moved[number])
            number_in[slot] = number
        for slot in runner.advance():
            found[number_in.pop(slot)] = runner.stop(slot, test)
            if on_trial is not None:
                on_trial()
    return [found[number] for number in range(len(jobs))]
