"""``rl-tuner bench``: the performance figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.bench_policies import ablations, policy
from rl_tuner.commands.bench_tables import (
    finish,
    print_engine,
    print_families,
    print_sampling,
    print_train,
    print_ways,
)
from rl_tuner.commands.console import Json, Seed, interruptible, listed, make_console, progress
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.bench_train import ScaleFigure, TrainFigure

app = typer.Typer(help="The performance figures.", no_args_is_help=True)
app.command("policy")(policy)
app.command("ablations")(ablations)

Repeats = Annotated[int, typer.Option(help="Measurements, of which the median counts.")]


@app.command("env")
def env(
    repeats: Repeats = 7,
    epochs: Annotated[int, typer.Option(help="Length of an episode, in passes over the digits.")] = 25,
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; these runs are always the same)
    as_json: Json = False,
) -> None:
    """CPU time of one environment over the bare PyTorch loop with the same evaluations."""
    from rl_tuner.benches import MODELS, MOST_RATIO, bench_env, misses

    console = make_console(as_json)
    pairs = len(MODELS) * (repeats + 1)
    with interruptible(console), progress(console, "bench env", pairs, "pairs of runs") as shown:
        figures = bench_env(repeats, epochs, shown.update)
    if not as_json:
        for f in figures:
            console.print(
                f"{f.model}: bare loop {1e3 * f.bare:.0f} ms, environment {1e3 * f.env:.0f} ms, ratio "
                f"{f.ratio:.3f} ({f.updates} updates, median of {repeats}; the bar is {MOST_RATIO})"
            )
    finish(figures, misses(figures), console, as_json)


@app.command("cli")
def cli(
    repeats: Repeats = 7,
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; nothing here is random)
    as_json: Json = False,
) -> None:
    """CPU time of `rl-tuner --help` and `import rl_tuner`."""
    from rl_tuner.benches import MOST_CLI_SECONDS, bench_cli, misses

    console = make_console(as_json)
    with interruptible(console):
        figures = bench_cli(repeats)
    if not as_json:
        for f in figures:
            console.print(
                f"{f.command}: {f.seconds:.3f} s CPU (median of {repeats}; the bar is {MOST_CLI_SECONDS} s)"
            )
    finish(figures, misses(figures), console, as_json)


@app.command("engine")
def engine(
    models: Annotated[str, typer.Option(help="Of mlp, cnn, gru and transformer.")] = "",
    jobs: Annotated[str, typer.Option(help="Jobs side by side, comma-separated.")] = "",
    ways: Annotated[
        bool, typer.Option("--ways", help="Instead: ways of running MLPs of unequal batch sizes.")
    ] = False,
    repeats: Repeats = 5,
    compiled: Annotated[bool, typer.Option("--compile", help="Compiled programs, too.")] = False,
    device: Annotated[str, typer.Option(help="Where jobs train; all but cpu by the clock.")] = "cpu",
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; these jobs are always the same)
    as_json: Json = False,
) -> None:
    """Updates a second of jobs side by side, over the bare PyTorch loop of one of them."""
    from rl_tuner import bench_engine
    from rl_tuner.bench_jobs import CASES, engine_ways, mixed_ways

    console = make_console(as_json)
    options: dict[str, Any] = {"compiled": compiled, "device": device}
    if ways:
        if models:
            raise ConfigError(f"--ways measures the mlp only: leave out --models {models}")
        counts = _numbers("--jobs", jobs) or bench_engine.MIXED_JOBS
        runs = len(counts) * (len(bench_engine.MIXED_SIZES) + len(mixed_ways(compiled))) * (repeats + 1)
        with _counted(console, "bench engine --ways", runs, "runs") as tick:
            mixed = bench_engine.bench_ways(counts, repeats, **options, on_action=tick)
        if not as_json:
            print_ways(mixed, console)
        return finish(mixed, [], console, as_json)
    names = tuple(listed(models)) or tuple(CASES)
    counts = _numbers("--jobs", jobs) or bench_engine.JOBS
    runs = len(names) * (1 + len(counts) * len(engine_ways(compiled))) * (repeats + 1)
    with _counted(console, "bench engine", runs, "runs") as tick:
        figures = bench_engine.bench_engine(names, counts, repeats, **options, on_action=tick)
    if not as_json:
        print_engine(figures, console)
    return finish(figures, bench_engine.misses(figures), console, as_json)


@app.command("train")
def train(
    num_envs: Annotated[int | None, typer.Option(help="Jobs side by side.", show_default="128")] = None,
    rollouts: Annotated[int, typer.Option(help="PPO's rollouts timed, after one that is not.")] = 3,
    suite: Annotated[str, typer.Option(help="Jobs are drawn from its train split.")] = "quick",
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Instead: throughput with 1, 8, 32, 128 and 256 jobs.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Transitions a second of `rl-tuner train --agent ppo`, and where the time goes."""
    from rl_tuner import bench_train

    console = make_console(as_json)
    if scaling and num_envs is not None:
        raise ConfigError(f"--scaling runs its own numbers of jobs: leave out --num-envs {num_envs}")
    number = bench_train.NUM_ENVS if num_envs is None else num_envs
    runs = (rollouts + 1) * (1 + len(bench_train.SCALES) if scaling else 1)
    with _counted(console, "bench train", runs, "rollouts") as tick:
        figures: list[TrainFigure | ScaleFigure] = []
        if scaling:
            figures += bench_train.bench_scaling(
                bench_train.SCALES, rollouts, suite, seed=seed, on_rollout=tick
            )
        else:
            figures.append(bench_train.bench_train(number, rollouts, suite, seed=seed, on_rollout=tick))
    if not as_json:
        print_train(figures, console)
    finish(figures, bench_train.misses(figures), console, as_json)


