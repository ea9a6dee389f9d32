"""Tasks in worker processes: results as they come, an error ends all, no worker outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from rl_tuner.config import require_counts
from rl_tuner.errors import JobError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def run_tasks(
    function: Callable[[S, T], R], shared: S, tasks: Sequence[T], workers: int = 1
) -> Iterator[tuple[int, R]]:
    """Calls ``function(shared, task)`` for each task.

    One worker is this process itself, and goes through the tasks in order. More are processes of their own,
    freshly started, with one thread each for torch: function, shared and tasks must be picklable, and a
    script that calls this must guard its main part by ``if __name__ == "__main__"``.

    Args:
        function: A function of a module.
        shared: What every task needs; sent to each worker once.
        tasks: What is to be done.
        workers: How many, >= 1.

    Yields:
        The number of a task and its result, as soon as it is known.

    Raises:
        ConfigError: `workers` is no whole number >= 1.
        JobError: A worker ended without a word.
        Exception: Whatever a task raises; other tasks are stopped.
    """
    require_counts({"workers": workers})
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from ((number, function(shared, task)) for number, task in enumerate(tasks))
        return
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin, (pickle.dumps((function, shared)),)
    )
    done = False
    try:
        futures: dict[Future[Any], int] = {executor.submit(_call, task): i for i, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
        done = True
    except BrokenProcessPool as error:
        raise JobError(
            f"one of {workers} worker processes ended without a word: it was killed, or memory ran out "
            "(fewer workers need less)"
        ) from error
    finally:
        if not done:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
        executor.shutdown(cancel_futures=True)


_given: list[Any] = []
"""In a worker: the function and what its tasks share."""


def begin_worker() -> None:
    """What a worker process does first: it is to end with its parent and by Ctrl-C; torch gets one thread."""
    # Ctrl-C reaches every process of a terminal: the parent says what there is to say.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _begin(content: bytes) -> None:
    """What a worker that is given tasks does first."""
    begin_worker()
    _given[:] = pickle.loads(content)


def _end_with_parent() -> None:
    """Ends this process when its parent does, even by a kill: nobody would fetch the results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(task: Any) -> Any:
    function, shared = _given
    return function(shared, task)
