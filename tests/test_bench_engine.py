"""The batched engine's figures compare like with like; how fast it is is no test's business."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from rl_tuner import bench_engine as bench
from rl_tuner.bench_engine import EngineFigure, WayFigure, bench_ways, misses, mixed_sizes
from rl_tuner.bench_jobs import CASES, BareLoop, SideBySide, Way, mixed_ways
from rl_tuner.envs.group import Group
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.seats import BatchedSeat
from rl_tuner.errors import ConfigError

EAGER = Way("eager")


def loss_of(model: torch.nn.Module, name: str) -> float:
    inputs, targets = CASES[name].data()
    model.eval()
    with torch.no_grad():
        return functional.cross_entropy(model(inputs), targets).item()


@pytest.mark.parametrize("name", CASES)
def test_every_model_is_trained_as_a_row_of_a_group_not_on_its_own(name: str) -> None:
    run = SideBySide(CASES[name], [64, 64], EAGER)
    assert all(isinstance(run.engine.seat(slot), BatchedSeat) for slot in range(2))
    assert len(run.engine.groups) == 1


@pytest.mark.parametrize("name", CASES)
def test_a_model_has_the_size_that_its_description_states(name: str) -> None:
    parameters = sum(p.numel() for p in CASES[name].model().parameters())
    assert f"{parameters:,} parameters" in CASES[name].description


def test_an_interval_is_the_stated_number_of_updates_of_every_job() -> None:
    run = SideBySide(CASES["mlp"], [64, 64, 64], EAGER)
    run.run(5 * 64)
    run.run(5 * 64, intervals=2)
    assert run.engine.used.tolist() == [15 * 64] * 3
    (group,) = run.engine.groups
    rows = [run.engine.seat(slot).row for slot in range(3)]  # type: ignore[union-attr]
    assert group.rows.tensors["steps"][rows].flatten().tolist() == [15.0] * 3


def test_the_bare_loop_and_the_engine_learn_the_same_task_equally_well() -> None:
    loop, run = BareLoop(CASES["mlp"], 64), SideBySide(CASES["mlp"], [64] * 2, EAGER)
    before = loss_of(loop.model, "mlp")
    loop.run(60)
    run.run(20 * 64, intervals=3)
    alone, together = loss_of(loop.model, "mlp"), loss_of(run.engine.module(0), "mlp")
    assert before == pytest.approx(np.log(10), rel=0.1)
    assert alone < 0.7 * before
    assert together == pytest.approx(alone, rel=0.3)


def test_the_bare_loop_makes_the_updates_asked_for_and_leaves_the_generators_alone(
    untouched_rng: None,
) -> None:
    loop = BareLoop(CASES["gru"], 512)
    loop.run(5)  # more than one pass over the samples
    assert {int(state["step"]) for state in loop.optimizer.state.values()} == {5}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few updates as make a figure."""
    monkeypatch.setattr(bench, "LEAST_UPDATES", 3)


SIZES = [8, 256, 32, 8]


