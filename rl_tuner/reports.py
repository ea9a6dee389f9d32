"""What a comparison leaves behind for other programs: CSV tables, plain dictionaries, TensorBoard runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from rl_tuner.comparison import Comparison, MethodSummary
from rl_tuner.config import to_dict
from rl_tuner.files import plain, write_bytes
from rl_tuner.results import Row
from rl_tuner.tracking import Tracker


def write_csv(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes ``rows.csv`` (a line a run) and ``summary.csv`` (a line a method); returns the paths.

    An estimate takes three columns: ``name``, ``name_low``, ``name_high``. What is not finite or not there is
    empty.
    """
    tables = {
        "rows.csv": [_flat(row.to_dict(records=False)) for row in comparison.rows],
        "summary.csv": [_flat(summary_dict(summary)) for summary in comparison.summaries],
    }
    for name, lines in tables.items():
        text = io.StringIO(newline="")
        columns = list(dict.fromkeys(key for line in lines for key in line))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_bytes(folder / name, text.getvalue().encode())
    return [folder / name for name in tables]


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
    path = folder / row.method / f"{row.job}-{row.job_name}-seed{row.seed}"
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
