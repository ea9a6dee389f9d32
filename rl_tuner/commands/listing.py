"""``rl-tuner list``: what there is to choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.card_text import words
from rl_tuner.commands.console import Json, Seed, columns, make_console, print_json
from rl_tuner.commands.suite_listing import show_suites, suites_found

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

ORIGIN = ("agent", "suite", "steps", "seed", "seeds")
"""What is told of a policy's learning."""


def list_(  # noqa: PLR0913 (each one an option of the command)
    suites: Annotated[
        bool, typer.Option("--suites", help="Only suites, with their splits and sizes.")
    ] = False,
    policies: Annotated[bool, typer.Option("--policies", help="Only policies that come along.")] = False,
    schedules: Annotated[bool, typer.Option("--schedules", help="Only schedules.")] = False,
    samplers: Annotated[bool, typer.Option("--samplers", help="Only how a search can choose.")] = False,
    optimizers: Annotated[
        bool,
        typer.Option("--optimizers", help="Only optimizers that need no tuning."),
    ] = False,
    agents: Annotated[bool, typer.Option("--agents", help="Only what learns.")] = False,
    rewards: Annotated[bool, typer.Option("--rewards", help="Only rewards.")] = False,
    hyperparameters: Annotated[
        bool, typer.Option("--hyperparameters", help="Only hyperparameters, their bounds and steps.")
    ] = False,
    seed: Seed = 0,  # noqa: ARG001 (every command takes one; nothing here is random)
    as_json: Json = False,
) -> None:
    """List suites, policies, schedules, samplers, optimizers, agents, rewards and hyperparameters."""
    wanted = {
        "suites": suites,
        "policies": policies,
        "schedules": schedules,
        "samplers": samplers,
        "optimizers": optimizers,
        "agents": agents,
        "rewards": rewards,
        "hyperparameters": hyperparameters,
    }
    if not any(wanted.values()):
        wanted = dict.fromkeys(wanted, True)
    parts = {"suites": lambda: suites_found(sizes=suites), **PARTS}
    found = {name: part() for name, part in parts.items() if wanted[name]}
    if as_json:
        print_json(found)
    else:
        _show(found, make_console(as_json))


def _policies() -> dict[str, Any]:
    from rl_tuner.policy import LearnedPolicy
    from rl_tuner.policy_file import load_policy, shipped_policies

    found = {}
    for name in shipped_policies():
        policy = load_policy(name)
        if isinstance(policy, LearnedPolicy):
            found[name] = {
                "actions": policy.actions.kind,
                "hyperparameters": policy.space.names,
                "provenance": policy.provenance,
            }
    return found


def _schedules() -> dict[str, Any]:
    from rl_tuner.config import to_dict
    from rl_tuner.schedules import SCHEDULE_OPTIONS, SCHEDULES

    return {
        name: {
            "description": _first_line(schedule),
            "search_options": {option: to_dict(h) for option, h in SCHEDULE_OPTIONS[name].items()},
        }
        for name, schedule in SCHEDULES.items()
    }


def _samplers() -> dict[str, Any]:
    from rl_tuner.samplers import SAMPLERS

    return {name: {"description": sampler.description} for name, sampler in SAMPLERS.items()}


def _optimizers() -> dict[str, Any]:
    from rl_tuner.envs.tuning_free import TUNING_FREE

    return {
        name: {"description": kind.description, "package": kind.package or None}
        for name, kind in TUNING_FREE.items()
    }


def _agents() -> dict[str, Any]:
    from rl_tuner.agent_kinds import AGENTS

    return {name: {"actions": kind.actions, "description": kind.description} for name, kind in AGENTS.items()}


def _rewards() -> dict[str, Any]:
    from rl_tuner.rewards import REWARDS

    return {name: {"description": _first_line(reward)} for name, reward in REWARDS.items()}


def _hyperparameters() -> dict[str, Any]:
    from rl_tuner.config import to_dict
    from rl_tuner.space import HYPERPARAMETERS
    from rl_tuner.wording import move

    return {
        name: to_dict(h) | {"largest_step": move(h, 1.0), "steps": [move(h, c) for c in h.choices]}
        for name, h in HYPERPARAMETERS.items()
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "policies": _policies,
    "schedules": _schedules,
    "samplers": _samplers,
    "optimizers": _optimizers,
    "agents": _agents,
    "rewards": _rewards,
    "hyperparameters": _hyperparameters,
}


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0].replace("`", "")


def _show(found: dict[str, Any], console: Console) -> None:
    for part, entries in found.items():
        console.print(f"[bold]{part}[/bold]")
        if not entries:
            console.print("  none yet")
        elif part == "suites":
            show_suites(entries, console)
        elif part == "hyperparameters":
            console.print(_hyperparameter_table(entries))
        else:
            console.print(columns({name: _line(part, entry) for name, entry in entries.items()}))
        console.print()


def _line(part: str, entry: dict[str, Any]) -> str:
    if part == "policies":
        known = entry["provenance"]
        origin = [f"{key} {words(known[key])}" for key in ORIGIN if key in known]
        return "; ".join([f"{entry['actions']} on {', '.join(entry['hyperparameters'])}", *origin])
    if part == "optimizers" and entry["package"]:
        return f"{entry['description']} (pip install {entry['package']})"
    if part == "agents":
        return f"{entry['description']} ({', '.join(entry['actions'])} actions)"
    return str(entry["description"])


def _hyperparameter_table(entries: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table("name", "bounds", "largest step", "discrete steps (or none)", box=None)
    for name, h in entries.items():
        bounds = f"{'0' if h['zero'] else format(h['low'], 'g')} to {h['high']:g}"
        table.add_row(
            name, bounds, h["largest_step"], ", ".join(step for step in h["steps"] if step != "unchanged")
        )
    return table
