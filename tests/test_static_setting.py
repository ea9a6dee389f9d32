"""The best static setting: applied, capped, chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_tuner import ConfigError, static_setting
from rl_tuner.envs import JobSpec
from rl_tuner.envs.families import SANE_LR
from rl_tuner.static_setting import BATCH_SIZE, GRID, WORST, StaticSetting, capped_log_losses, choose_static
from rl_tuner.trials import Trial
from tests.comparing import add_suite, make_record
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


def test_the_setting_with_the_lowest_mean_log_loss_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)
    rng = np.random.default_rng(0)
    losses = rng.lognormal(size=(3, len(GRID)))
    told: list[int] = []

    def trials(
        jobs: list[JobSpec], seeds: list[int], policies: list[object], **options: object
    ) -> list[Trial]:
        assert len(jobs) == len(seeds) == len(policies) == 3 * len(GRID)
        assert {job.dataset for job in jobs} == {*TINY.family("train").parts[0].datasets}  # no other split's
        assert [job.lr / SANE_LR[job.optimizer] for job in jobs[: len(GRID)]] == pytest.approx(
            [setting.lr_factor for setting in GRID]
        )
        return [Trial((make_record(0, 1, float(loss)),), False) for loss in losses.ravel()]

    with monkeypatch.context() as patch:
        patch.setattr(static_setting, "run_trials", trials)
        assert choose_static("tiny", jobs=3) == GRID[int(np.log(losses).mean(0).argmin())]
    chosen = choose_static("tiny", jobs=2, on_trial=lambda: told.append(1))
    assert chosen in GRID
    assert chosen == choose_static("tiny", jobs=2)
    assert len(told) == 2 * len(GRID)


def test_without_jobs_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(ConfigError, match="jobs must be >= 1, got 0"):
        choose_static("quick", jobs=0)
