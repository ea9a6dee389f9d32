"""Contracts that several implementations keep: inherit one, build yours in `make`, and its tests run."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rl_tuner import ConfigError
from rl_tuner.envs import TuningEnv, VectorTuningEnv
from rl_tuner.rewards import crash_return

Step = tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]
VectorStep = tuple[
    NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]


def random_actions(env: TuningEnv, seed: int) -> list[NDArray[Any]]:
    """As many actions as the environment takes decisions, from a seeded copy of its action space."""
    space = pickle.loads(pickle.dumps(env.action_space))
    space.seed(seed)
    return [space.sample() for _ in range(env.config.decisions)]


def play(env: TuningEnv, actions: list[NDArray[Any]]) -> list[Step]:
    """Steps until the actions or the episode end."""
    steps: list[Step] = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2]:
            break
    return steps


def assert_same_steps(left: list[Step], right: list[Step]) -> None:
    """Bit for bit, NaN equal to NaN."""
    assert len(left) == len(right)
    for (obs, *rest, info), (other_obs, *other_rest, other_info) in zip(left, right, strict=True):
        assert obs.tobytes() == other_obs.tobytes()
        assert rest == other_rest
        np.testing.assert_equal(info, other_info)


class EnvironmentContract:
    """What every single tuning environment promises, whatever its actions and jobs."""

    phases = 1

    def make(self, **options: Any) -> TuningEnv:
        """A fresh environment; a test's options go to its constructor."""
        raise NotImplementedError

    def test_gymnasium_finds_nothing_to_object(self) -> None:
        gymnasium_check_env(self.make(), skip_render_check=True)

    def test_stable_baselines3_finds_nothing_to_object(self) -> None:
        sb3_check_env(self.make(), warn=True, skip_render_check=True)

    def test_the_same_seed_gives_the_same_episode_bit_for_bit(self, untouched_rng: None) -> None:
        env = self.make()
        episodes = []
        for seed in (7, 7, 8):
            first, info = env.reset(seed=seed)
            episodes.append([(first, 0.0, False, False, info), *play(env, random_actions(env, 1))])
        assert_same_steps(episodes[0], episodes[1])
        assert episodes[0][-1][0].tobytes() != episodes[2][-1][0].tobytes()

    def test_an_episode_does_not_depend_on_global_random_state(self) -> None:
        episodes = []
        for noise in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(noise)
                env = self.make()
                env.reset(seed=3)
                episodes.append(play(env, random_actions(env, 2)))
        assert_same_steps(*episodes)

    def test_later_episodes_differ_and_follow_from_the_first_seed(self) -> None:
        starts = []
        for _ in range(2):
            env = self.make()
            env.reset(seed=4)
            second, _ = env.reset()
            third, _ = env.reset()
            starts.append((second.tobytes(), third.tobytes(), env.streams.seed))
        assert starts[0] == starts[1]

    def test_an_episode_ends_terminated_never_truncated_with_the_budget_used_exactly(self) -> None:
        env = self.make()
        env.reset(seed=5)
        steps = play(env, [np.zeros_like(a) for a in random_actions(env, 0)])
        assert [s[2] for s in steps] == [False] * (len(steps) - 1) + [True]
        assert not any(s[3] for s in steps)
        info = steps[-1][4]
        if not info["crashed"]:
            assert info["samples"] == env.course.budget
            assert len(steps) <= env.config.decisions
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            env.step(env.action_space.sample())

    def test_observations_and_rewards_stay_in_their_ranges_under_wild_actions(self) -> None:
        env = self.make()
        for seed in range(3):
            first, _ = env.reset(seed=seed)
            steps = play(env, random_actions(env, seed))
            for obs in (first, *(s[0] for s in steps)):
                assert obs in env.observation_space
            assert all(np.isfinite(s[1]) for s in steps)
            assert sum(s[1] for s in steps) >= crash_return(self.phases) - 1e-9

    def test_a_snapshot_in_mid_episode_continues_bit_for_bit_on_another_environment(self) -> None:
        env = self.make()
        env.reset(seed=6)
        actions = random_actions(env, 3)
        play(env, actions[:2])
        state = pickle.loads(pickle.dumps(env.get_state()))
        expected = play(env, actions[2:])
        following, _ = env.reset()
        other = self.make()
        other.reset(seed=99)
        for _ in range(2):  # twice: using a state must not change it
            other.set_state(state)
            assert_same_steps(play(other, actions[2:]), expected)
        for name, tensor in other.engine.model.state_dict().items():
            assert torch.equal(tensor, state_of_best(other)[name])
        assert other.reset()[0].tobytes() == following.tobytes()

    def test_hyperparameters_read_back_equal_from_a_snapshot(self) -> None:
        env, other = self.make(), self.make()
        env.reset(seed=2)
        play(env, random_actions(env, 5)[:2])
        other.set_state(env.get_state())
        assert other.engine.trainee.read() == env.engine.trainee.read()
        there = other.engine.trainee.read()
        tuned = {k: v for k, v in other.course.values.items() if k != "batch_size"}
        assert tuned == {k: there[k] for k in tuned}

    def test_the_best_weights_are_back_at_the_end(self) -> None:
        env = self.make()
        env.reset(seed=1)
        steps = play(env, random_actions(env, 4))
        assert env.course.phase == self.phases - 1
        began = env.course.phase_start
        losses = [r.val_loss for r in env.records if r.verdict == "good" and r.used > began]
        best = min([float(env.course.track.first), *losses])
        assert steps[-1][4]["best_val_loss"] == best
        assert env.evaluate("validation")["loss"] == best


