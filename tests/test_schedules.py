"""Schedules do what torch's schedulers of the same name do, at any number and spacing of decisions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from typer.testing import CliRunner

from rl_tuner import ConfigError, TunedBatchSampler, Tuner
from rl_tuner.cli import app
from rl_tuner.course import Course
from rl_tuner.envs import JobSpec, TuningEnv
from rl_tuner.envs.tuning_setup import options_for
from rl_tuner.features import FeatureSet
from rl_tuner.history import Interval, Record
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.schedules import (
    SCHEDULE_OPTIONS,
    SCHEDULES,
    BatchGrowth,
    Constant,
    Cosine,
    EarlyStopping,
    Plateau,
    Schedule,
    Step,
    make_schedule,
)
from rl_tuner.trials import run_trials
from tests.contracts_policies import SMALL_JOB, ScheduleContract

OF_PROGRESS = [
    "step", "exponential", "cosine", "cosine-restarts", "onecycle", "wsd", "linear",
]  # fmt: skip
"""The schedules that are a function of progress alone, and move."""


class TestConstant(ScheduleContract):
    def make(self) -> Schedule:
        return Constant()


class TestStep(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("step")


class TestExponential(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("exponential")


class TestCosine(ScheduleContract):
    def make(self) -> Schedule:
        return Cosine()


class TestCosineRestarts(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("cosine-restarts")


class TestOneCycle(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("onecycle")


class TestWarmupStableDecay(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("wsd")


class TestLinear(ScheduleContract):
    def make(self) -> Schedule:
        return make_schedule("linear")


class TestPlateau(ScheduleContract):
    has_memory = True

    def make(self) -> Schedule:
        return Plateau()


class TestEarlyStopping(ScheduleContract):
    job = replace(SMALL_JOB, lr=1.0)  # its loss jumps about
    stops_early = True

    def make(self) -> Schedule:
        return EarlyStopping()


class TestBatchGrowth(ScheduleContract):
    def make(self) -> Schedule:
        return BatchGrowth()


def observation(schedule: Schedule, interval: float = 0.01, **features: float) -> np.ndarray:
    """An observation before an interval that takes the given share of the budget."""
    names = FeatureSet(schedule.space).names
    seen = np.zeros(len(names), dtype=np.float32)
    for name, value in {"next_interval": math.log10(interval) + 1, **features}.items():
        seen[names.index(name)] = value
    return seen


class Nothing:
    """What is trained where nothing is."""

    def keep(self) -> int:
        return 0

    def restore(self, kept: int) -> None: ...

    def write(self, values: Mapping[str, float]) -> None: ...


def drive(
    policy: Policy,
    decisions: int | None = None,
    start: Mapping[str, float | None] | None = None,
    losses: Sequence[float] = (),
    limits: Mapping[str, float] | None = None,
    **config: str,
) -> tuple[Record, ...]:
    """A job's records under a policy; its validation loss is 1 before training, then as given, then flat."""
    settings = replace(policy.config, decisions=decisions or policy.config.decisions, **config)
    course: Course[int] = Course(policy.space, policy.actions, settings, 100_000)
    course.begin(Nothing(), start or {"lr": 0.03}, 1.0, limits)
    policy.reset(0)
    given = iter(losses)
    while not course.finished:
        course.act(policy.act(course.observation()))
        loss = next(given, 1.0 if course.decision == 0 else float(course.track.last))
        course.settle(Nothing(), Interval(val_loss=loss, train_early=loss, train_late=loss), course.next_end)
    return course.records


def learning_rates(policy: Policy, decisions: int | None = None, **more: str) -> np.ndarray:
    """What a learning rate of 1 becomes, decision by decision."""
    return np.array([r.values["lr"] for r in drive(policy, decisions, {"lr": 1.0}, **more)])


