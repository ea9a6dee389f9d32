"""Rows of searches made by hand, for tests of what is computed from a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from rl_tuner.results import Row
from rl_tuner.searches import SearchTrial, best_so_far
from tests.comparing import make_row


def make_trial(val_loss: float, test_loss: float, samples: int = 100, **changes: Any) -> SearchTrial:
    values: dict[str, Any] = {
        "setting": {"start": {"lr": 0.1}, "schedule": "constant", "options": {}},
        "samples": samples,
        "val_samples": 60,
        "crashed": False,
        "pruned": False,
        "start_val_loss": 2.0,
    }
    return SearchTrial(val_loss=val_loss, test_loss=test_loss, **{**values, **changes})


def search_row(
    method: str, job: int, seed: int, trials: Sequence[SearchTrial | tuple[float, float]], **changes: Any
) -> Row:
    """The row of a search: its trials, or the validation and test losses of trials of 100 samples each."""
    made = tuple(trial if isinstance(trial, SearchTrial) else make_trial(*trial) for trial in trials)
    best = min(made, key=lambda trial: trial.val_loss)
    samples = sum(trial.samples for trial in made)
    ends = accumulate(trial.samples for trial in made)
    values: dict[str, Any] = {
        "val_loss": best.val_loss,
        "trials": made,
        "curve": best_so_far(zip(ends, (trial.val_loss for trial in made), strict=True)),
        "start_test_loss": 2.0,
        "job_budget": 100,
        "budget": samples,
        "samples": samples,
    }
    return make_row(method, job, seed, best.test_loss, **{**values, **changes})
