"""Many networks in one pass: against torch's own, one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_tuner.agents.member_networks import ActionHead, FlatMLP, forward
from rl_tuner.errors import ConfigError


@pytest.mark.parametrize("widths", [(3, 2), (4, 5, 6, 3)])
def test_each_network_acts_as_one_of_torchs_with_its_weights(widths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    network = FlatMLP(widths)
    weights = torch.from_numpy(rng.normal(size=(5, network.size)).astype(np.float32))
    inputs = torch.from_numpy(rng.normal(size=(5, widths[0])).astype(np.float32))
    outputs = forward(network.layers(weights), inputs)
    for row, x, out in zip(weights, inputs, outputs, strict=True):
        parts: list[torch.nn.Module] = []
        for into, units in pairwise(widths):
            parts += [torch.nn.Linear(into, units), torch.nn.Tanh()]
        plain = torch.nn.Sequential(*parts[:-1])
        torch.nn.utils.vector_to_parameters(row, plain.parameters())
        torch.testing.assert_close(out, plain(x).detach(), rtol=1e-5, atol=1e-6)


def test_layers_are_views_of_the_weights() -> None:
    network = FlatMLP((2, 3, 1))
    weights = torch.zeros(network.size)
    for weight, bias in network.layers(weights):
        weight.fill_(1.0)
        bias.fill_(2.0)
    assert weights.tolist() == [1.0] * 6 + [2.0] * 3 + [1.0] * 3 + [2.0]


@pytest.mark.usefixtures("untouched_rng")
def test_the_first_weights_are_orthogonal_and_nearly_silent_in_the_last_layer() -> None:
    network = FlatMLP((20, 8, 8, 3))
    (first, _), (_, hidden_bias), (last, last_bias) = network.layers(network.initial(3))
    torch.testing.assert_close(first @ first.T, 2 * torch.eye(8))
    torch.testing.assert_close(last @ last.T, 1e-4 * torch.eye(3))
    assert not hidden_bias.any()
    assert not last_bias.any()
    assert torch.equal(network.initial(3), network.initial(3))
    assert not torch.equal(network.initial(3), network.initial(4))


CASES: list[tuple[spaces.Space[Any], list[float], Any]] = [
    (spaces.Box(-1, 2, (2,), np.float32), [-3.0, 0.5], [-1.0, 0.5]),
    (spaces.Box(-1, 1, (2, 1), np.float32), [0.25, 7.0], [[0.25], [1.0]]),
    (spaces.Discrete(3), [0.1, 0.9, 0.2], 1),
    (spaces.Discrete(3, start=-1), [0.1, 0.2, 0.9], 1),
    (spaces.MultiDiscrete([2, 3]), [0.1, 0.2, 5.0, 4.0, 5.0], [1, 0]),
]


@pytest.mark.parametrize(("space", "outputs", "action"), CASES)
def test_outputs_become_valid_actions(space: spaces.Space[Any], outputs: list[float], action: Any) -> None:
    head = ActionHead(space)
    assert head.outputs == len(outputs)
    acted = head.actions(torch.tensor([outputs, outputs]))
    assert acted.tolist() == [action, action]
    assert space.contains(acted[1])


def test_actions_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be Box, Discrete or MultiDiscrete, got MultiBinary"):
        ActionHead(spaces.MultiBinary(3))
