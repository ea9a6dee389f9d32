"""The batched engine against the reference engine: the same updates, whatever trains and is tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batched import MODELS, OPTIMIZERS, Twins, make_data, make_job

UPDATES = 50
RTOL = {torch.float64: 1e-9, torch.float32: 1e-4}

# After so many updates these are set.
CHANGES: dict[str, dict[int, dict[str, float]]] = {
    "nothing": {},
    "weight decay": {0: {"weight_decay": 0.1}, 20: {"weight_decay": 0.0}, 30: {"weight_decay": 0.03}},
    "dropout 0": {0: {"dropout": 0.0}, 25: {"dropout": 0.0}},
    "momentum": {10: {"momentum": 0.5}, 20: {"momentum": 0.0}, 30: {"momentum": 0.8}},
    "batch size": {
        10: {"batch_size": 7}, 20: {"batch_size": 32}, 30: {"batch_size": 200}, 40: {"batch_size": 1},
    },
    "lr": {10: {"lr": 0.001}, 20: {"lr": 0.01}, 40: {"lr": 0.0}},
}  # fmt: skip


def fit(values: dict[str, float], optimizer: str) -> dict[str, float]:
    """What the optimizer has, at learning rates that suit it."""
    scaled = {k: v * (10 if k == "lr" and optimizer == "adadelta" else 1) for k, v in values.items()}
    without = ("adagrad", "adadelta")
    return {k: v for k, v in scaled.items() if k != "momentum" or optimizer not in without}


def follow(
    optimizer: str, change: dict[int, dict[str, float]], model: str, task: str, dtype: torch.dtype
) -> None:
    """Trains update by update, so that every loss is compared, and compares the weights at the end."""
    twins = Twins([make_job(optimizer, model, task, dtype)], RTOL[dtype])
    for update in range(UPDATES):
        if update in change:
            twins.write([fit(change[update], optimizer)])
        found = twins.advance([twins.references[0].used + 1])
        assert found.updates.tolist() == [1]
    twins.assert_same_weights()


@pytest.mark.parametrize("dtype", RTOL, ids=["float64", "float32"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_and_parameters_are_the_reference_engines_update_by_update(
    optimizer: str, change: str, dtype: torch.dtype
) -> None:
    follow(optimizer, CHANGES[change], "mlp", "classification", dtype)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd-momentum", "adamw", "adadelta"])
def test_every_model_and_task_trains_as_on_the_reference_engine(
    optimizer: str, model: str, task: str
) -> None:
    follow(optimizer, CHANGES["batch size"] | {15: {"weight_decay": 0.02}}, model, task, torch.float64)


@pytest.mark.parametrize("dtype", RTOL, ids=["float64", "float32"])
def test_all_optimizers_and_tasks_train_side_by_side_while_all_is_tuned(dtype: torch.dtype) -> None:
    kinds = [(optimizer, task) for optimizer in OPTIMIZERS for task in ("classification", "regression")]
    jobs = [
        make_job(optimizer, "mlp", task, dtype, data_seed=i % 3, budget=1200 + 37 * i)
        for i, (optimizer, task) in enumerate(kinds)
    ]
    twins = Twins(jobs, RTOL[dtype])
    assert len(twins.batched.groups) == 2
    turns = list(CHANGES.values())
    for turn in range(6):
        rows = []
        for i, (optimizer, _) in enumerate(kinds):
            changes = list(turns[(turn + i) % len(turns)].values())
            rows.append(fit(changes[turn % len(changes)] if changes else {}, optimizer))
        twins.write(rows)
        twins.advance([min(r.used + 40 + 60 * turn, r.budget) for r in twins.references])
    twins.assert_same_weights()


def intervals(budget: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, max(2, budget // 2)), min_size=1, max_size=4)


@st.composite
def courses(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[int, dict[str, float]]]]:
    """A job, and intervals with what is set before each."""
    optimizer = draw(st.sampled_from(list(OPTIMIZERS)))
    budget = draw(st.integers(1, 700))
    job = {
        "optimizer": optimizer,
        "task": draw(st.sampled_from(["classification", "regression"])),
        "data_seed": draw(st.integers(0, 2)),
        "dropout": draw(st.sampled_from([0.0, None])),
        "start": {"batch_size": draw(st.integers(1, 100))},
        "budget": budget,
    }
    tuned = {
        "lr": st.sampled_from([0.0, 1e-4, 3e-3, 2e-2]),
        "batch_size": st.integers(1, 150),
        "weight_decay": st.sampled_from([0.0, 1e-3, 0.2]),
        "momentum": st.sampled_from([0.0, 0.5, 0.9]),
    }
    steps = [
        (length, fit(draw(st.fixed_dictionaries({}, optional=tuned)), optimizer))
        for length in draw(intervals(budget))
    ]
    return job, steps


@settings(max_examples=40)
@given(st.sampled_from(MODELS), st.lists(courses(), min_size=1, max_size=6))
def test_any_mix_of_jobs_trains_as_on_reference_engines(
    model: str, mix: list[tuple[dict[str, Any], list[tuple[int, dict[str, float]]]]]
) -> None:
    twins = Twins([make_job(model=model, **job) for job, _ in mix], 1e-9)
    for turn in range(4):
        rows, ends = [], []
        for (_, steps), reference in zip(mix, twins.references, strict=True):
            length, values = steps[turn % len(steps)]
            rows.append(values)
            ends.append(reference.budget if turn == 3 else min(reference.used + length, reference.budget))
        twins.write(rows)
        if len(twins.running):
            twins.advance(ends)
    assert not len(twins.running)  # each budget was spent to the last sample, the cut last batch included
    twins.assert_same_weights()


def test_validation_before_training_is_the_reference_engines_and_counted() -> None:
    jobs = [make_job(model=m, data_seed=i) for i, m in enumerate((*MODELS, "mlp"))]
    twins = Twins(jobs, 1e-12)
    losses = twins.batched.validate(np.array([0, 1, 3, 4]))
    expected = [r.validate() for r in twins.references]
    np.testing.assert_allclose(losses[[0, 1, 3, 4]], [expected[i] for i in (0, 1, 3, 4)], rtol=1e-12)
    assert np.isnan(losses[2])
    assert twins.batched.val_samples.tolist() == [26, 26, 0, 26, 26]


def test_pools_of_unequal_length_are_evaluated_each_over_its_own_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "rl_tuner.envs.group.EVALUATION_SAMPLES", 40
    )  # so that some share a pass, some need two
    x, y = make_data("mlp", "classification", torch.float64)
    lengths = [1, 2, 3, 20, 21, 39, 40, 41, 64]
    jobs = [make_job(validation=(x[:n], y[:n])) for n in lengths]
    twins = Twins(jobs, 1e-12)
    losses = twins.batched.validate(np.arange(len(jobs)))
    np.testing.assert_allclose(losses, [r.validate() for r in twins.references], rtol=1e-12)
    assert twins.batched.val_samples.tolist() == lengths


def test_a_job_without_validation_has_none() -> None:
    twins = Twins([make_job(validation=None), make_job()], 1e-9)
    found = twins.advance([100, 100])
    assert np.isnan(found.val_loss[0])
    assert np.isfinite(found.val_loss[1])
    assert twins.batched.val_samples.tolist() == [0, 26]


def test_more_jobs_than_a_program_holds_are_trained_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_tuner.envs.group.MOST_WEIGHTS", 1)
    monkeypatch.setattr("rl_tuner.envs.group.LEAST_JOBS", 2)
    jobs = [make_job("adam", start={"lr": 0.01, "batch_size": float(size)}) for size in (8, 64, 16, 32, 8)]
    twins = Twins(jobs, 1e-9)
    for end in (40, 130, 200):
        twins.advance([end] * len(jobs))
    twins.assert_same_weights()
