"""One line of a comparison: what a method made of a job. `rl_tuner.row_store` keeps such lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rl_tuner.config import from_dict, to_dict
from rl_tuner.errors import ConfigError
from rl_tuner.files import plain
from rl_tuner.history import Record
from rl_tuner.rollout import Beginning, Episode
from rl_tuner.searches import SearchResult, SearchTrial

INF, NAN = float("inf"), float("nan")
ROW_LOSSES = ("test_loss", "val_loss", "start_val_loss", "start_test_loss")
RECORD_LOSSES = ("train_loss", "val_loss", "best")
TRIAL_LOSSES = ("val_loss", "test_loss", "start_val_loss")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands in a comparison, and what its run started from.

    Attributes:
        method, job, seed, episode_seed: See `Row`.
        beginning: The job before any training.
    """

    method: str
    job: int
    seed: int
    episode_seed: int
    beginning: Beginning

    def fields(self) -> dict[str, Any]:
        """The fields of a row that it fills."""
        beginning = self.beginning
        return {
            "method": self.method,
            "job": self.job,
            "seed": self.seed,
            "episode_seed": self.episode_seed,
            "job_name": beginning.job,
            "start": dict(beginning.start),
            "start_val_loss": _or(beginning.val_loss, INF),
            "start_test_loss": _or(beginning.test_loss, INF),
            "job_budget": beginning.budget,
            "last_phase": beginning.last_phase,
        }


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
        start_val_loss: Validation loss before any training, of the last phase if the job has several: the
            same for every method of the job and seed.
        start_test_loss: Test loss likewise.
        job_budget: Training samples of one run of the job.
        last_phase: Training samples of that before the job's last phase; 0 where there is one phase only.
        budget: Training samples allowed: `job_budget`, and of a search that many times its trials.
        samples: Training samples used; fewer than `budget` if crashed or stopped early.
        val_samples: Validation samples evaluated on top, what the decisions cost.
        crashed: Whether the job ended by a failure; of a search, whether all of its trials did.
        rescues: How often the rails restored a state.
        return_: Sum of rewards.
        records: The decisions, one by one; of a search, those of the trial it chose.
        trials: A search's trials, one by one.
        curve: Of a search, the training samples used at each new best validation loss, and that loss.
        seconds: CPU time it took; it takes no part in comparing rows.
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
    start_test_loss: float
    job_budget: int
    last_phase: int
    budget: int
    samples: int
    val_samples: int
    crashed: bool
    rescues: int
    return_: float
    records: tuple[Record, ...]
    trials: tuple[SearchTrial, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from every other row of a comparison: method, job, seed."""
        return self.method, self.job, self.seed

    @property
    def finite(self) -> bool:
        """Whether the test loss is a finite number."""
        return self.test_loss < INF

    @classmethod
    def of(cls, episode: Episode, place: Place, seconds: float = 0.0) -> Row:
        """The row of an episode.

        Args:
            episode: What was run.
            place: Where the row stands, and what it starts from.
            seconds: See the class.

        Raises:
            ConfigError: The job has no test split.
        """
        test_loss, metrics = _scores(episode.test, episode.job)
        # The losses of a run that crashed before the last phase are of another task.
        came_there = bool(episode.records) and episode.records[-1].used > place.beginning.last_phase
        return cls(
            **place.fields(),
            test_loss=test_loss,
            metrics=metrics,
            val_loss=_or(episode.val_loss if came_there else place.beginning.val_loss, INF),
            budget=place.beginning.budget,
            samples=episode.samples,
            val_samples=episode.val_samples,
            crashed=episode.crashed,
            rescues=episode.rescues,
            return_=episode.return_,
            records=tuple(_without_nan(record) for record in episode.records),
            seconds=seconds,
        )

    @classmethod
    def of_search(cls, result: SearchResult, place: Place, budget: int, seconds: float = 0.0) -> Row:
        """The row of a search: its chosen trial's scores, and what all of them cost.

        Args:
            result: What was found.
            place: See `of`.
            budget: See the class.
            seconds: See the class.

        Raises:
            ConfigError: The job has no test split.
        """
        best = result.trials[result.best]
        test_loss, metrics = _scores(result.test or {"loss": INF}, place.beginning.job)
        return cls(
            **place.fields(),
            test_loss=test_loss,
            metrics=metrics,
            val_loss=_or(best.val_loss, INF),
            budget=budget,
            samples=result.samples,
            val_samples=result.val_samples,
            crashed=all(trial.crashed for trial in result.trials),
            rescues=0,
            return_=sum(record.reward for record in result.records),
            records=tuple(_without_nan(record) for record in result.records),
            trials=result.trials,
            curve=result.curve,
            seconds=seconds,
        )

    def to_dict(self, *, records: bool = True) -> dict[str, Any]:
        """The row in JSON's own types, with or without its decisions and trials."""
        short = self if records else replace(self, records=(), trials=(), curve=())
        data: dict[str, Any] = plain(to_dict(short))
        if not records:
            del data["records"], data["trials"], data["curve"]
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
        row["trials"] = [_trial(t) for t in row.get("trials", [])]
        row["curve"] = [(int(used), float(loss)) for used, loss in row.get("curve", [])]
        return from_dict(cls, row)


def _record(data: Mapping[str, Any]) -> Record:
    return from_dict(Record, {**data, **_restored({name: data.get(name) for name in RECORD_LOSSES}, INF)})


def _trial(data: Mapping[str, Any]) -> SearchTrial:
    return from_dict(SearchTrial, {**data, **_restored({name: data.get(name) for name in TRIAL_LOSSES}, INF)})


def _scores(test: Mapping[str, float], job: str) -> tuple[float, dict[str, float]]:
    """Loss and metrics on the test split, as they stand in a row."""
    if "loss" not in test:
        raise ConfigError(f"the job {job!r} has no test samples: methods cannot be compared on it")
    metrics = {name: _or(value, NAN) for name, value in test.items() if name != "loss"}
    return _or(test["loss"], INF), metrics


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
