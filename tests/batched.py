"""What the tests of the batched engine share: small jobs, and a reference engine beside each slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rl_tuner.envs import TrainingJob
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.history import Interval
from rl_tuner.seeding import Streams

NAMES = ("lr", "batch_size", "weight_decay", "momentum", "dropout", *REGULARIZERS)
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "sgd": ("sgd", {"lr": 0.05, "momentum": 0.0}),
    "sgd-momentum": ("sgd", {"lr": 0.02, "momentum": 0.9}),
    "nesterov": ("nesterov", {"lr": 0.02, "momentum": 0.9}),
    "adam": ("adam", {"lr": 0.01, "momentum": 0.9}),
    "adamw": ("adamw", {"lr": 0.01, "momentum": 0.8}),
    "rmsprop": ("rmsprop", {"lr": 0.003, "momentum": 0.0}),
    "adagrad": ("adagrad", {"lr": 0.05}),
    "adadelta": ("adadelta", {"lr": 0.5}),
}
"""The issue's eight, by a name of the tests: (the job's optimizer, its start values)."""
SAMPLES, TOKENS, LENGTH = 90, 7, 5


def _model(name: str, outputs: int, dropout: float | None, dtype: torch.dtype) -> nn.Module:
    build: dict[str, Callable[[], nn.Module]] = {
        "mlp": partial(mlp, 6, (5, 4), outputs, dropout),
        "cnn": partial(cnn, (2, 4, 4), (4,), outputs, "group", dropout),
        "gru": partial(gru, TOKENS, outputs, 3, 4, dropout),
        "transformer": partial(transformer, TOKENS, LENGTH, outputs, 4, 2, 1, dropout),
    }
    return build[name]().to(dtype)


MODELS = ("mlp", "cnn", "gru", "transformer")


def make_data(
    model: str, task: str, dtype: torch.dtype, seed: int = 0, samples: int = SAMPLES
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = {"mlp": 6, "cnn": 32}.get(model)
    if width is None:
        inputs = torch.randint(TOKENS, (samples, LENGTH), generator=generator)
    else:
        inputs = torch.randn(samples, width, generator=generator, dtype=dtype)
    if task == "classification":
        return inputs, torch.randint(3, (samples,), generator=generator)
    return inputs, torch.randn(samples, generator=generator, dtype=dtype)


def make_job(
    optimizer: str = "adam",
    model: str = "mlp",
    task: str = "classification",
    dtype: torch.dtype = torch.float64,
    *,
    dropout: float | None = 0.0,
    data_seed: int = 0,
    start: Mapping[str, float] | None = None,
    **changes: Any,
) -> TrainingJob:
    name, values = OPTIMIZERS[optimizer]
    inputs, targets = make_data(model, task, dtype, data_seed)
    options: dict[str, Any] = {
        "model": partial(_model, model, 3 if task == "classification" else 1, dropout, dtype),
        "train": (inputs[:64], targets[:64]),
        "validation": (inputs[64:], targets[64:]),
        "optimizer": name,
        "start": {"batch_size": 16.0, **values, **(start or {})},
        "budget": 3000,
        "task": task,
    }
    return TrainingJob(**{**options, **changes})


def table(values: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Hyperparameters by slot as `BatchedEngine.write` wants them, shape (N, len(NAMES))."""
    return np.array([[row.get(name, np.nan) for name in NAMES] for row in values])


def parameters(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach() for p in module.parameters()]


def assert_close(actual: nn.Module, expected: nn.Module, rtol: float) -> None:
    """Parameters agree, relative to the largest one of each tensor."""
    for (name, b), a in zip(expected.named_parameters(), actual.parameters(), strict=True):
        pairs = [(a.detach(), b.detach())]
        if name.endswith("in_proj_bias"):
            # A bias of attention's keys shifts all scores alike. Its gradient is rounding noise around zero,
            # which some optimizers divide by its own size: nothing to compare.
            query, _, value = zip(a.detach().chunk(3), b.detach().chunk(3), strict=True)
            pairs = [query, value]
        for mine, its in pairs:
            torch.testing.assert_close(mine, its, rtol=0, atol=rtol * float(its.abs().max()), msg=name)


def assert_equal(actual: nn.Module, expected: nn.Module) -> None:
    for a, b in zip(parameters(actual), parameters(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


class Twins:
    """The same jobs in the slots of a batched engine, and on a reference engine each.

    Args:
        jobs: A job a slot.
        rtol: How far the two may be apart.
        seeds: By slot.
        averaging: Whether averages of the weights are kept.
        tested: Whether test losses are measured.
    """

    def __init__(
        self,
        jobs: Sequence[TrainingJob],
        rtol: float,
        seeds: Sequence[int] | None = None,
        averaging: bool = False,
        tested: bool = False,
    ) -> None:
        self.batched = BatchedEngine(len(jobs), averaging=averaging, tested=tested)
        self.references = []
        self.rtol = rtol
        for slot, job in enumerate(jobs):
            streams = Streams(slot if seeds is None else seeds[slot])
            self.batched.start(slot, job, streams)
            self.references.append(ReferenceEngine(job, streams, averaging, tested))

    @property
    def running(self) -> NDArray[np.int64]:
        return np.array([i for i, r in enumerate(self.references) if r.used < r.budget], np.int64)

    def write(self, values: Sequence[Mapping[str, float]]) -> None:
        self.batched.write(table(values), NAMES, np.arange(len(values)))
        for reference, row in zip(self.references, values, strict=True):
            reference.trainee.write(row)

    def advance(self, ends: Sequence[int], slots: NDArray[np.int64] | None = None) -> Interval:
        """Trains both and compares all that they measured."""
        slots = self.running if slots is None else slots
        found = self.batched.advance(np.array(ends), slots)
        for slot in slots:
            expected = self.references[slot].advance(int(ends[slot]))
            self._compare(slot, found, expected)
            assert self.batched.used[slot] == self.references[slot].used
            assert self.batched.val_samples[slot] == self.references[slot].val_samples
        return found

    def _compare(self, slot: int, found: Interval, expected: Interval) -> None:
        for name in ("samples", "updates", "grad_alive", "finite"):
            assert getattr(found, name)[slot] == getattr(expected, name), (slot, name)
        for name in (
            "train_early",
            "train_late",
            "train_noise",
            "val_loss",
            "averaged_loss",
            "test_loss",
            "averaged_test_loss",
            "grad_norm",
            "update_ratio",
        ):
            # The meter's norms are single precision, whatever the model's.
            rtol = max(self.rtol, 1e-6) if name in ("grad_norm", "update_ratio") else self.rtol
            np.testing.assert_allclose(
                getattr(found, name)[slot],
                getattr(expected, name),
                rtol=rtol,
                atol=self.rtol,
                err_msg=f"{name} of slot {slot}",
            )

    def assert_same_weights(self) -> None:
        for slot, reference in enumerate(self.references):
            assert_close(self.batched.module(slot), reference.model, self.rtol)
