"""What a user asked ``rl-tuner apply`` for, and the training job that comes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_tuner.config import require_range, to_dict
from rl_tuner.envs.architectures import build_network, check_architecture
from rl_tuner.envs.data import Split
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.loaders import LoadOptions, is_remote, load_samples
from rl_tuner.envs.weights import require_weights
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.model_file import ModelMetadata
from rl_tuner.seeding import Streams, torch_seed
from rl_tuner.settings import Setting
from rl_tuner.user_code import call, is_reference

HIDDEN = (64, 32)
USUAL_NETWORKS = {
    "table": "mlp-64x32",
    "image": "cnn-16x32",
    "sound": "conv1d-16x32",
    "tokens": "gru-64",
    "ratings": "factors-16",
}
"""The network for each kind of data, if none is named."""
EPOCHS = 30.0

LOADING = tuple(LoadOptions.__annotations__)
"""Settings that say how the data is to be read; `rl_tuner.envs.loaders` knows which data takes which."""
OF_DATA = ("target", "model", "hidden", "optimizer", "dropout", *LOADING)
"""Settings that a user's own job brings along."""


@dataclass(frozen=True, slots=True)
class ApplyConfig:
    """What ``rl-tuner apply`` was asked for; None where nothing was said.

    Attributes:
        data: What `rl_tuner.envs.loaders.load_samples` reads, or "module:function", a function that returns
            a `TrainingJob`.
        target: The table's target column.
        policy: A policy's name or file; None for the setting's schedule, or "default" without a setting.
        model: An architecture's name, see `rl_tuner.envs.architectures`; or "module:function", a function
            (inputs, outputs) → module, for data that comes as rows of numbers. None for the usual one of
            the data's kind.
        hidden: Units of the hidden layers: (8, 5) is the model "mlp-8x5".
        optimizer: A name of `rl_tuner.envs.jobs.OPTIMIZERS`.
        lr, batch_size, weight_decay, dropout, momentum: Start values.
        epochs: The budget, in passes over the train part.
        impute, task, header, encode, labels, size, channels, length, rate: How the data is to be read: see
            `rl_tuner.envs.loaders.LoadOptions`.
        weights: A file of weights to start from, where names and shapes fit (`rl_tuner.envs.weights`): the
            ``model.safetensors`` of another run, say.
        setting: A file of a static setting, what ``rl-tuner search`` writes as ``best.json``. Its start
            values count where none is given here.
        early_stopping: Decisions without a new best loss after which training ends.
        seed: Of the split, the initial weights, the batches and dropout.
    """

    data: str
    target: str | None = None
    policy: str | None = None
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
    encode: bool | None = None
    labels: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    length: int | None = None
    rate: int | None = None
    weights: str | None = None
    setting: str | None = None

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
        if self.weights is not None:
            require_weights(self.weights)
        for units in self.hidden or ():
            require_range("hidden", units, 1)

    @property
    def start(self) -> dict[str, float]:
        """The start values that were given."""
        names = ("lr", "batch_size", "weight_decay", "dropout", "momentum")
        return {name: float(getattr(self, name)) for name in names if getattr(self, name) is not None}


