from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from rl_tuner.errors import ConfigError, JobError
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.seeding import TorchStream, torch_seed
from rl_tuner.trainee import Trainee

Build = Callable[[Iterable[Any]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam-tensor-lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "rmsprop-momentum": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, lr_decay=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
}


def network(*rates: float) -> nn.Sequential:
    with torch_seed(0):
        layers: list[nn.Module] = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh()]
        layers += [nn.Dropout(rate) for rate in rates]
        return nn.Sequential(*layers, nn.Linear(8, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """The updates `first` to `last` of one fixed sequence; dropout draws from the update's own stream."""
    for step in range(first, last):
        inputs = torch.sin(torch.arange(24.0) * (step + 1)).reshape(6, 4)
        optimizer.zero_grad()
        with TorchStream(step):
            loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()


def tensors(model: nn.Module) -> list[torch.Tensor]:
    return [t.detach().clone() for t in (*model.parameters(), *model.buffers())]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_state_trains_on_bit_for_bit(name: str, untouched_rng: None) -> None:
    model = network(0.2)
    optimizer = OPTIMIZERS[name](model.parameters())
    trainee = Trainee(optimizer, model)
    train(model, optimizer, 0, 3)
    kept = trainee.keep()
    train(model, optimizer, 3, 7)
    expected = tensors(model)
    for _ in range(2):  # twice: restoring must not use the copy up
        trainee.restore(kept)
        assert not same(tensors(model), expected)
        train(model, optimizer, 3, 7)
        assert same(tensors(model), expected)


@pytest.mark.parametrize("name", ["sgd-momentum", "adam", "rmsprop", "adagrad"])
def test_a_state_kept_before_the_first_update_is_a_fresh_start(name: str) -> None:
    model, fresh = network(), network()
    optimizer = OPTIMIZERS[name](model.parameters())
    trainee = Trainee(optimizer, model)
    kept = trainee.keep()
    train(model, optimizer, 0, 3)
    trainee.restore(kept)
    train(model, optimizer, 0, 3)
    train(fresh, OPTIMIZERS[name](fresh.parameters()), 0, 3)
    assert same(tensors(model), tensors(fresh))


def test_restoring_brings_hyperparameters_of_the_optimizer_back() -> None:
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    trainee = Trainee(optimizer, model)
    before, kept = trainee.read(), trainee.keep()
    trainee.write({"lr": 7.0, "weight_decay": 0.5, "momentum": 0.1})
    trainee.restore(kept)
    assert trainee.read() == before


def test_training_on_does_not_change_what_was_kept() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    trainee = Trainee(optimizer, model)
    train(model, optimizer, 0, 2)
    kept = trainee.keep()
    saved = copy.deepcopy(kept)
    train(model, optimizer, 2, 5)
    assert same(kept.tensors, saved.tensors)
    for a, b in zip(kept.state, saved.state, strict=True):
        assert a is not None
        assert b is not None
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_restore_weights_leaves_the_optimizer_as_it_is() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    trainee = Trainee(optimizer, model)
    train(model, optimizer, 0, 2)
    kept, weights = trainee.keep(), tensors(model)
    train(model, optimizer, 2, 5)
    trainee.restore_weights(kept)
    assert same(tensors(model), weights)
    assert {float(s["step"]) for s in optimizer.state.values()} == {5.0}


def test_buffers_are_kept_with_the_parameters() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    trainee = Trainee(optimizer, model)
    kept = trainee.keep()
    train(model, optimizer, 0, 3)
    assert int(model[1].num_batches_tracked) == 3  # type: ignore[arg-type]
    trainee.restore(kept)
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[arg-type]


def test_without_a_model_the_optimizers_parameters_are_kept() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    trainee = Trainee(optimizer)
    kept, before = trainee.keep(), [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, 0, 3)
    trainee.restore(kept)
    assert same([p.detach() for p in model.parameters()], before)


def test_a_parameter_that_only_the_optimizer_holds_is_kept_too() -> None:
    model, scale = network(), nn.Parameter(torch.ones(2))
    trainee = Trainee(torch.optim.SGD([*model.parameters(), scale], lr=0.1), model)
    kept = trainee.keep()
    with torch.no_grad():
        scale.fill_(5.0)
    trainee.restore(kept)
    assert scale.tolist() == [1.0, 1.0]


def test_a_model_of_other_shape_is_refused() -> None:
    kept = Trainee(OPTIMIZERS["sgd"](network().parameters())).keep()
    other = nn.Linear(3, 1)
    trainee = Trainee(OPTIMIZERS["sgd"](other.parameters()), other)
    for restore in (trainee.restore, trainee.restore_weights):
        with pytest.raises(JobError, match="the model now has 2 tensors, not the 6 kept"):
            restore(kept)


def test_a_model_of_other_shapes_is_refused_though_the_count_is_the_same() -> None:
    one, other = nn.Linear(3, 1), nn.Linear(4, 1)
    kept = Trainee(OPTIMIZERS["sgd"](one.parameters()), one).keep()
    with pytest.raises(JobError, match="other shapes"):
        Trainee(OPTIMIZERS["sgd"](other.parameters()), other).restore(kept)


def test_a_parameter_group_added_since_is_refused_before_anything_changes() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    trainee = Trainee(optimizer, model)
    kept = trainee.keep()
    train(model, optimizer, 0, 1)
    optimizer.add_param_group({"params": list(model[-1].parameters())})
    before = tensors(model)
    with pytest.raises(
        JobError, match="optimizer now has 2 parameter groups with 4 parameters, not the 1 with 2 kept"
    ):
        trainee.restore(kept)
    assert same(tensors(model), before)


def test_gradients_are_copied_and_put_back() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    trainee = Trainee(optimizer, model)
    assert trainee.gradients() == [None] * 6
    train(model, optimizer, 0, 1)
    gradients = trainee.gradients()
    saved = [g.clone() for g in gradients if g is not None]
    train(model, optimizer, 1, 2)
    trainee.set_gradients(gradients)
    assert same([p.grad for p in model.parameters() if p.grad is not None], saved)
    optimizer.zero_grad(set_to_none=False)
    assert same([g for g in gradients if g is not None], saved)
    trainee.set_gradients([None] * 6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd-momentum", {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}),
        ("adamw", {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-2}),
        ("rmsprop", {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0}),
        ("adagrad", {"lr": 0.05, "weight_decay": 0.0}),
        ("adam-tensor-lr", {"lr": pytest.approx(0.01), "momentum": 0.9, "weight_decay": 0.0}),
    ],
)
def test_an_optimizers_hyperparameters_are_read_as_they_are(name: str, expected: dict[str, Any]) -> None:
    assert Trainee(OPTIMIZERS[name](network().parameters())).read() == expected


def test_a_model_without_dropout_and_a_loop_without_sampler_have_neither() -> None:
    model = network()
    assert set(Trainee(OPTIMIZERS["adam"](model.parameters()), model).read()) == {
        "lr",
        "weight_decay",
        "momentum",
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_written_is_read_back_equal_and_training_goes_on(name: str) -> None:
    model, sampler = network(0.1), TunedBatchSampler(100, 16)
    optimizer = OPTIMIZERS[name](model.parameters())
    trainee = Trainee(optimizer, model, sampler)
    train(model, optimizer, 0, 2)
    values = {k: {"lr": 0.0625, "batch_size": 32.0}.get(k, 0.5) for k in trainee.read()}
    trainee.write(values)
    assert trainee.read() == values
    train(model, optimizer, 2, 4)
    assert all(torch.isfinite(t).all() for t in tensors(model))


def test_a_written_hyperparameter_trains_like_one_set_in_pytorch() -> None:
    model, plain = network(), network()
    optimizer, other = (OPTIMIZERS["sgd-momentum"](m.parameters()) for m in (model, plain))
    trainee = Trainee(optimizer, model)
    train(model, optimizer, 0, 2)
    trainee.write({"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1})
    train(model, optimizer, 2, 4)
    train(plain, other, 0, 2)
    other.param_groups[0].update(lr=0.01, momentum=0.5, weight_decay=0.1)
    train(plain, other, 2, 4)
    assert same(tensors(model), tensors(plain))


def test_momentum_given_to_rmsprop_in_mid_training_acts_as_if_its_buffer_had_been_zero() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.1, alpha=0.5, eps=0.0)
    trainee, moved = Trainee(optimizer, model), []
    for momentum in (0.0, 0.5, 0.5):
        trainee.write({"momentum": momentum})
        before = float(model.weight.detach())
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        moved.append(before - float(model.weight.detach()))
    steps = [0.1 / math.sqrt(v) for v in (0.5, 0.75, 0.875)]
    assert moved == pytest.approx([steps[0], steps[1], steps[2] + 0.5 * steps[1]], rel=1e-5)


def test_groups_keep_their_ratio_of_learning_rates_to_the_first() -> None:
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[-1].parameters(), "lr": 0.01}], lr=0.1
    )
    trainee = Trainee(optimizer, model)
    trainee.write({"lr": 0.3})
    trainee.write({"lr": 0.2})  # counted from the start, so that rounding cannot compound
    assert [g["lr"] for g in optimizer.param_groups] == [0.2, pytest.approx(0.02)]


