"""``rl-tuner compare``: methods on the same jobs at the same budget."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.console import Json, Seed, interruptible, make_console, print_json, progress
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.comparison import Comparison, MethodSummary
    from rl_tuner.envs.job_specs import JobSpec
    from rl_tuner.policy import Policy
    from rl_tuner.results import Row
    from rl_tuner.runs import RunDirectory
    from rl_tuner.statistics import Estimate

WIDTH = 100
"""Columns of the table where there is no terminal to ask."""


def compare(  # noqa: PLR0913 (each one an option of the command)
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Policy files, shipped policies, schedules (constant, cosine, plateau)."),
    ] = None,
    more: Annotated[str, typer.Option("--methods", help="The same, comma-separated.")] = "",
    suite: Annotated[str, typer.Option(help="Whose jobs: a name or a file.")] = "quick",
    split: Annotated[str, typer.Option(help="Part of the suite: train, validation or test.")] = "test",
    unseen: Annotated[
        str | None,
        typer.Option(
            help="Only jobs that are new in this: dataset, architecture, optimizer or horizon.",
            show_default="all",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Jobs drawn; the same for every method.")] = 5,
    seeds: Annotated[int, typer.Option(help="Runs of each job by each method.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/compare-DATE-TIME")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out; more --jobs and --seeds go on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare policies and schedules: the same jobs, start values, seeds and budget for each.

    The baseline "constant" is run too if it is not named. Prints a table; writes figures, CSV and JSON
    files and a TensorBoard run for each method, job and seed.
    """
    import torch

    from rl_tuner.comparison import load_methods
    from rl_tuner.runs import RunDirectory

    torch.set_num_threads(1)  # the fastest for networks of this size, and the same numbers everywhere
    console = make_console(as_json)
    names = [*(methods or ()), *(name.strip() for name in more.split(",") if name.strip())]
    policies = load_methods(names)
    settings = {"suite": suite, "split": split, "unseen": unseen, "jobs": jobs, "seeds": seeds, "seed": seed}
    _check(settings)
    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    folder = out if out is not None else Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    config = {"methods": _identities(policies, names), **settings}
    run = RunDirectory(folder, config, resume=resume, may_change=("jobs", "seeds"))
    with interruptible(console, f"continue with the same command and --out {folder} --resume"):
        results = _work(policies, settings, run, console)
    if as_json:
        print_json(results)


def _check(settings: Mapping[str, Any]) -> None:
    """Refuses settings that cannot run before a folder is made for them."""
    from rl_tuner.config import require_range

    require_range("seeds", settings["seeds"], 1)
    _draw(settings)


def _draw(settings: Mapping[str, Any]) -> tuple[JobSpec, ...]:
    """The jobs that the settings ask for."""
    from rl_tuner.comparison import draw_jobs

    names = ("suite", "split", "jobs", "seed", "unseen")
    return draw_jobs(**{name: settings[name] for name in names})


def _identities(policies: Mapping[str, Policy], names: Sequence[str]) -> dict[str, str]:
    """What each method is, so that a run is not resumed with another one: a name, or a file's SHA-256."""
    from rl_tuner.comparison import BASELINE, comes_along

    sources = list(names) if len(names) == len(policies) else [BASELINE, *names]
    return {
        label: source if comes_along(source) else hashlib.sha256(Path(source).read_bytes()).hexdigest()
        for label, source in zip(policies, sources, strict=True)
    }