@app.command("families")
def families(
    suite: Annotated[str, typer.Option(help="A suite's name or file.")] = "standard",
    split: Annotated[str, typer.Option(help="Of the suite.")] = "train",
    jobs: Annotated[int, typer.Option(help="Jobs of each family.")] = 32,
    only: Annotated[str, typer.Option(help="Some of its families, comma-separated.")] = "",
    sampling: Annotated[
        bool, typer.Option("--sampling", help="Instead: how long drawing and building jobs takes.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How hard a suite is: best learning rates, over- and underfitting, and what a policy could win."""
    from rl_tuner import bench_families

    console = make_console(as_json)
    names = tuple(listed(only))
    if sampling:
        if names:
            raise ConfigError(f"--sampling draws from all families: leave out --only {only}")
        with interruptible(console):
            figure = bench_families.bench_sampling(suite, split, seed=seed)
        if not as_json:
            print_sampling(figure, console)
        return finish([figure], figure.misses, console, as_json)
    with _counted(console, "bench families", bench_families.trials_of(suite, jobs, names), "trials") as tick:
        figures = bench_families.bench_families(suite, split, jobs, seed, names, on_trial=tick)
    if not as_json:
        print_families(figures, console)
    return finish(figures, [miss for figure in figures for miss in figure.misses], console, as_json)


@app.command("accuracy")
def accuracy(
    splits: Annotated[int, typer.Option(help="Splits of each data set.")] = 5,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Test accuracy of known data sets at their best constant setting."""
    from rl_tuner import bench_accuracy

    console = make_console(as_json)
    with _counted(console, "bench accuracy", bench_accuracy.trials_of(splits), "trainings") as tick:
        figures = bench_accuracy.bench_accuracy(splits, seed, on_trial=tick)
    for f in () if as_json else figures:
        console.print(
            f"{f.case}: test accuracy {f.accuracy:.1%}, mean of {f.splits} splits, lowest {f.lowest:.1%} "
            f"(the bar is {f.least:.0%})"
        )
    finish(figures, bench_accuracy.misses(figures), console, as_json)


@contextmanager
def _counted(console: Console, what: str, total: int, unit: str) -> Iterator[Callable[[], None]]:
    """A progress display, and what to call at each step; Ctrl-C ends the command."""
    with interruptible(console), progress(console, what, total, unit) as shown:
        yield shown.advance


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in listed(text))
    except ValueError:
        raise ConfigError(f"{option} must be whole numbers separated by commas, got {text!r}") from None
