"""Ratings from 1 to 5 that 200 users gave some of 150 items: who likes what is hidden in few factors.

Some items get most of the ratings and some users give most of them, as in every real set. How much of the
ratings is noise, bias of users and items, or taste varies with the generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples

USERS = 200
ITEMS = 150
RATINGS = 4000
LOWEST, HIGHEST = 1.0, 5.0

Array = NDArray[np.float64]


def low_rank(rng: np.random.Generator) -> Samples:
    """Taste is a product of 2 to 8 hidden factors of users and of items, as matrix factorization has it.

    See Koren, Bell and Volinsky, Matrix Factorization Techniques for Recommender Systems, 2009.
    """
    return _rated(rng, _scores(rng, _product(rng)))


def groups(rng: np.random.Generator) -> Samples:
    """Taste is that of a group of users, 3 to 8, for a genre of items, 4 to 10, nearly."""
    users, genres = int(rng.integers(3, 9)), int(rng.integers(4, 11))
    likes = rng.standard_normal((users, genres))
    taste = likes[rng.integers(users, size=USERS)][:, rng.integers(genres, size=ITEMS)]
    return _rated(rng, _scores(rng, taste + rng.uniform(0, 0.5) * _product(rng)))


def distances(rng: np.random.Generator) -> Samples:
    """Taste is closeness: users and items lie in a space of 2 to 5 dimensions, the nearer the better.

    The unfolding model of Coombs, A Theory of Data, 1964.
    """
    dimensions = int(rng.integers(2, 6))
    users, items = rng.standard_normal((USERS, 1, dimensions)), rng.standard_normal((1, ITEMS, dimensions))
    near = -np.linalg.norm(users - items, axis=2)
    # Who stands far out is near to nobody: such means are biases, which `_scores` adds by itself.
    taste = near - near.mean(axis=1, keepdims=True) - near.mean(axis=0)
    return _rated(rng, _scores(rng, taste))


def stars(rng: np.random.Generator) -> Samples:
    """Taste as in `low_rank`, said in whole stars, most of them four or five."""
    scores = _scores(rng, _product(rng))
    shares = rng.dirichlet((2, 3, 6, 12, 14))  # of 1 to 5 stars
    bounds = np.quantile(scores, np.minimum(shares.cumsum()[:-1], 1))
    return _rated(rng, LOWEST + np.searchsorted(bounds, scores).astype(np.float64))


def _product(rng: np.random.Generator) -> Array:
    """A matrix (`USERS`, `ITEMS`) of rank 2 to 8; its entries have variance 1."""
    rank = int(np.exp(rng.uniform(np.log(2), np.log(9))))  # few as often as many
    return rng.standard_normal((USERS, rank)) @ rng.standard_normal((rank, ITEMS)) / math.sqrt(rank)


def _scores(rng: np.random.Generator, taste: Array) -> Array:
    """Bias of users and items, taste and noise, in shares of the variance drawn for the set.

    Returns:
        Shape (`USERS`, `ITEMS`), for ratings around the scale's middle; not yet cut off at its ends.
    """
    noise, bias = rng.uniform(0.02, 0.4), rng.uniform(0.1, 0.5)  # the second is of what the first leaves
    biases = (rng.standard_normal((USERS, 1)) + rng.standard_normal((1, ITEMS))) / math.sqrt(2)
    liked = math.sqrt(bias) * biases + math.sqrt(1 - bias) * (taste - taste.mean()) / taste.std()
    mixed = math.sqrt(1 - noise) * liked + math.sqrt(noise) * rng.standard_normal(taste.shape)
    return np.asarray(rng.uniform(2.8, 3.8) + rng.uniform(0.6, 1.0) * mixed)


def _rated(rng: np.random.Generator, scores: Array) -> Samples:
    """`RATINGS` different entries of the scores, cut off at `LOWEST` and `HIGHEST`, in the users' order.

    An item's chance falls with its rank by Zipf's law, a user's is log-normal; drawn without repetition by
    the keys of Efraimidis and Spirakis, 2006, in logs: log weight plus Gumbel noise, the highest win.
    """
    popular = -rng.uniform(0.4, 1.1) * np.log1p(rng.permutation(ITEMS))
    active = rng.uniform(0.3, 0.8) * rng.standard_normal((USERS, 1))
    keys = (popular + active + rng.gumbel(size=(USERS, ITEMS))).ravel()
    entries = np.sort(np.argpartition(-keys, RATINGS)[:RATINGS])
    pairs = np.stack(np.divmod(entries, ITEMS), axis=1).astype(np.int64)
    values = np.clip(scores.ravel()[entries], LOWEST, HIGHEST)
    return Samples("ratings", pairs, values, vocabulary=(USERS, ITEMS))


RATING_SETS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "low-rank": low_rank,
    "groups": groups,
    "distances": distances,
    "stars": stars,
}
"""Functions from a generator to a set, by name."""
