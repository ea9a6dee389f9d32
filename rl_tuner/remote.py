"""Objects that live in worker processes, one in each: their methods are called all at once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rl_tuner.errors import ConfigError, JobError
from rl_tuner.workers import begin_worker

T = TypeVar("T")
Warned = list[tuple[str, type[Warning], str, int]]
"""Text, category, file and line of warnings."""


class RemoteObjects:
    """An object in each of some worker processes, freshly started, with one thread each for torch.

    Workers end by `close`, with the last reference to this, by Ctrl-C, and with the parent, even where it is
    killed. A script that makes this must guard its main part by ``if __name__ == "__main__"``.

    Args:
        make: A function or class of a module; makes a worker's object.
        arguments: What it is given, one for each worker; picklable.

    Attributes:
        closed: Whether the workers were ended.

    Raises:
        JobError: A worker ended without a word.
        Exception: Whatever `make` raises; no worker is left then.
    """

    def __init__(self, make: Callable[[T], object], arguments: Sequence[T]) -> None:
        self.closed = False
        self._registry: dict[str | tuple[str, type[Warning], int], int] = {}
        context = multiprocessing.get_context("spawn")
        self._executors = [ProcessPoolExecutor(1, context, begin_worker) for _ in arguments]
        self._pids: dict[int, int] = {}
        contents = {worker: pickle.dumps((make, argument)) for worker, argument in enumerate(arguments)}
        try:
            self._pids = self._ask(_make, contents)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """The number of workers."""
        return len(self._executors)

    def call(self, method: str, calls: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Calls a method in some workers at the same time, and waits for all of them.

        Warnings that workers gave are given here.

        Args:
            method: Its name.
            calls: Its arguments, picklable, by number of the worker.

        Returns:
            What each worker's object returned.

        Raises:
            JobError: A worker ended without a word, now or since the last call: all are ended. Or they were.
            ConfigError: Arguments cannot be read in a worker.
            Exception: Whatever the first worker that failed raised; all of them can be called again.
        """
        if self.closed:
            raise JobError(f"the {len(self)} worker processes were ended")
        return self._ask(_answer, {worker: pickle.dumps((method, args)) for worker, args in calls.items()})

    def close(self) -> None:
        """Ends the workers at once, whatever they are at; does nothing if that was done."""
        self.closed = True
        for child in multiprocessing.active_children():
            if child.pid in self._pids.values():
                child.terminate()
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)

    def _ask(self, function: Callable[[bytes], bytes], contents: Mapping[int, bytes]) -> dict[int, Any]:
        """Lets some workers call a function, each of its own content."""
        workers: dict[Future[bytes], int] = {}
        try:
            for worker, content in contents.items():
                workers[self._executors[worker].submit(function, content)] = worker
            for future in as_completed(workers):
                worker = workers[future]
                if isinstance(error := future.exception(), BrokenProcessPool):
                    raise error
        except BrokenProcessPool as error:
            self.close()
            raise JobError(
                f"worker process {worker} of {len(self)} (counted from 0) ended without a word: it was "
                "killed, or memory ran out (fewer workers need less), or the script that started it does "
                "not guard its main part by if __name__ == '__main__'. The others were ended"
            ) from error
        answers = {worker: pickle.loads(future.result()) for future, worker in workers.items()}
        for _, warned in answers.values():
            for text, category, file, line in warned:
                warnings.warn_explicit(text, category, file, line, registry=self._registry)
        return {worker: result for worker, (result, _) in answers.items()}


def require_sendable(what: str, value: object) -> None:
    """Checks that something can be sent to worker processes.

    Raises:
        ConfigError: It cannot.
    """
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{what} cannot be sent to worker processes: {error} (functions and classes must be those of a "
            "module, and files closed)"
        ) from error


_own: list[Any] = []
"""In a worker: its object."""


def _make(content: bytes) -> bytes:
    """Makes the worker's object, and tells the worker's process."""

    def made() -> int:
        make, argument = _read(content)
        _own[:] = [make(argument)]
        return os.getpid()

    return _told(made)


def _answer(content: bytes) -> bytes:
    """Calls a method of the worker's object."""

    def called() -> Any:
        method, args = _read(content)
        return getattr(_own[0], method)(*args)

    return _told(called)


def _read(content: bytes) -> Any:
    """What the parent sent.

    Raises:
        ConfigError: It cannot be read here.
    """
    try:
        return pickle.loads(content)
    except (pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise ConfigError(
            f"a worker process cannot read what it was sent: {error} (functions and classes must be those of "
            "a module that it can import)"
        ) from error


def _told(function: Callable[[], Any]) -> bytes:
    """What a function returned and which warnings it gave.

    Pickled here: the executor's own way would send each tensor as an open file.
    """
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")  # the parent's filters are what counts
        try:
            result = function()
            return pickle.dumps((result, [(str(w.message), w.category, w.filename, w.lineno) for w in seen]))
        except Exception as error:
            if _survives(error):
                raise
            raise JobError(f"{type(error).__name__}: {error}") from error


def _survives(error: Exception) -> bool:
    """Whether an error can be sent to the parent: those of some libraries cannot be read again."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (whatever their own methods raise)
        return False
    return True
