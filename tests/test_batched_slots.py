"""The slots of a batched engine: what happens in one never shows in another."""

from __future__ import annotations

import pickle
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner.envs import TrainingJob
from rl_tuner.envs.allocation import IDLE
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.models import mlp
from rl_tuner.envs.seats import BatchedSeat
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.history import Interval
from rl_tuner.seeding import Streams
from tests.batched import (
    MODELS,
    NAMES,
    OPTIMIZERS,
    Twins,
    assert_close,
    assert_equal,
    make_data,
    make_job,
    table,
)


def mixed_jobs(count: int, dropout: float) -> list[TrainingJob]:
    """Jobs of all optimizers, models and of many batch sizes."""
    return [
        make_job(
            list(OPTIMIZERS)[i % len(OPTIMIZERS)],
            MODELS[i // 3 % len(MODELS)],
            data_seed=i % 3,
            dropout=dropout,
            start={"batch_size": float([3, 16, 40, 64][i % 4]), "dropout": dropout},
            budget=400 + 31 * i,
        )
        for i in range(count)
    ]


def run(jobs: list[TrainingJob], slot: int, seeds: list[int]) -> tuple[list[Any], nn.Module]:
    """The interval figures and the final network of one slot."""
    engine = BatchedEngine(len(jobs))
    for i, job in enumerate(jobs):
        engine.start(i, job, Streams(seeds[i]))
    figures = []
    for turn in range(4):
        slots = np.array([i for i in range(len(jobs)) if engine.used[i] < engine.seat(i).budget])
        rows: list[dict[str, float]] = [{} for _ in jobs]
        rows[slot] = {"lr": 0.01 / (1 + turn), "batch_size": 10.0 + 7 * turn}
        engine.write(table(rows), NAMES, slots)
        found = engine.advance(engine.used + 90 + 10 * turn, slots)
        figures.append([found.train_late[slot], found.val_loss[slot], found.grad_norm[slot]])
    return figures, engine.module(slot)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("model", ["mlp", "transformer"])
def test_a_job_trains_alike_alone_among_8_and_among_64(model: str, dropout: float) -> None:
    mine = make_job("adam", model, dropout=dropout, start={"dropout": dropout})
    alone, network = run([mine], 0, [77])
    for count, slot in ((8, 5), (64, 30)):
        jobs = mixed_jobs(count, 0.25)
        jobs[slot] = mine
        figures, other = run(jobs, slot, [77 if i == slot else i for i in range(count)])
        np.testing.assert_allclose(figures, alone, rtol=1e-8)
        assert_close(other, network, 1e-8)


def test_restoring_after_divergence_goes_on_as_the_reference_engine_does() -> None:
    twins = Twins([make_job(name, budget=2000) for name in OPTIMIZERS], 1e-9)
    slots = np.arange(len(OPTIMIZERS))
    start = [{"lr": OPTIMIZERS[name][1]["lr"]} for name in OPTIMIZERS]
    twins.advance([300] * len(slots))
    twins.batched.keep(slots, slots)
    kept = [r.trainee.keep() for r in twins.references]
    twins.write([{"lr": 20 * row["lr"]} for row in start])
    twins.batched.advance(np.full(len(slots), 500), slots)  # too chaotic to be compared
    for reference in twins.references:
        reference.advance(500)
    twins.batched.restore(slots)
    for reference, state in zip(twins.references, kept, strict=True):
        reference.trainee.restore(state)
    twins.write(start)
    twins.assert_same_weights()
    twins.advance([900] * len(slots))  # the samples spent stay spent
    twins.assert_same_weights()


def test_the_state_kept_at_the_start_is_the_start() -> None:
    twins = Twins([make_job(), make_job()], 0.0)
    before = [twins.batched.module(i) for i in range(2)]
    twins.batched.advance(np.array([200, 200]), np.arange(2))
    twins.batched.restore(np.array([1]))
    assert_equal(twins.batched.module(1), before[1])
    twins.batched.restore_best(0)
    assert_equal(twins.batched.module(0), before[0])


def test_restoring_one_slot_leaves_every_bit_of_the_others() -> None:
    twins = Twins([make_job(name) for name in OPTIMIZERS], 1e-9)
    slots = np.arange(len(OPTIMIZERS))
    twins.batched.advance(np.full(len(slots), 200), slots)
    twins.batched.keep(slots[::2], slots[1::2])
    twins.batched.advance(np.full(len(slots), 400), slots)
    before = twins.batched.get_state()
    twins.batched.restore(np.array([2]))
    twins.batched.restore_best(5)
    after = twins.batched.get_state()
    for slot in set(slots.tolist()) - {2, 5}:
        torch.testing.assert_close(after[slot]["row"], before[slot]["row"], rtol=0, atol=0)
    for slot in (2, 5):
        assert not torch.equal(
            after[slot]["row"]["tensors"]["theta"], before[slot]["row"]["tensors"]["theta"]
        )


def test_nan_in_one_slot_never_reaches_another() -> None:
    runs = []
    for poison in (0.01, 1e308):
        engine = BatchedEngine(9)
        for i, job in enumerate([make_job(name, dropout=0.2) for name in (*OPTIMIZERS, "sgd")]):
            engine.start(i, job, Streams(i))
        rows: list[dict[str, float]] = [{} for _ in range(9)]
        rows[4] = rows[8] = {"lr": poison, "batch_size": 50.0}
        engine.write(table(rows), NAMES, np.arange(9))
        found = [engine.advance(np.full(9, end), np.arange(9)) for end in (200, 400)]
        runs.append((found[-1], engine))
    (healthy, one), (poisoned, other) = runs
    assert poisoned.finite.tolist() == [i not in (4, 8) for i in range(9)]
    assert np.isinf(poisoned.val_loss[[4, 8]]).all()
    assert healthy.finite.all()
    for slot in set(range(9)) - {4, 8}:
        assert_equal(other.module(slot), one.module(slot))
        assert poisoned.val_loss[slot] == healthy.val_loss[slot]


def test_a_row_that_diverged_is_clean_for_the_next_job() -> None:
    twins = Twins([make_job("sgd", start={"lr": 1e300})], 1e-9)
    twins.batched.advance(np.array([200]), np.array([0]))
    assert not twins.batched.module(0)[0].weight.isfinite().all()  # type: ignore[index]
    fresh = Twins([make_job("adagrad")], 1e-9)
    twins.batched.start(0, make_job("adagrad"), Streams(0))
    fresh.batched = twins.batched
    fresh.advance([500])
    fresh.assert_same_weights()


def figures_of(interval: Interval) -> list[Any]:
    return [getattr(interval, name).tolist() for name in ("train_late", "val_loss", "grad_norm", "samples")]


def test_a_pickled_state_continues_bit_for_bit_where_jobs_were_started_in_another_order() -> None:
    jobs = mixed_jobs(12, 0.3)
    slots = np.arange(12)
    one, other = BatchedEngine(12), BatchedEngine(12)
    for i in range(12):
        one.start(i, jobs[i], Streams(i))
    other.start(3, make_job("adadelta"), Streams(99))
    for i in reversed(range(12)):
        other.start(i, jobs[i], Streams(i))
    one.write(table([{"lr": 0.004, "batch_size": 11.0}] * 12), NAMES, slots)
    one.advance(np.full(12, 150), slots)
    one.keep(slots[::2], slots[::3])
    one.advance(np.full(12, 200), slots)
    state = pickle.loads(pickle.dumps(one.get_state()))
    other.set_state(state)
    assert other.used.tolist() == one.used.tolist()
    assert other.val_samples.tolist() == one.val_samples.tolist()
    for engine in (one, other):
        engine.restore(slots[:4])
    found = [figures_of(engine.advance(np.full(12, 330), slots)) for engine in (one, other)]
    assert found[0] == found[1]
    for slot in range(12):
        assert_equal(other.module(slot), one.module(slot))


def test_a_state_does_not_change_when_the_engine_trains_on() -> None:
    twins = Twins([make_job("rmsprop", dropout=0.5)], 1e-9)
    slot = np.array([0])
    twins.batched.advance(np.array([100]), slot)
    state = twins.batched.get_state()
    first = figures_of(twins.batched.advance(np.array([300]), slot))
    twins.batched.set_state(state)
    assert figures_of(twins.batched.advance(np.array([300]), slot)) == first


def test_a_state_of_other_jobs_is_refused() -> None:
    engine = Twins([make_job()], 0.0).batched
    with pytest.raises(JobError, match="the state is of 2 slots, there are 1"):
        engine.set_state(Twins([make_job(), make_job()], 0.0).batched.get_state())
    with pytest.raises(JobError, match="parameters"):
        engine.set_state(Twins([make_job(model="gru")], 0.0).batched.get_state())


def test_memory_stays_flat_over_300_jobs_of_fresh_data_and_changing_architecture() -> None:
    engine = BatchedEngine(2)
    seen: dict[str, list[weakref.ref[Any]]] = {"groups": [], "arenas": [], "data": []}
    for i in range(300):
        width = 3 + i % 50
        data = make_data("mlp", "classification", torch.float32, seed=i, samples=30)
        seen["data"].append(weakref.ref(data[0]))
        job = TrainingJob(partial(mlp, 6, (width,), 3), data, data, budget=60)
        seat = engine.start(i % 2, job, Streams(i))
        assert isinstance(seat, BatchedSeat)
        engine.advance(np.full(2, 60), np.array([i % 2]))
        if i % 50 == i:
            seen["groups"].append(weakref.ref(seat.group))
            seen["arenas"].append(weakref.ref(seat.group.arena))
    alive = {name: len({id(r()) for r in refs if r() is not None}) for name, refs in seen.items()}
    assert len(engine.groups) <= IDLE + 2 + 1
    assert alive["groups"] <= len(engine.groups)
    assert alive["arenas"] == 1
    assert alive["data"] <= 2 * 2 + IDLE + 1
    for group in engine.groups:
        assert group.rows.capacity == 4
        assert group.arena.samples <= 2 * 3 * 30


def test_jobs_of_one_architecture_share_a_group_and_pools_are_shared_by_all() -> None:
    twins = Twins([make_job(name, model) for model in ("mlp", "gru") for name in ("adam", "sgd")], 0.0)
    groups = twins.batched.groups
    assert sorted(group.rows.used for group in groups) == [2, 2]
    assert all(group.arena.pools == 4 for group in groups)  # a train and a validation view of each job's data


def test_bytes_a_job_are_those_of_its_weights_and_state_seven_times() -> None:
    engine = Twins([make_job(), make_job(model="cnn")], 0.0).batched
    most = max(sum(p.numel() for p in engine.module(i).parameters()) for i in range(2))
    assert engine.bytes_per_job == 7 * 8 * most + 16
    assert BatchedEngine(1).bytes_per_job == 0


def test_a_network_as_it_stands_has_the_weights_and_dropout_rates_of_now_and_is_a_copy() -> None:
    twins = Twins([make_job(dropout=0.1), make_job(dropout=0.1)], 1e-9)
    twins.write([{"dropout": 0.3}, {}])
    module = twins.batched.module(0)
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    with torch.no_grad():
        module[0].weight.fill_(7.0)  # type: ignore[index]
    twins.assert_same_weights()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_evaluating_gives_the_reference_engines_metrics_and_counts_nothing(split: str) -> None:
    test = make_data("mlp", "classification", torch.float64, seed=9, samples=20)
    twins = Twins([make_job(test=test, dropout=0.0)], 1e-9)
    twins.advance([300])
    counted = twins.batched.val_samples.tolist()
    assert twins.batched.evaluate(0, split) == pytest.approx(twins.references[0].evaluate(split), rel=1e-9)
    assert twins.batched.val_samples.tolist() == counted


def test_misuse_is_an_error_that_names_it() -> None:
    engine = BatchedEngine(2)
    with pytest.raises(JobError, match="no job was started in slot 1"):
        engine.seat(1)
    engine.start(0, make_job("adagrad", budget=100), Streams(0))
    with pytest.raises(JobError, match="no test samples"):
        engine.evaluate(0, "test")
    with pytest.raises(ConfigError, match="'tset'"):
        engine.evaluate(0, "tset")
    with pytest.raises(ConfigError, match="no hyperparameter 'momentum'"):
        engine.write(np.array([[0.5], [np.nan]]), ["momentum"], np.array([0]))
    engine.advance(np.array([100, 0]), np.array([0]))
    with pytest.raises(JobError, match="budget of 100 samples in slot 0 is spent"):
        engine.advance(np.array([200, 0]), np.array([0]))


def test_a_job_that_cannot_be_built_leaves_its_slot_empty_and_the_others_at_work() -> None:
    twins = Twins([make_job(), make_job()], 1e-9)
    with pytest.raises(ConfigError, match="'momentum'"):
        twins.batched.start(1, make_job("adagrad", start={"momentum": 0.5}), Streams(1))
    with pytest.raises(JobError, match="slot 1"):
        twins.batched.module(1)
    lbfgs = TrainingJob(nn.Linear(6, 3), make_job().train, optimizer=torch.optim.LBFGS)
    with pytest.raises(JobError, match="LBFGS"):
        twins.batched.start(1, lbfgs, Streams(1))
    assert [group.rows.used for group in twins.batched.groups] == [1]
    twins.advance([300, 0], np.array([0]))


def test_a_class_number_that_the_model_has_no_output_for_is_refused_by_number() -> None:
    x, y = make_data("mlp", "classification", torch.float64)
    with pytest.raises(JobError, match="targets go up to class 7, the model has 3 classes"):
        BatchedEngine(1).start(0, make_job(train=(x, torch.full_like(y, 7)), validation=None), Streams(0))


def test_starting_training_and_evaluating_leave_global_random_state_alone(untouched_rng: None) -> None:
    twins = Twins([make_job(dropout=0.5), make_job(model="transformer", dropout=0.5)], 1e-9)
    twins.batched.advance(np.array([200, 200]), np.arange(2))
    twins.batched.evaluate(0, "validation")
