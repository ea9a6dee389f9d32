from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rl_tuner.analysis import TAUS, Analysis, MethodAnalysis, analyse
from rl_tuner.comparison import Comparison
from rl_tuner.config import to_dict
from rl_tuner.errors import ConfigError
from rl_tuner.files import plain
from rl_tuner.results import Row
from tests.comparing import make_record, make_row
from tests.searching_rows import make_trial, search_row

INF = float("inf")


def rows_of(method: str, losses: Sequence[Sequence[float]], **changes: Any) -> list[Row]:
    """Runs with these test losses (jobs, seeds), from 2.0 before training."""
    values: dict[str, Any] = {"start_test_loss": 2.0, "job_budget": 100} | changes
    return [
        make_row(method, job, seed, loss, **values)
        for job, line in enumerate(losses)
        for seed, loss in enumerate(line)
    ]


def compared(*rows: list[Row]) -> Comparison:
    methods = tuple(own[0].method for own in rows)
    return Comparison(tuple(row for own in rows for row in own), methods, methods[0])


def by_name(analysis: Analysis) -> dict[str, MethodAnalysis]:
    return {method.method: method for method in analysis.methods}


def noisy(scale: float = 1.0, jobs: int = 6, seeds: int = 3, seed: int = 0) -> list[list[float]]:
    found: list[list[float]] = (scale * np.random.default_rng(seed).uniform(0.4, 0.6, (jobs, seeds))).tolist()
    return found


@pytest.fixture
def small() -> dict[str, MethodAnalysis]:
    """Scores of a: 1/3, 2/3; 2/3, 1. Scores of b: 1, 1/3; 1/3, -1."""
    a = rows_of("a", [[1.5, 1.0], [1.0, 0.5]])
    b = rows_of("b", [[0.5, 1.5], [1.5, INF]])
    b[3] = make_row("b", 1, 1, INF, start_test_loss=2.0, job_budget=100, crashed=True)
    return by_name(analyse(compared(a, b)))


def test_means_and_ranks_computed_by_hand(small: dict[str, MethodAnalysis]) -> None:
    a, b = small["a"], small["b"]
    assert a.mean_score.mean == pytest.approx(2 / 3)  # of 1/2 and 5/6
    assert a.mean_score.half_width == pytest.approx(stats.t.ppf(0.975, 1) * (1 / 3) / 2)
    assert b.mean_score.mean == pytest.approx(1 / 6)
    assert a.iqm.mean == pytest.approx(2 / 3)
    assert b.iqm.mean == pytest.approx(1 / 3)
    assert (a.rank.mean, b.rank.mean) == (1.25, 1.75)
    assert (a.crash_rate.mean, b.crash_rate.mean) == (0, 0.25)
    assert a.budgets == b.budgets == 1


def test_pairs_of_methods_computed_by_hand(small: dict[str, MethodAnalysis]) -> None:
    a, b = small["a"], small["b"]
    # Job 0: of (1.5, 1.0) against (0.5, 1.5): tie half, win: 1.5 of 4. Job 1: all four.
    assert a.probability["b"].mean == pytest.approx((1.5 / 4 + 1) / 2)
    assert b.probability["a"].mean == pytest.approx(1 - a.probability["b"].mean)
    # Per job -1/6 and 7/6.
    assert a.difference["b"].mean == pytest.approx(0.5)
    assert b.difference["a"].mean == pytest.approx(-0.5)
    assert a.difference["b"].n == 2
    assert a.verdicts == {"b": "no difference shown"}


def test_the_profile_and_its_band_stand_at_the_thresholds(small: dict[str, MethodAnalysis]) -> None:
    profile = dict(zip(TAUS, small["b"].profile, strict=True))
    assert (profile[0.0], profile[0.33], profile[0.34], profile[0.99], profile[1.0]) == (
        0.75,
        0.75,
        0.25,
        0.25,
        0.0,
    )
    assert len(small["b"].profile_low) == len(small["b"].profile_high) == len(TAUS)


def test_a_method_that_is_steadily_better_is_called_better_and_the_other_worse() -> None:
    found = by_name(analyse(compared(rows_of("a", noisy()), rows_of("b", noisy(1.5, seed=1)))))
    assert found["a"].verdicts["b"] == "better"
    assert found["b"].verdicts["a"] == "worse"
    assert found["a"].difference["b"].low > 0
    assert found["a"].probability["b"].mean > 0.95


