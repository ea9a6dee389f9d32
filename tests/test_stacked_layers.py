"""Forward rules of stacked layers against a loop over plain modules."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from rl_tuner.envs.joint_layers import Dot, ForEach, Joint, Offset, Residual, Sum, Total
from rl_tuner.envs.leaf_rules import leaf_rule
from rl_tuner.envs.row_losses import squared_error_rows
from rl_tuner.envs.sequence_layers import ClassesFirst, Last, Mean, Positions
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.envs.stacked_layers import DROPOUTS, Builder
from rl_tuner.errors import JobError
from tests.stacking import copies as copies_of
from tests.stacking import drop_of, numbers, require_rows_compute_what_modules_do, stack, tokens

VECTORS, SEQUENCES, IMAGES, LINES, PLANES = (6,), (4, 6), (6, 7, 5), (6, 9), (8, 7)
RULED: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 3), VECTORS),
    "linear without bias": (nn.Linear(6, 3, bias=False), VECTORS),
    "linear on sequences": (nn.Linear(6, 3), SEQUENCES),
    "linear without bias on sequences": (nn.Linear(6, 3, bias=False), SEQUENCES),
    "linear on images": (nn.Linear(5, 3), IMAGES),
    "linear of one unit": (nn.Linear(6, 1), VECTORS),
    "conv": (nn.Conv2d(6, 4, 3), IMAGES),
    "conv padded": (nn.Conv2d(6, 4, 3, padding=1), IMAGES),
    "conv same": (nn.Conv2d(6, 4, 3, padding="same"), IMAGES),
    "conv valid": (nn.Conv2d(6, 4, 3, padding="valid"), IMAGES),
    "conv in strides": (nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(0, 1)), IMAGES),
    "conv dilated": (nn.Conv2d(6, 4, 2, dilation=(3, 2)), IMAGES),
    "conv in groups": (nn.Conv2d(6, 4, 3, groups=2), IMAGES),
    "conv by channel": (nn.Conv2d(6, 12, 3, groups=6, padding=1), IMAGES),
    "conv without bias": (nn.Conv2d(6, 4, 3, bias=False), IMAGES),
    "conv of one channel": (nn.Conv2d(1, 1, 1), (1, 4, 4)),
    "conv on lines": (nn.Conv1d(6, 4, 3), LINES),
    "conv on lines padded": (nn.Conv1d(6, 4, 5, padding=2), LINES),
    "conv on lines same": (nn.Conv1d(6, 4, 3, padding="same"), LINES),
    "conv on lines in strides": (nn.Conv1d(6, 4, 4, stride=4, padding=1), LINES),
    "conv on lines in groups": (nn.Conv1d(6, 4, 3, groups=2, dilation=2, bias=False), LINES),
    "group norm": (nn.GroupNorm(3, 6), IMAGES),
    "group norm of one group": (nn.GroupNorm(1, 6, eps=0.1), IMAGES),
    "group norm inside": (nn.Sequential(nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4)), IMAGES),
    "group norm bare": (nn.Sequential(nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4, affine=False)), IMAGES),
    "group norm on vectors": (nn.GroupNorm(2, 6), VECTORS),
    "group norm on lines": (nn.GroupNorm(2, 6), LINES),
    "group norm on volumes": (nn.GroupNorm(2, 6), (6, 2, 3, 2)),
    "layer norm": (nn.LayerNorm(6), VECTORS),
    "layer norm on sequences": (nn.LayerNorm(6), SEQUENCES),
    "layer norm over images": (nn.LayerNorm((6, 7, 5)), IMAGES),
    "layer norm over two dimensions": (nn.LayerNorm((7, 5), eps=0.1), IMAGES),
    "layer norm without bias": (nn.LayerNorm(6, bias=False), SEQUENCES),
    "positions": (Positions(4, 6), SEQUENCES),
    "positions to spare": (Positions(7, 6), SEQUENCES),
    "offset": (Offset(), VECTORS),
    "residual": (Residual(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6)), SEQUENCES),
    "sum": (Sum(nn.Linear(6, 3), nn.Sequential(nn.Linear(6, 3), nn.ReLU()), nn.Linear(6, 3)), VECTORS),
    "sum of one": (Sum(nn.Linear(6, 3)), VECTORS),
    "layer norm bare": (nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4, elementwise_affine=False)), VECTORS),
}  # fmt: skip
STATELESS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "identity": (nn.Identity(), VECTORS),
    "relu": (nn.ReLU(), IMAGES),
    "relu in place": (nn.ReLU(inplace=True), VECTORS),
    "leaky relu": (nn.LeakyReLU(0.3), VECTORS),
    "elu": (nn.ELU(0.5), VECTORS),
    "gelu": (nn.GELU("tanh"), VECTORS),
    "silu": (nn.SiLU(), VECTORS),
    "tanh": (nn.Tanh(), SEQUENCES),
    "sigmoid": (nn.Sigmoid(), VECTORS),
    "softplus": (nn.Softplus(2.0, 1.0), VECTORS),
    "hardtanh": (nn.Hardtanh(-0.5, 0.3), VECTORS),
    "max pool": (nn.MaxPool2d(2), IMAGES),
    "max pool overlapping": (nn.MaxPool2d(3, stride=2, padding=1, dilation=1, ceil_mode=True), IMAGES),
    "max pool dilated": (nn.MaxPool2d(2, stride=1, dilation=2), IMAGES),
    "max pool without channels": (nn.MaxPool2d(3, stride=2, padding=1), PLANES),
    "average pool": (nn.AvgPool2d(2, padding=1, count_include_pad=False), IMAGES),
    "average pool without channels": (nn.AvgPool2d(3), PLANES),
    "adaptive pool": (nn.AdaptiveAvgPool2d((2, 3)), IMAGES),
    "global pool": (nn.AdaptiveAvgPool2d(1), IMAGES),
    "max pool on lines": (nn.MaxPool1d(4), LINES),
    "max pool on lines overlapping": (nn.MaxPool1d(3, stride=2, padding=1, ceil_mode=True), LINES),
    "max pool on lines without channels": (nn.MaxPool1d(2), VECTORS),
    "average pool on lines": (nn.AvgPool1d(2, padding=1), LINES),
    "adaptive pool on lines": (nn.AdaptiveAvgPool1d(4), LINES),
    "last": (Last(), SEQUENCES),
    "mean": (Mean(), SEQUENCES),
    "classes first": (ClassesFirst(), SEQUENCES),
    "dot": (Dot(), (2, 6)),
    "total": (Total(), SEQUENCES),
    "flatten": (nn.Flatten(), IMAGES),
    "flatten the last": (nn.Flatten(-2, -1), IMAGES),
    "flatten between": (nn.Flatten(1, 2), IMAGES),
    "unflatten": (nn.Unflatten(1, (2, 3)), VECTORS),
    "unflatten the last": (nn.Unflatten(-1, (5, 1)), IMAGES),
    "unflatten in the middle": (nn.Unflatten(1, (3, -1)), IMAGES),
}
TABLES = {"embedding": nn.Embedding(5, 3), "embedding of one token": nn.Embedding(1, 3)}


class Net(nn.Module):
    """A module that has no rule, with dropout inside, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(functional.softplus(self.first(x)))
        out: Tensor = self.last(self.drop(x + torch.tanh(self.second(x))))
        return out


