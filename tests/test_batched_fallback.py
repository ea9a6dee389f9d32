"""Jobs that cannot be batched: each runs on a reference engine of its own, and one warning says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from rl_tuner.envs import TrainingJob
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.seats import BatchedSeat, ReferenceSeat
from rl_tuner.errors import JobError
from rl_tuner.history import Interval
from rl_tuner.seeding import Streams
from tests.batched import NAMES, Twins, assert_equal, make_data, make_job, table

X, Y = make_data("mlp", "classification", torch.float32)


class Items(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[i] + 0.1 * torch.randn(6), Y[i]


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def smoothed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def in_two_groups(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
    first, *rest = parameters
    groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.01}, {"params": rest}]
    return torch.optim.SGD(groups, lr=0.02)


def job(**changes: Any) -> TrainingJob:
    options = {"model": plain, "train": (X, Y), "validation": (X[:20], Y[:20]), "budget": 900}
    return TrainingJob(**{**options, **changes})


def start_all(engine: BatchedEngine, jobs: Sequence[TrainingJob]) -> None:
    """Starts them in one slot after the other, all with one seed."""
    for i, one in enumerate(jobs):
        engine.start(i % 2, one, Streams(1))


def unlabelled(count: int = 9) -> torch.Tensor:
    """Targets some of which `cross_entropy` passes over."""
    return torch.where(torch.arange(len(Y)) % count == 0, torch.tensor(-100), Y)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def of_the_head(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(parameters)[-2:], lr=0.1)


def all_dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 3), nn.Dropout(1.0))


JOBS: dict[str, tuple[Callable[[], TrainingJob], str]] = {
    "batch norm": (lambda: job(model=with_batch_norm), "not batched"),
    "a dataset": (lambda: job(train=Items(), validation=Items()), "its data is a Dataset"),
    "a loss of its own": (lambda: job(loss=smoothed), "its loss is its own"),
    "two parameter groups": (lambda: job(optimizer=in_two_groups), "no update rule for its SGD"),
    "an optimizer without a rule": (lambda: job(optimizer=torch.optim.NAdam), "no update rule for its NAdam"),
    "targets to be ignored": (lambda: job(train=(X, unlabelled())), "class number of -100"),
    "class probabilities": (
        lambda: job(train=(X, functional.one_hot(Y, 3).float()), validation=None), "cross-entropy needs",
    ),
    "an optimizer of the head only": (
        lambda: job(model=two_layers, optimizer=of_the_head), "does not update every parameter",
    ),
    "units that are all dropped": (lambda: job(model=all_dropped), "a dropout rate of 1"),
}  # fmt: skip


def alike(found: Interval, slot: int, expected: Interval) -> bool:
    pairs = [(getattr(found, f.name)[slot], getattr(expected, f.name)) for f in fields(Interval)]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_cannot_be_batched_trains_bit_for_bit_as_on_the_reference_engine(name: str) -> None:
    make, reason = JOBS[name]
    engine, reference = BatchedEngine(3), ReferenceEngine(make(), Streams(1))
    engine.start(0, job(), Streams(0))
    with pytest.warns(UserWarning, match=reason) as warned:
        seats = [engine.start(slot, make(), Streams(1)) for slot in (1, 2)]
    assert len(warned) == 1
    assert all(isinstance(seat, ReferenceSeat) for seat in seats)
    assert isinstance(engine.seat(0), BatchedSeat)
    assert np.array_equal(engine.validate(np.array([1]))[1], reference.validate(), equal_nan=True)
    slots = np.arange(3)
    engine.write(np.array([[np.nan] * 2, [0.02, 9.0], [np.nan] * 2]), ["lr", "batch_size"], slots)
    reference.trainee.write({"lr": 0.02, "batch_size": 9.0})
    for end in (300, 900):
        found = engine.advance(np.full(3, end), slots)
        assert alike(found, 1, reference.advance(end))
        assert found.updates[2] != found.updates[1] or end == 900
    assert (engine.used[1], engine.val_samples[1]) == (reference.used, reference.val_samples)
    assert_equal(engine.module(1), reference.model)


def test_the_warning_comes_once_for_each_reason_however_many_jobs_start() -> None:
    engine = BatchedEngine(2)
    with pytest.warns(UserWarning, match="not batched") as warned:
        start_all(engine, [job(optimizer=torch.optim.NAdam), job(loss=smoothed)] * 20)
    assert len(warned) == 2
    assert "job 'job' runs by itself on the reference engine" in str(warned[0].message)


def test_targets_in_double_precision_train_a_single_precision_model_as_on_the_reference_engine() -> None:
    network = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
    twins = Twins([job(model=network, train=(X, Y.double()), validation=None, task="regression")], 1e-4)
    assert isinstance(twins.batched.seat(0), BatchedSeat)
    twins.advance([600])
    twins.assert_same_weights()


def test_validation_samples_of_another_kind_are_left_to_the_reference_engine() -> None:
    engine = BatchedEngine(1)
    with pytest.warns(UserWarning, match="validation samples"):
        seat = engine.start(0, job(validation=(X[:20], Y[:20].to(torch.int32))), Streams(0))
    assert isinstance(seat, ReferenceSeat)


def test_outputs_that_do_not_fit_the_targets_are_the_reference_engines_error() -> None:
    engine = BatchedEngine(1)
    with pytest.warns(UserWarning, match=r"outputs have shape \(3, 1\), the targets \(3,\)"):
        engine.start(
            0, job(model=nn.Linear(6, 1), train=(X, X[:, 0]), validation=None, task="regression"), Streams(0)
        )
    with pytest.raises(JobError, match="make them alike"):
        engine.advance(np.array([100]), np.array([0]))


def test_an_architecture_is_not_refused_for_one_jobs_targets() -> None:
    engine = BatchedEngine(2)
    with pytest.warns(UserWarning, match="-100"):
        engine.start(0, job(train=(X, torch.full_like(Y, -100))), Streams(0))
    assert isinstance(engine.start(1, job(), Streams(0)), BatchedSeat)


def test_keeping_and_restoring_work_in_reference_seats_too() -> None:
    engine, reference = BatchedEngine(2), ReferenceEngine(job(loss=smoothed), Streams(1))
    with pytest.warns(UserWarning, match="loss"):
        start_all(engine, [job(loss=smoothed)] * 2)
    both, first = np.arange(2), np.array([0])
    engine.advance(np.full(2, 200), both)
    reference.advance(200)
    engine.keep(both, first)
    kept = reference.trainee.keep()
    engine.advance(np.full(2, 400), both)
    reference.advance(400)
    reference.trainee.restore(kept)
    engine.restore(first)
    found = engine.advance(np.full(2, 600), both)
    assert alike(found, 0, reference.advance(600))
    assert not alike(found, 1, reference.advance(700))
    engine.restore_best(0)
    reference.trainee.restore_weights(kept)
    assert_equal(engine.module(0), reference.model)
    engine.restore_best(1)  # slot 1's best is its start
    assert_equal(engine.module(1), ReferenceEngine(job(loss=smoothed), Streams(1)).model)


def test_a_state_of_a_batched_job_is_refused_by_one_that_is_not() -> None:
    batched, alone = Twins([make_job()], 0.0).batched, BatchedEngine(1)
    with pytest.warns(UserWarning, match="loss"):
        alone.start(0, job(loss=smoothed), Streams(0))
    with pytest.raises(JobError, match="a job that was batched, this one is not"):
        alone.set_state(batched.get_state())
    with pytest.raises(JobError, match="a job that was not batched, this one is"):
        batched.set_state(alone.get_state())


def test_a_state_of_a_reference_seat_continues_bit_for_bit() -> None:
    engines = [BatchedEngine(1), BatchedEngine(1)]
    with pytest.warns(UserWarning, match="not batched"):
        start_all(engines[0], [job(model=with_batch_norm)])
    with pytest.warns(UserWarning, match="not batched"):
        start_all(engines[1], [job(model=with_batch_norm)])
    slot = np.array([0])
    engines[0].write(table([{"lr": 0.003}]), NAMES, slot)
    engines[0].advance(np.array([200]), slot)
    engines[1].set_state(engines[0].get_state())
    one, other = (engine.advance(np.array([500]), slot) for engine in engines)
    assert other.val_loss == one.val_loss
    assert_equal(engines[1].module(0), engines[0].module(0))


class Complaining(nn.Linear):
    """Its failures name an object, and with it an address, of their own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch._C._functorch.maybe_current_level() is not None:
            raise RuntimeError(f"no rule for {object()} here")
        return super().forward(x)


