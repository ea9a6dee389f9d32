"""The slots' generators: seeded like single environments, shared in groups, and nothing half done."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_tuner import ConfigError
from rl_tuner.envs.slot_rngs import SlotRngs

ALL = np.ones(4, np.bool_)


def draw(rngs: SlotRngs, times: int = 1) -> list[list[int]]:
    """Numbers of each slot's generator."""
    return [rngs[slot].integers(2**62, size=times).tolist() for slot in range(rngs.num)]


def seeded(group_size: int = 1, seed: Any = 7) -> SlotRngs:
    rngs = SlotRngs(4, group_size)
    rngs.seed(seed, ALL)
    return rngs


@pytest.mark.parametrize("seed", [7, np.int64(7), [7, 8, 9, 10], np.arange(7, 11), (7, 8, 9, 10)])
def test_a_slots_generator_is_that_of_an_environment_reset_with_its_seed(seed: Any) -> None:
    expected = []
    for each in range(7, 11):
        env: gym.Env[Any, Any] = gym.Env()
        env.reset(seed=each)
        expected.append([int(env.np_random.integers(2**62))])
    assert draw(seeded(seed=seed)) == expected


def test_a_seed_counts_up_over_groups() -> None:
    grouped, plain = draw(seeded(2)), draw(seeded(1))
    assert grouped == [plain[0], plain[0], plain[1], plain[1]]


def test_generators_of_a_group_do_not_draw_from_each_other() -> None:
    rngs = seeded(2)
    first = rngs[0].integers(2**62, size=3).tolist()
    assert rngs[1].integers(2**62, size=3).tolist() == first


def test_without_any_seed_groups_differ_and_their_slots_do_not() -> None:
    one, two = draw(seeded(2, None)), draw(seeded(2, None))
    assert one[0] == one[1] != one[2] == one[3]
    assert one[0] != two[0]


def test_a_slot_without_a_seed_in_a_list_follows_its_groups_first() -> None:
    numbers = draw(seeded(2, [3, None, 4, 5]))
    assert numbers[0] == numbers[1]
    assert numbers[2] != numbers[3]


def test_without_a_seed_slots_go_on_from_where_they_were() -> None:
    rngs, reference = seeded(), seeded()
    draw(rngs), draw(reference)
    rngs.seed(None, ALL)
    assert draw(rngs) == draw(reference)


def test_a_group_reset_as_a_whole_goes_on_together() -> None:
    rngs = seeded(2)
    rngs[1].integers(10, size=5)
    rngs.seed(None, ALL)
    numbers = draw(rngs)
    assert numbers[0] == numbers[1]


def test_a_slot_reset_alone_stays_in_its_own_place() -> None:
    rngs, reference = seeded(2), seeded(2)
    rngs[1].integers(2**62, size=5), reference[1].integers(2**62, size=5)
    rngs.seed(None, np.array([False, True, False, False]))
    assert draw(rngs) == draw(reference)


def test_only_masked_slots_are_seeded() -> None:
    rngs, reference = seeded(), seeded()
    rngs.seed(100, np.array([False, True, False, False]))
    numbers, before = draw(rngs), draw(reference)
    assert [a == b for a, b in zip(numbers, before, strict=True)] == [True, False, True, True]
    assert numbers[1] == draw(seeded(seed=100))[1]


@pytest.mark.parametrize("seed", [-1, 1.5, True, "3", [1, 2], [0, 1, 2, -3], [0, 1, 2, 3.0]])
def test_seeds_that_do_not_fit_are_refused_and_change_nothing(seed: Any) -> None:
    rngs = seeded()
    with pytest.raises(ConfigError, match="seed"):
        rngs.seed(seed, ALL)
    assert draw(rngs) == draw(seeded())


def test_a_state_continues_where_it_was_taken() -> None:
    rngs, other = seeded(), SlotRngs(4)
    draw(rngs, 3)
    state = rngs.get_state()
    expected = draw(rngs)
    for _ in range(2):
        other.set_state(state)
        assert draw(other) == expected