class Doubling(nn.Linear):
    """A layer whose class has a rule, but not its own forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    """A chain that runs the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


class Detour(Residual):
    """A joint layer that runs in another way than its class."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.fixture
def only_rules() -> object:
    """Fails the test if a module is mapped rather than computed by a rule."""
    with patch.object(Builder, "_mapped", side_effect=AssertionError("no rule was used")):
        yield


@pytest.mark.usefixtures("only_rules")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", RULED)
def test_a_layers_rule_computes_what_the_layer_does(name: str, rows: int) -> None:
    module, shape = RULED[name]
    require_rows_compute_what_modules_do(module, numbers(rows, 4, *shape), rows)


@pytest.mark.usefixtures("only_rules")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", STATELESS)
def test_a_rule_without_weights_computes_what_the_layer_does(name: str, rows: int) -> None:
    module, shape = STATELESS[name]
    before = nn.Linear(shape[-1], shape[-1])  # for gradients to have a way to go
    require_rows_compute_what_modules_do(nn.Sequential(before, module), numbers(rows, 4, *shape), rows)


@pytest.mark.usefixtures("only_rules")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("places", [(), (4,), (2, 3)])
@pytest.mark.parametrize("name", TABLES)
def test_an_embedding_looks_up_in_its_own_rows_table(name: str, places: tuple[int, ...], rows: int) -> None:
    table = TABLES[name]
    x = tokens(rows, 4, *places, count=table.num_embeddings)
    require_rows_compute_what_modules_do(table, x, rows)


@pytest.mark.parametrize("token", [-1, 5, 7])
def test_a_token_outside_the_table_is_an_error_and_never_a_neighbours(token: int) -> None:
    stacked, views = stack(copies_of(nn.Embedding(5, 3), 3))
    x = tokens(3, 4)
    x[1, 2] = token
    with pytest.raises(IndexError):
        stacked.forward(views, x, None)


@pytest.mark.usefixtures("only_rules")
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_any_settings_of_a_convolution_are_covered(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: bool,
) -> None:
    module = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, bias)
    require_rows_compute_what_modules_do(module, numbers(2, 3, 2, 6, 7), 2)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), IMAGES),
        (nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular"), LINES),
        (nn.ConvTranspose1d(6, 4, 3), LINES),
        (Detour(nn.Linear(6, 6)), VECTORS),
        (nn.PReLU(6), VECTORS),
        (Doubling(6, 3), VECTORS),
        (Backwards(nn.Linear(6, 3), nn.Tanh(), nn.Linear(6, 6)), VECTORS),
        (nn.Sequential(nn.Linear(6, 6), nn.Softmax(1)), VECTORS),
        (nn.Sequential(nn.Linear(6, 6), Net()), VECTORS),
    ],
)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_module_without_a_rule_is_mapped_over_the_rows(
    module: nn.Module, shape: tuple[int, ...], rows: int
) -> None:
    if any(isinstance(m, nn.Dropout) for m in module.modules()):
        module.eval()
    require_rows_compute_what_modules_do(module, numbers(rows, 4, *shape), rows)


@pytest.mark.parametrize(
    "module",
    [
        Doubling(6, 3),
        nn.Embedding(5, 3, padding_idx=0),
        nn.Embedding(5, 3, max_norm=1.0),
        nn.Embedding(5, 3, scale_grad_by_freq=True),
        nn.Embedding(5, 3, sparse=True),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(6, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool1d(2, return_indices=True),
        nn.MaxPool2d(2, return_indices=True),
        nn.BatchNorm1d(6),
        nn.Softmax(1),
    ],
)
def test_there_is_no_rule_for_what_a_rule_would_not_do(module: nn.Module) -> None:
    assert leaf_rule(module) is None


@pytest.mark.usefixtures("only_rules")
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 2), st.sampled_from([1, 2, 4]))
def test_any_settings_of_a_convolution_on_lines_are_covered(
    kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    module = nn.Conv1d(4, 4, kernel, stride, padding, dilation, groups)
    require_rows_compute_what_modules_do(module, numbers(2, 3, 4, 9), 2)


@pytest.mark.usefixtures("only_rules")
@pytest.mark.parametrize("rows", [1, 3])
def test_each_column_runs_through_a_branch_of_its_own(rows: int) -> None:
    tower = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.ReLU())
    module = nn.Sequential(ForEach(tower, nn.Embedding(5, 4)), Dot(), Offset())
    require_rows_compute_what_modules_do(module, tokens(rows, 6, 2), rows)


def test_a_user_outside_the_table_is_an_error_and_never_an_item_or_a_neighbours() -> None:
    module = ForEach(nn.Embedding(3, 2), nn.Embedding(5, 2))
    stacked, views = stack(copies_of(module, 3))
    x = torch.full((3, 4, 2), 2)
    assert stacked.forward(views, x, None).shape == (3, 4, 2, 2)
    x[1, 2, 0] = 3
    with pytest.raises(IndexError):
        stacked.forward(views, x, None)


def test_stacked_sequences_beyond_the_last_position_are_refused_as_single_ones_are() -> None:
    stacked, views = stack(copies_of(Positions(4, 6), 2))
    with pytest.raises(JobError, match="a sequence of 5 tokens is longer than length = 4"):
        stacked.forward(views, numbers(2, 3, 5, 6), None)


def test_a_weight_used_in_two_branches_is_one_weight() -> None:
    shared = nn.Linear(6, 6)
    require_rows_compute_what_modules_do(Sum(shared, Residual(shared, nn.Tanh())), numbers(3, 4, 6), 3)


def test_dropout_layers_of_branches_have_rates_and_masks_of_their_own() -> None:
    module = Sum(nn.Sequential(nn.Linear(6, 6), nn.Dropout()), nn.Sequential(nn.Linear(6, 6), nn.Dropout()))
    networks = copies_of(module, 3)
    for network in networks:
        first, second = (network.get_submodule(f"branches.{i}.0") for i in range(2))
        second.load_state_dict(first.state_dict())
    stacked, views = stack(networks)
    x = numbers(3, 200, 6)
    half = stacked.forward(views, x, None) / 2
    both = stacked.forward(views, x, drop_of([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]], 200)) / half
    for row, values in enumerate([{1, 3}, {1, 3}, {0, 2, 4}]):
        assert set(both[row].round(decimals=6).flatten().tolist()) == values
    assert 0.15 < float((both[2] == 0).double().mean()) < 0.35  # both dropped: masks differ
    assert not torch.equal(both[0], both[1])


def test_the_gradient_of_a_single_number_has_its_place_in_the_row() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0), Offset())
    stacked = StackedModel(module)
    theta = torch.zeros(3, 4)
    x, y = torch.ones(3, 5, 2), torch.ones(3, 5)
    _, gradient = stacked.gradient(
        stacked.leaves(theta), squared_error_rows, (x, y), torch.full((3, 5), 0.2), None
    )
    assert torch.equal(gradient, torch.full((3, 4), -2.0))  # of the error's square, (0 - 1)², by hand


def test_a_joint_layer_must_say_how_it_joins() -> None:
    with pytest.raises(NotImplementedError):
        Joint(nn.Linear(2, 2))(torch.zeros(1, 2))


def test_a_forward_pass_put_in_place_of_the_classs_own_is_the_one_that_runs() -> None:
    module = nn.Sequential(nn.Linear(6, 3), nn.Flatten())
    module[1].forward = torch.cos  # type: ignore[method-assign]
    require_rows_compute_what_modules_do(module, numbers(2, 4, 6), 2)


def test_nested_chains_run_in_order() -> None:
    inner = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    module = nn.Sequential(inner, nn.Sequential(), nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.GELU())))
    require_rows_compute_what_modules_do(module, numbers(3, 4, 6), 3)


def test_a_layer_that_stands_twice_in_a_chain_runs_twice_and_shares_its_weights() -> None:
    layer, relu = nn.Linear(6, 6), nn.ReLU()
    require_rows_compute_what_modules_do(nn.Sequential(layer, relu, layer, relu), numbers(3, 4, 6), 3)


def test_weights_tied_between_a_ruled_and_a_mapped_layer_are_shared() -> None:
    first, second = nn.Linear(6, 6), Doubling(6, 6)
    second.weight = first.weight
    require_rows_compute_what_modules_do(nn.Sequential(first, nn.Tanh(), second), numbers(3, 4, 6), 3)


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_has_a_rate_of_its_own_in_each_row_and_layer(kind: type[nn.Module]) -> None:
    spatial = DROPOUTS[kind]
    module = nn.Sequential(nn.Linear(5, 5, bias=False), kind(0.5), nn.Identity(), kind(0.1))
    stacked, views = stack(copies_of(module, 3))
    sides = [4, 3, 5][-spatial:] if spatial else []
    x = numbers(3, 60, 20, *sides[:-1], 5)
    clean = stacked.forward(views, x, None)
    rates = [[0.0, 0.0], [0.3, 0.0], [0.5, 0.6]]
    outputs = stacked.forward(views, x, drop_of(rates, 60))
    assert torch.equal(outputs[0], clean[0])
    for row, (first, second) in enumerate(rates):
        ratio = outputs[row] / clean[row]
        alive = ratio != 0
        keep = (1 - first) * (1 - second)
        units = 60 * 20 * (1 if spatial else 5)
        assert abs(alive.double().mean() - keep) <= 4 * (keep * (1 - keep) / units) ** 0.5
        torch.testing.assert_close(ratio[alive], torch.full_like(ratio[alive], 1 / keep))
        if spatial:
            channels = alive.flatten(2)
            assert (channels == channels[..., :1]).all()


def test_dropout_inside_of_a_mapped_module_drops_what_it_drops_in_a_chain() -> None:
    layers = [nn.Linear(6, 6), nn.Dropout(), nn.Tanh()]
    mapped, ruled = Backwards(*reversed(layers)), nn.Sequential(*layers)
    x, drop = numbers(3, 50, 6), drop_of([[0.0], [0.3], [0.8]], 50)
    found, expected = (stack(copies_of(m, 3)) for m in (mapped, ruled))
    torch.testing.assert_close(found[0].forward(found[1], x, drop), expected[0].forward(expected[1], x, drop))


@pytest.mark.parametrize("module", [Net(), nn.Sequential(nn.Linear(6, 16), *[nn.Dropout()] * 2)])
def test_a_dropout_layer_used_twice_has_masks_of_its_own_each_time(module: nn.Module) -> None:
    masks = []
    from rl_tuner.envs import dropout

    def spy(x: Tensor, *args: object, **options: object) -> Tensor:
        masks.append(args[2])  # the number its use has in the model
        return x

    stacked, views = stack(copies_of(module, 2))
    with patch.object(dropout, "drop", spy):
        for _ in range(2):
            stacked.forward(views, numbers(2, 4, 6), drop_of([[0.5]] * 2, 4))
    assert masks[:2] == masks[2:]  # the same in every pass
    assert masks[0] != masks[1]


def test_rates_of_a_mapped_modules_layers_are_found_among_the_models() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Dropout(), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.early(x[..., :3]), self.late(x[..., 3:])], -1)

    module = nn.Sequential(nn.Dropout(), nn.Linear(6, 6), Two())
    stacked, views = stack(copies_of(module, 2))
    x = numbers(2, 80, 6)
    clean = stacked.forward(views, x, None)
    outputs = stacked.forward(views, x, drop_of([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], 80))
    # In module order: the chain's own layer, then late and early.
    assert torch.equal(outputs[0, :, :3], clean[0, :, :3])
    assert torch.equal(outputs[1, :, 3:], clean[1, :, 3:])
    for part in (outputs[0, :, 3:], outputs[1, :, :3]):
        assert 0.35 < float((part == 0).double().mean()) < 0.65
