"""What a comparison leaves behind for other programs: CSV tables, plain dictionaries, TensorBoard runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_tuner.analysis import Analysis, MethodAnalysis
from rl_tuner.comparison import Comparison, MethodSummary
from rl_tuner.config import to_dict
from rl_tuner.files import plain, write_bytes, write_json
from rl_tuner.results import Row
from rl_tuner.tracking import Tracker

CURVES = ("profile", "profile_low", "profile_high", "anytime")
"""What an analysis has of a method that is no single number."""
THOUSANDTHS = 1000
"""TensorBoard's steps are whole numbers: shares are written in thousandths."""


def write_csv(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes ``rows.csv`` (a line a run) and ``summary.csv`` (a line a method); returns the paths.

    An estimate takes three columns: ``name``, ``name_low``, ``name_high``. What is not finite or not there is
    empty.
    """
    tables = {
        "rows.csv": [_flat(row.to_dict(records=False)) for row in comparison.rows],
        "summary.csv": [_flat(summary_dict(summary)) for summary in comparison.summaries],
    }
    return [_write_table(lines, folder / name) for name, lines in tables.items()]


def write_analysis(analysis: Analysis, folder: Path) -> list[Path]:
    """Writes ``analysis.json`` (all of it) and ``methods.csv`` (a line a method, without the curves).

    Tables are as `write_csv` says; what is about another method has that one's name at its end. Where there
    are several kinds of jobs, there is ``kinds.csv``, too (a line a kind and method).

    Returns:
        The paths.
    """
    data = plain(to_dict(analysis))
    write_json(folder / "analysis.json", data)
    lines = [{key: value for key, value in line.items() if key not in CURVES} for line in data["methods"]]
    paths = [folder / "analysis.json", _write_table([_flat(line) for line in lines], folder / "methods.csv")]
    kinds = [
        {"kind": kind["kind"], "jobs": kind["jobs"], **_flat(line)}
        for kind in data["kinds"]
        for line in kind["methods"]
    ]
    if not kinds:
        (folder / "kinds.csv").unlink(missing_ok=True)  # a run that was continued with other jobs
        return paths
    return [*paths, _write_table(kinds, folder / "kinds.csv")]


def _write_table(lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(key for line in lines for key in line))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_bytes(path, text.getvalue().encode())
    return path


def summary_dict(summary: MethodSummary) -> dict[str, Any]:
    """A method's summary in JSON's own types; what is not finite is None."""
    data: dict[str, Any] = plain(to_dict(summary))
    return data


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by an underscore; the mean of an estimate has the estimate's own name."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = prefix.rstrip("_") if key == "mean" and prefix else f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flat(value, "" if key == "metrics" else f"{name}_")
        else:
            flat[name] = value
    return flat


def write_tensorboard(row: Row, folder: Path) -> None:
    """Writes a run's losses, hyperparameters, reward and decisions, and its line of the HParams page.

    A run written before to the same place, perhaps only in part, is forgotten.

    Args:
        row: The run.
        folder: Runs lie below it as ``<method>/<job number>-<job name>-seed<number>``.
    """
    path = folder / _folder(row.method) / f"{row.job}-{row.job_name}-seed{row.seed}"
    with Tracker(path, purge_step=0) as tracker:
        for record in row.records:
            tracker.record(record)
        start = {f"start_{name}": value for name, value in row.start.items()}
        tracker.hparams(
            {"method": row.method, "job": f"{row.job}-{row.job_name}", "seed": row.seed, **start},
            {
                "test_loss": row.test_loss,
                "val_loss": row.val_loss,
                **{f"test_{name}": value for name, value in row.metrics.items()},
                "samples": row.samples,
                "val_samples": row.val_samples,
                "crashed": float(row.crashed),
                "rescues": row.rescues,
            },
        )


def write_tensorboard_summary(analysis: Analysis, folder: Path) -> None:
    """Writes the numbers of the report: a TensorBoard run for each method, ``<method>/summary``.

    Tags: ``summary/<statistic>``, with ``_low`` and ``_high`` for an interval; ``improvement/<other method>``
    (probability) and ``difference/<other method>`` (of scores); ``anytime/score`` over thousandths of one
    run's budget, and ``profile/share_above`` over thousandths of the score. What was written before is
    forgotten.

    Args:
        analysis: Of the comparison.
        folder: Where the runs lie.
    """
    for method in analysis.methods:
        with Tracker(folder / _folder(method.method) / "summary", purge_step=0) as tracker:
            tracker.scalars(_summary_scalars(method), 0)
            for share, score in zip(analysis.shares, method.anytime, strict=True):
                tracker.scalars({"anytime/score": score}, round(THOUSANDTHS * share))
            for tau, share in zip(analysis.taus, method.profile, strict=True):
                tracker.scalars({"profile/share_above": share}, round(THOUSANDTHS * tau))


def _folder(method: str) -> str:
    """A method's name as one folder's: "tpe/8", whose trials share a budget, is no folder in a folder."""
    return method.replace("/", "-shared-")


def _summary_scalars(method: MethodAnalysis) -> dict[str, float]:
    """Scalars by tag, of all that is a number."""
    data = to_dict(method)
    rivals = {"improvement": data.pop("probability"), "difference": data.pop("difference")}
    numbers = {f"summary/{k}": v for k, v in _flat(data).items() if not k.endswith("_n")}
    for kind, estimates in rivals.items():
        numbers |= {f"{kind}/{other}": estimate["mean"] for other, estimate in estimates.items()}
    return {tag: float(value) for tag, value in numbers.items() if isinstance(value, float | int)}
