"""``rl-tuner bench policy`` and ``ablations``: what learning comes to, and what it owes to what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rl_tuner.commands.bench_tables import finish, print_ablations, print_policy
from rl_tuner.commands.console import Json, Seed, interruptible, listed, make_console, progress
from rl_tuner.config import require_range

if TYPE_CHECKING:
    from rl_tuner.bench_policy import CurvePoint


def policy(
    suite: Annotated[str, typer.Option(help="A suite's name or file.")] = "standard",
    agent: Annotated[str, typer.Option(help="What learns; see `rl-tuner train`.")] = "grpo",
    workers: Annotated[int, typer.Option(help="Processes that learning and evaluation are spread over.")] = 2,
    jobs: Annotated[int, typer.Option(help="Validation jobs; and as many others to confirm.")] = 60,
    every: Annotated[int, typer.Option(help="Decisions between two evaluations.")] = 20_000,
    limit: Annotated[float, typer.Option(help="Seconds of learning at most.")] = 900.0,
    steps: Annotated[
        int,
        typer.Option(
            help="Decisions to learn from at most; schedules of the agent go by it.",
            show_default="the agent's own",
        ),
    ] = 0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How long it takes to learn a policy that beats the best static setting.

    The setting is chosen on the train split and run on the validation jobs before the clock starts.
    """
    from rl_tuner.bench_policy import bench_policy, misses
    from rl_tuner.learning_config import LearningConfig
    from rl_tuner.opponent import choose_opponent
    from rl_tuner.static_setting import choosing_trials

    console = make_console(as_json)
    require_range("--steps", steps, 0)
    require_range("--every", every, 1)
    require_range("--limit", limit, 0, above=True)
    config = LearningConfig(agent=agent, suite=suite, steps=steps, seed=seed, workers=workers)
    with interruptible(console):
        with progress(console, "choosing the static setting", choosing_trials(), "trials") as shown:
            opponent = choose_opponent(suite, jobs, seed, workers, on_trial=shown.advance)
        with progress(console, f"learning ({agent})", config.steps, "decisions") as shown:

            def told(point: CurvePoint) -> None:
                d = point.trial.difference
                console.print(
                    f"{point.decisions:,} decisions, {point.seconds:.0f} s: {d.mean:+.3f} ({d.low:+.3f} to "
                    f"{d.high:+.3f}) against the static setting"
                )

            figure = bench_policy(config, opponent, every, limit, on_step=shown.update, on_point=told)
    if not as_json:
        print_policy(figure, console)
    finish([figure], misses(figure), console, as_json)


def ablations(  # noqa: PLR0913 (each one an option of the command)
    suite: Annotated[str, typer.Option(help="A suite's name or file.")] = "standard",
    steps: Annotated[int, typer.Option(help="Decisions that each training learns from.")] = 30_000,
    jobs: Annotated[int, typer.Option(help="Validation jobs that each policy runs on.")] = 60,
    seeds: Annotated[int, typer.Option(help="Trainings of each variant.")] = 1,
    only: Annotated[
        str, typer.Option(help="Some variants, comma-separated, besides base.", show_default="all")
    ] = "",
    workers: Annotated[int, typer.Option(help="Trainings side by side, each in a process.")] = 2,
    out: Annotated[
        Path | None, typer.Option(help="The folder.", show_default="runs/ablations-SUITE-SEED")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in --out; --only may name others.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """What the recipe of learning owes to each of its parts.

    Learns it with one thing changed at a time, and runs all policies on the same validation jobs. The folder
    keeps each training, results.json and the table, ablations.md.
    """
    from rl_tuner.ablations import Ablations
    from rl_tuner.config import require_counts

    console = make_console(as_json)
    require_counts({"--workers": workers})
    path = out if out is not None else Path("runs") / f"ablations-{Path(suite).stem}-{seed}"
    work = Ablations(
        path, listed(only), suite=suite, steps=steps, jobs=jobs, seeds=seeds, seed=seed, resume=resume
    )
    with (
        interruptible(console, f"continue with the same command and --out {path} --resume"),
        progress(console, "bench ablations", work.total, "trainings") as shown,
    ):
        shown.update(work.done)
        figures = work.run(workers, shown.advance)
    if not as_json:
        print_ablations(figures, console)
        console.print(f"table  {path / 'ablations.md'}", markup=False)
    finish(figures, [], console, as_json)
