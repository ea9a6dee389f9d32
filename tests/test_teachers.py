"""Artificial tables: their truth is what it is said to be, can be learned, and is hard to varying degrees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LinearRegression

from rl_tuner.envs.teachers import (
    ACCURACIES,
    CLASSES,
    COLUMNS,
    ROWS,
    TEACHERS,
    forest,
    hide,
    linear,
    network,
    noisy_classes,
)
from tests.data_sets import (
    commonest,
    draw,
    held_out_score,
    require_drawn_by_the_generator_alone,
    shuffled,
)

CLASSIFICATIONS = [name for name in TEACHERS if not name.endswith("values")]
REGRESSIONS = [name for name in TEACHERS if name.endswith("values")]


@pytest.mark.parametrize("name", TEACHERS)
def test_every_table_has_one_shape(name: str) -> None:
    table = draw(TEACHERS[name])
    assert table.kind == "table"
    assert table.inputs.shape == (ROWS, COLUMNS)
    assert table.inputs.dtype == np.float64
    assert np.isfinite(table.inputs).all()
    assert table.targets.shape == (ROWS,)
    if name in CLASSIFICATIONS:
        assert len(table.classes) == CLASSES
        assert table.targets.dtype == np.int64
    else:
        assert table.task == "regression"
        assert table.targets.dtype == np.float64


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.usefixtures("untouched_rng")
def test_a_table_depends_on_its_generator_alone(name: str) -> None:
    require_drawn_by_the_generator_alone(TEACHERS[name])


@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_no_class_is_missing_or_nearly_everything(name: str) -> None:
    for seed in range(30):
        shares = np.bincount(draw(TEACHERS[name], seed).targets, minlength=CLASSES) / ROWS
        assert shares.min() > 0.01
        assert shares.max() < 0.7


@settings(max_examples=20)
@given(accuracy=st.floats(*ACCURACIES), seed=st.integers(0, 1000))
def test_the_best_guess_of_noisy_classes_is_as_often_right_as_asked(accuracy: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((4000, CLASSES)) * rng.uniform(0.1, 10)
    found = (noisy_classes(rng, scores, accuracy) == scores.argmax(axis=1)).mean()
    assert found == pytest.approx(accuracy, abs=4 * np.sqrt(accuracy * (1 - accuracy) / 4000))


def test_noisy_classes_are_drawn_from_a_softmax() -> None:
    # With scores (2, 1, 0) and weights e^(s / T): p = (x², x, 1) / (x² + x + 1), and x = 2 gives 4/7.
    scores = np.tile([2.0, 1.0, 0.0], (60_000, 1))
    classes = noisy_classes(np.random.default_rng(0), scores, 4 / 7)
    assert np.bincount(classes) / len(classes) == pytest.approx(np.array([4, 2, 1]) / 7, abs=0.01)


def test_the_linear_teacher_is_linear() -> None:
    a, b = np.random.default_rng(1).standard_normal((2, 50, 6))

    def scores(inputs: np.ndarray) -> np.ndarray:
        return linear(np.random.default_rng(0), inputs, 3)

    np.testing.assert_allclose(scores(2 * a - b), 2 * scores(a) - scores(b), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_forest_teacher_splits_on_single_columns(seed: int) -> None:
    # Along one column, the others held still, a forest's score is constant but for a jump a split.
    sweep = np.zeros((10_001, 4))
    sweep[:, 2] = np.linspace(-4, 4, len(sweep))
    scores = forest(np.random.default_rng(seed), sweep, 2)
    jumps = (np.diff(scores, axis=0) != 0).any(axis=1).sum()
    assert jumps <= 8 * (2**5 - 1)  # trees, splits a tree
    inputs = np.random.default_rng(1).standard_normal((2000, 4))
    assert len(np.unique(forest(np.random.default_rng(seed), inputs, 2), axis=0)) > 3


def test_the_network_teacher_is_smooth_and_bounded() -> None:
    inputs = np.random.default_rng(1).standard_normal((200, 6))

    def scores(inputs: np.ndarray) -> np.ndarray:
        return network(np.random.default_rng(0), inputs, 3)

    np.testing.assert_allclose(scores(inputs + 1e-9), scores(inputs), atol=1e-6)
    assert not np.allclose(scores(2 * inputs), 2 * scores(inputs), atol=0.1)
    np.testing.assert_allclose(scores(1e9 * inputs), scores(1e12 * inputs))  # tanh is saturated


@given(seed=st.integers(0, 1000), matter=st.integers(3, COLUMNS))
def test_what_matters_is_found_among_the_columns_untouched(seed: int, matter: int) -> None:
    rng = np.random.default_rng(seed)
    matters = rng.standard_normal((50, matter))
    columns = {column.tobytes() for column in hide(rng, matters).T}
    assert len(columns) == COLUMNS
    assert {column.tobytes() for column in matters.T} <= columns


def test_tables_hide_redundant_and_irrelevant_columns() -> None:
    redundant, irrelevant = 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        matters = rng.standard_normal((ROWS, 4))
        known = {column.tobytes() for column in matters.T}
        others = np.array([column for column in hide(rng, matters).T if column.tobytes() not in known])
        explained = np.array(
            [LinearRegression().fit(matters, other).score(matters, other) for other in others]
        )
        assert ((explained < 0.02) | (explained > 0.45)).all()
        redundant += int((explained > 0.45).sum())
        irrelevant += int((explained < 0.02).sum())
    assert redundant > 20
    assert irrelevant > 20


@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_classes_can_be_learned_and_shuffled_ones_cannot(name: str) -> None:
    table = draw(TEACHERS[name], 1)
    model = (
        LinearDiscriminantAnalysis() if name == "linear-classes" else ExtraTreesClassifier(50, random_state=0)
    )
    chance = commonest(table.targets)
    assert held_out_score(model, table.inputs, table.targets) > chance + 0.15
    assert held_out_score(model, table.inputs, shuffled(table.targets)) < chance + 0.06


@pytest.mark.parametrize("name", REGRESSIONS)
def test_values_can_be_learned_and_shuffled_ones_cannot(name: str) -> None:
    table = draw(TEACHERS[name], 1)
    model = LinearRegression() if name == "linear-values" else ExtraTreesRegressor(15, random_state=0)
    assert held_out_score(model, table.inputs, table.targets) > 0.2
    assert held_out_score(model, table.inputs, shuffled(table.targets)) < 0.05


def test_a_linear_truth_suits_a_linear_model_and_a_forest_a_forest() -> None:
    def advantage(name: str) -> float:
        """How far the forest is ahead of the linear model."""
        tables = [draw(TEACHERS[name], seed) for seed in range(3)]
        trees = [
            held_out_score(ExtraTreesClassifier(30, random_state=0), t.inputs, t.targets) for t in tables
        ]
        lines = [held_out_score(LinearDiscriminantAnalysis(), t.inputs, t.targets) for t in tables]
        return float(np.mean(trees) - np.mean(lines))

    assert advantage("forest-classes") > 0.05
    assert advantage("linear-classes") < -0.05


@pytest.mark.parametrize("name", ["linear-classes", "clusters"])
def test_how_hard_the_classes_are_varies_with_the_seed(name: str) -> None:
    tables = [draw(TEACHERS[name], seed) for seed in range(10)]
    scores = [held_out_score(LinearDiscriminantAnalysis(), t.inputs, t.targets) for t in tables]
    assert max(scores) - min(scores) > 0.2


def test_how_hard_the_values_are_varies_and_some_have_outliers() -> None:
    scores, tails = [], []
    for seed in range(16):
        table = draw(TEACHERS["linear-values"], seed)
        fitted = LinearRegression().fit(table.inputs, table.targets)
        scores.append(fitted.score(table.inputs, table.targets))
        tails.append(kurtosis(table.targets - fitted.predict(table.inputs)))  # 0 for a normal distribution
    assert max(scores) - min(scores) > 0.3
    assert min(np.abs(tails)) < 0.5
    assert max(tails) > 2
