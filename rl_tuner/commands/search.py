"""``rl-tuner search``: the best static setting of a job, by trials."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands import data_options as options
from rl_tuner.commands.apply import way_in_words
from rl_tuner.commands.console import (
    Json,
    Progress,
    Seed,
    interruptible,
    listed,
    make_console,
    print_json,
    progress,
)
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.searches import SearchTrial
    from rl_tuner.studies import Problem, StudyConfig, StudyRun
    from rl_tuner.study_results import TrialBoard
    from rl_tuner.user_jobs import ApplyConfig

SUITE = "Instead of data: a job of a suite"
"""Heading of those options in the help text."""


def search(  # noqa: PLR0913 (each one an option of the command)
    data: Annotated[
        str | None, typer.Argument(help=options.DATA_HELP, show_default="a job of --suite")
    ] = None,
    target: options.Target = None,
    sampler: Annotated[
        str,
        typer.Option(help="grid, random, tpe, gp, cma-es, genetic, halving, hyperband or pbt."),
    ] = "tpe",
    trials: Annotated[
        int, typer.Option(help="So many times the job's budget of training samples is used.")
    ] = 16,
    shared: Annotated[
        bool, typer.Option("--shared", help="The trials share the budget of one run instead.")
    ] = False,
    hyperparameters: Annotated[
        str,
        typer.Option(
            help="Those varied, comma-separated.", show_default="all five, as far as the job has them"
        ),
    ] = "",
    schedules: Annotated[
        str, typer.Option(help="Schedules to choose from, comma-separated; see rl-tuner list.")
    ] = "constant,cosine",
    schedule_options: Annotated[
        bool, typer.Option("--schedule-options", help="Vary the schedules' own parameters too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that work on the study.")] = 1,
    model: options.Model = None,
    hidden: options.Hidden = None,
    optimizer: options.Optimizer = None,
    epochs: options.Epochs = None,
    weights: options.Weights = None,
    header: options.Header = None,
    impute: options.Impute = None,
    encode: options.Encode = None,
    task: options.Task = None,
    labels: options.Labels = None,
    size: options.Size = None,
    channels: options.Channels = None,
    length: options.Length = None,
    rate: options.Rate = None,
    suite: Annotated[
        str | None, typer.Option(help="A name or a file; see rl-tuner list.", rich_help_panel=SUITE)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of the suite: train, validation or test.", show_default="test", rich_help_panel=SUITE
        ),
    ] = None,
    job: Annotated[
        int | None,
        typer.Option(
            help="Number of the job, as rl-tuner compare draws them.", show_default="0", rich_help_panel=SUITE
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/search-JOB-SAMPLER-SEED")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out; no trial is lost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the best static setting of a job: start values and a schedule, chosen by validation loss.

    Writes the best setting (rl-tuner apply --setting takes it), all trials, Optuna's study, its history and
    importance plots, and TensorBoard events into the run's folder.
    """
    import torch

    from rl_tuner.searches import SearchConfig
    from rl_tuner.studies import StudyConfig, StudyRun
    from rl_tuner.user_jobs import ApplyConfig

    torch.set_num_threads(1)  # the fastest for networks of this size, and the same numbers everywhere
    console = make_console(as_json)
    chosen = tuple(listed(hyperparameters)) or None
    if hyperparameters and chosen is None:
        raise ConfigError(f"--hyperparameters must be names such as lr,dropout, got {hyperparameters!r}")
    config = SearchConfig(sampler, trials, shared, chosen, tuple(listed(schedules)), schedule_options)
    asked = ApplyConfig(
        data or "", target, model=model, hidden=options.units(hidden), optimizer=optimizer, epochs=epochs,
        impute=impute, task=task, seed=seed, header=header, encode=encode, labels=labels,
        size=options.sides(size), channels=channels, length=length, rate=rate, weights=weights,
    )  # fmt: skip
    problem, name = _problem(asked, suite, split, job)
    folder = out if out is not None else Path("runs") / f"search-{name}-{sampler}-{seed}"
    run = StudyRun(StudyConfig(problem, config, seed, workers), folder, resume=resume)
    advice = f"continue with the same command and {shlex.join(['--out', str(folder), '--resume'])}"
    with interruptible(console, advice):
        results = _work(run, console)
    results["run"] = str(folder)
    if as_json:
        print_json(results)
    else:
        _report(results, run.config, console)


