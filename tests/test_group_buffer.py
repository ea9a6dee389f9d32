"""Group-relative advantages: the numbers, against a slow twin that loops over groups, jobs and decisions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.agents.group_buffer import GroupBuffer, group_advantages, group_gae
from rl_tuner.agents.groups import SCALE_FLOOR, Groups


def episodes_of(starts: np.ndarray, over: bool) -> list[tuple[int, int, bool]]:
    """(first step, step after the last, whole) of each episode that began in one slot's rollout, in order."""
    begun = [t for t in range(len(starts)) if starts[t]]
    ends = [*begun[1:], len(starts)][: len(begun)]
    return [(a, b, b < len(starts) or over) for a, b in zip(begun, ends, strict=True)]


def slow_twin(
    rewards: np.ndarray, starts: np.ndarray, over: np.ndarray, group_size: int, gamma: float, clip: float
) -> np.ndarray:
    """The same in plain loops."""
    rewards = rewards.astype(float)
    advantages = np.zeros(rewards.shape)
    for leader in range(0, rewards.shape[1], group_size):
        members = {n: episodes_of(starts[:, n], bool(over[n])) for n in range(leader, leader + group_size)}
        for number in range(max(len(episodes) for episodes in members.values())):
            togo: dict[tuple[int, int], float] = {}
            place: dict[tuple[int, int], int] = {}
            for n, episodes in members.items():
                if number >= len(episodes) or not episodes[number][2]:
                    continue
                first, after, _ = episodes[number]
                for t in range(first, after):
                    togo[n, t - first] = sum(gamma ** (u - t) * rewards[u, n] for u in range(t, after))
                    place[n, t - first] = t
            centred: dict[tuple[int, int], float] = {}
            for n, d in togo:
                mates = [value for (_, other), value in togo.items() if other == d]
                if len(mates) >= 2:
                    centred[n, d] = togo[n, d] - sum(mates) / len(mates)
            if not centred:
                continue
            scale = math.sqrt(sum(c * c for c in centred.values()) / len(centred))
            for (n, d), c in centred.items():
                advantages[place[n, d], n] = min(max(c / (scale + SCALE_FLOOR), -clip), clip)
    return advantages


def advantages_of(
    rewards: np.ndarray,
    starts: np.ndarray,
    over: np.ndarray,
    size: int,
    gamma: float = 1.0,
    clip: float = 3.0,
) -> tuple[np.ndarray, Groups]:
    groups = Groups(starts, over, size)
    return group_advantages(rewards, groups, gamma, clip), groups


def slow_gae(
    rewards: np.ndarray, values: np.ndarray, groups: Groups, gamma: float, lam: float, clip: float
) -> np.ndarray:
    """The sum of equation 16, term by term, of centred and scaled rewards."""
    steps, slots = rewards.shape
    scale = groups.scale(groups.centred(groups.returns_to_go(rewards, gamma)))
    scaled, found = groups.centred(rewards) / scale, np.zeros(rewards.shape)
    for n in range(slots):
        for t in range(steps):
            factor, u = 1.0, t
            while u < steps and groups.compared[u, n]:
                last = groups.ends[u, n] or u == steps - 1
                following = 0.0 if last else values[u + 1, n]
                found[t, n] += factor * (scaled[u, n] + gamma * following - values[u, n])
                factor, u = factor * gamma * lam, steps if last else u + 1
    return np.clip(found, -clip, clip)


@given(data=st.data())
def test_the_advantages_are_those_of_the_slow_twin(data: st.DataObject) -> None:
    steps, groups, size = (data.draw(st.integers(low, high)) for low, high in ((1, 12), (1, 3), (2, 4)))
    shape = (steps, groups * size)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rewards = rng.normal(0, 10 ** rng.uniform(-3, 1), shape).astype(np.float32)
    starts = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 0.3, 0.7]))
    starts[0] |= data.draw(st.booleans())  # or some episodes began before the rollout
    over = rng.random(shape[1]) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    gamma, clip = data.draw(st.sampled_from([1.0, 0.9, 0.0])), data.draw(st.sampled_from([3.0, 0.5]))
    advantages, groups = advantages_of(rewards, starts, over, size, gamma, clip)
    twin = slow_twin(rewards, starts, over, size, gamma, clip)
    np.testing.assert_allclose(advantages, twin, rtol=1e-6, atol=1e-9)
    assert not advantages[~groups.compared].any()
    values, lam = (
        np.where(groups.compared, rng.normal(0, 1, shape), 0.0),
        data.draw(st.sampled_from([0, 0.5, 1])),
    )
    found = group_gae(rewards, values, groups, gamma, lam, clip)
    np.testing.assert_allclose(found, slow_gae(rewards, values, groups, gamma, lam, clip), atol=1e-9)


