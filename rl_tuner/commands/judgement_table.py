"""What commands that make a policy show: trained against untrained, and where the policy lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def show_judgement(results: Mapping[str, Any], console: Console) -> None:
    """Prints both means with their intervals, the verdict, and the policy's file.

    Args:
        results: "policy", a path, and "validation", as `rl_tuner.judging.validation_scores` gives it.
        console: Where to.
    """
    from rich.table import Table

    validation = results["validation"]
    console.print(
        f"\nReturn on {validation['jobs']} validation jobs ({validation['unit']}; higher is better):"
    )
    table = Table()
    table.add_column("policy")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    for name in ("trained", "untrained", "difference"):
        row = validation[name]
        table.add_row(name, f"{row['mean']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}")
    console.print(table)
    low, high = validation["difference"]["low"], validation["difference"]["high"]
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
    console.print(f"The trained policy is {verdict} the untrained one on these jobs.")
    console.print(f"policy       {results['policy']}", markup=False)
    console.print(f"why it acts  rl-tuner inspect {results['policy']}", markup=False)
