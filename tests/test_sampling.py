from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from rl_tuner.errors import ConfigError
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.seeding import Streams

SIZES = st.integers(1, 40)


def draw_all(sampler: TunedBatchSampler) -> list[np.ndarray[Any, Any]]:
    batches = []
    while sampler.next_size():
        batches.append(sampler.draw())
    return batches


@given(SIZES, st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(0, 5))
def test_every_sample_comes_once_a_shuffle_at_whatever_batch_sizes(
    size: int, batch_sizes: list[int], seed: int
) -> None:
    sampler = TunedBatchSampler(size, seed=seed)
    drawn: list[int] = []
    for batch_size in batch_sizes:
        sampler.batch_size = batch_size
        batch = sampler.draw()
        assert len(batch) == min(batch_size, size)
        drawn.extend(batch)
        assert sampler.drawn == len(drawn)
    for first in range(0, len(drawn) - size + 1, size):
        assert sorted(drawn[first : first + size]) == list(range(size))
    rest = drawn[len(drawn) // size * size :]
    assert len(set(rest)) == len(rest)


def test_the_order_is_that_of_the_seeds_permutations() -> None:
    sampler = TunedBatchSampler(10, batch_size=4, seed=3)
    drawn = np.concatenate([sampler.draw() for _ in range(5)])
    generator = Streams(3).numpy("batches")
    np.testing.assert_array_equal(drawn, np.concatenate([generator.permutation(10) for _ in range(2)]))


@given(SIZES, st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 150))
def test_the_stream_ends_after_exactly_so_many_samples(
    size: int, batch_sizes: list[int], samples: int
) -> None:
    sampler = TunedBatchSampler(size, seed=1)
    sampler.stop_after(samples)
    drawn = []
    while sampler.next_size():
        sampler.batch_size = batch_sizes[len(drawn) % len(batch_sizes)]
        promised = sampler.next_size()
        drawn.append(sampler.draw())
        assert len(drawn[-1]) == promised
        assert sampler.drawn == sum(map(len, drawn))
    assert sum(map(len, drawn)) == samples
    assert len(sampler.draw()) == 0


@given(SIZES, st.integers(2, 50), st.integers(2, 150))
def test_no_last_batch_of_one_sample_is_left_over(size: int, batch_size: int, samples: int) -> None:
    sampler = TunedBatchSampler(size, batch_size, seed=1)
    sampler.stop_after(samples)
    assert len(draw_all(sampler)[-1]) >= 2


@pytest.mark.parametrize(
    ("size", "batch_size", "samples", "lengths"),
    [
        (10, 4, 12, [4, 4, 4]),
        (10, 4, 11, [4, 4, 3]),
        (10, 4, 9, [4, 5]),
        (4, 4, 9, [4, 5]),  # more than the dataset holds, from the start of a shuffle
        (4, 4, 5, [5]),
        (10, 4, 1, [1]),
        (10, 4, 0, []),
        (1, 1, 4, [1, 1, 2]),
    ],
)
def test_the_last_batches_are_cut_as_computed_by_hand(
    size: int, batch_size: int, samples: int, lengths: list[int]
) -> None:
    sampler = TunedBatchSampler(size, batch_size)
    sampler.stop_after(samples)
    assert [len(b) for b in draw_all(sampler)] == lengths


@pytest.mark.parametrize(
    ("given", "effective"),
    [(1, 1), (7.9, 7), (10, 10), (11, 10), (10**9, 10), (np.int64(3), 3), (np.float64(2.0), 2)],
)
def test_a_batch_size_is_whole_and_at_most_the_dataset(given: float, effective: int) -> None:
    sampler = TunedBatchSampler(10)
    sampler.batch_size = given
    assert sampler.batch_size == sampler.next_size() == effective


def test_a_change_of_size_applies_to_the_next_batch_in_mid_epoch() -> None:
    sampler = TunedBatchSampler(20, batch_size=4)
    lengths = []
    for batch in sampler:
        lengths.append(len(batch))
        sampler.batch_size = 8
    assert lengths == [4, 8, 8]


