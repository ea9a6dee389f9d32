"""Several processes share a study: a trial that waits is begun by one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from rl_tuner.study_storage import open_study

WORKERS, TRIALS = 4, 24


def test_a_waiting_trial_is_begun_once(tmp_path: Path) -> None:
    path, together = tmp_path / "study.db", Barrier(WORKERS)
    with open_study(path) as study:
        for number in range(TRIALS):
            study.enqueue_trial({"x": float(number)})

    def begin(_: int) -> list[float]:
        found = []
        with open_study(path) as study:
            for _ in range(TRIALS // WORKERS):
                together.wait()
                found.append(study.ask().suggest_float("x", 0.0, float(TRIALS)))
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        begun = [x for found in pool.map(begin, range(WORKERS)) for x in found]
    assert sorted(begun) == [float(number) for number in range(TRIALS)]
