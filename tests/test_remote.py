"""Objects in worker processes: answers, errors, warnings, and no worker left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_tuner.errors import ConfigError, JobError
from rl_tuner.remote import RemoteObjects, require_sendable
from tests.test_workers import alive

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


class Counter:
    """Counts on from where it was told to begin."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ConfigError(f"start must be >= 0, got {start}")
        self.count = start

    def add(self, number: int) -> tuple[int, int]:
        self.count += number
        return self.count, os.getpid()

    def fail(self, error: Exception | None) -> None:
        if error is not None:
            raise error

    def fail_oddly(self) -> None:
        raise OddError("disk", 3)

    def warn(self, text: str) -> None:
        warnings.warn(text, DeprecationWarning, stacklevel=1)

    def threads(self) -> int:
        import torch

        return torch.get_num_threads()

    def sleep_or_die(self, seconds: float) -> None:
        if seconds < 0:
            os._exit(7)
        time.sleep(seconds)


class OddError(Exception):
    """Cannot be read again from what pickle writes."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"the {what} failed")


class Unreadable:
    """Can be sent, and not be read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, ("text", "nothing")


@pytest.fixture(scope="module")
def two() -> Iterator[RemoteObjects]:
    """Counters that began at 0 and at 100."""
    remote = RemoteObjects(Counter, [0, 100])
    yield remote
    remote.close()


def test_each_worker_has_an_object_of_its_own(two: RemoteObjects) -> None:
    before = two.call("add", {0: (0,), 1: (0,)})
    after = two.call("add", {0: (1,), 1: (2,)})
    assert [after[w][0] - before[w][0] for w in (0, 1)] == [1, 2]
    assert before[1][0] - before[0][0] >= 90
    assert len({before[0][1], before[1][1], os.getpid()}) == 3
    assert len(two) == 2


def test_only_those_asked_are_called(two: RemoteObjects) -> None:
    before = two.call("add", {0: (0,), 1: (0,)})
    assert two.call("add", {1: (5,)}).keys() == {1}
    after = two.call("add", {0: (0,), 1: (0,)})
    assert [after[w][0] - before[w][0] for w in (0, 1)] == [0, 5]


def test_workers_use_one_thread_each(two: RemoteObjects) -> None:
    assert two.call("threads", {0: (), 1: ()}) == {0: 1, 1: 1}


def test_an_error_arrives_as_it_is_and_all_can_be_called_again(two: RemoteObjects) -> None:
    with pytest.raises(ConfigError, match=r"^lr is -1$"):
        two.call("fail", {0: (None,), 1: (ConfigError("lr is -1"),)})
    with pytest.raises(JobError, match=r"^first$"):
        two.call("fail", {0: (JobError("first"),), 1: (ConfigError("second"),)})
    assert two.call("fail", {0: (None,), 1: (None,)}) == {0: None, 1: None}


def test_an_error_that_cannot_be_sent_arrives_as_one_that_names_it(two: RemoteObjects) -> None:
    with pytest.raises(JobError, match=r"^OddError: the disk failed$"):
        two.call("fail_oddly", {1: ()})
    assert two.call("fail", {1: (None,)}) == {1: None}


def test_what_cannot_be_read_in_a_worker_is_told(two: RemoteObjects) -> None:
    with pytest.raises(ConfigError, match=r"cannot read what it was sent: .*'nothing'"):
        two.call("add", {0: (Unreadable(),)})
    assert two.call("fail", {0: (None,)}) == {0: None}


def test_warnings_of_workers_are_given_here(two: RemoteObjects) -> None:
    with pytest.warns(DeprecationWarning, match="^old news$"):
        two.call("warn", {1: ("old news",)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two.call("warn", {0: ("unheard",), 1: ("unheard",)})


def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(ConfigError, match=r"job cannot be sent to worker processes: .*lambda"):
        require_sendable("job", lambda: None)
    with Path("file").open("w") as file, pytest.raises(ConfigError, match="job cannot be sent"):
        require_sendable("job", file)
    require_sendable("job", Counter(3))


def test_what_cannot_be_made_is_raised_and_leaves_no_worker() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(ConfigError, match="start must be >= 0, got -1"):
        RemoteObjects(Counter, [-1])
    assert set(multiprocessing.active_children()) == before


def test_a_worker_that_dies_in_a_call_ends_all_of_them_at_once() -> None:
    before = set(multiprocessing.active_children())
    remote = RemoteObjects(Counter, [0, 1])
    remote.call("add", {0: (1,), 1: (1,)})
    with pytest.raises(JobError, match=r"worker process 1 of 2 .* ended without a word"):
        remote.call("sleep_or_die", {0: (600,), 1: (-1,)})
    assert remote.closed
    assert set(multiprocessing.active_children()) == before
    with pytest.raises(JobError, match="2 worker processes were ended"):
        remote.call("add", {0: (1,)})
    remote.close()


def end_of(pids: list[int]) -> bool:
    """Whether the processes end within a minute."""
    until = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


@needs_proc
def test_a_worker_ends_with_the_last_reference() -> None:
    remote = RemoteObjects(Counter, [0])
    _, pid = remote.call("add", {0: (1,)})[0]
    assert alive(pid)
    del remote
    gc.collect()
    assert end_of([pid])


@needs_proc
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(stop: signal.Signals) -> None:
    script = Path("script.py")
    script.write_text(
        "from rl_tuner.remote import RemoteObjects\n"
        "from tests.test_remote import Counter\n"
        "if __name__ == '__main__':\n"
        "    remote = RemoteObjects(Counter, [0, 1])\n"
        "    for _, pid in remote.call('add', {0: (1,), 1: (1,)}).values():\n"
        "        print(pid, flush=True)\n"
        "    remote.call('sleep_or_die', {0: (600,), 1: (0,)})\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    if stop == signal.SIGINT:
        os.killpg(parent.pid, stop)  # as a terminal does
    else:
        parent.send_signal(stop)
    parent.wait(60)
    parent.stdout.close()
    assert end_of(workers)
