"""How jobs of unequal batch sizes and lengths share a program of static shape: ticks, blocks and chunks.

A *tick* gives every place of a chunk the same number of samples, m. A batch takes as many ticks as it needs,
the last one filled up with samples of weight 0, and the update comes with its last tick. A *chunk* holds at
most C jobs; the ones with fewer ticks idle first, so that all of a chunk end, and are measured, in the same
tick. Ticks are run K at a time: a *block*, of which the first begins with idle ticks if K does not divide
their number.
`rl_tuner.envs.plan` is the other way, with shapes that change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.plan import Work

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The ticks of at most C jobs, T of them in whole blocks; shapes are (T, C) unless told.

    Attributes:
        first: Position of the first job in the plan's order; the others follow.
        jobs: How many; the other places, up to C, repeat the last job and never update.
        places: Places of the samples in the arena, shape (T, C, m).
        counts: Samples of the tick; 0 where it is idle.
        sizes: Samples of the batch that the tick belongs to; 1 where it is idle.
        offsets: Place in the batch of the tick's first sample.
        updates: Number of the job's update that the tick belongs to, from 0.
        starts: Whether the tick is its batch's first one.
        ends: Whether it is its batch's last one: the update follows.
        accumulates: Whether some batch takes more than one tick.
    """

    first: int
    jobs: int
    places: Ints
    counts: Ints
    sizes: Ints
    offsets: Ints
    updates: Ints
    starts: Bools
    ends: Bools
    accumulates: bool


def ticks_of(work: Work, m: int) -> int:
    """How many ticks of m samples a job needs."""
    return (work.updates - 1) * -(-work.batch_size // m) + -(-work.last // m)


def in_order(works: Sequence[Work], m: int) -> list[Work]:
    """Jobs in the order that wastes least: the ones with most ticks first, then like beside like."""
    return sorted(works, key=lambda w: (-ticks_of(w, m), -w.batch_size, w.last))


def make_chunks(works: Sequence[Work], m: int, capacity: int, unrolled: int) -> list[Chunk]:
    """Plans the intervals of some jobs, at least one.

    Args:
        works: The jobs, in order.
        m: Samples a tick.
        capacity: C, jobs a chunk.
        unrolled: K, ticks a block.
    """
    parts = [works[first : first + capacity] for first in range(0, len(works), capacity)]
    return [_chunk(i * capacity, part, m, capacity, unrolled) for i, part in enumerate(parts)]


def _chunk(first: int, works: Sequence[Work], m: int, capacity: int, unrolled: int) -> Chunk:
    ticks = -(-max(ticks_of(work, m) for work in works) // unrolled) * unrolled
    shape = (ticks, capacity)
    places = np.empty((*shape, m), np.int64)
    places[:] = np.array([w.places[0] for w in _filled_up(works, capacity)])[None, :, None]
    counts, offsets, updates = (np.zeros(shape, np.int64) for _ in range(3))
    sizes = np.ones(shape, np.int64)
    starts, ends = np.zeros(shape, bool), np.zeros(shape, bool)
    for columns, alike in _runs(works):
        work, n = alike[0], len(alike)
        number, place, count, size = _pattern(work, m)
        own = np.s_[ticks - len(number) :, columns]
        counts[own], offsets[own], updates[own], sizes[own] = (
            a[:, None] for a in (count, place, number, size)
        )
        starts[own] = (place == 0)[:, None]
        ends[own] = (place + count == size)[:, None]
        samples = np.stack([w.places for w in alike], 1)
        body = len(samples) - work.last
        whole = len(number) - -(-work.last // m)
        target = places[ticks - len(number) :, columns]
        _fill(target[:whole], samples[:body].reshape(work.updates - 1, work.batch_size, n), m)
        _fill(target[whole:], samples[body:].reshape(1, work.last, n), m)
    accumulates = not bool((starts == ends).all())
    return Chunk(first, len(works), places, counts, sizes, offsets, updates, starts, ends, accumulates)


def _filled_up(works: Sequence[Work], capacity: int) -> list[Work]:
    """So many jobs, the last one repeated."""
    return [*works, *[works[-1]] * (capacity - len(works))]


def _runs(works: Sequence[Work]) -> list[tuple[slice, Sequence[Work]]]:
    """Neighbours whose ticks are alike, and the places that they take."""
    shapes = [(w.batch_size, w.last, len(w.places)) for w in works]
    cuts = [0, *(i for i in range(1, len(works)) if shapes[i] != shapes[i - 1]), len(works)]
    return [(slice(a, b), works[a:b]) for a, b in pairwise(cuts)]


def _pattern(work: Work, m: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Of each of a job's ticks: the update's number, the first sample's place, samples, and the batch's."""
    sizes = np.full(work.updates, work.batch_size)
    sizes[-1] = work.last
    each = -(-sizes // m)
    number = np.repeat(np.arange(work.updates), each)
    place = (np.arange(len(number)) - np.repeat(np.cumsum(each) - each, each)) * m
    size = sizes[number]
    return number, place, np.minimum(size - place, m), size


def _fill(target: Ints, batches: Ints, m: int) -> None:
    """Writes batches (batches, samples, jobs) into the ticks (ticks, jobs, m) that they take."""
    count, size, jobs = batches.shape
    each = -(-size // m)
    ticks = target.reshape(count, each, jobs, m)
    for k in range(each):
        part = batches[:, k * m : (k + 1) * m]
        ticks[:, k, :, : part.shape[1]] = part.transpose(0, 2, 1)
