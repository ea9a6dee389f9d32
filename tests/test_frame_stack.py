"""The memory of a policy: Stable-Baselines3's frame stack, one episode or many at once."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import PolicyError
from rl_tuner.frame_stack import FrameStack
from rl_tuner.policies import MLPPolicy
from tests.learned_policies import network, random_observations

WIDTH = 3
Frames = NDArray[np.float32]


class Scripted(gym.Env[Frames, int]):
    """Shows random observations, in episodes of given lengths."""

    def __init__(self, seed: int, lengths: list[int]) -> None:
        self.observation_space = spaces.Box(-10, 10, (WIDTH,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._rng, self._lengths, self._left = np.random.default_rng(seed), lengths, 0

    def _see(self) -> Frames:
        return self._rng.normal(size=WIDTH).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict]:
        self._lengths, self._left = [*self._lengths[1:], self._lengths[0]], self._lengths[0]
        return self._see(), {}

    def step(self, action: int) -> tuple[Frames, float, bool, bool, dict]:
        self._left -= 1
        return self._see(), 0.0, self._left == 0, False, {}


@given(
    size=st.integers(1, 5),
    lengths=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_stacking_is_stable_baselines3s_own(size: int, lengths: list[list[int]]) -> None:
    makers = [lambda i=i, some=some: Scripted(i, some) for i, some in enumerate(lengths)]
    venv = VecFrameStack(DummyVecEnv(makers), size)
    frames = FrameStack(size, WIDTH)
    expected = venv.reset()
    np.testing.assert_array_equal(frames.push(expected[:, -WIDTH:]), expected)
    for _ in range(12):
        expected, _, done, infos = venv.step(np.zeros(len(lengths), np.int64))
        newest = expected[:, -WIDTH:].copy()
        last = newest.copy()
        for row in np.flatnonzero(done):
            last[row] = infos[row]["terminal_observation"][-WIDTH:]
        ended = copy.deepcopy(frames).push(last)  # as it was when the episode ended
        for row in np.flatnonzero(done):
            np.testing.assert_array_equal(ended[row], infos[row]["terminal_observation"])
        frames.forget(done)
        np.testing.assert_array_equal(frames.push(newest), expected)


def rows(n: int, width: int = WIDTH) -> Frames:
    return np.arange(1, 1 + n * width, dtype=np.float32).reshape(n, width)


def test_the_oldest_comes_first_and_before_the_start_are_zeros() -> None:
    frames = FrameStack(3, 2)
    seen = rows(4, 2)
    stacked = [frames.push(one).tolist() for one in seen]
    assert stacked == [
        [0, 0, 0, 0, 1, 2],
        [0, 0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6, 7, 8],
    ]
    frames.clear()
    assert frames.push(seen[0]).tolist() == [0, 0, 0, 0, 1, 2]


def test_a_batch_is_its_rows_one_by_one() -> None:
    batch, alone = FrameStack(4, WIDTH), [FrameStack(4, WIDTH) for _ in range(5)]
    rng = np.random.default_rng(0)
    for step in range(10):
        seen = rng.normal(size=(5, WIDTH)).astype(np.float32)
        begun = rng.random(5) < 0.3
        if step:
            batch.forget(begun)
        for one in np.array(alone, object)[begun]:
            one.clear()
        np.testing.assert_array_equal(
            batch.push(seen), [one.push(row) for one, row in zip(alone, seen, strict=True)]
        )


def test_what_was_returned_is_not_changed_by_what_comes() -> None:
    frames = FrameStack(2, WIDTH)
    seen = rows(2)
    first = frames.push(seen)
    kept = first.copy()
    state = frames.get_state()
    frames.forget(np.array([True, True]))
    frames.push(seen + 1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(state["past"], seen[:, None])


def test_another_batch_is_refused_until_a_reset() -> None:
    policy = network(memory=2)
    seen = random_observations(policy, 4)
    policy.act(seen)
    for other in (seen[:3], seen[0], seen[None]):
        with pytest.raises(PolicyError, match=r"batch shape \(4,\), got observations of batch shape .*reset"):
            policy.act(other)
    policy.reset()
    assert policy.act(seen[:3]).shape == (3, 2)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.array([True, False, True]), r"batch shape \(2,\), the mask .* has shape \(3,\)"),
        (np.array([1]), "marked by bools, got int64"),
        (np.array(True), r"has shape \(\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any, message: str) -> None:
    policy = network(memory=2)
    policy.act(random_observations(policy, 2))
    with pytest.raises(PolicyError, match=message):
        policy.forget(mask)


def test_before_the_first_decision_there_is_nothing_to_forget() -> None:
    policy = network(memory=2)
    policy.forget(np.array([True, False]))
    seen = random_observations(policy, 3)
    np.testing.assert_array_equal(policy.act(seen), network(memory=2).act(seen))


def test_without_a_memory_any_batch_at_any_time_and_nothing_to_forget() -> None:
    policy = network()
    seen = random_observations(policy, 6)
    whole = policy.act(seen)
    policy.forget(np.array([True]))
    for batch in (seen, seen[:2], seen.reshape(2, 3, -1), seen[0]):
        np.testing.assert_allclose(
            policy.act(batch).reshape(-1, 2), whole[: batch.size // seen.shape[1]], atol=1e-5
        )
    assert policy.get_state() == {}


def test_a_network_with_a_memory_sees_its_own_features_of_the_last_decisions() -> None:
    names = ("val_vs_last", "progress")
    policy = network(names=names, memory=2)
    seen = random_observations(policy, 3)
    read = policy.read(seen)
    for decision, before in enumerate([np.zeros_like(read[0]), read[0], read[1]]):
        expected = policy.forward(np.concatenate([before, read[decision]]))
        np.testing.assert_array_equal(policy.act(seen[decision]), expected.clip(-1, 1))
    assert read.shape == (3, 2)


def test_an_input_of_another_width_is_refused() -> None:
    policy = network(names=("progress",), memory=2)
    with pytest.raises(PolicyError, match=r"reads 2 numbers, got an input of shape \(3,\)"):
        policy.forward(np.zeros(3, np.float32))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_a_state_is_plain_and_carries_the_memory(batch: tuple[int, ...]) -> None:
    policy, other = network(memory=3), network(memory=3)
    shape = (6, *batch, random_observations(policy).shape[1])
    seen = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for one in seen[:3]:
        policy.act(one)
    state = policy.get_state()
    assert json.loads(json.dumps(state)) == state
    assert pickle.loads(pickle.dumps(state)) == state
    other.act(seen[0])  # what it remembers is replaced
    other.set_state(state)
    for one in seen[3:]:
        np.testing.assert_array_equal(other.act(one), policy.act(one))
    fresh = network(memory=3).get_state()
    other.set_state(fresh)
    np.testing.assert_array_equal(other.act(seen[0]), network(memory=3).act(seen[0]))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "state holds 'past' and nothing else, got nothing"),
        ({"past": None, "future": 1}, "got past, future"),
        ({"past": [[1.0, 2.0]]}, r"shape \(1, 2\), the policy's is \(…, 2, 1\)"),
        ({"past": [[1.0]]}, r"shape \(1, 1\)"),
        ({"past": [1.0, 2.0]}, r"shape \(2,\)"),
        ({"past": 3.0}, r"shape \(\)"),
        ({"past": [[1.0], [float("nan")]]}, "not finite"),
        ({"past": [[1.0], [1e300]]}, "not finite"),
        ({"past": [[1.0], [None]]}, "not (finite|an array)"),
        ({"past": [[1.0], [2.0, 3.0]]}, "not an array of numbers"),
        ({"past": [["up"], ["down"]]}, "not an array of numbers"),
        ({"past": {"a": 1}}, "not an array of numbers"),
    ],
)
def test_a_state_of_another_form_is_refused_and_changes_nothing(state: Any, message: str) -> None:
    policy = network(names=("progress",), memory=3)
    seen = random_observations(policy, 2)
    policy.act(seen[0])
    before = policy.get_state()
    with pytest.raises(PolicyError, match=message):
        policy.set_state(state)
    assert policy.get_state() == before


def test_a_memory_of_no_features_is_empty_but_allowed() -> None:
    sample = network(memory=1)
    layers = [(sample.layers[-1][0][:, :0], sample.layers[-1][1])]
    policy = MLPPolicy(sample.space, "continuous", CourseConfig(), (), {}, layers, "tanh", 4)
    seen = random_observations(policy, 1)[0]
    np.testing.assert_array_equal(policy.act(seen), policy.act(seen))