def test_a_group_without_weight_decay_stays_without() -> None:
    model = network()
    optimizer = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "weight_decay": 0.0},
            {"params": model[-1].parameters(), "weight_decay": 0.1},
        ],
        lr=0.1,
    )
    trainee = Trainee(optimizer, model)
    assert trainee.read()["weight_decay"] == 0.1
    trainee.write({"weight_decay": 0.2})
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.2]


def test_weight_decay_of_zero_everywhere_can_be_raised_everywhere() -> None:
    model = network()
    optimizer = torch.optim.SGD([{"params": m.parameters()} for m in (model[0], model[-1])], lr=0.1)
    Trainee(optimizer, model).write({"weight_decay": 0.2})
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.2, 0.2]


def test_momentum_is_beta_one_where_there_are_betas() -> None:
    optimizer = torch.optim.Adam(network().parameters(), betas=(0.8, 0.95))
    trainee = Trainee(optimizer)
    assert trainee.read()["momentum"] == 0.8
    trainee.write({"momentum": 0.5})
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.95)


def test_dropout_layers_keep_their_ratio_to_the_largest_rate() -> None:
    model = network(0.1, 0.4, 0.0)
    trainee = Trainee(OPTIMIZERS["sgd"](model.parameters()), model)
    assert trainee.read()["dropout"] == 0.4
    trainee.write({"dropout": 0.2})
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [pytest.approx(0.05), 0.2, 0.0]
    trainee.write({"dropout": 0.4})
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [pytest.approx(0.1), 0.4, 0.0]


