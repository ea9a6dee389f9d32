"""Optimizers with two sets of weights: Schedule-Free by its formula, in the engine and on a user's loop."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn

from rl_tuner import JobError, Tuner
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.optimizer_modes import OptimizerModes
from rl_tuner.schedules import Constant
from rl_tuner.seeding import Streams

N = 20
INPUTS = torch.randn(N, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.1
HELD_OUT = (INPUTS[:7] + 0.3, TARGETS[:7])
LR = 0.2
MAKERS = [partial(SGDScheduleFree, lr=LR), partial(AdamWScheduleFree, lr=LR, weight_decay=0.01)]


def network() -> nn.Module:
    return nn.Linear(3, 1, bias=False, dtype=torch.float64)


def job(make: Callable[..., torch.optim.Optimizer] = MAKERS[0], **changes: Any) -> TrainingJob:
    """Each batch is the whole split, so that an update does not depend on their order."""
    options: dict[str, Any] = {
        "model": network,
        "train": (INPUTS, TARGETS),
        "validation": HELD_OUT,
        "test": HELD_OUT,
        "optimizer": make,
        "start": {"batch_size": float(N)},
        "task": "regression",
        "budget": 30 * N,
    }
    return TrainingJob(**{**options, **changes})


def engine(made: TrainingJob | None = None) -> ReferenceEngine:
    return ReferenceEngine(made or job(), Streams(3))


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def loss_at(weight: torch.Tensor, data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(data[0] @ weight.view(3, 1), data[1])


def schedule_free(start: torch.Tensor, betas: Sequence[float]) -> list[torch.Tensor]:
    """x after each update by the paper's equations 3 to 5, an average weight of 1 / t, one β an update."""
    z, x, path = start.clone(), start.clone(), []
    for t, beta in enumerate(betas, start=1):
        y = ((1 - beta) * z + beta * x).requires_grad_()
        (gradient,) = torch.autograd.grad(loss_at(y, (INPUTS, TARGETS)), y)
        z = z - LR * gradient
        x = (1 - 1 / t) * x + z / t
        path.append(x)
    return path


def test_what_the_engine_validates_keeps_and_evaluates_is_the_papers_average() -> None:
    mine = engine()
    path = schedule_free(weights(mine.model), [0.9] * 30)
    for updates in (1, 2, 7, 30):
        interval = mine.advance(updates * N)
        x = path[updates - 1]
        assert torch.allclose(weights(mine.model), x, rtol=1e-10)
        assert torch.allclose(mine.trainee.keep().tensors[0].flatten(), x, rtol=1e-10)
        assert interval.val_loss == pytest.approx(float(loss_at(x, HELD_OUT)), rel=1e-9)
        assert mine.evaluate("test")["loss"] == pytest.approx(float(loss_at(x, HELD_OUT)), rel=1e-9)


def test_a_momentum_changed_between_decisions_takes_effect_at_the_next_update() -> None:
    mine = engine()
    path = schedule_free(weights(mine.model), [0.9] * 5 + [0.5] * 5)
    mine.advance(5 * N)
    mine.trainee.write({"momentum": 0.5})
    assert torch.allclose(weights(mine.model), path[4], rtol=1e-10)
    mine.advance(10 * N)
    assert torch.allclose(weights(mine.model), path[9], rtol=1e-9)


@pytest.mark.parametrize("make", MAKERS)
def test_validating_more_often_trains_the_same_bit_for_bit(make: Callable[..., Any]) -> None:
    small = {"batch_size": 4.0}
    seldom, often = engine(job(make, start=small)), engine(job(make, start=small))
    seldom.advance(400)
    for end in range(20, 401, 20):
        often.advance(end)
        often.validate()
        often.evaluate("test")
    assert torch.equal(weights(seldom.model), weights(often.model))
    assert often.val_samples > seldom.val_samples


@pytest.mark.parametrize("make", MAKERS)
def test_an_engines_state_continues_bit_for_bit(make: Callable[..., Any]) -> None:
    first, other = engine(job(make)), engine(job(make))
    first.advance(5 * N)
    state = pickle.loads(pickle.dumps(first.get_state()))
    first.advance(12 * N)
    other.advance(8 * N)
    other.set_state(state)
    other.advance(12 * N)
    assert torch.equal(weights(first.model), weights(other.model))


@pytest.mark.parametrize("make", MAKERS)
def test_training_goes_on_from_a_restored_state_as_it_did_from_the_state(make: Callable[..., Any]) -> None:
    straight, back = engine(job(make)), engine(job(make))
    straight.advance(5 * N)
    straight.advance(9 * N)
    back.advance(5 * N)
    kept = back.trainee.keep()
    back.advance(20 * N)
    back.trainee.restore(kept)
    back.advance(24 * N)
    assert torch.allclose(weights(straight.model), weights(back.model), rtol=1e-9)


