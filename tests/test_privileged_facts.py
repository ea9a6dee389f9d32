"""Privileged facts: those of the jobs that run, slot by slot, for a critic alone."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rl_tuner.agents import PPOAgent
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.envs import JobSpec, TrainingJob, TuningEnv, VectorTuningEnv
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.models import mlp
from rl_tuner.envs.suites import SUITES
from rl_tuner.episode_logs import VectorEpisodeLog
from tests.phased import FIRST, SECOND, phased_job
from tests.tiny import TINY

SPEC = JobSpec("wine", "mlp-4", "momentum", 1000, 0, 0.3, 16, 0.0, 0.9, None)
WINE_TRAIN = len(load_split("wine", 0).train[0])
WEIGHTS = 13 * 4 + 4 + 4 * 3 + 3


def facts(env: VectorTuningEnv, slot: int = 0) -> dict[str, float]:
    assert env.privileged().shape == (env.num_envs, len(env.privileged_names))
    return dict(zip(env.privileged_names, env.privileged()[slot].tolist(), strict=True))


def running(source: TrainingJob | JobSpec, num_envs: int = 1, **options: Any) -> VectorTuningEnv:
    env = VectorTuningEnv(num_envs, **options)
    env.reset(seed=0, options={"job": source})
    return env


def still(env: VectorTuningEnv) -> NDArray[Any]:
    return np.zeros(env.action_space.shape)  # type: ignore[arg-type]


def test_the_facts_are_the_job_s_own_figures() -> None:
    told = facts(running(SPEC))
    assert told == pytest.approx(
        {
            "lr_over_usual": 1.0,  # 0.3 where 0.03 is usual
            "budget": 3.0,
            "train_samples": math.log10(WINE_TRAIN),
            "parameters": math.log10(WEIGHTS),
            "batch_size": 4.0,
            "validation": 1.0,
            "phases": 1.0,
            **{f"optimizer_{name}": float(name == "momentum") for name in OPTIMIZERS},
        }
    )


def test_the_learning_rate_is_told_against_the_optimizer_s_own_usual_one() -> None:
    told = {
        name: facts(running(replace(SPEC, optimizer=name, lr=0.01, momentum=None)))
        for name in ("adam", "adagrad")
    }
    assert told["adam"]["lr_over_usual"] == pytest.approx(1.0)
    assert told["adagrad"]["lr_over_usual"] == pytest.approx(0.0)
    assert [told[name][f"optimizer_{name}"] for name in told] == [1.0, 1.0]


def test_an_optimizer_without_a_name_and_no_validation_give_finite_facts() -> None:
    data = load_split("wine", 0)
    job = TrainingJob(
        lambda: mlp(13, (4,), 3), data.train, optimizer=torch.optim.Adamax, start={"lr": 1e-9}, budget=500
    )
    with pytest.warns(UserWarning, match="not batched"):
        told = facts(running(job))
    assert all(math.isfinite(value) for value in told.values())
    assert told["lr_over_usual"] == pytest.approx(-6.0)  # Adam's is usual where nothing is known
    assert told["validation"] == 0.0
    assert told["parameters"] == pytest.approx(math.log10(WEIGHTS))  # counted on the reference engine, too
    assert not any(told[f"optimizer_{name}"] for name in OPTIMIZERS)


def test_before_the_first_reset_there_are_zeros_of_the_same_shape() -> None:
    env = VectorTuningEnv(3, suite="quick")
    before = env.privileged()
    env.reset(seed=0)
    assert not before.any()
    assert before.dtype == env.privileged().dtype == np.float32
    assert before.shape == env.privileged().shape


def test_a_slot_whose_job_ended_tells_of_its_next_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    env, alone = VectorTuningEnv(2, suite="tiny", decisions=3), TuningEnv(suite="tiny", decisions=3)
    env.reset(seed=7)
    for episode in range(3):
        alone.reset(seed=8 if episode == 0 else None)  # runs what slot 1 runs
        told = facts(env, 1)
        assert 10 ** told["budget"] == pytest.approx(alone.engine.budget, rel=1e-5)
        assert told[f"optimizer_{alone.engine.job.optimizer}"] == 1.0
        for _ in range(3):
            before = env.privileged()
            _, _, ended, _, _ = env.step(still(env))
            assert (env.privileged() == before).all(axis=1).tolist() == (~ended).tolist()
        assert ended.all()


def test_with_next_step_autoreset_the_ended_job_is_told_of_until_the_next_one_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    env = VectorTuningEnv(2, suite="tiny", decisions=2, autoreset_mode=AutoresetMode.NEXT_STEP)
    env.reset(seed=7)
    first = env.privileged()
    for _ in range(2):
        env.step(still(env))
    np.testing.assert_array_equal(env.privileged(), first)
    env.step(still(env))
    assert (env.privileged() != first).any(axis=1).all()


def test_in_each_phase_the_facts_are_that_phase_s() -> None:
    env = running(phased_job(), decisions=4)
    first = facts(env)
    while env.courses.phase[0] == 0:
        env.step(still(env))
    second = facts(env)
    assert [first["phases"], second["phases"]] == [2.0, 2.0]
    assert [first["optimizer_adam"], second["optimizer_adam"]] == [1.0, 0.0]
    assert [10 ** first["budget"], 10 ** second["budget"]] == pytest.approx([FIRST, SECOND], rel=1e-5)


def test_a_snapshot_brings_its_facts_along() -> None:
    env = VectorTuningEnv(2, suite="quick")
    env.reset(seed=3)
    state = pickle.loads(pickle.dumps(env.get_state()))
    other = VectorTuningEnv(2, suite="quick")
    other.set_state(state)
    np.testing.assert_array_equal(other.privileged(), env.privileged())


def test_what_is_told_is_a_copy() -> None:
    env = running(SPEC)
    env.privileged()[:] = 99.0
    assert facts(env)["budget"] == pytest.approx(3.0)


def test_a_critic_learns_with_them_while_slots_change_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    env = VectorTuningEnv(4, suite="tiny", decisions=4)
    agent = PPOAgent(VectorEpisodeLog(env), privileged=True, n_steps=8, hidden=(8,), n_epochs=1)
    weights = agent.model.policy.mlp_extractor.value_net[0].weight
    before = weights.detach().clone()
    told: list[EpisodeSummary] = []
    agent.fit(64, told.append)
    assert len(told) >= 16  # each slot went through four jobs, or more
    assert weights.shape[1] == len(env.feature_names) + len(env.privileged_names)
    moved = (weights - before)[:, len(env.feature_names) :].abs().sum(0)
    assert moved[env.privileged_names.index("budget")] > 0
    assert agent.policy().feature_names == env.feature_names