def state_of_best(env: TuningEnv) -> dict[str, torch.Tensor]:
    """The best copy's tensors by name, for comparison with a model's."""
    assert env.course.best is not None
    model = env.engine.model
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    return dict(zip(names, env.course.best.tensors, strict=True))


def random_action_batches(env: VectorTuningEnv, seed: int, count: int) -> list[NDArray[Any]]:
    """Actions for all slots, from a seeded copy of the action space."""
    space = pickle.loads(pickle.dumps(env.action_space))
    space.seed(seed)
    return [space.sample() for _ in range(count)]


def assert_same_vector_steps(left: list[VectorStep], right: list[VectorStep]) -> None:
    """Bit for bit, NaN equal to NaN."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert_same_state(one, other)


def assert_same_state(left: Any, right: Any) -> None:
    """Nested states are equal bit for bit, NaN equal to NaN."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        left, right = left.numpy(), right.numpy()
    if isinstance(left, np.ndarray) and left.dtype != object:
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, Mapping):
        assert left.keys() == right.keys()
        for name in left:
            assert_same_state(left[name], right[name])
    elif isinstance(left, list | tuple | np.ndarray):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same_state(one, other)
    elif dataclasses.is_dataclass(left) and not isinstance(left, type):
        for field in dataclasses.fields(left):
            assert_same_state(getattr(left, field.name), getattr(right, field.name))
    elif type(left).__module__.startswith("rl_tuner"):
        assert_same_state(vars(left), vars(right))
    else:
        assert left is right or left == right


