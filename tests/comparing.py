"""What the tests of a comparison share: rows made by hand, and jobs that take milliseconds."""

from __future__ import annotations

import dataclasses
from math import inf, nan
from typing import Any

import pytest

from rl_tuner.comparison import Comparison
from rl_tuner.envs import suites
from rl_tuner.envs.suites import Mixture
from rl_tuner.history import Record
from rl_tuner.results import Row
from tests.tiny import TINY


def make_record(decision: int, used: int, best: float, lr: float = 0.1, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "decision": decision,
        "used": used,
        "train_loss": best,
        "val_loss": best,
        "best": best,
        "reward": 0.25,
        "verdict": "good",
        "values": {"lr": lr},
    }
    return Record(**{**values, **changes})


def make_row(method: str = "a", job: int = 0, seed: int = 0, test_loss: float = 0.5, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "job_name": f"toy-{job}",
        "episode_seed": 100 * job + seed,
        "start": {"lr": 0.1, "batch_size": 32.0},
        "metrics": {"accuracy": 0.75},
        "val_loss": 0.4,
        "start_val_loss": 2.0,
        "start_test_loss": 8.0,
        "job_budget": 100,
        "last_phase": 0,
        "budget": 100,
        "samples": 100,
        "val_samples": 60,
        "crashed": False,
        "rescues": 0,
        "return_": 1.5,
        "records": (make_record(0, 30, 1.0), make_record(1, 100, 0.4, lr=0.01)),
    }
    return Row(method=method, job=job, seed=seed, test_loss=test_loss, **{**values, **changes})


def make_comparison(**losses: list[list[float]]) -> Comparison:
    """Test losses (jobs, seeds) by method; the first one is the baseline."""
    methods = tuple(losses)
    first = losses[methods[0]]
    rows = [
        make_row(method, job, seed, losses[method][job][seed])
        for job in range(len(first))
        for seed in range(len(first[0]))
        for method in methods
    ]
    return Comparison(tuple(rows), methods, methods[0])


def small() -> Comparison:
    """Two methods on two jobs with two seeds."""
    return make_comparison(constant=[[1.0, 1.2], [4.0, 5.0]], x=[[0.5, 0.7], [2.0, 2.5]])


def failed() -> Comparison:
    """Every run crashed at once, nothing of it finite."""
    record = make_record(0, 10, inf, train_loss=inf, verdict="diverged")
    rows = tuple(
        make_row(m, 0, s, inf, metrics={"accuracy": nan}, val_loss=inf, start_val_loss=inf, records=(record,))
        for s in range(2)
        for m in ("constant", "x")
    )
    return Comparison(rows, ("constant", "x"), "constant")


def add_suite(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Makes the suite "tiny" known while a test runs, its families changed as given."""
    families = {
        split: Mixture(tuple(dataclasses.replace(part, **changes) for part in TINY.family(split).parts))
        for split in suites.SPLITS
    }
    monkeypatch.setitem(suites.SUITES, TINY.name, dataclasses.replace(TINY, splits=families))
