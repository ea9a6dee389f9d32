"""Dropout in the batched engine: other masks than the reference engine's, but of the same distribution."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rl_tuner.envs import TrainingJob
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.seeding import Streams
from tests.batched import make_data, make_job

SEEDS, SAMPLES = 32, 256


class Own(nn.Module):
    """What the engine has no rule for: it maps the whole module over the rows."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def job(model: str, rate: float) -> TrainingJob:
    """A job whose first weights are large and right: what dropout does to its outputs shows in its loss."""
    kind = "mlp" if model == "a module of its own" else model
    plain = make_job("adam", kind, dtype=torch.float32, dropout=rate)
    teacher = plain.build_model(seed=0) if kind == model else Own(plain.build_model(seed=0))
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(3.0)
        inputs = make_data(kind, "classification", torch.float32)[0]
        targets = teacher.eval()(inputs).argmax(1)
    train, validation = (inputs[:64], targets[:64]), (inputs[64:], targets[64:])
    return dataclasses.replace(
        plain, model=teacher, train=train, validation=validation, start={"lr": 0.003}, budget=SAMPLES
    )


def of_reference(model: str, rate: float) -> NDArray[np.float64]:
    """Training and validation loss of each seed, shape (SEEDS, 2)."""
    intervals = [ReferenceEngine(job(model, rate), Streams(s)).advance(SAMPLES) for s in range(SEEDS)]
    return np.array([[i.train_late, i.val_loss] for i in intervals])


def of_batched(model: str, rate: float) -> NDArray[np.float64]:
    engine = BatchedEngine(SEEDS)
    for seed in range(SEEDS):
        engine.start(seed, job(model, rate), Streams(seed))
    found = engine.advance(np.full(SEEDS, SAMPLES), np.arange(SEEDS))
    return np.stack([found.train_late, found.val_loss], 1)


def errors_apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean difference of the losses in its standard errors; seeds have weights and batches in common."""
    differences = a - b
    apart: NDArray[np.float64] = np.abs(differences.mean(0)) / (differences.std(0) / np.sqrt(len(a)))
    return apart


@pytest.mark.parametrize("model", ["mlp", "cnn", "a module of its own"])
def test_losses_under_dropout_are_those_of_the_reference_engine_in_the_mean(model: str) -> None:
    rate = 0.5
    batched = of_batched(model, rate)
    assert (errors_apart(batched, of_reference(model, rate)) < 4).all()
    # Seeds enough to tell another rate: so a wrong scaling of what is kept would show, too.
    assert (errors_apart(batched, of_reference(model, 0.2)) > 4).any()
