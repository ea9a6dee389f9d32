"""``rl-tuner inspect``: what a policy file holds, and why it acts as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.console import Json, Seed, columns, make_console, print_json, progress
from rl_tuner.config import to_dict

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.policies import LearnedPolicy
    from rl_tuner.policy import Policy


def inspect(
    name: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A policy that comes along, a schedule, or a file.")
    ],
    jobs: Annotated[int, typer.Option(help="Jobs on which it is watched; 0 for the file alone.")] = 8,
    top: Annotated[int, typer.Option(help="How many rules or sensitivities are shown.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show what a policy file holds, and why it acts as it does.

    The policy is watched on jobs of its suite's train split: a table's
    strongest rules, or a network's sensitivities, over what it meets there.
    """
    import torch

    from rl_tuner.config import require_range
    from rl_tuner.policies import LearnedPolicy
    from rl_tuner.policy_file import load_policy

    require_range("--jobs", jobs, 0)
    require_range("--top", top, 1)
    torch.set_num_threads(1)  # the fastest for networks of this size
    policy = load_policy(name)
    console = make_console(as_json)
    found = _card(policy, name)
    if isinstance(policy, LearnedPolicy) and jobs:
        found["behaviour"] = _behaviour(policy, jobs, top, seed, console)
    if as_json:
        print_json(found)
    else:
        _show(found, console)


def _card(policy: Policy, name: str) -> dict[str, Any]:
    """What the file holds; for a schedule what it is."""
    from rl_tuner.policies import LearnedPolicy
    from rl_tuner.policy_file import FORMAT_VERSION, policy_path

    card: dict[str, Any] = {"name": policy.name}
    if not isinstance(policy, LearnedPolicy):
        doc = (type(policy).__doc__ or "").split("\n")[0]
        return card | {"kind": "schedule", "description": doc, "hyperparameters": list(policy.space.names)}
    path = policy_path(name)
    return card | {
        **_network(policy),
        "path": str(path),
        "bytes": path.stat().st_size,
        "format_version": FORMAT_VERSION,
        "actions": policy.actions.kind,
        "config": to_dict(policy.config),
        "hyperparameters": policy.space.to_dict()["hyperparameters"],
        "features": list(policy.feature_names),
        "provenance": policy.provenance,
    }


def _network(policy: LearnedPolicy) -> dict[str, Any]:
    """The kind of policy, and its size."""
    from rl_tuner.policies import MLPPolicy, QTablePolicy

    if isinstance(policy, MLPPolicy):
        sizes = [len(policy.feature_names), *(len(bias) for _, bias in policy.layers)]
        parameters = sum(weight.numel() + bias.numel() for weight, bias in policy.layers)
        network = {"layers": sizes, "activation": policy.activation, "parameters": parameters}
        return {"kind": "mlp", "network": network}
    if isinstance(policy, QTablePolicy):
        tables = {
            h.name: {
                "bins": {
                    policy.feature_names[column]: bins
                    for column, bins in zip(binning.columns, binning.shape, strict=True)
                },
                "choices": len(h.choices),
            }
            for h, binning in zip(policy.space.hyperparameters, policy.binnings, strict=True)
        }
        return {
            "kind": "q-table",
            "network": {"tables": tables, "values": sum(t.size for t in policy.tables)},
        }
    return {"kind": type(policy).__name__, "network": {}}


def _behaviour(policy: LearnedPolicy, jobs: int, top: int, seed: int, console: Console) -> dict[str, Any]:
    """Habits, and rules or sensitivities, over what the policy meets on some jobs."""
    from rl_tuner.describe import habits, rules, sensitivities, visit
    from rl_tuner.envs.suites import suite_names
    from rl_tuner.policies import MLPPolicy, QTablePolicy

    suite = policy.provenance.get("suite")
    suite = suite if suite in suite_names() else suite_names()[0]
    with progress(console, "watching it", jobs, "jobs") as bar:
        visits = visit(policy, suite=suite, jobs=jobs, seed=seed, on_job=bar.update)
    found: dict[str, Any] = {
        "observations": len(visits.observations),
        "jobs": visits.jobs,
        "of": visits.where,
        "habits": [to_dict(habit) for habit in habits(policy, visits)],
    }
    if isinstance(policy, QTablePolicy):
        found["rules"] = [to_dict(rule) for rule in rules(policy, visits)[:top]]
    elif isinstance(policy, MLPPolicy):
        found["sensitivities"] = [to_dict(one) for one in sensitivities(policy, visits)[:top]]
    return found