def test_the_word_better_stands_only_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(3)
    words = []
    for _ in range(60):
        losses = rng.lognormal(-1, 0.3, (2, 4, 2)) * [[[1.0]], [[rng.choice([0.6, 1.0])]]]
        found = analyse(compared(rows_of("a", losses[0].tolist()), rows_of("b", losses[1].tolist())))
        for method in found.methods:
            for other, e in method.difference.items():
                expected = "better" if e.low > 0 else "worse" if e.high < 0 else "no difference shown"
                assert method.verdicts[other] == expected
                words.append(expected)
    assert {"better", "worse", "no difference shown"} == {*words}


def test_the_order_of_methods_and_of_rows_changes_nothing() -> None:
    parts = [
        rows_of(name, noisy(scale, seed=i))
        for i, (name, scale) in enumerate(zip("abc", (1, 1.2, 2), strict=True))
    ]
    parts.append(random_search())
    there, back = analyse(compared(*parts)), analyse(compared(*[part[::-1] for part in parts[::-1]]))
    assert by_name(there) == by_name(back)
    assert there.best_of == back.best_of


def test_the_unit_of_a_jobs_loss_changes_nothing() -> None:
    parts = [rows_of("a", noisy()), rows_of("b", noisy(1.2, seed=1))]
    scaled = [
        [_scaled(row, 2.0**row.job) for row in part] for part in parts
    ]  # powers of two: rounding is the same too
    there, back = analyse(compared(*parts)), analyse(compared(*scaled))
    assert there == back


def _scaled(row: Row, unit: float) -> Row:
    records = tuple(replace(record, best=unit * record.best) for record in row.records)
    names = ("test_loss", "val_loss", "start_val_loss", "start_test_loss")
    return replace(row, records=records, **{name: unit * getattr(row, name) for name in names})


def test_two_of_the_same_method_share_their_rank_and_do_not_differ() -> None:
    losses = noisy()
    found = by_name(analyse(compared(rows_of("a", losses), rows_of("b", noisy(2)), rows_of("a-2", losses))))
    first, second = found["a"], found["a-2"]
    assert first.rank.mean == second.rank.mean == 1.5
    assert found["b"].rank.mean == 3
    assert (first.difference["a-2"].low, first.difference["a-2"].high) == (0, 0)
    assert first.verdicts["a-2"] == "no difference shown"
    assert first.probability["a-2"].mean == 0.5
    assert first.iqm == second.iqm


def test_an_exploded_run_costs_its_method_no_more_than_the_floor() -> None:
    losses = [[0.5], [0.5], [0.5], [0.5]]
    found = by_name(
        analyse(
            compared(
                rows_of("a", losses), rows_of("b", [[1e9], *losses[1:]]), rows_of("c", [[INF], *losses[1:]])
            )
        )
    )
    assert found["a"].mean_score.mean == 1
    assert found["b"].mean_score.mean == found["c"].mean_score.mean == (3 - 1) / 4


def test_the_anytime_curve_and_the_time_to_target_are_of_validation() -> None:
    slow = (make_record(0, 50, 1.0), make_record(1, 100, 0.0))
    quick = (make_record(0, 25, 0.1), make_record(1, 100, 0.1))
    crashed = (make_record(0, 25, INF),)
    rows = [
        [
            make_row(name, job, 0, 0.5, records=records, val_loss=0.0, start_test_loss=2.0, job_budget=100)
            for job in range(3)
        ]
        for name, records in (("slow", slow), ("quick", quick), ("crashed", crashed))
    ]
    analysis = analyse(compared(*rows))
    found = by_name(analysis)
    assert analysis.shares[-1] == 1
    at = {share: i for i, share in enumerate(np.round(analysis.shares, 6).tolist())}
    assert [found["slow"].anytime[at[x]] for x in (0, 0.475, 0.5, 0.975, 1)] == [0, 0, 0.5, 0.5, 1]
    assert [found["quick"].anytime[at[x]] for x in (0.225, 0.25, 1)] == pytest.approx([0, 0.95, 0.95])
    assert [found[name].time_to_target.mean for name in found] == [1, 0.25, INF]
    assert [found[name].reached for name in found] == [1, 1, 0]


