"""The reference engine against a plain PyTorch loop written out, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from rl_tuner import ConfigError, DatasetError, JobError
from rl_tuner.envs import TrainingJob
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.models import mlp
from rl_tuner.seeding import Streams

GENERATOR = np.random.default_rng(0)
X = torch.from_numpy(GENERATOR.normal(size=(90, 4)).astype(np.float32))
Y = torch.from_numpy(GENERATOR.integers(3, size=90))
LINE = X @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.3
MODEL = partial(mlp, 4, (8,), 3, 0.2)
BUDGET = 997
SEED = 11

# (train until, hyperparameters from there on): the batch size changes in mid-epoch, twice.
PLAN: tuple[tuple[int, dict[str, float]], ...] = (
    (100, {"lr": 0.05, "batch_size": 16}),
    (300, {"lr": 0.1, "batch_size": 7, "dropout": 0.5, "weight_decay": 0.01, "momentum": 0.5}),
    (600, {"lr": 0.01, "batch_size": 64, "dropout": 0.0}),
    (BUDGET, {"lr": 0.02, "batch_size": 31, "dropout": 0.1, "momentum": 0.95}),
)


def small_job(**changes: Any) -> TrainingJob:
    options: dict[str, Any] = {
        "model": MODEL,
        "train": (X[:64], Y[:64]),
        "validation": (X[64:80], Y[64:80]),
        "test": (X[80:], Y[80:]),
        "optimizer": "sgd",
        "start": {"lr": 0.05, "batch_size": 16.0},
        "budget": BUDGET,
    }
    return TrainingJob(**{**options, **changes})


def index_stream(seed: int, n: int) -> Iterator[int]:
    shuffles = np.random.default_rng(Streams(Streams(seed).seed_of("batches")).seed_of("batches"))
    while True:
        yield from shuffles.permutation(n).tolist()


def plain_loop(
    make_optimizer: Callable[..., torch.optim.Optimizer], beta: str
) -> tuple[nn.Module, list[float], list[list[float]]]:
    """Trains by `PLAN`; returns the model, the validation losses and the training losses by interval."""
    x, y, val_x, val_y = X[:64], Y[:64], X[64:80], Y[64:80]
    with torch.random.fork_rng():
        torch.manual_seed(Streams(SEED).seed_of("init"))
        model = MODEL()
        dropout = model[2]
        assert isinstance(dropout, nn.Dropout)
        optimizer = make_optimizer(model.parameters())
        group = optimizer.param_groups[0]
        indices = index_stream(SEED, len(x))
        torch.manual_seed(Streams(SEED).seed_of("dropout"))
        used, batch, val_losses, train_losses = 0, 16, [], []
        for end, values in PLAN:
            batch = int(values["batch_size"])
            group["lr"] = values["lr"]
            group["weight_decay"] = values.get("weight_decay", group["weight_decay"])
            if "momentum" in values:
                m = values["momentum"]
                group[beta] = m if beta == "momentum" else (m, group["betas"][1])
            dropout.p = values.get("dropout", dropout.p)
            model.train()
            losses = []
            while used < end:
                size = min(batch, BUDGET - used)
                size += BUDGET - used - size == 1  # a last batch of one sample joins the one before
                rows = [next(indices) for _ in range(size)]
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                used += size
                losses.append(loss.item())
            model.eval()
            with torch.no_grad():
                val_losses.append(nn.functional.cross_entropy(model(val_x), val_y).item())
            train_losses.append(losses)
        assert used == BUDGET
    return model, val_losses, train_losses


@pytest.mark.parametrize(
    ("name", "make_optimizer", "beta"),
    [
        ("momentum", partial(torch.optim.SGD, lr=1e-3, momentum=0.9), "momentum"),
        ("adam", torch.optim.Adam, "betas"),
        ("adamw", torch.optim.AdamW, "betas"),
    ],
)
def test_training_is_the_plain_loop_bit_for_bit(
    name: str, make_optimizer: Callable[..., torch.optim.Optimizer], beta: str, untouched_rng: None
) -> None:
    job = small_job(optimizer=name)
    model, val_losses, train_losses = plain_loop(make_optimizer, beta)
    engine = ReferenceEngine(job, Streams(SEED))
    intervals = []
    for end, values in PLAN:
        engine.trainee.write(values)
        intervals.append(engine.advance(end))
    assert engine.used == BUDGET
    assert [i.val_loss for i in intervals] == val_losses
    for interval, losses in zip(intervals, train_losses, strict=True):
        assert interval.updates == len(losses)
        half = np.array(losses)[len(losses) // 2 :]
        assert interval.train_late == pytest.approx(half.mean(), rel=1e-12)
    for ours, plain in zip(engine.model.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, plain)


OPTIMIZERS = [
    (torch.optim.SGD, 0.1), (torch.optim.Adam, 0.01), (torch.optim.AdamW, 0.01), (torch.optim.RMSprop, 0.01),
    (torch.optim.Adagrad, 0.1), (torch.optim.Adadelta, 1.0), (torch.optim.NAdam, 0.01),
    (torch.optim.RAdam, 0.03), (torch.optim.Adamax, 0.02), (torch.optim.ASGD, 0.1), (torch.optim.Rprop, 0.01),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "lr"), OPTIMIZERS, ids=lambda v: getattr(v, "__name__", ""))
def test_any_optimizer_trains_while_all_it_has_is_tuned(
    optimizer: type[torch.optim.Optimizer], lr: float
) -> None:
    job = small_job(
        model=partial(mlp, 4, (16,), 1), train=(X[:64], LINE[:64]), validation=(X[64:], LINE[64:]), test=None,
        task="regression", optimizer=optimizer, start={"lr": lr, "batch_size": 16.0}, budget=4000,
    )  # fmt: skip
    engine = ReferenceEngine(job, Streams(3))
    first = engine.validate()
    tuned = {"weight_decay": 1e-4, "momentum": 0.7, "lr": lr / 2, "batch_size": 32.0}
    engine.advance(1000)
    engine.trainee.write({k: v for k, v in tuned.items() if k in engine.trainee.read()})
    last = engine.advance(4000).val_loss
    assert last < 0.5 * first
    assert engine.trainee.read()["lr"] == lr / 2


def test_momentum_can_be_switched_on_and_off_in_mid_training_for_rmsprop() -> None:
    engine = ReferenceEngine(small_job(optimizer="rmsprop", start={"lr": 1e-3}), Streams(0))
    for end, momentum in ((200, 0.0), (400, 0.9), (600, 0.0), (800, 0.5)):
        engine.trainee.write({"momentum": momentum})
        assert np.isfinite(engine.advance(end).val_loss)


def test_a_start_value_that_the_job_has_no_place_for_is_refused() -> None:
    no_dropout = partial(mlp, 4, (8,), 3)
    with pytest.raises(ConfigError, match="'dropout'"):
        ReferenceEngine(small_job(model=no_dropout, start={"lr": 0.1, "dropout": 0.5}), Streams(0))
    with pytest.raises(ConfigError, match="'momentum'"):
        ReferenceEngine(small_job(optimizer="adagrad", start={"momentum": 0.5}), Streams(0))


@pytest.mark.parametrize("batch", [1, 13, 16, 63, 64])
@pytest.mark.parametrize("budget", [1, 2, 64, 65, 129, 193, 257, 500])
def test_exactly_the_budget_is_drawn_whatever_the_batch_size(batch: int, budget: int) -> None:
    seen: list[int] = []

    class Counting(Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(i)
            return X[i], Y[i]

    job = small_job(train=Counting(), budget=budget, start={"lr": 0.01, "batch_size": float(batch)})
    engine = ReferenceEngine(job, Streams(1))
    while engine.used < budget:
        engine.advance(min(engine.used + 100, budget))
    assert len(seen) == engine.used == budget
    assert np.ptp(np.bincount(seen, minlength=64)) <= 1  # without replacement, shuffle after shuffle
    with pytest.raises(JobError, match=f"budget of {budget} samples is spent"):
        engine.advance(budget + 1)


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A random transform, drawn from torch's global generator as torchvision's are."""

    def __init__(self, first: int, last: int) -> None:
        self.rows = range(first, last)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.rows[i]
        return X[row] + 0.1 * torch.randn(4), Y[row]


