"""Networks as rows of a matrix: round trips, forward passes, and what is refused at a look."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.stacked import StackedModel, dropout_layers
from rl_tuner.errors import JobError
from tests.stacking import copies, drop_of, numbers, require_rows_compute_what_modules_do, stack, tokens

MODELS: dict[str, tuple[nn.Module, Callable[..., Tensor], tuple[int, ...]]] = {
    "mlp": (mlp(6, (8, 5), 3), numbers, (6,)),
    "mlp for regression": (mlp(6, (8,), 1), numbers, (6,)),
    "cnn, no norm": (cnn((1, 8, 8), (16, 32), 4, "none", 0.0), numbers, (64,)),
    "cnn, group norm": (cnn((2, 6, 5), (8, 5), 3), numbers, (2, 6, 5)),
    "cnn, layer norm": (cnn((2, 6, 5), (8,), 3, "layer"), numbers, (60,)),
    "gru": (gru(5, 3, 4, 7), tokens, (4,)),
    "gru, every position": (gru(5, 3, 4, 7, predict_all=True), tokens, (4,)),
    "transformer": (transformer(5, 6, 3, 8, 2), tokens, (4,)),
    "causal transformer": (transformer(5, 6, 1, 8, 2, 1, causal=True, predict_all=True), tokens, (4,)),
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_rows_compute_what_their_networks_do(name: str, rows: int) -> None:
    module, draw, shape = MODELS[name]
    require_rows_compute_what_modules_do(module, draw(rows, 3, *shape), rows)


def test_a_stack_tells_the_shapes_of_its_parameters() -> None:
    stacked = StackedModel(mlp(4, (3,), 2, 0.1).double())
    assert stacked.names == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert stacked.shapes == [(3, 4), (3,), (2, 3), (2,)]
    assert stacked.sizes == [12, 3, 6, 2]
    assert (stacked.width, stacked.dropouts, stacked.dtype) == (23, 1, torch.float64)
    assert stacked.device == torch.device("cpu")


@pytest.mark.parametrize("name", MODELS)
def test_a_row_holds_a_networks_parameters_and_gives_them_back(name: str) -> None:
    module = MODELS[name][0]
    stacked = StackedModel(module)
    row = torch.arange(stacked.width, dtype=torch.float32)
    made = stacked.module(row)
    assert torch.equal(stacked.row(made), row)
    assert torch.equal(row, torch.nn.utils.parameters_to_vector(made.parameters()).detach())
    assert [p.shape for p in made.parameters()] == [p.shape for p in module.parameters()]
    other = stacked.module(row + 1)
    assert torch.equal(stacked.row(made), row)  # networks made from rows share nothing
    assert torch.equal(stacked.row(other), row + 1)


def test_views_are_the_parameters_within_the_matrix_itself() -> None:
    stacked = StackedModel(mlp(4, (3,), 2))
    theta = torch.randn(5, stacked.width, generator=torch.Generator().manual_seed(0))
    views = stacked.views(theta)
    for row in range(5):
        for view, p in zip(views, stacked.module(theta[row]).parameters(), strict=True):
            assert torch.equal(view[row], p)
    views[1][2] = 7
    assert (theta[2, 12:15] == 7).all()


def test_a_stack_does_not_follow_its_template() -> None:
    template = mlp(4, (3,), 2)
    stacked, row = StackedModel(template), torch.ones(23)
    theta, x = row[None], numbers(1, 5, 4).float()
    before = stacked.forward(stacked.views(theta), x, None)
    with torch.no_grad():
        for p in template.parameters():
            p.zero_()
    template[1] = nn.Tanh()
    assert torch.equal(stacked.forward(stacked.views(theta), x, None), before)


def test_a_rows_outputs_depend_on_no_other_row() -> None:
    module = mlp(6, (8, 5), 3, 0.5)
    stacked, views = stack(copies(module, 4))
    x, rates = numbers(4, 3, 6), [[0.5, 0.2]] * 4
    outputs = stacked.forward(views, x, drop_of(rates, 3))
    changed = [torch.where(torch.arange(4).view(-1, *[1] * (v.ndim - 1)) == 2, v, torch.nan) for v in views]
    alone = stacked.forward(changed, x, drop_of(rates, 3))
    assert torch.equal(alone[2], outputs[2])
    assert alone[[0, 1, 3]].isnan().all()


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from(["mlp", "gru", "transformer"]))
def test_a_batch_gives_the_same_outputs_however_it_is_cut_into_rows(rows: int, m: int, name: str) -> None:
    make = {
        "mlp": lambda: mlp(6, (8,), 3, 0.3),
        "gru": lambda: gru(5, 3, 4, 7, 0.3),
        "transformer": lambda: transformer(5, 4, 3, 8, 2, 1, 0.3),
    }[name]
    network = copies(make(), 1)[0]
    x = numbers(1, rows * m, 6) if name == "mlp" else tokens(1, rows * m, 4)
    stacked, views = stack([network])
    drop = drop_of([[0.4] * stacked.dropouts], rows * m)
    whole = stacked.forward(views, x, drop)[0]

    stacked, views = stack([network] * rows)
    cut = type(drop)(drop.rates.repeat(rows, 1), drop.keys.view(rows, m))
    pieces = stacked.forward(views, x.view(rows, m, *x.shape[2:]), cut)
    torch.testing.assert_close(pieces.flatten(0, 1), whole, rtol=1e-12, atol=1e-12)


def test_dropout_layers_are_found_once_each_in_module_order() -> None:
    first, second = nn.Dropout(0.1), nn.Dropout2d(0.2)
    module = nn.Sequential(nn.Sequential(first, nn.Linear(2, 2)), second, first, nn.AlphaDropout())
    assert dropout_layers(module) == [first, second]


def hooked(name: str) -> nn.Module:
    module = mlp(4, (3,), 2)
    getattr(module[0], name)(lambda *args: None)
    return module


def hooked_parameter() -> nn.Module:
    module = mlp(4, (3,), 2)
    module[0].weight.register_hook(lambda grad: 2 * grad)
    return module


def frozen() -> nn.Module:
    module = mlp(4, (3,), 2)
    module[0].weight.requires_grad_(False)
    return module


def holding(value: object) -> nn.Module:
    module = nn.Linear(4, 2)
    module.held = value  # type: ignore[assignment]
    return module


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nn.ReLU, "every parameter must be trainable"),
        (frozen, "every parameter must be trainable"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "share one floating-point type"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "share one floating-point type"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "lazy layers"),
        (lambda: hooked("register_forward_hook"), "it has hooks"),
        (lambda: hooked("register_forward_pre_hook"), "it has hooks"),
        (lambda: hooked("register_full_backward_hook"), "it has hooks"),
        (lambda: hooked("register_full_backward_pre_hook"), "it has hooks"),
        (hooked_parameter, "it has hooks"),
        (lambda: nn.GRU(3, 3), "GRU has no batching rule"),
        (lambda: nn.TransformerEncoderLayer(4, 2), "MultiheadAttention has no batching rule"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout()), "AlphaDropout has no batching rule"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5, inplace=True)), "work in place"),
        (lambda: holding(threading.Lock()), "it cannot be copied: TypeError"),
    ],
)
def test_a_network_that_cannot_be_stacked_is_refused_with_the_reason(
    make: Callable[[], nn.Module], reason: str
) -> None:
    with pytest.raises(JobError, match=reason):
        StackedModel(make())


def test_a_copied_stack_of_buffers_keeps_them() -> None:
    module = nn.Linear(3, 2)
    module.register_buffer("table", torch.arange(3.0))
    stacked = StackedModel(module)
    made = stacked.module(torch.zeros(stacked.width))
    assert torch.equal(made.get_buffer("table"), torch.arange(3.0))
    assert copy.deepcopy(module).state_dict().keys() == made.state_dict().keys()
