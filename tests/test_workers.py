"""Tasks in worker processes: order, errors, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_tuner.errors import ConfigError, JobError
from rl_tuner.workers import run_tasks


def add(shared: int, task: int) -> tuple[int, int]:
    return shared + task, os.getpid()


def fail(shared: str, task: int) -> int:
    if task == 3:
        raise ConfigError(f"{shared} {task}")
    return task


def die(shared: None, task: int) -> int:
    if task == 1:
        os._exit(7)
    time.sleep(0.05)
    return task


def wait_for_ever(folder: str, task: int) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


def test_one_worker_is_this_process_and_goes_in_order() -> None:
    found = list(run_tasks(add, 10, [1, 2, 3]))
    assert found == [(i, (11 + i, os.getpid())) for i in range(3)]


def test_many_workers_give_every_result_once() -> None:
    found = dict(run_tasks(add, 10, list(range(20)), workers=2))
    assert {i: value for i, (value, _) in found.items()} == {i: 10 + i for i in range(20)}
    assert os.getpid() not in {pid for _, pid in found.values()}


def test_no_tasks_give_no_results() -> None:
    assert list(run_tasks(add, 0, [], workers=4)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_arrives_as_it_is(workers: int) -> None:
    with pytest.raises(ConfigError, match=r"^bad 3$"):
        list(run_tasks(fail, "bad", list(range(5)), workers))


def test_a_worker_that_dies_is_an_error_that_says_so() -> None:
    with pytest.raises(JobError, match="one of 2 worker processes ended without a word"):
        list(run_tasks(die, None, [0, 1, 2, 3], workers=2))


@pytest.mark.parametrize("workers", [0, 1.5])
def test_a_number_of_workers_that_is_none_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match="workers must be"):
        list(run_tasks(add, 0, [1], workers))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    folder = Path("started").absolute()
    folder.mkdir()
    script = Path("script.py")
    script.write_text(
        "from rl_tuner.workers import run_tasks\n"
        "from tests.test_workers import wait_for_ever\n"
        f"if __name__ == '__main__':\n    list(run_tasks(wait_for_ever, {str(folder)!r}, [0, 1], 2))\n"
    )
    root = str(Path(__file__).parents[1])
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root})
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, workers))
