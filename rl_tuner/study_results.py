"""What a search leaves in its run's folder: results, the best setting, a table of trials, figures, events."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rl_tuner.config import to_dict
from rl_tuner.files import plain, write_bytes, write_json
from rl_tuner.searches import SearchTrial
from rl_tuner.studies import Searched
from rl_tuner.study_figures import history_png, importance_png
from rl_tuner.tracking import Tracker

BEST, TRIALS, HISTORY, IMPORTANCE = "best.json", "trials.csv", "history.png", "importance.png"
SCORES = ("val_loss", "test_loss", "start_val_loss", "samples", "val_samples", "crashed", "pruned")


class TrialBoard:
    """Writes each trial to TensorBoard as it ends: scores over its number, and a line of the HParams page.

    Args:
        path: The run's folder. What earlier events of it say is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tracker = Tracker(path, purge_step=0)
        self._told, self._best = 0, float("inf")

    def add(self, trial: SearchTrial) -> None:
        """Writes the next trial.

        Tags: ``trial/val_loss``, ``trial/test_loss``, ``trial/best_val_loss``, ``trial/samples``,
        ``trial/crashed`` and ``hyperparameters/<name>``.
        """
        self._best = min(self._best, trial.val_loss)
        start = trial.setting["start"]
        scores = {"val_loss": trial.val_loss, "test_loss": trial.test_loss}
        more = {"best_val_loss": self._best, "samples": trial.samples, "crashed": float(trial.crashed)}
        tags = {f"trial/{name}": value for name, value in {**scores, **more}.items()}
        self._tracker.scalars(tags | {f"hyperparameters/{n}": v for n, v in start.items()}, self._told)
        with Tracker(self._path / "trials" / f"{self._told:03}", purge_step=0) as tracker:
            tracker.hparams({"schedule": trial.setting["schedule"], **start, **_options(trial)}, scores)
        self._told += 1

    def __enter__(self) -> TrialBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracker.close()


def write_outcome(searched: Searched) -> dict[str, Any]:
    """Writes everything; returns what ``results.json`` holds.

    Raises:
        OSError: It cannot be written.
    """
    path, result = searched.run.path, searched.result
    write_json(path / BEST, searched.best.setting)
    write_bytes(path / TRIALS, trials_csv(result.trials).encode())
    write_bytes(path / HISTORY, history_png(searched.study))
    importance = importance_png(searched.study, searched.config.seed)
    if importance is not None:
        write_bytes(path / IMPORTANCE, importance)
    results = {
        "job": searched.job_name,
        "search": to_dict(searched.config.search),
        "seed": searched.config.seed,
        "best": {
            "trial": result.best,
            "setting": searched.best.setting,
            "val_loss": searched.best.val_loss,
            "start_val_loss": searched.best.start_val_loss,
            "test": dict(result.test),
        },
        "budget": searched.budget,
        "samples": result.samples,
        "val_samples": result.val_samples,
        "crashes": sum(trial.crashed for trial in result.trials),
        "pruned": sum(trial.pruned for trial in result.trials),
        "trials": [to_dict(trial) for trial in result.trials],
        "records": [to_dict(record) for record in result.records],
        "figures": [HISTORY] if importance is None else [HISTORY, IMPORTANCE],
    }
    written: dict[str, Any] = plain(results)
    searched.run.write_results(written)
    return written


def trials_csv(trials: Sequence[SearchTrial]) -> str:
    """The trials as a table, a line each: hyperparameters, schedule, its parameters, and the scores.

    What a trial lacks (another schedule's parameter) is left empty; numbers are in full precision.
    """
    hyperparameters = list(dict.fromkeys(name for trial in trials for name in trial.setting["start"]))
    options = list(dict.fromkeys(name for trial in trials for name in _options(trial)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *hyperparameters, "schedule", *options, *SCORES])
    for number, trial in enumerate(trials):
        setting, own = trial.setting, _options(trial)
        writer.writerow(
            [number]
            + [setting["start"].get(name, "") for name in hyperparameters]
            + [setting["schedule"]]
            + [own.get(name, "") for name in options]
            + [getattr(trial, name) for name in SCORES]
        )
    return text.getvalue()


def _options(trial: SearchTrial) -> dict[str, float]:
    """A schedule's own parameters, named so that those of several schedules can be told apart."""
    schedule = trial.setting["schedule"]
    return {f"{schedule}.{name}": value for name, value in trial.setting["options"].items()}
