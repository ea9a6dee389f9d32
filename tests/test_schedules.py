"""Schedules do what torch's schedulers of the same name do."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.actions import ActionMap
from rl_tuner.features import FeatureSet
from rl_tuner.policy import Policy
from rl_tuner.schedules import SCHEDULES, Constant, Cosine, Plateau, Schedule
from rl_tuner.space import search_space
from tests.contracts_policies import PolicyContract

NAMES = FeatureSet(search_space(["lr"])).names


class TestConstant(PolicyContract):
    def make(self) -> Policy:
        return Constant()


class TestCosine(PolicyContract):
    def make(self) -> Policy:
        return Cosine()


class TestPlateau(PolicyContract):
    has_memory = True

    def make(self) -> Policy:
        return Plateau()


def observation(**features: float) -> np.ndarray:
    seen = np.zeros(len(NAMES), dtype=np.float32)
    for name, value in features.items():
        seen[NAMES.index(name)] = value
    return seen


def learning_rate(schedule: Schedule, start: float, seen: np.ndarray) -> float:
    """What the learning rate becomes: through the action, as in a run."""
    anchor = schedule.space.anchor({"lr": start})
    offset = schedule.actions.move(anchor, np.zeros(1), schedule.act(seen))
    return schedule.space.values(anchor, offset)["lr"]


def torch_optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def test_constant_stays_at_the_start_value_bit_for_bit() -> None:
    for progress in (0.0, 0.3, 0.99):
        assert learning_rate(Constant(), 0.0123, observation(progress=progress, val_vs_last=3.0)) == 0.0123


def test_cosine_is_torchs_at_the_middle_of_each_interval() -> None:
    # With 2N steps of torch's scheduler, step 2k + 1 is the middle of interval k of N.
    cosine, n = Cosine(), 100
    optimizer = torch_optimizer(0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2 * n)
    optimizer.step()  # torch warns if only its scheduler is stepped
    for k in range(n):
        scheduler.step()
        ours = learning_rate(cosine, 0.03, observation(progress=k / n))
        # A reach of three decades: below a thousandth of the start value it stays there.
        assert ours == pytest.approx(max(scheduler.get_last_lr()[0], 0.03e-3), rel=1e-5)
        scheduler.step()


def test_cosine_begins_high_and_never_rises() -> None:
    cosine = Cosine()
    factors = [cosine.factor(observation(progress=k / 100)) for k in range(101)]
    assert factors[0] > 0.999
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(factors))


@given(st.lists(st.floats(-3, 1, width=16), min_size=1, max_size=80))
def test_plateau_is_torchs_on_the_same_losses(levels: list[float]) -> None:
    optimizer = torch_optimizer(1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    plateau = Plateau()
    for level in levels:
        scheduler.step(math.exp(level))
        assert plateau.factor(observation(val_vs_first=level)) == optimizer.param_groups[0]["lr"]


def test_plateau_falls_tenfold_after_ten_decisions_without_improvement() -> None:
    plateau = Plateau()
    factors = [plateau.factor(observation(val_vs_first=0.0)) for _ in range(25)]
    assert factors[:11] == [1.0] * 11
    assert factors[11:22] == [0.1] * 11
    assert factors[22] == pytest.approx(0.01)


def test_plateaus_patience_and_reduction_can_be_chosen() -> None:
    plateau = Plateau(patience=1, reduction=0.5)
    assert [plateau.factor(observation(val_vs_first=0.0)) for _ in range(4)] == [1.0, 1.0, 0.5, 0.5]


def test_plateau_holds_while_the_loss_falls() -> None:
    plateau = Plateau()
    assert {plateau.factor(observation(val_vs_first=-0.1 * k)) for k in range(50)} == {1.0}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_run_as_anybody_runs_them(name: str) -> None:
    schedule = SCHEDULES[name]()
    assert schedule.name == name
    assert schedule.space.names == ("lr",)
    assert isinstance(schedule.actions, ActionMap)
    assert schedule.actions.kind == "anchored"
    assert (schedule.config.intervals, schedule.config.rails) == ("uniform", False)