def read_setting(path: str | Path) -> Setting:
    """The static setting that a search has written.

    Raises:
        ConfigError: There is no such file, or it holds no setting.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no setting can be read from {path}: {error.strerror or error}") from error
    except ValueError as error:  # no text, or no JSON
        raise ConfigError(f"{path} holds no setting, it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no setting, but {type(content).__name__}: name a search's best.json")
    try:
        return Setting.from_dict(content)
    except ConfigError as error:
        raise ConfigError(f"{path} holds no setting: {error}") from error


def _start(config: ApplyConfig) -> dict[str, float]:
    """The start values that were given, over those of the setting."""
    return config.start if config.setting is None else {**read_setting(config.setting).start, **config.start}


def build_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """The job, and what its model file will say, without the scores.

    Raises:
        ConfigError, DatasetError, JobError: Something does not exist or does not fit.
    """
    own = is_reference(config.data) and not is_remote(config.data)
    return _own_job(config) if own else _data_job(config)


def _own_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """The job that a user's function returns, with the start values and epochs given."""
    for name in OF_DATA:
        if getattr(config, name) is not None:
            raise ConfigError(f"--{name} is for data: {config.data} brings its own")
    with torch_seed(config.seed):  # a model that it builds at once has the same weights in every process
        job = call(config.data)
    if not isinstance(job, TrainingJob):
        raise JobError(f"{config.data} must return an rl_tuner.envs.TrainingJob, got {type(job).__name__}")
    for name in (*config.start, *(() if config.epochs is None else ("epochs",))):
        if job.then:
            raise ConfigError(
                f"--{name} is for a job of one phase: {config.data} says it for each of its own"
            )
    changes: dict[str, Any] = {"start": {**job.start, **_start(config)}}
    if config.epochs is not None:
        changes |= {"epochs": config.epochs, "budget": None}
    if config.weights is not None:
        changes["weights"] = config.weights
    architecture = {"kind": "function", "name": config.data}
    return replace(job, **changes), ModelMetadata(architecture, job.task, None, {"data": config.data})


def _data_job(config: ApplyConfig) -> tuple[TrainingJob, ModelMetadata]:
    """A job on the user's data: a network by name, or the module that a user's function returns."""
    options: LoadOptions = {name: getattr(config, name) for name in LOADING}  # type: ignore[assignment]
    samples = load_samples(config.data, config.target, **options)
    split = samples.split(config.seed)
    optimizer = config.optimizer or "adam"
    start = _start(config)
    if "lr" not in start and optimizer in SANE_LR:
        start["lr"] = SANE_LR[optimizer]
    model, architecture = _model(config, split, start.get("dropout", 0.0))
    place = data_name(config.data)
    job = TrainingJob(
        model,
        split.train,
        split.validation,
        split.test,
        optimizer=optimizer,
        start=start,
        task=split.task,
        epochs=EPOCHS if config.epochs is None else config.epochs,
        name=place.split(".")[0] or place,
        weights=config.weights,
    )
    provenance: dict[str, Any] = {"data": place, "kind": samples.kind, "target": config.target}
    if split.preprocessing is None:  # of tokens, which nothing else names
        provenance["classes"] = list(samples.classes)
    return job, ModelMetadata(architecture, split.task, split.preprocessing, provenance)


def data_name(reference: str) -> str:
    """A short name of the data, fit for a file: the last part of a path or name, without the target."""
    place = reference if os.path.exists(reference) else reference.rpartition("#")[0] or reference
    path = Path(place.partition(":")[2]) if is_remote(place) else Path(place).absolute()
    return path.name.replace(":", "-")


def _model(config: ApplyConfig, split: Split, rate: float) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    """A function that builds the network, and what the model file says about it.

    Dropout layers stand ready at a rate of 0 too: a policy may raise it.
    """
    shape = split.shape
    name = config.model or USUAL_NETWORKS[shape.kind]
    if config.hidden is not None and config.model not in (None, "mlp"):
        raise ConfigError(f"--hidden is for the mlp: {name} has its own layers")
    if config.hidden is not None or name == "mlp":
        name = _mlp_name(HIDDEN if config.hidden is None else config.hidden)
    if is_reference(name):
        if not split.train[0].is_floating_point():
            raise ConfigError(
                f"--model module:function is for rows of numbers, not {shape.kind}: name a network"
            )
        model = _own_model(name, split.features, shape.outputs, split.train[0][:2])
        return model, {"kind": "function", "name": name}
    check_architecture(name, shape.kind)
    architecture = {"kind": "network", "name": name, "shape": to_dict(shape), "dropout": rate}
    return lambda: build_network(name, shape, rate), architecture


def _mlp_name(hidden: tuple[int, ...]) -> str:
    return "mlp-" + "x".join(map(str, hidden)) if hidden else "linear"


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