def random_search(jobs: int = 6, seeds: int = 3, trials: int = 4, seed: int = 5) -> list[Row]:
    losses = np.random.default_rng(seed).uniform(0.4, 1.6, (jobs, seeds, trials))
    return [
        search_row(f"random@{trials}", job, s, [(loss, loss) for loss in losses[job, s].tolist()])
        for job in range(jobs)
        for s in range(seeds)
    ]


def test_a_random_search_is_worth_its_own_number_of_trials() -> None:
    analysis = analyse(compared(rows_of("a", [[x[0]] for x in noisy(2)]), random_search(seeds=1)))
    search = by_name(analysis)["random@4"]
    assert analysis.pool == 4
    assert analysis.shares[-1] == 4
    assert search.budgets == 4
    assert search.equivalents is not None
    assert search.equivalents.of_mean.mean == pytest.approx(4)
    assert not search.equivalents.censored
    assert analysis.best_of is not None
    assert analysis.best_of[-1] == pytest.approx(search.mean_score.mean)
    assert list(analysis.best_of) == sorted(analysis.best_of)


def test_the_mean_of_the_trials_is_worth_one_trial() -> None:
    search = random_search()
    mean = [
        [float(np.mean([t.test_loss for t in search[3 * j + s].trials])) for s in range(3)] for j in range(6)
    ]
    found = by_name(analyse(compared(rows_of("a", mean), search)))["a"].equivalents
    assert found is not None
    assert found.of_mean.mean == pytest.approx(1)


def test_searches_with_several_seeds_are_one_pool_of_a_jobs_trials() -> None:
    searches = random_search(jobs=40)
    losses = [
        [min(t.test_loss for row in searches[3 * j : 3 * j + 3] for t in row.trials)] * 3 for j in range(40)
    ]
    analysis = analyse(compared(rows_of("best of all", losses), searches))
    assert analysis.pool == 12
    assert analysis.best_of is not None
    assert analysis.best_of[-1] == pytest.approx(1)
    found = by_name(analysis)
    best, search = found["best of all"].equivalents, found["random@4"].equivalents
    assert best is not None
    assert search is not None
    assert best.of_mean.mean == pytest.approx(12)
    assert search.of_mean.low < 4 < search.of_mean.high < 6
    one_job = [[row for row in rows if row.job == 0] for rows in (rows_of("best of all", losses), searches)]
    assert analyse(compared(*one_job)).pool == 4


def test_a_pool_of_several_seeds_computed_by_hand() -> None:
    """Each trial is scored from the loss before training of its own seed."""
    first = search_row("random@1", 0, 0, [(0.5, 1.0)], start_test_loss=3.0)
    second = search_row("random@1", 0, 1, [(0.6, 0.5)], start_test_loss=1.5)
    other = [search_row("random@1", 1, s, [(0.5, 0.5)]) for s in range(2)]
    # Best known 0.5: scores 2 / 2.5 and 1, of which validation prefers the first. The other job's are 1 each.
    assert analyse(compared([first, second, *other])).best_of == pytest.approx(((0.9 + 1) / 2, (0.8 + 1) / 2))


def test_the_largest_random_search_is_the_pool_and_others_are_none() -> None:
    small, large = random_search(trials=2), random_search(trials=5, seed=6)
    shared = [replace(row, method="random/16") for row in random_search(trials=16)]
    tpe = [replace(row, method="tpe@8") for row in random_search(trials=8)]
    assert analyse(compared(shared, tpe)).best_of is None
    assert analyse(compared(shared, tpe)).methods[0].equivalents is None
    assert analyse(compared(small, large, shared, tpe)).pool == 3 * 5


def test_trials_cut_short_are_not_of_the_pool_and_the_smallest_pool_decides() -> None:
    trials = [make_trial(0.5, 0.5), make_trial(0.7, 0.7), make_trial(INF, INF, 10, crashed=True)]
    cut = make_trial(1.5, 1.5, 90, pruned=True)
    rows = [search_row("random@3", 0, 0, [*trials, cut]), search_row("random@3", 0, 1, trials[:2])]
    analysis = analyse(compared(rows))
    assert analysis.pool == 2
    # Seed 0: 1, 2/3·… of (0.5, 0.7, inf), the best known loss 0.5: scores 1, 13/15, -1.
    one, two = (1 + 13 / 15 - 1) / 3, (1 * 2 + 13 / 15) / 3
    assert analysis.best_of == pytest.approx(((one + 14 / 15) / 2, (two + 1) / 2))


