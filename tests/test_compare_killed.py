"""A comparison that is killed, again and again, ends as one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rl_tuner.policy_file import save_policy
from tests.learned_policies import network

ROOT = Path(__file__).parents[1]
KILLS = 10
CODE = "from tests.tiny import register; register(); from rl_tuner.cli import main; main()"
SIZE = ("--suite", "tiny", "--jobs", "3", "--seeds", "5", "--workers", "2")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "compare", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def table(out: str) -> dict[str, Any]:
    """What stands in the results, but for how long it took and where it lies."""
    found = json.loads(Path(out, "results.json").read_text())
    for row in found["rows"]:
        del row["seconds"]
    return {
        name: found[name]
        for name in ("methods", "analysis", "rows", "job_specs", "settings")
        if name in found
    }


def rows_stored(out: str) -> int:
    """Rows on disk so far, asked for as anybody would who looks on (a kill may leave work to be undone)."""
    file = Path(out, "results.sqlite")
    if not file.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=10)) as connection:
            return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])
    except sqlite3.OperationalError:  # the table is just being made
        return 0


def kill_at_a_random_moment(process: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """Kills it and its workers, in its first seconds or soon after some more rows; False if it had ended."""
    until = time.monotonic() + 120
    wanted = rows_stored("x") + rng.randint(0, 4)
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0.1, 4.0))
    else:
        while rows_stored("x") < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.1))
    at_work = process.poll() is None
    if at_work:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return at_work


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_resumed_it_gives_the_same_table() -> None:
    policy = str(save_policy(network(), "p.safetensors"))
    methods = ("cosine", "plateau", "hypergradient", "random@3", "tpe@2", "pbt/2", policy, *SIZE)
    finish(start(*methods, "--out", "whole"))
    rng = random.Random(0)
    for number in range(KILLS):
        resume = ("--resume",) if Path("x/config.json").exists() else ()
        process = start(*methods, "--out", "x", *resume)
        assert kill_at_a_random_moment(process, rng), f"it ended before kill {number}"
    assert 0 < rows_stored("x") < rows_stored("whole")
    finish(start(*methods, "--out", "x", "--resume"))
    assert table("x") == table("whole")