@given(SIZES, st.integers(1, 50))
def test_one_iteration_is_one_epoch_of_the_promised_length(size: int, batch_size: int) -> None:
    sampler = TunedBatchSampler(size, batch_size)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {i for batch in batches for i in batch} == set(range(size))
    assert all(type(i) is int for b in batches for i in b)


def test_it_feeds_a_data_loader_and_the_size_may_change_between_two_batches(untouched_rng: None) -> None:
    dataset = TensorDataset(torch.arange(20))
    sampler = TunedBatchSampler(20, batch_size=5, seed=2)
    twin = TunedBatchSampler(20, batch_size=5, seed=2)
    loader = DataLoader(dataset, batch_sampler=sampler, generator=torch.Generator())
    assert len(loader) == 4
    seen = []
    for i, (batch,) in enumerate(loader):
        assert batch.tolist() == twin.draw().tolist()
        seen.append(len(batch))
        if i == 0:
            sampler.batch_size = twin.batch_size = 10
    assert seen == [5, 10, 10]


@given(SIZES, st.integers(1, 20), st.integers(0, 6), st.none() | st.integers(0, 60))
def test_a_saved_state_continues_identically_on_another_sampler(
    size: int, batch_size: int, before: int, left: int | None
) -> None:
    sampler, other = TunedBatchSampler(size, batch_size, seed=4), TunedBatchSampler(size, seed=99)
    if left is not None:
        sampler.stop_after(left)
    for _ in range(before):
        sampler.draw()
    state = pickle.loads(pickle.dumps(sampler.get_state()))
    expected = [sampler.draw().tolist() for _ in range(6)]
    other.set_state(state)
    assert other.batch_size == min(batch_size, size)
    assert [other.draw().tolist() for _ in range(6)] == expected


@given(
    SIZES,
    st.none() | st.integers(0, 90),
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 100)), min_size=1, max_size=5),
)
def test_an_interval_is_what_draws_one_by_one_would_give(
    size: int, left: int | None, steps: list[tuple[int, int]]
) -> None:
    one_by_one, at_once = TunedBatchSampler(size, seed=3), TunedBatchSampler(size, seed=3)
    if left is not None:
        one_by_one.stop_after(left)
        at_once.stop_after(left)
    for batch_size, samples in steps:
        one_by_one.batch_size = at_once.batch_size = batch_size
        batches: list[Any] = []
        while sum(map(len, batches)) < samples and one_by_one.next_size():
            batches.append(one_by_one.draw())
        drawn, last = at_once.draw_interval(samples)
        assert drawn.dtype == np.int64
        assert drawn.tolist() == [i for batch in batches for i in batch]
        assert last == (len(batches[-1]) if batches else 0)
        assert all(len(batch) == at_once.batch_size for batch in batches[:-1])
        np.testing.assert_equal(at_once.get_state(), one_by_one.get_state())


def test_a_saved_state_does_not_change_when_the_sampler_runs_on() -> None:
    sampler = TunedBatchSampler(10, 4, seed=4)
    state = sampler.get_state()
    first = [sampler.draw().tolist() for _ in range(6)]
    sampler.set_state(state)
    assert [sampler.draw().tolist() for _ in range(6)] == first


def test_a_state_of_another_dataset_is_refused_with_both_sizes() -> None:
    with pytest.raises(ConfigError, match="state is of 10 samples, the dataset has 12"):
        TunedBatchSampler(12).set_state(TunedBatchSampler(10).get_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "dataset size must be >= 1, got 0"),
        ({"size": 5, "batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"size": 5, "batch_size": float("nan")}, "batch_size must be >= 1, got nan"),
        ({"size": 5, "seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TunedBatchSampler(**arguments)


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(ConfigError, match="samples must be >= 0, got -1"):
        TunedBatchSampler(5).stop_after(-1)


def test_drawing_leaves_global_random_state_alone(untouched_rng: None) -> None:
    sampler = TunedBatchSampler(10, 3, seed=0)
    for _ in range(20):
        sampler.draw()