def torch_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def torch_middles(
    build: Callable[[torch.optim.Optimizer, int], lr_scheduler.LRScheduler], decisions: int
) -> np.ndarray:
    """What torch's scheduler gives at the middles of even intervals, each of them 14 of its steps long."""
    optimizer, total, found = torch_optimizer(), 14 * decisions, []
    scheduler = build(optimizer, total)
    optimizer.step()  # torch warns if only its scheduler is stepped
    for step in range(total):
        if step % 14 == 7:
            found.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    # A reach of three decades: below a thousandth of the start value it stays there.
    return np.maximum(found, 1e-3)


def torch_wsd(optimizer: torch.optim.Optimizer, total: int) -> lr_scheduler.LRScheduler:
    up = lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, total // 20)
    stable = lr_scheduler.ConstantLR(optimizer, 1.0)
    down = lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total // 5)
    return lr_scheduler.SequentialLR(optimizer, [up, stable, down], [total // 20, total - total // 5])


def torch_onecycle(optimizer: torch.optim.Optimizer, total: int) -> lr_scheduler.LRScheduler:
    # Of total + 1 learning rates the peak is to be number 0.3 total, counted from 0; torch subtracts one.
    rise = (0.3 * total + 1) / (total + 1)
    return lr_scheduler.OneCycleLR(
        optimizer, 1.0, total + 1, pct_start=rise, cycle_momentum=False, div_factor=25, final_div_factor=400
    )


TORCH: dict[str, Callable[[torch.optim.Optimizer, int], lr_scheduler.LRScheduler]] = {
    "step": lambda o, n: lr_scheduler.MultiStepLR(o, [n // 2, 3 * n // 4]),
    "exponential": lambda o, n: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / n)),
    "cosine": lambda o, n: lr_scheduler.CosineAnnealingLR(o, n),
    "cosine-restarts": lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, n // 7, 2),
    "onecycle": torch_onecycle,
    "wsd": torch_wsd,
    "linear": lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, n),
}


@pytest.mark.parametrize("decisions", [20, 100])
@pytest.mark.parametrize("name", TORCH)
def test_a_schedule_is_torchs_at_the_middle_of_each_interval(name: str, decisions: int) -> None:
    ours = learning_rates(SCHEDULES[name](), decisions)
    np.testing.assert_allclose(ours, torch_middles(TORCH[name], decisions), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OF_PROGRESS)
def test_twenty_decisions_see_the_same_curve_as_a_hundred(name: str) -> None:
    # The middle of interval k of 20 is the middle of interval 5 k + 2 of 100.
    coarse, fine = learning_rates(SCHEDULES[name](), 20), learning_rates(SCHEDULES[name](), 100)
    np.testing.assert_allclose(coarse, fine[2::5], rtol=1e-4)


def test_cosine_at_its_own_decisions_is_the_closed_form() -> None:
    middles = (np.arange(100) + 0.5) / 100
    exact = (1 + np.cos(np.pi * middles)) / 2
    np.testing.assert_allclose(learning_rates(Cosine()), np.maximum(exact, 1e-3), atol=1e-6)


def test_uneven_intervals_are_met_at_their_middles() -> None:
    records = drive(Cosine(), 12, {"lr": 1.0}, intervals="geometric")
    ends = np.array([0, *(r.used for r in records)]) / 100_000
    exact = (1 + np.cos(np.pi * (ends[1:] + ends[:-1]) / 2)) / 2
    np.testing.assert_allclose([r.values["lr"] for r in records], np.maximum(exact, 1e-3), atol=1e-6)


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def wsd_formula(p: float, warmup: float, decay: float, floor: float) -> float:
    if p < warmup:
        return 1e-3 + (1 - 1e-3) * p / warmup
    return 1 - (1 - floor) * max(p - (1 - decay), 0) / decay


def onecycle_formula(p: float, peak: float, initial: float, floor: float) -> float:
    if p < peak:
        return 1 + (initial - 1) * half_cosine(p / peak)
    return floor + (1 - floor) * half_cosine((p - peak) / (1 - peak))


FORMULAS: dict[str, Callable[..., float]] = {
    "linear": lambda p, floor: 1 + (floor - 1) * p,
    "cosine": lambda p, floor: floor + (1 - floor) * half_cosine(p),
    "exponential": lambda p, floor: floor**p,
    "wsd": wsd_formula,
    "onecycle": onecycle_formula,
}
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "linear": {"floor": (0, 0.9)},
    "cosine": {"floor": (0, 0.9)},
    "exponential": {"floor": (1e-3, 0.9)},
    "wsd": {"warmup": (0.1, 0.5), "decay": (0.1, 0.5), "floor": (0, 0.9)},
    "onecycle": {"peak": (0.1, 0.9), "initial": (0.01, 0.9), "floor": (1e-4, 0.9)},
}