def test_a_failure_that_names_an_address_is_told_once() -> None:
    engine = BatchedEngine(2)
    with pytest.warns(UserWarning, match="no rule for <object object> here") as warned:
        start_all(engine, [job(model=lambda i=i: Complaining(6, 3 + i)) for i in range(6)])
    assert len(warned) == 1
    assert all(isinstance(engine.seat(slot), ReferenceSeat) for slot in range(2))


def test_reasons_without_end_are_not_told_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_tuner.envs.batched_engine.MOST_TOLD", 3)
    engine = BatchedEngine(2)
    with pytest.warns(UserWarning, match="class number of -") as warned:
        start_all(engine, [job(train=(X, torch.full_like(Y, -1 - i))) for i in range(6)] * 2)
    assert len(warned) == 3


def adam(beta2: float) -> Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.9, beta2))


def test_optimizers_settings_drawn_anew_for_each_job_are_batched_up_to_a_bound() -> None:
    engine = BatchedEngine(2)
    start_all(engine, [job(optimizer=adam(1 - 0.001 * i)) for i in range(1, 65)])
    assert all(isinstance(engine.seat(slot), BatchedSeat) for slot in range(2))
    with pytest.warns(UserWarning, match="more than 64 different optimizers' settings") as warned:
        start_all(engine, [job(optimizer=adam(0.5)), job(optimizer=adam(0.999)), job(optimizer=adam(0.5))])
    assert len(warned) == 1
    assert isinstance(engine.seat(0), ReferenceSeat)
    assert isinstance(engine.seat(1), BatchedSeat)  # one that was seen before
    assert [group.rows.used for group in engine.groups] == [1]
