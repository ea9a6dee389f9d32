"""``rl-tuner train``: learn a policy."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.console import Json, Seed, interruptible, listed, make_console, print_json, progress
from rl_tuner.commands.judgement_table import show_judgement
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.learning import Learner, Standing
    from rl_tuner.learning_config import LearningConfig


def train(  # noqa: PLR0913 (each one an option of the command)
    ctx: typer.Context,
    agent: Annotated[str, typer.Option(help="What learns: ppo, grpo, es, q-learning or sarsa.")] = "ppo",
    suite: Annotated[
        str, typer.Option(help="A name or a file; jobs are drawn from its train split.")
    ] = "quick",
    steps: Annotated[
        int,
        typer.Option(
            help="Decisions to learn from, of all jobs together. ppo rounds up to whole rollouts: 2,560 "
            "decisions with 128 jobs side by side.",
            show_default="300,000 for grpo, 100,000 for ppo and es, else 10,000",
        ),
    ] = 0,
    actions: Annotated[
        str,
        typer.Option(
            help="continuous or anchored (ppo, grpo, es), or discrete (any agent).",
            show_default="discrete for tables, else continuous",
        ),
    ] = "",
    reward: Annotated[
        str,
        typer.Option(
            help="log_improvement, best_improvement, final_improvement, relative_improvement or "
            "test_improvement.",
            show_default="best_improvement for grpo, else log_improvement",
        ),
    ] = "",
    hyperparameters: Annotated[
        str, typer.Option(help="Those acted on, comma-separated.", show_default="all five")
    ] = "",
    decisions: Annotated[int, typer.Option(help="Decisions a job.")] = 20,
    intervals: Annotated[str, typer.Option(help="geometric or uniform.")] = "geometric",
    rails: Annotated[bool, typer.Option(help="Restore the last good state after a divergence.")] = True,
    averaging: Annotated[
        bool, typer.Option(help="Count averages of the weights in learning: the best model may be one.")
    ] = False,
    averaging_at_work: Annotated[
        bool | None,
        typer.Option(
            help="Count them where the policy is put to work.",
            show_default="for grpo, and with --averaging",
        ),
    ] = None,
    restarts_at_work: Annotated[
        bool | None,
        typer.Option(
            help="Have trainings that are past their best, or had a false start, begin again where the "
            "policy is put to work.",
            show_default="for grpo",
        ),
    ] = None,
    num_envs: Annotated[
        int,
        typer.Option(
            help="Jobs that train side by side.", show_default="256 for grpo, 128 for ppo and es, else 1"
        ),
    ] = 0,
    group_size: Annotated[
        int,
        typer.Option(
            help="So many of them are the same job, run in different ways.",
            show_default="16 for grpo and es, else 1",
        ),
    ] = 0,
    memory: Annotated[
        int, typer.Option(help="Decisions that the policy reads, the last ones (ppo, grpo, es).")
    ] = 1,
    without: Annotated[
        str,
        typer.Option(
            help="Groups of features that the policy does not read, comma-separated: clock, validation, "
            "training, gradients, failures, values, actions, best (ppo, grpo, es).",
            show_default="none: it reads all",
        ),
    ] = "",
    workers: Annotated[int, typer.Option(help="Processes that the jobs are spread over.")] = 1,
    eval_jobs: Annotated[int, typer.Option(help="Validation jobs for the final judgement.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/AGENT-SUITE-SEED")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out; options left out are as they were. More --steps go on, "
            "with schedules of the learning rate stretched to them; nothing else can be changed.",
        ),
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds between checkpoints, at most lost.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Learn a policy on a suite of training jobs.

    Writes the policy file, TensorBoard events and checkpoints to --out, and
    compares the policy with the untrained one on held-out validation jobs.
    """
    import torch

    from rl_tuner.config import require_range, to_dict
    from rl_tuner.learning import Learner
    from rl_tuner.learning_config import FORMERLY
    from rl_tuner.runs import RunDirectory

    torch.set_num_threads(1)  # the fastest for networks of this size, and the same numbers everywhere
    console = make_console(as_json)
    options = {
        "agent": agent,
        "suite": suite,
        "steps": steps,
        "actions": actions,
        "reward": reward,
        "hyperparameters": listed(hyperparameters),
        "decisions": decisions,
        "intervals": intervals,
        "rails": rails,
        "averaging": averaging,
        "averaging_at_work": averaging_at_work,
        "restarts_at_work": restarts_at_work,
        "seed": seed,
        "eval_jobs": eval_jobs,
        "num_envs": num_envs,
        "group_size": group_size,
        "memory": memory,
        "without": listed(without),
        "workers": workers,
    }
    given = {name: value for name, value in options.items() if _is_given(ctx, name)}
    counts = {"steps": steps, "num_envs": num_envs, "group_size": group_size}
    for name, count in counts.items():
        if name in given:  # left out it is 0: the agent's own
            require_range(f"--{name.replace('_', '-')}", count, 1)
    path = out if out is not None else Path("runs") / f"{agent}-{Path(suite).stem}-{seed}"
    config = _config(given, path if resume else None)
    require_range("--checkpoint-every", checkpoint_every, 0)
    run = RunDirectory(path, to_dict(config), resume=resume, may_change=("steps",), formerly=FORMERLY)
    learner = Learner(config, run, checkpoint_every)
    with interruptible(console, f"continue with: rl-tuner train --out {path} --resume"):
        results = _work(learner, console)
    if as_json:
        print_json(results)
    else:
        show_judgement(results, console)
        console.print(f"curves       tensorboard --logdir {results['run']}", markup=False)