def test_after_an_episode_the_best_weights_are_those_that_were_validated() -> None:
    # Held-out targets that training comes to fit, and then leaves behind.
    elsewhere = (INPUTS[:7], 0.5 * TARGETS[:7])
    env = TuningEnv.for_policy(Constant(), job(validation=elsewhere, budget=200 * N))
    env.reset(seed=1)
    action = env.action_space.sample() * 0
    done = False
    while not done:
        _, _, done, _, info = env.step(action)
    assert info["best_val_loss"] < 0.9 * env.records[-1].val_loss
    assert env.engine.validate() == info["best_val_loss"]


def test_momentum_zero_is_an_error_that_says_what_to_do() -> None:
    mine = engine()
    mine.advance(5 * N)
    mine.trainee.write({"momentum": 0.0})
    with pytest.raises(JobError, match=r"SGDScheduleFree.*momentum.*fixed=\(\"momentum\",\)"):
        mine.advance(6 * N)


def test_an_optimizer_without_modes_is_left_alone() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    optimizer.train = True  # type: ignore[attr-defined]  # no mode: it cannot be called
    modes, before = OptimizerModes(optimizer), copy.deepcopy(model.state_dict())
    modes.eval()
    modes.train()
    assert modes.get_state() is None
    assert torch.equal(model.state_dict()["weight"], before["weight"])


def test_weights_that_somebody_changed_in_evaluation_are_not_overwritten() -> None:
    model = network()
    optimizer = SGDScheduleFree(model.parameters(), lr=LR, momentum=0.5)
    modes = OptimizerModes(optimizer)
    modes.train()
    for _ in range(3):
        train_once(model, optimizer)
    modes.eval()
    z = optimizer.state[model.weight]["z"]
    with torch.no_grad():
        model.weight.fill_(7.0)  # type: ignore[operator]
    modes.train()
    assert torch.allclose(model.weight, 0.5 * 7.0 + 0.5 * z)  # type: ignore[arg-type]


def train_once(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(INPUTS), TARGETS)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


class Loop:
    """A user's own loop on a Schedule-Free optimizer."""

    def __init__(self, switching: bool = False) -> None:
        torch_weights = engine().model.state_dict()
        self.model = network()
        self.model.load_state_dict(torch_weights)
        self.optimizer = SGDScheduleFree(self.model.parameters(), lr=LR)
        self.switching, self.validated = switching, list[torch.Tensor]()
        self.tuner = Tuner(
            self.optimizer,
            total_steps=40,
            policy=Constant(),
            model=self.model,
            validate=self.validate,
            hyperparameters=["lr"],
        )

    def validate(self) -> torch.Tensor:
        if self.switching:
            self.optimizer.eval()
        self.validated.append(weights(self.model).clone())
        loss = loss_at(weights(self.model), HELD_OUT)
        if self.switching:
            self.optimizer.train()
        return loss

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self.tuner.step(train_once(self.model, self.optimizer))


@pytest.mark.parametrize("switching", [False, True])
def test_a_users_validation_sees_the_papers_average_without_switching_modes(switching: bool) -> None:
    loop = Loop(switching)
    path = schedule_free(weights(loop.model), [0.9] * 40)
    loop.run(40)
    assert len(loop.validated) == 41  # a decision at each step, and one before
    for seen, x in zip(loop.validated[1:], path, strict=True):
        assert torch.allclose(seen, x, rtol=1e-8)


@pytest.mark.parametrize("switching", [False, True])
def test_a_users_restored_model_is_the_best_that_was_validated(switching: bool) -> None:
    loop = Loop(switching)
    loop.run(40)
    loop.tuner.restore_best()
    best = min(loop.validated, key=lambda w: float(loss_at(w, HELD_OUT)))
    assert torch.allclose(weights(loop.model), best, rtol=1e-12)
    loop.optimizer.eval()  # as Schedule-Free's users do before they save: nothing is left to do
    assert torch.allclose(weights(loop.model), best, rtol=1e-12)


def test_a_tuners_state_continues_bit_for_bit() -> None:
    first, other = Loop(), Loop()
    first.run(15)
    state = pickle.loads(pickle.dumps(first.tuner.get_state()))
    other.run(4)
    other.tuner.set_state(state)
    first.run(10)
    other.run(10)
    assert torch.equal(weights(first.model), weights(other.model))
    first.tuner.restore_best()
    other.tuner.restore_best()
    assert torch.equal(weights(first.model), weights(other.model))
