"""Trials: jobs trained at fixed settings, many side by side on the batched engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.slots import Slots
from rl_tuner.envs.tuning_setup import Setup
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record

SLOTS = 64
"""Trials side by side: more share no more of the work where a suite's networks differ."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a job at its start values.

    Attributes:
        records: Interval by interval.
        crashed: Whether it diverged: a loss or parameter was not finite.
        test: Loss and metrics of the best weights on the test split; empty if they were not asked for.
        complete: Whether it came to its last phase; what is recorded of another is another loss.
    """

    records: tuple[Record, ...]
    crashed: bool
    test: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True

    @property
    def val_loss(self) -> float:
        """The best validation loss, of the last phase if there are several; inf if it crashed before that."""
        best = self.records[-1].best
        return best if self.complete and np.isfinite(best) else float("inf")


def run_trials(
    jobs: Sequence[JobSpec | TrainingJob],
    seeds: Sequence[int],
    *,
    decisions: int = 20,
    slots: int = SLOTS,
    test: bool = False,
    on_trial: Callable[[], object] | None = None,
) -> list[Trial]:
    """Trains each job at its start values, and validates it where an environment would decide.

    Args:
        jobs: What to train.
        seeds: Of each job's streams: initial weights, batches, dropout.
        decisions: Intervals, each with a validation at its end.
        slots: How many run side by side.
        test: Whether the best weights are scored on the test split.
        on_trial: Called whenever one has ended.

    Returns:
        A trial for each job, in order.

    Raises:
        ConfigError: There are not as many seeds as jobs, or a job's budget is below the decisions.
        JobError, DatasetError: A job cannot be built or trained.
    """
    if len(jobs) != len(seeds):
        raise ConfigError(f"{len(jobs)} jobs need as many seeds, got {len(seeds)}")
    num = max(1, min(slots, len(jobs)))
    setup = Setup(
        None, "quick", "train", "continuous", "log_improvement", None, decisions, "geometric", False, None
    )
    side = Slots(setup, 1, BatchedEngine(num))
    hold = np.zeros((num, len(setup.space)))  # a change of nothing
    running: dict[int, int] = {}
    found: dict[int, Trial] = {}
    waiting = iter(range(len(jobs)))
    while len(found) < len(jobs):
        for slot in sorted({*range(num)} - {*running}):
            number = next(waiting, None)
            if number is not None:
                mask = np.arange(num) == slot
                side.rngs.seed([seeds[number]] * num, mask)
                side.start(mask, jobs[number])
                running[slot] = number
        outcome = side.train(hold, np.isin(np.arange(num), list(running)))
        for slot in np.flatnonzero(outcome.finished).tolist():
            found[running.pop(slot)] = _ended(side, slot, test)
            if on_trial is not None:
                on_trial()
    return [found[number] for number in range(len(jobs))]


def _ended(side: Slots, slot: int, test: bool) -> Trial:
    """What came of the trial that has ended in a slot."""
    courses, scores = side.courses, {}
    if test:
        side.engine.restore_best(slot)
        scores = side.engine.evaluate(slot, "test")
    complete = bool(courses.phase[slot] == courses.phases[slot] - 1)
    return Trial(courses.records(slot), bool(courses.crashed[slot]), scores, complete)
