"""How ``rl-tuner bench`` shows its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rl_tuner.commands.console import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.ablations import AblationFigure
    from rl_tuner.bench_engine import EngineFigure, WayFigure
    from rl_tuner.bench_families import FamilyFigure, SamplingFigure
    from rl_tuner.bench_policy import PolicyFigure
    from rl_tuner.bench_train import ScaleFigure, TrainFigure
    from rl_tuner.statistics import Estimate


def print_engine(figures: Sequence[EngineFigure], console: Console) -> None:
    """A row for each model and number of jobs, with a column for each way."""
    from rl_tuner.bench_jobs import CASES

    ways = list(dict.fromkeys(f.way for f in figures))
    rows: dict[tuple[str, int], list[str]] = {}
    for f in figures:
        row = rows.setdefault((f.model, f.jobs), [f.model, f"{1e6 * f.bare:.0f} µs", str(f.jobs)])
        row.append(f"{f.ratio:.1f}")
    memory = {(f.model, f.jobs): f"{f.bytes_per_job:,}" for f in figures}
    head = ("model", "bare update", "jobs", *(f"{way}, times bare" for way in ways), "bytes a job")
    _print_table(head, [[*row, memory[key]] for key, row in rows.items()], console)
    for name in dict.fromkeys(f.model for f in figures):
        console.print(f"{name}: {CASES[name].description}")


def print_ways(figures: Sequence[WayFigure], console: Console) -> None:
    """A row for each way and number of jobs."""
    rows = [[f.way, str(f.jobs), f"{f.bare:,.0f}", f"{f.batched:,.0f}", f"{f.ratio:.1f}"] for f in figures]
    _print_table(("way", "jobs", "bare samples/s", "samples/s", "times bare"), rows, console)


def print_train(figures: Sequence[TrainFigure | ScaleFigure], console: Console) -> None:
    """A row for each number of environments, or for each part of the time."""
    from rl_tuner.bench_train import LEAST_SHARE, NUM_ENVS, ScaleFigure

    scales = [f for f in figures if isinstance(f, ScaleFigure)]
    if scales:
        rows = [[f.env, str(f.num_envs), f"{f.transitions_per_second:,.0f}"] for f in scales]
        _print_table(("environment", "jobs", "transitions/s"), rows, console)
    for f in figures:
        if isinstance(f, ScaleFigure):
            continue
        console.print(
            f"{f.suite}, {f.num_envs} jobs: {f.transitions_per_second:,.0f} transitions/s "
            f"({f.transitions:,} transitions in {f.seconds:.1f} s CPU)"
        )
        parts = sorted(f.parts.items(), key=lambda part: -part[1])
        rows = [[name, f"{seconds:.2f}", f"{seconds / f.seconds:.1%}"] for name, seconds in parts]
        _print_table(("part", "seconds", "share"), rows, console)
        bar = f" (the bar is {LEAST_SHARE:.0%})" if f.num_envs == NUM_ENVS else ""
        console.print(f"updates and evaluation: {f.share:.1%}{bar}")


def print_families(figures: Sequence[FamilyFigure], console: Console) -> None:
    """A row for each family, and its best static setting below."""
    rows = []
    for f in figures:
        spread = " … ".join(f"{factor:.2g}" for factor in f.lr_quantiles)
        shares = (f.headroom, f.overfitting, f.underfitting, f.crashes)
        rows.append([f.family, spread, f"{f.lr_spread:.0f}x", *(f"{share:.1%}" for share in shares)])
    head = ("family", "best lr", "spread", "head-room", "overfit", "underfit", "crashed")
    _print_table(head, rows, console)
    jobs = ", ".join(str(number) for number in dict.fromkeys(f.jobs for f in figures))
    console.print(
        f"{jobs} jobs a family. Learning rates are over the optimizer's usual one: 10, 50 and 90 % of the "
        "jobs' best, and the largest over the smallest."
    )
    for f in figures:
        regularized = f"dropout {f.static.dropout:g}, weight decay {f.static.weight_decay:g}"
        console.print(f"best static setting, {f.family}: lr {f.static.lr_factor:.2g}x, {regularized}")


def print_sampling(figure: SamplingFigure, console: Console) -> None:
    """Two lines."""
    console.print(
        f"{figure.suite}, {figure.split}: {figure.draws:,} jobs drawn in {figure.draw_seconds:.3f} s CPU\n"
        f"{figure.builds:,} of them built in {figure.build_seconds:.2f} s CPU, "
        f"{1e3 * figure.build_seconds / figure.builds:.1f} ms a job; "
        f"{figure.cache_bytes / 2**20:.0f} MiB of data kept"
    )


def print_policy(figure: PolicyFigure, console: Console) -> None:
    """A row for each evaluation, and what came of it in words."""
    config, machine = figure.config, figure.versions
    rows = [
        [
            f"{point.decisions:,}",
            f"{point.seconds:.0f}",
            f"{point.trial.policy:.3f}",
            f"{point.trial.static:.3f}",
            _signed(point.trial.difference),
        ]
        for point in figure.curve
    ]
    _print_table(("decisions", "seconds", "policy", "static", "difference (95 %)"), rows, console)
    s = figure.static
    console.print(
        f"Mean normalized scores on {figure.jobs} validation jobs of {config.suite}. Static setting: lr "
        f"{s.lr_factor:.2g}x, {s.schedule}, dropout {s.dropout:g}, weight decay {s.weight_decay:g}; chosen "
        "and run before the clock started."
    )
    if figure.seconds is not None and figure.again is not None:
        console.print(
            f"{config.agent}: above it after {figure.seconds:.0f} s of learning from {figure.decisions:,} "
            f"decisions; on {figure.again.difference.n} other jobs {_signed(figure.again.difference)}"
        )
    console.print(
        f"{figure.learning_seconds:.0f} s of learning on {figure.used_cores} of {figure.cores} cores, "
        f"{figure.evaluation_seconds:.0f} s of evaluations besides; seed {config.seed}, {machine['system']}, "
        f"torch {machine['torch']}"
    )


def print_ablations(figures: Sequence[AblationFigure], console: Console) -> None:
    """A row for each variant."""
    rows = [
        [f.variant, f"{f.score.mean:.3f}", f"{f.iqm.mean:.3f}", _signed(f.difference), str(f.crashes)]
        for f in figures
    ]
    head = ("variant", "mean score", "IQM", "difference to base (95 %)", "crashed")
    _print_table(head, rows, console)
    console.print(f"{figures[0].jobs} validation jobs, trainings a variant: {figures[0].trainings}")


def _signed(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def finish(figures: Sequence[Any], misses: Sequence[str], console: Console, as_json: bool) -> None:
    """Prints the JSON object, or what misses its bar."""
    if as_json:
        print_json({"figures": [asdict(f) for f in figures], "misses": misses})
    for line in () if as_json else misses:
        console.print(f"misses its bar: {line}")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    from rich.table import Table

    table = Table()
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
