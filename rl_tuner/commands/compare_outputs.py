"""What ``rl-tuner compare`` leaves behind: statistics, report, tables, figures, TensorBoard."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_tuner.analysis import Analysis
    from rl_tuner.comparison import Comparison
    from rl_tuner.envs.job_specs import JobSpec
    from rl_tuner.methods import Method
    from rl_tuner.runs import RunDirectory
    from rl_tuner.static_setting import StaticSetting


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was asked for.

    Attributes:
        names: The methods.
        settings: The options that decide what is run.
        drawn: The jobs that they ask for.
        static: What the method "static" stands for; None if it took no part.
    """

    names: Sequence[str]
    settings: Mapping[str, Any]
    drawn: Sequence[JobSpec]
    static: StaticSetting | None


def write_outputs(
    comparison: Comparison, contestants: Mapping[str, Method], asked: Asked, run: RunDirectory
) -> tuple[Analysis, dict[str, Any]]:
    """Computes the statistics and writes everything; returns them and what stands in ``results.json``.

    Args:
        comparison: What was run.
        contestants: Its methods.
        asked: For what.
        run: Where everything goes.
    """
    from rl_tuner.analysis import analyse
    from rl_tuner.controls import CONTROLS
    from rl_tuner.methods import learned
    from rl_tuner.report_markdown import write_markdown
    from rl_tuner.report_page import write_report
    from rl_tuner.reports import write_analysis, write_csv, write_tensorboard_summary
    from rl_tuner.row_store import STORE
    from rl_tuner.runs import versions

    policies = learned(contestants)
    controls = [f"{name}-{kind}" for name in policies for kind in CONTROLS if f"{name}-{kind}" in contestants]
    # An untrained control has its policy's provenance, but was not trained.
    counts = {name: p.provenance.get("episodes") for name, p in policies.items() if name not in controls}
    episodes = {name: float(n) for name, n in counts.items() if n is not None}
    analysis = analyse(comparison, episodes, {job: spec.unseen for job, spec in enumerate(asked.drawn)})
    command = _command(asked.names, asked.settings, controls=bool(controls))
    tables = [*write_csv(comparison, run.path), *write_analysis(analysis, run.path)]
    tables.append(write_markdown(analysis, command, run.path))
    provenance = {
        "command": command,
        "settings": {name: value for name, value in asked.settings.items() if value is not None},
        "versions": versions(),
        "controls": controls,
        "static_setting": _setting(asked.static) or {},
        "files": [path.name for path in (*tables, run.results, run.path / STORE)],
        "training episodes": episodes,
        "date": f"{datetime.now():%Y-%m-%d}",
    }
    report, *figures = write_report(comparison, analysis, provenance, run.path)
    write_tensorboard_summary(analysis, run.path / "tensorboard")
    results = _results(comparison, analysis, asked) | {
        "report": str(report),
        "figures": [str(path) for path in figures],
        "tables": [str(path) for path in tables],
        "tensorboard": str(run.path / "tensorboard"),
        "out": str(run.path),
    }
    run.write_results(results)
    return analysis, results


def _results(comparison: Comparison, analysis: Analysis, asked: Asked) -> dict[str, Any]:
    """The figures, in JSON's own types."""
    from rl_tuner.config import to_dict
    from rl_tuner.files import plain
    from rl_tuner.reports import summary_dict

    return {
        **asked.settings,
        "baseline": comparison.baseline,
        "job_specs": [{"name": spec.name, **to_dict(spec)} for spec in asked.drawn],
        "methods": [summary_dict(summary) for summary in comparison.summaries],
        "analysis": plain(to_dict(analysis)),
        "static": _setting(asked.static),
        "rows": [row.to_dict(records=False) for row in comparison.rows],
    }


def _setting(static: StaticSetting | None) -> dict[str, Any] | None:
    from rl_tuner.config import to_dict

    return None if static is None else to_dict(static)


def _command(names: Sequence[str], settings: Mapping[str, Any], *, controls: bool) -> str:
    """The command that runs the same comparison again."""
    options = [f"--{name} {shlex.quote(str(value))}" for name, value in settings.items() if value is not None]
    chosen = [] if controls else ["--no-controls"]
    return " ".join(["rl-tuner compare", *map(shlex.quote, names), *options, *chosen])