def _work(
    policies: Mapping[str, Policy], settings: Mapping[str, Any], run: RunDirectory, console: Console
) -> dict[str, Any]:
    """Runs what is not done yet, writes everything, and shows the table unless stdout is the JSON's."""
    from rl_tuner.comparison import compare as run_all
    from rl_tuner.config import to_dict
    from rl_tuner.figures import write_figures
    from rl_tuner.reports import summary_dict, write_csv, write_tensorboard
    from rl_tuner.results import RowFile

    file, boards = RowFile(run.path / "rows.jsonl"), run.path / "tensorboard"
    total = len(policies) * settings["jobs"] * settings["seeds"]
    wanted = [r for r in file.rows if r.job < settings["jobs"] and r.seed < settings["seeds"]]
    done = len({row.key for row in wanted})
    with progress(console, "comparing", total, "runs") as bar:
        if done:
            console.print(f"continuing at {done} of {total} runs")
        bar.update(done)

        def keep(row: Row) -> None:
            nonlocal done
            write_tensorboard(row, boards)
            file.append(row)
            done += 1
            bar.update(done, f"{row.method} on job {row.job}")

        comparison = run_all(policies, **settings, on_row=keep, done_rows=wanted)
    drawn = _draw(settings)
    results = {
        **settings,
        "baseline": comparison.baseline,
        "job_specs": [{"name": spec.name, **to_dict(spec)} for spec in drawn],
        "methods": [summary_dict(summary) for summary in comparison.summaries],
        "rows": [row.to_dict(records=False) for row in comparison.rows],
        "figures": [str(path) for path in write_figures(comparison, run.path)],
        "tables": [str(path) for path in write_csv(comparison, run.path)],
        "tensorboard": str(boards),
        "out": str(run.path),
    }
    run.write_results(results)
    _show(comparison, results, console)
    return results


def _show(comparison: Comparison, results: Mapping[str, Any], console: Console) -> None:
    """The table, what it means, and where everything lies."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    metrics = [name for name in ("accuracy", "r2") if any(name in s.metrics for s in comparison.summaries)]
    caption = _caption(comparison)
    table = Table(box=SIMPLE_HEAD, padding=0, caption=caption, caption_justify="left")
    table.add_column("method", overflow="fold", max_width=20)
    loss, ratio = "test loss", f"test loss /\n{comparison.baseline}'s"
    for heading in (loss, "\n".join(metrics), ratio, "crashes /\nrescues", "validation\nsamples"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in comparison.summaries:
        table.add_row(
            summary.method,
            _plus_minus(summary.test_loss, summary.not_finite),
            "\n".join(_plus_minus(summary.metrics[name]) for name in metrics),
            _ratio(summary),
            f"{summary.crashes} / {summary.rescues}",
            f"{summary.val_samples:,}",
        )
    # Rich would leave out whole columns, the first one too, where a terminal is narrower than the table.
    needed = console.measure(table, options=console.options.update(width=10 * WIDTH)).maximum
    console.width = max(console.width if console.is_terminal else WIDTH, needed)
    budget = f"{comparison.summaries[0].budget:,} training samples a method"
    runs = f"{results['jobs']} jobs, {results['seeds']} seeds each"
    new = f", new in {results['unseen']}" if results["unseen"] else ""
    console.print(f"suite {results['suite']}, split {results['split']}{new}: {runs}, {budget}")
    console.print(table, soft_wrap=False)
    for path in (*results["figures"], *results["tables"]):
        console.print(f"written      {path}", markup=False)
    console.print(f"curves       tensorboard --logdir {results['tensorboard']}", markup=False)


def _plus_minus(estimate: Estimate, not_finite: int = 0) -> str:
    """Mean and half the interval's width, as far as there are any."""
    if not_finite:
        return f"undefined\n{not_finite} not finite"
    half = estimate.half_width
    return f"{estimate.mean:.3g}" + (f" ±{half:.2g}" if isfinite(half) else "")


def _ratio(summary: MethodSummary) -> str:
    """The geometric mean of loss ratios with its interval, and what it allows to say."""
    import numpy as np

    ratio = summary.log_ratio
    if not summary.verdict:
        return "baseline"
    if not isfinite(ratio.mean):
        return f"undefined\n{summary.verdict}"
    mean, low, high = np.exp([ratio.mean, ratio.low, ratio.high])
    interval = f"[{low:.3g}, {high:.3g}]" if isfinite(ratio.low) else ""
    return f"{mean:.3g}\n{interval}\n{summary.verdict}" if interval else f"{mean:.3g}\n{summary.verdict}"


def _caption(comparison: Comparison) -> str:
    sample = f"the {comparison.jobs} jobs, each the mean of its seeds"
    if comparison.jobs == 1:
        sample = "the seeds of a single job: they say nothing about other jobs"
    return (
        f"Means with 95% intervals over {sample}. Ratios are geometric means of test loss, paired by job and "
        "seed; “better” and “worse” stand only where the interval excludes 1. Crashed runs count with their "
        "best weights by validation."
    )
