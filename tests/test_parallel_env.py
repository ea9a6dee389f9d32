"""The environment in processes: the episodes of `VectorTuningEnv`, errors and ends of its workers."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.agents import EvolutionStrategy, PPOAgent, QLearning
from rl_tuner.agents.agent import EpisodeSummary, TuningSpaces
from rl_tuner.envs import ParallelTuningEnv, TrainingJob, VectorTuningEnv, suites
from rl_tuner.envs.datasets import load_split
from rl_tuner.episode_logs import VectorEpisodeLog
from tests.contracts import VectorEnvironmentContract, assert_same_state, random_action_batches
from tests.side_by_side import assert_close
from tests.tiny import TINY, wine_net

WINE = load_split("wine", 0)
JOB = TrainingJob(
    model=wine_net,
    train=WINE.train,
    validation=WINE.validation,
    test=WINE.test,
    optimizer="adam",
    start={"lr": 0.03, "batch_size": 16.0, "momentum": 0.5},
    budget=301,
    name="wine",
)
OPTIONS: dict[str, Any] = {"suite": "quick", "group_size": 2, "decisions": 5}
NEXT, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def normed_net() -> nn.Module:
    return nn.Sequential(nn.Linear(13, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def slots(*masked: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(8), masked)


def still(env: ParallelTuningEnv) -> NDArray[np.float32]:
    return np.zeros((env.num_envs, len(env.space)), np.float32)


@pytest.fixture(scope="module")
def env() -> Iterator[ParallelTuningEnv]:
    """Eight slots in two workers, in pairs; each test resets it first."""
    env = ParallelTuningEnv(8, 2, **OPTIONS)
    yield env
    env.close()


@pytest.fixture(scope="module")
def discrete() -> Iterator[tuple[ParallelTuningEnv, VectorTuningEnv]]:
    """A suite that only this process knows, in one worker, and here."""
    suites.SUITES["tiny"] = TINY
    env = ParallelTuningEnv(2, 1, suite="tiny", actions="discrete", decisions=3)
    whole = VectorTuningEnv(2, suite="tiny", actions="discrete", decisions=3)
    del suites.SUITES["tiny"]
    yield env, whole
    env.close()


class TestContract(VectorEnvironmentContract):
    """Three workers of one slot; environments are shared by tests that want the same."""

    made: ClassVar[dict[int, ParallelTuningEnv]] = {}

    @classmethod
    def teardown_class(cls) -> None:
        for env in cls.made.values():
            env.close()
        cls.made.clear()

    def make(self, num_envs: int = 3, **options: Any) -> Any:
        assert not options
        if num_envs not in self.made:
            workers = num_envs if num_envs == 3 else 1
            self.made[num_envs] = ParallelTuningEnv(num_envs, workers, job=JOB, decisions=5, early_stopping=3)
        return self.made[num_envs]

    def budgets(self, env: Any) -> NDArray[np.int64]:
        return np.full(env.num_envs, 301)


def test_episodes_are_those_of_one_environment_of_the_same_seed(env: ParallelTuningEnv) -> None:
    whole = VectorTuningEnv(8, **OPTIONS)
    starts = env.reset(seed=3), whole.reset(seed=3)
    np.testing.assert_allclose(starts[0][0], starts[1][0], rtol=0, atol=1e-5)
    assert_close(starts[0][1], starts[1][1], 1e-5)
    episodes = np.zeros(8, np.int64)
    for actions in random_action_batches(whole, 5, 16):
        one, other = (e.step((0.3 * actions).astype(np.float32)) for e in (env, whole))
        for left, right in zip(one[:4], other[:4], strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-3)
        assert_close(one[4], other[4], 1e-3)
        episodes += one[2]
    assert (episodes >= 3).all()
    np.testing.assert_array_equal(env.privileged(), whole.privileged())
    assert env.privileged_names == whole.privileged_names
    for slot in (0, 5, -1):
        assert [r.used for r in env.final_records(slot)] == [r.used for r in whole.final_records(slot)]
        assert len(env.records(slot)) == len(whole.records(slot))


def test_each_worker_runs_an_environment_of_its_own_bit_for_bit(env: ParallelTuningEnv) -> None:
    own = [VectorTuningEnv(4, **OPTIONS) for _ in range(2)]
    env.reset(seed=7), own[0].reset(seed=7), own[1].reset(seed=9)
    for actions in random_action_batches(own[0], 5, 12):
        together = env.step(np.tile(actions, (2, 1)))
        apart = [e.step(actions) for e in own]
        for i in range(4):
            np.testing.assert_array_equal(together[i], np.concatenate([step[i] for step in apart]))
    for slot in range(8):
        mine = own[slot // 4]
        assert_same_state(env.records(slot), mine.records(slot % 4))
        assert_same_state(env.final_records(slot), mine.final_records(slot % 4))
    assert env.evaluate(6) == own[1].evaluate(2)
    with pytest.raises(IndexError):
        env.records(8)


def test_seeds_may_be_one_for_each_slot(env: ParallelTuningEnv) -> None:
    counted, infos = env.reset(seed=4)
    listed, same = env.reset(seed=[4, 4, 5, 5, 6, 6, 7, 7])
    assert counted.tobytes() == listed.tobytes()
    assert_same_state(infos, same)
    assert len(set(infos["job_seed"].tolist())) == 4


def test_a_mask_resets_its_slots_and_asks_no_other_workers(
    env: ParallelTuningEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VectorTuningEnv(8, **OPTIONS)
    env.reset(seed=3), whole.reset(seed=3)
    env.step(still(env)), whole.step(still(env))
    asked = []
    call = env._remote.call
    monkeypatch.setattr(env._remote, "call", lambda m, calls: asked.append(set(calls)) or call(m, calls))
    for mask, workers in ((slots(5), {1}), (slots(0, 1), {0}), (slots(2, 3, 6, 7), {0, 1})):
        one, other = (e.reset(options={"reset_mask": mask}) for e in (env, whole))
        np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-4)
        assert_close(one[1], other[1], 1e-4)
        assert one[1]["_job"].tolist() == mask.tolist()
        assert asked.pop() == workers
    one, other = env.step(still(env)), whole.step(still(env))
    np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-3)


def test_what_a_reset_returned_can_be_changed(env: ParallelTuningEnv) -> None:
    first, _ = env.reset(seed=3)
    copy = first.copy()
    first[:] = 9
    again, _ = env.reset(options={"reset_mask": slots(0)})
    assert again[1:].tobytes() == copy[1:].tobytes()


def test_a_state_of_other_workers_is_refused_and_changes_nothing(env: ParallelTuningEnv) -> None:
    whole = VectorTuningEnv(8, **OPTIONS)
    env.reset(seed=1), whole.reset(seed=1)
    state = env.get_state()
    with pytest.raises(ConfigError, match=r"another workers: None, here 2"):
        env.set_state(whole.get_state())
    with pytest.raises(ConfigError, match=r"another workers: 3, here 2"):
        env.set_state({**state, "settings": {**state["settings"], "workers": 3}})
    with pytest.raises(ConfigError, match=r"another num_envs: None, here 8"):
        whole.set_state(state)
    assert_same_state(env.get_state(), state)


def test_a_mask_resets_slots_of_a_state_that_was_continued_from(env: ParallelTuningEnv) -> None:
    env.reset(seed=1)
    running = env.step(still(env))[0]
    state = env.get_state()
    env.reset(seed=2)
    env.set_state(state)
    assert env.reset(options={"reset_mask": slots(7)})[0][:7].tobytes() == running[:7].tobytes()


def test_an_error_names_the_slot_of_the_whole_and_all_are_to_be_reset(env: ParallelTuningEnv) -> None:
    expected, _ = env.reset(seed=0)
    wrong = dataclasses.replace(JOB, model=nn.Flatten, name="wrong")
    with pytest.raises(JobError, match=r"^slot 6: the model has no parameter"):
        env.reset(options={"job": wrong, "reset_mask": slots(6)})
    with pytest.raises(gym.error.ResetNeeded, match="no jobs run, or a step of them failed"):
        env.step(still(env))
    with pytest.raises(gym.error.ResetNeeded, match="all slots"):
        env.reset(options={"reset_mask": slots(0)})
    with pytest.raises(JobError, match="before all slots are reset"):
        env.get_state()
    assert env.reset(seed=0)[0].tobytes() == expected.tobytes()


def test_an_interrupted_step_is_not_gone_on_from(
    env: ParallelTuningEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    expected = [env.reset(seed=0)[0], env.step(still(env))[0]]
    with monkeypatch.context() as patch:
        patch.setattr("rl_tuner.remote.as_completed", interrupted)  # the workers are at it already
        with pytest.raises(KeyboardInterrupt):
            env.step(still(env))
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) first"):
        env.step(still(env))
    assert env.reset(seed=0)[0].tobytes() == expected[0].tobytes()
    assert env.step(still(env))[0].tobytes() == expected[1].tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": [1]}, "seeds of 8 slots are wanted, got 1"),
        ({"options": {"jobs": None}}, "did you mean 'job'"),
        ({"options": {"job": "wine"}}, "must be a TrainingJob or a JobSpec, got str"),
        ({"options": {"reset_mask": [True]}}, r"bools of shape \(8,\)"),
        (
            {"options": {"job": dataclasses.replace(JOB, model=lambda: nn.Linear(13, 3))}},
            r"options\['job'\] cannot be sent to worker processes: .*lambda",
        ),
    ],
)
def test_a_reset_that_does_not_fit_changes_nothing(
    env: ParallelTuningEnv, arguments: dict[str, Any], message: str
) -> None:
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(ConfigError, match=message):
        env.reset(**arguments)
    assert_same_state(env.get_state(), state)


def test_a_job_given_to_reset_warns_here_if_it_cannot_be_batched(env: ParallelTuningEnv) -> None:
    env.reset(seed=0)
    normed = dataclasses.replace(JOB, model=normed_net, name="normed")
    with pytest.warns(UserWarning, match="'normed' runs by itself on the reference engine"):
        _, infos = env.reset(options={"job": normed, "reset_mask": slots(1, 4)})
    assert infos["job"].tolist() == [None, "normed", None, None, "normed", None, None, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 3}, r"workers must divide the number of groups, 4 \(8 slots in groups of 2\), got 3"),
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"workers": 2.0}, "workers must be a whole number"),
        ({"num_envs": 9}, "group_size must divide num_envs=9, got 2"),
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"device": "foo"}, "device 'foo' cannot be used"),
        ({"render_mode": "ansi"}, "no render_mode, got 'ansi'"),
        ({"job": dataclasses.replace(JOB, model=lambda: nn.Linear(13, 3))}, "job cannot be sent"),
    ],
)
def test_bad_options_are_refused_before_a_process_is_started(options: dict[str, Any], message: str) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(ConfigError, match=message):
        ParallelTuningEnv(**{"num_envs": 8, **OPTIONS, **options})
    with pytest.raises(TypeError, match="decision"):
        ParallelTuningEnv(8, decision=5)
    assert set(multiprocessing.active_children()) == before


def test_after_a_worker_was_killed_the_others_are_ended_and_it_is_closed() -> None:
    before = set(multiprocessing.active_children())
    env = ParallelTuningEnv(2, 2, job=JOB)
    env.reset(seed=0)
    os.kill(env._remote._pids[1], signal.SIGKILL)
    with pytest.raises(JobError, match=r"worker process 1 of 2 .* ended without a word: it was killed"):
        env.step(still(env))
    assert set(multiprocessing.active_children()) == before
    for use in (env.reset, env.get_state, partial(env.step, still(env)), partial(env.records, 0)):
        with pytest.raises(gym.error.ClosedEnvironmentError, match="is closed: make another one"):
            use()
    env.close(), env.close()
    assert env.closed


def test_closing_leaves_no_process_and_may_be_done_twice() -> None:
    before = set(multiprocessing.active_children())
    env = ParallelTuningEnv(1, 1, job=JOB, autoreset_mode="DISABLED", decisions=2)
    assert len(set(multiprocessing.active_children()) - before) == 1
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(still(env))
    first, _ = env.reset(seed=0)
    env.step(still(env))
    assert env.step(still(env))[2].all()
    with pytest.raises(gym.error.ResetNeeded, match=r"slots \[0\] are finished"):
        env.step(still(env))
    assert env.reset(options={"reset_mask": [True]})[0].tobytes() == first.tobytes()
    env.step(still(env))
    env.close(), env.close()
    assert set(multiprocessing.active_children()) == before
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.step(still(env))


def test_with_next_step_the_actions_of_slots_that_ended_are_not_read() -> None:
    options: dict[str, Any] = {"job": JOB, "autoreset_mode": NEXT, "decisions": 3, "rails": False}
    whole, env = VectorTuningEnv(2, **options), ParallelTuningEnv(2, 1, **options)
    env.reset(seed=0), whole.reset(seed=0)
    bomb = dataclasses.replace(JOB, start={"lr": 1e30, "batch_size": 16.0}, name="bomb")
    for each in (env, whole):
        each.reset(options={"job": bomb, "reset_mask": np.array([False, True])})
    actions = still(env)
    assert env.step(actions)[2].tolist() == whole.step(actions)[2].tolist() == [False, True]
    actions[1] = np.nan
    state = env.get_state()
    assert_same_state(env.step(actions), whole.step(actions))
    with pytest.raises(ConfigError, match="finite"):
        env.step(actions)
    env.set_state(state)
    assert env.step(actions)[0] in env.observation_space
    env.close()


def test_what_is_tuned_is_what_one_environment_says(env: ParallelTuningEnv) -> None:
    whole = VectorTuningEnv(8, **OPTIONS)
    mine, other = TuningSpaces.of(VectorEpisodeLog(env)), TuningSpaces.of(whole)
    assert mine is not None
    assert other is not None
    assert (mine.space, mine.config, mine.feature_names) == (other.space, other.config, other.feature_names)
    assert mine.actions.kind == "continuous"
    assert env.group_size == 2
    assert env.metadata == whole.metadata


def summaries(agent: Any, steps: int) -> list[EpisodeSummary]:
    seen: list[EpisodeSummary] = []
    agent.fit(steps, seen.append)
    return seen


def test_agents_meet_the_episodes_that_one_environment_gives_them(env: ParallelTuningEnv) -> None:
    for make in (
        partial(PPOAgent, advantages="group", n_steps=10, log_std_init=-2.0),
        partial(PPOAgent, privileged=True, n_steps=10, log_std_init=-2.0),
        partial(EvolutionStrategy, population=4),
    ):
        envs = VectorEpisodeLog(env), VectorTuningEnv(8, **OPTIONS)
        both = [summaries(make(each, seed=1), 80) for each in envs]
        assert len(both[0]) >= 16
        for one, other in list(zip(*both, strict=True))[:8]:  # before the first update
            assert (one.env, one.steps, one.length) == (other.env, other.steps, other.length)
            assert one.return_ == pytest.approx(other.return_, abs=1e-3)


def test_tables_are_learned_on_a_suite_that_only_the_parent_knew(
    discrete: tuple[ParallelTuningEnv, VectorTuningEnv],
) -> None:
    env, whole = discrete
    assert "tiny" not in suites.SUITES
    log = VectorEpisodeLog(env)
    agent = QLearning(log, warmup=20, seed=0)
    both = [summaries(each, 60) for each in (agent, QLearning(whole, warmup=20, seed=0))]
    assert both[0] == both[1]  # bit for bit: they have the same neighbours in a batch
    assert len(both[0]) >= 20
    assert agent.policy().space == env.space
    assert log.final_records(1) == whole.final_records(1) != ()
