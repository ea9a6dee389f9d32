"""A method compared with itself under other seeds differs from itself by chance alone, and is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from rl_tuner.analysis import analyse
from rl_tuner.comparison import Comparison, compare
from rl_tuner.method_names import load_methods
from rl_tuner.results import Row
from rl_tuner.statistics import Array
from tests.comparing import add_suite, make_row

REPEATS = 200
SHARE = 0.93
"""Of the comparisons of equals, in how many "no difference" must be said at least."""
INF = float("inf")
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(0, 0.2, shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.1 * rng.standard_t(2, shape)


def _crashing(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.where(rng.random(shape) < 0.05, INF, rng.normal(0, 0.2, shape))


def simulated(jobs: int, seeds: int, noise: Noise, rng: np.random.Generator) -> Comparison:
    """Two methods of one kind: log losses are a job's own level, a seed's luck that both share, and noise."""
    level, luck = rng.normal(0, 1.5, (jobs, 1)), rng.normal(0, 0.1, (jobs, seeds))
    start = np.exp(level + rng.uniform(0.5, 2.0, (jobs, 1)) + luck)
    losses = np.exp(level + luck + noise(rng, (2, jobs, seeds)))
    rows = [
        make_row(
            method,
            job,
            seed,
            float(losses[i, job, seed]),
            start_test_loss=float(start[job, seed]),
        )
        for job in range(jobs)
        for seed in range(seeds)
        for i, method in enumerate("ab")
    ]
    return Comparison(tuple(rows), ("a", "b"), "a")


def split(rows: list[Row], jobs: int, rng: np.random.Generator) -> Comparison:
    """Some of the jobs, with half of each one's seeds given to one method and half to another."""
    numbers = sorted({row.job for row in rows})
    chosen = []
    for job in rng.choice(numbers, jobs, replace=False).tolist():
        own = [row for row in rows if row.job == job]
        for place, index in enumerate(rng.permutation(len(own)).tolist()):
            chosen.append(replace(own[index], method="ab"[place % 2], seed=place // 2))
    return Comparison(tuple(chosen), ("a", "b"), "a")


def silent(comparisons: Iterable[Comparison]) -> tuple[float, float]:
    """Shares of the comparisons that find no difference: of scores, and of losses as a ratio."""
    found = [(analyse(c).methods[1].verdicts["a"], c.summaries[1].verdict) for c in comparisons]
    by_score, by_ratio = (
        words.count("no difference shown") / len(words) for words in zip(*found, strict=True)
    )
    return by_score, by_ratio


@pytest.mark.slow
@pytest.mark.parametrize("noise", [_normal, _heavy, _crashing])
@pytest.mark.parametrize(("jobs", "seeds"), [(5, 5), (20, 3), (1, 10)])
def test_equal_methods_are_told_apart_in_no_more_than_seven_of_a_hundred_comparisons(
    jobs: int, seeds: int, noise: Noise
) -> None:
    rng = np.random.default_rng(0)
    by_score, by_ratio = silent(simulated(jobs, seeds, noise, rng) for _ in range(REPEATS))
    assert by_score >= SHARE
    assert by_ratio >= SHARE


def test_losses_a_third_higher_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        comparison = simulated(20, 3, _normal, rng)
        worse = [
            replace(row, test_loss=1.3 * row.test_loss) if row.method == "b" else row
            for row in comparison.rows
        ]
        found.append(analyse(Comparison(tuple(worse), ("a", "b"), "a")).methods[1].verdicts["a"])
    assert found.count("worse") >= 19


@pytest.mark.slow
def test_a_schedule_that_trains_for_real_is_not_told_apart_from_itself_under_other_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_suite(monkeypatch)
    rows = list(compare(load_methods(["constant"]), "tiny", jobs=12, seeds=10).rows)
    rng = np.random.default_rng(0)
    for jobs in (5, 12):
        by_score, by_ratio = silent(split(rows, jobs, rng) for _ in range(REPEATS))
        assert by_score >= SHARE
        assert by_ratio >= SHARE
