"""Trains a model on a user's data under a policy, and keeps the best one by validation."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rl_tuner.config import to_dict
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import JobError
from rl_tuner.files import write_bytes
from rl_tuner.history import Record
from rl_tuner.model_file import ModelMetadata, load_model, require_tensors, save_model
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.runs import RunDirectory
from rl_tuner.tracking import Tracker
from rl_tuner.user_jobs import ApplyConfig, build_job, read_setting

__all__ = ["Application", "Applied", "ApplyConfig", "load_model", "prepare"]


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
            "attempts": 1 + max((record.attempt for record in episode.records), default=0),
            "crashed": episode.crashed,
            "seconds": self.seconds,
        }


def trace(start: Mapping[str, float], records: tuple[Record, ...], name: str) -> dict[str, float]:
    """A hyperparameter's way through a run: its first and last value, the lowest and the highest."""
    values = [start[name], *(record.values[name] for record in records if name in record.values)]
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
        self.budget = self.env.course.budget

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
        run = RunDirectory(path, to_dict(self.config), resumable=False)
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
        task = self.env.engine.job.task  # of the last phase, whose model it is
        metadata = replace(self.metadata, task=task, provenance=provenance)
        save_model(self.env.engine.model, metadata, run.path / "model.safetensors")
        write_bytes(run.path / "decisions.csv", records_csv(episode.records).encode())
        image = io.BytesIO()
        title = f"{episode.job} under {episode.policy}"
        records_figure(episode.records, title, "training samples").savefig(image, format="png", dpi=120)
        write_bytes(run.path / "curves.png", image.getvalue())
        run.write_results(applied.results())


def prepare(config: ApplyConfig) -> Application:
    """Loads the policy and the data, and builds the job. Nothing is written.

    Raises:
        ConfigError, DatasetError, JobError, PolicyError: Something does not exist or does not fit.
    """
    setting = None if config.setting is None else read_setting(config.setting)
    named = config.policy or ("default" if setting is None else setting.schedule)
    policy = setting.policy() if setting is not None and config.policy is None else load_policy(named)
    config = replace(config, policy=named)
    if config.early_stopping is not None:
        policy.config = replace(policy.config, patience=config.early_stopping)
    return Application(config, policy, *build_job(config))


def records_csv(records: Sequence[Record]) -> str:
    """The decisions as a table, one line each, hyperparameters last; numbers in full precision.

    A hyperparameter that a phase of the job lacks is left empty there.
    """
    text = io.StringIO()
    columns = [f.name for f in fields(Record) if f.name != "values"]
    names = list(dict.fromkeys(name for record in records for name in record.values))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *names])
    for record in records:
        writer.writerow([*(getattr(record, c) for c in columns), *(record.values.get(n, "") for n in names)])
    return text.getvalue()
