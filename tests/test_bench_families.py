"""How hard families are: figures computed by hand from trials made by hand, and trials over the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from rl_tuner import ConfigError
from rl_tuner.bench_families import (
    GRID,
    FamilyFigure,
    SamplingFigure,
    bench_families,
    bench_sampling,
    summarize,
    trials_of,
)
from rl_tuner.envs import JobSpec, load_suite
from rl_tuner.seeding import Streams
from rl_tuner.static_setting import LR_FACTORS, REGULARIZATION, WORST
from rl_tuner.trials import Trial, run_trials
from tests.comparing import add_suite, make_record

SPEC = JobSpec("iris", "mlp-8", "momentum", 400, 0, 1.0, 128, 0.3, 0.8, None, l2=0.1)


def trial(*val_losses: float, crashed: bool = False) -> Trial:
    """A trial with these validation losses, interval by interval; a crash is no interval's best."""
    best = np.fmin.accumulate([loss if math.isfinite(loss) else math.nan for loss in val_losses])
    records = [
        make_record(i, i + 1, float(least), val_loss=loss)
        for i, (loss, least) in enumerate(zip(val_losses, best, strict=True))
    ]
    return Trial(tuple(records), crashed)


def row(losses: dict[int, float], other: float = 1.0) -> list[Trial]:
    """A job's trials: the best loss at some settings, another at all others."""
    return [trial(9.0, *[losses.get(i, other)] * 3) for i in range(len(GRID))]


def test_the_grid_is_each_learning_rate_with_each_regularization() -> None:
    assert [(s.lr_factor, s.dropout, s.weight_decay) for s in GRID] == [
        (factor, *rest) for rest, factor in product(REGULARIZATION, LR_FACTORS)
    ]
    np.testing.assert_allclose(np.diff(np.log10(LR_FACTORS)), 0.5)
    assert 1.0 in LR_FACTORS


def test_spread_static_setting_and_headroom_computed_by_hand() -> None:
    # Mean logs: ln 0.5 / 2 at setting 2, ln 0.25 / 2 at 7 and ln 0.8 at 4: the static setting is 7.
    figure = summarize("f", [row({2: 0.5, 4: 0.8}), row({7: 0.25, 4: 0.8})])
    assert figure.static == GRID[7]
    assert figure.headroom == pytest.approx(1 - math.sqrt(0.5))
    assert figure.lr_spread == pytest.approx(10**2.5)
    assert figure.lr_quantiles == (GRID[2].lr_factor, GRID[2].lr_factor, GRID[7].lr_factor)
    assert (figure.family, figure.jobs, figure.crashes) == ("f", 2, 0.0)


def test_jobs_that_agree_leave_nothing_to_win() -> None:
    figure = summarize("f", [row({5: 0.5}), row({5: 0.1}), row({5: 0.9})])
    assert (figure.headroom, figure.lr_spread) == (0.0, 1.0)
    assert figure.misses == [
        "f: best learning rates differ by 1 times only",
        "f: the head-room is 0.0%, below 3%",
        "f: no job overfits",
        "f: no job underfits",
    ]


def test_a_crash_counts_no_worse_than_the_cap() -> None:
    low = math.exp(-2)
    table = [row({3: low}) for _ in range(3)] + [row({})]
    table[3][3] = trial(math.inf, crashed=True)
    figure = summarize("f", table)
    # Setting 3 costs the fourth job WORST, and is the best one for all others: (3 · -2 + 3) / 4 < 0.
    assert figure.static == GRID[3]
    assert figure.headroom == pytest.approx(1 - math.exp(-WORST / 4))
    assert figure.crashes == pytest.approx(1 / (4 * len(GRID)))


