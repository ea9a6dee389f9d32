"""``rl-tuner bench``: the performance figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rl_tuner.commands.console import Json, Seed, interruptible, make_console, print_json, progress

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.benches import CliFigure, EnvFigure

app = typer.Typer(help="The performance figures.", no_args_is_help=True)

Repeats = Annotated[int, typer.Option(help="Measurements, of which the median counts.")]


@app.command("env")
def env(
    repeats: Repeats = 7,
    epochs: Annotated[int, typer.Option(help="Length of an episode, in passes over the digits.")] = 25,
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; these runs are always the same)
    as_json: Json = False,
) -> None:
    """CPU time of one environment over the bare PyTorch loop with the same evaluations."""
    from rl_tuner.benches import MODELS, MOST_RATIO, bench_env

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
    _finish(figures, console, as_json)


@app.command("cli")
def cli(
    repeats: Repeats = 7,
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; nothing here is random)
    as_json: Json = False,
) -> None:
    """CPU time of `rl-tuner --help` and `import rl_tuner`."""
    from rl_tuner.benches import MOST_CLI_SECONDS, bench_cli

    console = make_console(as_json)
    with interruptible(console):
        figures = bench_cli(repeats)
    if not as_json:
        for f in figures:
            console.print(
                f"{f.command}: {f.seconds:.3f} s CPU (median of {repeats}; the bar is {MOST_CLI_SECONDS} s)"
            )
    _finish(figures, console, as_json)


def _finish(figures: Sequence[EnvFigure | CliFigure], console: Console, as_json: bool) -> None:
    """Prints the JSON object, or what misses its bar."""
    from rl_tuner.benches import misses

    if as_json:
        print_json({"figures": [asdict(f) for f in figures], "misses": misses(figures)})
    for line in () if as_json else misses(figures):
        console.print(f"misses its bar: {line}")
