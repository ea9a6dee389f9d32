"""Tuning-free optimizers in the place of a job's own: what they take over, and that they train."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.hypergradient import SGDHD, AdamHD
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import OPTIMIZERS, Phase
from rl_tuner.envs.seats import ReferenceSeat
from rl_tuner.envs.tuning_free import TUNING_FREE, tuning_free
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.schedules import Constant, Cosine
from rl_tuner.seeding import Streams
from tests.contracts import EnvironmentContract
from tests.phased import phased_job

NAMES = tuple(TUNING_FREE)
SGD_LIKE = ("sgd", "momentum", "nesterov")
WITH_MOMENTUM = ("momentum", "nesterov", "adam", "adamw")
BUDGET = 3000


def spec(optimizer: str = "adam", **changes: Any) -> JobSpec:
    options: dict[str, Any] = {
        "dataset": "iris",
        "architecture": "mlp-8",
        "optimizer": optimizer,
        "budget": BUDGET,
        "data_seed": 0,
        "lr": SANE_LR[optimizer],
        "batch_size": 16,
        "weight_decay": 0.01,
        "momentum": 0.8 if optimizer in WITH_MOMENTUM else None,
        "dropout": None,
    }
    return JobSpec(**{**options, **changes})


def episode(job: TrainingJob, policy: Constant | Cosine | None = None, seed: int = 1) -> Episode:
    policy = policy or Constant()
    return run_episode(TuningEnv.for_policy(policy), policy, seed, job)


def optimizer_of(job: TrainingJob) -> Any:
    return ReferenceEngine(job, Streams(0)).optimizer


def group_of(job: TrainingJob) -> dict[str, Any]:
    """The options that training starts with."""
    group: dict[str, Any] = optimizer_of(job).param_groups[0]
    return group


class TestScheduleFree(EnvironmentContract):
    phases = 2

    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(tuning_free("schedulefree", phased_job()), decisions=6, **options)


class TestProdigy(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(tuning_free("prodigy", spec(budget=600)), decisions=5, **options)


class TestHypergradient(EnvironmentContract):
    phases = 2

    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(tuning_free("hypergradient", phased_job()), decisions=6, **options)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_each_lowers_the_validation_loss_of_a_job_of_each_optimizer(name: str, optimizer: str) -> None:
    env = TuningEnv.for_policy(Constant())
    job = tuning_free(name, spec(optimizer))
    _, info = env.reset(seed=1, options={"job": job})
    done = False
    while not done:
        _, _, done, _, after = env.step(np.zeros(1, np.float32))
    assert after["best_val_loss"] < 0.8 * info["val_loss"]
    assert after["samples"] == BUDGET
    assert not after["crashed"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_all_but_the_optimizer_is_the_jobs_own(name: str, optimizer: str) -> None:
    own = spec(optimizer, dropout=0.1, fixed=("batch_size",), l1=1e-4).build()
    job = tuning_free(name, own)
    for field in ("model", "train", "validation", "test", "task", "loss", "budget", "name", "weights"):
        assert getattr(job, field) is getattr(own, field)
    assert set(job.fixed) >= {"batch_size"}
    mine, theirs = (ReferenceEngine(j, Streams(4)) for j in (job, own))
    assert mine.budget == theirs.budget
    values, others = mine.trainee.read(), theirs.trainee.read()
    for kept in ("batch_size", "weight_decay", "dropout", "l1"):
        assert values[kept] == others[kept]
    for p, q in zip(mine.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_momentum_is_taken_over_and_0_9_where_there_is_none(optimizer: str) -> None:
    expected = 0.8 if optimizer in WITH_MOMENTUM else 0.9
    for name in NAMES:
        momentum = ReferenceEngine(tuning_free(name, spec(optimizer)), Streams(0)).trainee.read()["momentum"]
        plain = name == "hypergradient" and optimizer == "sgd"  # SGD needs none
        assert momentum == (0.0 if plain else expected)


@pytest.mark.parametrize(
    ("optimizer", "lr", "expected"),
    [
        ("sgd", 0.1, 0.1),
        ("momentum", 0.03, 0.03 / (1 - 0.8)),
        ("adam", 1e-3, 1e-3),
        ("rmsprop", 1e-2, 1e-2),
        ("adagrad", 0.1, 0.01),
        ("adadelta", 1.0, 1e-3),
    ],
)
def test_schedule_free_starts_from_the_jobs_learning_rate(optimizer: str, lr: float, expected: float) -> None:
    job = tuning_free("schedulefree", spec(optimizer, lr=lr))
    made = optimizer_of(job)
    assert type(made).__name__ == ("SGDScheduleFree" if optimizer in SGD_LIKE else "AdamWScheduleFree")
    assert made.param_groups[0]["lr"] == pytest.approx(expected)
    assert "lr" not in job.fixed


@pytest.mark.parametrize(
    ("optimizer", "kind", "expected"),
    [
        ("sgd", SGDHD, {"lr": 0.1, "nesterov": False}),
        ("nesterov", SGDHD, {"lr": 0.03, "nesterov": True, "momentum": 0.8}),
        ("adam", AdamHD, {"lr": 1e-3, "betas": (0.8, 0.999), "decoupled_weight_decay": False}),
        ("adamw", AdamHD, {"lr": 1e-3, "decoupled_weight_decay": True}),
        ("adadelta", AdamHD, {"lr": 1e-3, "betas": (0.9, 0.999)}),
    ],
)
def test_hypergradient_descent_starts_from_the_jobs_own_optimizer(
    optimizer: str, kind: type, expected: dict[str, Any]
) -> None:
    made = optimizer_of(tuning_free("hypergradient", spec(optimizer)))
    assert type(made) is kind
    group = group_of(tuning_free("hypergradient", spec(optimizer)))
    assert {k: group[k] for k in expected} == expected
    assert group["multiplicative"] is True


def test_the_start_learning_rate_has_no_influence_on_prodigy() -> None:
    for optimizer in ("momentum", "adam"):
        low, high = (episode(tuning_free("prodigy", spec(optimizer, lr=lr))) for lr in (1e-6, 10.0))
        assert low.records == high.records
        assert low.test == high.test


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_hypergradient_descent_makes_up_for_a_start_a_hundred_times_too_low(optimizer: str) -> None:
    low = spec(optimizer, lr=SANE_LR[optimizer] / 100)
    own, tuned = episode(low.build()), episode(tuning_free("hypergradient", low))
    assert tuned.records[-1].best < 0.7 * own.records[-1].best


@pytest.mark.parametrize("name", ["prodigy", "hypergradient"])
def test_no_schedule_and_no_decision_writes_the_learning_rate(name: str) -> None:
    job = tuning_free(name, spec())
    constant, cosine = episode(job), episode(job, Cosine())
    assert constant.records == cosine.records
    assert all("lr" not in record.values for record in constant.records)


def test_schedule_free_can_be_given_a_schedule_for_what_is_not_its_own() -> None:
    job = tuning_free("schedulefree", spec())
    records = episode(job, Cosine()).records
    assert records[-1].values["lr"] < 0.01 * records[0].values["lr"]
    assert job.fixed == ("dropout", "momentum")


def in_two_groups(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    first, *rest = parameters
    groups = [{"params": [first], "lr": 0.01, "weight_decay": 0.1}, {"params": rest, "lr": 0.02}]
    return torch.optim.SGD(groups, lr=0.5, momentum=0.7)


def own_job(**changes: Any) -> TrainingJob:
    built = spec().build()
    options = {"model": built.model, "train": built.train, "validation": built.validation, "budget": 800}
    return TrainingJob(**{**options, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_of_a_users_own_optimizer_stay_apart(name: str) -> None:
    made = optimizer_of(tuning_free(name, own_job(optimizer=in_two_groups)))
    lrs = [group["lr"] for group in made.param_groups]
    assert [len(group["params"]) for group in made.param_groups] == [1, 3]
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    assert lrs[1] / lrs[0] == pytest.approx(1.0 if name == "prodigy" else 2.0)


def test_learning_rates_that_groups_have_found_survive_a_snapshot() -> None:
    job = tuning_free("hypergradient", own_job(optimizer=in_two_groups))
    engine, other = ReferenceEngine(job, Streams(0)), ReferenceEngine(job, Streams(0))
    engine.advance(400)
    other.set_state(engine.get_state())
    found = [[group["lr"] for group in e.optimizer.param_groups] for e in (engine, other)]
    assert found[0] == found[1]
    assert found[0][1] / found[0][0] != 2.0  # each went its own way


def test_start_values_are_the_optimizers_own_where_the_job_names_none() -> None:
    group = group_of(tuning_free("hypergradient", own_job(optimizer=torch.optim.AdamW)))
    assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-3, 0.01, (0.9, 0.999))


@pytest.mark.parametrize("name", NAMES)
def test_every_phase_trains_with_it(name: str) -> None:
    env = TuningEnv(tuning_free(name, phased_job()), decisions=6)
    env.reset(seed=0)
    kinds = [type(env.engine.optimizer).__name__]
    while env.course.phase == 0:
        env.step(np.zeros(5, np.float32))
    kinds.append(type(env.engine.optimizer).__name__)
    # The first phase's own optimizer is Adam, the second's SGD.
    assert (
        kinds
        == {
            "schedulefree": ["AdamWScheduleFree", "SGDScheduleFree"],
            "prodigy": ["Prodigy", "Prodigy"],
            "hypergradient": ["AdamHD", "SGDHD"],
        }[name]
    )


def test_pretraining_of_a_suites_job_trains_with_it_too() -> None:
    job = tuning_free("prodigy", spec(pretraining=0.4, weight_decay=0.0))
    env = TuningEnv.for_policy(Constant())
    env.reset(seed=0, options={"job": job})
    assert type(env.engine.optimizer).__name__ == "Prodigy"
    result = episode(job)
    assert result.records[-1].used == BUDGET
    assert result.test["loss"] < 1.0


def test_a_phase_that_is_no_job_is_still_the_phases_error() -> None:
    no_job: Any = nn.Module.eval
    broken = tuning_free("prodigy", replace(phased_job(), then=(Phase(no_job, 100),)))
    with pytest.raises(JobError, match="must be a TrainingJob, got Sequential"):
        episode(broken)


@pytest.mark.parametrize("name", NAMES)
def test_the_job_can_be_sent_to_another_process(name: str) -> None:
    job = tuning_free(name, phased_job(then={"optimizer": "adam"}))
    sent = pickle.loads(pickle.dumps(job))
    assert episode(sent).records == episode(job).records


@pytest.mark.parametrize("name", NAMES)
def test_side_by_side_it_trains_as_alone(name: str) -> None:
    job, engine = tuning_free(name, spec()), BatchedEngine(2)
    with pytest.warns(UserWarning, match="there is no update rule for its"):
        seats = [engine.start(slot, job, Streams(5)) for slot in range(2)]
    alone = ReferenceEngine(job, Streams(5))
    interval = engine.advance(np.array([500, 300]), np.arange(2))
    assert all(isinstance(seat, ReferenceSeat) for seat in seats)
    assert float(interval.val_loss[0]) == alone.advance(500).val_loss


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    episode(tuning_free(name, spec("adamw", weight_decay=0.1, budget=400)))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "package"), [("schedulefree", "schedulefree"), ("prodigy", "prodigyopt")])
def test_a_missing_package_is_named_with_how_to_get_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"the package {package}: pip install rl-tuner\[optim\]"):
        tuning_free(name, spec())


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'schedule-free' \(did you mean 'schedulefree'\?\)"):
        tuning_free("schedule-free", spec())


def test_a_start_value_that_the_jobs_optimizer_lacks_is_an_error_as_it_is_without() -> None:
    job = tuning_free("prodigy", own_job(optimizer="adagrad", start={"momentum": 0.5}))
    with pytest.raises(ConfigError, match="no hyperparameter 'momentum'"):
        ReferenceEngine(job, Streams(0))
