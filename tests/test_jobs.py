"""Training jobs: what is built from them, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.models import mlp

PAIR = (np.zeros((6, 4)), np.array([0, 1, 2] * 2))


def job(**changes: Any) -> TrainingJob:
    return TrainingJob(**{"model": partial(mlp, 4, (5,), 3), "train": PAIR, "validation": PAIR, **changes})


def test_initial_weights_follow_the_seed_alone(untouched_rng: None) -> None:
    one, same, other = (job().build_model(seed)[0].weight for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_module_is_copied_never_trained_itself() -> None:
    module = mlp(4, (5,), 3)
    built = job(model=module).build_model(0)
    with torch.no_grad():
        built[0].weight.zero_()  # type: ignore[index]
    assert module[0].weight.abs().sum() > 0  # type: ignore[operator]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_named_optimizers_are_torchs_own_with_the_stated_options(name: str) -> None:
    cls, options = OPTIMIZERS[name]
    optimizer = job(optimizer=name).build_optimizer(mlp(4, (5,), 3))
    assert type(optimizer) is cls
    assert {k: optimizer.defaults[k] for k in options} == options


def test_an_optimizer_may_be_a_class_or_a_function() -> None:
    model = mlp(4, (5,), 3)
    by_class = job(optimizer=torch.optim.SGD, start={"lr": 0.2}).build_optimizer(model)
    assert by_class.param_groups[0]["lr"] == 0.2
    by_function = job(optimizer=lambda p: torch.optim.Adam(p, lr=0.7, amsgrad=True)).build_optimizer(model)
    assert by_function.param_groups[0]["lr"] == 0.7
    assert by_function.param_groups[0]["amsgrad"]


def test_frozen_parameters_stay_out_of_the_optimizer() -> None:
    model = mlp(4, (5,), 3)
    model[0].requires_grad_(False)
    assert len(job().build_optimizer(model).param_groups[0]["params"]) == 2


def test_the_task_decides_the_loss_unless_one_is_given() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([1])
    expected = float(-torch.log_softmax(outputs, 1)[0, 1])
    assert float(job().loss_function(outputs, targets)) == pytest.approx(expected)
    assert float(job(task="regression").loss_function(outputs, outputs + 3)) == pytest.approx(9.0)
    own = nn.L1Loss()
    assert job(loss=own).loss_function is own


def test_a_missing_test_split_is_no_pool() -> None:
    assert job().pool("test") is None
    pool = job().pool("train")
    assert pool is not None
    assert len(pool) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "clustering"}, "unknown task 'clustering'"),
        ({"optimizer": "adma"}, "unknown optimizer 'adma'.*'adam'"),
        ({"model": 3}, "model must be a module or a function, got int"),
        ({"epochs": 0}, r"epochs must be > 0 and <= 1e\+09, got 0"),
        ({"epochs": float("nan")}, r"epochs must be > 0 and <= 1e\+09, got nan"),
        ({"epochs": float("inf")}, r"epochs must be > 0 and <= 1e\+09, got inf"),
        ({"budget": 0}, r"budget must be >= 1 and <= 9.0072e\+15, got 0"),
        ({"budget": 10**30}, r"budget must be >= 1 and <= 9.0072e\+15, got 10+"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(**changes)


def test_functions_that_build_the_wrong_thing_are_refused() -> None:
    with pytest.raises(JobError, match="dict"):
        job(model=dict).build_model(0)
    with pytest.raises(JobError, match="list"):
        job(optimizer=list).build_optimizer(mlp(4, (5,), 3))
    with pytest.raises(JobError, match="LBFGS"):
        job(optimizer=torch.optim.LBFGS).build_optimizer(mlp(4, (5,), 3))
    with pytest.raises(JobError, match="requires a gradient"):
        job().build_optimizer(mlp(4, (5,), 3).requires_grad_(False))


@pytest.mark.parametrize(
    "start", [{"lr": -1.0}, {"momentum": 5.0}, {"dropout": 1.5}, {"batch_size": 0}, {"learning_rate": 0.1}]
)
def test_start_values_that_make_no_sense_are_named_whether_tuned_or_not(start: dict[str, float]) -> None:
    x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ConfigError, match=next(iter(start))):
        TrainingJob(torch.nn.Linear(2, 2), (x, y), start=start, fixed=("lr",))


@pytest.mark.parametrize("value", ["0.1", None, [0.1]])
def test_a_start_value_that_is_no_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match="lr must be a number, got"):
        job(start={"lr": value})
