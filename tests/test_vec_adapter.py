"""VecAdapter: step by step what Stable-Baselines3's own DummyVecEnv gives of the same environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_tuner.agents.vec_adapter import VecAdapter
from rl_tuner.envs import TuningEnv
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from tests.contracts_agents import TinyTuning
from tests.tiny import TINY

Makers = Sequence[Callable[[], gym.Env[Any, Any]]]


class Countdown(gym.Env[NDArray[np.float32], Any]):
    """Ends after `length` steps, as `ends` says; remembers how it was reset."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's own form)
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, length: int = 3, ends: str = "terminated", render_mode: str | None = None) -> None:
        self.length, self.ends, self.render_mode = length, ends, render_mode
        self.resets: list[tuple[int | None, dict[str, Any] | None]] = []

    def _observe(self) -> NDArray[np.float32]:
        return self.np_random.normal(size=2).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.resets.append((seed, options))
        self.left = self.length
        return self._observe(), {"start": len(self.resets)} | (
            {"first": True} if len(self.resets) == 1 else {}
        )

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over = self.left == 0
        info: dict[str, Any] = {"left": self.left, "action": int(action), "nested": {"half": self.left / 2}}
        if over:
            info |= {
                "crashed": self.length == 1,
                "word": "over",
                "pair": np.array([self.length, int(action)]),
            }
        reward = float(self.np_random.normal() + action) / 3
        return (
            self._observe(),
            reward,
            over and self.ends != "truncated",
            over and self.ends != "terminated",
            info,
        )

    def render(self) -> Any:
        return np.full((2, 2, 3), self.length, dtype=np.uint8)


