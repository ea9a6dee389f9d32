"""Programs of static shapes: the same numbers as rounds and as the reference engine, compiled or not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner.envs import compiling
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.jobs import OPTIMIZERS, TrainingJob
from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.programs import Programs, Uniform
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval
from rl_tuner.seeding import Streams

EAGER = Uniform(micro_batch=16, capacity=4, unrolled=3, compile=False)
SIZES = (8, 16, 20, 50, 1, 33)
"""Batch sizes below, at and above the micro-batch, most of them no multiple of it."""


def make_job(i: int, dropout: float = 0.0, optimizer: str | None = None, **start: float) -> TrainingJob:
    generator = torch.Generator().manual_seed(i % 3)
    x = torch.randn(120, 7, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (120,), generator=generator)
    name = optimizer or list(OPTIMIZERS)[i % len(OPTIMIZERS)]
    values = {"lr": 10 ** (-1 - i % 3), "batch_size": SIZES[i % len(SIZES)], "weight_decay": (0, 1e-2)[i % 2]}
    if dropout:
        values["dropout"] = dropout
    if name not in ("adagrad", "adadelta"):
        values["momentum"] = (0.9, 0.0, 0.5)[i % 3]
    return TrainingJob(
        lambda: mlp(7, (6,), 4, 0.1 if dropout else None).double(),
        train=(x, y),
        validation=(x[:30], y[:30]),
        optimizer=name,
        start=values | start,
        budget=400 + 7 * i,
    )


def run(
    jobs: Sequence[TrainingJob], uniform: Uniform | None, parts: int = 4, averaging: bool = False
) -> tuple[BatchedEngine, list[Interval]]:
    """Trains all jobs to their ends, in intervals of unequal length."""
    engine = BatchedEngine(len(jobs), uniform=uniform, averaging=averaging)
    for slot, job in enumerate(jobs):
        engine.start(slot, job, Streams(slot))
    budgets = np.array([job.budget for job in jobs])
    slots = np.arange(len(jobs))
    told = []
    for part in range(1, parts + 1):
        skip = part == 2 and len(jobs) > 1  # somebody pauses
        told.append(engine.advance(budgets * part // parts + slots % 5 * (part < parts), slots[skip:]))
    return engine, told


def assert_alike(
    found: tuple[BatchedEngine, list[Interval]], expected: tuple[BatchedEngine, list[Interval]], rtol: float
) -> None:
    for interval, other in zip(found[1], expected[1], strict=True):
        for field in fields(Interval):
            values, wanted = getattr(interval, field.name), getattr(other, field.name)
            np.testing.assert_allclose(values, wanted, rtol=rtol, atol=1e-11, err_msg=field.name)
    for slot in range(len(found[0].used)):
        for p, q in zip(
            found[0].module(slot).parameters(), expected[0].module(slot).parameters(), strict=True
        ):
            torch.testing.assert_close(p, q, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("averaging", [False, True], ids=["", "averaging"])
@pytest.mark.parametrize(("m", "capacity"), [(2, 32), (16, 4), (16, 32), (64, 3)])
def test_uniform_programs_give_the_numbers_of_rounds(m: int, capacity: int, averaging: bool) -> None:
    jobs = [make_job(i) for i in range(14)]
    uniform = replace(EAGER, micro_batch=m, capacity=capacity)
    assert_alike(run(jobs, uniform, averaging=averaging), run(jobs, None, averaging=averaging), 1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_uniform_programs_give_the_numbers_of_the_reference_engine(optimizer: str) -> None:
    jobs = [make_job(i, optimizer=optimizer) for i in range(6)]
    assert_trained_as_alone(jobs, *run(jobs, EAGER, parts=1))


def assert_trained_as_alone(
    jobs: Sequence[TrainingJob], engine: BatchedEngine, intervals: list[Interval]
) -> None:
    """Trained to the end in one interval, each as the reference engine trains it."""
    for slot, job in enumerate(jobs):
        reference = ReferenceEngine(job, Streams(slot))
        expected = reference.advance(int(job.budget or 0))
        for field in fields(Interval):
            value = getattr(intervals[0], field.name)[slot]
            # The meter's norms are single precision, whatever the model's.
            rtol = 1e-5 if field.name in ("grad_norm", "update_ratio") else 1e-6
            np.testing.assert_allclose(value, getattr(expected, field.name), rtol=rtol, err_msg=field.name)
        for p, q in zip(engine.module(slot).parameters(), reference.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)


def test_dropout_masks_are_those_of_rounds_however_batches_are_cut() -> None:
    jobs = [make_job(i, dropout=0.2 * (i % 3) + 0.1) for i in range(9)]
    assert_alike(run(jobs, EAGER), run(jobs, None), 1e-9)


REGULARIZED: tuple[dict[str, float], ...] = (
    {"l1": 0.02},
    {"l2": 0.1},
    {"label_smoothing": 0.2},
    {"max_grad_norm": 0.3},
    {},
    {"l1": 0.01, "l2": 0.02, "label_smoothing": 0.4, "max_grad_norm": 0.8},
)
"""By `make_job`'s number; the fifth one's 400 updates would blow rounding up where weights change signs."""


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_regularizers_act_as_on_the_reference_engine_and_leave_neighbours_alone(optimizer: str) -> None:
    jobs = [make_job(i, optimizer=optimizer, **REGULARIZED[i]) for i in range(6)]
    uniform = replace(EAGER, micro_batch=8)  # most batches take several ticks
    assert_trained_as_alone(jobs, *run(jobs, uniform, parts=1))


def test_programs_that_served_regularizers_serve_jobs_without_and_what_changes() -> None:
    jobs = [make_job(i, optimizer=None, **REGULARIZED[i % 6]) for i in range(12)]

    def engine(uniform: Uniform | None) -> BatchedEngine:
        made = BatchedEngine(len(jobs), uniform=uniform)
        for slot, job in enumerate(jobs):
            made.start(slot, job, Streams(slot))
        return made

    each, slots = (engine(EAGER), engine(None)), np.arange(12)
    told: tuple[list[Interval], list[Interval]] = [], []
    for turn in range(4):
        for made, intervals in zip(each, told, strict=True):
            for name in ("l1", "l2", "label_smoothing", "max_grad_norm"):
                values = np.array([[0.3 * turn + 0.01 if name in job.start else np.nan] for job in jobs])
                made.write(values, (name,), slots)
            # In the second turn only jobs without train.
            chosen = slots[4::6] if turn == 1 else slots
            intervals.append(made.advance(np.full(12, 90 * (turn + 1)), chosen))
    assert_alike((each[0], told[0]), (each[1], told[1]), 1e-9)


def test_jobs_without_regularizers_have_programs_without() -> None:
    engine, _ = run([make_job(i) for i in range(4)], EAGER)
    (group,) = engine.groups
    assert group._programs is not None
    assert group._programs.uses == frozenset()


def test_a_job_without_numbers_leaves_its_neighbours_alone() -> None:
    jobs = [make_job(i, optimizer="sgd") for i in range(5)]
    broken = [*jobs[:4], make_job(4, optimizer="sgd", lr=1e300)]
    (found, intervals), (expected, _) = run(broken, EAGER), run(jobs, EAGER)
    assert not intervals[-1].finite[4]
    for slot in range(4):
        for p, q in zip(found.module(slot).parameters(), expected.module(slot).parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["micro_batch", "capacity", "unrolled"])
def test_a_size_below_one_is_refused(name: str) -> None:
    sizes = {"micro_batch": 1, "capacity": 1, "unrolled": 1, name: 0}
    with pytest.raises(ConfigError, match=name):
        Uniform(sizes["micro_batch"], sizes["capacity"], sizes["unrolled"])


def _no_compiler(*_: object, **__: object) -> None:
    raise RuntimeError("No working C++ compiler found")


def test_without_a_compiler_programs_run_eagerly_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "_compiled", _no_compiler)
    monkeypatch.setattr(compiling, "_TOLD", set())
    jobs = [make_job(i) for i in range(3)]
    with pytest.warns(UserWarning, match="uncompiled.*No working C") as told:
        found = run([*jobs], replace(EAGER, compile=True))
    assert len(told) == 1  # of several programs
    assert_alike(found, run(jobs, None), 1e-9)


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_found_out(tmp_path: Path) -> None:
    code = (
        "import torch, warnings; warnings.simplefilter('error', DeprecationWarning)\n"
        "from rl_tuner.envs.compiling import fast\n"
        "f = fast(lambda a: (a.add_(1) * 2,), [torch.ones(3)])\n"
        "print(f(torch.ones(3))[0].tolist())"
    )
    environment = {"PATH": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[4.0, 4.0, 4.0]"
    assert done.stderr.count("WARN: training programs run uncompiled") == 1


@pytest.mark.slow
def test_compiled_programs_give_the_numbers_of_rounds() -> None:
    jobs = [make_job(i, dropout=0.3, optimizer="adam", **REGULARIZED[i + 2]) for i in range(4)]
    uniform = replace(EAGER, unrolled=2, compile=True)
    assert_alike(run(jobs, uniform, averaging=True), run(jobs, None, averaging=True), 1e-9)


def _sequences(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randint(0, 5, (60, 4), generator=torch.Generator().manual_seed(seed))
    return x, x.sum(1) % 3


MODELS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: gru(5, 3, 4, 4),
    "transformer": lambda: transformer(5, 4, 3, 4, 2, 1),
    "cnn": lambda: cnn((1, 8, 8), (16, 32), 10, "none", 0.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_architectures_give_the_numbers_of_rounds(name: str) -> None:
    def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = _sequences(seed)
        return (x, y) if name != "cnn" else (torch.nn.functional.one_hot(x, 16).flatten(1).double(), y)

    jobs = [
        TrainingJob(
            lambda: MODELS[name]().double(),
            train=data(i),
            optimizer="sgd",  # Adam would blow up the rounding noise in the gradient of attention's key bias
            start={"lr": 1e-1, "batch_size": (8, 20, 16)[i]},
            budget=120,
        )
        for i in range(3)
    ]
    assert_alike(run(jobs, EAGER, 1), run(jobs, None, 1), 1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_function_changes_its_arguments_as_the_plain_one() -> None:
    start = torch.arange(4.0, device="cuda")
    graphed = compiling.GraphedFunction(lambda a, b: (a.mul_(2) + b,), [start, start])
    changed = start.clone()
    for factor in (2, 4):
        (total,) = graphed(changed, start)
        assert torch.equal(changed, factor * start)
        assert torch.equal(total, (factor + 1) * start)


def with_beta2(i: int) -> TrainingJob:
    def adam(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01, betas=(0.9, 1 - 0.01 * (i + 1)))

    return replace(make_job(i, optimizer="adam"), optimizer=adam)


def test_programs_do_not_serve_ever_more_optimizers_settings() -> None:
    engine, plain = BatchedEngine(2, uniform=EAGER), BatchedEngine(2)
    slots, served = np.arange(2), []
    for episode in range(10):
        for slot in range(2):
            for each in (engine, plain):
                each.start(slot, with_beta2(2 * episode + slot), Streams(slot))
        for part in (100, 200):
            found, expected = (each.advance(np.full(2, part), slots) for each in (engine, plain))
            np.testing.assert_allclose(found.val_loss, expected.val_loss, rtol=1e-9)
        (group,) = engine.groups
        assert group._programs is not None
        served.append(len(group._programs.kinds))
    assert served == [2, 4, 6, 8, 2, 4, 6, 8, 2, 4]


def test_rules_in_use_are_all_served_however_many_and_fewer_of_them_need_no_new_programs() -> None:
    programs = Programs(None, None, [], EAGER)  # type: ignore[arg-type]
    programs.admit(range(12), frozenset({"dropout"}))
    assert programs.kinds == tuple(range(12))
    programs._made = {None: None}  # type: ignore[dict-item]
    programs.admit([3, 5], frozenset())
    assert (programs.kinds, programs.uses, len(programs._made)) == (
        tuple(range(12)),
        frozenset({"dropout"}),
        1,
    )
    programs.admit([20, 5], frozenset({"l1"}))
    assert (programs.kinds, programs.uses, len(programs._made)) == ((5, 20), frozenset({"dropout", "l1"}), 0)
