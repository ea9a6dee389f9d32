"""Architectures by name: what names are read, what they build, and what data they fit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_tuner.envs.architectures import (
    ARCHITECTURES,
    MOST_UNITS,
    Architecture,
    attention_heads,
    build_network,
    check_architecture,
    parse_architecture,
)
from rl_tuner.envs.data import DataShape
from rl_tuner.envs.models import cnn, conv1d, gru, mlp, transformer
from rl_tuner.envs.rating_models import matrix_factorization, two_towers
from rl_tuner.envs.samples import KINDS
from rl_tuner.envs.sequence_layers import Attention
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.errors import ConfigError
from rl_tuner.seeding import torch_seed
from tests.stacking import require_rows_compute_what_modules_do

N = 4
SHAPES = {
    "table": DataShape("table", (6,), 3),
    "table regression": DataShape("table", (6,), 1),
    "image": DataShape("image", (2, 8, 6), 3),
    "sound": DataShape("sound", (2, 40), 3),
    "tokens": DataShape("tokens", (5,), 3, (7,)),
    "text": DataShape("tokens", (5,), 7, (7,), every_position=True),
    "ratings": DataShape("ratings", (2,), 1, (7, 4)),
}
OUTPUTS = {"table regression": (N,), "text": (N, 7, 5), "ratings": (N,)}
"""By data; (N, 3) elsewhere."""
NAMES = {
    "table": ["linear", "mlp-5", "mlp-8x4"],
    "table regression": ["linear", "mlp-5"],
    "image": ["linear", "mlp-5", "cnn-4", "cnn-8x4-layer", "cnn-4x4-none"],
    "sound": ["linear", "mlp-5", "conv1d-4", "conv1d-8x4-layer", "conv1d-4x4-none"],
    "tokens": ["gru-4", "transformer-8x1"],
    "text": ["gru-4", "transformer-16x2"],
    "ratings": ["factors-3", "towers-3x4", "towers-2x4x5"],
}
CASES = [(name, data) for data, names in NAMES.items() for name in names]
units = st.integers(1, MOST_UNITS)
names = st.one_of(
    st.just(Architecture("linear")),
    st.builds(Architecture, st.just("mlp"), st.lists(units, min_size=1, max_size=5).map(tuple)),
    st.builds(
        Architecture,
        st.sampled_from(["cnn", "conv1d"]),
        st.lists(units, min_size=1, max_size=5).map(tuple),
        st.sampled_from(["group", "layer", "none"]),
    ),
    st.builds(Architecture, st.sampled_from(["gru", "factors"]), st.tuples(units)),
    st.builds(Architecture, st.just("transformer"), st.tuples(units, units)),
    st.builds(Architecture, st.just("towers"), st.lists(units, min_size=2, max_size=5).map(tuple)),
)


def inputs_of(shape: DataShape, *places: int) -> Tensor:
    """Inputs as a split has them."""
    generator = torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        return torch.randint(0, shape.vocabulary[0], (*places, *shape.sample), generator=generator)
    if shape.kind == "ratings":
        return torch.stack([torch.randint(0, n, places, generator=generator) for n in shape.vocabulary], -1)
    return torch.randn(*places, math.prod(shape.sample), generator=generator)


def build(name: str, data: str, dropout: float | None = None) -> nn.Module:
    with torch_seed(0):
        return build_network(name, SHAPES[data], dropout)


@given(names)
def test_a_name_is_read_as_what_it_was_written_from(architecture: Architecture) -> None:
    assert parse_architecture(architecture.name) == architecture


@given(
    st.text("mlpcn-x0123456789 +_dgrutafosweyi", max_size=20) | st.text(max_size=8) | st.from_regex("cnn-.*")
)
def test_whatever_is_read_is_written_as_it_was_given_and_all_else_is_an_error(name: str) -> None:
    try:
        found = parse_architecture(name)
    except ConfigError as error:
        assert repr(name) in str(error)  # noqa: PT017
    else:
        assert found.name == name
        assert all(1 <= size <= MOST_UNITS for size in found.sizes)


@pytest.mark.parametrize("form", ARCHITECTURES)
def test_the_example_of_a_form_is_of_that_form_and_fits_what_the_form_says(form: str) -> None:
    example = ARCHITECTURES[form].example
    assert parse_architecture(example).form == form
    for kind in KINDS:
        if kind in ARCHITECTURES[form].kinds:
            assert check_architecture(example, kind).name == example
        else:
            with pytest.raises(
                ConfigError, match=f"{example!r} fits {ARCHITECTURES[form].kinds[0]}.*not {kind}"
            ):
                check_architecture(example, kind)


def test_every_kind_of_data_has_an_architecture() -> None:
    assert {kind for form in ARCHITECTURES.values() for kind in form.kinds} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mpl-64x32", "mlp-64x32"),
        ("transfomer-32x2", "transformer-32x2"),
        ("mlp64x32", "mlp-64x32"),
        ("grus", "gru-32"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown architecture '{name}' .did you mean '{nearest}'"):
        parse_architecture(name)


@pytest.mark.parametrize(
    "name",
    [
        *["mlp", "mlp-", "mlp-0", "mlp-064", "mlp-64x", "mlp-x64", "mlp-64xx32", "mlp-64-32", "mlp--64"],
        *["mlp-64x32-layer", "mlp-6.4", "mlp-+6", "mlp-6e1", "mlp- 6", "mlp-6 ", "mlp-٣", "mlp-65537"],
        *["mlp-99999999999999999999", "linear-", "linear-4", "linear-layer", "cnn-layer", "cnn--layer"],
        *["cnn-8-group", "cnn-8-batch", "cnn-8-layer-", "cnn-8-layer-none", "cnn-layer-8", "conv1d-"],
        *["gru-8x8", "transformer-8", "transformer-8x2x2", "factors-2x2", "towers-8", "towers-8x4-none"],
    ],
)
def test_malformed_sizes_are_an_error_that_shows_an_example(name: str) -> None:
    example = ARCHITECTURES[name.split("-")[0]].example
    with pytest.raises(
        ConfigError, match=f"architecture {name!r} must look like".replace("+", r"\+")
    ) as error:
        parse_architecture(name)
    assert repr(example) in str(error.value)


@pytest.mark.parametrize("name", [None, 5, ["mlp-64"], b"mlp-64", ""])
def test_what_is_no_name_is_an_error(name: object) -> None:
    with pytest.raises(ConfigError, match="unknown architecture"):
        parse_architecture(name)  # type: ignore[arg-type]


def test_an_unfit_architecture_is_answered_with_some_that_fit() -> None:
    with pytest.raises(
        ConfigError, match=r"'gru-32' fits tokens, not image: .* linear, mlp-64x32, cnn-8x16$"
    ):
        check_architecture("gru-32", "image")
    with pytest.raises(ConfigError, match="unknown kind of data 'picture'"):
        check_architecture("gru-32", "picture")
    with pytest.raises(ConfigError, match="fits table, image, sound, not tokens"):
        build_network("mlp-8", SHAPES["tokens"], None)


def test_ratings_are_values() -> None:
    with pytest.raises(ConfigError, match="'factors-3' predicts one value a rating, not 5 classes"):
        build_network("factors-3", DataShape("ratings", (2,), 5, (7, 4)), None)


@pytest.mark.parametrize(("name", "data"), CASES)
def test_outputs_have_the_shape_that_the_datas_targets_ask_for(name: str, data: str) -> None:
    outputs = build(name, data)(inputs_of(SHAPES[data], N))
    assert outputs.shape == OUTPUTS.get(data, (N, 3))
    assert outputs.dtype == torch.float32


@pytest.mark.parametrize(("name", "data"), CASES)
def test_dropout_layers_are_there_unless_the_rate_is_none(name: str, data: str) -> None:
    layers = [m for m in build(name, data, 0.3).modules() if isinstance(m, nn.Dropout)]
    assert layers
    assert {layer.p for layer in layers} == {0.3}
    assert not any(isinstance(m, nn.Dropout) for m in build(name, data).modules())


@pytest.mark.parametrize(("name", "data"), CASES)
@pytest.mark.parametrize("dropout", [None, 0.3])
def test_every_architecture_may_be_stacked(name: str, data: str, dropout: float | None) -> None:
    module = build(name, data, dropout)
    StackedModel(module).check(module, inputs_of(SHAPES[data], N))


@pytest.mark.parametrize(("name", "data"), CASES)
def test_stacked_networks_have_the_outputs_and_gradients_of_each(name: str, data: str) -> None:
    x = inputs_of(SHAPES[data], 3, N)
    module = build(name, data).double()
    require_rows_compute_what_modules_do(module, x.double() if x.is_floating_point() else x, 3)


BUILT = {
    ("mlp-8x4", "table"): lambda: mlp(6, (8, 4), 3, 0.1),
    ("mlp-5", "image"): lambda: mlp(96, (5,), 3, 0.1),
    ("mlp-5", "table regression"): lambda: mlp(6, (5,), 1, 0.1),
    ("cnn-8x4", "image"): lambda: cnn((2, 8, 6), (8, 4), 3, "group", 0.1),
    ("cnn-8x4-layer", "image"): lambda: cnn((2, 8, 6), (8, 4), 3, "layer", 0.1),
    ("conv1d-8x4-none", "sound"): lambda: conv1d((2, 40), (8, 4), 3, "none", 0.1),
    ("gru-4", "tokens"): lambda: gru(7, 3, 4, 4, 0.1),
    ("gru-4", "text"): lambda: gru(7, 7, 4, 4, 0.1, predict_all=True),
    ("transformer-16x2", "tokens"): lambda: transformer(7, 5, 3, 16, 2, 2, 0.1),
    ("transformer-8x1", "text"): lambda: transformer(7, 5, 7, 8, 1, 1, 0.1, causal=True, predict_all=True),
    ("factors-3", "ratings"): lambda: matrix_factorization(7, 4, 3, 0.1),
    ("towers-3x4x5", "ratings"): lambda: two_towers(7, 4, 3, (4, 5), 0.1),
}


@pytest.mark.parametrize(("name", "data"), BUILT)
def test_a_name_builds_the_model_that_it_says(name: str, data: str) -> None:
    with torch_seed(0):
        expected = BUILT[name, data]()
    found = build(name, data, 0.1)
    assert repr(found) == repr(expected)
    x = inputs_of(SHAPES[data], N)
    assert torch.equal(found.eval()(x), expected.eval()(x))


def test_a_linear_network_drops_inputs_and_is_linear() -> None:
    model = build("linear", "table", 0.5)
    x = inputs_of(SHAPES["table"], N)
    linear = model.get_submodule("1")
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(model.eval()(x), x @ linear.weight.T + linear.bias)
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.bias.zero_()
    with torch_seed(0):
        dropped = model.train()(torch.ones(2000, 6))
    assert {round(value) for value in dropped.flatten().tolist()} == {0, 2, 4, 6, 8, 10, 12}


@pytest.mark.parametrize(
    ("width", "heads"),
    [(1, 1), (8, 1), (15, 1), (16, 2), (20, 2), (24, 3), (32, 4), (33, 3), (37, 1), (64, 8)],
)
def test_heads_divide_the_width_and_have_eight_units_or_more(width: int, heads: int) -> None:
    assert attention_heads(width) == heads
    shape = SHAPES["tokens"]
    attention = [
        m for m in build_network(f"transformer-{width}x1", shape, None).modules() if isinstance(m, Attention)
    ]
    assert [m.heads for m in attention] == [heads]


@given(st.integers(1, 3000))
def test_no_larger_number_of_heads_would_do(width: int) -> None:
    heads = attention_heads(width)
    assert width % heads == 0
    assert heads == 1 or width // heads >= 8
    assert not any(width % more == 0 and width // more >= 8 for more in range(heads + 1, width + 1))
