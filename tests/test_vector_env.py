"""The vector environment: its contract, and that each slot is a single environment of its own."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import pickle
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from numpy.typing import NDArray
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv, suites
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.models import mlp
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.seats import ReferenceSeat
from rl_tuner.envs.suites import Mixture, Suite
from rl_tuner.rails import Rails
from rl_tuner.rewards import crash_return
from tests.contracts import VectorEnvironmentContract, assert_same_state, random_action_batches
from tests.side_by_side import assert_like_single_environments

WINE = load_split("wine", 0)
SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED
TUNED = ("lr", "batch_size", "weight_decay", "momentum")


def net(*hidden: int) -> nn.Module:
    return mlp(13, hidden, 3)


def precise_net(*hidden: int) -> nn.Module:
    return net(*hidden).double()


def normed_net() -> nn.Module:
    return nn.Sequential(nn.Linear(13, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def wine_job(**changes: Any) -> TrainingJob:
    options: dict[str, Any] = {
        "model": partial(net, 6),
        "train": WINE.train,
        "validation": WINE.validation,
        "test": WINE.test,
        "optimizer": "sgd",
        "start": {"lr": 0.03, "batch_size": 16.0, "momentum": 0.5},
        "budget": 301,
        "name": "wine",
    }
    return TrainingJob(**{**options, **changes})


def precise_job(**changes: Any) -> TrainingJob:
    """In double precision: what rounding does differently stays small."""
    (x, y), (val_x, val_y) = WINE.train, WINE.validation
    data = {"train": (x.double(), y), "validation": (val_x.double(), val_y), "test": None}
    return wine_job(**{"model": partial(precise_net, 6), **data, **changes})


BOMB = wine_job(start={"lr": 1e30, "batch_size": 16.0}, name="bomb")
"""Diverges at once."""


class TestDiscrete(VectorEnvironmentContract):
    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        return VectorTuningEnv(num_envs, wine_job(), actions="discrete", decisions=5, **options)


class TestContinuous(VectorEnvironmentContract):
    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        job = wine_job(model=partial(mlp, 13, (6,), 3, 0.2), optimizer="adam")
        return VectorTuningEnv(num_envs, job, decisions=5, early_stopping=3, **options)


class TestAnchored(VectorEnvironmentContract):
    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        return VectorTuningEnv(num_envs, wine_job(), actions="anchored", decisions=5, **options)


class TestSuiteWithoutRails(VectorEnvironmentContract):
    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        return VectorTuningEnv(num_envs, decisions=3, rails=False, **options)


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
class TestNotBatched(VectorEnvironmentContract):
    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        return VectorTuningEnv(num_envs, wine_job(model=normed_net), decisions=4, **options)


@pytest.fixture
def mixed_suite(monkeypatch: pytest.MonkeyPatch) -> str:
    """Jobs of both optimizers, four architectures and two tasks, without dropout."""
    family = JobFamily(
        ("wine", "diabetes"),
        ("mlp-4", "mlp-5x3"),
        budget=(150, 400),
        lr_decades=(-1.0, 0.0),
        start={"batch_size": (8, 16), "dropout": (None, 0.0)},
    )
    suite = Suite("mixed", "", dict.fromkeys(suites.SPLITS, Mixture((family,))))
    monkeypatch.setitem(suites.SUITES, suite.name, suite)
    return suite.name


@pytest.mark.parametrize("mode", [SAME, NEXT])
@pytest.mark.parametrize(
    "options",
    [
        {"actions": "discrete", "reward": "best_improvement", "early_stopping": 2, "intervals": "uniform"},
        {"actions": "continuous", "reward": "log_improvement"},
        {"actions": "anchored", "reward": "final_improvement", "intervals": "uniform"},
        {"actions": "anchored", "rails": False, "early_stopping": 3},
        {"actions": "continuous", "rails": Rails(rescues=0)},
        {"actions": "continuous", "averaging": True},
        {"actions": "anchored", "rails": False, "averaging": True, "early_stopping": 2},
    ],
    ids=["discrete", "continuous", "anchored", "without rails", "no rescues", "averaging", "averaging alone"],
)
def test_each_slot_is_a_single_environment_of_its_own(mode: AutoresetMode, options: dict[str, Any]) -> None:
    options = {"job": precise_job(), "decisions": 5, "hyperparameters": TUNED, **options}
    episodes = assert_like_single_environments(4, 24, 1e-6, mode, **options)
    assert (episodes >= 3).all()


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_other_optimizers_give_the_episodes_of_single_environments(optimizer: str) -> None:
    job = precise_job(optimizer=optimizer, start={"lr": 0.003, "batch_size": 8.0})
    assert_like_single_environments(3, 12, 1e-6, SAME, job=job, decisions=4)


def test_a_job_without_validation_gives_the_episodes_of_single_environments() -> None:
    assert_like_single_environments(2, 12, 1e-6, SAME, job=precise_job(validation=None), decisions=4)


@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_jobs_of_a_suite_are_drawn_and_trained_as_in_single_environments(
    mixed_suite: str, mode: AutoresetMode
) -> None:
    options = {"suite": mixed_suite, "decisions": 4, "hyperparameters": ("lr", "batch_size", "momentum")}
    episodes = assert_like_single_environments(6, 18, 2e-3, mode, scale=0.3, **options)
    assert (episodes >= 3).all()


def still(env: VectorTuningEnv) -> NDArray[np.float32]:
    """Actions that change nothing, where they are continuous."""
    return np.zeros((env.num_envs, len(env.space)), np.float32)


def only(slot: int, num_envs: int) -> NDArray[np.bool_]:
    return np.arange(num_envs) == slot


@pytest.mark.parametrize("early", ["small budget", "crash"])
def test_a_slot_that_ends_early_leaves_its_neighbours_as_they_would_be(early: str) -> None:
    # An interval holds one update at least: a small budget is spent after few decisions.
    changes = {"budget": 40} if early == "small budget" else {"start": {"lr": 1e300}}
    runs = []
    for disturbed in (False, True):
        env = VectorTuningEnv(3, precise_job(), decisions=5, rails=False, hyperparameters=TUNED)
        env.reset(seed=1)
        if disturbed:
            env.reset(options={"job": precise_job(**changes), "reset_mask": only(1, 3)})
        runs.append([env.step(a) for a in random_action_batches(env, 4, 12)])
    ends = [np.array([step[2] for step in steps]) for steps in runs]
    assert not np.array_equal(ends[0][:, 1], ends[1][:, 1])
    for one, other in zip(*runs, strict=True):
        for left, right in zip(one[:3], other[:3], strict=True):
            np.testing.assert_allclose(left[[0, 2]], right[[0, 2]], rtol=0, atol=1e-6)


def test_a_crash_ends_one_slot_and_the_others_go_on() -> None:
    env = VectorTuningEnv(3, wine_job(), decisions=5, rails=False, hyperparameters=TUNED)
    env.reset(seed=0)
    env.reset(options={"job": BOMB, "reset_mask": only(2, 3)})
    _, rewards, terminated, _, info = env.step(still(env))
    assert terminated.tolist() == [False, False, True]
    assert info["final_info"]["crashed"].tolist() == [False, False, True]
    assert info["final_info"]["verdict"].tolist() == [None, None, "diverged"]
    assert info["final_info"]["job"].tolist() == [None, None, "bomb"]
    assert rewards[2] == pytest.approx(crash_return())
    assert info["job"].tolist() == ["wine"] * 3
    assert not info["crashed"].any()
    assert info["verdict"].tolist() == ["good"] * 3


def test_rails_restore_single_slots() -> None:
    env = VectorTuningEnv(3, wine_job(), decisions=5, actions="anchored", hyperparameters=["lr"])
    env.reset(seed=0)
    env.reset(options={"job": BOMB, "reset_mask": only(1, 3)})
    before = [[p.clone() for p in env.engine.module(slot).parameters()] for slot in range(3)]
    *_, terminated, _, info = env.step(still(env))
    assert not terminated.any()
    assert info["rescues"].tolist() == [0, 1, 0]
    assert info["verdict"].tolist() == ["good", "diverged", "good"]
    after = [list(env.engine.module(slot).parameters()) for slot in range(3)]
    same = [all(map(torch.equal, *pair)) for pair in zip(before, after, strict=True)]
    assert same == [False, True, False]
    assert info["hyperparameters"]["lr"][1] == pytest.approx(1e30 * Rails().lr_cut)


def test_slots_of_a_group_run_the_same_job_on_the_same_batches(mixed_suite: str) -> None:
    env = VectorTuningEnv(6, suite=mixed_suite, decisions=4, group_size=3, hyperparameters=["lr"])
    first, info = env.reset(seed=2)
    assert info["job_seed"].reshape(2, 3).tolist() == [[s] * 3 for s in info["job_seed"][[0, 3]]]
    assert info["job_seed"][0] != info["job_seed"][3]
    assert first[0].tobytes() == first[1].tobytes() == first[2].tobytes()
    for _ in range(9):
        observations, rewards, *_ = env.step(still(env))
        for group in (slice(0, 3), slice(3, 6)):
            np.testing.assert_allclose(np.ptp(observations[group], axis=0), 0, atol=1e-4)
            np.testing.assert_allclose(np.ptp(rewards[group]), 0, atol=1e-4)
    alone = TuningEnv(suite=mixed_suite, decisions=4, hyperparameters=["lr"])
    assert alone.reset(seed=3)[1]["job_seed"] == info["job_seed"][3]


def test_a_slot_that_ends_early_goes_on_to_its_groups_next_job() -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3, group_size=2, rails=False, hyperparameters=["lr"])
    seeds = []
    for bombed in (False, True):
        env.reset(seed=5)
        if bombed:
            env.reset(seed=5, options={"job": BOMB, "reset_mask": only(1, 2)})
        seeds.append(np.array([env.step(still(env))[4]["job_seed"] for _ in range(6)]))
    quiet, early = seeds
    np.testing.assert_array_equal(quiet[:, 0], quiet[:, 1])
    np.testing.assert_array_equal(quiet[:, 0], early[:, 0])
    assert early[0, 1] == quiet[2, 0]  # at once, while the first slot is still in its first episode
    assert early[3, 1] == quiet[5, 0]


@pytest.mark.parametrize(("size", "message"), [(2, "divide"), (0, ">= 1"), (-1, ">= 1")])
def test_a_group_size_that_does_not_fit_is_refused(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"group_size must .*{message}"):
        VectorTuningEnv(3, group_size=size)


def test_without_autoreset_a_mask_resets_what_ended() -> None:
    env = VectorTuningEnv(3, wine_job(), decisions=4, rails=False, autoreset_mode=DISABLED)
    env.reset(seed=0)
    env.reset(options={"job": BOMB, "reset_mask": only(0, 3)})
    *_, terminated, _, info = env.step(still(env))
    assert terminated.tolist() == [True, False, False]
    assert "final_info" not in info
    assert info["crashed"].tolist() == [True, False, False]
    with pytest.raises(gym.error.ResetNeeded, match=r"slots \[0\]"):
        env.step(still(env))
    running = env.courses.observation()[1:]
    observations, info = env.reset(options={"reset_mask": only(0, 3)})
    assert observations[1:].tobytes() == running.tobytes()
    assert info["_job"].tolist() == [True, False, False]
    assert env.step(still(env))[2].tolist() == [False] * 3


@pytest.mark.parametrize("mode", [NEXT, DISABLED])
def test_the_best_weights_are_there_at_an_episodes_end(mode: AutoresetMode) -> None:
    options = {"actions": "anchored", "rails": False, "hyperparameters": ["lr"]}
    env = VectorTuningEnv(2, wine_job(), decisions=4, autoreset_mode=mode, **options)
    env.reset(seed=0)
    for place in (0.0, 0.0, 0.0, 1.0):  # at last the learning rate is raised until the loss grows
        *_, terminated, _, info = env.step(np.full((2, 1), place))
    assert terminated.all()
    for slot in range(2):
        best = info["best_val_loss"][slot]
        assert best < info["val_loss"][slot]
        assert env.evaluate(slot, "validation")["loss"] == pytest.approx(best, rel=1e-5)
    assert env.evaluate(0)["accuracy"] <= 1


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
def test_after_a_rescue_the_hyperparameters_told_are_those_at_work() -> None:
    bomb = wine_job(model=normed_net, optimizer="adam", start={"lr": 1e30})
    env = VectorTuningEnv(1, bomb, decisions=5, hyperparameters=["lr"])
    env.reset(seed=0)
    *_, info = env.step(still(env))
    seat = env.engine.seat(0)
    assert isinstance(seat, ReferenceSeat)
    assert info["rescues"][0] == 1
    assert info["hyperparameters"]["lr"][0] < 1e30
    assert seat.engine.trainee.read()["lr"] == info["hyperparameters"]["lr"][0]


def test_final_records_are_those_of_the_episode_that_ended_last() -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3)
    singles = VectorTuningEnv(2, wine_job(), decisions=3, autoreset_mode=DISABLED)
    env.reset(seed=0), singles.reset(seed=0)
    assert env.final_records(0) == ()
    for actions in random_action_batches(env, 0, 3):
        env.step(actions), singles.step(actions)
    kept = singles.records(1)
    assert len(kept) == 3
    assert env.final_records(1) == kept
    env.step(still(env))
    assert env.final_records(1) == kept
    assert len(env.records(1)) == 1


def test_a_state_brings_its_own_final_records() -> None:
    env, other = (VectorTuningEnv(1, wine_job(), decisions=2) for _ in range(2))
    env.reset(seed=0), other.reset(seed=1)
    fresh = env.get_state()
    for actions in random_action_batches(env, 0, 2):
        env.step(actions)
    assert env.final_records(0)
    env.set_state(fresh)
    assert env.final_records(0) == ()


def test_a_snapshot_between_an_episodes_end_and_the_next_ones_start_continues() -> None:
    env, other = (VectorTuningEnv(2, wine_job(), decisions=3, autoreset_mode=NEXT) for _ in range(2))
    env.reset(seed=0)
    actions = random_action_batches(env, 0, 8)
    for some in actions[:3]:
        *_, terminated, _, _ = env.step(some)
    assert terminated.all()
    other.set_state(pickle.loads(pickle.dumps(env.get_state())))
    for some in actions[3:]:
        assert_same_state(other.step(some), env.step(some))


def test_gymnasium_makes_it_without_a_warning() -> None:
    env = gym.make_vec("rl_tuner/Tuning-v0", 4, "vector_entry_point", suite="quick", decisions=7)
    assert isinstance(env, VectorTuningEnv)
    assert env.config.decisions == 7
    assert env.spec is not None
    with pytest.raises(ConfigError, match="no render_mode, got 'ansi'"):
        gym.make_vec("rl_tuner/Tuning-v0", 4, "vector_entry_point", render_mode="ansi")


def test_gymnasiums_vector_wrappers_work_on_it() -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3)
    wrapped: Any = DictInfoToList(RecordEpisodeStatistics(env))
    wrapped.reset(seed=0)
    earned = np.zeros(2)
    for actions in random_action_batches(env, 0, 3):
        _, rewards, *_, infos = wrapped.step(actions)
        earned += rewards
    for slot, info in enumerate(infos):
        assert info["episode"]["r"] == pytest.approx(earned[slot])
        assert info["episode"]["l"] == 3
        assert info["final_info"]["samples"] == 301
        assert info["final_obs"].shape == (len(env.feature_names),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"job": "wine"}, "job must be a TrainingJob, got str"),
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"actions": "discreet"}, "did you mean 'discrete'"),
        ({"autoreset_mode": "SAME"}, "did you mean 'SAME_STEP'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VectorTuningEnv(**options)


@pytest.mark.parametrize("mode", ["NEXT_STEP", NEXT.value, NEXT])
def test_an_autoreset_mode_may_be_a_name(mode: str | AutoresetMode) -> None:
    env = VectorTuningEnv(1, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is NEXT
    assert VectorTuningEnv.metadata["autoreset_mode"] is SAME


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"seed": [1]}, "seeds of 2 slots are wanted, got 1"),
        ({"options": {"jobs": None}}, "did you mean 'job'"),
        ({"options": {"job": "wine"}}, "must be a TrainingJob or a JobSpec, got str"),
        ({"options": {"reset_mask": [True]}}, r"bools of shape \(2,\)"),
        ({"options": {"reset_mask": [0, 1]}}, "bools"),
        ({"options": {"reset_mask": [False, False]}}, "one of them True"),
    ],
)
def test_a_reset_that_does_not_fit_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3)
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(ConfigError, match=message):
        env.reset(**arguments)
    assert_same_state(env.get_state(), state)


def test_a_reset_leaves_the_options_it_was_given_as_they_are() -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3)
    env.reset()
    options = {"job": BOMB, "reset_mask": only(0, 2)}
    env.reset(options=options)
    assert list(options) == ["job", "reset_mask"]


def test_nothing_runs_before_every_slot_was_reset() -> None:
    env = VectorTuningEnv(2, wine_job())
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(still(env))
    with pytest.raises(gym.error.ResetNeeded, match="all slots"):
        env.reset(options={"reset_mask": only(0, 2)})
    with pytest.raises(JobError, match="before all slots are reset"):
        env.get_state()


def test_a_job_that_cannot_be_built_names_its_slot_and_leaves_a_clear_state() -> None:
    env = VectorTuningEnv(3, wine_job(), decisions=3)
    expected, _ = env.reset(seed=0)
    wrong = dataclasses.replace(wine_job(), model=lambda: nn.Flatten(), name="wrong")
    with pytest.raises(JobError, match="slot 1: the model has no parameter"):
        env.reset(options={"job": wrong, "reset_mask": only(1, 3)})
    with pytest.raises(gym.error.ResetNeeded, match="no jobs run, or a step of them failed"):
        env.step(still(env))
    with pytest.raises(gym.error.ResetNeeded, match="all slots"):
        env.reset(options={"reset_mask": only(0, 3)})
    assert env.reset(seed=0)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "other",
    [{"decisions": 4}, {"num_envs": 4}, {"group_size": 2}, {"autoreset_mode": NEXT}, {"actions": "discrete"}],
)
def test_a_state_of_other_settings_is_refused_and_changes_nothing(other: dict[str, Any]) -> None:
    options = {"num_envs": 2, "job": wine_job(), "decisions": 3}
    env, stranger = VectorTuningEnv(**options), VectorTuningEnv(**{**options, **other})
    env.reset(seed=0), stranger.reset(seed=1)
    before = stranger.get_state()
    with pytest.raises(ConfigError, match="the state is of an environment with another"):
        stranger.set_state(env.get_state())
    assert_same_state(stranger.get_state(), before)


def test_a_state_of_a_single_environment_is_refused() -> None:
    single, env = TuningEnv(wine_job()), VectorTuningEnv(1, wine_job())
    single.reset(seed=0)
    with pytest.raises(ConfigError, match="another num_envs: None, here 1"):
        env.set_state(single.get_state())


def test_a_job_that_cannot_be_batched_runs_beside_others_that_can() -> None:
    names = ("lr", "weight_decay", "momentum")
    env = VectorTuningEnv(3, wine_job(), decisions=4, hyperparameters=names)
    env.reset(seed=0)
    normed = wine_job(model=normed_net, name="normed")
    with pytest.warns(UserWarning, match="'normed' runs by itself on the reference engine"):
        _, info = env.reset(seed=[0, 1, 2], options={"job": normed, "reset_mask": only(1, 3)})
    single = TuningEnv(normed, decisions=4, hyperparameters=names)
    _, single_info = single.reset(seed=1)
    assert info["job_seed"][1] == single_info["job_seed"]
    for actions in random_action_batches(env, 0, 4):
        observations, rewards, terminated, _, info = env.step(actions)
        observation, reward, done, _, single_info = single.step(actions[1])
        last = info["final_obs"][1] if done else observations[1]
        np.testing.assert_allclose(last, observation, rtol=0, atol=1e-6)
        assert rewards[1] == pytest.approx(reward)
        assert terminated.tolist() == [done] * 3
    assert info["final_info"]["job"].tolist() == ["wine", "normed", "wine"]


def test_memory_per_job_is_that_of_its_weights_and_buffers() -> None:
    env = VectorTuningEnv(2, wine_job(), decisions=3)
    env.reset(seed=0)
    parameters = 13 * 6 + 6 + 6 * 3 + 3
    # Live and good: weights and two buffers in single precision, the updates' count in double. Best: weights.
    assert env.engine.bytes_per_job == 2 * (3 * parameters * 4 + 8) + parameters * 4


def resident_megabytes() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20


def _marks_of_ten_thousand_episodes() -> list[tuple[Any, ...]]:
    """What the environment and its process hold after 2,000 and after 10,000 episodes."""
    family = JobFamily(("wine",), ("mlp-2", "mlp-3"), budget=(20, 40), start={"batch_size": (16,)})
    suites.SUITES["leak"] = Suite("leak", "", dict.fromkeys(suites.SPLITS, Mixture((family,))))
    env = VectorTuningEnv(64, suite="leak", decisions=2)
    env.reset(seed=0)
    episodes, marks = 0, []
    actions = still(env)
    for limit in (2_000, 10_000):
        while episodes < limit:
            episodes += int(env.step(actions)[2].sum())
        gc.collect()
        groups = env.engine.groups
        rows = [(group.rows.used, group.rows.capacity) for group in groups]
        held = sum(used for used, _ in rows), len(groups), {id(group.arena) for group in groups}
        pools = [(group.arena.pools, group.arena.samples) for group in groups]
        marks.append(
            (held, max(room for _, room in rows), pools, resident_megabytes(), len(gc.get_objects()))
        )
    return marks


@pytest.mark.slow
def test_ten_thousand_episodes_leave_no_memory_behind() -> None:
    # In a process of its own: this one's memory also grows and shrinks by what other tests left in it.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        marks = pool.apply(_marks_of_ten_thousand_episodes)
    (held, room, pools, megabytes, objects), (held_later, room_later, pools_later, more, later) = marks
    assert held == held_later
    assert held[0] == 64
    assert room_later <= 128
    assert room_later <= 2 * room
    assert pools == pools_later
    assert more - megabytes < 8
    assert later - objects < 2_000


def test_compiled_programs_train_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def fast(function: Any, example: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr("rl_tuner.envs.programs.fast", fast)
    plain = VectorTuningEnv(3, precise_job(), hyperparameters=TUNED)
    static = VectorTuningEnv(3, precise_job(), hyperparameters=TUNED, compile=Uniform(8, 2, 3))
    for env in (plain, static):
        env.reset(seed=0)
    for actions in random_action_batches(plain, 1, 8):
        (seen, earned, over, *_), (other_seen, other_earned, other_over, *_) = (
            env.step(actions) for env in (plain, static)
        )
        np.testing.assert_allclose(seen, other_seen, atol=1e-5)
        np.testing.assert_allclose(earned, other_earned, atol=1e-9)
        assert over.tolist() == other_over.tolist()
    assert compiled


def test_compile_true_uses_the_standard_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(
        "rl_tuner.envs.vector_env.BatchedEngine", lambda *args: given.append(args) or BatchedEngine(*args)
    )
    for value in (True, False, Uniform(8)):
        VectorTuningEnv(2, precise_job(), compile=value)
    assert [args[2] for args in given] == [Uniform(micro_batch=32), None, Uniform(8)]


def test_a_step_that_failed_half_way_is_not_gone_on_from() -> None:
    class Breaking(torch.utils.data.Dataset[Any]):
        broken = False

        def __len__(self) -> int:
            return 40

        def __getitem__(self, i: int) -> Any:
            if self.broken:
                raise RuntimeError("the disk is gone")
            return WINE.train[0][i], WINE.train[1][i]

    data = Breaking()
    env = VectorTuningEnv(2, wine_job())
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="its data is a Dataset"):
        env.reset(
            options={"job": wine_job(train=data, validation=None), "reset_mask": np.array([False, True])}
        )
    data.broken = True
    with pytest.raises(RuntimeError, match="the disk is gone"):
        env.step(np.zeros((2, 5)))
    with pytest.raises(gym.error.ResetNeeded, match="a step of them failed"):
        env.step(np.zeros((2, 5)))
    with pytest.raises(JobError, match="before all slots are reset"):
        env.get_state()
    env.reset(seed=1)
    env.step(np.zeros((2, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compile": 1}, "compile must be True, False or a Uniform, got 1"),
        ({"device": "foo"}, "device 'foo' cannot be used"),
        ({"num_envs": 2.5}, "num_envs must be a whole number"),
        ({"group_size": 1.5}, "group_size must be a whole number"),
        ({"device": "meta:x"}, "cannot be used"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VectorTuningEnv(**{"num_envs": 2, **options})
