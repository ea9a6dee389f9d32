"""``rl-tuner compare``: methods on the same jobs at the same budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.compare_outputs import Asked, write_outputs
from rl_tuner.commands.compare_table import show_table
from rl_tuner.commands.console import Json, Seed, interruptible, listed, make_console, print_json, progress
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.comparison import Comparison
    from rl_tuner.envs.job_specs import JobSpec
    from rl_tuner.methods import Method
    from rl_tuner.results import Row
    from rl_tuner.runs import RunDirectory
    from rl_tuner.static_setting import StaticSetting

MOST_WORKERS = 8
RUNS_A_WORKER = 30
"""A worker takes seconds to start: it is not worth it for fewer runs."""


def compare(  # noqa: PLR0913 (each one an option of the command)
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            help="Policy files, shipped policies, schedules (cosine), optimizers (prodigy), searches "
            "(random@16: 16 trials of a job's budget each; tpe/16: 16 trials that share one), or static, the "
            "best setting for the suite's train split. rl-tuner list names them all. A policy or schedule "
            "with @0.1x starts at that many times the optimizer's usual learning rate; one run with "
            "+averaging or +no-averaging counts averages of the weights, too, or does not; with +restarts or "
            "+no-restarts it begins again when it is past its best or had a false start, or does not."
        ),
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
    controls: Annotated[
        bool,
        typer.Option(
            help="Run beside each learned policy an untrained one, a blind one and a replay of its mean "
            "schedule: does it react, or is it a lucky schedule?"
        ),
    ] = True,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the work.", show_default="by cores and runs")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/compare-DATE-TIME")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in --out; it may be given more --jobs, --seeds and methods."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare policies, schedules and searches: the same jobs, start values, seeds and budget for each.

    The baseline "constant" is run too if it is not named. Prints a table; writes a report (report.html),
    figures, CSV and JSON files, and a TensorBoard run for each method, job and seed. Rows are written as they
    come (results.sqlite): a run that was killed goes on with --resume, and ends with the same table.
    """
    import torch

    from rl_tuner.config import require_counts
    from rl_tuner.runs import RunDirectory

    torch.set_num_threads(1)  # the fastest for networks of this size, and the same numbers everywhere
    console = make_console(as_json)
    names = [*(methods or ()), *listed(more)]
    settings = {"suite": suite, "split": split, "unseen": unseen, "jobs": jobs, "seeds": seeds, "seed": seed}
    identities = _check(names, settings, controls)
    if workers is not None:
        require_counts({"--workers": workers})
    if resume and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    folder = out if out is not None else Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    config = {"methods": identities, "controls": controls, **settings}
    run = RunDirectory(folder, config, resume=resume, may_change=("jobs", "seeds"), may_grow=("methods",))
    with interruptible(console, f"continue with the same command and --out {folder} --resume"):
        static = _static(names, settings, run, console)
        contestants = _contestants(names, static, controls, settings, console)
        comparison = _run(contestants, settings, workers, run, console)
        asked = Asked(names, settings, _draw(settings), static)
        analysis, results = write_outputs(comparison, contestants, asked, run)
    show_table(comparison, analysis, results, console)
    if as_json:
        print_json(results)


def _check(names: Sequence[str], settings: Mapping[str, Any], controls: bool) -> dict[str, str]:
    """Refuses what cannot run before a folder is made for it; returns what each method is, by its name."""
    from rl_tuner.config import require_range
    from rl_tuner.controls import CONTROLS
    from rl_tuner.method_names import load_methods
    from rl_tuner.methods import learned
    from rl_tuner.static_setting import GRID

    require_range("seeds", settings["seeds"], 1)
    _draw(settings)
    methods = load_methods(names, static=GRID[0])
    beside = {
        f"{name}-{kind}": f"{methods[name].identity}-{kind}"
        for name in (learned(methods) if controls else ())
        for kind in CONTROLS
    }
    taken = sorted(set(beside) & set(methods))
    if taken:
        raise ConfigError(
            f"{taken[0]!r} is the name of a policy and of another one's control: give --no-controls"
        )
    return {name: method.identity for name, method in methods.items()} | beside


def _draw(settings: Mapping[str, Any]) -> tuple[JobSpec, ...]:
    """The jobs that the settings ask for."""
    from rl_tuner.comparison import draw_jobs

    names = ("suite", "split", "jobs", "seed", "unseen")
    return draw_jobs(**{name: settings[name] for name in names})


def _static(
    names: Sequence[str], settings: Mapping[str, Any], run: RunDirectory, console: Console
) -> StaticSetting | None:
    """The static setting, if one takes part: chosen once in a run, on the train split."""
    import json

    from rl_tuner.config import from_dict, to_dict
    from rl_tuner.files import write_json
    from rl_tuner.method_names import stands_for_static
    from rl_tuner.static_setting import JOBS, StaticSetting, choose_static, choosing_trials

    if not any(stands_for_static(name) for name in names):
        return None
    file = run.path / "static.json"
    if file.is_file():
        return from_dict(StaticSetting, json.loads(file.read_text()))
    with progress(console, "choosing the static setting", choosing_trials(JOBS), "trials") as bar:
        setting = choose_static(settings["suite"], JOBS, settings["seed"], bar.advance)
    write_json(file, to_dict(setting))
    return setting


def _contestants(
    names: Sequence[str],
    static: StaticSetting | None,
    controls: bool,
    settings: Mapping[str, Any],
    console: Console,
) -> dict[str, Method]:
    """The methods asked for, and the controls of the learned policies among them."""
    from rl_tuner.controls import controls_of
    from rl_tuner.habits import JOBS
    from rl_tuner.method_names import load_methods
    from rl_tuner.methods import PolicyMethod, learned

    methods = load_methods(names, static=static)
    policies = learned(methods) if controls else {}
    if not policies:
        return methods
    with progress(console, "watching the policies", JOBS * len(policies), "train jobs") as bar:
        for name, policy in policies.items():
            found = controls_of(policy, settings["suite"], settings["seed"], bar.advance)
            for kind, control in found.items():
                methods[f"{name}-{kind}"] = PolicyMethod(control)
    return methods


def _run(
    methods: Mapping[str, Method],
    settings: Mapping[str, Any],
    workers: int | None,
    run: RunDirectory,
    console: Console,
) -> Comparison:
    """Runs what is not done yet; each row is on disk before the next is noted."""
    from rl_tuner.comparison import compare as run_all
    from rl_tuner.reports import write_tensorboard
    from rl_tuner.row_store import STORE, RowStore

    total = len(methods) * settings["jobs"] * settings["seeds"]
    with RowStore(run.path / STORE) as store:
        wanted = [
            row
            for row in store.rows()
            if row.job < settings["jobs"] and row.seed < settings["seeds"] and row.method in methods
        ]
        done = len(wanted)
        usual = max(1, min(os.cpu_count() or 1, MOST_WORKERS, (total - done) // RUNS_A_WORKER))
        with progress(console, "comparing", total, "runs") as bar:
            if done:
                console.print(f"continuing at {done} of {total} runs")
            bar.update(done)

            def keep(row: Row) -> None:
                write_tensorboard(row, run.path / "tensorboard")
                store.add(row)
                bar.advance(f"{row.method} on job {row.job}")

            count = usual if workers is None else workers
            return run_all(methods, **settings, workers=count, on_row=keep, done_rows=wanted)
