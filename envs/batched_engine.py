"""The batched engine: many training jobs at once, each trained as the reference engine would train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rl_tuner.envs.allocation import Allocator
from rl_tuner.envs.group import Group
from rl_tuner.envs.jobs import TrainingJob, require_device
from rl_tuner.envs.measures import MEASURED, untrained
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.rows import AVERAGE
from rl_tuner.envs.sample_cache import NotBatchedError
from rl_tuner.envs.seats import BatchedSeat, ReferenceSeat, Seat
from rl_tuner.errors import JobError
from rl_tuner.history import Interval
from rl_tuner.seeding import Streams

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST_TOLD = 256
"""So many reasons why jobs are not batched are told; those that come up later are not."""


class BatchedEngine:
    """Trains up to N jobs side by side, those of one architecture in one program.

    A slot's job trains on the batches, from the weights, with the updates that `ReferenceEngine` would give
    it, to floating-point tolerance; dropout masks differ, but not their distribution. What cannot be
    batched (see `Allocator`) runs on a reference engine of its own; a warning says so once for each reason
    (of the first `MOST_TOLD` ones).

    Args:
        num: N, the number of slots.
        device: Where the groups' tensors are.
        uniform: Run jobs in programs of static shapes, which can be compiled, of these sizes; None: in
            rounds of shapes that change.
        averaging: Whether averages of the weights are kept, and validated beside the weights.
        tested: Whether test losses are measured too, for a reward that asks for them.
    """

    def __init__(
        self,
        num: int,
        device: str | torch.device = "cpu",
        uniform: Uniform | None = None,
        averaging: bool = False,
        tested: bool = False,
    ) -> None:
        self.device, self.averaging, self.tested = require_device(device), averaging, tested
        self._seats: list[Seat | None] = [None] * num
        self._allocator = Allocator(num, self.device, uniform, averaging, tested)
        self._told: set[str] = set()

    def __len__(self) -> int:
        """N, the number of slots."""
        return len(self._seats)

    @property
    def groups(self) -> list[Group]:
        """The groups of jobs that train side by side, those without a job included."""
        return self._allocator.groups

    def seat(self, slot: int) -> Seat:
        """The job at work in a slot.

        Raises:
            JobError: There is none.
        """
        seat = self._seats[slot]
        if seat is None:
            raise JobError(f"no job was started in slot {slot}")
        return seat

    def start(self, slot: int, job: TrainingJob, streams: Streams) -> Seat:
        """Puts a job into a slot, in place of the one that was there, which ends whatever happens.

        Args:
            slot: Which one.
            job: What to train.
            streams: Seeds of initial weights, batch order and dropout.

        Raises:
            JobError, ConfigError, DatasetError: The job cannot be built.
        """
        old, self._seats[slot] = self._seats[slot], None
        if old is not None:
            old.release()
        try:
            seat: Seat = self._allocator.place(job, streams)
        except NotBatchedError as reason:
            self._tell(job, str(reason))
            seat = ReferenceSeat.of(job, streams, self.averaging, self.tested)
        self._seats[slot] = seat
        return seat

    def write(self, values: Floats, names: Sequence[str], slots: Ints) -> None:
        """Sets hyperparameters.

        Args:
            values: Shape (N, len(names)); NaN leaves one as it is.
            names: The columns.
            slots: Which slots to write to.

        Raises:
            ConfigError: A job has no hyperparameter of that name.
        """
        given = ~np.isnan(values)
        for group, where, rows in self._by_group(slots):
            for i, name in enumerate(names):
                chosen = given[where, i]
                if name != "batch_size" and chosen.any():
                    group.rows.write(name, rows[chosen], values[where[chosen], i])
        for slot in slots:
            seat = self.seat(slot)
            if isinstance(seat, ReferenceSeat):
                mine = zip(names, values[slot].tolist(), given[slot], strict=True)
                seat.engine.trainee.write({name: value for name, value, there in mine if there})
            elif "batch_size" in names and given[slot, i := names.index("batch_size")]:
                seat.sampler.batch_size = float(values[slot, i])

    def advance(self, ends: Ints, slots: Ints) -> Interval:
        """Trains the slots until `ends` samples are used, at least one update each, then validates.

        Args:
            ends: In training samples since the job's start, shape (N,).
            slots: Which slots to train.

        Returns:
            Arrays of shape (N,), NaN or 0 where nothing was trained.

        Raises:
            JobError: A job's budget is already spent; nothing was trained.
        """
        for slot in slots:
            if self.seat(slot).used >= self.seat(slot).budget:
                raise JobError(f"the budget of {self.seat(slot).budget} samples in slot {slot} is spent")
        figures = untrained(len(self._seats))
        for group, where, rows in self._by_group(slots):
            works = [self._batched(slot).work(int(ends[slot])) for slot in where]
            order, interval = group.train(works)
            slot_of = np.empty(group.rows.capacity, np.int64)
            slot_of[rows] = where
            figures["samples"][where] = [len(work.places) for work in works]
            for name in MEASURED:
                figures[name][slot_of[order]] = getattr(interval, name)
        for slot in slots:
            seat = self.seat(slot)
            if isinstance(seat, ReferenceSeat):
                alone = seat.engine.advance(int(ends[slot]))
                for name, array in figures.items():
                    array[slot] = getattr(alone, name)
        self._measure(slots, "validation", figures["val_loss"])
        self._measure(slots, "test", figures["test_loss"])
        if self.averaging:
            self._measure(slots, "validation", figures["averaged_loss"], AVERAGE)
            self._measure(slots, "test", figures["averaged_test_loss"], AVERAGE)
        return Interval(**figures)

    def validate(self, slots: Ints) -> Floats:
        """Mean validation loss of some slots, counted; inf if not finite, NaN without validation.

        Returns:
            Shape (N,), NaN for other slots.
        """
        return self._losses(slots, "validation")

    def test(self, slots: Ints) -> Floats:
        """Mean test loss of some slots; inf if not finite, NaN where it is not measured or there is no test.

        Returns:
            Shape (N,), NaN for other slots.
        """
        return self._losses(slots, "test")

    def _losses(self, slots: Ints, split: str) -> Floats:
        losses = np.full(len(self._seats), np.nan)
        for slot in slots:
            seat = self.seat(slot)
            if isinstance(seat, ReferenceSeat):
                losses[slot] = seat.mean_loss(split)
        self._measure(slots, split, losses)
        return losses

    def _measure(self, slots: Ints, split: str, losses: Floats, weights: str = "theta") -> None:
        """Writes the losses of the batched slots that hold a split: of the weights, or of `AVERAGE`."""
        if split == "test" and not self.tested:  # nobody holds any: no need to ask each seat
            return
        for group, where, _ in self._by_group(slots):
            seats = {slot: self._batched(slot) for slot in where.tolist()}
            held = {slot: seat.held(split) for slot, seat in seats.items()}
            leases = {slot: lease for slot, lease in held.items() if lease is not None}
            if not leases:
                continue
            found = group.mean_losses([seats[slot].row for slot in leases], list(leases.values()), weights)
            losses[list(leases)] = np.where(np.isfinite(found), found, np.inf)
            if split == "validation":
                for slot, lease in leases.items():
                    seats[slot].val_samples += len(lease)

    def keep(self, good: Ints, best: Ints, averaged: Ints | None = None) -> None:
        """Keeps the states of some slots.

        Args:
            good: Those whose present state is their last good one.
            best: Those whose present weights are their best ones.
            averaged: Those whose best weights are the average of them; None for no slot.
        """
        averaged = good[:0] if averaged is None else averaged
        for group, _, rows in self._by_group(good):
            group.rows.copy(rows, "", "good_")
        for group, _, rows in self._by_group(best):
            group.rows.keep_best(rows)
        for group, _, rows in self._by_group(averaged):
            group.rows.keep_best(rows, AVERAGE)
        for slot in {*good.tolist(), *best.tolist(), *averaged.tolist()}:
            seat = self.seat(slot)
            if isinstance(seat, ReferenceSeat):
                seat.keep(slot in good, slot in best, slot in averaged)

    def restore(self, slots: Ints) -> None:
        """Puts the last good state back; hyperparameters are to be written afterwards."""
        for group, _, rows in self._by_group(slots):
            group.rows.copy(rows, "good_", "")
        for slot in slots:
            seat = self.seat(slot)
            if isinstance(seat, ReferenceSeat):
                seat.restore()

    def begin_again(self, slots: Ints, attempts: Ints) -> None:
        """Gives some slots the initial weights of another attempt, which are their last good state then.

        Hyperparameters, the budget used and the best weights stay.

        Args:
            slots: Which ones.
            attempts: The attempt's number in each of them, from 1.
        """
        for slot, attempt in zip(slots.tolist(), attempts.tolist(), strict=True):
            self.seat(slot).begin_again(attempt)

    def copy(self, source: int, target: int) -> None:
        """Puts a slot's weights, optimizer state and best weights into another slot of the same job.

        Raises:
            JobError: They are different jobs.
        """
        mine, its = self.seat(target), self.seat(source)
        if isinstance(mine, BatchedSeat) and isinstance(its, BatchedSeat) and mine.group is its.group:
            mine.group.rows.copy_row(its.row, mine.row)
        elif isinstance(mine, ReferenceSeat) and isinstance(its, ReferenceSeat):
            mine.take_over(its)
        else:
            raise JobError(f"slots {source} and {target} hold different jobs: nothing can be copied")

    def restore_best(self, slot: int) -> None:
        """Puts a slot's best weights back."""
        self.seat(slot).restore_best()

    def evaluate(self, slot: int, split: str) -> dict[str, float]:
        """The present weights' loss and metrics on a split.

        Raises:
            JobError: The job has no such split.
        """
        return self.seat(slot).evaluate(split)

    def module(self, slot: int) -> nn.Module:
        """A slot's network as it stands, to be read only: the live one, or a copy."""
        return self.seat(slot).module()

    @property
    def used(self) -> Ints:
        """Training samples used by each slot, shape (N,)."""
        return np.array([0 if seat is None else seat.used for seat in self._seats])

    @property
    def val_samples(self) -> Ints:
        """Validation samples evaluated by each slot, shape (N,)."""
        return np.array([0 if seat is None else seat.val_samples for seat in self._seats])

    @property
    def bytes_per_job(self) -> int:
        """Memory of the heaviest job's row, in bytes: weights and optimizer state, live, good and best."""
        return max((group.rows.bytes_per_row for group in self.groups), default=0)

    def get_state(self) -> list[dict[str, Any]]:
        """What training changes in each slot, copied; `set_state` continues from it."""
        return [self.seat(slot).get_state() for slot in range(len(self._seats))]

    def set_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Continues from a state that `get_state` gave, bit for bit; the same jobs must have been started.

        Raises:
            JobError, ConfigError: The state is of other jobs.
        """
        if len(state) != len(self._seats):
            raise JobError(f"the state is of {len(state)} slots, there are {len(self._seats)}")
        for slot, saved in enumerate(state):
            self.seat(slot).set_state(saved)

    def _batched(self, slot: int) -> BatchedSeat:
        seat = self.seat(slot)
        if not isinstance(seat, BatchedSeat):
            raise TypeError(f"slot {slot} is not batched")
        return seat

    def _by_group(self, slots: Ints) -> list[tuple[Group, Ints, Ints]]:
        """The slots of each group that trains some of them, and their rows there."""
        found: dict[Group, list[tuple[int, int]]] = {}
        for slot in slots.tolist():
            seat = self.seat(slot)
            if isinstance(seat, BatchedSeat):
                found.setdefault(seat.group, []).append((slot, seat.row))
        return [(group, *np.array(pairs).T) for group, pairs in found.items()]

    def _tell(self, job: TrainingJob, reason: str) -> None:
        """Warns, once for each of the first reasons, that a job is not batched."""
        if reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            gym.logger.warn(f"job {job.name!r} runs by itself on the reference engine, not batched: {reason}")
