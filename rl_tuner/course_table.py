"""What is known of many running courses of decisions: one array a quantity, one row a slot."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.columns import arrays, put, repeat
from rl_tuner.config import require_range
from rl_tuner.course_config import CourseConfig
from rl_tuner.course_log import CourseLog
from rl_tuner.errors import ConfigError
from rl_tuner.history import Extent, Interval, Record, Track
from rl_tuner.intervals import boundaries, phase_boundaries
from rl_tuner.restarts import MOST_ATTEMPTS
from rl_tuner.space import Anchor, Array, SearchSpace

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class CourseTable:
    """The state of N courses. The arrays are overwritten in place.

    Until `begin` a slot counts as finished.

    Args:
        space: The hyperparameters moved, D of them.
        config: How the jobs are tuned.
        num: Number of slots, N.

    Attributes:
        budget: What each job may use, in samples or updates, int, shape (N,) like all without a shape here.
        ends: Where its intervals end, int, shape (N, decisions).
        phases: How many phases it has, int.
        phase: The present one, int, from 0.
        phase_start: Where that began, in the budget's unit, int.
        phase_end: Where it ends, int.
        used: How much of the budget is spent, int.
        decision: Decisions settled so far, int.
        rescues: How often the rails stepped in, int.
        failures: How often in a row up to now, in the present phase, int.
        since_best: Decisions since the last new best, int.
        crashed: Whether the job ended by a failure past the rails.
        finished: Whether the job is over.
        rescued: Whether the rails stepped in after the last interval.
        return_: The rewards so far, summed.
        cuts: The product of the rails' cuts of the learning rate.
        fraction: The last action as fractions of the step, shape (N, D).
        offset: Where the hyperparameters are, shape (N, D).
        good_offset: Where they were in the last good interval, shape (N, D).
        best_offset: Where they were in the interval that ended with the best criterion, shape (N, D).
        best_used: How much of the budget was spent then, int.
        attempt: Number of the present attempt, int, from 0 (see `rl_tuner.restarts`).
        begun: How much of the budget was spent when it began, int; 0 for the first one.
        earlier_rescues: How often the rails had stepped in by then, int.
        overall: The tracks of all attempts together; those of the present phase where there are several.
        track: The tracks now, each of the present attempt.
        before: The tracks before the last interval.
        interval: The last interval.
        anchor: Start values and limits, arrays of shape (N, D).

    Raises:
        ConfigError: `num` is below 1.
    """

    def __init__(self, space: SearchSpace, config: CourseConfig, num: int) -> None:
        require_range("num", num, 1)
        self.space, self.config, self.num = space, config, num
        self.budget = np.ones(num, np.int64)
        self.ends = np.ones((num, config.decisions), np.int64)
        self.phases, self.phase_end = np.ones((2, num), np.int64)
        self.phase, self.phase_start = np.zeros((2, num), np.int64)
        self.used, self.decision, self.rescues, self.failures = np.zeros((4, num), np.int64)
        self.since_best = np.zeros(num, np.int64)
        self.attempt, self.begun, self.earlier_rescues = np.zeros((3, num), np.int64)
        self.crashed, self.rescued = np.zeros((2, num), np.bool_)
        self.finished = np.ones(num, np.bool_)
        self.return_, self.cuts = np.zeros(num), np.ones(num)
        self.fraction, self.offset, self.good_offset, self.best_offset = np.zeros((4, num, len(space)))
        self.best_used = np.zeros(num, np.int64)
        self.track, self.before, self.overall = (repeat(Track(), num) for _ in range(3))
        self.interval = repeat(Interval(), num)
        self.anchor = repeat(space.anchor({}), num)
        attempts = MOST_ATTEMPTS if config.restarts else 1
        self._log = CourseLog(num, attempts * config.decisions, space.names)

    def begin(
        self,
        slots: Sequence[int] | Ints,
        budgets: Sequence[int | Sequence[int]] | Ints,
        anchors: Sequence[Anchor],
        val_losses: Sequence[float] | Array,
        extents: Sequence[Extent] | None = None,
        test_losses: Sequence[float] | Array | None = None,
    ) -> None:
        """Starts new courses in some slots, at the jobs' own hyperparameters.

        Args:
            slots: Which slots, k of them.
            budgets: What each job may use, in the unit of `used` in `settle`; for a job in phases, what each
                of them may use.
            anchors: The jobs' start values and limits, from `SearchSpace.anchor`.
            val_losses: Validation losses before training; NaN where a job has no validation.
            extents: How long the trainings are to be; None where that is not known.
            test_losses: Test losses before training; None where the reward does not ask for them.

        Raises:
            ConfigError: A budget cannot hold the decisions, or a job has more phases than decisions.
        """
        known: Sequence[Extent | None] = extents or [None] * len(slots)
        tested = [nan] * len(slots) if test_losses is None else test_losses
        for slot, budget, *beginning in zip(slots, budgets, anchors, val_losses, known, tested, strict=True):
            parts = [int(part) for part in (budget if isinstance(budget, Sequence) else [budget])]
            self.ends[slot] = phase_boundaries(parts, self.config.decisions, self.config.intervals)
            self.budget[slot], self.phases[slot], self.phase_end[slot] = sum(parts), len(parts), parts[0]
            for name in self._ZEROED:
                getattr(self, name)[slot] = 0
            self._begin_phase(slot, *beginning)

    def begin_phases(
        self,
        slots: Sequence[int] | Ints,
        budgets: Sequence[int] | Ints,
        anchors: Sequence[Anchor],
        val_losses: Sequence[float] | Array,
        extents: Sequence[Extent] | None = None,
        test_losses: Sequence[float] | Array | None = None,
    ) -> None:
        """Starts the next phases in some slots; see `rl_tuner.course.Course.begin_phase`.

        Args:
            slots: Which slots, k of them.
            budgets: What each phase may use: the number that `begin` was given for it.
            anchors: See `begin`.
            val_losses: See `begin`.
            extents: See `begin`; of the phases.
            test_losses: See `begin`.
        """
        known: Sequence[Extent | None] = extents or [None] * len(slots)
        tested = [nan] * len(slots) if test_losses is None else test_losses
        for slot, budget, *beginning in zip(slots, budgets, anchors, val_losses, known, tested, strict=True):
            self.phase[slot] += 1
            self.phase_start[slot] = self.phase_end[slot]
            self.phase_end[slot] += budget
            self._begin_phase(slot, *beginning)

    def begin_attempts(
        self,
        slots: Sequence[int] | Ints,
        val_losses: Sequence[float] | Array,
        extents: Sequence[Extent] | None = None,
        test_losses: Sequence[float] | Array | None = None,
    ) -> None:
        """Starts the next attempts in some slots; see `rl_tuner.course.Course.begin_attempt`.

        Args:
            slots: Which slots, k of them.
            val_losses: See `begin`.
            extents: See `begin`; of what is left.
            test_losses: See `begin`.
        """
        known: Sequence[Extent | None] = extents or [None] * len(slots)
        tested = [nan] * len(slots) if test_losses is None else test_losses
        for slot, *beginning in zip(slots, val_losses, known, tested, strict=True):
            used, config = int(self.used[slot]), self.config
            self.attempt[slot] += 1
            self.begun[slot], self.earlier_rescues[slot] = used, self.rescues[slot]
            left = int(self.budget[slot]) - used
            self.ends[slot] = used + boundaries(left, config.decisions, config.intervals)
            self._begin_training(slot, *beginning)

    def _begin_phase(
        self, slot: int, anchor: Anchor, val_loss: float, extent: Extent | None, test_loss: float
    ) -> None:
        self.offset[slot] = 0
        put(self.anchor, slot, anchor)
        self._begin_training(slot, val_loss, extent, test_loss)
        put(self.overall, slot, Track.begin(val_loss, extent, test_loss))

    def _begin_training(self, slot: int, val_loss: float, extent: Extent | None, test_loss: float) -> None:
        for name in self._OF_TRAINING:
            getattr(self, name)[slot] = 0
        self.good_offset[slot] = self.best_offset[slot] = self.offset[slot]
        self.cuts[slot] = 1.0
        self.best_used[slot] = self.used[slot]
        put(self.track, slot, Track.begin(val_loss, extent, test_loss))
        put(self.before, slot, Track.begin(val_loss, extent, test_loss))
        put(self.interval, slot, Interval(val_loss=val_loss))

    def copy(self, source: int, target: int) -> None:
        """Gives a slot another one's history of losses; budgets, hyperparameters and log stay its own."""
        for rows in (self.track, self.before, self.overall, self.interval):
            for column in arrays(rows):
                column[target] = column[source]
        self.since_best[target] = self.since_best[source]
        self.best_offset[target] = self.best_offset[source]
        unimproved = self.used[source] - self.best_used[source]
        self.best_used[target] = max(self.used[target] - unimproved, 0)

    def records(self, slot: int) -> tuple[Record, ...]:
        """The log of the slot's present course, a line for each decision so far; `begin` starts it anew."""
        return self._log.records(slot, int(self.decision[slot]))

    def final_records(self, slot: int) -> tuple[Record, ...]:
        """The log of the course that finished last in the slot; empty before one did."""
        return self._log.final_records(slot)

    _OF_TRAINING = ("since_best", "failures", "rescued", "fraction")
    _ZEROED = (
        *_OF_TRAINING, "used", "decision", "rescues", "crashed", "finished", "return_", "phase",
        "phase_start", "attempt", "begun", "earlier_rescues",
    )  # fmt: skip
    _STATE = (
        *_ZEROED,
        "offset",
        "good_offset",
        "best_offset",
        "overall",
        "budget",
        "ends",
        "phases",
        "phase_end",
        "best_used",
        "cuts",
        "track",
        "before",
        "interval",
        "anchor",
        "_log",
    )

    def get_state(self) -> dict[str, Any]:
        """Everything that changes during the courses, copied and picklable; `set_state` continues from it."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self._STATE}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a copy of a state that `get_state` gave.

        Raises:
            ConfigError: The state is of another number of slots, decisions or hyperparameters, or of an
                earlier version.
        """
        lacking = [name for name in self._STATE if name not in state]
        if lacking:
            raise ConfigError(f"the state was saved by another version of rl-tuner: it lacks {lacking[0]!r}")
        theirs, mine = state["_log"].lines, self._log.lines
        if _sizes(theirs) != _sizes(mine):
            raise ConfigError(
                f"the state has (slots, decisions, hyperparameters) {_sizes(theirs)}, here are {_sizes(mine)}"
            )
        for name in self._STATE:
            setattr(self, name, copy.deepcopy(state[name]))


def _sizes(lines: NDArray[np.void]) -> tuple[int, ...]:
    return (*lines.shape, *lines.dtype["values"].shape)