def test_a_job_that_crashes_everywhere_takes_part_in_no_choice() -> None:
    table = [row({2: 0.5}), [trial(math.inf, crashed=True) for _ in GRID]]
    figure = summarize("f", table)
    assert figure.static == GRID[2]
    assert figure.headroom == 0.0
    assert (figure.overfitting, figure.underfitting, figure.crashes) == (0.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("losses", "overfits", "underfits"),
    [
        ((1.0, 0.5, 0.5, 0.5, 0.52), False, False),
        ((1.0, 0.5, 0.5, 0.51, 0.53), True, False),  # ends 6 % above its best
        ((1.0, 0.7, 0.6, 0.55, 0.5), False, True),  # the last two took 17 % off
        ((1.0, 0.7, 0.5, 0.498, 0.495), False, False),  # they took 1 %
        ((1.0, 0.7, 0.6, 0.5, 0.6), True, True),
    ],
)
def test_over_and_underfitting_is_seen_at_the_static_setting(
    losses: Sequence[float], overfits: bool, underfits: bool
) -> None:
    table = [[trial(9.0, 8.0, 2.0, 3.0, 7.0)] * len(GRID) for _ in range(2)]
    table[0][6], table[1][6] = trial(*losses), trial(0.2, 0.1, 0.1, 0.1, 0.1)
    figure = summarize("f", table)
    assert figure.static == GRID[6]
    assert (figure.overfitting, figure.underfitting) == (overfits / 2, underfits / 2)


def test_each_job_is_trained_at_every_setting_from_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch, name="tiny")
    ticks: list[int] = []
    (figure,) = bench_families("tiny", jobs=2, seed=3, on_trial=lambda: ticks.append(1))
    assert len(ticks) == trials_of("tiny", 2) == 2 * len(GRID)
    rng = Streams(3).numpy("data")
    specs = [load_suite("tiny").family("train").sample(rng) for _ in range(2)]
    table = [run_trials([s.apply(spec) for s in GRID], [3 + i] * len(GRID)) for i, spec in enumerate(specs)]
    expected = summarize("tiny", table)
    assert figure.static == expected.static
    assert figure.headroom == pytest.approx(expected.headroom, abs=1e-3)


def test_some_families_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def no_trials(jobs: Sequence[JobSpec], seeds: Sequence[int], **options: object) -> list[Trial]:
        asked.extend(job.family for job in jobs)
        return row({2: 0.5}) * (len(jobs) // len(GRID))

    monkeypatch.setattr("rl_tuner.bench_families.run_trials", no_trials)
    figures = bench_families("standard", "test", jobs=2, families=["speech", "vision"])
    assert [figure.family for figure in figures] == ["speech", "vision"]
    assert asked == ["speech"] * 2 * len(GRID) + ["vision"] * 2 * len(GRID)
    assert [figure.family for figure in bench_families("speech", jobs=1)] == ["speech"]
    assert trials_of("standard", 2) == 7 * 2 * len(GRID)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="jobs must be >= 1"):
        bench_families("quick", jobs=0)
    with pytest.raises(ConfigError, match=r"unknown family 'visoin'.*'vision'"):
        bench_families("standard", families=["visoin"])
    with pytest.raises(ConfigError, match="unknown suite 'nope'"):
        bench_families("nope")
    with pytest.raises(ConfigError, match="builds must be >= 1"):
        bench_sampling("quick", builds=0)


def test_sampling_draws_and_builds_as_many_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)
    figure = bench_sampling("tiny", "validation", draws=30, builds=5)
    assert (figure.suite, figure.split, figure.draws, figure.builds) == ("tiny", "validation", 30, 5)
    assert figure.cache_bytes > 0
    assert bench_sampling("tiny", draws=3, builds=9).builds == 3


def test_slow_drawing_misses_its_bar() -> None:
    figure = SamplingFigure("mine", "train", 500, 0.4, 9, 9.0, 0)
    assert figure.misses == []
    assert replace(figure, draw_seconds=0.6).misses == ["mine: drawing 1,000 jobs takes 1.20 s"]


def test_a_family_that_is_hard_enough_misses_nothing() -> None:
    figure = FamilyFigure("f", 4, 10.0, (0.1, 1.0, 1.0), GRID[0], 0.03, 0.25, 0.25, 0.5)
    assert figure.misses == []
