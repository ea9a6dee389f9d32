"""The performance figures of the batched engine: jobs side by side over bare loops of the same jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rl_tuner.bench_jobs import CASES, BareLoop, SideBySide, Way, engine_ways, mixed_ways
from rl_tuner.config import choose, require_range
from rl_tuner.envs.jobs import require_device
from rl_tuner.timing import in_turn, one_thread

BATCH_SIZE = 64
JOBS = (1, 8, 32, 128, 256)
LEAST_UPDATES = 300
"""So many updates, of all jobs together, are timed at least; fewer would be lost in the noise."""
MIXED_JOBS = (32, 128)
MIXED_SIZES = (8, 16, 32, 64, 128, 256)
MIXED_SAMPLES = 1024
"""Samples of each job of unequal batch size between two decisions; a multiple of all batch sizes."""
BARS = {("mlp", 128, "eager"): 8.0, ("mlp", 128, "compiled"): 18.0}
"""Least ratios, by model, jobs and way."""


@dataclass(frozen=True, slots=True)
class EngineFigure:
    """What training jobs side by side gains; times are medians.

    Attributes:
        model: A name of `CASES`.
        jobs: N, how many.
        way: How: "eager" or "compiled".
        bare: Seconds of one update in a bare loop.
        batched: Seconds of one update of all N jobs.
        ratio: Updates a second of the engine over the bare loop's, N * bare / batched in each repeat.
        bytes_per_job: Memory of a job: weights and optimizer state, live, good and best.
    """

    model: str
    jobs: int
    way: str
    bare: float
    batched: float
    ratio: float
    bytes_per_job: int


@dataclass(frozen=True, slots=True)
class WayFigure:
    """What a way of running jobs of unequal batch size gains; rates are medians.

    Attributes:
        way: Which.
        jobs: N, how many.
        bare: Samples a second of bare loops of the same jobs, one after another.
        batched: Samples a second of the engine.
        ratio: batched over bare in each repeat.
    """

    way: str
    jobs: int
    bare: float
    batched: float
    ratio: float


def bench_engine(
    models: Sequence[str] = tuple(CASES),
    jobs: Sequence[int] = JOBS,
    repeats: int = 5,
    *,
    compiled: bool = False,
    device: str = "cpu",
    updates: int | None = None,
    on_action: Callable[[], object] | None = None,
) -> list[EngineFigure]:
    """How many updates a second N jobs make side by side, over those of a bare loop; batch 64, Adam.

    Args:
        models: Names of `CASES`.
        jobs: Values of N, >= 1.
        repeats: Measurements, >= 1.
        compiled: Whether to run compiled programs, too.
        device: Where the jobs train.
        updates: Of a job between two decisions, >= 1; None for the model's own number.
        on_action: Called after each timed run, (1 + ways * len(jobs)) * (repeats + 1) times a model.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    require_device(device)
    for name in models:
        choose("model", name, CASES)
    for number in jobs:
        require_range("jobs", number, 1)
    if updates is not None:
        require_range("updates", updates, 1)
    with one_thread():
        return [
            figure
            for name in models
            for figure in _bench_model(
                name, jobs, repeats, engine_ways(compiled), device, updates or CASES[name].updates, on_action
            )
        ]


def _bench_model(
    name: str,
    jobs: Sequence[int],
    repeats: int,
    ways: Sequence[Way],
    device: str,
    updates: int,
    on_action: Callable[[], object] | None,
) -> list[EngineFigure]:
    """The figures of one model."""
    loop = BareLoop(CASES[name], BATCH_SIZE, device)
    actions: dict[tuple[int, str], Callable[[], object]] = {(0, "bare"): partial(loop.run, LEAST_UPDATES)}
    runs = {
        (number, way.name): SideBySide(CASES[name], [BATCH_SIZE] * number, way, device)
        for number in jobs
        for way in ways
    }
    intervals = {number: max(1, LEAST_UPDATES // (number * updates)) for number in jobs}
    for key, run in runs.items():
        actions[key] = partial(run.run, updates * BATCH_SIZE, intervals[key[0]])
    seconds = in_turn(actions, repeats, device, on_action)
    bare = seconds[0, "bare"] / LEAST_UPDATES
    figures = []
    for (number, way), run in runs.items():
        batched = seconds[number, way] / (updates * intervals[number])
        ratio = float(np.median(number * bare / batched))
        times = float(np.median(bare)), float(np.median(batched))
        figures.append(EngineFigure(name, number, way, *times, ratio, run.engine.bytes_per_job))
    return figures


def mixed_sizes(jobs: int) -> NDArray[np.int64]:
    """Batch sizes of N jobs, powers of two drawn log-uniformly: always the same."""
    return np.random.default_rng(0).choice(MIXED_SIZES, size=jobs)


def bench_ways(
    jobs: Sequence[int] = MIXED_JOBS,
    repeats: int = 5,
    *,
    compiled: bool = False,
    device: str = "cpu",
    samples: int = MIXED_SAMPLES,
    on_action: Callable[[], object] | None = None,
) -> list[WayFigure]:
    """How many samples a second MLP jobs of unequal batch size train on side by side, by way of running them.

    Args:
        jobs: Values of N, >= 1.
        repeats: Measurements, >= 1.
        compiled: Whether to run compiled programs, too.
        device: Where the jobs train.
        samples: Of each job between two decisions, cut to a multiple of the largest batch size.
        on_action: Called after each timed run, (len(MIXED_SIZES) + ways) * (repeats + 1) times a value of N.

    Raises:
        ConfigError: A value is out of range.
    """
    require_device(device)
    for number in jobs:
        require_range("jobs", number, 1)
    require_range("samples", samples, MIXED_SIZES[-1])
    samples -= samples % MIXED_SIZES[-1]
    with one_thread():
        return [
            figure
            for number in jobs
            for figure in _bench_mixed(number, repeats, mixed_ways(compiled), device, samples, on_action)
        ]


def _bench_mixed(
    jobs: int,
    repeats: int,
    ways: Sequence[Way],
    device: str,
    samples: int,
    on_action: Callable[[], object] | None,
) -> list[WayFigure]:
    """The figures of one N."""
    case, sizes = CASES["mlp"], mixed_sizes(jobs)
    loops = {size: BareLoop(case, size, device) for size in MIXED_SIZES}
    actions: dict[int | str, Callable[[], object]] = {
        size: partial(loop.run, max(LEAST_UPDATES, samples // size)) for size, loop in loops.items()
    }
    actions |= {way.name: partial(SideBySide(case, sizes.tolist(), way, device).run, samples) for way in ways}
    seconds = in_turn(actions, repeats, device, on_action)
    an_update = {size: seconds[size] / max(LEAST_UPDATES, samples // size) for size in loops}
    bare = np.sum([an_update[size] * (samples // size) for size in sizes.tolist()], axis=0)
    figures = []
    for way in ways:
        rates = jobs * samples / bare, jobs * samples / seconds[way.name]
        ratio = float(np.median(rates[1] / rates[0]))
        medians = float(np.median(rates[0])), float(np.median(rates[1]))
        figures.append(WayFigure(way.name, jobs, *medians, ratio))
    return figures


def misses(figures: Sequence[EngineFigure]) -> list[str]:
    """In words, which figures miss their bar; empty if none."""
    missed = []
    for figure in figures:
        bar = BARS.get((figure.model, figure.jobs, figure.way), 0.0)
        if figure.ratio < bar:
            missed.append(
                f"{figure.model}, {figure.jobs} jobs, {figure.way}: {figure.ratio:.1f} times the bare loop, "
                f"below {bar:g}"
            )
    return missed
