"""What runs in the slots of a vector environment: jobs drawn, trained from decision to decision, told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.courses import Courses, Outcomes
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.phases import EpisodePhase
from rl_tuner.envs.privileged_facts import PRIVILEGED_NAMES, privileged_facts
from rl_tuner.envs.seats import Seat
from rl_tuner.envs.slot_rngs import SlotRngs
from rl_tuner.envs.tuning_setup import Setup, Source
from rl_tuner.envs.vector_info import gather_info
from rl_tuner.errors import ConfigError, JobError, RlTunerError
from rl_tuner.history import Extent
from rl_tuner.seeding import Streams
from rl_tuner.space import Anchor

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Slots:
    """N episodes side by side, one in each slot; when to start them is for others to say.

    Args:
        setup: How jobs are tuned, and where they come from.
        group_size: See `SlotRngs`.
        engine: What trains the jobs, N side by side.

    Attributes:
        engine: What trains the jobs.
        courses: Their decisions.
        rngs: What the episodes are drawn from.
        facts: Of the job in each slot, that the policy does not see, float32 of shape (N, P); zeros before
            there was one. See `rl_tuner.envs.privileged_facts`.
        first: What errors call the first slot: not 0 where these are a part of others' slots.
        ready: Whether a job runs in every slot, and no step failed half-way.
    """

    def __init__(self, setup: Setup, group_size: int, engine: BatchedEngine) -> None:
        self._setup, self.engine = setup, engine
        num = len(engine)
        self.courses = Courses(setup.space, setup.actions, setup.config, num)
        self.rngs = SlotRngs(num, group_size)
        self.ready, self.first = False, 0
        self._sources: list[Source | None] = [None] * num
        self._phases: list[EpisodePhase | None] = [None] * num
        self._names = np.full(num, None, dtype=object)
        self._job_seeds = np.zeros(num, np.int64)
        self.facts = np.zeros((num, len(PRIVILEGED_NAMES)), np.float32)

    def start(self, mask: Bools, job: Source | None = None) -> None:
        """Starts the next episode in each masked slot.

        Args:
            mask: Which slots, shape (N,).
            job: Runs in each of them; None draws jobs.

        Raises:
            JobError, ConfigError, DatasetError: A job cannot be built. Not all slots have one then.
        """
        slots = np.flatnonzero(mask)
        self.ready = False
        seats = [self._begin(slot, *self._setup.draw(self.rngs[slot], job)) for slot in slots.tolist()]
        budgets = [self._phase(i).budgets(seat.budget) for i, seat in zip(slots.tolist(), seats, strict=True)]
        losses = self.engine.validate(slots)
        anchors, extents = [self._anchor(seat) for seat in seats], [_extent(seat) for seat in seats]
        tested = self.engine.test(slots)[slots]
        self.courses.begin(slots, budgets, anchors, losses[slots], extents, tested)
        self.ready = True

    def train(self, actions: NDArray[Any], mask: Bools) -> Outcomes:
        """Takes a decision in each masked slot and trains until the next; keeps or restores what came of it.

        Where a phase or an attempt is over, the next one starts.

        Args:
            actions: Shape (N, D).
            mask: Which slots, shape (N,).

        Raises:
            ConfigError: The actions do not fit the action space; nothing was changed.
            JobError: A job cannot be trained, or its next phase not be built. Others may have been trained
                already: the slots are not ready then.
        """
        courses, engine, names = self.courses, self.engine, self._setup.space.names
        values, slots = courses.act(actions, mask), np.flatnonzero(mask)
        self.ready = False
        engine.write(values, names, slots)
        began = courses.phase_start  # the engine counts from there
        outcome = courses.settle(engine.advance(courses.next_end - began, slots), began + engine.used, mask)
        engine.keep(*(np.flatnonzero(mask) for mask in (outcome.good, outcome.best, outcome.averaged)))
        failed = np.flatnonzero(outcome.restore)
        if len(failed):
            engine.restore(failed)
            engine.write(courses.values, names, failed)
        self._go_on(outcome)
        self._begin_again(np.flatnonzero(outcome.attempt_over))
        self.ready = True
        return outcome

    def infos(self, verdicts: Ints, mask: Bools) -> dict[str, Any]:
        """Infos of the masked slots; see `gather_info`."""
        return gather_info(self.courses, self._names, self._job_seeds, self.val_samples, verdicts, mask)

    @property
    def val_samples(self) -> Ints:
        """Validation samples that each slot's episode has evaluated, in all its phases, shape (N,)."""
        before = [0 if phase is None else phase.val_samples for phase in self._phases]
        return np.array(before) + self.engine.val_samples

    def copy(self, source: int, target: int) -> None:
        """Puts a slot's weights, optimizer state, best weights and loss history into another slot.

        The target goes on in its own batch order, with its own hyperparameters and what it has used.

        Raises:
            ConfigError: They are in different phases.
            JobError: They are different jobs.
        """
        if self.courses.phase[source] != self.courses.phase[target]:
            raise ConfigError(f"slots {source} and {target} are in different phases of their jobs")
        self.engine.copy(source, target)
        self.courses.copy(source, target)

    def get_state(self) -> dict[str, Any]:
        """Everything that runs, picklable if the jobs are; `set_state` continues from it.

        Raises:
            JobError: No job runs in some slot, or a step failed.
        """
        if not self.ready:
            raise JobError("there is no state to take before all slots are reset")
        return {
            "engine": self.engine.get_state(),
            "courses": self.courses.get_state(),
            "rngs": self.rngs.get_state(),
            "sources": list(self._sources),
            "phases": [self._phase(slot).get_state() for slot in range(len(self.engine))],
            "job_seeds": self._job_seeds.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave with the same setup and number of slots.

        Raises:
            JobError, ConfigError, DatasetError: A job cannot be built. Not all slots have one then.
        """
        self.ready = False
        saved = zip(state["sources"], state["job_seeds"].tolist(), state["phases"], strict=True)
        for slot, (source, seed, phase) in enumerate(saved):
            self._begin(slot, source, Streams(seed), phase)
        self.engine.set_state(state["engine"])
        self.courses.set_state(state["courses"])
        self.rngs.set_state(state["rngs"])
        self.ready = True

    def _begin(
        self, slot: int, source: Source, streams: Streams, state: Mapping[str, Any] | None = None
    ) -> Seat:
        """Puts an episode's job into a slot, in the phase that a state tells of or the first one."""
        with _naming(self.first + slot):
            job = source.build()
            first = EpisodePhase.begin(job, streams)
            seat = self._seat(slot, first if state is None else first.resume(job, streams, state))
        self._sources[slot], self._names[slot], self._job_seeds[slot] = source, job.name, streams.seed
        return seat

    def _go_on(self, outcome: Outcomes) -> None:
        """Goes on to the next phases, or after a crash to the last ones, whose models are the jobs'."""
        over, begun = outcome.phase_over, []
        for slot in np.flatnonzero(over | outcome.finished).tolist():
            phase, old = self._phase(slot), self.engine.seat(slot)
            if phase.last:
                continue
            old.restore_best()
            with _naming(self.first + slot):
                step = phase.after if over[slot] else phase.last_one
                seat = self._seat(slot, step(old.module(), old.val_samples))
            if over[slot]:
                begun.append(seat)
        if begun:
            slots = np.flatnonzero(over)
            anchors = [self._anchor(seat) for seat in begun]
            losses, tested = self.engine.validate(slots)[slots], self.engine.test(slots)[slots]
            extents = [_extent(seat) for seat in begun]
            self.courses.begin_phases(
                slots, [seat.budget for seat in begun], anchors, losses, extents, tested
            )

    def _begin_again(self, slots: Ints) -> None:
        """Starts the next attempts in some slots."""
        if not len(slots):
            return
        engine, courses = self.engine, self.courses
        engine.begin_again(slots, courses.attempt[slots] + 1)
        losses, tested = engine.validate(slots)[slots], engine.test(slots)[slots]
        courses.begin_attempts(slots, losses, [_extent(engine.seat(i)) for i in slots.tolist()], tested)

    def _seat(self, slot: int, phase: EpisodePhase) -> Seat:
        """Puts a phase's job into a slot."""
        seat = self.engine.start(slot, phase.job, phase.streams)
        self._phases[slot] = phase
        self.facts[slot] = privileged_facts(seat, 1 + len(phase.first.then))
        return seat

    def _phase(self, slot: int) -> EpisodePhase:
        phase = self._phases[slot]
        if phase is None:
            raise JobError(f"no job was started in slot {slot}")
        return phase

    def _anchor(self, seat: Seat) -> Anchor:
        """Start values, limits and usual values of a job's hyperparameters."""
        start = {name: value for name, value in seat.start.items() if name not in seat.job.fixed}
        limits = {"batch_size": float(seat.sampler.size)}
        return self._setup.space.anchor(start, limits, {"lr": seat.usual_lr})


def _extent(seat: Seat) -> Extent:
    """How long the training that begins in a seat is to be."""
    return Extent.of(seat.budget - seat.used, seat.sampler.batch_size, seat.sampler.size)


@contextmanager
def _naming(slot: int) -> Iterator[None]:
    """Errors inside of the block say which slot they come from."""
    try:
        yield
    except RlTunerError as error:
        raise type(error)(f"slot {slot}: {error}") from error
