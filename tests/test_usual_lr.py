"""Usual learning rates: by class and momentum, and in what environments and tuners observe."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner.envs import TuningEnv, VectorTuningEnv
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.trainee import Trainee
from rl_tuner.usual_lr import usual_lr
from tests.quadratic import quadratic_job

SPEC = JobSpec("iris", "mlp-4", "adam", 400, 0, 1e-2, 16, 0.0, 0.9, None)


class OwnAdam(torch.optim.Adam):
    """Of a user."""


class Unheard(torch.optim.Optimizer):
    """Of no known kind."""

    def __init__(self, params: Any, lr: float = 0.5) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Plain descent."""
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"])


def test_it_goes_by_class_subclass_and_momentum() -> None:
    assert usual_lr(torch.optim.SGD) == 0.1
    assert usual_lr(torch.optim.SGD, 0.9) == 0.03
    assert usual_lr(torch.optim.Adam, 0.9) == usual_lr(OwnAdam, 0.9) == 1e-3
    assert math.isnan(usual_lr(Unheard))


def test_the_suites_draw_start_values_around_the_same_numbers() -> None:
    assert dict(SANE_LR) == {
        "sgd": 0.1, "momentum": 0.03, "nesterov": 0.03, "adagrad": 0.01, "adadelta": 1.0, "rmsprop": 1e-3,
        "adam": 1e-3, "adamw": 1e-3,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_trainee_tells_that_of_its_optimizer(name: str) -> None:
    model = nn.Linear(2, 1)
    cls, options = OPTIMIZERS[name]
    assert Trainee(cls(model.parameters(), **options), model).usual_lr() == SANE_LR[name]


def seen(env: TuningEnv | VectorTuningEnv, observation: Any) -> Any:
    unwrapped: Any = env.unwrapped
    return observation[..., unwrapped.feature_names.index("lr_vs_usual")]


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
def test_environments_observe_it_before_the_first_decision_and_after(optimizer: str) -> None:
    spec = replace(SPEC, optimizer=optimizer, lr=10 * SANE_LR[optimizer], momentum=0.9 * (optimizer != "sgd"))
    plain, vector, job = TuningEnv(), VectorTuningEnv(2, autoreset_mode="DISABLED"), {"job": spec}
    first = (
        seen(plain, plain.reset(seed=0, options=job)[0]),
        seen(vector, vector.reset(seed=0, options=job)[0]),
    )
    assert first[0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(first[1], 1, atol=1e-6)
    down = np.array([-1.0, 0, 0, 0, 0])
    then = seen(plain, plain.step(down)[0]), seen(vector, vector.step(np.stack([down, 0 * down]))[0])
    assert then[0] == pytest.approx(0.5, abs=1e-6)
    np.testing.assert_allclose(then[1], [0.5, 1], atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
def test_of_an_optimizer_that_is_not_known_environments_observe_zero() -> None:
    env = TuningEnv(quadratic_job(optimizer=Unheard, start={"lr": 0.1, "batch_size": 8.0}))
    vector = VectorTuningEnv(1, autoreset_mode="DISABLED")
    job = {"job": quadratic_job(optimizer=Unheard, start={"lr": 0.1, "batch_size": 8.0})}
    assert seen(env, env.reset(seed=0)[0]) == 0
    assert seen(vector, vector.reset(seed=0, options=job)[0]) == 0