def _problem(
    asked: ApplyConfig, suite: str | None, split: str | None, job: int | None
) -> tuple[Problem, str]:
    """What to search on, the user's data or a job of a suite, and a short name of it for a folder."""
    from rl_tuner.comparison import draw_jobs
    from rl_tuner.config import require_range
    from rl_tuner.user_jobs import data_name

    if bool(asked.data) == (suite is not None):
        raise ConfigError("name the data to search on, or a --suite to draw a job from: one of the two")
    if suite is None:
        for name, value in (("split", split), ("job", job)):
            if value is not None:
                raise ConfigError(f"--{name} is for a --suite, not for data of your own")
        return asked, Path(data_name(asked.data)).stem
    for name in options.given(asked):
        if name != "seed":
            raise ConfigError(f"--{name.replace('_', '-')} is for data of your own, not for a job of a suite")
    part, number = split or "test", job or 0
    require_range("--job", number, 0)
    # The same one as in a comparison with that seed.
    return draw_jobs(suite, part, number + 1, asked.seed)[number], f"{Path(suite).stem}-{part}-{number}"


def _work(run: StudyRun, console: Console) -> dict[str, Any]:
    """Searches, shows how it goes, and writes what came of it."""
    from rl_tuner.study_results import TrialBoard, write_outcome

    sampler = run.config.search.sampler
    what = f"searching {run.job_name} ({sampler})"
    with TrialBoard(run.run.path) as board, progress(console, what, run.budget, "samples") as bar:
        teller = _Teller(bar, board)
        searched = run.search(teller)
        bar.update(run.budget, teller.note)  # what crashed may have left some unused
    return write_outcome(searched)


class _Teller:
    """Shows each trial that has ended, and writes it to TensorBoard."""

    def __init__(self, bar: Progress, board: TrialBoard) -> None:
        self._bar, self._board = bar, board
        self._trials, self._best = 0, math.inf

    def __call__(self, trial: SearchTrial) -> None:
        self._board.add(trial)
        self._trials += 1
        self._best = min(self._best, trial.val_loss)
        self._bar.advance(self.note, trial.samples)

    @property
    def note(self) -> str:
        """How it goes."""
        trials = f"{self._trials} trial" + ("s" if self._trials != 1 else "")
        return f"{trials}, best validation loss {self._best:.4g}"


def _report(results: Mapping[str, Any], config: StudyConfig, console: Console) -> None:
    """The best setting, its scores, where everything lies, and how to hand it on."""
    from rl_tuner.user_jobs import ApplyConfig

    best, trials = results["best"], results["trials"]
    many = f"{len(trials)} trials" + "".join(
        f", {results[name]} {word}"
        for name, word in (("crashes", "crashed"), ("pruned", "pruned"))
        if results[name]
    )
    console.print(f"\n{results['job']}: {many}, {results['samples']:,} training samples", markup=False)
    if best["val_loss"] is None:
        console.print("Every trial crashed: there is no setting to recommend.")
    console.print(f"best setting (trial {best['trial']}, chosen by validation):")
    rows = _setting_rows(results)
    width = max(map(len, rows))
    for name, text in rows.items():
        console.print(f"  {name:<{width}}  {text}", markup=False)
    losses = [_number(best[name]) for name in ("val_loss", "start_val_loss")]
    console.print(f"validation loss {losses[0]} ({losses[1]} before training)")
    scores = ", ".join(f"{name} {_number(value)}" for name, value in best["test"].items())
    console.print(f"test: {scores}" if scores else "the job has no test part")
    folder, figures = Path(results["run"]), results["figures"]
    why = "" if len(figures) > 1 else " (no importances: too few trials, or too little that differs)"
    for what, names in (("trials", ["trials.csv"]), ("figures", figures), ("setting", ["best.json"])):
        end = why if what == "figures" else ""
        console.print(f"{what:<8} {' '.join(str(folder / name) for name in names)}{end}", markup=False)
    console.print(f"view     tensorboard --logdir {shlex.quote(str(folder))}", markup=False)
    if isinstance(config.problem, ApplyConfig):
        given = options.as_arguments(config.problem)
        setting = shlex.quote(str(folder / "best.json"))
        console.print(f"use it   rl-tuner apply {given} --setting {setting}", markup=False)


def _setting_rows(results: Mapping[str, Any]) -> dict[str, str]:
    """The chosen setting, a line each; of a population, how it moved while it trained."""
    setting, records = results["best"]["setting"], results["records"]
    rows = {name: f"{value:.4g}" for name, value in setting["start"].items()}
    if results["search"]["sampler"] == "pbt":
        for name, first in setting["start"].items():
            values = [first, *(r["values"][name] for r in records if name in r["values"])]
            way = {"start": first, "end": values[-1], "lowest": min(values), "highest": max(values)}
            rows[name] = way_in_words(way)
        return rows
    own = ", ".join(f"{name} {value:.4g}" for name, value in setting["options"].items())
    return {**rows, "schedule": f"{setting['schedule']} ({own})" if own else setting["schedule"]}


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
