"""Held-out jobs: the same for every training, scored together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_tuner.comparison import compare
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from rl_tuner.held_out import held_out_jobs, run_held_out, scores_of
from rl_tuner.methods import PolicyMethod
from rl_tuner.policy_file import load_policy
from rl_tuner.results import Row
from tests.tiny import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


def test_they_are_the_jobs_and_seeds_that_a_comparison_on_the_validation_split_runs() -> None:
    method = PolicyMethod(load_policy("constant"))
    found = run_held_out("constant", method, held_out_jobs("tiny", 3, seed=5))
    compared = compare({"constant": method}, "tiny", "validation", jobs=3, seeds=1, seed=5)
    assert [row.key for row in found] == [row.key for row in compared.rows]
    assert [row.episode_seed for row in found] == [row.episode_seed for row in compared.rows]
    np.testing.assert_allclose([r.test_loss for r in found], [r.test_loss for r in compared.rows], rtol=1e-4)


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one() -> None:
    method, jobs = PolicyMethod(load_policy("constant")), held_out_jobs("tiny", 3)
    alone, shared = (run_held_out("constant", method, jobs, workers) for workers in (1, 2))
    assert [row.key for row in shared] == [row.key for row in alone]
    np.testing.assert_allclose([r.test_loss for r in shared], [r.test_loss for r in alone], rtol=1e-4)


def test_the_number_names_the_rows_and_changes_nothing_else() -> None:
    method = PolicyMethod(load_policy("constant"))
    first, other = (run_held_out("m", method, held_out_jobs("tiny", 2, number=n)) for n in (0, 7))
    assert [row.seed for row in other] == [7, 7]
    assert [replace(row, seed=0) for row in other] == first


def test_the_best_of_all_methods_on_a_job_scores_one_and_no_training_zero() -> None:
    rows = run_held_out("a", PolicyMethod(load_policy("constant")), held_out_jobs("tiny", 2))

    def at(name: str, losses: list[float]) -> list[Row]:
        pairs = zip(rows, losses, strict=True)
        return [replace(row, method=name, start_test_loss=2.0, test_loss=loss) for row, loss in pairs]

    scores = scores_of({"a": at("a", [1.0, 2.0]), "b": at("b", [1.5, 0.5])})
    np.testing.assert_allclose(scores["a"], [[1.0], [0.0]])
    np.testing.assert_allclose(scores["b"], [[0.5], [1.0]])


def test_one_job_is_refused_for_it_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="jobs must be >= 2, got 1"):
        held_out_jobs("tiny", 1)
