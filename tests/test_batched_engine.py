"""The batched engine against the reference engine: the same updates, whatever trains and is tuned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.losses import TASK_LOSSES
from rl_tuner.envs.models import gru, mlp
from rl_tuner.seeding import Streams
from tests.batched import MODELS, NAMES, OPTIMIZERS, Twins, make_data, make_job, table

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


# Of each regularizer its start value, and what is set after so many updates. Clipping starts far below the
# gradients' norms, is nearly always without effect, and then works on some updates only.
REGULARIZED: dict[str, tuple[float, dict[int, float]]] = {
    "l1": (0.02, {8: 0.0, 14: 0.1}),
    "l2": (0.05, {8: 0.0, 14: 0.3}),
    "label_smoothing": (0.1, {8: 0.0, 14: 0.4}),
    "max_grad_norm": (0.05, {8: 100.0, 14: 0.6}),
}


@pytest.mark.parametrize("name", REGULARIZED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_regularizers_act_as_on_the_reference_engine_while_they_are_tuned(optimizer: str, name: str) -> None:
    start, changes = REGULARIZED[name]
    twins = Twins([make_job(optimizer, start={name: start})], 1e-9)
    for update in range(20):
        if update in changes:
            twins.write([{name: changes[update]}])
        twins.advance([twins.references[0].used + 1])
    twins.assert_same_weights()


@pytest.mark.parametrize("dtype", RTOL, ids=["float64", "float32"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_jobs_with_and_without_regularizers_train_side_by_side(loss: str, dtype: torch.dtype) -> None:
    """Unequal batch sizes spread some jobs over several rows; all have joined only in the last phase."""
    task = "classification" if loss == "cross_entropy" else "regression"
    starts: list[dict[str, float]] = [{}]
    starts += [{name: start} for name, (start, _) in REGULARIZED.items()]
    starts += [{name: start for name, (start, _) in REGULARIZED.items()}]
    for start in starts:
        if task == "regression":
            start.pop("label_smoothing", None)
    jobs = [
        make_job(
            list(OPTIMIZERS)[(2 * i) % 8], "mlp", task, dtype,
            start={**start, "batch_size": (8, 40, 16)[i % 3]}, budget=600 + 61 * i,
        )
        for i, start in enumerate(2 * starts)
    ]  # fmt: skip
    twins = Twins(jobs, RTOL[dtype])
    assert len(twins.batched.groups) == 1
    for turn in range(3):
        number = (8, 14, 8)[turn]
        twins.write([
            {n: changes[number] for n, (_, changes) in REGULARIZED.items() if n in job.start} for job in jobs
        ])  # fmt: skip
        twins.advance([min(r.used + 100 + 100 * turn, r.budget) for r in twins.references])
    twins.assert_same_weights()


def test_a_regularizer_that_the_job_does_not_name_cannot_be_set() -> None:
    twins = Twins([make_job(start={"l1": 0.1}), make_job()], 1e-9)
    values = table([{"l1": 0.2}, {"l1": 0.2}])
    with pytest.raises(ConfigError, match="no hyperparameter 'l1'"):
        twins.batched.write(values, NAMES, np.arange(2))
    with pytest.raises(ConfigError, match="no hyperparameter 'l1'"):
        twins.references[1].trainee.write({"l1": 0.2})


def double_mlp(outputs: int) -> nn.Module:
    return mlp(6, (5, 4), outputs, 0.0).double()


LOSS_TASKS = [(loss, task) for task, losses in TASK_LOSSES.items() for loss in losses]


@pytest.mark.parametrize("optimizer", ["sgd-momentum", "adamw"])
@pytest.mark.parametrize(("loss", "task"), LOSS_TASKS)
def test_every_loss_trains_batched_as_on_the_reference_engine(loss: str, task: str, optimizer: str) -> None:
    x, y = make_data("mlp", "regression" if loss == "bce" else task, torch.float64)
    if loss == "bce":
        y = (y > 0).long()
    elif loss == "masked_mse":
        y = torch.where(y > 0.5, torch.nan, y)
    job = replace(
        make_job(optimizer, "mlp", task),
        model=partial(double_mlp, 3 if loss == "cross_entropy" else 1),
        train=(x[:64], y[:64]),
        validation=(x[64:], y[64:]),
        loss=loss,
    )
    jobs = [replace(job, start={**job.start, "batch_size": size, "l2": 0.01}) for size in (16, 50)]
    twins = Twins(jobs, 1e-9)
    assert [group.rows.used for group in twins.batched.groups] == [2]
    for end in (130, 600, 3000):
        twins.advance([end, end])
    twins.assert_same_weights()
    for slot, reference in enumerate(twins.references):
        wanted = reference.evaluate("validation")
        assert twins.batched.evaluate(slot, "validation") == pytest.approx(wanted, rel=1e-6)


def next_token_job(classes: int = 5, **start: float) -> TrainingJob:
    """Each token is to be followed by the next number, at every position."""
    tokens = torch.randint(5, (60, 6), generator=torch.Generator().manual_seed(0))
    targets = tokens + 1 if classes > 5 else (tokens + 1) % classes
    job = make_job("adam", start=start, budget=1500)
    network = partial(double_gru, min(classes, 5))
    pairs = (tokens[:40], targets[:40]), (tokens[40:], targets[40:])
    return replace(job, model=network, train=pairs[0], validation=pairs[1])


def double_gru(classes: int) -> nn.Module:
    return gru(5, classes, 3, 4, 0.0, predict_all=True).double()


def test_sequences_train_at_every_position_with_smoothed_labels_as_on_the_reference_engine() -> None:
    jobs = [next_token_job(label_smoothing=0.1), next_token_job(), next_token_job(batch_size=30)]
    twins = Twins(jobs, 1e-9)
    assert [group.rows.used for group in twins.batched.groups] == [3]
    for end in (100, 700, 1500):
        twins.advance([end] * 3)
    twins.assert_same_weights()
    for slot in range(3):
        scored = twins.batched.evaluate(slot, "validation")
        assert scored == pytest.approx(twins.references[slot].evaluate("validation"), rel=1e-6)
        assert scored["accuracy"] > 0.5


def test_a_class_out_of_range_at_any_position_is_an_error_before_training() -> None:
    engine = BatchedEngine(1)
    with pytest.raises(JobError, match="targets go up to class 5, the model has 5 classes"):
        engine.start(0, next_token_job(classes=6), Streams(0))


def test_each_loss_has_a_group_of_its_own() -> None:
    jobs = [make_job(task="regression", loss=loss) for loss in ("mse", None, "l1", "huber", "l1")]
    engine = BatchedEngine(len(jobs))
    for slot, job in enumerate(jobs):
        engine.start(slot, job, Streams(slot))
    assert sorted(group.rows.used for group in engine.groups) == [1, 2, 2]


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


TUNED = {"l2": st.sampled_from([0.0, 0.1]), "max_grad_norm": st.sampled_from([0.01, 0.3, 100.0])}
REGULARIZERS = st.fixed_dictionaries({}, optional=TUNED)


Course = tuple[dict[str, Any], list[tuple[int, dict[str, float]]]]


@st.composite
def courses(draw: st.DrawFn, optimizers: list[str]) -> Course:
    """A job, and intervals with what is set before each."""
    optimizer = draw(st.sampled_from(optimizers))
    budget = draw(st.integers(1, 700))
    start = {"batch_size": draw(st.integers(1, 100)), **draw(REGULARIZERS)}
    job = {
        "optimizer": optimizer,
        "task": draw(st.sampled_from(["classification", "regression"])),
        "data_seed": draw(st.integers(0, 2)),
        "dropout": draw(st.sampled_from([0.0, None])),
        "start": start,
        "budget": budget,
    }
    tuned = {
        "lr": st.sampled_from([0.0, 1e-4, 3e-3, 2e-2]),
        "batch_size": st.integers(1, 150),
        "weight_decay": st.sampled_from([0.0, 1e-3, 0.2]),
        "momentum": st.sampled_from([0.0, 0.5, 0.9]),
        **{name: values for name, values in TUNED.items() if name in start},
    }
    steps = [
        (length, fit(draw(st.fixed_dictionaries({}, optional=tuned)), optimizer))
        for length in draw(intervals(budget))
    ]
    return job, steps


@st.composite
def mixes(draw: st.DrawFn) -> tuple[str, list[Course]]:
    """A model, and jobs of it."""
    model = draw(st.sampled_from(MODELS))
    # The gradient of the attention keys' bias is rounding noise, which other optimizers divide by its own
    # size; weight decay, penalties and clipping then carry it into all that is measured.
    optimizers = list(OPTIMIZERS)[:3] if model == "transformer" else list(OPTIMIZERS)
    return model, draw(st.lists(courses(optimizers), min_size=1, max_size=6))


@settings(max_examples=40)
@given(mixes())
def test_any_mix_of_jobs_trains_as_on_reference_engines(drawn: tuple[str, list[Course]]) -> None:
    model, mix = drawn
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
