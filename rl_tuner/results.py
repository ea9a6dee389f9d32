"""One line of a comparison: what a method made of a job, and the file that keeps such lines.

A line is written as soon as it is known, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rl_tuner.config import from_dict, to_dict
from rl_tuner.errors import ConfigError
from rl_tuner.files import naming, plain, write_bytes
from rl_tuner.history import Record
from rl_tuner.rollout import Episode

INF, NAN = float("inf"), float("nan")
ROW_LOSSES = ("test_loss", "val_loss", "start_val_loss")
RECORD_LOSSES = ("train_loss", "val_loss", "best")


@dataclass(frozen=True, slots=True)
class Row:
    """What a method made of one job with one seed.

    A loss that is not finite is infinite here, a metric that is not finite is NaN: both are null in JSON.

    Attributes:
        method: The method's name in the comparison.
        job: Number of the job, from 0.
        seed: Number of the seed, from 0.
        job_name: The job's own name.
        episode_seed: The seed given to the environment; the same for every method.
        start: The job's start values by hyperparameter.
        test_loss: Loss of the best weights by validation on the test split, whether crashed or not.
        metrics: Metrics of the same weights on the same split.
        val_loss: The best validation loss.
        start_val_loss: Validation loss before training.
        budget: Training samples allowed.
        samples: Training samples used; fewer than `budget` if crashed or stopped early.
        val_samples: Validation samples evaluated on top, what the decisions cost.
        crashed: Whether the job ended by a failure.
        rescues: How often the rails restored a state.
        return_: Sum of rewards, in nats.
        records: The decisions, one by one.
    """

    method: str
    job: int
    seed: int
    job_name: str
    episode_seed: int
    start: dict[str, float]
    test_loss: float
    metrics: dict[str, float]
    val_loss: float
    start_val_loss: float
    budget: int
    samples: int
    val_samples: int
    crashed: bool
    rescues: int
    return_: float
    records: tuple[Record, ...]

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from every other row of a comparison: method, job, seed."""
        return self.method, self.job, self.seed

    @property
    def finite(self) -> bool:
        """Whether the test loss is a finite number."""
        return self.test_loss < INF

    @classmethod
    def of(
        cls, episode: Episode, *, method: str, job: int, seed: int, start: Mapping[str, float], budget: int
    ) -> Row:
        """The row of an episode.

        Args:
            episode: What was run.
            method: See the class.
            job: See the class.
            seed: See the class.
            start: See the class.
            budget: See the class.

        Raises:
            ConfigError: The job has no test split.
        """
        if "loss" not in episode.test:
            raise ConfigError(
                f"the job {episode.job!r} has no test samples: methods cannot be compared on it"
            )
        metrics = {name: value for name, value in episode.test.items() if name != "loss"}
        return cls(
            method=method,
            job=job,
            seed=seed,
            job_name=episode.job,
            episode_seed=episode.seed,
            start=dict(start),
            test_loss=_or(episode.test["loss"], INF),
            metrics={name: _or(value, NAN) for name, value in metrics.items()},
            val_loss=_or(episode.val_loss, INF),
            start_val_loss=_or(episode.start_val_loss, INF),
            budget=budget,
            samples=episode.samples,
            val_samples=episode.val_samples,
            crashed=episode.crashed,
            rescues=episode.rescues,
            return_=episode.return_,
            records=tuple(_without_nan(record) for record in episode.records),
        )

    def to_dict(self, *, records: bool = True) -> dict[str, Any]:
        """The row in JSON's own types, with or without its decisions."""
        data: dict[str, Any] = plain(to_dict(self))
        if not records:
            del data["records"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: A key is unknown or missing.
        """
        row = dict(data)
        row |= _restored({name: row.get(name) for name in ROW_LOSSES}, INF)
        row["metrics"] = _restored(row.get("metrics", {}), NAN)
        row["records"] = [_record(r) for r in row.get("records", [])]
        return from_dict(cls, row)


def _record(data: Mapping[str, Any]) -> Record:
    return from_dict(Record, {**data, **_restored({name: data.get(name) for name in RECORD_LOSSES}, INF)})


def _without_nan(record: Record) -> Record:
    return replace(
        record,
        train_loss=_or(record.train_loss, INF),
        val_loss=_or(record.val_loss, INF),
        best=_or(record.best, INF),
    )


def _restored(values: Mapping[str, float | None], missing: float) -> dict[str, float]:
    return {name: missing if value is None else value for name, value in values.items()}


def _or(value: float, otherwise: float) -> float:
    return float(value) if value - value == 0 else otherwise


class RowFile:
    """Rows as JSON lines in a file that only grows: each is on disk before the next is begun.

    Args:
        path: The file; its folder must exist. A last line that was cut off is removed.

    Attributes:
        rows: The rows that were there.

    Raises:
        ConfigError: A line other than a cut-off last one is no row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_bytes(path, whole)
        self.rows = tuple(self._parse(i, line) for i, line in enumerate(whole.splitlines(), start=1))

    def append(self, row: Row) -> None:
        """Writes a row and waits until it is on disk.

        Raises:
            OSError: It cannot be written.
        """
        with naming(self.path), self.path.open("ab") as file:
            file.write(json.dumps(row.to_dict(), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, number: int, line: bytes) -> Row:
        try:
            return Row.from_dict(json.loads(line))
        except (ValueError, TypeError, AttributeError, ConfigError) as error:
            raise ConfigError(f"line {number} of {self.path} is no row of a comparison: {error}") from error