def _is_given(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _config(given: dict[str, Any], resumed: Path | None) -> LearningConfig:
    """The settings: what was given, over those of the run to resume, over the defaults."""
    from rl_tuner.config import from_dict
    from rl_tuner.learning_config import FORMERLY, LearningConfig

    old: dict[str, Any] = {}
    file = resumed / "config.json" if resumed is not None else None
    if file is not None and file.is_file():  # where there is none, RunDirectory says so
        try:
            old = {**FORMERLY, **json.loads(file.read_text())}
        except (ValueError, TypeError) as error:  # no JSON, or no JSON object
            raise ConfigError(f"{file} is damaged and cannot be resumed: {error}") from error
    config = from_dict(LearningConfig, {**old, **given})
    if config.steps < old.get("steps", 0):
        raise ConfigError(f"the run in {resumed} was asked for {old['steps']} steps: give --steps no lower")
    return config


def _work(learner: Learner, console: Console) -> dict[str, Any]:
    """Learns, judges and writes what came out."""
    from rl_tuner.judging import finish, judge
    from rl_tuner.rewards import reward_unit

    config, start = learner.config, learner.agent.steps
    unit = reward_unit(config.reward)
    if start:
        console.print(f"continuing at {start} of {config.steps} steps")
    with progress(console, f"learning ({config.agent})", config.steps, "decisions") as bar:
        note = ""

        def show(made: int) -> None:
            bar.update(
                min(made, config.steps - 1), note
            )  # the last line waits for the last episodes' returns

        def ended(now: Standing) -> None:
            nonlocal note
            crashed = f", {now.crash_rate:.0%} crashed" if now.crash_rate else ""
            note = f"mean return {now.mean_return:+.3f} {unit}{crashed}"
            show(now.steps)

        show(start)
        with closing(learner):
            learner.fit(ended, show)
        bar.update(config.steps, note)
    console.print(f"learned from {learner.agent.steps} decisions in {learner.agent.episodes} episodes")
    with progress(console, "judging, trained and untrained", 2 * config.eval_jobs, "jobs") as bar:
        judgement = judge(learner, bar.update)
    return finish(learner, judgement)
