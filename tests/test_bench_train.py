"""The figures of learning: their parts are all of the time, and nothing stays watched."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import PPO

from rl_tuner import bench_train as bench
from rl_tuner.agents import ppo_settings
from rl_tuner.agents.ppo_settings import RolloutSettings
from rl_tuner.bench_train import PARTS, REST, ScaleFigure, TrainFigure, misses
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from tests.tiny import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


@pytest.fixture(scope="module")
def figure() -> TrainFigure:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "tiny", TINY)
        return bench.bench_train(20, 2, "tiny")


def test_the_parts_add_up_to_all_of_the_time(figure: TrainFigure) -> None:
    assert set(figure.parts) == {*PARTS, REST}
    assert sum(figure.parts.values()) == pytest.approx(figure.seconds)
    assert figure.share == pytest.approx(
        (figure.parts["updates"] + figure.parts["evaluation"]) / figure.seconds
    )


def test_every_part_of_learning_was_seen_at_work(figure: TrainFigure) -> None:
    assert all(seconds > 0 for seconds in figure.parts.values()), figure.parts


def test_whole_rollouts_are_counted_and_their_rate_fits_the_time(figure: TrainFigure) -> None:
    assert figure.transitions == 2 * 20 * 20
    mean = figure.transitions / figure.seconds
    assert mean / 3 < figure.transitions_per_second < 3 * mean


def test_nothing_stays_watched_the_threads_are_put_back_and_no_file_is_left(tmp_path: object) -> None:
    methods = [*(method for part in PARTS.values() for method in part), (PPO, "train")]
    before = [vars(owner)[name] for owner, name in methods]
    told: list[int] = []
    torch.set_num_threads(2)
    try:
        bench.bench_train(20, 1, "tiny", on_rollout=lambda: told.append(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert [vars(owner)[name] for owner, name in methods] == before
    assert len(told) == 2
    assert list(tmp_path.iterdir()) == []  # type: ignore[attr-defined]


def test_scaling_measures_the_single_environment_and_vector_environments_of_one_job_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (bench, ppo_settings):  # an episode is enough
        monkeypatch.setattr(module, "rollout_settings", lambda *_: RolloutSettings(20, 4, 1))
    told: list[int] = []
    figures = bench.bench_scaling((1, 3), 1, "tiny", on_rollout=lambda: told.append(1))
    assert [(f.env, f.num_envs, f.transitions) for f in figures] == [
        ("TuningEnv", 1, 20),
        ("VectorTuningEnv", 1, 20),
        ("VectorTuningEnv", 3, 60),
    ]
    assert all(f.transitions_per_second > 0 for f in figures)
    assert len(told) == 3 * 2


def test_the_rate_is_the_median_over_rollouts() -> None:
    marks = [{"a": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 2.0, "b": 2.0}, {"a": 12.0, "b": 2.0}]
    assert bench._rate(marks, 100) == 100 / 2  # 2, 1 and 10 seconds


def train_figure(num_envs: int, share: float) -> TrainFigure:
    return TrainFigure("quick", num_envs, 1, 1.0, 1.0, {}, share)


def test_too_little_time_in_the_jobs_misses_the_bar_at_128_environments_only() -> None:
    assert misses([train_figure(128, 0.75), train_figure(8, 0.1)]) == []
    assert misses([train_figure(128, 0.7)]) == [
        "128 environments: updates and evaluation take 70% of the time, below 75%"
    ]


def test_throughput_that_does_not_rise_misses_the_bar_the_single_environment_left_out() -> None:
    rates = {1: 50.0, 8: 200.0, 32: 200.0, 128: 300.0}
    figures = [ScaleFigure("VectorTuningEnv", n, 400, rate) for n, rate in rates.items()]
    single = ScaleFigure("TuningEnv", 1, 400, 1000.0)
    assert misses([single, *figures]) == ["32 environments: 200 transitions/s, no more than the 200 of 8"]


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_envs must be >= 2"):
        bench.bench_train(1, 1, "tiny")
    with pytest.raises(ConfigError, match="rollouts must be >= 1"):
        bench.bench_train(20, 0, "tiny")
    with pytest.raises(ConfigError, match="num_envs must be >= 1"):
        bench.bench_scaling((0,), 1, "tiny")
    with pytest.raises(ConfigError, match="suite"):
        bench.bench_train(20, 1, "nope")