class Shared(VectorEnv[Any, Any, Any]):
    """Steps its environments as one, as VectorTuningEnv does, and hands out its own buffers each time."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own form)
    feature_names = ("a", "b")

    def __init__(self, num_envs: int = 3) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.buffer = np.zeros((num_envs, 2), dtype=np.float32)
        self.rewards = np.ones(num_envs, dtype=np.float32)
        self.final = np.zeros((num_envs, 2), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.buffer += 1
        self.final += 1
        over = np.arange(self.num_envs) == 0
        infos = {"final_obs": self.final, "_final_obs": over, "final_info": {}, "_final_info": over}
        return self.buffer, self.rewards, over, np.zeros_like(over), infos


def sync(makers: Makers, **settings: Any) -> SyncVectorEnv:
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP, **settings)


def assert_steps_equal(makers: Makers, steps: int, seed: int = 5) -> int:
    """Steps both side by side; returns how many episodes ended."""
    ours, theirs = VecAdapter(sync(makers)), DummyVecEnv(list(makers))
    assert (ours.num_envs, ours.render_mode) == (theirs.num_envs, theirs.render_mode)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.seed(seed) == theirs.seed(seed)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ours.action_space.seed(seed)
    ended = 0
    for _ in range(steps):
        actions = np.stack([ours.action_space.sample() for _ in range(ours.num_envs)])
        mine, expected = ours.step(actions), theirs.step(actions)
        for a, b in zip(mine[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(a, b, strict=True)
        for i, done in enumerate(expected[2]):
            # On the other steps all that Stable-Baselines3 looks for is absent, which it takes for False.
            np.testing.assert_equal(mine[3][i], expected[3][i] if done else {})
        np.testing.assert_equal(ours.reset_infos, theirs.reset_infos)
        ended += int(expected[2].sum())
    return ended


@pytest.mark.parametrize("actions", ["continuous", "discrete"])
def test_tuning_environments_step_as_in_a_dummy_vec_env(
    actions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)

    def make(decisions: int, limit: int | None) -> Callable[[], gym.Env[Any, Any]]:
        def maker() -> gym.Env[Any, Any]:
            env: Any = TuningEnv(suite="tiny", decisions=decisions, actions=actions)
            return gym.wrappers.TimeLimit(env, limit) if limit else env

        return maker

    # The second is cut off in mid-episode, the third at the very step at which it ends by itself.
    makers = [make(4, None), make(6, 3), make(5, 5), make(7, None)]
    assert assert_steps_equal(makers, 16) >= 4 + 5 + 3 + 2  # more where random actions spent a budget early


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_long_runs_agree_too(kind: str) -> None:
    assert assert_steps_equal([lambda: TinyTuning(kind) for _ in range(3)], 100) == 30


@given(
    slots=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["terminated", "truncated", "both"])),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_episodes_of_any_length_and_kind_of_end_agree(slots: list[tuple[int, str]], seed: int) -> None:
    makers = [partial(Countdown, *slot) for slot in slots]
    assert assert_steps_equal(makers, 13, seed) == sum(13 // length for length, _ in slots)


def test_a_truncation_is_told_from_a_termination() -> None:
    venv = VecAdapter(sync([partial(Countdown, 1, end) for end in ("terminated", "truncated", "both")]))
    venv.reset()
    infos = venv.step(np.zeros(3, dtype=int))[3]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True, False]


def test_a_crash_is_told_at_the_episodes_end() -> None:
    venv = VecAdapter(sync([partial(Countdown, n) for n in (1, 2)]))
    venv.reset()
    crashed = [[info.get("crashed") for info in venv.step(np.zeros(2, dtype=int))[3]] for _ in range(2)]
    assert crashed == [[True, None], [True, False]]


def test_each_environment_has_an_info_of_its_own() -> None:
    venv = VecAdapter(Shared())
    venv.reset()
    first = venv.step(np.zeros(3, dtype=int))[3]
    first[1]["mine"] = 1
    assert first[2] == {}
    assert venv.step(np.zeros(3, dtype=int))[3][1:] == [{}, {}]


def test_what_was_handed_out_is_not_written_to_later() -> None:
    venv = VecAdapter(Shared())
    start = venv.reset()
    first, rewards, dones, infos = venv.step(np.zeros(3, dtype=int))
    terminal = infos[0]["terminal_observation"]
    rewards += 5  # Stable-Baselines3 adds to them what a truncated episode would have brought
    dones[:] = True
    again = venv.step(np.zeros(3, dtype=int))
    assert (np.asarray(start) == 0).all()
    assert (np.asarray(first) == 1).all()
    assert (terminal == 1).all()
    assert again[1].tolist() == [1, 1, 1]
    assert again[2].tolist() == [True, False, False]


def test_rewards_are_float32() -> None:
    venv = VecAdapter(sync([Countdown]))
    venv.reset()
    assert venv.step(np.array([1]))[1].dtype == np.float32


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_an_environment_that_resets_at_another_time_is_refused(mode: AutoresetMode) -> None:
    with pytest.raises(ConfigError, match=f"must be SAME_STEP, got {mode.name}"):
        VecAdapter(SyncVectorEnv([Countdown], autoreset_mode=mode))


def test_an_environment_that_does_not_say_when_it_resets_is_refused() -> None:
    venv = Shared()
    venv.metadata = {}
    with pytest.raises(ConfigError, match="got None"):
        VecAdapter(venv)


def test_seeds_are_those_of_the_next_reset_only() -> None:
    inner = sync([Countdown, Countdown])
    venv = VecAdapter(inner)
    assert list(venv.seed(7)) == [7, 8]
    venv.reset()
    venv.reset()
    assert [[seed for seed, _ in env.resets] for env in inner.envs] == [[7, None], [8, None]]  # type: ignore[attr-defined]


def test_options_are_those_of_the_next_reset_only() -> None:
    inner = sync([Countdown, Countdown])
    venv = VecAdapter(inner)
    venv.set_options({"job": "a"})
    venv.reset()
    venv.reset()
    assert [options for _, options in inner.envs[1].resets] == [{"job": "a"}, None]  # type: ignore[attr-defined]


def test_some_are_reset_by_a_mask_and_the_others_go_on() -> None:
    inner = sync([partial(Countdown, 5)] * 3)
    venv = VecAdapter(inner)
    first = venv.reset()
    told = [dict(info) for info in venv.reset_infos]
    venv.set_options({"reset_mask": np.array([False, True, False])})
    again = venv.reset()
    assert [len(env.resets) for env in inner.envs] == [1, 2, 1]  # type: ignore[attr-defined]
    assert [(a == b).all() for a, b in zip(first, again, strict=True)] == [True, False, True]
    assert venv.reset_infos == [told[0], {"start": 2}, told[2]]


def test_options_that_differ_are_refused() -> None:
    venv = VecAdapter(sync([Countdown, Countdown]))
    venv.set_options([{"job": "a"}, {"job": "b"}])
    with pytest.raises(ConfigError, match="share the options"):
        venv.reset()


def test_an_attribute_of_each_environment_is_read_and_written() -> None:
    venv = VecAdapter(sync([partial(Countdown, n) for n in (1, 2, 3)]))
    assert venv.get_attr("length") == [1, 2, 3]
    assert venv.get_attr("length", [2, 0]) == [3, 1]
    assert venv.get_attr("length", 1) == [2]
    venv.set_attr("length", 9, indices=[0, 2])
    assert venv.get_attr("length") == [9, 2, 9]
    venv.set_attr("new", "x")
    assert venv.get_attr("new", 2) == ["x"]


def test_a_shared_attribute_is_each_environments() -> None:
    venv = VecAdapter(Shared())
    assert venv.get_attr("feature_names") == [("a", "b")] * 3
    assert venv.get_attr("feature_names", [0]) == [("a", "b")]
    assert venv.get_attr("observation_space", 1) == [venv.observation_space]
    venv.set_attr("feature_names", ("c",))
    assert venv.get_attr("feature_names", 2) == [("c",)]


def test_a_shared_attribute_is_found_behind_a_wrapper() -> None:
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(Shared())
    assert VecAdapter(wrapped).get_attr("feature_names", [0]) == [("a", "b")]


def test_a_shared_attribute_cannot_be_set_for_some() -> None:
    with pytest.raises(ConfigError, match="3 environments share 'feature_names'"):
        VecAdapter(Shared()).set_attr("feature_names", ("c",), indices=[0])


@pytest.mark.parametrize("make", [Shared, lambda: sync([Countdown])])
def test_a_missing_attribute_is_named(make: Callable[[], VectorEnv[Any, Any, Any]]) -> None:
    venv = VecAdapter(make())
    assert not venv.has_attr("space")
    with pytest.raises(AttributeError, match="'space'"):
        venv.get_attr("space")


def test_a_method_is_called_where_it_was_asked() -> None:
    venv = VecAdapter(sync([partial(Countdown, n) for n in (1, 2, 3)]))
    images = venv.env_method("render", indices=[1, 2])
    assert [image.max() for image in images] == [2, 3]
    venv.env_method("reset", seed=4, indices=1)
    assert [len(resets) for resets in venv.get_attr("resets")] == [0, 1, 0]


def test_environments_stepped_as_one_have_no_methods_of_their_own() -> None:
    with pytest.raises(ConfigError, match="'render' cannot be called environment by environment"):
        VecAdapter(Shared()).env_method("render")


def test_wrappers_are_seen_inside_and_outside() -> None:
    makers: Makers = [Countdown, lambda: gym.wrappers.TimeLimit(Countdown(), 2)]
    inside = VecAdapter(sync(makers))
    assert inside.env_is_wrapped(gym.wrappers.TimeLimit) == [False, True]
    assert inside.env_is_wrapped(gym.wrappers.TimeLimit, 1) == [True]
    outside = VecAdapter(gym.wrappers.vector.ClipReward(Shared(), 0, 1))
    assert outside.env_is_wrapped(gym.vector.VectorRewardWrapper) == [True] * 3
    assert outside.env_is_wrapped(gym.vector.VectorActionWrapper) == [False] * 3


def test_environments_in_other_processes_are_not_guessed_about() -> None:
    class Remote(Shared):
        def get_attr(self, name: str) -> tuple[Any, ...]:
            return (getattr(self, name),) * self.num_envs

    with pytest.raises(NotImplementedError, match="cannot be asked for their wrappers"):
        VecAdapter(Remote()).env_is_wrapped(gym.ObservationWrapper)


def test_images_are_tiled() -> None:
    venv = VecAdapter(sync([partial(Countdown, n, render_mode="rgb_array") for n in (1, 2, 3, 4)]))
    image = venv.render()
    assert image is not None
    np.testing.assert_array_equal(image[::2, ::2, 0], [[1, 2], [3, 4]])


def test_close_closes_the_environments() -> None:
    inner = Shared()
    VecAdapter(inner).close()
    assert inner.closed