def test_without_a_critics_word_and_with_lambda_one_it_is_the_return_to_go() -> None:
    rng = np.random.default_rng(0)
    starts = np.zeros((5, 6), np.bool_)
    starts[0] = True
    rewards = rng.normal(0, 1, (5, 6))
    advantages, groups = advantages_of(rewards, starts, np.ones(6, np.bool_), 3)
    np.testing.assert_allclose(group_gae(rewards, 0 * rewards, groups, 1.0, 1.0, 3.0), advantages)
    perfect = groups.centred(groups.returns_to_go(rewards, 1.0))
    perfect /= groups.scale(perfect)
    assert np.abs(group_gae(rewards, perfect, groups, 1.0, 0.3, 3.0)).max() < 1e-12  # nothing is a surprise


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-100, 100))
def test_what_a_job_pays_whatever_is_done_changes_nothing(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    rewards, starts = rng.normal(0, 1, (4, 6)), np.zeros((4, 6), np.bool_)
    starts[0] = True
    lucky = rewards + shift * np.repeat([1.0, -2.0], 3)
    ends = np.ones(6, np.bool_)
    plain, shifted = (advantages_of(r, starts, ends, 3)[0] for r in (rewards, lucky))
    np.testing.assert_allclose(shifted, plain, atol=1e-9)


def whole(*returns: float, size: int = 2, clip: float = 3.0) -> list[float]:
    """Advantages of episodes of one step, one in each slot."""
    rewards = np.array([returns])
    ones = np.ones_like(rewards, np.bool_)
    return advantages_of(rewards, ones, ones[0], size, clip=clip)[0][0].tolist()


def test_a_group_of_two_by_hand() -> None:
    # Centred ±1, scale 1; the other group ±0.1, scale 0.1.
    assert whole(3.0, 1.0, -0.1, 0.1) == pytest.approx([1 / 1.05, -1 / 1.05, -0.1 / 0.15, 0.1 / 0.15])


def test_noise_where_nothing_matters_is_not_amplified() -> None:
    assert max(whole(1.0, 1.0 + 1e-4)) < 1.1e-3


def test_one_outlier_among_many_is_clipped() -> None:
    advantages = whole(*[0.0] * 15, 100.0, size=16)
    assert advantages[-1] == 3.0  # sqrt(15) = 3.87 scales otherwise
    assert whole(*[0.0] * 15, -100.0, size=16)[-1] == -3.0


def test_who_crashed_takes_no_part_in_later_baselines() -> None:
    # The third crashes in its first decision, and its next job has no mates in it.
    rewards = np.array([[0.0, 0.0, -9.0], [4.0, 2.0, 7.0]])
    starts = np.array([[True, True, True], [False, False, True]])
    advantages, groups = advantages_of(rewards, starts, np.ones(3, np.bool_), 3, clip=10.0)
    centred = np.array([[4 + 1, 2 + 1, -9 + 1], [1.0, -1.0, 0.0]])  # means -1 and 3
    scale = math.sqrt((25 + 9 + 64 + 1 + 1) / 5)
    np.testing.assert_allclose(advantages, centred / (scale + SCALE_FLOOR))
    assert groups.compared.tolist() == [[True, True, True], [True, True, False]]
    assert groups.apart.all()


def test_a_slot_that_caught_up_by_chance_is_still_apart() -> None:
    """All stand at the start of a job, but one of them at the start of another."""
    starts = np.array([[1, 1, 1, 1], [0, 1, 0, 0]], np.bool_)
    groups = Groups(starts, np.ones(4, np.bool_), 2)
    assert groups.apart.tolist() == [True, True, False, False]


def test_an_episode_that_goes_on_leaves_its_group_apart_and_teaches_nothing() -> None:
    starts = np.array([[1, 1], [0, 0]], np.bool_)
    advantages, groups = advantages_of(np.array([[1.0, 5.0]] * 2), starts, np.array([True, False]), 2)
    assert not advantages.any()
    assert groups.apart.all()


def filled(rewards: np.ndarray, dones: np.ndarray, **settings: Any) -> GroupBuffer:
    steps, slots = rewards.shape
    box = spaces.Box(-1, 1, (2,), np.float32)
    buffer = GroupBuffer(steps, box, box, "cpu", n_envs=slots, gamma=1.0, **settings)
    for t in range(steps):
        zeros = np.zeros((slots, 2), np.float32)
        start = np.ones(slots) if t == 0 else np.zeros(slots)
        buffer.add(zeros, zeros, rewards[t], start, torch.full((slots,), 0.5), torch.zeros(slots))
    buffer.compute_returns_and_advantage(torch.full((slots,), 99.0), dones)
    return buffer


def test_the_buffer_hands_out_the_advantages_and_no_value_loss() -> None:
    rewards = np.array([[1.0, 2.0], [3.0, 6.0]])
    buffer = filled(rewards, np.ones(2, np.bool_), group_size=2, clip=3.0)
    starts = np.array([[True, True], [False, False]])
    expected, _ = advantages_of(rewards, starts, np.ones(2, np.bool_), 2)
    assert buffer.advantages.dtype == np.float32
    np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-6)
    np.testing.assert_array_equal(buffer.returns, buffer.values)
    assert buffer.compared == 1.0
    batch = next(buffer.get(4))
    assert sorted(batch.advantages.tolist()) == sorted(buffer.advantages.flatten().tolist())


def test_an_emptied_buffer_has_nobody_apart() -> None:
    buffer = filled(np.ones((2, 2)), np.array([True, False]), group_size=2, clip=3.0)
    assert buffer.apart.all()
    buffer.reset()
    assert not buffer.apart.any()


def test_with_a_critic_advantages_are_the_returns_until_it_knows_something() -> None:
    rewards = np.random.default_rng(1).normal(0, 1, (3, 8))
    buffer = filled(rewards, np.ones(8, np.bool_), group_size=4, clip=3.0, critic=3, gae_lambda=0.0)
    starts = np.zeros((3, 8), np.bool_)
    starts[0] = True
    expected, _ = advantages_of(rewards, starts, np.ones(8, np.bool_), 4)
    np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-5)
    assert math.isnan(buffer.explained)
    for _ in range(2):
        buffer.compute_returns_and_advantage(torch.zeros(8), np.ones(8, np.bool_))
    assert np.sqrt(np.mean(buffer.advantages**2)) == pytest.approx(1.0, rel=1e-5)
    assert 0 < buffer.explained < 1  # ridge regression of so few is timid
    assert not np.allclose(buffer.advantages, expected)
