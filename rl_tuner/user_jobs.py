"""What a user asked ``rl-tuner apply`` for, and the training job that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_tuner.config import require_range
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.models import mlp
from rl_tuner.envs.suites import SANE_LR
from rl_tuner.envs.tables import load_table
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.model_file import ModelMetadata
from rl_tuner.seeding import Streams, torch_seed
from rl_tuner.user_code import call, is_reference

HIDDEN = (64, 32)
EPOCHS = 30.0
USUAL_LR = {**SANE_LR, "adamw": SANE_LR["adam"], "nesterov": SANE_LR["sgd"]}
"""Start values by optimizer; where none is given the optimizer's own default counts."""
OF_TABLES = ("target", "header", "model", "hidden", "optimizer", "impute", "task", "dropout")
"""Settings that only a table takes: a user's own job brings them along."""


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """What ``rl-tuner apply`` was asked for; None where nothing was said.

    Attributes:
        data: A .csv or .npz file, or "module:function", a function that returns a `TrainingJob`.
        target: The table's target column.
        policy: A policy's name or file.
        model: "mlp", or "module:function", a function (inputs, outputs) → module.
        hidden: Units of the MLP's hidden layers.
        optimizer: A name of `rl_tuner.envs.jobs.OPTIMIZERS`.
        lr, batch_size, weight_decay, dropout, momentum: Start values.
        epochs: The budget, in passes over the train part.
        impute: Whether missing inputs are filled in.
        task: "classification" or "regression".
        early_stopping: Decisions without a new best loss after which training ends.
        seed: Of the split, the initial weights, the batches and dropout.
        header: Whether a csv file's first line holds column names.
    """

    data: str
    target: str | None = None
    policy: str = "default"
    model: str | None = None
    hidden: tuple[int, ...] | None = None
    optimizer: str | None = None
    lr: float | None = None
    batch_size: int | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    momentum: float | None = None
    epochs: float | None = None
    impute: bool | None = None
    task: str | None = None
    early_stopping: int | None = None
    seed: int = 0
    header: bool | None = None

    def __post_init__(self) -> None:
        Streams(self.seed)
        limits = {"lr": (0.0, 1e6, True), "batch_size": (1, 1e9, False), "weight_decay": (0, 1e6, False)}
        limits |= {"dropout": (0, 1 - 1e-9, False), "momentum": (0, 1 - 1e-9, False)}
        for name, (low, high, above) in limits.items():
            value = getattr(self, name)
            if value is not None:
                require_range(name, value, low, high, above=above)
        if self.early_stopping is not None:
            require_range("early_stopping", self.early_stopping, 1)
        for units in self.hidden or ():
            require_range("hidden", units, 1)

    @property
    def start(self) -> dict[str, float]:
        """The start values that were given."""
        names = ("lr", "batch_size", "weight_decay", "dropout", "momentum")
        return {name: float(getattr(self, name)) for name in names if getattr(self, name) is not None}


def build_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """The job, and what its model file will say, without the scores.

    Raises:
        ConfigError, DatasetError, JobError: Something does not exist or does not fit.
    """
    return _own_job(config) if is_reference(config.data) else _table_job(config)


def _own_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """The job that a user's function returns, with the start values and epochs given."""
    for name in OF_TABLES:
        if getattr(config, name) is not None:
            raise ConfigError(f"--{name} is for tables: {config.data} brings its own")
    job = call(config.data)
    if not isinstance(job, TrainingJob):
        raise JobError(f"{config.data} must return an rl_tuner.envs.TrainingJob, got {type(job).__name__}")
    changes: dict[str, Any] = {"start": {**job.start, **config.start}}
    if config.epochs is not None:
        changes |= {"epochs": config.epochs, "budget": None}
    architecture = {"kind": "function", "name": config.data}
    return replace(job, **changes), ModelMetadata(architecture, job.task, None, {"data": config.data})


def _table_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """A job on a table: an MLP, or the module that a user's function returns."""
    if config.target is None:
        raise ConfigError(f"--target is missing: which column of {config.data} is to be predicted?")
    table = load_table(
        config.data, config.target, impute=bool(config.impute), task=config.task, header=config.header
    )
    split = table.split(config.seed)
    inputs, outputs = split.features, split.classes or 1
    start = config.start
    optimizer = config.optimizer or "adam"
    if "lr" not in start and optimizer in USUAL_LR:
        start["lr"] = USUAL_LR[optimizer]
    if config.model in (None, "mlp"):
        hidden = HIDDEN if config.hidden is None else config.hidden
        rate = config.dropout or 0.0  # the layers stand ready also at 0: a policy may raise it
        architecture: dict[str, Any] = {
            "kind": "mlp", "inputs": inputs, "hidden": list(hidden), "outputs": outputs, "dropout": rate
        }  # fmt: skip
        model: Any = lambda: mlp(inputs, hidden, outputs, rate)  # noqa: E731
    elif config.hidden is not None:
        raise ConfigError(f"--hidden is for the mlp: {config.model} builds its own layers")
    else:
        architecture = {"kind": "function", "name": config.model}
        model = _own_model(str(config.model), inputs, outputs, split.train[0][:2])
    job = TrainingJob(
        model,
        split.train,
        split.validation,
        split.test,
        optimizer=optimizer,
        start=start,
        task=split.task,
        epochs=EPOCHS if config.epochs is None else config.epochs,
        name=Path(config.data).stem,
    )
    provenance = {"data": Path(config.data).name, "target": config.target}
    return job, ModelMetadata(architecture, split.task, split.preprocessing, provenance)


def _own_model(reference: str, inputs: int, outputs: int, example: torch.Tensor) -> Callable[[], nn.Module]:
    """A function that builds the user's module, tried once: outputs of a wrong shape would broadcast."""

    def build() -> nn.Module:
        model = call(reference, inputs, outputs)
        if not isinstance(model, nn.Module):
            raise JobError(f"{reference} must return a torch module, got {type(model).__name__}")
        return model

    with torch_seed(0), torch.no_grad():
        try:
            shape = tuple(build().eval()(example).shape)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise JobError(f"the model of {reference} fails on {inputs} input columns: {error}") from error
    wanted = (len(example), outputs) if outputs > 1 else (len(example),)
    if shape != wanted:
        raise JobError(f"the model of {reference} must return shape {wanted} for a batch, got {shape}")
    return build
