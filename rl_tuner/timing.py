"""How figures are timed: CPU time of one thread, what is compared in turn, and where the time goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.config import require_range

K = TypeVar("K")
Method = tuple[type, str]
"""A class, and the name of a method that it defines."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread in the block, and on as many as before after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seconds_of(action: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """How long an action takes: CPU time of this process, or time on the clock if it runs elsewhere.

    Args:
        action: What is timed.
        device: Where it computes; the CPU's own time says nothing of what a GPU does.
    """
    device = torch.device(device)
    if device.type == "cpu":
        began = time.process_time()
        action()
        return time.process_time() - began
    wait = torch.get_device_module(device).synchronize
    wait()
    began = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - began


def in_turn(
    actions: Mapping[K, Callable[[], object]],
    repeats: int,
    device: str | torch.device = "cpu",
    on_action: Callable[[], object] | None = None,
) -> dict[K, NDArray[np.float64]]:
    """Seconds of actions that are to be compared.

    All run once untimed, then all in turn, again and again, so that whatever else the machine does hits
    all of them; every other time in the opposite order.

    Args:
        actions: By any name.
        repeats: How often each is timed, >= 1.
        device: See `seconds_of`.
        on_action: Called after each action.

    Returns:
        Arrays of shape (repeats,).

    Raises:
        ConfigError: `repeats` is out of range.
    """
    require_range("repeats", repeats, 1)
    found: dict[K, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name in actions if repeat % 2 else reversed(list(actions)):
            found[name].append(seconds_of(actions[name], device))
            if on_action is not None:
                on_action()
    return {name: np.array(seconds[1:]) for name, seconds in found.items()}


@contextmanager
def replaced(method: Method, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """A class's method is another one in the block.

    Args:
        method: Which one; the class itself must define it.
        make: Makes the other from it.
    """
    owner, name = method
    original = vars(owner)[name]
    setattr(owner, name, functools.wraps(original)(make(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


class Stopwatch:
    """CPU seconds by part of a program; at every moment exactly one part is running.

    Args:
        rest: The part that runs while none of the others does.
    """

    def __init__(self, rest: str) -> None:
        self._running = [rest]
        self._seconds = {rest: 0.0}
        self._since = time.process_time()

    def read(self) -> dict[str, float]:
        """Seconds of each part since the stopwatch was made; they add up to all the time since."""
        now = time.process_time()
        part = self._running[-1]
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._since
        self._since = now
        return dict(self._seconds)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """The block belongs to a part, except for blocks inside of it that belong to others."""
        self.read()
        self._running.append(part)
        try:
            yield
        finally:
            self.read()
            self._running.pop()

    @contextmanager
    def watching(self, parts: Mapping[str, Sequence[Method]]) -> Iterator[None]:
        """Inside the block every call of these methods belongs to their part.

        Args:
            parts: Methods by part.
        """
        with ExitStack() as stack:
            for part, methods in parts.items():
                for method in methods:
                    stack.enter_context(replaced(method, functools.partial(self._timed, part)))
            yield

    def _timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timing(part):
                return method(*args, **kwargs)

        return timed
