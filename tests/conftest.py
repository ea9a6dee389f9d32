"""What every test shares: one thread, writes into a temporary folder, reproducible examples."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "rl-tuner",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("rl-tuner")


@pytest.fixture(autouse=True, scope="session")
def one_thread(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small tensors train fastest on one thread, and give the same numbers everywhere."""
    torch.set_num_threads(1)
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead to a folder of the test's own; child processes still find the package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The report of `tests.reporting.full` and its figures, slow to draw: drawn once for all tests."""
    from rl_tuner.report_page import write_report
    from tests.reporting import PROVENANCE, full

    return write_report(*full(), PROVENANCE, tmp_path_factory.mktemp("report"))


def _global_rng() -> list[bytes]:
    numpy_state = np.random.get_state()  # noqa: NPY002 (the global state is what must not change)
    return [
        torch.get_rng_state().numpy().tobytes(),
        repr([part.tobytes() if isinstance(part, np.ndarray) else part for part in numpy_state]).encode(),
        repr(random.getstate()).encode(),
    ]


@pytest.fixture
def untouched_rng() -> Iterator[None]:
    """Fails the test if it leaves torch's, NumPy's or Python's global random state changed."""
    before = _global_rng()
    yield
    changed = [
        name for name, a, b in zip(("torch", "numpy", "random"), before, _global_rng(), strict=True) if a != b
    ]
    assert not changed, f"global random state changed: {', '.join(changed)}"