def test_training_pays_after_its_episodes_over_the_runs_that_a_job_saves() -> None:
    search = random_search(seeds=1)
    losses = [[min(t.test_loss for t in row.trials)] for row in search]
    comparison = compared(rows_of("a", losses), rows_of("b", [[x[0]] for x in noisy(4)]), search)
    found = by_name(analyse(comparison, {"a": 3000, "b": 3000}))
    assert found["a"].break_even == pytest.approx(3000 / (4 - 1))
    assert found["b"].equivalents is not None
    assert found["b"].equivalents.of_mean.mean < 1
    assert found["b"].break_even is None
    assert found["random@4"].break_even is None  # nobody said that it was trained
    with pytest.raises(ConfigError, match="training_budgets must be >= 0, got -1"):
        analyse(comparison, {"a": -1})


def crashed_row(method: str, job: int, seed: int) -> Row:
    return make_row(
        method,
        job,
        seed,
        INF,
        val_loss=INF,
        start_val_loss=INF,
        start_test_loss=INF,
        job_budget=100,
        crashed=True,
        records=(),
    )


@pytest.mark.parametrize(
    "comparison",
    [
        compared([crashed_row("a", 0, 0)], [crashed_row("b", 0, 0)]),
        compared(*[[crashed_row(m, j, s) for j in range(2) for s in range(2)] for m in "ab"]),
        compared(rows_of("a", [[0.5]])),
        compared(rows_of("a", [[0.5, 0.6]]), rows_of("b", [[INF, 0.6]])),
        compared(rows_of("a", [[0.5], [2.0]]), rows_of("b", [[3.0], [2.0]])),
        compared([search_row("random@2", 0, 0, [(INF, INF), (INF, INF)])], rows_of("a", [[0.5]])),
        compared([search_row("random@1", 0, 0, [make_trial(0.5, 0.5, 90, pruned=True)])]),
        compared(rows_of("a", [[2.0, 2.0]]), rows_of("b", [[2.0, 2.0]])),
    ],
)
def test_any_comparison_has_an_analysis_that_json_can_hold(comparison: Comparison) -> None:
    analysis = analyse(comparison)
    data = plain(to_dict(analysis))
    json.dumps(data, allow_nan=False)
    assert [m["method"] for m in data["methods"]] == list(comparison.methods)
    for method in analysis.methods:
        assert -1 <= method.iqm.mean <= 1
        assert -1 <= method.mean_score.mean <= 1
        assert 1 <= method.rank.mean <= len(comparison.methods)
        assert np.isfinite(method.anytime).all()
        assert set(method.verdicts.values()) <= {"no difference shown", "too few runs"}


def test_the_interval_of_the_iqm_is_about_other_jobs_and_the_stratified_one_about_these() -> None:
    apart = [[0.5 + 0.2 * job + 0.01 * seed for seed in range(4)] for job in range(6)]
    best = rows_of("b", [[0.1] * 4] * 6)
    found, _ = analyse(compared(rows_of("a", apart), best)).methods
    assert found.iqm.mean == found.iqm_stratified.mean
    assert found.iqm.half_width > 5 * found.iqm_stratified.half_width > 0
    single, _ = analyse(compared(rows_of("a", [line[:1] for line in apart]), best[::4])).methods
    assert single.iqm.half_width > 0
    assert np.isnan(single.iqm_stratified.low)


def test_a_comparison_that_lacks_a_row_has_no_analysis() -> None:
    rows = rows_of("a", noisy())
    with pytest.raises(ConfigError, match="one row for each of 6 jobs and 3 seeds, got 17"):
        analyse(compared(rows[:-1]))


def test_the_same_comparison_has_the_same_analysis(untouched_rng: None) -> None:
    comparison = compared(rows_of("a", noisy()), random_search())
    assert analyse(comparison) == analyse(comparison)
