"""The model shapes that suites build."""

from __future__ import annotations

import torch
from torch import nn

from rl_tuner.envs.models import digits_cnn, mlp


def test_an_mlp_is_linear_relu_dropout_in_turn() -> None:
    kinds = [type(layer) for layer in mlp(4, (8, 6), 3, dropout=0.5)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert not any(isinstance(layer, nn.Dropout) for layer in mlp(4, (8, 6), 3))
    assert any(isinstance(layer, nn.Dropout) for layer in mlp(4, (8,), 3, dropout=0.0))


def test_an_mlp_computes_what_its_weights_say() -> None:
    model = mlp(2, (3,), 2)
    first, last = model[0], model[2]
    x = torch.tensor([[0.5, -1.0], [2.0, 0.3]])
    hidden = torch.clamp(x @ first.weight.T + first.bias, min=0)  # type: ignore[operator]
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)  # type: ignore[operator]


def test_one_output_is_flat_for_regression_even_for_one_sample() -> None:
    model = mlp(4, (), 1)
    assert model(torch.zeros(7, 4)).shape == (7,)
    assert model(torch.zeros(1, 4)).shape == (1,)


def test_the_network_for_digits_takes_rows_of_64_numbers() -> None:
    model = digits_cnn(dropout=0.3)
    assert model(torch.zeros(2, 64)).shape == (2, 10)
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == [0.3]
