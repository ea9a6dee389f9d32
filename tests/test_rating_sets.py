"""Rating sets: as skewed as real ones, with taste that can be learned from few ratings."""

from __future__ import annotations

import numpy as np
import pytest

from rl_tuner.envs.rating_sets import HIGHEST, ITEMS, LOWEST, RATING_SETS, RATINGS, USERS
from rl_tuner.envs.samples import Samples
from tests.data_sets import Source, draw, require_drawn_by_the_generator_alone, shuffled

SETS = pytest.mark.parametrize("source", RATING_SETS.values(), ids=RATING_SETS)


def explained(ratings: Samples, rank: int, targets: np.ndarray | None = None) -> float:
    """R² on held-out ratings of biases and `rank` factors, fitted by alternating least squares."""
    values = (ratings.targets if targets is None else targets).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(values))
    left, out = order[: len(order) * 8 // 10], order[len(order) * 8 // 10 :]
    pairs, mean = ratings.inputs, values[left].mean()
    rng = np.random.default_rng(0)
    # The last two columns are (bias, 1) of users and (1, bias) of items, so that a product holds both biases.
    sides = [0.1 * rng.standard_normal((count, rank + 2)) for count in (USERS, ITEMS)]
    sides[0][:, rank:] = sides[1][:, rank:] = [0, 0]
    sides[0][:, rank + 1] = sides[1][:, rank] = 1
    for step in range(12):
        side, other = step % 2, 1 - step % 2
        free = [*range(rank), rank + side]
        fixed = rank + other
        for number in range(len(sides[side])):
            rated = left[pairs[left, side] == number]
            factors = sides[other][pairs[rated, other]]
            rest = values[rated] - mean - factors[:, fixed] * sides[side][number, fixed]
            normal = factors[:, free].T @ factors[:, free] + 3 * np.eye(len(free))
            sides[side][number, free] = np.linalg.solve(normal, factors[:, free].T @ rest)
    guesses = mean + (sides[0][pairs[out, 0]] * sides[1][pairs[out, 1]]).sum(axis=1)
    return float(1 - ((values[out] - guesses) ** 2).mean() / ((values[out] - mean) ** 2).mean())


@SETS
def test_ratings_are_distinct_pairs_with_values_on_the_scale(source: Source) -> None:
    for seed in range(5):
        ratings = draw(source, seed)
        assert ratings.kind == "ratings"
        assert ratings.task == "regression"
        assert ratings.vocabulary == (USERS, ITEMS)
        assert ratings.inputs.shape == (RATINGS, 2)
        assert ratings.inputs.dtype == np.int64
        assert len(np.unique(ratings.inputs, axis=0)) == RATINGS
        assert (ratings.inputs >= 0).all()
        assert (ratings.inputs < ratings.vocabulary).all()
        assert ratings.targets.dtype == np.float64
        assert ratings.targets.min() >= LOWEST
        assert ratings.targets.max() <= HIGHEST
        assert ratings.targets.std() > 0.4


@SETS
@pytest.mark.usefixtures("untouched_rng")
def test_a_set_depends_on_its_generator_alone(source: Source) -> None:
    require_drawn_by_the_generator_alone(source)


@SETS
def test_a_tenth_of_the_items_gets_far_more_than_a_tenth_of_the_ratings(source: Source) -> None:
    for seed in range(5):
        counts = np.sort(np.bincount(draw(source, seed).inputs[:, 1], minlength=ITEMS))
        assert counts[-ITEMS // 10 :].sum() / RATINGS > 0.17


@SETS
def test_some_users_give_many_ratings(source: Source) -> None:
    for seed in range(5):
        counts = np.bincount(draw(source, seed).inputs[:, 0], minlength=USERS)
        assert counts.max() > 1.5 * counts.mean()
        assert (counts > 0).mean() > 0.95


def test_stars_are_whole_and_mostly_many() -> None:
    for seed in range(5):
        values = draw(RATING_SETS["stars"], seed).targets
        assert set(values) <= {1.0, 2.0, 3.0, 4.0, 5.0}
        assert (values >= 4).mean() > 0.4
    assert len(set(draw(RATING_SETS["low-rank"]).targets)) > RATINGS / 2


@SETS
def test_factors_explain_what_biases_cannot_and_nothing_of_shuffled_ratings(source: Source) -> None:
    biases, factors = zip(
        *((explained(draw(source, seed), 0), explained(draw(source, seed), 3)) for seed in range(4)),
        strict=True,
    )
    assert np.mean(biases) > 0.05
    assert np.mean(factors) > np.mean(biases) + 0.1
    ratings = draw(source)
    assert explained(ratings, 0, shuffled(ratings.targets)) < 0.02


@SETS
def test_how_hard_the_ratings_are_varies_with_the_seed(source: Source) -> None:
    scores = [explained(draw(source, seed), 3) for seed in range(5)]
    assert max(scores) - min(scores) > 0.15
