"""How ``rl-tuner inspect`` shows a model card. What comes from a file is a stranger's text: it is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rl_tuner.commands.console import columns

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.space import SearchSpace

MOST_LEFT_OUT = 3
"""Features that a network does not read are named where they are no more than these, else those it reads."""


def show_card(found: Mapping[str, Any], console: Console) -> None:
    """Prints a model card (see `rl_tuner.model_card`), section by section."""
    from rich.markup import escape

    card = printable(found)
    console.print(f"[bold]{escape(card['name'])}[/bold]")
    console.print(columns(_contents(card)))
    _section(console, "what it is for", {"use": card["intended_use"]})
    _section(console, "how it was trained", _training(card["training"]))
    _show_scores(card["evaluation"], console)
    _section(console, "its limits", {f"{i}.": line for i, line in enumerate(card["limits"], start=1)})
    shown = {"name", "card", *card["training"], *card["evaluation"]}
    besides = {key: words(value) for key, value in card["provenance"].items() if key not in shown}
    if besides:
        _section(console, "what its file says besides", besides)


def printable(value: Any) -> Any:
    """A JSON value whose texts hold nothing that a terminal would obey, such as escape sequences."""
    if isinstance(value, Mapping):
        return {printable(str(key)): printable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [printable(inner) for inner in value]
    if not isinstance(value, str):
        return value
    spaced = value.replace("\n", " ").replace("\t", " ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)


def words(value: Any) -> str:
    """A JSON value on one line."""
    from rl_tuner.model_card import is_estimate

    if is_estimate(value):
        return f"{_number(value['mean'])} ({_interval(value)})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(console: Console, title: str, lines: Mapping[str, str]) -> None:
    console.print(f"\n[bold]{title}[/bold]")
    console.print(columns(lines) if lines else "  not said")


def _contents(card: Mapping[str, Any]) -> dict[str, str]:
    """What the file holds: how the policy acts, and on what."""
    config, network = card["config"], card["network"]
    averages, restarts = ("on" if config[name] else "off" for name in ("averaging", "restarts"))
    rails = "on" if config["rails"] is True else "off" if config["rails"] is False else "its own"
    return {
        "kind": f"{card['kind']} ({_size(card)})",
        "file": f"{card['path']} ({card['bytes']:,} bytes, format version {card['format_version']})",
        "acts": f"{card['actions']}, {config['decisions']} decisions at {config['intervals']} intervals",
        "reward": f"{config['reward']}, rails {rails}, averages of weights {averages}, restarts {restarts}",
        "moves": ", ".join(map(_bounds, card["hyperparameters"])),
        **(_tables(network["tables"], _space(card)) if "tables" in network else {"reads": _features(card)}),
    }


def _bounds(h: Mapping[str, Any]) -> str:
    return f"{h['name']} {'0' if h['zero'] else format(h['low'], 'g')} to {h['high']:g}"


def _space(card: Mapping[str, Any]) -> SearchSpace:
    from rl_tuner.space import SearchSpace

    return SearchSpace.from_dict({"hyperparameters": card["hyperparameters"]})


def _features(card: Mapping[str, Any]) -> str:
    """What a network reads, and of how many decisions."""
    from rl_tuner.features import FeatureSet
    from rl_tuner.wording import feature_words

    space = _space(card)
    names = FeatureSet(space).names
    left_out = [name for name in names if name not in card["features"]]
    if len(left_out) <= MOST_LEFT_OUT < len(card["features"]):
        but = f" but {', '.join(feature_words(space, name) for name in left_out)}" if left_out else ""
        read = (
            f"all {len(names)} features of its search space{but}: the share of the budget, losses and "
            "gradients against earlier ones, noise, updates, and where each hyperparameter stands (--json "
            "names them)"
        )
    else:
        read = ", ".join(feature_words(space, name) for name in card["features"])
    return read if card["memory"] == 1 else f"at the last {card['memory']} decisions {read}"


def _size(card: Mapping[str, Any]) -> str:
    network = card["network"]
    if "layers" in network:
        form = "-".join(map(str, network["layers"]))
        form = f"the mean of {network['members']} networks {form}" if "members" in network else form
        return f"{form}, {network['activation']}, {network['parameters']:,} parameters"
    return f"{len(network['tables'])} tables, {network['values']:,} values"


def _tables(tables: Mapping[str, Any], space: SearchSpace) -> dict[str, str]:
    """What the tables look at: what they share once, then each one's own."""
    bins = [table["bins"] for table in tables.values()]
    shared = {feature: n for feature, n in bins[0].items() if all(b.get(feature) == n for b in bins)}
    lines = {"tables by": _bins(shared, space)} if shared else {}
    for name, table in tables.items():
        own = {feature: n for feature, n in table["bins"].items() if feature not in shared}
        lines[f"  {name}"] = f"{table['choices']} choices" + (f"; also by {_bins(own, space)}" if own else "")
    return lines


def _bins(bins: Mapping[str, int], space: SearchSpace) -> str:
    from rl_tuner.wording import feature_words

    return ", ".join(f"{feature_words(space, feature)} ({n} bins)" for feature, n in bins.items())


def _training(training: Mapping[str, Any]) -> dict[str, str]:
    """How it was learned; the jobs as the suite has them now, the versions last."""
    jobs = training.get("jobs", {})
    lines = {
        key: words(value) for key, value in training.items() if key not in ("jobs", "members", "versions")
    }
    for key in ("datasets", "architectures", "optimizers"):
        if key in jobs:
            lines[key] = ", ".join(jobs[key])
    if "members" in training:
        lines["members"] = _members(training["members"])
    if "versions" in training:
        lines["versions"] = words(training["versions"])
    return lines


def _members(commands: Sequence[str]) -> str:
    """How an ensemble's members were learned: the one command, if they differ in the seed alone."""
    alike = {re.sub(r"--seed \d+", "--seed SEED", command) for command in commands}
    return f"each by {alike.pop()}" if len(alike) == 1 else "; ".join(commands)


def _show_scores(evaluation: Mapping[str, Any], console: Console) -> None:
    """The figures that the file holds: with their intervals in a table, what they are of above it."""
    from rich.markup import escape
    from rich.table import Table

    facts = {}
    table = Table("", "mean", "95 % interval", box=None)
    for name, value in evaluation.items():
        leaves = list(_leaves(value))
        facts[name] = ", ".join(
            f"{' '.join(path)} {words(leaf)}".strip()
            for path, leaf in leaves
            if not isinstance(leaf, Mapping)
        )
        for path, leaf in leaves:
            if isinstance(leaf, Mapping):
                cells = " ".join((name, *path)), _number(leaf["mean"]), _interval(leaf)
                table.add_row(*map(escape, cells))
    _section(console, "how it scored", {name: fact for name, fact in facts.items() if fact} if facts else {})
    if table.row_count:
        console.print(table)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The estimates and plain values in a JSON value, each with its keys; of mappings only estimates."""
    from rl_tuner.model_card import is_estimate

    if isinstance(value, Mapping) and not is_estimate(value):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value


def _number(value: float) -> str:
    return f"{value:+.3f}"


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{_number(estimate['low'])} to {_number(estimate['high'])}"
