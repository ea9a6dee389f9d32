"""How ``rl-tuner list`` shows suites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_tuner.commands.console import columns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rl_tuner.envs.suites import Suite


def suites_found(*, sizes: bool) -> dict[str, Any]:
    """All suites, JSON-able.

    Args:
        sizes: Also the number of samples of each data set, which are made or read for that.
    """
    from rl_tuner.config import to_dict
    from rl_tuner.envs.datasets import open_samples
    from rl_tuner.envs.suites import load_suite, suite_names

    found: dict[str, Any] = {}
    for name in suite_names():
        suite = load_suite(name)
        parts = {split: mixture.parts for split, mixture in suite.splits.items()}
        found[name] = {
            "description": suite.description,
            "families": suite.families,
            "splits": {split: [to_dict(part) for part in some] for split, some in parts.items()},
        }
        if sizes:
            datasets = sorted({d for some in parts.values() for part in some for d in part.datasets})
            found[name]["sizes"] = {dataset: len(open_samples(dataset, 0)) for dataset in datasets}
    return found


def show_suites(entries: dict[str, Any], console: Console) -> None:
    """A line for each suite; where sizes were asked for, also what its splits draw from."""
    from rl_tuner.envs.suites import STANDARD_SUITE, load_suite

    console.print(columns({name: entry["description"] for name, entry in entries.items()}))
    repeated = load_suite(STANDARD_SUITE).families  # each of these is a suite, too
    for name, entry in entries.items():
        if "sizes" in entry and name not in repeated:
            console.print()
            console.print(_table(load_suite(name), entry["sizes"]))


def _table(suite: Suite, sizes: dict[str, int]) -> Table:
    """A suite's families, each with what the train split draws from and what the others hold out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from rl_tuner.envs.jobs import SPLITS
    from rl_tuner.envs.suites import AXES

    table = Table(box=SIMPLE_HEAD, title=suite.name, title_justify="left", show_lines=False)
    for head in ("", "train draws from", "validation holds out", "test holds out"):
        table.add_column(head, overflow="fold")
    weights = sum(part.weight for part in suite.splits["train"].parts)
    for family in suite.families:
        mine = {split: suite.splits[split].only(family=family).parts for split in SPLITS}
        table.add_row(family, f"{mine['train'][0].weight / weights:.0%} of the jobs", "", "")
        for row, axis in enumerate(AXES):
            cells = []
            for split in SPLITS:
                parts = [part for part in mine[split] if split == "train" or axis in part.unseen]
                cells.append(_values(parts[0], axis, sizes) if parts else "-")
            table.add_row(f"  {axis}", *cells, end_section=row == len(AXES) - 1)
    return table


def _values(part: Any, axis: str, sizes: dict[str, int]) -> str:
    """What a family's part draws from along an axis."""
    if axis == "horizon":
        return f"{part.budget[0]:,} to {part.budget[1]:,} samples"
    if axis == "dataset":
        return ", ".join(f"{dataset} ({sizes[dataset]:,})" for dataset in part.datasets)
    return ", ".join(part.architectures if axis == "architecture" else part.optimizers)
