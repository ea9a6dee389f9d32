"""``rl-tuner ensemble``: several learned policies as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_tuner.commands.console import Json, Seed, interruptible, make_console, print_json, progress
from rl_tuner.commands.judgement_table import show_judgement


def ensemble(
    members: Annotated[
        list[str],
        typer.Argument(help="Policies to be made one: files or names, two or more.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the policy and its figures.")],
    suite: Annotated[
        str,
        typer.Option(
            help="Whose validation jobs judge it, a name or a file.",
            show_default="the one that the members learned on",
        ),
    ] = "",
    eval_jobs: Annotated[int, typer.Option(help="Validation jobs for the judgement.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make one policy of several networks, which acts by the mean of what they would do.

    Learn some with `rl-tuner train`, alike but for --seed, and give their
    policies. What one of them learned badly, the others outvote.
    """
    import torch

    from rl_tuner.config import to_dict
    from rl_tuner.ensembling import EnsembleConfig, finish_ensemble, judge_ensemble, load_ensemble
    from rl_tuner.runs import RunDirectory

    torch.set_num_threads(1)  # as in learning: the same numbers everywhere
    console = make_console(as_json)
    config = EnsembleConfig(tuple(members), suite, eval_jobs, seed)
    policy = load_ensemble(config, out.name)
    run = RunDirectory(out, to_dict(config), resumable=False)
    with (
        interruptible(console),
        progress(console, "judging, ensemble and untrained", 2 * eval_jobs, "jobs") as bar,
    ):
        judgement = judge_ensemble(policy, config, bar.update)
    results = finish_ensemble(policy, judgement, config, run)
    if as_json:
        print_json(results)
    else:
        show_judgement(results, console)
