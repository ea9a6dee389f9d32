"""The performance figures: what the environment costs over plain PyTorch, and the command line's start."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rl_tuner.bench_jobs import digits_cnn
from rl_tuner.config import require_range
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.models import mlp
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.intervals import boundaries
from rl_tuner.seeding import torch_seed

EPOCHS = 25
BATCH_SIZE = 64
DECISIONS = 20
LR = 1e-3
MOST_RATIO = 1.05
"""The environment is to cost at most so many times the bare loop."""
MOST_CLI_SECONDS = 0.5
"""``rl-tuner --help`` and ``import rl_tuner`` are to take less CPU time than this."""

MODELS: dict[str, Callable[[], nn.Module]] = {
    "digits mlp 64-64-10": lambda: mlp(64, (64,), 10),
    "digits cnn": digits_cnn,
}
CLI = {
    "rl-tuner --help": "import sys; sys.argv = ['rl-tuner', '--help']; from rl_tuner.cli import main; main()",
    "import rl_tuner": "import rl_tuner",
}


@dataclass(frozen=True, slots=True)
class EnvFigure:
    """What the environment costs on one model.

    Attributes:
        model: Which.
        updates: Optimizer steps an episode.
        bare: CPU seconds of the bare loop, median.
        env: CPU seconds of the environment's episode, median.
        ratio: Median over the repeats of env over bare, each pair taken side by side.
    """

    model: str
    updates: int
    bare: float
    env: float
    ratio: float


@dataclass(frozen=True, slots=True)
class CliFigure:
    """CPU seconds of a command in a fresh process, median."""

    command: str
    seconds: float


def bench_env(
    repeats: int = 7, epochs: int = EPOCHS, on_repeat: Callable[[int], None] | None = None
) -> list[EnvFigure]:
    """The environment's cost over the bare PyTorch loop with the same updates and the same evaluations.

    Both run in this process on one thread, in turn, so that whatever else the machine does hits both; the
    order changes from one repeat to the next. Timed is CPU time. One untimed pair comes first.

    Args:
        repeats: Pairs per model, >= 1.
        epochs: Length of an episode in passes over the 1,078 training images.
        on_repeat: Called after each pair with how many are done.

    Raises:
        ConfigError: A value is out of range.
    """
    require_range("repeats", repeats, 1)
    require_range("epochs", epochs, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = []
        for number, (name, make) in enumerate(MODELS.items()):
            pairs = []
            for repeat in range(repeats + 1):
                pairs.append(_pair(make, epochs, bare_first=bool(repeat % 2)))
                if on_repeat is not None:
                    on_repeat(number * (repeats + 1) + repeat + 1)
            bare, env = np.array(pairs[1:]).T
            updates = _updates(epochs)[-1]
            figures.append(
                EnvFigure(
                    name, updates, float(np.median(bare)), float(np.median(env)), float(np.median(env / bare))
                )
            )
        return figures
    finally:
        torch.set_num_threads(threads)


def bench_cli(repeats: int = 7) -> list[CliFigure]:
    """CPU time (user and system) of the quick commands, each in a fresh process.

    Args:
        repeats: Processes per command, >= 1; one more comes first, untimed.

    Raises:
        ConfigError: `repeats` is out of range, or a command fails.
    """
    require_range("repeats", repeats, 1)
    return [
        CliFigure(name, float(np.median([_child_seconds(code) for _ in range(repeats + 1)][1:])))
        for name, code in CLI.items()
    ]


def _pair(make: Callable[[], nn.Module], epochs: int, *, bare_first: bool) -> tuple[float, float]:
    env = make_env(make, epochs)  # once for all its episodes, as users do: not timed
    if bare_first:
        bare = _cpu_seconds(lambda: bare_loop(make, epochs))
        return bare, _cpu_seconds(lambda: episode(env))
    tuned = _cpu_seconds(lambda: episode(env))
    return _cpu_seconds(lambda: bare_loop(make, epochs)), tuned


def _cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def _budget(epochs: int) -> int:
    """Samples in whole batches, so that both sides take the same number of updates."""
    return len(load_split("digits", 0).train[0]) // BATCH_SIZE * BATCH_SIZE * epochs


def _updates(epochs: int) -> list[int]:
    """Updates taken at each decision point: the batch that reaches an interval's end is its last one.

    In very short episodes a batch reaches more than one end; there are fewer decisions then.
    """
    return sorted({-(-int(end) // BATCH_SIZE) for end in boundaries(_budget(epochs), DECISIONS)})


def bare_loop(make: Callable[[], nn.Module], epochs: int) -> list[float]:
    """What anybody would write: index batches from a permutation, Adam, and a validation now and then.

    Returns:
        The validation losses: before training, and at the points where the environment decides.
    """
    data = load_split("digits", 0)
    (inputs, targets), (val_inputs, val_targets) = data.train, data.validation
    with torch_seed(0):
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)

        def validate() -> float:
            model.eval()
            with torch.no_grad():
                return functional.cross_entropy(model(val_inputs), val_targets).item()

        losses = [validate()]
        order, first = torch.randperm(len(inputs)), 0
        done = 0
        for end in _updates(epochs):
            model.train()
            while done < end:
                if first + BATCH_SIZE > len(order):
                    order, first = torch.randperm(len(inputs)), 0
                batch = order[first : first + BATCH_SIZE]
                first += BATCH_SIZE
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(inputs[batch]), targets[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                done += 1
            losses.append(validate())
    return losses


def make_env(make: Callable[[], nn.Module], epochs: int) -> TuningEnv:
    """The same training as an environment: rails on, all features computed."""
    data = load_split("digits", 0)
    start = {"lr": LR, "batch_size": float(BATCH_SIZE)}
    job = TrainingJob(make, data.train, data.validation, start=start, budget=_budget(epochs))
    return TuningEnv(job, decisions=DECISIONS)


def episode(env: TuningEnv) -> list[float]:
    """An episode of it; the action is always zero.

    Returns:
        The validation losses, as `bare_loop` gives them.
    """
    _, info = env.reset(seed=0)
    losses, terminated = [info["val_loss"]], False
    action = np.zeros(len(env.space), np.float32)
    while not terminated:
        _, _, terminated, _, info = env.step(action)
        losses.append(info["val_loss"])
    return losses


def _child_seconds(code: str) -> float:
    """CPU seconds of a Python process that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise ConfigError(f"{code!r} failed: {done.stderr.strip().splitlines()[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def misses(figures: Sequence[EnvFigure | CliFigure]) -> list[str]:
    """In words, which figures miss their bar; empty if none."""
    missed = []
    for figure in figures:
        if isinstance(figure, EnvFigure) and figure.ratio > MOST_RATIO:
            missed.append(f"{figure.model}: {figure.ratio:.3f} times the bare loop, above {MOST_RATIO}")
        if isinstance(figure, CliFigure) and figure.seconds >= MOST_CLI_SECONDS:
            missed.append(f"{figure.command}: {figure.seconds:.2f} s, not below {MOST_CLI_SECONDS}")
    return missed
