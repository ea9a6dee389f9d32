"""What the tests of stacked networks share."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_tuner.envs.dropout import Drop
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.seeding import torch_seed


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(*shape: int, count: int = 5, seed: int = 0) -> Tensor:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


def copies(module: nn.Module, rows: int) -> list[nn.Module]:
    """So many networks of one architecture, all parameters (zeros and ones too) drawn anew."""
    made = [copy.deepcopy(module).double() for _ in range(rows)]
    with torch_seed(0), torch.no_grad():
        for network in made:
            for p in network.parameters():
                p.add_(0.5 * torch.randn_like(p))
    return made


def stack(networks: Sequence[nn.Module]) -> tuple[StackedModel, list[Tensor]]:
    """The stack, and the networks' parameters in it, to be differentiated."""
    stacked = StackedModel(networks[0])
    theta = torch.stack([stacked.row(network) for network in networks])
    return stacked, [view.requires_grad_() for view in stacked.views(theta)]


def drop_of(rates: Sequence[Sequence[float]], m: int, keys: Sequence[int] | None = None) -> Drop:
    """Rates of each row's layers, for rows that hold whole batches of m samples."""
    rows = len(rates)
    of_updates = torch.tensor(range(rows) if keys is None else keys, dtype=torch.int32)
    places = torch.arange(m, dtype=torch.int32).repeat(rows, 1)
    return Drop.of(torch.tensor(rates, dtype=torch.float64), of_updates, places)


def require_rows_compute_what_modules_do(module: nn.Module, x: Tensor, rows: int) -> None:
    """Outputs and the parameters' gradients, for inputs x (rows, m, ...)."""
    networks = copies(module, rows)
    stacked, views = stack(networks)
    outputs = stacked.forward(views, x.clone(), None)
    pull = numbers(*outputs.shape, seed=9)
    gradients = torch.autograd.grad(outputs, views, pull)
    for row, network in enumerate(networks):
        alone = network(x[row].clone())
        expected = torch.autograd.grad(alone, list(network.parameters()), pull[row])
        torch.testing.assert_close(outputs[row], alone, rtol=1e-9, atol=1e-11)
        for found, wanted in zip(gradients, expected, strict=True):
            torch.testing.assert_close(found[row], wanted, rtol=1e-9, atol=1e-11)
