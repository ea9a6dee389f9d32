from __future__ import annotations

import re
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_tuner.analysis import Analysis, MethodAnalysis, analyse
from rl_tuner.comparison import Comparison
from rl_tuner.equivalents import Equivalents
from rl_tuner.report_findings import findings, headline
from rl_tuner.statistics import Estimate
from tests.comparing import failed, make_comparison, small
from tests.reporting import CONTROLS, full

EVEN = [[1.0, 1.1], [1.2, 0.9], [1.0, 1.05]]


def noisy(level: float, spread: float, seed: int) -> list[list[float]]:
    found: list[list[float]] = (level + spread * np.random.default_rng(seed).uniform(-1, 1, (6, 3))).tolist()
    return found


def said(comparison: Comparison, controls: tuple[str, ...] = ()) -> dict[str, str]:
    return {finding.about: finding.text for finding in findings(comparison, analyse(comparison), controls)}


def test_the_headline_of_a_clear_winner_says_so() -> None:
    comparison = make_comparison(constant=noisy(1.0, 0.05, 0), x=noisy(0.3, 0.05, 1), y=noisy(0.6, 0.05, 2))
    assert headline(analyse(comparison)) == "x is better than every other method here."


def test_the_headline_of_a_partial_winner_names_whom_it_beats() -> None:
    comparison = make_comparison(constant=noisy(1.0, 0.05, 0), x=noisy(0.3, 0.1, 1), y=noisy(0.3, 0.1, 2))
    text = headline(analyse(comparison))
    assert "it is shown to be better than constant, not than others" in text


def test_the_headline_of_equals_says_that_nothing_is_shown() -> None:
    comparison = make_comparison(constant=EVEN, x=EVEN[::-1])
    assert headline(analyse(comparison)) == "No difference between any two methods is shown."


def test_a_method_alone_is_compared_with_nothing() -> None:
    comparison = make_comparison(constant=EVEN)
    assert "nothing to compare" in headline(analyse(comparison))
    assert set(said(comparison)) == {"Highest score", "How far it reaches"}


levels = st.lists(st.floats(0.2, 1.5), min_size=2, max_size=4)


@settings(max_examples=20)
@given(levels, st.floats(0, 0.5), st.integers(0, 20))
def test_better_is_said_only_where_the_paired_interval_excludes_zero(
    means: list[float], spread: float, seed: int
) -> None:
    rows = {f"m{i}": noisy(level, spread * level, seed + i) for i, level in enumerate(means)}
    comparison = make_comparison(**rows)
    analysis = analyse(comparison)
    first = max(analysis.methods, key=lambda m: m.iqm.mean)
    beaten = {name for name, e in first.difference.items() if e.low > 0}
    sentence = said(comparison)["Highest score"]
    named = sentence.partition("Better than ")[2].partition(".")[0].replace(" and ", ", ")
    assert set(filter(None, named.split(", "))) == beaten
    if not beaten:
        assert "better than" not in headline(analysis).replace("not shown to be better than", "")


def test_the_baselines_rivals_are_sorted_by_what_is_shown() -> None:
    comparison = make_comparison(
        constant=noisy(0.6, 0.02, 0),
        up=noisy(0.3, 0.02, 1),
        down=noisy(1.5, 0.02, 2),
        same=noisy(0.6, 0.2, 3),
    )
    assert said(comparison)["Against the baseline constant"] == (
        "Better: up. Worse: down. No difference shown: same."
    )


def test_controls_are_called_out_for_each_policy() -> None:
    comparison, _ = full()
    text = said(comparison, CONTROLS)["Is it what default sees?"]
    assert text.count("default is ") == 3
    assert all(name in text for name in CONTROLS)
    assert "better than default-untrained" in text
    assert "not shown to differ from default-replay" in text
    assert "Is it what default sees?" not in said(comparison)


def test_a_larger_budget_is_never_passed_over() -> None:
    comparison, _ = full()
    text = said(comparison)["Not the same budget"]
    assert "8 times the training samples" in text
    assert all(name in text for name in comparison.methods if "@8" in name)
    assert "Not the same budget" not in said(small())


def test_trial_equivalents_are_of_the_best_method_with_one_run_and_pay_for_no_control() -> None:
    comparison, analysis = full()
    text = said(comparison)["Trial equivalents"]
    assert text.startswith("default, with one run")
    paid = replace(analysis, methods=tuple(_paid(m) for m in analysis.methods))
    found = {f.about: f.text for f in findings(comparison, paid, CONTROLS)}
    assert re.search(r"Training has paid: default after (about|at most) 120 jobs", found["Trial equivalents"])
    assert "default-blind after" not in found["Trial equivalents"]


@pytest.mark.parametrize(
    ("low", "censored", "text"),
    [
        (1.5, False, "default after about 120 jobs."),
        (1.5, True, "default after at most 120 jobs."),
        (0.9, False, "default after about 120 jobs (not shown: k* may be no more than its own budget)."),
        (nan, False, "default after about 120 jobs (not shown: k* may be no more than its own budget)."),
    ],
)
def test_that_training_has_paid_is_said_as_surely_as_it_is_known(
    low: float, censored: bool, text: str
) -> None:
    comparison, analysis = full()
    worth = Equivalents(Estimate(3.0, low, 5.0, 4), Estimate(3.0, low, 5.0, 4), 8, censored, 0.0)
    methods = tuple(replace(_paid(m), equivalents=worth) for m in analysis.methods)
    found = {f.about: f.text for f in findings(comparison, replace(analysis, methods=methods), CONTROLS)}
    assert "default, with one run, scores as" in found["Trial equivalents"]
    assert f"Training has paid: {text}" in found["Trial equivalents"]


def _paid(method: MethodAnalysis) -> MethodAnalysis:
    return replace(method, break_even=120.4) if method.method in ("default", "default-blind") else method


def test_two_measures_that_disagree_are_named() -> None:
    comparison, analysis = full()
    cosine = next(m for m in analysis.methods if m.method == "cosine")
    other = "worse" if cosine.verdicts["constant"] != "worse" else "better"
    changed = replace(cosine, verdicts={**cosine.verdicts, "constant": other})
    methods = tuple(changed if m is cosine else m for m in analysis.methods)
    found = {f.about: f.text for f in findings(comparison, replace(analysis, methods=methods))}
    assert f"cosine ({other} by score" in found["It depends on the measure"]


def test_one_job_says_nothing_about_others() -> None:
    text = said(make_comparison(constant=[[1.0, 1.1, 1.2]], x=[[0.5, 0.4, 0.6]]))["How far it reaches"]
    assert text == "One job, so nothing is said about other jobs, 3 seeds each."


def test_many_comparisons_are_warned_of() -> None:
    comparison, analysis = full()
    assert "about 0.7 would show a difference by chance" in findings(comparison, analysis)[-1].text
    assert "chance" not in said(small())["How far it reaches"]


@pytest.mark.parametrize("comparison", [failed(), make_comparison(constant=[[0.0]], x=[[0.0]])])
def test_every_comparison_has_something_to_say(comparison: Comparison) -> None:
    analysis: Analysis = analyse(comparison)
    assert headline(analysis).endswith(".")
    assert all(finding.text.endswith(".") for finding in findings(comparison, analysis))