@pytest.mark.parametrize(
    "way", [Way("buckets", bucketed=True), Way("uniform", Uniform(32, 3, 2, compile=False))]
)
def test_every_way_trains_each_job_to_the_same_weights_as_rounds_do(way: Way) -> None:
    expected, run = SideBySide(CASES["mlp"], SIZES, EAGER), SideBySide(CASES["mlp"], SIZES, way)
    for jobs in (expected, run):
        jobs.run(256, intervals=2)
    assert run.engine.used.tolist() == expected.engine.used.tolist() == [512] * 4
    for slot in range(4):
        for a, b in zip(
            run.engine.module(slot).parameters(), expected.engine.module(slot).parameters(), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_buckets_run_one_batch_size_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    train = Group.train

    def watched(group: Group, works: list) -> object:  # type: ignore[type-arg]
        seen.append([work.batch_size for work in works])
        return train(group, works)

    monkeypatch.setattr(Group, "train", watched)
    SideBySide(CASES["mlp"], SIZES, Way("buckets", bucketed=True)).run(256)
    assert seen == [[8, 8], [32], [256]]


def test_the_figures_are_consistent_and_cover_models_jobs_and_ways(short: None) -> None:
    ticks: list[int] = []
    figures = bench.bench_engine(("mlp", "cnn"), (1, 3), 1, updates=2, on_action=lambda: ticks.append(1))
    assert [(f.model, f.jobs, f.way) for f in figures] == [
        (model, jobs, "eager") for model in ("mlp", "cnn") for jobs in (1, 3)
    ]
    assert len(ticks) == 2 * 3 * 2
    for f in figures:
        assert f.bare > 0
        assert f.batched > 0
        assert f.ratio == pytest.approx(f.jobs * f.bare / f.batched)
    # Weights and Adam's two buffers, live and good, and the best weights: 7 times the parameters at least.
    assert figures[0].bytes_per_job >= 7 * 4 * 2410


def test_times_are_scaled_to_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turn(actions: dict, repeats: int, *_: object) -> dict:  # type: ignore[type-arg]
        return {key: np.array([2.0, 4.0, 3.0]) for key in actions}

    monkeypatch.setattr(bench, "in_turn", in_turn)
    few, many = bench.bench_engine(("mlp",), (2, 100), 3, updates=10)
    assert few.bare == pytest.approx(3 / bench.LEAST_UPDATES)
    assert few.batched == pytest.approx(3 / (10 * 15))  # 15 intervals of 10 updates of 2 jobs are 300
    assert many.batched == pytest.approx(3 / 10)
    assert many.ratio == pytest.approx(100 * 10 / bench.LEAST_UPDATES)


def test_rates_of_mixed_jobs_are_relative_to_loops_of_the_same_batch_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_turn(actions: dict, repeats: int, *_: object) -> dict:  # type: ignore[type-arg]
        # An update takes 1 ms whatever its batch size; an interval of all jobs 0.1 s in every way.
        updates = {size: max(bench.LEAST_UPDATES, 512 // size) for size in bench.MIXED_SIZES}
        return {key: np.full(repeats, 1e-3 * updates[key] if key in updates else 0.1) for key in actions}

    monkeypatch.setattr(bench, "in_turn", in_turn)
    figures = bench_ways((4,), 2, samples=512)
    bare = sum(1e-3 * 512 / size for size in mixed_sizes(4).tolist())
    for f in figures:
        assert f.batched == pytest.approx(4 * 512 / 0.1)
        assert f.bare == pytest.approx(4 * 512 / bare)
        assert f.ratio == pytest.approx(bare / 0.1)


def test_the_ways_are_measured_on_the_same_jobs(short: None) -> None:
    ticks: list[int] = []
    figures = bench_ways((2,), 1, samples=256, on_action=lambda: ticks.append(1))
    assert [f.way for f in figures] == ["rounds", "buckets", "uniform 8", "uniform 32", "uniform 64"]
    assert len(ticks) == (6 + 5) * 2
    for f in figures:
        assert isinstance(f, WayFigure)
        assert f.jobs == 2
        assert f.bare == figures[0].bare > 0
        assert f.ratio == pytest.approx(f.batched / f.bare)


def test_compiled_ways_come_besides_the_others() -> None:
    ways = mixed_ways(compiled=True)
    assert [way.name for way in ways[-3:]] == ["compiled 8", "compiled 32", "compiled 64"]
    assert all(way.uniform is not None and way.uniform.compile for way in ways[-3:])
    assert not any(way.uniform is not None and way.uniform.compile for way in ways[:-3])


def test_mixed_batch_sizes_are_always_the_same_powers_of_two() -> None:
    sizes = mixed_sizes(128)
    assert np.array_equal(sizes, mixed_sizes(128))
    assert set(sizes.tolist()) == set(bench.MIXED_SIZES)


def test_the_number_of_threads_is_put_back(short: None) -> None:
    torch.set_num_threads(2)
    try:
        bench.bench_engine(("mlp",), (1,), 1, updates=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_what_misses_its_bar_is_said() -> None:
    def figure(model: str, jobs: int, way: str, ratio: float) -> EngineFigure:
        return EngineFigure(model, jobs, way, 1e-3, 1e-3, ratio, 1)

    others = [figure("mlp", 32, "eager", 1.0), figure("gru", 128, "eager", 1.0)]
    assert misses([figure("mlp", 128, "eager", 8.0), *others]) == []
    missed = misses([figure("mlp", 128, "eager", 7.9), figure("mlp", 128, "compiled", 17.0)])
    assert missed == [
        "mlp, 128 jobs, eager: 7.9 times the bare loop, below 8",
        "mlp, 128 jobs, compiled: 17.0 times the bare loop, below 18",
    ]


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'mpl'.*did you mean 'mlp'"):
        bench.bench_engine(("mpl",))
    for wrong in (lambda: bench.bench_engine(("mlp",), (0,)), lambda: bench_ways((0,))):
        with pytest.raises(ConfigError, match="jobs must be >= 1"):
            wrong()
    with pytest.raises(ConfigError, match="repeats must be >= 1"):
        bench.bench_engine(("mlp",), (1,), 0)
    with pytest.raises(ConfigError, match="updates must be >= 1"):
        bench.bench_engine(("mlp",), (1,), updates=0)
    with pytest.raises(ConfigError, match="samples must be >= 256"):
        bench_ways((1,), samples=64)