@pytest.mark.parametrize("name", FORMULAS)
@given(data=st.data())
def test_with_other_parameters_a_schedule_is_still_its_formula(name: str, data: st.DataObject) -> None:
    options = {
        option: data.draw(st.floats(low, high), label=option) for option, (low, high) in RANGES[name].items()
    }
    schedule = make_schedule(name, options)
    for middle in data.draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5)):
        interval = min(middle, 1 - middle, 0.1) + 1e-9
        seen = observation(schedule, interval, progress=max(middle - interval / 2, 0.0))
        # A table of 4200 steps: where a straight part begins, it may be half a step off.
        slack = 1.2e-4 / min(options["warmup"], options["decay"]) if name == "wsd" else 1e-5
        assert schedule.factor(seen) == pytest.approx(FORMULAS[name](middle, **options), abs=slack)


@given(st.floats(0.05, 0.95), st.integers(1, 6), st.floats(0.01, 0.9))
def test_step_counts_the_drops_that_lie_behind(first: float, drops: int, reduction: float) -> None:
    schedule = Step(first, drops, reduction)
    at = [1 - (1 - first) / 2**k for k in range(drops)]
    for middle in np.linspace(0.005, 0.995, 34):
        if min(abs(middle - drop) for drop in at) > 1e-3:
            behind = sum(drop < middle for drop in at)
            seen = observation(schedule, 0.01, progress=middle - 0.005)
            assert schedule.factor(seen) == pytest.approx(reduction**behind, rel=1e-9)


@pytest.mark.parametrize(
    ("cycles", "growth", "floor"),
    [(1, 1, 0.0), (1, 4, 0.5), (4, 1, 0.2), (3, 2, 0.0), (5, 3, 0.1), (8, 1, 0.0)],
)
def test_cosine_restarts_begins_as_many_cycles_as_asked_for(cycles: int, growth: int, floor: float) -> None:
    options = {"cycles": cycles, "growth": growth, "floor": floor}
    factors = learning_rates(make_schedule("cosine-restarts", options), 1000)
    rises = [k for k, (a, b) in enumerate(pairwise(factors)) if b > a]
    assert len(rises) == cycles - 1
    lengths, shares = np.diff([0, *(k + 1 for k in rises), 1000]), growth ** np.arange(cycles)
    assert lengths == pytest.approx(1000 * shares / shares.sum(), rel=0.02, abs=2)
    assert factors[-1] == pytest.approx(max(floor, 1e-3), abs=2e-2)


def test_onecycle_peaks_at_the_start_value_from_a_twenty_fifth_of_it() -> None:
    factors = learning_rates(SCHEDULES["onecycle"](), 1000)
    assert factors[0] == pytest.approx(1 / 25, abs=1e-4)
    assert factors.max() == pytest.approx(1.0, abs=1e-4)
    assert factors.argmax() in (299, 300)
    assert factors[-1] == pytest.approx(1e-3, rel=1e-9)  # 1e-4 lies below the learning rate's reach