class VectorEnvironmentContract:
    """What every vector tuning environment promises, whatever its actions and jobs."""

    phases = 1

    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        """A fresh environment; a test's options go to its constructor."""
        raise NotImplementedError

    def budgets(self, env: VectorTuningEnv) -> NDArray[np.int64]:
        """What the slots' present jobs may use, in samples."""
        return env.courses.budget.copy()

    def test_the_spaces_are_those_of_one_environment_batched(self) -> None:
        env = self.make(5)
        assert env.num_envs == 5
        assert env.observation_space == batch_space(env.single_observation_space, 5)
        assert env.action_space == batch_space(env.single_action_space, 5)
        assert env.single_observation_space.shape == (len(env.feature_names),)
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_steps_have_the_promised_shapes_types_and_ranges_under_wild_actions(self, num_envs: int) -> None:
        env = self.make(num_envs)
        observations, _ = env.reset(seed=0)
        assert observations in env.observation_space
        returns = np.zeros(num_envs)
        for actions in random_action_batches(env, 0, 3 * env.config.decisions):
            observations, rewards, terminated, truncated, _ = env.step(actions)
            assert observations in env.observation_space
            assert (rewards.dtype, rewards.shape) == (np.float64, (num_envs,))
            assert (terminated.dtype, terminated.shape) == (np.bool_, (num_envs,))
            assert (truncated.dtype, truncated.shape) == (np.bool_, (num_envs,))
            assert np.isfinite(rewards).all()
            assert not truncated.any()
            returns += rewards
            assert (returns[terminated] >= crash_return(self.phases) - 1e-9).all()
            returns[terminated] = 0

    def test_the_same_seed_gives_the_same_episodes_bit_for_bit(self, untouched_rng: None) -> None:
        env = self.make()
        runs = []
        for seed in (7, 7, 8):
            start = env.reset(seed=seed)
            steps = [env.step(a) for a in random_action_batches(env, 1, 2 * env.config.decisions)]
            runs.append((start, steps))
        assert_same_state(runs[0], runs[1])
        assert runs[0][1][0][0].tobytes() != runs[2][1][0][0].tobytes()

    def test_episodes_do_not_depend_on_global_random_state(self) -> None:
        runs = []
        for noise in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(noise)
                env = self.make()
                env.reset(seed=3)
                runs.append([env.step(a) for a in random_action_batches(env, 2, env.config.decisions + 1)])
        assert_same_vector_steps(*runs)

    def test_a_seed_counts_up_over_the_slots_as_a_list_does(self) -> None:
        env = self.make()
        counted, info = env.reset(seed=11)
        listed, same_info = env.reset(seed=[11, 12, 13])
        assert counted.tobytes() == listed.tobytes()
        assert info["job_seed"].tolist() == same_info["job_seed"].tolist()
        assert len(set(info["job_seed"].tolist())) == 3

    def test_later_resets_follow_from_the_first_seed(self) -> None:
        runs = []
        for _ in range(2):
            env = self.make()
            env.reset(seed=4)
            for _ in range(2):
                _, info = env.reset()
                runs.append((env.step(random_action_batches(env, 0, 1)[0]), info["job_seed"]))
        assert_same_state(runs[:2], runs[2:])
        assert not set(runs[0][1].tolist()) & set(runs[1][1].tolist())

    def test_an_episode_ends_terminated_with_the_budget_used_exactly(self) -> None:
        env = self.make()
        env.reset(seed=5)
        ended = np.zeros(3, np.bool_)
        for _ in range(env.config.decisions):
            budgets = self.budgets(env)
            *_, terminated, _, info = env.step(np.zeros_like(env.action_space.sample()))
            for slot in np.flatnonzero(terminated):
                final = info["final_info"]
                assert final["crashed"][slot] or final["samples"][slot] == budgets[slot]
                assert info["samples"][slot] == 0
            ended |= terminated
        assert ended.all()

    def test_a_snapshot_continues_bit_for_bit_on_another_environment(self) -> None:
        env = self.make()
        env.reset(seed=6)
        actions = random_action_batches(env, 3, 3 * env.config.decisions)
        for some in actions[: env.config.decisions + 2]:
            env.step(some)
        state = pickle.loads(pickle.dumps(env.get_state()))
        expected = [env.step(a) for a in actions[env.config.decisions + 2 :]]
        other = self.make()
        for _ in range(2):  # twice: using a state must not change it
            other.set_state(state)
            assert_same_state(other.get_state(), state)
            steps = [other.step(a) for a in actions[env.config.decisions + 2 :]]
            assert_same_vector_steps(steps, expected)
        assert [other.final_records(i) for i in range(3)] == [env.final_records(i) for i in range(3)]

    def test_what_a_step_returned_does_not_change_later(self) -> None:
        env = self.make()
        env.reset(seed=1)
        actions = random_action_batches(env, 0, 2 * env.config.decisions)
        steps = [env.step(a) for a in actions[: env.config.decisions]]
        copies = copy.deepcopy(steps)
        for some in actions[env.config.decisions :]:
            env.step(some)
        assert_same_vector_steps(steps, copies)

    def test_actions_that_do_not_fit_change_nothing(self) -> None:
        env = self.make()
        env.reset(seed=2)
        good = random_action_batches(env, 0, 2)
        env.step(good[0])
        state = env.get_state()
        not_finite = good[1].astype(np.float64)
        not_finite[2, 0] = np.nan
        bad = [good[1][:2], good[1][:, :1], good[1][0], not_finite, good[1].astype(str)]
        if env.actions.kind == "discrete":
            bad += [good[1] * 0 + 99, good[1] * 0 - 1]
        for actions in bad:
            with pytest.raises(ConfigError, match=r"action|choices"):
                env.step(actions)
            assert_same_state(env.get_state(), state)
        assert env.step(good[1])[0] in env.observation_space
