"""``rl-tuner inspect``: a policy's model card, and why it acts as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.card_text import printable, show_card
from rl_tuner.commands.console import Json, Seed, columns, make_console, print_json, progress
from rl_tuner.config import to_dict

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.policy import LearnedPolicy, Policy


def inspect(
    name: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A policy that comes along, a schedule, or a file.")
    ],
    jobs: Annotated[int, typer.Option(help="Jobs on which it is watched; 0 for the file alone.")] = 8,
    top: Annotated[int, typer.Option(help="How many rules or sensitivities are shown.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show a policy's model card, and why it acts as it does.

    What it is for, how it was trained and scored, and its limits, as its file
    and its suite say. The policy is watched on jobs of its suite's train split: a table's
    strongest rules, or a network's sensitivities, over what it meets there.
    """
    import torch

    from rl_tuner.config import require_range
    from rl_tuner.model_card import model_card
    from rl_tuner.policy import LearnedPolicy
    from rl_tuner.policy_file import load_policy, policy_path

    require_range("--jobs", jobs, 0)
    require_range("--top", top, 1)
    torch.set_num_threads(1)  # the fastest for networks of this size
    policy = load_policy(name)
    console = make_console(as_json)
    if isinstance(policy, LearnedPolicy):
        found = model_card(policy, policy_path(name))
        if jobs:
            found["behaviour"] = _behaviour(policy, jobs, top, seed, console)
    else:
        found = _schedule(policy)
    if as_json:
        print_json(found)
    else:
        _show(found, console)


def _schedule(policy: Policy) -> dict[str, Any]:
    doc = (type(policy).__doc__ or "").split("\n")[0]
    return {
        "name": policy.name,
        "kind": "schedule",
        "description": doc,
        "hyperparameters": list(policy.space.names),
    }


def _behaviour(policy: LearnedPolicy, jobs: int, top: int, seed: int, console: Console) -> dict[str, Any]:
    """Habits, and rules or sensitivities, over what the policy meets on some jobs."""
    from rl_tuner.describe import habits, rules, sensitivities, visit
    from rl_tuner.envs.suites import suite_names
    from rl_tuner.policies import NetworkPolicy, QTablePolicy
    from rl_tuner.rewards import reward_unit

    suite = policy.provenance.get("suite")
    suite = suite if suite in suite_names() else suite_names()[0]
    with progress(console, "watching it", jobs, "jobs") as bar:
        visits = visit(policy, suite=suite, jobs=jobs, seed=seed, on_job=bar.update)
    found: dict[str, Any] = {
        "observations": len(visits.observations),
        "jobs": visits.jobs,
        "of": visits.where,
        "unit": reward_unit(policy.config.reward),
        "habits": [to_dict(habit) for habit in habits(policy, visits)],
    }
    if isinstance(policy, QTablePolicy):
        found["rules"] = [to_dict(rule) for rule in rules(policy, visits)[:top]]
    elif isinstance(policy, NetworkPolicy):
        found["sensitivities"] = [to_dict(one) for one in sensitivities(policy, visits)[:top]]
    return found


def _show(found: dict[str, Any], console: Console) -> None:
    if found["kind"] == "schedule":
        console.print(
            f"{found['name']}: a schedule of {', '.join(found['hyperparameters'])}. {found['description']}"
        )
        return
    show_card(found, console)
    if "behaviour" in found:
        _show_behaviour(found["behaviour"], console)
        if found["memory"] > 1 and "sensitivities" in found["behaviour"]:
            _note("of the newest decision: the older ones that it remembers stay as they were", console)


def _show_behaviour(found: dict[str, Any], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    found = printable(found)
    over = f"over {found['observations']} decisions on {found['jobs']} jobs of {escape(found['of'])}"
    console.print(f"\n[bold]what it does[/bold] ({over})")
    habits = Table("", "raised", "held", "lowered", "mean change a decision", box=None)
    for habit in found["habits"]:
        if habit["held"] == habit["held"]:  # NaN: none of the jobs has it
            shares = [f"{habit[key]:.0%}" for key in ("raised", "held", "lowered")]
            habits.add_row(escape(habit["hyperparameter"]), *shares, escape(habit["text"]))
    console.print(habits)
    if any("odds" in habit["text"] for habit in found["habits"]):
        _note("odds of a value p: p / (1 - p), so that 0.9 at odds × 0.5 becomes 0.82", console)
    if "rules" in found:
        _show_rules(found["rules"], found["unit"], console)
    if "sensitivities" in found:
        _show_sensitivities(found["sensitivities"], console)


def _show_rules(rules: list[dict[str, Any]], unit: str, console: Console) -> None:
    """The strongest rules, those of one situation together."""
    from rich.markup import escape
    from rich.table import Table

    console.print("\n[bold]its strongest rules[/bold]")
    if not rules:
        console.print("  it never changes anything there")
        return
    # What is so in all of them is said once.
    always = [words for words in rules[0]["when"] if all(words in rule["when"] for rule in rules)]
    if always and len(rules) > 1:
        _note(f"in all of them: {', '.join(always)}", console)
    situations: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        special = [words for words in rule["when"] if len(rules) == 1 or words not in always]
        situations.setdefault(", ".join(special) or "always", []).append(rule)
    table = Table("when, and what it then does", "worth", "decisions", box=None)
    for when, some in situations.items():
        table.add_row(f"{escape(when)}:", "", "")
        for rule in some:
            table.add_row(f"    {escape(rule['action'])}", f"+{rule['gap']:.2g}", f"{rule['share']:.0%}")
    console.print(table)
    example = " (0.1: a loss 10 % lower)" if unit == "nats" else ""
    _note(
        f"worth: by how much higher a return the table expects than of no change, in {unit}{example}; "
        "decisions: how many fall under the rule",
        console,
    )


def _show_sensitivities(found: list[dict[str, Any]], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print("\n[bold]what moves it[/bold]")
    table = Table("more (one standard deviation) of", "moves", "by, in steps", box=None)
    for one in found:
        table.add_row(escape(one["words"]), escape(one["hyperparameter"]), f"{one['slope']:+.3f}")
    console.print(table)


def _note(text: str, console: Console) -> None:
    """A line on what stands around it, wrapped also where nobody watches."""
    console.print(columns({"": text}, indent=0), soft_wrap=False)
