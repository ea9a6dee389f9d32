"""Trains a model on a user's data under a policy, and keeps the best one by validation."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_tuner.config import require_range, to_dict
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.models import mlp
from rl_tuner.envs.suites import SANE_LR
from rl_tuner.envs.tables import load_table
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.files import write_bytes
from rl_tuner.history import Record
from rl_tuner.model_file import ModelMetadata, load_model, require_tensors, save_model
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.runs import RunDirectory
from rl_tuner.seeding import Streams, torch_seed
from rl_tuner.tracking import Tracker
from rl_tuner.user_code import call, is_reference

__all__ = ["Application", "Applied", "ApplyConfig", "load_model", "prepare"]

HIDDEN = (64, 32)
EPOCHS = 30.0
USUAL_LR = {**SANE_LR, "adamw": SANE_LR["adam"], "nesterov": SANE_LR["sgd"]}
"""Start values by optimizer; where none is given the optimizer's own default counts."""
OF_TABLES = ("target", "model", "hidden", "optimizer", "impute", "task", "dropout")
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


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it.

    Attributes:
        episode: The training, decision by decision.
        start: The hyperparameters that the policy tuned, at the beginning.
        path: The run's folder.
        seconds: How long it took.
    """

    episode: Episode
    start: Mapping[str, float]
    path: Path
    seconds: float

    def results(self) -> dict[str, Any]:
        """What ``results.json`` holds, JSON-able."""
        episode = self.episode
        return {
            "job": episode.job,
            "policy": episode.policy,
            "seed": episode.seed,
            "val_loss": episode.val_loss,
            "test": episode.test,
            "hyperparameters": {name: trace(self.start, episode.records, name) for name in self.start},
            "decisions": len(episode.records),
            "samples": episode.samples,
            "val_samples": episode.val_samples,
            "rescues": episode.rescues,
            "crashed": episode.crashed,
            "seconds": self.seconds,
        }


def trace(start: Mapping[str, float], records: tuple[Record, ...], name: str) -> dict[str, float]:
    """A hyperparameter's way through a run: its first and last value, the lowest and the highest."""
    values = [start[name], *(record.values[name] for record in records)]
    return {"start": values[0], "end": values[-1], "lowest": min(values), "highest": max(values)}


class Application:
    """A policy about to be put on a user's job: everything is checked, nothing is written yet.

    Made by `prepare`.

    Args:
        config: What was asked for.
        policy: What will act.
        job: What will be trained.
        metadata: What the model file will say, without the scores.

    Attributes:
        budget: Training samples the job may use.

    Raises:
        RlTunerError: The job cannot be built, or its model, data and loss do not fit each other.
    """

    def __init__(
        self, config: ApplyConfig, policy: Policy, job: TrainingJob, metadata: ModelMetadata
    ) -> None:
        self.config, self.policy, self.job, self.metadata = config, policy, job, metadata
        self.env = TuningEnv.for_policy(policy, job)
        try:
            self.env.reset(seed=config.seed)  # builds the model and validates it once
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise JobError(f"the job {job.name!r} cannot be trained: {error}") from error
        require_tensors(self.env.engine.model)
        if not self.start:
            tuned = ", ".join(policy.space.names)
            raise JobError(f"the job {job.name!r} has nothing that the policy tunes ({tuned})")
        self.budget = self.env.engine.budget

    @property
    def start(self) -> dict[str, float]:
        """The start values of the hyperparameters that the policy tunes and the job has."""
        course = self.env.course
        return course.space.values(course.anchor, 0 * course.offset)

    def run(self, path: Path, on_decision: Callable[[Record], None] | None = None) -> Applied:
        """Trains, and writes the run's folder.

        Args:
            path: The folder; it must not exist, or be empty.
            on_decision: Called after each interval.

        Raises:
            ConfigError: The folder exists or cannot be written.
        """
        run = RunDirectory(path, to_dict(self.config))
        start, began = self.start, time.perf_counter()
        with Tracker(run.path) as tracker:

            def note(record: Record) -> None:
                tracker.record(record)
                if on_decision is not None:
                    on_decision(record)

            episode = run_episode(self.env, self.policy, self.config.seed, on_decision=note)
            settings: dict[str, bool | str | float] = {
                "policy": episode.policy,
                "seed": episode.seed,
                **start,
            }
            scores = {f"test_{name}": value for name, value in episode.test.items()}
            tracker.hparams(settings, {"val_loss": episode.val_loss, **scores})
        applied = Applied(episode, start, run.path, time.perf_counter() - began)
        self._write(run, applied)
        return applied

    def _write(self, run: RunDirectory, applied: Applied) -> None:
        from rl_tuner.plotting import records_figure

        episode = applied.episode
        scores = {"seed": episode.seed, "val_loss": episode.val_loss, "test": episode.test}
        provenance = {**self.metadata.provenance, "policy": episode.policy, **scores}
        metadata = replace(self.metadata, provenance=provenance)
        save_model(self.env.engine.model, metadata, run.path / "model.safetensors")
        write_bytes(run.path / "decisions.csv", records_csv(episode.records).encode())
        image = io.BytesIO()
        title = f"{episode.job} under {episode.policy}"
        records_figure(episode.records, title).savefig(image, format="png", dpi=120)
        write_bytes(run.path / "curves.png", image.getvalue())
        run.write_results(applied.results())


def prepare(config: ApplyConfig) -> Application:
    """Loads the policy and the data, and builds the job. Nothing is written.

    Raises:
        ConfigError, DatasetError, JobError, PolicyError: Something does not exist or does not fit.
    """
    policy = load_policy(config.policy)
    if config.early_stopping is not None:
        policy.config = replace(policy.config, patience=config.early_stopping)
    own = is_reference(config.data)
    job, metadata = _own_job(config) if own else _table_job(config)
    return Application(config, policy, job, metadata)


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
    table = load_table(config.data, config.target, impute=bool(config.impute), task=config.task)
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


def records_csv(records: Sequence[Record]) -> str:
    """The decisions as a table, one line each, hyperparameters last; numbers in full precision."""
    text = io.StringIO()
    columns = [f.name for f in fields(Record) if f.name != "values"]
    names = list(records[0].values) if records else []
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *names])
    for record in records:
        writer.writerow([*(getattr(record, c) for c in columns), *(record.values[n] for n in names)])
    return text.getvalue()