@pytest.mark.parametrize(("warmup", "decay"), [(0.0, 0.0), (0.0, 0.3), (0.3, 0.0), (0.4, 0.6)])
def test_wsd_may_lack_any_of_its_parts(warmup: float, decay: float) -> None:
    factors = learning_rates(make_schedule("wsd", {"warmup": warmup, "decay": decay}), 100)
    up, down = round(100 * warmup), round(100 * decay)
    assert (np.diff(factors[: up + 1]) > 0).all()
    assert factors[up : 100 - down] == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(factors[100 - down :]) < 0).all()


@pytest.mark.parametrize("name", ["constant", "early-stopping"])
def test_a_constant_learning_rate_stays_at_the_start_value_bit_for_bit(name: str) -> None:
    values = {r.values["lr"] for r in drive(SCHEDULES[name](), 20, {"lr": 0.0123})}
    assert values == {0.0123}


@given(st.lists(st.floats(-3, 1, width=16), min_size=1, max_size=80))
def test_plateau_is_torchs_on_the_same_losses(levels: list[float]) -> None:
    optimizer = torch_optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer)
    plateau = Plateau()
    for level in levels:
        scheduler.step(math.exp(level))
        assert plateau.factor(observation(plateau, val_vs_first=level)) == optimizer.param_groups[0]["lr"]


def test_plateau_falls_tenfold_after_ten_decisions_without_improvement() -> None:
    factors = learning_rates(Plateau())
    assert factors[:11].tolist() == [1.0] * 11
    assert factors[11:22] == pytest.approx(0.1)
    assert factors[22] == pytest.approx(0.01)


def test_a_tenth_of_the_budget_is_two_decisions_of_twenty() -> None:
    factors = learning_rates(Plateau(), 20)
    assert factors[:9] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_plateaus_patience_and_reduction_can_be_chosen() -> None:
    plateau = Plateau(patience=0.01, reduction=0.5)
    assert learning_rates(plateau)[:4] == pytest.approx([1.0, 1.0, 0.5, 0.5])


def test_plateau_holds_while_the_loss_falls() -> None:
    records = drive(Plateau(), losses=[0.9**k for k in range(100)])
    assert {r.values["lr"] for r in records} == {0.03}


def test_early_stopping_ends_ten_decisions_after_the_last_best_loss() -> None:
    # New best losses at decisions 0, 1, 2 and 5; then ten without one: 6 to 15.
    losses = [0.9, 0.8, 0.7, 0.75, 0.7, 0.6, *[0.6] * 94]
    records = drive(EarlyStopping(), losses=losses)
    assert [r.decision for r in records] == list(range(16))
    assert records[-1].used == 16_000
    assert len(drive(EarlyStopping(patience=3), losses=losses)) == 9


def test_early_stopping_runs_to_the_end_while_the_loss_falls() -> None:
    assert len(drive(EarlyStopping(), losses=[0.99**k for k in range(100)])) == 100


def batch_growth(
    batch_size: float, decisions: int = 8, limit: float = 1e9, **options: float
) -> list[tuple[float, float]]:
    """Learning rate over its start value, and batch size, decision by decision."""
    schedule = make_schedule("batch-growth", options)
    limits = {"batch_size": limit}
    records = drive(schedule, decisions, {"lr": 0.5, "batch_size": batch_size}, limits=limits)
    return [(r.values["lr"] / 0.5, r.values["batch_size"]) for r in records]