def _show(found: dict[str, Any], console: Console) -> None:
    if found["kind"] == "schedule":
        console.print(
            f"{found['name']}: a schedule of {', '.join(found['hyperparameters'])}. {found['description']}"
        )
        return
    _show_card(found, console)
    _show_provenance(found["provenance"], console)
    if "behaviour" in found:
        _show_behaviour(found["behaviour"], console)


def _show_card(found: dict[str, Any], console: Console) -> None:
    config, network = found["config"], found["network"]
    rails = "on" if config["rails"] is True else "off" if config["rails"] is False else "its own"
    reads = {"reads": _features(found)}
    lines = {
        "kind": f"{found['kind']} ({_size(found)})",
        "file": f"{found['path']} ({found['bytes']:,} bytes, format version {found['format_version']})",
        "actions": f"{found['actions']}, {config['decisions']} decisions at {config['intervals']} intervals",
        "reward": f"{config['reward']}, rails {rails}",
        "moves": ", ".join(map(_bounds, found["hyperparameters"])),
        **(_tables(network["tables"]) if "tables" in network else reads),
    }
    console.print(f"[bold]{found['name']}[/bold]")
    console.print(columns(lines))


def _bounds(h: dict[str, Any]) -> str:
    return f"{h['name']} {'0' if h['zero'] else format(h['low'], 'g')} to {h['high']:g}"


def _features(found: dict[str, Any]) -> str:
    from rl_tuner.features import FeatureSet
    from rl_tuner.space import SearchSpace

    space = SearchSpace.from_dict({"hyperparameters": found["hyperparameters"]})
    if tuple(found["features"]) == FeatureSet(space).names:
        return f"all {len(found['features'])} features of its search space (--json names them)"
    return ", ".join(found["features"])


def _size(found: dict[str, Any]) -> str:
    network = found["network"]
    if found["kind"] == "mlp":
        sizes = "-".join(map(str, network["layers"]))
        return f"{sizes}, {network['activation']}, {network['parameters']:,} parameters"
    return f"{len(network['tables'])} tables, {network['values']:,} values"


def _tables(tables: dict[str, Any]) -> dict[str, str]:
    """What the tables look at: what they share once, then each one's own."""
    bins = [table["bins"] for table in tables.values()]
    shared = {feature: n for feature, n in bins[0].items() if all(b.get(feature) == n for b in bins)}
    lines = {"tables by": _bins(shared)} if shared else {}
    for name, table in tables.items():
        own = {feature: n for feature, n in table["bins"].items() if feature not in shared}
        lines[f"  {name}"] = f"{table['choices']} choices" + (f"; also by {_bins(own)}" if own else "")
    return lines


def _bins(bins: dict[str, int]) -> str:
    return ", ".join(f"{feature} ({n} bins)" for feature, n in bins.items())


def _show_provenance(provenance: dict[str, Any], console: Console) -> None:
    lines = {key: _words(value) for key, value in provenance.items() if key != "name"}
    console.print("\n[bold]where it comes from[/bold]")
    console.print(columns(lines) if lines else "  not said")


def _words(value: Any) -> str:
    """A JSON value on one line."""
    if isinstance(value, dict):
        if {"mean", "low", "high"} <= set(value):
            return f"{value['mean']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _show_behaviour(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    over = f"over {found['observations']} decisions on {found['jobs']} jobs of {found['of']}"
    console.print(f"\n[bold]what it does[/bold] ({over})")
    habits = Table("", "raised", "held", "lowered", "mean change a decision", box=None)
    for habit in found["habits"]:
        if habit["held"] == habit["held"]:  # NaN: none of the jobs has it
            shares = [f"{habit[key]:.0%}" for key in ("raised", "held", "lowered")]
            habits.add_row(habit["hyperparameter"], *shares, habit["text"])
    console.print(habits)
    if "rules" in found:
        console.print("\n[bold]its strongest rules[/bold] (worth: over no change, in nats of return)")
        table = Table("change", "worth", "decisions", "when", box=None)
        for rule in found["rules"]:
            table.add_row(rule["action"], f"+{rule['gap']:.2g}", f"{rule['share']:.0%}", rule["when"])
        console.print(table if found["rules"] else "  it never changes anything there")
    if "sensitivities" in found:
        console.print(
            "\n[bold]what moves it[/bold] (change of the action, in steps, for one standard deviation more)"
        )
        table = Table("action", "feature", "change", box=None)
        for one in found["sensitivities"]:
            table.add_row(one["hyperparameter"], one["words"], f"{one['slope']:+.3f}")
        console.print(table)
