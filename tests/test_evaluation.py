"""Evaluation over a pool: the same as of all samples at once, in the memory of a batch."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from rl_tuner.envs.data import TensorPool
from rl_tuner.envs.evaluation import EVALUATION_BATCH, mean_loss, outputs_of, scores
from rl_tuner.envs.metrics import metrics

N, CLASSES = 2 * EVALUATION_BATCH + 7, 5


class Watched(nn.Module):
    """A linear layer that knows how many of its outputs are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.most = nn.Linear(3, CLASSES), 0
        self.outputs: list[weakref.ref[torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, sum(output() is not None for output in self.outputs))
        found: torch.Tensor = self.layer(x)
        self.outputs.append(weakref.ref(found))
        return found


@pytest.fixture
def pool() -> TensorPool:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(N, 3)).astype(np.float32))
    return TensorPool(x, torch.from_numpy(rng.integers(CLASSES, size=N)))


def test_loss_and_metrics_are_those_of_all_samples_at_once(pool: TensorPool) -> None:
    model = Watched()
    found = scores(functional.cross_entropy, "classification", outputs_of(model, pool))
    whole = model(pool.inputs).detach()
    loss = float(functional.cross_entropy(whole, pool.targets))
    assert found.pop("loss") == pytest.approx(loss, rel=1e-5)
    assert mean_loss(functional.cross_entropy, outputs_of(model, pool)) == pytest.approx(loss, rel=1e-5)
    assert found == metrics("classification", whole, pool.targets)


def test_no_more_than_a_batch_of_outputs_is_held(pool: TensorPool) -> None:
    model = Watched()
    scores(functional.cross_entropy, "classification", outputs_of(model, pool))
    mean_loss(functional.cross_entropy, outputs_of(model, pool))
    assert len(model.outputs) == 6
    assert model.most == 1


def test_one_batch_that_is_not_finite_makes_all_metrics_unknown(pool: TensorPool) -> None:
    pool.inputs[-1] = torch.inf
    found = scores(functional.cross_entropy, "classification", outputs_of(Watched(), pool))
    assert all(np.isnan(value) for value in found.values())
    assert set(found) == {"loss", "accuracy", "f1", "precision", "recall"}


def test_evaluating_leaves_no_gradients_and_the_model_in_evaluation_mode(pool: TensorPool) -> None:
    model = Watched()
    assert not any(outputs.requires_grad for outputs, _ in outputs_of(model, pool))
    assert not model.training
