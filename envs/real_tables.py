"""Real tables that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from rl_tuner.envs.samples import Samples

_LOADERS = ("digits", "breast_cancer", "wine", "iris", "diabetes")


def _table(name: str, _rng: np.random.Generator) -> Samples:
    return _read(name)


@lru_cache(maxsize=len(_LOADERS))
def _read(name: str) -> Samples:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    # Diabetes is the regression among them: its targets have no names.
    classes = tuple(map(str, getattr(bunch, "target_names", ())))
    inputs = np.array(bunch.data, np.float64)
    targets = np.array(bunch.target, np.int64 if classes else np.float64)
    columns = tuple(map(str, bunch.feature_names))
    return Samples("table", inputs, targets, classes, columns).frozen()


REAL_TABLES: dict[str, Callable[[np.random.Generator], Samples]] = {
    name: partial(_table, name) for name in _LOADERS
}
"""By name; the same samples for every generator."""
