from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.report_text import (
    MINUS,
    NONE,
    Cell,
    equivalents_cell,
    estimate_cell,
    fixed,
    interval,
    loss_cell,
    number,
    percent,
    percent_cell,
    ratio_cell,
    time_cell,
    words,
)
from rl_tuner.statistics import Estimate
from tests.comparing import failed, make_comparison, small
from tests.reporting import full, method

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (1.0, "1.00"),
        (-12.345, f"{MINUS}12.3"),
        (123456.0, "123,456"),
        (0.00001234, f"1.23e{MINUS}05"),
        (INF, "∞"),
        (-INF, f"{MINUS}∞"),
        (NAN, NONE),
    ],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234.5, 0, "1,234"),
        (-0.0004, 2, "0.00"),
        (-0.5, 1, f"{MINUS}0.5"),
        (INF, 2, "∞"),
        (0.125, 3, "0.125"),
    ],
)
def test_a_number_with_so_many_decimals_has_no_minus_zero(value: float, decimals: int, text: str) -> None:
    assert fixed(value, decimals) == text


@given(st.floats(-1e5, 1e5), st.integers(0, 5))
def test_what_is_written_is_the_number_within_its_last_decimal(value: float, decimals: int) -> None:
    written = float(fixed(value, decimals).replace(",", "").replace(MINUS, "-"))
    assert abs(written - value) <= 0.5 * 10**-decimals * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("estimate", "mean", "between"),
    [
        (Estimate(0.98765, 0.981, 0.994, 5), "0.9877", "[0.9810, 0.9940]"),
        (Estimate(0.5, 0.2, 0.8, 5), "0.50", "[0.20, 0.80]"),
        (Estimate(0.5, 0.5, 0.5, 5), "0.50", "[0.50, 0.50]"),
        (Estimate(0.5, NAN, NAN, 1), "0.500", ""),
        (Estimate(INF, NAN, NAN, 2), "∞", ""),
        (Estimate(-0.01, -0.05, 0.03, 5), f"{MINUS}0.010", f"[{MINUS}0.050, 0.030]"),
    ],
)
def test_an_interval_shows_two_digits_of_its_half_width(estimate: Estimate, mean: str, between: str) -> None:
    assert interval(estimate) == (mean, between)
    assert estimate_cell(estimate) == Cell(mean, between)


def test_names_are_said_as_a_sentence_has_them() -> None:
    assert [words([]), words(["a"]), words(["a", "b"]), words(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_losses_that_are_not_finite_are_counted_not_averaged() -> None:
    assert loss_cell(failed().summaries[0]) == Cell("∞", "2 not finite")
    one = make_comparison(constant=[[1.0, 2.0], [3.0, float("inf")]]).summaries[0]
    assert loss_cell(one).text.startswith("2.5")
    assert loss_cell(one).note.endswith("1 not finite")


def test_one_exploded_run_does_not_decide_a_methods_loss_and_huge_numbers_stay_short() -> None:
    exploded = make_comparison(constant=[[0.1, 0.12], [0.2, 0.21], [0.15, 5e25]]).summaries[0]
    cell = loss_cell(exploded)
    assert float(cell.text) == pytest.approx(0.175, abs=0.01)
    assert len(cell.note) < 30
    assert estimate_cell(Estimate(2.5e25, -1e20, 5e25, 3)) == Cell("2.50e+25", f"[{MINUS}1.00e+20, 5.00e+25]")


def test_a_ratio_has_its_interval_and_the_verdict_that_goes_with_it() -> None:
    base, other = small().summaries
    assert ratio_cell(base, "constant") == Cell("1", "baseline")
    sure = replace(other, log_ratio=Estimate(-0.6931, -0.9, -0.5, 5), verdict="better")
    assert ratio_cell(sure, "constant") == Cell("0.500", "[0.407, 0.607]\nbetter", "better")
    unsure = replace(other, log_ratio=Estimate(0.0, -0.1, 0.1, 5), verdict="no difference shown")
    assert ratio_cell(unsure, "constant") == Cell("1.00", "[0.905, 1.11]\nno difference shown")
    single = replace(other, log_ratio=Estimate(-0.6931, NAN, NAN, 1), verdict="too few runs")
    assert ratio_cell(single, "constant") == Cell("0.500", "too few runs")
    lost = replace(other, log_ratio=Estimate(INF, NAN, NAN, 5), verdict="no difference shown")
    assert ratio_cell(lost, "constant") == Cell("undefined", "no difference shown")
    wild = replace(other, log_ratio=Estimate(5.0, -2000.0, 2010.0, 5), verdict="no difference shown")
    assert ratio_cell(wild, "constant").text == "148"


def test_trial_equivalents_beyond_the_pool_are_more_than_it() -> None:
    found = method(full()[1], "cosine")
    assert found.equivalents is not None
    inside = replace(found.equivalents, of_mean=Estimate(3.25, 2.0, 8.0, 3), pool=8, censored=False)
    assert equivalents_cell(inside) == Cell("3.2", "[2.0, 8.0+]")
    beyond = replace(inside, of_mean=Estimate(8.0, 6.5, 8.0, 3), censored=True)
    assert equivalents_cell(beyond) == Cell("> 8", "[6.5, 8.0+]")
    assert equivalents_cell(None) == Cell(NONE)


def test_a_time_says_how_many_runs_got_there() -> None:
    found = method(full()[1], "cosine")
    got = replace(found, time_to_target=Estimate(0.25, 0.2, INF, 3), reached=0.8)
    assert time_cell(got) == Cell("0.25", "80% reach it")
    never = replace(found, time_to_target=Estimate(INF, NAN, NAN, 3), reached=0.0)
    assert time_cell(never) == Cell("not reached", "0% reach it")


def test_a_share_is_percent() -> None:
    assert [percent(0.0), percent(0.004), percent(0.35), percent(1.0)] == ["0%", "0.4%", "35%", "100%"]
    assert percent_cell(Estimate(0.5, 0.25, 0.75, 4)) == Cell("50%", "[25, 75]")
    assert percent_cell(Estimate(0.5, NAN, NAN, 1)) == Cell("50%")
