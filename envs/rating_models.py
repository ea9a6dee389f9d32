"""Models of ratings: from pairs of a user and an item, int64 of shape (n, 2), to values of shape (n,)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rl_tuner.config import require_counts
from rl_tuner.envs.joint_layers import Dot, ForEach, Offset, Sum, Total
from rl_tuner.envs.models import dropout_of, hidden_layers

FACTOR_DEVIATION = 0.1
"""Of the factors at first; larger ones would add noise of the size of the ratings' own deviation."""


def matrix_factorization(users: int, items: int, rank: int, dropout: float | None = None) -> nn.Sequential:
    """Biased matrix factorization: mean + user's bias + item's bias + <user's factors, item's factors>.

    Equation 4 of Koren, Bell and Volinsky 2009, Matrix Factorization Techniques for Recommender Systems. The
    mean is learned, from 0, as the biases are; factors are normal at first.

    Args:
        users: Users are 0 … users − 1.
        items: Items are 0 … items − 1.
        rank: Factors of each.
        dropout: Rate on the factors, in [0, 1); None builds no dropout layer.

    Raises:
        ConfigError: A number is out of range.
    """
    require_counts({"users": users, "items": items, "rank": rank})
    factors = ForEach(_table(users, rank, FACTOR_DEVIATION), _table(items, rank, FACTOR_DEVIATION))
    biases = ForEach(_table(users, 1, 0.0), _table(items, 1, 0.0))
    return nn.Sequential(
        Sum(nn.Sequential(factors, *dropout_of(dropout), Dot()), nn.Sequential(biases, Total())), Offset()
    )


def two_towers(
    users: int, items: int, embedding: int, hidden: Sequence[int], dropout: float | None = None
) -> nn.Sequential:
    """Two towers: the dot product of what one MLP makes of the user and another one of the item, and a mean.

    As Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, build
    it, after Covington et al. 2016; here for ratings, and of the two numbers alone. The vectors multiplied
    are as wide as the embeddings.

    Args:
        users: Users are 0 … users − 1.
        items: Items are 0 … items − 1.
        embedding: Size of the embeddings.
        hidden: Units of each hidden layer of a tower.
        dropout: Rate on the embedding and after each hidden layer, in [0, 1); None builds no dropout layers.

    Raises:
        ConfigError: A number is out of range.
    """
    require_counts({"users": users, "items": items, "embedding": embedding})

    def tower(count: int) -> nn.Sequential:
        layers = [*dropout_of(dropout), *hidden_layers(embedding, hidden, dropout)]
        return nn.Sequential(
            nn.Embedding(count, embedding), *layers, nn.Linear([embedding, *hidden][-1], embedding)
        )

    return nn.Sequential(ForEach(tower(users), tower(items)), Dot(), Offset())


def _table(count: int, width: int, deviation: float) -> nn.Embedding:
    """An embedding, normal at first."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=deviation)
    return table
