"""How jobs of unequal batch sizes and lengths run side by side: rounds, phases and rows.

A *round* gives every job that takes part exactly one update. Jobs with fewer updates to do join later, so
that all of them end, and are measured, in the same last round. A *phase* is a run of rounds with the same
jobs. Within a phase every row of the program holds the same number of samples, m; a job with a larger batch
takes several rows, whose gradients are added, and one with a smaller batch leaves places of its row empty
(weight 0).
No job waits for another's larger batch, and none does fewer updates than its batch size asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ROW_COST = 12
"""What another row costs, in samples: a copy of the parameters and a sum of gradients (measured on MLPs)."""
MOST_ROUNDS = 64
"""Longer phases are cut, to bound the memory of their indices."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One job's training until its next decision.

    Attributes:
        row: Its row in the group's storage.
        kind: Number of its optimizer's rule; jobs of one rule stand together.
        batch_size: Samples an update.
        last: Samples of the last update, which the end of the budget may cut or enlarge by one.
        places: Places of the samples in the arena, batch after batch.
    """

    row: int
    kind: int
    batch_size: int
    last: int
    places: Ints

    @property
    def updates(self) -> int:
        """How many updates there are to do."""
        return (len(self.places) - self.last) // self.batch_size + 1


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """Rounds in which the same jobs take part, n of them on R >= n rows.

    Attributes:
        first: Number of the first round, counted from the plan's beginning.
        jobs: Positions in the plan of the jobs that take part, ascending, shape (n,).
        segments: (rule, first and end position in the plan, first and end among `jobs`) of each rule at work.
        owner: For each row, which of `jobs` it belongs to, shape (R,); the first n are 0, 1, …, n - 1.
        places: Places in the arena, shape (rounds, R, m); an empty place names the first sample of its batch.
        weights: Of the samples, shape (R, m): 1 / batch size, or 0 for an empty place.
        within: Each sample's place in its batch, shape (R, m).
    """

    first: int
    jobs: Ints
    segments: tuple[tuple[int, int, int, int, int], ...]
    owner: Ints
    places: Ints
    weights: NDArray[np.float64]
    within: Ints

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.places)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All phases of some jobs' intervals.

    Attributes:
        works: The jobs in the plan's order: by rule, then the ones with most updates first.
        updates: Updates of each, shape (len(works),).
        rounds: The most of them.
        phases: In order; the last round is a phase of its own.
    """

    works: tuple[Work, ...]
    updates: Ints
    rounds: int
    phases: tuple[Phase, ...]


def make_plan(works: Sequence[Work]) -> Plan:
    """Plans the intervals of some jobs, at least one.

    The order depends on the works alone, not on how their rules are numbered.
    """
    rank = {kind: i for i, kind in enumerate(dict.fromkeys(work.kind for work in works))}
    ordered = tuple(sorted(works, key=lambda work: (rank[work.kind], -work.updates)))
    table = _Table.of(ordered)
    rounds = int(table.updates.max())
    joins = np.unique(rounds - table.updates)
    cuts = sorted({*joins.tolist(), *range(0, rounds, MOST_ROUNDS), rounds - 1, rounds})
    phases = [table.phase(first, end) for first, end in pairwise(cuts)]
    return Plan(ordered, table.updates, rounds, tuple(phases))


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The works of a plan side by side: arrays of shape (len(works),), and all their places end to end."""

    kinds: Ints
    sizes: Ints
    lasts: Ints
    updates: Ints
    begins: Ints
    places: Ints

    @classmethod
    def of(cls, works: Sequence[Work]) -> _Table:
        rows = [(w.kind, w.batch_size, w.last, w.updates, len(w.places)) for w in works]
        kinds, sizes, lasts, updates, lengths = np.array(rows, np.int64).T
        places = np.concatenate([w.places for w in works])
        return cls(kinds, sizes, lasts, updates, np.cumsum(lengths) - lengths, places)

    def phase(self, first: int, end: int) -> Phase:
        """The phase from one round to another; the last round must be a phase of its own."""
        total = int(self.updates.max())
        joined = total - self.updates  # the round at which each job joins in
        jobs = np.flatnonzero(joined <= first)
        sizes = (self.lasts if end == total else self.sizes)[jobs]
        begins = self.begins[jobs] + (first - joined[jobs]) * self.sizes[jobs]
        m = row_size(sizes)
        owner, part = _split(-(-sizes // m))
        within = part[:, None] * m + np.arange(m)
        filled = within < sizes[owner][:, None]
        places = begins[owner][:, None] + np.where(filled, within, 0)
        turns = np.arange(end - first)[:, None, None] * sizes[owner][:, None]
        weights = filled / sizes[owner][:, None]
        segments = _segments(jobs, self.kinds[jobs])
        return Phase(first, jobs, segments, owner, self.places[places + turns], weights, within)


def _split(rows: Ints) -> tuple[Ints, Ints]:
    """Owner of each row and number of its part; all first parts stand in front, in the owners' order."""
    jobs, extra = np.arange(len(rows)), rows - 1
    owner = np.repeat(jobs, extra)
    part = 1 + np.arange(len(owner)) - np.repeat(np.cumsum(extra) - extra, extra)
    return np.concatenate([jobs, owner]), np.concatenate([np.zeros_like(jobs), part])


def _segments(jobs: Ints, kinds: Ints) -> tuple[tuple[int, int, int, int, int], ...]:
    """`Phase.segments`: within a rule's stretch of the plan the jobs at work stand in front."""
    found = []
    for kind in np.unique(kinds):
        among = np.flatnonzero(kinds == kind)
        first, end = int(among[0]), int(among[-1]) + 1
        found.append((int(kind), int(jobs[first]), int(jobs[first]) + end - first, first, end))
    return tuple(found)


def row_size(sizes: Ints) -> int:
    """How many samples a row should hold for batches of these sizes: the one of them that costs least."""
    candidates = np.unique(sizes)
    rows = -(-sizes[:, None] // candidates)
    return int(candidates[(rows * (ROW_COST + candidates)).sum(0).argmin()])
