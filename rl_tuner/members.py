"""The members of a population: who trains in which slot, who dies, and who is given whose weights.

Jaderberg et al., 2017, "Population Based Training of Neural Networks". Each member starts at a setting of its
own. Every `EVERY` decisions a member among the worst fifth by validation loss is given the weights and the
hyperparameters of one of the best fifth (*exploit*, truncation selection), and the hyperparameters are then
changed at random (*explore*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.exploring import Explorer
from rl_tuner.history import Record
from rl_tuner.job_budgets import with_budget
from rl_tuner.space import Array
from rl_tuner.trials import DECISIONS, Trial, TrialRunner

EVERY = 4
"""Decisions between two looks at whether a member should be given another's weights."""
FRACTION = 5
"""One in so many is worst, and one in so many is best; one each at least."""


def ranked(losses: Mapping[int, float]) -> list[int]:
    """Members from the lowest loss to the highest, those with the same one in order."""
    return sorted(losses, key=lambda member: (losses[member], member))


def successors(losses: Mapping[int, float], due: Iterable[int], rng: np.random.Generator) -> dict[int, int]:
    """Which members are given whose weights: truncation selection.

    Args:
        losses: Present validation loss of each running member.
        due: Members that may be given others' weights now.
        rng: Chooses among the best.

    Returns:
        For each of the worst that is due, one of the best: another member, whose loss is lower.
    """
    order = ranked(losses)
    many = max(1, len(order) // FRACTION) if len(order) > 1 else 0
    best, worst = order[:many], {*order[len(order) - many :]}
    chosen = {target: best[int(rng.integers(many))] for target in sorted(worst.intersection(due))}
    return {target: source for target, source in chosen.items() if losses[source] < losses[target]}


@dataclass(slots=True)
class Member:
    """What trains in a slot.

    Attributes:
        number: Its number, in the order in which they began.
        start: Where its weights began, before any copying: a place, see `rl_tuner.exploring`.
        place: Where it trains now.
        budget: Training samples that it may use, with its dead predecessors.
        before: Training samples that those used.
        ancestry: The records of those that its weights come from, up to where they were copied.
        own: How many of the records in its slot are older than its weights.
        since: Decisions since it began, was given weights, or was last looked at.
    """

    number: int
    start: Array
    place: Array
    budget: int
    before: int = 0
    ancestry: tuple[Record, ...] = ()
    own: int = 0
    since: int = 0

    def history(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """The records of its weights, from the initial ones on.

        Args:
            records: Those of its slot.
        """
        used = self.ancestry[-1].used if self.ancestry else 0
        mine = (replace(record, used=record.used + self.before) for record in records[self.own :])
        # One with another batch size may be a few samples ahead of where its successor was.
        return self.ancestry + tuple(record for record in mine if record.used > used)

    def inherit(self, other: Member, its_records: tuple[Record, ...], own: int) -> None:
        """Notes that another member's weights were copied here.

        Args:
            other: Whose.
            its_records: Those of its slot.
            own: How many there are in this one's slot.
        """
        self.start, self.place = other.start, other.place
        self.ancestry, self.own, self.since = other.history(its_records), own, 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A member whose training is over.

    Attributes:
        number: See `Member`.
        start: See `Member`.
        final: Where it ended.
        trial: What came of it; its samples are its own, its records those of its weights' whole history.
    """

    number: int
    start: Array
    final: Array
    trial: Trial


@dataclass(slots=True)
class Population:
    """Members that train side by side on one job.

    A member that diverges is over: no rails hold it. What it has left of its budget goes to a successor,
    which is given the weights of one of the best fifth, as any of the worst is; or which begins anew, at a
    place drawn at random, where nobody is left. (There is no successor in a job of several phases, nor where
    fewer samples are left than a trial has decisions: the budget stays unused then.)

    Args:
        runner: Trains them, a slot each.
        job: The job, its start values at the explorer's center.
        usual: Its own budget, in training samples.
        scored: Whether it has a test split, on which members are scored when they end.
        seed: Of each member's initial weights and batches.
        explorer: Draws and changes their hyperparameters; its generator decides, too, who is copied.
        decisions: Of a trial of the runner: a successor's budget must hold as many.
        on_end: Called with each member that has ended.
    """

    runner: TrialRunner
    job: Source
    usual: int
    scored: bool
    seed: int
    explorer: Explorer
    decisions: int = DECISIONS
    on_end: Callable[[Ended], object] | None = None
    members: dict[int, Member] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    def run(self, budgets: Iterable[int]) -> list[Ended]:
        """Trains as many members as there are budgets, until those are used up.

        Returns:
            What came of them and of their successors, in the order in which they began.
        """
        for slot, budget in enumerate(budgets):
            self._begin(slot, budget)
        while self.runner.running:
            for member in self.members.values():
                member.since += 1
            over = {slot: self._end(slot) for slot in self.runner.advance()}
            for slot, dead in over.items():
                if dead.budget - dead.before >= self.decisions and not in_phases(self.job):
                    self._replace(slot, dead)
            self._select()
        return sorted(self.ended, key=lambda ended: ended.number)

    def _begin(self, slot: int, budget: int, before: int = 0) -> None:
        place = self.explorer.draw()
        left = budget - before
        job = self.job if left == self.usual else with_budget(self.job, left)
        self.runner.start(slot, job, self.seed)
        self.members[slot] = Member(len(self.members) + len(self.ended), place, place, budget, before)
        self._move(slot)

    def _move(self, slot: int) -> None:
        self.runner.move(slot, self.members[slot].place - self.explorer.center)

    def _end(self, slot: int) -> Member:
        """Notes what came of a member; returns it, the samples that it used counted as `Member.before`."""
        member, records = self.members.pop(slot), self.runner.records(slot)
        trial = self.runner.stop(slot, self.scored)
        trial = replace(trial, records=member.history(records))
        self.ended.append(Ended(member.number, member.start, member.place, trial))
        if self.on_end is not None:
            self.on_end(self.ended[-1])
        member.before += trial.samples
        return member

    def _replace(self, slot: int, dead: Member) -> None:
        """Gives what a dead member has left of its budget to a successor."""
        losses = self._losses()
        self._begin(slot, dead.budget, dead.before)
        if losses:
            best = ranked(losses)[: max(1, len(losses) // FRACTION)]
            self._copy(best[int(self.explorer.rng.integers(len(best)))], slot)

    def _select(self) -> None:
        """Exploits and explores, where it is time to."""
        due = [slot for slot, member in self.members.items() if member.since >= EVERY]
        losses = self._losses()
        for phase in sorted({self.runner.phase(slot) for slot in losses}):
            there = {slot: loss for slot, loss in losses.items() if self.runner.phase(slot) == phase}
            for target, source in successors(there, due, self.explorer.rng).items():
                self._copy(source, target)
        for slot in due:
            self.members[slot].since = 0

    def _losses(self) -> dict[int, float]:
        """Present validation loss of each running member."""
        losses = self.runner.val_losses()
        return {slot: float(losses[slot]) for slot in self.members}

    def _copy(self, source: int, target: int) -> None:
        self.runner.copy(source, target)
        mine, other = self.members[target], self.members[source]
        mine.inherit(other, self.runner.records(source), len(self.runner.records(target)))
        mine.place = self.explorer.explore(mine.place)
        self._move(target)


def in_phases(job: Source) -> bool:
    """Whether a job has several phases."""
    return bool(job.pretraining if isinstance(job, JobSpec) else job.then)