BATCHES = {
    # Cuts of 10 and 100 from decision 4 and 6 on; the batch grows 8-fold, then 16-fold: its reach.
    "as far as the reach": ({"batch_size": 16}, [(1, 16)] * 4 + [(0.8, 128)] * 2 + [(0.16, 256)] * 2),
    # Cuts of 4 and 16 are powers of two: the learning rate is left alone.
    "in place of every cut": (
        {"batch_size": 32, "reduction": 0.25},
        [(1, 32)] * 4 + [(1, 128)] * 2 + [(1, 512)] * 2,
    ),
    # A cut of 1.25 holds no power of two, one of 1.5625 neither: the learning rate is cut.
    "not for a small cut": (
        {"batch_size": 32, "reduction": 0.8},
        [(1, 32)] * 4 + [(0.8, 32)] * 2 + [(0.64, 32)] * 2,
    ),
    # Cuts of √2 and 2: only the second holds a power of two.
    "once the cuts add up": (
        {"batch_size": 32, "reduction": 0.5**0.5},
        [(1, 32)] * 4 + [(0.5**0.5, 32)] * 2 + [(1, 64)] * 2,
    ),
    # 1024 is the largest batch: 300 grows 3.41-fold, and the learning rate makes up for the rest.
    "up to the largest batch": (
        {"batch_size": 300, "first": 0.25, "drops": 1},
        [(1, 300)] * 2 + [(1024 / 3000, 1024)] * 6,
    ),
    "not beyond it": ({"batch_size": 1024}, [(1, 1024)] * 4 + [(0.1, 1024)] * 2 + [(0.01, 1024)] * 2),
    # A dataset of 100 samples shows at the decision after the one that asked for 128: 0.8, then 100 / 160.
    "up to the whole dataset": (
        {"batch_size": 16, "limit": 100},
        [(1, 16)] * 4 + [(0.8, 100), (0.625, 100)] + [(0.0625, 100)] * 2,
    ),
}


@pytest.mark.parametrize("case", BATCHES)
def test_batch_growth_grows_the_batch_and_cuts_what_is_left(case: str) -> None:
    options, expected = BATCHES[case]
    assert batch_growth(**options) == [pytest.approx(pair, rel=1e-5) for pair in expected]


@given(
    batch=st.integers(1, 2048),
    first=st.floats(0.2, 0.8),
    drops=st.integers(1, 4),
    reduction=st.floats(0.05, 0.9),
)
def test_lr_over_batch_size_falls_as_the_step_schedules(
    batch: int, first: float, drops: int, reduction: float
) -> None:
    options = {"first": first, "drops": drops, "reduction": reduction}
    steps = learning_rates(make_schedule("step", options), 20)
    for (lr, size), step in zip(batch_growth(batch, 20, **options), steps, strict=True):
        # A batch size is a whole number; a learning rate ends a thousandfold below its start.
        assert lr == pytest.approx(max(step * size / batch, 1e-3), rel=1e-2 + 0.5 / size) or step < 1.1e-3


def test_without_a_batch_size_batch_growth_is_the_step_schedule() -> None:
    for lacking in ({"lr": 1.0}, {"lr": 1.0, "batch_size": None}):
        found = [r.values["lr"] for r in drive(BatchGrowth(), 20, lacking)]
        assert found == pytest.approx(learning_rates(Step(), 20))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_found_by_its_name(name: str) -> None:
    for schedule in (make_schedule(name), load_policy(name)):
        assert isinstance(schedule, Schedule)
        assert schedule.name == name


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_a_search_may_vary_is_accepted_from_end_to_end(name: str) -> None:
    for option, h in SCHEDULE_OPTIONS[name].items():
        low, high = (learning_rates(make_schedule(name, {option: value}), 100) for value in (h.low, h.high))
        assert h.low < h.high
        assert not np.allclose(low, high)


