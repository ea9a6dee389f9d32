"""Numbers as a reader wants them: as many digits as an interval supports, and a word where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, isfinite, isnan, log10

from rl_tuner.analysis import MethodAnalysis
from rl_tuner.comparison import MethodSummary
from rl_tuner.equivalents import Equivalents
from rl_tuner.statistics import Estimate

HUGE = 1e6
"""Numbers from here on are written with an exponent."""
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table.

    Attributes:
        text: The number.
        note: In small print below: its interval, or what it allows to say.
        tone: "better", "worse" or nothing.
    """

    text: str
    note: str = ""
    tone: str = ""


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent where it can be helped."""
    if isnan(value):
        return NONE
    if not isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < HUGE:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    return fixed(value, max(digits - 1 - floor(log10(abs(value))), 0))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, thousands apart and a true minus sign; minus nothing is nothing."""
    if not isfinite(value):
        return number(value)
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text.replace("-", MINUS)


def interval(estimate: Estimate, least: int = 2) -> tuple[str, str]:
    """A mean and its interval, all with the decimals that show two digits of the interval's half width.

    Args:
        estimate: What is written.
        least: Decimals there are at least, where the interval is wide.

    Returns:
        The mean, and the interval in brackets, empty where there is none.
    """
    if isnan(estimate.low) or isnan(estimate.high):
        return number(estimate.mean), ""
    if max(abs(estimate.low), abs(estimate.mean), abs(estimate.high)) >= HUGE:
        return number(estimate.mean), f"[{number(estimate.low)}, {number(estimate.high)}]"
    half = estimate.half_width
    decimals = min(max(1 - floor(log10(half)), least), 5) if isfinite(half) and half > 0 else max(least, 2)
    low, high = fixed(estimate.low, decimals), fixed(estimate.high, decimals)
    return fixed(estimate.mean, decimals), f"[{low}, {high}]"


def estimate_cell(estimate: Estimate, least: int = 2) -> Cell:
    """A mean above its interval."""
    return Cell(*interval(estimate, least))


def words(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def loss_cell(summary: MethodSummary) -> Cell:
    """The median test loss, which no single run decides; how many runs have none, where some have none."""
    median, between = interval(summary.median_test_loss, 0)
    missing = f"{summary.not_finite} not finite" if summary.not_finite else ""
    return Cell(median, "\n".join(filter(None, (between, missing))))


def ratio_cell(summary: MethodSummary, baseline: str) -> Cell:
    """The geometric mean of the loss ratios to the baseline, and what its interval allows to say."""
    if summary.method == baseline:
        return Cell("1", "baseline")
    ratio, tone = summary.log_ratio, summary.verdict if summary.verdict in ("better", "worse") else ""
    if not isfinite(ratio.mean):
        return Cell("undefined", summary.verdict, tone)
    if not isfinite(ratio.low):
        return Cell(number(exp(ratio.mean)), summary.verdict, tone)
    mean, low, high = (number(_exp(x)) for x in (ratio.mean, ratio.low, ratio.high))
    return Cell(mean, f"[{low}, {high}]\n{summary.verdict}", tone)


def _exp(value: float) -> float:
    return exp(min(value, 700.0))  # beyond, there is no float


def equivalents_cell(worth: Equivalents | None) -> Cell:
    """The trial equivalents; "> K" where random search never got as far."""
    if worth is None:
        return Cell(NONE)
    low, high = (fixed(x, 1) for x in (worth.of_mean.low, worth.of_mean.high))
    more = "+" if worth.of_mean.high >= worth.pool else ""
    between = "" if isnan(worth.of_mean.low) else f"[{low}, {high}{more}]"
    return Cell(f"> {worth.pool}" if worth.censored else fixed(worth.of_mean.mean, 1), between)


def time_cell(method: MethodAnalysis) -> Cell:
    """The median time to the target, and how many runs got there."""
    time = method.time_to_target
    reached = f"{percent(method.reached)} reach it"
    return Cell(fixed(time.mean, 2), reached) if isfinite(time.mean) else Cell("not reached", reached)


def percent(share: float) -> str:
    """A share in percent, without decimals unless it is small."""
    return f"{fixed(100 * share, 1 if 0 < share < 0.01 else 0)}%"


def percent_cell(estimate: Estimate) -> Cell:
    """A share in percent with its interval."""
    if isnan(estimate.low):
        return Cell(percent(estimate.mean))
    return Cell(percent(estimate.mean), f"[{fixed(100 * estimate.low, 0)}, {fixed(100 * estimate.high, 0)}]")