def test_dropout_of_zero_can_be_raised_and_drops_units_then() -> None:
    model = nn.Sequential(nn.Dropout(0.0))
    weight = nn.Parameter(torch.ones(1))
    Trainee(torch.optim.SGD([weight], lr=0.1), model).write({"dropout": 0.5})
    with TorchStream(0):
        dropped = model(torch.ones(1000)).eq(0).float().mean()
    assert 0.4 < float(dropped) < 0.6


def test_recurrent_and_attention_layers_with_a_rate_are_tuned_and_those_without_left_alone() -> None:
    layers = [
        nn.LSTM(4, 4, num_layers=2, dropout=0.3),
        nn.MultiheadAttention(4, 2, dropout=0.3),
        nn.GRU(4, 4),
    ]
    model = nn.ModuleList(layers)
    Trainee(torch.optim.SGD(model.parameters(), lr=0.1), model).write({"dropout": 0.1})
    assert [layer.dropout for layer in layers] == [0.1, 0.1, 0.0]


def test_a_learning_rate_held_in_a_tensor_is_written_in_place() -> None:
    """A captured CUDA graph or a compiled step reads the very tensor."""
    lr = torch.tensor(0.01)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    trainee = Trainee(optimizer, model)
    kept = trainee.keep()
    trainee.write({"lr": 0.5})
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == 0.5
    trainee.restore(kept)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.01)


def test_batch_size_is_the_samplers() -> None:
    sampler = TunedBatchSampler(100, 16)
    trainee = Trainee(OPTIMIZERS["sgd"](network().parameters()), sampler=sampler)
    assert trainee.read()["batch_size"] == 16.0
    trainee.write({"batch_size": 32.0})
    assert (sampler.batch_size, trainee.read()["batch_size"]) == (32, 32.0)


@pytest.mark.parametrize("name", ["batch_size", "dropout", "weight_decy"])
def test_a_hyperparameter_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    model = network()
    trainee = Trainee(OPTIMIZERS["sgd"](model.parameters()), model)
    with pytest.raises(
        ConfigError, match=f"has no hyperparameter '{name}'; it has lr, weight_decay, momentum"
    ):
        trainee.write({name: 0.5})


@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_an_optimizer_without_the_entry_has_no_such_hyperparameter(name: str) -> None:
    parameters = network().parameters()
    optimizer = torch.optim.Adagrad(parameters) if name == "momentum" else torch.optim.Rprop(parameters)
    trainee = Trainee(optimizer)
    assert name not in trainee.read()
    with pytest.raises(ConfigError, match=f"has no hyperparameter '{name}'"):
        trainee.write({name: 0.5})


@pytest.mark.parametrize("optimizer", [None, nn.Linear(1, 1), "adam"])
def test_what_is_no_optimizer_is_refused_by_type(optimizer: Any) -> None:
    with pytest.raises(ConfigError, match=f"must be a torch.optim.Optimizer, got {type(optimizer).__name__}"):
        Trainee(optimizer)


def test_the_learning_rate_is_that_of_the_first_group_which_has_one() -> None:
    frozen, free = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([{"params": [frozen], "lr": 0.0}, {"params": [free], "lr": 0.2}])
    trainee = Trainee(optimizer)
    assert trainee.read()["lr"] == 0.2
    trainee.write({"lr": 0.1})
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1]


def test_a_batch_is_limited_by_the_dataset() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    assert Trainee(optimizer, None, TunedBatchSampler(106, 64)).limits() == {"batch_size": 106.0}
    assert Trainee(optimizer).limits() == {}


def test_other_hyperparameters_are_read_and_written_where_the_loop_keeps_them() -> None:
    model, others = network(), {"l1": 0.5}
    trainee = Trainee(OPTIMIZERS["sgd"](model.parameters()), model, others=others)
    assert trainee.read()["l1"] == 0.5
    trainee.write({"l1": 0.25, "lr": 0.1})
    assert others == {"l1": 0.25}
    assert trainee.read() == {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "l1": 0.25}
    with pytest.raises(ConfigError, match=r"no hyperparameter 'l2'; it has .*l1"):
        trainee.write({"l2": 0.1})
