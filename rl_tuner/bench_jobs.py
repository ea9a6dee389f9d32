"""What the figures of the batched engine are taken of: bare loops, and the same jobs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.programs import Uniform
from rl_tuner.seeding import Streams, torch_seed

LR = 1e-3
UNLIMITED = 2**40
"""No job's budget ends."""
VOCABULARY, LENGTH, CLASSES = 32, 16, 10
MICRO_BATCHES = (8, 32, 64)

Pairs = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """A model to train, and its data.

    Attributes:
        model: Builds it.
        data: Inputs and classes.
        updates: Of a job between two decisions; fewer where each takes long.
        description: Its shape.
    """

    model: Callable[[], nn.Module]
    data: Callable[[], Pairs]
    updates: int
    description: str


def digits_cnn() -> nn.Sequential:
    """The network that scikit-learn's digits are measured with: 6,090 parameters."""
    return cnn((1, 8, 8), (16, 32), 10, "none", dropout=0.0)


def digits() -> Pairs:
    """scikit-learn's digits, 1,078 of them, as rows of 64 numbers."""
    inputs, targets = load_split("digits", 0).train
    return inputs, targets


@lru_cache(maxsize=1)
def tokens() -> Pairs:
    """As many random token sequences, of random classes: what is in them makes no update faster."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(VOCABULARY, size=(1078, LENGTH))
    return torch.from_numpy(inputs), torch.from_numpy(rng.integers(CLASSES, size=len(inputs)))


CASES: dict[str, Case] = {
    "mlp": Case(lambda: mlp(64, (32,), 10), digits, 30, "64-32-10, 2,410 parameters"),
    "cnn": Case(digits_cnn, digits, 30, "8×8 images, 16 and 32 channels, 6,090 parameters"),
    "gru": Case(lambda: gru(VOCABULARY, CLASSES), tokens, 10, "16 tokens, width 32, 7,690 parameters"),
    "transformer": Case(
        lambda: transformer(VOCABULARY, LENGTH, CLASSES),
        tokens,
        5,
        "16 tokens, width 32, 4 heads, 2 layers, 27,338 parameters",
    ),
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way of running jobs side by side.

    Attributes:
        name: What it is called.
        uniform: Programs of static shapes, see `rl_tuner.envs.uniform`; None for `rl_tuner.envs.rounds`.
        bucketed: Whether jobs of unequal batch size run one size after another.
    """

    name: str
    uniform: Uniform | None = None
    bucketed: bool = False


def engine_ways(compiled: bool) -> list[Way]:
    """The ways that jobs of one batch size can be run."""
    return [Way("eager"), *([Way("compiled", Uniform(compile=True))] if compiled else [])]


def mixed_ways(compiled: bool) -> list[Way]:
    """The ways that jobs of unequal batch size can be run."""
    kinds = {"uniform": False, **({"compiled": True} if compiled else {})}
    uniform = [
        Way(f"{kind} {size}", Uniform(micro_batch=size, compile=compile_it))
        for kind, compile_it in kinds.items()
        for size in MICRO_BATCHES
    ]
    return [Way("rounds"), Way("buckets", bucketed=True), *uniform]


class BareLoop:
    """The loop that anybody would write: batches of a permutation, Adam; no logging, no validation.

    Args:
        case: What is trained.
        batch_size: Samples an update.
        device: Where.
    """

    def __init__(self, case: Case, batch_size: int, device: str | torch.device = "cpu") -> None:
        with torch_seed(0):
            self.model = case.model().to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)
        inputs, targets = case.data()
        self._inputs, self._targets = inputs.to(device), targets.to(device)
        self._batch_size = batch_size

    def run(self, updates: int) -> None:
        """Trains on."""
        model, optimizer, size = self.model, self.optimizer, self._batch_size
        with torch_seed(0):
            order, first = torch.randperm(len(self._inputs)), 0
            for _ in range(updates):
                if first + size > len(order):
                    order, first = torch.randperm(len(self._inputs)), 0
                batch = order[first : first + size]
                first += size
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(self._inputs[batch]), self._targets[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()


class SideBySide:
    """Jobs that differ in nothing but seed and batch size, on one engine; without validation.

    Args:
        case: What is trained.
        batch_sizes: Of each job.
        way: How they are run.
        device: Where.
    """

    def __init__(
        self, case: Case, batch_sizes: Sequence[int], way: Way, device: str | torch.device = "cpu"
    ) -> None:
        self.engine = BatchedEngine(len(batch_sizes), device, way.uniform)
        data = case.data()
        for slot, size in enumerate(batch_sizes):
            start = {"lr": LR, "batch_size": float(size)}
            job = TrainingJob(case.model, train=data, optimizer="adam", start=start, budget=UNLIMITED)
            self.engine.start(slot, job, Streams(slot))
        sizes = np.array(batch_sizes)
        self._slots = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
        if not way.bucketed:
            self._slots = [np.arange(len(sizes))]

    def run(self, samples: int, intervals: int = 1) -> None:
        """Trains each job on so many samples, from decision to decision."""
        for _ in range(intervals):
            ends = self.engine.used + samples
            for slots in self._slots:
                self.engine.advance(ends, slots)
