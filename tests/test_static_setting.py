"""The best static setting: applied, capped, chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_tuner import ConfigError, static_setting
from rl_tuner.envs import JobSpec
from rl_tuner.envs.families import SANE_LR
from rl_tuner.static_setting import (
    BATCH_SIZE,
    GRID,
    WORST,
    StaticSetting,
    capped_log_losses,
    choose_static,
    choosing_trials,
)
from tests.comparing import add_suite
from tests.tiny import TINY

SPEC = JobSpec("iris", "mlp-8", "momentum", 400, 0, 1.0, 128, 0.3, 0.8, 0.1, l2=0.1)


def test_a_setting_changes_what_it_says_and_nothing_else() -> None:
    found = StaticSetting(10.0, 0.3, 0.01).apply(SPEC)
    wanted = {"lr": 10 * SANE_LR["momentum"], "dropout": 0.3, "weight_decay": 0.01, "batch_size": BATCH_SIZE}
    assert found == replace(SPEC, **wanted)


def test_what_a_job_fixes_or_lacks_stays_so() -> None:
    fixed = replace(SPEC, fixed=("batch_size", "weight_decay"), dropout=None)
    found = StaticSetting(1.0, 0.3, 0.01).apply(fixed)
    assert found == replace(fixed, lr=SANE_LR["momentum"])


def test_a_crash_counts_as_much_worse_than_the_best_but_not_infinitely() -> None:
    logs = capped_log_losses([[1.0, np.inf, 2.0], [np.e, np.e**2, 0.0]])
    np.testing.assert_allclose(logs[0], [0.0, WORST, np.log(2)])
    assert logs[1].max() == pytest.approx(logs[1].min() + WORST)


def test_luck_on_the_first_jobs_does_not_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)
    losses = np.random.default_rng(0).uniform(1.0, 1.5, (3 + 6 + 12, len(GRID)))
    losses[:, 7], losses[:3, 30], losses[3:, 30] = 0.9, 0.5, 2.0  # the lucky one is best on the first three
    losses[9:, 21] = 0.1  # nobody sees how good this one would have been
    losses[:9, 21] = 3.0
    asked: list[list[StaticSetting]] = []

    def trained(
        specs: list[JobSpec], settings: list[StaticSetting], seed: int, on_trial: object
    ) -> np.ndarray:
        assert {spec.dataset for spec in specs} == {
            *TINY.family("train").parts[0].datasets
        }  # no other split's
        asked.append(list(settings))
        return losses[seed : seed + len(specs)][:, [GRID.index(s) for s in settings]]

    monkeypatch.setattr(static_setting, "_val_losses", trained)
    assert choose_static("tiny", jobs=3) == GRID[7]
    assert asked[0] == list(GRID)
    assert set(asked[1]) == {GRID[i] for i in capped_log_losses(losses[:3]).mean(0).argsort()[:10]}
    assert GRID[30] in asked[1]
    assert len(asked[2]) == 4
    assert GRID[30] not in asked[2]


def test_choosing_tells_of_its_trials_and_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)
    told: list[int] = []
    chosen = choose_static("tiny", jobs=1, on_trial=lambda: told.append(1))
    assert chosen in GRID
    assert chosen == choose_static("tiny", jobs=1)
    assert len(told) == choosing_trials(1)


def test_without_jobs_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(ConfigError, match="jobs must be >= 1, got 0"):
        choose_static("quick", jobs=0)
