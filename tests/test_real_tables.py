"""Real tables: scikit-learn's numbers, read once, shared and safe from whoever gets them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from rl_tuner.envs.real_tables import REAL_TABLES
from tests.data_sets import draw, same

TABLES = pytest.mark.parametrize("name", REAL_TABLES)


@TABLES
def test_a_table_holds_scikit_learns_numbers_and_names(name: str) -> None:
    table, bunch = draw(REAL_TABLES[name]), getattr(datasets, f"load_{name}")()
    np.testing.assert_array_equal(table.inputs, bunch.data)
    np.testing.assert_array_equal(table.targets, bunch.target)
    assert table.columns == tuple(bunch.feature_names)
    assert table.classes == tuple(str(label) for label in getattr(bunch, "target_names", ()))
    assert table.targets.dtype == (np.float64 if name == "diabetes" else np.int64)


@TABLES
def test_a_table_is_the_same_for_every_generator_and_nobody_can_change_it(name: str) -> None:
    table = draw(REAL_TABLES[name], 0)
    assert same(table, draw(REAL_TABLES[name], 1))
    for array in (table.inputs, table.targets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
