"""Suites: named distributions over jobs, split so that the test part asks for generalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rl_tuner.config import choose
from rl_tuner.envs.data import Split, split_table
from rl_tuner.envs.jobs import SPLITS, TrainingJob
from rl_tuner.envs.models import mlp
from rl_tuner.errors import ConfigError
from rl_tuner.space import HYPERPARAMETERS

DATASETS = ("digits", "breast_cancer", "wine", "diabetes")
SANE_LR = {"adam": 1e-3, "sgd": 3e-2}
"""A default that trains most networks, by optimizer; start values are drawn around it."""
DATA_SEEDS = 8
"""How many ways the samples of a dataset are split."""


@lru_cache(maxsize=len(DATASETS) * DATA_SEEDS)
def real_table(dataset: str, seed: int) -> Split:
    """One of the real tables that scikit-learn ships, split and scaled.

    Args:
        dataset: One of `DATASETS`.
        seed: Of the split.
    """
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{choose('dataset', dataset, DATASETS)}")()
    classes = 0 if dataset == "diabetes" else len(bunch.target_names)
    return split_table(np.asarray(bunch.data), np.asarray(bunch.target), classes=classes, seed=seed)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job of a suite, frozen and JSON-able.

    Attributes:
        dataset: One of `DATASETS`.
        hidden: Units of the MLP's hidden layers.
        optimizer: "adam" or "sgd" (with momentum).
        budget: Training samples.
        data_seed: How the samples are split.
        lr, batch_size, weight_decay, momentum: Start values.
        dropout: Start value; None drops nothing, and cannot be tuned.
        fixed: Hyperparameters that stay at their start values.
    """

    dataset: str
    hidden: tuple[int, ...]
    optimizer: str
    budget: int
    data_seed: int
    lr: float
    batch_size: int
    weight_decay: float
    momentum: float
    dropout: float | None
    fixed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Dataset, architecture and optimizer."""
        return f"{self.dataset}-{'x'.join(map(str, self.hidden))}-{self.optimizer}"

    def build(self) -> TrainingJob:
        """The job itself."""
        data = real_table(self.dataset, self.data_seed)
        # Every network has the layers, so that those of one shape are trained in one program.
        rate, fixed = (0.0, (*self.fixed, "dropout")) if self.dropout is None else (self.dropout, self.fixed)
        start = {
            "lr": self.lr,
            "batch_size": float(self.batch_size),
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "dropout": rate,
        }
        return TrainingJob(
            model=lambda: mlp(data.features, self.hidden, data.classes or 1, rate),
            train=data.train,
            validation=data.validation,
            test=data.test,
            optimizer=self.optimizer,
            start=start,
            task=data.task,
            budget=self.budget,
            fixed=fixed,
            name=self.name,
        )


@dataclass(frozen=True, slots=True)
class JobFamily:
    """A distribution over jobs: MLPs on real tables.

    Attributes:
        datasets: Drawn evenly.
        architectures: Hidden layers, drawn evenly.
        optimizers: Drawn evenly.
        budget: Smallest and largest budget in samples, drawn log-uniformly.
        lr_decades: The start lr is a sane one times 10 to a power drawn evenly from this range.
        batch_sizes: Drawn evenly.
        weight_decays: Drawn evenly.
        momenta: Drawn evenly.
        dropouts: Drawn evenly; see `JobSpec.dropout`.
        fixed_share: Chance of each hyperparameter but the lr to be fixed at its start value, so that a
            policy learns to do without (a user's loop rarely offers all).
    """

    datasets: tuple[str, ...]
    architectures: tuple[tuple[int, ...], ...]
    optimizers: tuple[str, ...] = ("adam", "sgd")
    budget: tuple[int, int] = (4_000, 12_000)
    lr_decades: tuple[float, float] = (-2.0, 2.0)
    batch_sizes: tuple[int, ...] = (32, 64, 128)
    weight_decays: tuple[float, ...] = (0.0, 1e-4, 1e-2)
    momenta: tuple[float, ...] = (0.8, 0.9, 0.95)
    dropouts: tuple[float | None, ...] = (None, 0.0, 0.1, 0.3)
    fixed_share: float = 0.2

    def sample(self, rng: np.random.Generator) -> JobSpec:
        """Draws a job."""
        optimizer = self.optimizers[rng.integers(len(self.optimizers))]
        low, high = np.log(self.budget)
        return JobSpec(
            dataset=self.datasets[rng.integers(len(self.datasets))],
            hidden=self.architectures[rng.integers(len(self.architectures))],
            optimizer=optimizer,
            budget=int(np.exp(rng.uniform(low, high))),
            data_seed=int(rng.integers(DATA_SEEDS)),
            lr=float(SANE_LR[optimizer] * 10 ** rng.uniform(*self.lr_decades)),
            batch_size=int(rng.choice(self.batch_sizes)),
            weight_decay=float(rng.choice(self.weight_decays)),
            momentum=float(rng.choice(self.momenta)),
            dropout=self.dropouts[rng.integers(len(self.dropouts))],
            fixed=tuple(name for name in HYPERPARAMETERS if name != "lr" and rng.random() < self.fixed_share),
        )


@dataclass(frozen=True, slots=True)
class Suite:
    """Families by split.

    Attributes:
        name: The suite's name.
        description: One line for `rl-tuner list`.
        splits: A family for each of "train", "validation", "test".
    """

    name: str
    description: str
    splits: Mapping[str, JobFamily]

    def __post_init__(self) -> None:
        if set(self.splits) != set(SPLITS):
            raise ConfigError(f"suite {self.name!r} must have splits {SPLITS}, got {tuple(self.splits)}")

    def family(self, split: str) -> JobFamily:
        """The split's distribution.

        Raises:
            ConfigError: There is no such split.
        """
        return self.splits[choose("split", split, SPLITS)]


QUICK = Suite(
    name="quick",
    description="small MLPs on scikit-learn's real tables; datasets and architectures differ by split",
    splits={
        "train": JobFamily(("digits", "diabetes"), ((32,), (64, 32), (32, 32, 32))),
        "validation": JobFamily(("wine",), ((48,), (24, 24))),
        "test": JobFamily(("breast_cancer",), ((128,), (64, 64, 32))),
    },
)
SUITES: dict[str, Suite] = {suite.name: suite for suite in (QUICK,)}


def load_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: There is none.
    """
    return SUITES[choose("suite", name, SUITES)]
