"""Global random state of one's own, for libraries that insist on the global generators."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np


class PrivateRNG:
    """Torch's, NumPy's and Python's global generators as one agent sees them.

    Inside ``with rng:`` they go on from this object's state; outside, the caller's state is as it was, bit
    for bit. Stable-Baselines3 seeds and draws from all three.

    Args:
        seed: In [0, 2^32).
    """

    def __init__(self, seed: int) -> None:
        import torch

        outer = _globals()
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (undone below)
        torch.manual_seed(seed)
        self._own = _globals()
        self._outer = outer
        _set_globals(outer)

    def __enter__(self) -> None:
        self._outer = _globals()
        _set_globals(self._own)

    def __exit__(self, *exc: object) -> None:
        self._own = _globals()
        _set_globals(self._outer)

    def get_state(self) -> dict[str, Any]:
        """The state outside of a block, in plain types and tensors; `set_state` continues from it."""
        return dict(self._own)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave."""
        self._own = dict(state)

    @staticmethod
    def running() -> dict[str, Any]:
        """The state inside of a block, in the form of `get_state`."""
        return _globals()


def _globals() -> dict[str, Any]:
    import torch

    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global state is what is meant)
    return {
        "torch": torch.get_rng_state(),
        "numpy": (str(name), np.asarray(keys).tolist(), *rest),
        "python": random.getstate(),
    }


def _set_globals(state: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