def test_random_transforms_follow_the_seed_and_leave_global_state_alone(untouched_rng: None) -> None:
    job = small_job(train=Noisy(0, 64), validation=Noisy(64, 80))
    runs = []
    for seed in (5, 5, 6):
        engine = ReferenceEngine(job, Streams(seed))
        runs.append((engine.validate(), engine.advance(300).val_loss, engine.advance(BUDGET).train_late))
    assert runs[0] == runs[1] != runs[2]


def test_evaluating_in_between_leaves_training_as_it_was() -> None:
    job = small_job(train=Noisy(0, 64), validation=Noisy(64, 80), test=Noisy(80, 90))
    one, other = ReferenceEngine(job, Streams(5)), ReferenceEngine(job, Streams(5))
    one.advance(300)
    other.advance(300)
    assert other.evaluate("test") == other.evaluate("test")
    other.validate()
    assert one.advance(BUDGET) == other.advance(BUDGET)


def test_a_custom_loss_is_what_is_trained_and_measured() -> None:
    def pinball(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        error = targets - outputs
        return torch.maximum(0.9 * error, -0.1 * error).mean()

    job = small_job(
        model=partial(mlp, 4, (16,), 1), train=(X[:64], LINE[:64]), validation=(X[64:], LINE[64:]),
        task="regression", loss=pinball, optimizer="adam", start={"lr": 0.01}, budget=2000,
    )  # fmt: skip
    engine = ReferenceEngine(job, Streams(0))
    interval = engine.advance(2000)
    engine.model.eval()
    with torch.no_grad():
        assert interval.val_loss == pinball(engine.model(X[64:]), LINE[64:]).item()
    found = engine.evaluate("validation")
    assert found["loss"] == interval.val_loss
    assert set(found) == {"loss", "mse", "r2"}


def test_validation_is_the_mean_over_samples_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ReferenceEngine(small_job(), Streams(0))
    whole = engine.validate()
    monkeypatch.setattr("rl_tuner.envs.evaluation.EVALUATION_BATCH", 5)  # 16 samples: 5 + 5 + 5 + 1
    assert engine.validate() == pytest.approx(whole, rel=1e-6)
    assert engine.val_samples == 32


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_batch_norm_statistics_are_kept_and_restored_with_the_weights() -> None:
    engine = ReferenceEngine(small_job(model=with_batch_norm), Streams(0))
    engine.advance(200)
    kept, before = engine.trainee.keep(), {k: v.clone() for k, v in engine.model.state_dict().items()}
    loss = engine.validate()
    engine.advance(400)
    assert not torch.equal(engine.model.state_dict()["1.running_mean"], before["1.running_mean"])
    engine.trainee.restore(kept)
    for name, tensor in engine.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert engine.validate() == loss


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_a_state_continues_bit_for_bit_on_another_engine(optimizer: str) -> None:
    job = small_job(optimizer=optimizer)
    one, other = ReferenceEngine(job, Streams(0)), ReferenceEngine(job, Streams(0))
    one.advance(210)
    one.trainee.write({"lr": 0.003, "batch_size": 9.0, "dropout": 0.4})
    state = one.get_state()
    expected = [one.advance(500), one.advance(BUDGET)]
    for _ in range(2):  # a state can be used again: nothing in it is changed in place
        other.set_state(state)
        assert other.trainee.read() == {
            **other.trainee.read(),
            "lr": 0.003,
            "batch_size": 9.0,
            "dropout": 0.4,
        }
        assert [other.advance(500), other.advance(BUDGET)] == expected
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_another_model_is_refused() -> None:
    state = ReferenceEngine(small_job(), Streams(0)).get_state()
    with pytest.raises(JobError, match="tensors"):
        ReferenceEngine(small_job(model=partial(mlp, 4, (9,), 3, 0.1)), Streams(0)).set_state(state)


def test_without_a_budget_epochs_count() -> None:
    assert ReferenceEngine(small_job(budget=None, epochs=2.5), Streams(0)).budget == 160


def test_an_overflow_in_validation_is_infinite_never_nan() -> None:
    engine = ReferenceEngine(small_job(), Streams(0))
    with torch.no_grad():
        engine.model[0].weight.fill_(torch.nan)  # type: ignore[index]
    assert engine.validate() == float("inf")


def test_what_cannot_be_built_is_an_error_of_ours() -> None:
    with pytest.raises(DatasetError, match="train holds no samples"):
        ReferenceEngine(small_job(train=(X[:0], Y[:0])), Streams(0))
    with pytest.raises(JobError, match="no test samples"):
        ReferenceEngine(small_job(test=None), Streams(0)).evaluate("test")
    with pytest.raises(ConfigError, match="'tset'"):
        ReferenceEngine(small_job(), Streams(0)).evaluate("tset")


def test_predictions_of_another_shape_than_the_targets_are_refused_not_broadcast() -> None:
    x, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(20)
    job = TrainingJob(nn.Linear(3, 1), (x, y), (x, y), task="regression")
    with pytest.raises(JobError, match=r"outputs have shape \(20, 1\), the targets \(20,\)"):
        ReferenceEngine(job, Streams(0)).validate()
