"""The performance figures compare like with like; how fast things are is no test's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from rl_tuner import benches
from rl_tuner.benches import CliFigure, EnvFigure, bare_loop, bench_cli, bench_env, episode, make_env, misses
from rl_tuner.errors import ConfigError

MLP = benches.MODELS["digits mlp 64-64-10"]
EPOCHS = 4


def env_episode(make: Callable[[], torch.nn.Module], epochs: int) -> list[float]:
    return episode(make_env(make, epochs))


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    steps: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        yield steps
    finally:
        hook.remove()


@pytest.mark.parametrize(("epochs", "validations"), [(1, 13), (benches.EPOCHS, 1 + benches.DECISIONS)])
def test_both_sides_take_the_same_updates_and_validate_as_often(epochs: int, validations: int) -> None:
    for train in (bare_loop, env_episode):
        with counted_steps() as steps:
            losses = train(MLP, epochs)
        assert len(steps) == epochs * (1078 // 64), train
        assert len(losses) == validations, train


def test_both_sides_learn_the_same_task_equally_well() -> None:
    bare, env = bare_loop(MLP, EPOCHS), env_episode(MLP, EPOCHS)
    for losses in (bare, env):
        assert losses[0] == pytest.approx(np.log(10), rel=0.1)
        assert losses[-1] < 0.5 * losses[0]
    assert env[-1] == pytest.approx(bare[-1], rel=0.3)


@pytest.mark.parametrize("train", [bare_loop, env_episode])
def test_a_side_gives_the_same_numbers_each_time_and_leaves_the_generators_alone(
    train: Callable[..., list[float]], untouched_rng: None
) -> None:
    assert train(MLP, 2) == train(MLP, 2)


def test_the_figures_are_medians_over_pairs_that_change_order(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[bool] = []
    pairs = iter([(9.0, 9.0), (1.0, 1.5), (2.0, 2.2), (4.0, 4.0)])

    def pair(make: object, epochs: int, *, bare_first: bool) -> tuple[float, float]:
        orders.append(bare_first)
        return next(pairs)

    monkeypatch.setattr(benches, "MODELS", {"mlp": MLP})
    monkeypatch.setattr(benches, "_pair", pair)
    done: list[int] = []
    (figure,) = bench_env(3, 25, done.append)
    assert figure == EnvFigure("mlp", 400, 2.0, 2.2, pytest.approx(1.1))  # the first pair is not timed
    assert orders == [False, True, False, True]
    assert done == [1, 2, 3, 4]


def test_the_number_of_threads_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "MODELS", {"mlp": MLP})
    torch.set_num_threads(2)
    try:
        bench_env(1, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_commands_are_timed_in_processes_of_their_own() -> None:
    figures = bench_cli(1)
    assert [figure.command for figure in figures] == ["rl-tuner --help", "import rl_tuner"]
    assert all(0 < figure.seconds < 60 for figure in figures)


def test_a_command_that_fails_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "CLI", {"broken": "raise SystemExit('out of order')"})
    with pytest.raises(ConfigError, match="out of order"):
        bench_cli(1)


def test_what_misses_its_bar_is_said() -> None:
    figures = [
        EnvFigure("slow", 400, 1.0, 1.2, 1.2),
        EnvFigure("fine", 400, 1.0, 1.05, 1.05),
        CliFigure("late", 0.5),
        CliFigure("quick", 0.49),
    ]
    missed = misses(figures)
    assert len(missed) == 2
    assert missed[0].startswith("slow: 1.200 times")
    assert missed[1].startswith("late: 0.50 s")


@pytest.mark.parametrize("repeats", [0, -1])
def test_no_repeats_are_refused(repeats: int) -> None:
    for bench in (bench_env, bench_cli):
        with pytest.raises(ConfigError, match="repeats must be >= 1"):
            bench(repeats)
