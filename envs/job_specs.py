"""Jobs of a suite as recipes: frozen, JSON-able, built into a job when it is their turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path

from torch import nn

from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.difficulty import Difficulty
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.masking import pretrained
from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.errors import ConfigError

ALL_SAMPLES = 0
"""As a number of training samples: all there are."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job of a suite, frozen and JSON-able.

    Attributes:
        dataset: A name of `rl_tuner.envs.datasets.DATASETS`, or what `rl_tuner.envs.loaders` reads.
        architecture: See `rl_tuner.envs.architectures`.
        optimizer: A name of `rl_tuner.envs.jobs.OPTIMIZERS`.
        budget: Training samples.
        data_seed: How the samples are split, and of synthetic ones what they are.
        lr, batch_size: Start values.
        weight_decay: Start value.
        momentum: Start value; None where the optimizer has none.
        dropout: Start value; None drops nothing, and cannot be tuned.
        fixed: Hyperparameters that stay at their start values.
        family: Name of the family that it was drawn from.
        unseen: In what it differs from all jobs of the train split: "dataset", "architecture", "optimizer",
            "horizon".
        samples: Training samples there are at most; 0 for all.
        noise, label_noise, imbalance, scale: See `rl_tuner.envs.difficulty.Difficulty`.
        pretraining: Share of the budget spent on masked-autoencoder pretraining before; 0 for none.
        weights: Data set that the network's weights were trained on, of those that come along
            (`base_weights`); "" for random ones.
        l1, l2, label_smoothing, max_grad_norm: Start values; None where the job lacks the hyperparameter.
    """

    dataset: str
    architecture: str
    optimizer: str
    budget: int
    data_seed: int
    lr: float
    batch_size: int
    weight_decay: float
    momentum: float | None
    dropout: float | None
    fixed: tuple[str, ...] = ()
    family: str = ""
    unseen: tuple[str, ...] = ()
    samples: int = ALL_SAMPLES
    noise: float = 0.0
    label_noise: float = 0.0
    imbalance: float = 1.0
    scale: float = 0.0
    pretraining: float = 0.0
    weights: str = ""
    l1: float | None = None
    l2: float | None = None
    label_smoothing: float | None = None
    max_grad_norm: float | None = None

    @property
    def name(self) -> str:
        """Dataset, architecture and optimizer."""
        phases = "masked-" if self.pretraining else "tuned-" if self.weights else ""
        return f"{self.dataset}-{phases}{self.architecture}-{self.optimizer}"

    @property
    def difficulty(self) -> Difficulty:
        """What makes its data harder."""
        return Difficulty(self.samples or None, self.noise, self.label_noise, self.imbalance, self.scale)

    @property
    def start(self) -> dict[str, float]:
        """Its start values by hyperparameter, without dropout."""
        names = ("lr", "batch_size", "weight_decay", "momentum", *REGULARIZERS)
        return {name: float(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def build(self) -> TrainingJob:
        """The job itself.

        Raises:
            ConfigError, DatasetError: Something does not exist or does not fit.
        """
        data = load_split(self.dataset, self.data_seed, self.difficulty)
        # Every network has the layers, so that those of one shape are trained in one program.
        rate, fixed = (0.0, (*self.fixed, "dropout")) if self.dropout is None else (self.dropout, self.fixed)
        start = {**self.start, "dropout": rate}
        if not data.classes:
            start.pop("label_smoothing", None)  # there are no labels
        job = TrainingJob(
            model=partial(build_network, self.architecture, data.shape, rate),
            train=data.train,
            validation=data.validation,
            test=data.test,
            optimizer=self.optimizer,
            start=start,
            task=data.task,
            budget=self.budget,
            fixed=fixed,
            name=self.name,
            weights=base_weights(self.weights, self.architecture) if self.weights else None,
        )
        if not self.pretraining:
            return job

        def network(outputs: int) -> nn.Module:
            return build_network(self.architecture, replace(data.shape, outputs=outputs), rate)

        # Labels may be few; what is predicted of inputs alone is learned from all of the train part.
        every = replace(self.difficulty, samples=None)
        unlabelled = load_split(self.dataset, self.data_seed, every).train[0]
        return pretrained(job, network, self.pretraining, self.data_seed, unlabelled=unlabelled)


def weights_folder() -> Path:
    """Where the weights lie that come along."""
    return Path(str(resources.files("rl_tuner"))) / "weights"


def base_weights(dataset: str, architecture: str) -> Path:
    """The file of an architecture's weights, trained on a data set, of those that come along.

    Raises:
        ConfigError: There is none.
    """
    path = weights_folder() / f"{dataset}-{architecture}.safetensors"
    if not path.is_file():
        raise ConfigError(f"no weights of {architecture!r} trained on {dataset!r} come along: no {path.name}")
    return path
