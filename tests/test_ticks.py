"""Ticks, blocks and chunks: how jobs share programs of static shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.envs.plan import Work
from rl_tuner.envs.ticks import in_order, make_chunks, ticks_of


@st.composite
def works(draw: st.DrawFn) -> list[Work]:
    found = []
    for row in range(draw(st.integers(1, 7))):
        size, updates = draw(st.integers(1, 11)), draw(st.integers(1, 5))
        last = draw(st.integers(1, size + 1))
        places = 1000 * row + np.arange(size * (updates - 1) + last)
        found.append(Work(row, 0, size, last, places))
    return found


SIZES = {"m": st.integers(1, 6), "capacity": st.integers(1, 4), "unrolled": st.integers(1, 4)}


@given(works=works(), **SIZES)
def test_each_sample_of_a_job_comes_once_in_order_in_its_own_update(
    works: list[Work], m: int, capacity: int, unrolled: int
) -> None:
    works = in_order(works, m)
    for chunk in make_chunks(works, m, capacity, unrolled):
        for j in range(chunk.jobs):
            work = works[chunk.first + j]
            found: dict[int, list[int]] = {}
            for t in range(len(chunk.places)):
                count, number = int(chunk.counts[t, j]), int(chunk.updates[t, j])
                assert chunk.offsets[t, j] == len(found.get(number, [])) or not count
                found.setdefault(number, []).extend(chunk.places[t, j, :count].tolist())
            sizes = [work.batch_size] * (work.updates - 1) + [work.last]
            expected = np.split(work.places, np.cumsum(sizes)[:-1])
            assert [found[i] for i in range(work.updates)] == [e.tolist() for e in expected]


@given(works=works(), **SIZES)
def test_an_update_comes_with_the_last_tick_of_a_batch_and_all_jobs_end_together(
    works: list[Work], m: int, capacity: int, unrolled: int
) -> None:
    works = in_order(works, m)
    for chunk in make_chunks(works, m, capacity, unrolled):
        ticks = len(chunk.places)
        assert ticks % unrolled == 0
        assert ticks - unrolled < ticks_of(works[chunk.first], m) <= ticks
        for j in range(chunk.jobs):
            busy = chunk.counts[:, j] > 0
            ends = np.flatnonzero(chunk.ends[:, j])
            assert len(ends) == works[chunk.first + j].updates == chunk.starts[:, j].sum()
            assert ends[-1] == ticks - 1
            assert (np.diff(busy.astype(int)) >= 0).all()  # idle first, then never again
            whole = chunk.offsets[:, j] + chunk.counts[:, j] == chunk.sizes[:, j]
            assert np.array_equal(whole & busy, chunk.ends[:, j])


@given(works=works(), **SIZES)
def test_empty_places_hold_a_sample_of_the_job_itself(
    works: list[Work], m: int, capacity: int, unrolled: int
) -> None:
    works = in_order(works, m)
    for chunk in make_chunks(works, m, capacity, unrolled):
        for j in range(capacity):
            work = works[chunk.first + min(j, chunk.jobs - 1)]
            assert np.isin(chunk.places[:, j], work.places).all()
        assert not chunk.counts[:, chunk.jobs :].any()
        assert not chunk.ends[:, chunk.jobs :].any()


@given(works=works(), m=st.integers(1, 6))
def test_chunks_take_the_longest_jobs_first(works: list[Work], m: int) -> None:
    ticks = [ticks_of(work, m) for work in in_order(works, m)]
    assert ticks == sorted(ticks, reverse=True)


@pytest.mark.parametrize(("size", "accumulates"), [(3, False), (4, False), (5, True)])
def test_gradients_accumulate_only_where_a_batch_takes_more_than_one_tick(
    size: int, accumulates: bool
) -> None:
    work = Work(0, 0, size, 2, np.arange(size + 2))
    assert make_chunks([work], 4, 2, 1)[0].accumulates is accumulates
