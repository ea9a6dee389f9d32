"""What may be said of a comparison in plain words: "better" only where an interval excludes zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rl_tuner.analysis import Analysis, MethodAnalysis
from rl_tuner.comparison import Comparison
from rl_tuner.report_curves import by_score
from rl_tuner.report_text import equivalents_cell, fixed, interval, words
from rl_tuner.statistics import LEVEL

VERDICTS = ("better", "worse")


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence or two, and what they are about."""

    about: str
    text: str


def headline(analysis: Analysis) -> str:
    """One sentence: what can be said of the method that scored highest."""
    if len(analysis.methods) < 2:
        return f"{analysis.methods[0].method} alone: there is nothing to compare it with."
    best = by_score(analysis)[0]
    beaten = _rivals(analysis, best, "better")
    if len(beaten) == len(analysis.methods) - 1:
        return f"{best.method} is better than every other method here."
    if not any(_rivals(analysis, method, "better") for method in analysis.methods):
        return "No difference between any two methods is shown."
    if not beaten:
        return f"{best.method} scores highest, but is not shown to be better than any other method."
    return f"{best.method} scores highest; it is shown to be better than {words(beaten)}, not than others."


def findings(comparison: Comparison, analysis: Analysis, controls: Sequence[str] = ()) -> list[Finding]:
    """All that may be said at the top of the report.

    Args:
        comparison: The runs.
        analysis: Of them.
        controls: Names of the methods that are controls of a policy, ``<policy>-<kind>``.
    """
    found = [
        _highest(analysis),
        *_against_baseline(analysis),
        *_controls(analysis, controls),
        *_worth(analysis, controls),
        *_budgets(analysis),
        *_disagreements(comparison, analysis),
        _reach(analysis),
    ]
    return [finding for finding in found if finding.text]


def _rivals(analysis: Analysis, method: MethodAnalysis, verdict: str) -> list[str]:
    """The other methods, best first, against which a method has this verdict; any other for an empty one."""
    names = [other.method for other in by_score(analysis) if other.method != method.method]
    if verdict:
        return [name for name in names if method.verdicts[name] == verdict]
    return [name for name in names if method.verdicts[name] not in VERDICTS]


def _highest(analysis: Analysis) -> Finding:
    best = by_score(analysis)[0]
    mean, between = interval(best.iqm)
    text = f"{best.method}: IQM of the normalized score {mean} {between}".rstrip() + "."
    if beaten := _rivals(analysis, best, "better"):
        text += f" Better than {words(beaten)}."
    if even := _rivals(analysis, best, ""):
        text += f" No difference is shown to {words(even)}."
    return Finding("Highest score", text)


def _against_baseline(analysis: Analysis) -> list[Finding]:
    base = next((m for m in analysis.methods if m.method == analysis.baseline), None)
    if base is None or len(analysis.methods) < 2:
        return []
    # The baseline's own verdicts, seen from the other side.
    parts = {
        "better": _rivals(analysis, base, "worse"),
        "worse": _rivals(analysis, base, "better"),
        "no difference shown": _rivals(analysis, base, ""),
    }
    text = " ".join(
        f"{verdict.capitalize()}: {', '.join(names)}." for verdict, names in parts.items() if names
    )
    return [Finding(f"Against the baseline {base.method}", text)]


def _controls(analysis: Analysis, controls: Sequence[str]) -> list[Finding]:
    methods = {m.method: m for m in analysis.methods}
    pairs: dict[str, list[str]] = {}
    for control in controls:
        policy = control.rpartition("-")[0]
        if policy in methods and control in methods:
            pairs.setdefault(policy, []).append(control)
    return [
        Finding(f"Is it what {policy} sees?", " ".join(_control(methods[policy], name) for name in names))
        for policy, names in pairs.items()
    ]


def _control(policy: MethodAnalysis, control: str) -> str:
    mean, between = interval(policy.difference[control])
    verdict = policy.verdicts[control]
    word = f"{verdict} than" if verdict in VERDICTS else "not shown to differ from"
    return f"{policy.method} is {word} {control} (difference of scores {mean} {between}).".replace(" )", ")")


def _worth(analysis: Analysis, controls: Sequence[str]) -> list[Finding]:
    single = [m for m in by_score(analysis) if m.equivalents is not None and m.budgets <= 1]
    if not single:
        return []
    best = single[0]
    cell = equivalents_cell(best.equivalents)
    text = f"{best.method}, with one run, scores as what a search of {cell.text} random trials selects"
    text += f" {cell.note}." if cell.note else "."
    trained = [m for m in analysis.methods if m.method not in controls]
    paid = list(filter(None, map(_paid, trained)))
    return [Finding("Trial equivalents", text + (f" Training has paid: {words(paid)}." if paid else ""))]


def _paid(method: MethodAnalysis) -> str:
    """After how many jobs a policy's training has paid; empty if it never has, or is not known."""
    if method.break_even is None or method.equivalents is None:
        return ""
    # It may be worth more trials than were run: then it has paid sooner.
    about = "at most" if method.equivalents.censored else "about"
    text = f"{method.method} after {about} {fixed(method.break_even, 0)} jobs"
    sure = method.equivalents.of_mean.low > method.budgets
    return text if sure else f"{text} (not shown: k* may be no more than its own budget)"


def _budgets(analysis: Analysis) -> list[Finding]:
    larger: dict[float, list[str]] = {}
    for method in analysis.methods:
        if method.budgets > 1:
            larger.setdefault(method.budgets, []).append(method.method)
    parts = [f"{words(names)} used {budgets:g} times" for budgets, names in sorted(larger.items())]
    text = f"{words(parts)} the training samples of a single run; look at the budgets beside every score."
    return [Finding("Not the same budget", text)] if parts else []


def _disagreements(comparison: Comparison, analysis: Analysis) -> list[Finding]:
    """Scores weigh jobs by what there is to gain, ratios by what is left: both are true, and may differ."""
    by_ratio = {summary.method: summary.verdict for summary in comparison.summaries}
    found = [
        f"{m.method} ({m.verdicts[analysis.baseline]} by score, {by_ratio[m.method]} by ratio of test losses)"
        for m in analysis.methods
        if m.method != analysis.baseline and m.verdicts[analysis.baseline] != by_ratio[m.method]
    ]
    text = (
        f"Against {analysis.baseline} two measures say different things of {words(found)}." if found else ""
    )
    return [Finding("It depends on the measure", text)]


def _reach(analysis: Analysis) -> Finding:
    jobs = f"{analysis.jobs} jobs" if analysis.jobs > 1 else "one job, so nothing is said about other jobs"
    text = f"{jobs}, {analysis.seeds} seed{'s' if analysis.seeds > 1 else ''} each."
    pairs = len(analysis.methods) - 1
    if pairs > 5:
        text += (
            f" Intervals are for one pair at a time: of a method's {pairs} comparisons about "
            f"{fixed((1 - LEVEL) * pairs, 1)} would show a difference by chance alone."
        )
    return Finding("How far it reaches", text[0].upper() + text[1:])
