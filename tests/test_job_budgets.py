from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.errors import ConfigError
from rl_tuner.job_budgets import budget_of, phase_budgets, with_budget
from rl_tuner.seeding import Streams
from tests.phased import FIRST, SECOND, phased_job
from tests.quadratic import ROWS, quadratic_job
from tests.tiny import TINY

SPEC = TINY.family("train").sample(Streams(0).numpy("data"))


@pytest.mark.parametrize("changes", [{"budget": 77}, {"budget": None, "epochs": 2.5}])
def test_the_budget_is_the_one_that_an_engine_finds(changes: dict[str, Any]) -> None:
    job = quadratic_job(**changes)
    assert budget_of(job) == ReferenceEngine(job, Streams(0)).budget
    assert budget_of(replace(job, epochs=3.0, budget=None)) == 3 * ROWS


def test_a_budget_counts_all_phases() -> None:
    assert phase_budgets(phased_job()) == [FIRST, SECOND]
    assert budget_of(phased_job()) == FIRST + SECOND
    assert budget_of(SPEC) == SPEC.budget
    pretrained = replace(SPEC, dataset="digits", pretraining=0.4)
    assert len(phase_budgets(pretrained.build())) == 2
    assert budget_of(pretrained) == SPEC.budget


@given(st.integers(2, 5000))
def test_phases_keep_their_shares_of_another_budget(budget: int) -> None:
    job = with_budget(phased_job(), budget)
    assert isinstance(job, TrainingJob)
    first, second = phase_budgets(job)
    assert first + second == budget
    assert min(first, second) >= 1
    assert abs(first - budget * FIRST / (FIRST + SECOND)) <= 2


def test_another_budget_changes_nothing_else() -> None:
    assert with_budget(SPEC, 99) == replace(SPEC, budget=99)
    job = quadratic_job()
    assert with_budget(job, 99) == replace(job, budget=99)


def test_a_budget_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget must be >= 1, got 0"):
        with_budget(SPEC, 0)
    with pytest.raises(ConfigError, match="a budget of 1 cannot hold the 2 phases of the job 'phased'"):
        with_budget(phased_job(), 1)
