from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.seeding import STREAMS, Streams, TorchStream, torch_seed


def draw_and_fail(count: int) -> None:
    torch.rand(count)
    raise ValueError("inside")


@given(st.integers(0, 2**64))
def test_the_streams_of_a_seed_are_reproducible_distinct_and_fit_torch(seed: int) -> None:
    seeds = [Streams(seed).seed_of(name) for name in STREAMS]
    assert seeds == [Streams(seed).seed_of(name) for name in STREAMS]
    assert len(set(seeds)) == len(STREAMS)
    assert all(0 <= s < 2**63 for s in seeds)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_two_seeds_share_no_stream(a: int, b: int) -> None:
    if a != b:
        assert not {Streams(a).seed_of(s) for s in STREAMS} & {Streams(b).seed_of(s) for s in STREAMS}


def test_stream_seeds_stay_what_they_are_from_version_to_version() -> None:
    """Recorded results name seeds: this fails if they come to mean another episode."""
    assert Streams(0).seed_of("init") == 7290039654019473914
    assert Streams(7).seed_of("policy") == 1698921846514444303


def test_numpy_integers_are_seeds_too() -> None:
    assert Streams(np.int64(3)).seed_of("data") == Streams(3).seed_of("data")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.0, True, None, "7"])
def test_a_seed_that_is_no_natural_number_is_refused_by_value(seed: Any) -> None:
    with pytest.raises(ConfigError, match=f"seed must be an integer >= 0, got {seed!r}"):
        Streams(seed)


def test_an_unknown_stream_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown random stream 'weights': choose from data, init"):
        Streams(0).seed_of("weights")


def test_numpy_generators_of_a_stream_start_alike_and_do_not_share_a_position() -> None:
    first, second = Streams(5).numpy("data"), Streams(5).numpy("data")
    first.random(10)
    np.testing.assert_array_equal(second.random(4), Streams(5).numpy("data").random(4))


def test_torch_seed_gives_the_numbers_of_manual_seed_and_puts_the_state_back(untouched_rng: None) -> None:
    with torch_seed(11):
        drawn = torch.rand(5)
    torch.testing.assert_close(
        drawn, torch.rand(5, generator=torch.Generator().manual_seed(11)), rtol=0, atol=0
    )


def test_torch_seed_puts_the_state_back_after_an_error(untouched_rng: None) -> None:
    with pytest.raises(ValueError, match="inside"), torch_seed(11):
        draw_and_fail(3)


def test_a_torch_stream_runs_on_from_block_to_block(untouched_rng: None) -> None:
    stream = TorchStream(3)
    with stream:
        first = torch.rand(4)
    with stream:
        second = torch.rand(4)
    whole = torch.rand(8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat([first, second]), whole)


def test_what_happens_outside_does_not_shift_a_torch_stream() -> None:
    stream, other = TorchStream(3), TorchStream(3)
    with torch.random.fork_rng(), stream:
        torch.rand(4)
    with other:
        torch.rand(4)
    with torch.random.fork_rng():
        torch.rand(100)
        with stream:
            a = torch.rand(4)
    with other:
        b = torch.rand(4)
    assert torch.equal(a, b)


def test_a_torch_stream_keeps_its_position_and_the_outer_state_after_an_error(untouched_rng: None) -> None:
    stream = TorchStream(3)
    with pytest.raises(ValueError, match="inside"), stream:
        draw_and_fail(4)
    with stream:
        drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(8, generator=torch.Generator().manual_seed(3))[4:])


def test_a_torch_stream_continues_from_its_state_on_another_stream(untouched_rng: None) -> None:
    stream, other = TorchStream(3), TorchStream(99)
    with stream:
        torch.rand(7)
    state = stream.get_state()
    with stream:
        expected = torch.rand(5)
    other.set_state(state)
    with other:
        assert torch.equal(torch.rand(5), expected)


def test_a_saved_state_does_not_change_when_the_stream_runs_on(untouched_rng: None) -> None:
    stream = TorchStream(3)
    state = stream.get_state()
    saved = [s.clone() for s in state]
    stream.set_state(state)
    with stream:
        torch.rand(5)
    assert all(torch.equal(a, b) for a, b in zip(state, saved, strict=True))


def test_phases_have_streams_of_their_own_and_the_first_has_the_episodes() -> None:
    episode = Streams(5)
    assert episode.phase(0) == episode
    seeds = [episode.phase(k).seed_of(name) for k in range(4) for name in STREAMS]
    assert len(set(seeds)) == len(seeds)
    assert episode.phase(1) == Streams(5).phase(1) != Streams(6).phase(1)
