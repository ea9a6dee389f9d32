"""The log of many running courses as one table, from which each one's records are made when asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rl_tuner.history import Interval, Record, Track
from rl_tuner.rails import Verdict
from rl_tuner.space import Array

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class CourseLog:
    """One line for each slot and decision.

    Args:
        num: Number of slots, N.
        decisions: Most decisions that a course has.
        names: Names of the hyperparameters, D of them.
    """

    def __init__(self, num: int, decisions: int, names: Sequence[str]) -> None:
        self.names = tuple(names)
        line = [
            ("used", np.int64),
            ("train_loss", np.float64),
            ("val_loss", np.float64),
            ("best", np.float64),
            ("reward", np.float64),
            ("verdict", np.int64),
            ("attempt", np.int64),
            ("values", np.float64, (len(self.names),)),
        ]
        self.lines = np.zeros((num, decisions), line)
        self._final_lines = self.lines.copy()
        self._final_decisions = np.zeros(num, np.int64)

    def write(
        self,
        active: Bools,
        decision: Ints,
        used: Ints,
        interval: Interval,
        track: Track,
        reward: Array,
        verdict: Ints,
        values: Array,
        attempt: Ints,
    ) -> None:
        """Notes a decision in each active slot; see `Record` for what is noted.

        Args:
            active: Which slots, bool, shape (N,).
            decision: Number of the decision in each, from 0, shape (N,).
            used: Budget spent, shape (N,).
            interval: What the training showed, arrays of shape (N,).
            track: The track after it, arrays of shape (N,).
            reward: Shape (N,).
            verdict: A `Verdict` as int, shape (N,).
            values: The hyperparameters trained with, shape (N, D); NaN where a job lacks one.
            attempt: Number of the attempt, shape (N,).
        """
        slots = np.flatnonzero(active)
        place = slots, decision[slots]
        self.lines["used"][place] = used[slots]
        self.lines["train_loss"][place] = interval.train_late[slots]
        self.lines["val_loss"][place] = interval.val_loss[slots]
        self.lines["best"][place] = track.lowest[slots]
        self.lines["reward"][place] = reward[slots]
        self.lines["verdict"][place] = verdict[slots]
        self.lines["values"][place] = values[slots]
        self.lines["attempt"][place] = attempt[slots]

    def close(self, ended: Bools, decisions: Ints) -> None:
        """Keeps the lines of courses that ended for `final_records`, in place of those kept before.

        Args:
            ended: Which slots, bool, shape (N,).
            decisions: How many lines each has, shape (N,).
        """
        slots = np.flatnonzero(ended)
        self._final_lines[slots] = self.lines[slots]
        self._final_decisions[slots] = decisions[slots]

    def final_records(self, slot: int) -> tuple[Record, ...]:
        """The lines of the course that ended last in a slot; none before one did."""
        return self._records(self._final_lines[slot, : self._final_decisions[slot]])

    def records(self, slot: int, decisions: int) -> tuple[Record, ...]:
        """The first lines of a slot.

        Args:
            slot: Which one.
            decisions: How many lines.
        """
        return self._records(self.lines[slot, :decisions])

    def _records(self, lines: NDArray[np.void]) -> tuple[Record, ...]:
        return tuple(
            Record(
                decision=decision,
                used=int(line["used"]),
                train_loss=float(line["train_loss"]),
                val_loss=float(line["val_loss"]),
                best=float(line["best"]),
                reward=float(line["reward"]),
                verdict=Verdict(int(line["verdict"])).name.lower(),
                values=self._named(line["values"].tolist()),
                attempt=int(line["attempt"]),
            )
            for decision, line in enumerate(lines)
        )

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        """The hyperparameters that a line's job has (or its phase: another one may have others)."""
        return {name: v for name, v in zip(self.names, values, strict=True) if not math.isnan(v)}
