from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.envs.arena import Arena, Lease
from rl_tuner.envs.data import TensorPool

CPU = torch.device("cpu")


def pool(length: int, value: float = 0.0) -> TensorPool:
    inputs = value + torch.arange(2.0 * length).view(length, 2) / 1000
    return TensorPool(inputs, inputs[:, 0].clone())


def samples(arena: Arena, lease: Lease) -> TensorPool:
    return TensorPool(*arena.gather(torch.arange(lease.start, lease.start + len(lease))))


def same(a: TensorPool, b: TensorPool) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_a_pool_is_kept_once_however_many_hold_it() -> None:
    data = pool(10)
    arena = Arena(data, CPU)
    first, again = arena.take(data), arena.take(TensorPool(data.inputs, data.targets))
    assert first is again
    assert (first.holders, arena.pools) == (2, 1)


def test_views_of_one_memory_are_different_pools() -> None:
    data = pool(10)
    arena = Arena(data, CPU)
    halves = [TensorPool(data.inputs[a:b], data.targets[a:b]) for a, b in ((0, 5), (5, 10), (0, 10))]
    leases = [arena.take(half) for half in halves]
    assert arena.pools == 3
    assert all(same(samples(arena, lease), half) for lease, half in zip(leases, halves, strict=True))


def test_a_pool_that_was_released_is_found_again_without_a_copy() -> None:
    data = pool(10)
    arena = Arena(data, CPU)
    lease = arena.take(data)
    Arena.release(lease)
    assert arena.take(data) is lease


def test_leases_stay_valid_when_the_samples_move() -> None:
    pools = [pool(4, value=i) for i in range(4)]
    arena = Arena(pools[0], CPU)
    leases = [arena.take(p) for p in pools[:3]]
    before = leases[2].start
    Arena.release(leases[0])
    taken = [leases[1], leases[2]]
    # Fresh pools, until there is no room and the others move together.
    taken += [arena.take(pool(4, value=9)) for _ in range(20)]
    assert leases[2].start < before
    assert all(same(samples(arena, lease), lease.pool) for lease in taken)


def test_room_is_bounded_over_ten_thousand_fresh_pools() -> None:
    arena = Arena(pool(1), CPU)
    held: list[Lease] = []
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(10_000):
        held.append(arena.take(pool(int(rng.integers(1, 8)))))
        most = max(most, sum(map(len, held)))
        if len(held) > 5:
            Arena.release(held.pop(int(rng.integers(len(held)))))
    assert arena.samples <= 2 * most
    assert arena.pools <= arena.samples


def test_a_full_arena_frees_so_much_room_that_moves_stay_rare() -> None:
    arena = Arena(pool(1), CPU)
    moves = 0
    keep = [arena.take(pool(10)) for _ in range(10)]
    for _ in range(1000):
        place = arena.inputs.data_ptr(), keep[-1].start
        keep.append(arena.take(pool(10)))
        Arena.release(keep.pop(0))
        moves += (arena.inputs.data_ptr(), keep[-2].start) != place
    assert moves <= 1000 / 9


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_any_order_of_taking_and_releasing_keeps_what_is_held(steps: list[tuple[bool, int]]) -> None:
    pools = [pool(1 + 3 * i, value=10.0 * i) for i in range(6)]
    arena = Arena(pools[0], CPU)
    held: dict[int, list[Lease]] = {i: [] for i in range(6)}
    for take, i in steps:
        if take:
            held[i].append(arena.take(pools[i]))
        elif held[i]:
            Arena.release(held[i].pop())
        spans = []
        for j, leases in held.items():
            for lease in leases:
                assert lease.holders == len(leases)
                assert same(samples(arena, lease), pools[j])
            spans += [(leases[0].start, leases[0].start + len(leases[0]))] if leases else []
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_everything_lists_each_pools_samples_and_fills_up_with_the_first() -> None:
    pools = [pool(3), pool(1), pool(2)]
    arena = Arena(pools[0], CPU)
    leases = [arena.take(p) for p in pools]
    places, filled = Arena.everything(leases)
    assert places.tolist() == [[0, 1, 2], [3, 3, 3], [4, 5, 4]]
    assert filled.tolist() == [[True] * 3, [True, False, False], [True, True, False]]


def test_gathering_keeps_the_shape_of_the_index() -> None:
    data = TensorPool(torch.arange(24).view(4, 2, 3), torch.arange(4.0))
    arena = Arena(data, CPU)
    arena.take(data)
    index: Any = torch.tensor([[0, 3, 1], [2, 2, 0]])
    inputs, targets = arena.gather(index)
    assert torch.equal(inputs, data.inputs[index])
    assert torch.equal(targets, data.targets[index])


def test_samples_changed_in_place_are_taken_anew_and_the_old_lease_keeps_the_old_ones() -> None:
    data = pool(10)
    before = TensorPool(data.inputs.clone(), data.targets.clone())
    arena = Arena(data, CPU)
    old = arena.take(data)
    data.inputs[3:] += 5
    new = arena.take(data)
    assert new is not old
    assert arena.take(data) is new
    assert same(samples(arena, new), data)
    data.targets.zero_()
    newest = arena.take(TensorPool(data.inputs, data.targets))
    assert same(samples(arena, newest), data)
    others = [arena.take(pool(7, value=i)) for i in range(20)]  # moves what is held
    assert same(samples(arena, old), before)
    assert not same(samples(arena, new), data)
    assert all(same(samples(arena, lease), lease.pool) for lease in others)


def test_samples_made_in_inference_mode_can_be_taken() -> None:
    with torch.inference_mode():
        data = pool(10)
    arena = Arena(data, CPU)
    assert same(samples(arena, arena.take(data)), data)
    assert arena.take(data).holders == 2