def test_whole_numbers_may_come_as_floats() -> None:
    options = json.loads(json.dumps({"cycles": 2.0, "growth": 1.0}))
    np.testing.assert_array_equal(
        learning_rates(make_schedule("cosine-restarts", options), 20),
        learning_rates(make_schedule("cosine-restarts", {"cycles": 2, "growth": 1}), 20),
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "unknown schedule 'cosin' .did you mean 'cosine'"),
        ("cosine", {"flor": 0.1}, "unknown option of the schedule 'cosine' 'flor' .did you mean 'floor'"),
        ("constant", {"floor": 0.1}, "the schedule 'constant' has no options, got 'floor'"),
        ("cosine", {"floor": 1.0}, "floor must be >= 0 and < 1, got 1.0"),
        ("exponential", {"floor": 0.0}, "floor must be >= 1e-06 and < 1, got 0.0"),
        ("linear", {"floor": float("nan")}, "floor must be"),
        ("step", {"first": 0.0}, "first must be > 0 and < 1, got 0.0"),
        ("step", {"drops": 2.5}, "drops must be a whole number, got 2.5"),
        ("step", {"drops": 7}, "drops must be >= 1 and <= 6, got 7"),
        ("step", {"reduction": "a tenth"}, "reduction must be .* got 'a tenth'"),
        ("onecycle", {"peak": 1.0}, "peak must be > 0 and < 1, got 1.0"),
        ("onecycle", {"initial": 2.0}, "initial must be"),
        ("wsd", {"warmup": 0.6, "decay": 0.5}, "warmup and decay must be <= 1 together, got 0.6 and 0.5"),
        ("cosine-restarts", {"cycles": 8, "growth": 4}, "first is below a thousandth of the budget"),
        ("plateau", {"patience": 0}, "patience must be > 0 and <= 1, got 0"),
        ("early-stopping", {"patience": 0.5}, "patience must be >= 1"),
        ("batch-growth", {"reduction": 1}, "reduction must be >= 1e-06 and < 1, got 1"),
    ],
)
def test_what_makes_no_schedule_is_said(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_schedule(name, options)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_tuner_runs_it_on_a_plain_loop_as_a_course_would(name: str) -> None:
    data, model = torch.linspace(-1, 1, 512)[:, None], nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    sampler = TunedBatchSampler(512, 16, seed=0)
    tuner = Tuner(
        optimizer, total_steps=200, policy=name, model=model, batch_sampler=sampler, validate=lambda: 2.0
    )
    used = []
    while not tuner.finished and tuner.used < 200:
        used.append((optimizer.param_groups[0]["lr"], float(sampler.batch_size)))
        loss = (model(data[sampler.draw()]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tuner.step(loss)
    records = drive(SCHEDULES[name](), start={"lr": 0.25, "batch_size": 16.0}, limits={"batch_size": 512.0})
    expected = [(r.values["lr"], r.values.get("batch_size", 16.0)) for r in records]
    assert used == [pytest.approx(pair, rel=1e-6) for pair in expected for _ in range(2)]
    assert (tuner.finished, tuner.crashed) == (True, False)


@pytest.mark.parametrize("name", ["plateau", "batch-growth", "wsd"])
def test_a_trial_moves_as_an_environment_does(name: str) -> None:
    job = JobSpec("iris", "mlp-4", "adam", 400, 0, 1e-2, 8, 0.0, 0.9, None)
    (trial,) = run_trials([job], [7], [SCHEDULES[name]()], decisions=20, intervals="uniform")
    schedule = SCHEDULES[name]()
    env = TuningEnv(**{**options_for(schedule), "decisions": 20})
    seen, _ = env.reset(seed=7, options={"job": job})
    over = False
    while not over:
        seen, _, over, _, _ = env.step(schedule.act(seen))
    assert len(trial.records) == len(env.records)
    for mine, its in zip(trial.records, env.records, strict=True):
        assert {k: mine.values[k] for k in its.values} == pytest.approx(its.values)


def test_the_list_says_in_a_line_what_each_schedule_does_and_what_a_search_may_vary() -> None:
    result = CliRunner().invoke(app, ["list", "--schedules", "--json"])
    found = json.loads(result.stdout)["schedules"]
    assert list(found) == list(SCHEDULES) == list(SCHEDULE_OPTIONS)
    assert all(20 < len(entry["description"]) < 105 for entry in found.values())
    assert found["cosine"]["search_options"] == {"floor": {"low": 1e-3, "high": 0.3, "log": True}}
