"""The model shapes that suites build."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from rl_tuner.envs.models import cnn, conv1d, gru, mlp, transformer
from rl_tuner.envs.rating_models import matrix_factorization, two_towers
from rl_tuner.envs.sequence_layers import GRU, Attention
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.seeding import torch_seed

N, T, TOKENS, USERS, ITEMS = 3, 6, 5, 7, 4
Make = Callable[[], nn.Sequential]
SHAPES: dict[str, tuple[Make, tuple[int, ...]]] = {
    "mlp": (lambda: mlp(8, (6, 4), 3, 0.1), (N, 3)),
    "mlp regression": (lambda: mlp(8, (6,), 1), (N,)),
    "cnn group": (lambda: cnn((2, 6, 5), (8, 5), 3, "group", 0.1), (N, 3)),
    "cnn layer": (lambda: cnn((2, 6, 5), (8,), 3, "layer"), (N, 3)),
    "cnn none": (lambda: cnn((2, 6, 5), (), 1, "none"), (N,)),
    "conv1d group": (lambda: conv1d((2, 70), (8, 5), 3, "group", 0.1), (N, 3)),
    "conv1d layer": (lambda: conv1d((2, 70), (4, 4, 4), 3, "layer"), (N, 3)),
    "conv1d none": (lambda: conv1d((2, 70), (), 1, "none"), (N,)),
    "factors": (lambda: matrix_factorization(USERS, ITEMS, 3), (N,)),
    "factors with dropout": (lambda: matrix_factorization(USERS, ITEMS, 1, 0.1), (N,)),
    "towers": (lambda: two_towers(USERS, ITEMS, 4, (6, 5), 0.1), (N,)),
    "towers of one number": (lambda: two_towers(USERS, ITEMS, 1, ()), (N,)),
    "gru": (lambda: gru(TOKENS, 3, 4, 7, 0.1), (N, 3)),
    "gru regression": (lambda: gru(TOKENS, 1, 4, 7), (N,)),
    "gru all": (lambda: gru(TOKENS, 3, 4, 7, predict_all=True), (N, 3, T)),
    "gru all regression": (lambda: gru(TOKENS, 1, 4, 7, 0.1, predict_all=True), (N, T)),
    "transformer": (lambda: transformer(TOKENS, T, 3, 8, 2, 2, 0.1), (N, 3)),
    "transformer causal": (lambda: transformer(TOKENS, T + 2, 3, 8, 2, 1, causal=True), (N, 3)),
    "transformer regression": (lambda: transformer(TOKENS, T, 1, 8, 2, 1), (N,)),
    "transformer all": (lambda: transformer(TOKENS, T, 3, 8, 2, 1, causal=True, predict_all=True), (N, 3, T)),
}
WITH_DROPOUT: dict[str, Callable[[float | None], nn.Sequential]] = {
    "mlp": lambda rate: mlp(8, (6, 4), 3, rate),
    "cnn": lambda rate: cnn((1, 4, 2), (4,), 3, dropout=rate),
    "conv1d": lambda rate: conv1d((1, 8), (4,), 3, dropout=rate),
    "factors": lambda rate: matrix_factorization(USERS, ITEMS, 8, rate),
    "towers": lambda rate: two_towers(USERS, ITEMS, 8, (6, 4), rate),
    "towers without hidden layers": lambda rate: two_towers(USERS, ITEMS, 8, (), rate),
    "gru": lambda rate: gru(TOKENS, 3, 4, 7, rate),
    "gru all": lambda rate: gru(TOKENS, 3, 4, 7, rate, predict_all=True),
    "transformer": lambda rate: transformer(TOKENS, T, 3, 8, 2, 2, rate),
}


def seeded(make: Callable[[], nn.Sequential], seed: int = 0) -> nn.Sequential:
    with torch_seed(seed):
        return make()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, TOKENS, shape, generator=torch.Generator().manual_seed(seed))


def pairs(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of users and items, (*shape, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, n, shape, generator=generator) for n in (USERS, ITEMS)], -1)


def inputs_of(name: str, *shape: int) -> Tensor:
    """Inputs (*shape, ...) for the shape of that name."""
    if name.startswith(("gru", "transformer")):
        return tokens(*shape, T)
    if name.startswith(("factors", "towers")):
        return pairs(*shape)
    return numbers(*shape, {"mlp": 8, "cnn": 2 * 6 * 5, "conv1d": 2 * 70}[name.split()[0]])


@pytest.mark.parametrize("name", SHAPES)
def test_outputs_have_the_shape_that_the_loss_wants(name: str) -> None:
    make, shape = SHAPES[name]
    model = seeded(make).double()
    assert model(inputs_of(name, N)).shape == shape
    assert model(inputs_of(name, 1)).shape == (1, *shape[1:])


@pytest.mark.parametrize("name", SHAPES)
def test_stacked_copies_compute_what_each_computes_alone(name: str) -> None:
    make, shape = SHAPES[name]
    models = [seeded(make, i).double().eval() for i in range(3)]
    x, weights = inputs_of(name, 3, N), numbers(3, *shape)
    parameters, buffers = stack_module_state(list(models))
    assert not buffers

    def score(values: dict[str, Tensor], x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        outputs: Tensor = functional_call(models[0], values, (x,))
        return (outputs * weight).sum(), outputs

    # Warnings are errors here: an operation that vmap cannot stack, and loops over instead, would warn.
    grads, outputs = vmap(grad(score, has_aux=True), randomness="error")(parameters, x, weights)
    for i, model in enumerate(models):
        alone = model(x[i])
        (alone * weights[i]).sum().backward()
        torch.testing.assert_close(outputs[i], alone)
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(grads[key][i], parameter.grad)


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_is_by_modules_that_see_the_batch_first_and_only_if_asked_for(name: str) -> None:
    make = WITH_DROPOUT[name]
    model, seen = seeded(lambda: make(0.5)), []
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    x = inputs_of(name, N) if name.startswith(("gru", "transformer", "factors", "towers")) else None
    x = numbers(N, 8).float() if x is None else x
    with torch_seed(1):
        first, second = model(x), model(x)
    assert layers
    assert {layer.p for layer in layers} == {0.5}
    assert seen == [N] * 2 * len(layers)  # each layer once a pass
    assert not torch.equal(first, second)
    assert torch.equal(model.eval()(x), model(x))
    assert not any(isinstance(m, nn.Dropout) for m in make(None).modules())
    assert any(isinstance(m, nn.Dropout) for m in make(0.0).modules())  # ready for a policy to raise it


def test_an_mlp_is_linear_relu_dropout_in_turn() -> None:
    kinds = [type(layer) for layer in mlp(4, (8, 6), 3, dropout=0.5)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_an_mlp_computes_what_its_weights_say() -> None:
    model = mlp(2, (3,), 2)
    first, last = model[0], model[2]
    x = torch.tensor([[0.5, -1.0], [2.0, 0.3]])
    hidden = torch.clamp(x @ first.weight.T + first.bias, min=0)  # type: ignore[operator]
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)  # type: ignore[operator]


def test_a_cnn_takes_images_and_the_same_numbers_as_rows() -> None:
    model, x = seeded(lambda: cnn((2, 8, 8), (4, 8), 3)), numbers(N, 2, 8, 8).float()
    assert torch.equal(model(x), model(x.flatten(1)))


def test_a_cnn_computes_what_its_weights_say() -> None:
    model, x = seeded(lambda: cnn((2, 4, 6), (8,), 3, "layer")).double(), numbers(N, 2, 4, 6)
    p = dict(model.named_parameters())
    hidden = functional.conv2d(x, p["2.weight"], p["2.bias"], padding=1)
    hidden = functional.layer_norm(hidden, (8, 4, 6)).relu()  # the norm's own weights are 1 and 0 at first
    hidden = functional.max_pool2d(hidden, 2).flatten(1)
    torch.testing.assert_close(model(x), functional.linear(hidden, p["7.weight"], p["7.bias"]))


def test_a_conv1d_takes_signals_and_the_same_numbers_as_rows() -> None:
    model, x = seeded(lambda: conv1d((2, 40), (4, 8), 3)), numbers(N, 2, 40).float()
    assert torch.equal(model(x), model(x.flatten(1)))


def test_a_conv1d_computes_what_its_weights_say() -> None:
    model, x = seeded(lambda: conv1d((2, 256), (8, 4), 3, "layer")).double(), numbers(N, 2, 256)
    w = [p.detach() for p in model.parameters()]
    hidden = functional.conv1d(x, w[0], w[1], stride=4, padding=6)
    assert hidden.shape[-1] == 64
    hidden = functional.layer_norm(hidden, (8, 64)).relu()  # the norm's own weights are 1 and 0 at first
    hidden = functional.max_pool1d(hidden, 4)
    hidden = functional.layer_norm(functional.conv1d(hidden, w[4], w[5], padding=1), (4, 16)).relu()
    hidden = functional.max_pool1d(hidden, 4).flatten(1)
    torch.testing.assert_close(model(x), functional.linear(hidden, w[8], w[9]))


@pytest.mark.parametrize(
    ("length", "blocks", "left"),
    [
        *[(1, 2, 1), (15, 1, 15), (15, 3, 15), (16, 1, 4), (63, 1, 15), (64, 1, 4)],
        *[(256, 1, 16), (256, 3, 4), (8000, 2, 125)],
    ],
)
def test_a_conv1d_quarters_signals_where_they_have_sixteen_samples(
    length: int, blocks: int, left: int
) -> None:
    model = conv1d((3, length), (5,) * blocks, 2)
    last = model[-1]
    assert isinstance(last, nn.Linear)
    assert last.in_features == 5 * left
    assert model(torch.zeros(N, 3, length)).shape == (N, 2)


def test_matrix_factorization_is_mean_plus_biases_plus_the_product_of_factors() -> None:
    model = matrix_factorization(2, 3, 2)
    p = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in {
            "0.branches.0.0.branches.0.weight": [[1.0, 2.0], [3.0, -1.0]],  # users' factors
            "0.branches.0.0.branches.1.weight": [[0.5, 0.0], [1.0, 1.0], [-2.0, 4.0]],  # items' factors
            "0.branches.1.0.branches.0.weight": [[0.1], [0.2]],  # users' biases
            "0.branches.1.0.branches.1.weight": [[10.0], [20.0], [30.0]],  # items' biases
            "1.bias": 100.0,  # mean
        }.items():
            p.pop(name).copy_(torch.tensor(values))
    assert not p
    found = model(torch.tensor([[0, 0], [0, 2], [1, 1], [1, 2]]))
    torch.testing.assert_close(found, torch.tensor([110.6, 136.1, 122.2, 120.2]))


def test_matrix_factorization_starts_near_zero_with_biases_at_zero() -> None:
    model = seeded(lambda: matrix_factorization(200, 100, 8))
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    assert [table.shape for table in tables] == [(200, 8), (100, 8), (200, 1), (100, 1)]
    assert not tables[2].any()
    assert not tables[3].any()
    assert 0.09 < tables[0].std() < 0.11
    assert 0.09 < tables[1].std() < 0.11


def test_dropout_of_a_factorization_spares_its_biases() -> None:
    model = seeded(lambda: matrix_factorization(USERS, ITEMS, 4, 0.999999))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    with torch_seed(0):
        dropped = model(pairs(N))
    torch.testing.assert_close(dropped, torch.full((N,), 3.0))  # mean and both biases
    torch.testing.assert_close(model.eval()(pairs(N)), torch.full((N,), 7.0))


def test_two_towers_multiply_what_two_mlps_make_of_embeddings() -> None:
    model = seeded(lambda: two_towers(USERS, ITEMS, 4, (6, 5))).double()
    with torch.no_grad():
        model[-1].bias.fill_(0.7)  # type: ignore[operator]
    x, w = pairs(N), [p.detach() for p in model.parameters()]
    assert len(w) == 15
    vectors = []
    for column in range(2):
        table, *layers = w[7 * column : 7 * column + 7]
        hidden = table[x[:, column]]
        for i in (0, 2, 4):
            hidden = hidden @ layers[i].T + layers[i + 1]
            hidden = hidden.clamp(min=0) if i < 4 else hidden
        vectors.append(hidden)
    torch.testing.assert_close(model(x), (vectors[0] * vectors[1]).sum(1) + 0.7)


@pytest.mark.parametrize("make", [lambda: matrix_factorization(2, 3, 2), lambda: two_towers(2, 3, 2, (4,))])
def test_pairs_with_more_columns_are_refused(make: Make) -> None:
    with pytest.raises(JobError, match="inputs must have 2 columns, got 3"):
        make()(torch.zeros(N, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 1), (7, 1), (8, 2), (12, 3), (16, 4), (22, 2), (64, 16), (256, 32)]
)
def test_groups_of_a_norm_divide_the_channels_and_hold_four_or_more(channels: int, groups: int) -> None:
    norm = next(layer for layer in cnn((1, 4, 4), (channels,), 2) if isinstance(layer, nn.GroupNorm))
    assert norm.num_groups == groups


@pytest.mark.parametrize(
    ("image", "sides"), [((1, 8, 8), (2, 2)), ((3, 5, 30), (2, 15)), ((1, 3, 9), (3, 9))]
)
def test_a_cnn_halves_images_while_both_sides_have_four_pixels(
    image: tuple[int, int, int], sides: tuple[int, int]
) -> None:
    last = cnn(image, (4, 4, 4, 6), 2)[-1]
    assert isinstance(last, nn.Linear)
    assert last.in_features == 6 * sides[0] * sides[1]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_a_gru_has_the_weights_outputs_and_gradients_of_torchs_own(
    n: int, length: int, inputs: int, hidden: int, seed: int
) -> None:
    with torch_seed(seed):
        ours = GRU(inputs, hidden).double()
    with torch_seed(seed):
        theirs = nn.GRU(inputs, hidden, batch_first=True).double()
    x, weights = numbers(n, length, inputs, seed=seed), numbers(n, length, hidden, seed=seed + 1)
    require_equal_modules(ours, theirs, lambda m, x: theirs(x)[0] if m is theirs else m(x), x, weights)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("width", "heads"), [(8, 1), (8, 2), (12, 4), (5, 5)])
def test_attention_has_the_weights_outputs_and_gradients_of_torchs_own(
    width: int, heads: int, causal: bool
) -> None:
    with torch_seed(width):
        ours = Attention(width, heads, causal).double()
    with torch_seed(width):
        theirs = nn.MultiheadAttention(width, heads, batch_first=True).double()
    mask = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64) if causal else None
    call = lambda m, x: theirs(x, x, x, attn_mask=mask)[0] if m is theirs else m(x)  # noqa: E731
    require_equal_modules(ours, theirs, call, numbers(N, T, width), numbers(N, T, width, seed=1))


def require_equal_modules(
    ours: nn.Module,
    theirs: nn.Module,
    call: Callable[[nn.Module, Tensor], Tensor],
    x: Tensor,
    weights: Tensor,
) -> None:
    """Equal names, values and gradients of parameters, equal outputs and gradients of inputs."""
    results = []
    for module in (ours, theirs):
        given = x.clone().requires_grad_()
        outputs = call(module, given)
        (outputs * weights).sum().backward()  # type: ignore[no-untyped-call]
        results.append((outputs, given.grad))
    torch.testing.assert_close(results[0], results[1])
    others = dict(theirs.named_parameters())
    assert [name for name, _ in ours.named_parameters()] == list(others)
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, others[name])
        torch.testing.assert_close(parameter.grad, others[name].grad)


@pytest.mark.parametrize("causal", [False, True])
def test_a_transformer_computes_what_torchs_encoder_layers_compute(causal: bool) -> None:
    model = seeded(lambda: transformer(TOKENS, T, 3, 8, 2, 2, causal=causal, predict_all=True)).double()
    values = [p.detach() for p in model.parameters()]
    x = tokens(N, T)
    hidden = functional.embedding(x, values[0]) + values[1]
    mask = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64) if causal else None
    for block in range(2):
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).double()
        kinds = ("weight", "bias")
        names = [f"norm1.{kind}" for kind in kinds] + [f"self_attn.in_proj_{kind}" for kind in kinds]
        modules = ("self_attn.out_proj", "norm2", "linear1", "linear2")
        names += [f"{module}.{kind}" for module in modules for kind in kinds]
        layer.load_state_dict(dict(zip(names, values[2 + 12 * block : 14 + 12 * block], strict=True)))
        hidden = layer(hidden, src_mask=mask)
    hidden = functional.layer_norm(hidden, (8,))
    scores = functional.linear(hidden, values[-2], values[-1])
    torch.testing.assert_close(model(x), scores.transpose(1, 2))


@pytest.mark.parametrize("name", ["gru", "causal transformer"])
def test_a_prediction_sees_no_later_token(name: str) -> None:
    if name == "gru":
        model = gru(TOKENS, 3, predict_all=True).eval()
    else:
        model = transformer(TOKENS, T, 3, causal=True, predict_all=True).eval()
    x = tokens(N, T)
    changed = x.clone()
    changed[:, 3] = (x[:, 3] + 1) % TOKENS
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[..., :3], after[..., :3])
    assert ((before - after)[..., 3:].abs().amax((0, 1)) > 1e-4).all()


@pytest.mark.parametrize("name", ["gru", "transformer", "causal transformer"])
def test_a_sequence_is_judged_by_its_last_state_or_without_order_by_the_mean(name: str) -> None:
    def make(predict_all: bool) -> nn.Sequential:
        if name == "gru":
            return gru(TOKENS, 3, predict_all=predict_all)
        return transformer(TOKENS, T, 3, causal=name.startswith("causal"), predict_all=predict_all)

    x = tokens(N, T)
    one, every = seeded(lambda: make(False))(x), seeded(lambda: make(True))(x)
    # The last layer is linear, so that the mean of scores is the score of the mean.
    torch.testing.assert_close(one, every.mean(-1) if name == "transformer" else every[..., -1])


def test_a_transformer_takes_sequences_from_its_first_position_on_but_none_beyond_its_last() -> None:
    model, x = transformer(TOKENS, 4, 3, causal=True, predict_all=True), tokens(N, 4)
    torch.testing.assert_close(model(x[:, :2]), model(x)[..., :2])
    with pytest.raises(JobError, match="5 tokens is longer than length = 4"):
        model(tokens(N, 5))


def _first_token(seed: int) -> tuple[Tensor, Tensor]:
    x = tokens(64, T, seed=seed)
    return x, x[:, 0]


def _tokens_before(seed: int) -> tuple[Tensor, Tensor]:
    x = tokens(64, T, seed=seed)
    return x, torch.cat((x[:, :1], x[:, :-1]), 1)


def _brightest_quarter(seed: int) -> tuple[Tensor, Tensor]:
    x = numbers(64, 1, 8, 8, seed=seed).float()
    return x.flatten(1), functional.avg_pool2d(x, 4).flatten(1).argmax(1)


def _higher_tone(seed: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(64) % 4
    phase = numbers(64, 1, seed=seed).float()
    pitch = 0.1 + 0.15 * y.unsqueeze(1)
    return torch.sin(2 * torch.pi * (pitch * torch.arange(128) + phase)), y


def _low_rank_rating(seed: int) -> tuple[Tensor, Tensor]:
    x = pairs(64, seed=seed)
    users, items = numbers(USERS, 2, seed=1), numbers(ITEMS, 2, seed=2)
    return x, ((users[x[:, 0]] * items[x[:, 1]]).sum(1) + 1).float()


TRAINED = {
    "mlp": (lambda: mlp(64, (32,), 4), _brightest_quarter),
    "cnn": (lambda: cnn((1, 8, 8), (8, 16), 4), _brightest_quarter),
    "conv1d": (lambda: conv1d((1, 128), (8, 8), 4), _higher_tone),
    "factors": (lambda: matrix_factorization(USERS, ITEMS, 3), _low_rank_rating),
    "towers": (lambda: two_towers(USERS, ITEMS, 4, (16,)), _low_rank_rating),
    "gru": (lambda: gru(TOKENS, TOKENS), _first_token),
    "gru all": (lambda: gru(TOKENS, TOKENS, predict_all=True), _tokens_before),
    "transformer": (lambda: transformer(TOKENS, T, TOKENS), _first_token),
    "transformer causal": (lambda: transformer(TOKENS, T, TOKENS, causal=True), _first_token),
    "transformer all": (
        lambda: transformer(TOKENS, T, TOKENS, causal=True, predict_all=True),
        _tokens_before,
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_learns(name: str) -> None:
    make, batch = TRAINED[name]
    model = seeded(make)
    loss: Callable[[Tensor, Tensor], Tensor] = (
        functional.mse_loss if batch is _low_rank_rating else functional.cross_entropy
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = loss(model(batch(999)[0]), batch(999)[1]).item()
    for step in range(120):
        x, y = batch(step)
        optimizer.zero_grad()
        loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss(model(batch(999)[0]), batch(999)[1]).item() < 0.5 * start


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(0, (3,), 2), "inputs must be >= 1, got 0"),
        (lambda: mlp(4, (3, 0), 2), r"hidden\[1\] must be >= 1, got 0"),
        (lambda: mlp(4, (3,), 2, dropout=1.0), "dropout must be"),
        (lambda: mlp(4, (2.5,), 2), r"hidden\[0\] must be a whole number, got 2.5"),  # type: ignore[arg-type]
        (lambda: cnn((1, 8, 8), (4,), 2, "batch"), "unknown norm 'batch'.*group, layer, none"),
        (lambda: cnn((8, 8), (4,), 2), r"image must be channels, height and width, got \(8, 8\)"),  # type: ignore[arg-type]
        (lambda: cnn((1, 0, 8), (4,), 2), r"image\[1\] must be >= 1"),
        (lambda: cnn((1, 8, 8), (4, -1), 2), r"channels\[1\] must be >= 1"),
        (lambda: cnn((1, 8, 8), (), 2, "batch"), "unknown norm 'batch'"),
        (lambda: conv1d((1, 8), (), 2, "batch"), "unknown norm 'batch'.*group, layer, none"),
        (lambda: conv1d((8,), (4,), 2), r"signal must be channels and length, got \(8,\)"),  # type: ignore[arg-type]
        (lambda: conv1d((1, 0), (4,), 2), r"signal\[1\] must be >= 1"),
        (lambda: conv1d((1, 8), (0,), 2), r"channels\[0\] must be >= 1"),
        (lambda: conv1d((1, 8), (4,), 2, dropout=1.0), "dropout must be"),
        (lambda: matrix_factorization(0, 2, 2), "users must be >= 1"),
        (lambda: matrix_factorization(2, 0, 2), "items must be >= 1"),
        (lambda: matrix_factorization(2, 2, 0), "rank must be >= 1"),
        (lambda: matrix_factorization(2, 2, 2, -0.5), "dropout must be"),
        (lambda: two_towers(2, 0, 2, (3,)), "items must be >= 1"),
        (lambda: two_towers(2, 2, 0, (3,)), "embedding must be >= 1"),
        (lambda: two_towers(2, 2, 2, (3, 0)), r"hidden\[1\] must be >= 1"),
        (lambda: gru(0, 2), "vocabulary must be >= 1"),
        (lambda: gru(4, 0), "outputs must be >= 1"),
        (lambda: gru(4, 2, hidden=0), "hidden must be >= 1"),
        (lambda: gru(4, 2, dropout=-0.1), "dropout must be >= 0"),
        (lambda: transformer(4, 0, 2), "length must be >= 1"),
        (lambda: transformer(4, 8, 2, width=10, heads=4), "width must be a multiple of heads = 4, got 10"),
        (lambda: transformer(4, 8, 2, heads=0), "heads must be >= 1"),
        (lambda: transformer(4, 8, 2, layers=0), "layers must be >= 1"),
        (lambda: transformer(4, 8, 2, dropout=float("nan")), "dropout must be"),
        (lambda: GRU(3, 0), "hidden must be >= 1"),
        (lambda: Attention(3, 2, False), "width must be a multiple of heads"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_names_it(make: Make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
