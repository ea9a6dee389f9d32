"""Given weights: what of them is loaded, from which files, and what is said where nothing fits."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob, weights
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.models import mlp
from rl_tuner.envs.weights import load_weights, read_weights
from rl_tuner.seeding import Streams, torch_seed
from tests.batched import Twins, make_job

BODY = ("0.weight", "0.bias", "2.weight", "2.bias")


def net(outputs: int = 3, seed: int = 0) -> nn.Module:
    with torch_seed(seed):
        return mlp(6, (5, 4), outputs)


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def assert_loaded(model: nn.Module, given: dict[str, torch.Tensor], names: tuple[str, ...]) -> None:
    own = model.state_dict()
    for name in names:
        assert torch.equal(own[name], given[name])


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_a_file_of_weights_is_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    theirs = net(seed=1).state_dict()
    model = net()
    assert load_weights(model, save(tmp_path / name, theirs)) == tuple(theirs)
    assert_loaded(model, theirs, tuple(theirs))
    model = net()
    assert load_weights(model, str(tmp_path / name)) == tuple(theirs)


def test_a_head_of_another_shape_stays_fresh() -> None:
    theirs, model = net(10, seed=1).state_dict(), net(3)
    head = {name: t.clone() for name, t in model.state_dict().items() if name not in BODY}
    assert load_weights(model, theirs) == BODY
    assert_loaded(model, theirs, BODY)
    assert_loaded(model, head, tuple(head))


@given(st.sets(st.sampled_from([*BODY, "4.weight", "4.bias"]), min_size=1), st.booleans())
def test_exactly_what_is_named_and_shaped_alike_is_loaded(names: set[str], strangers: bool) -> None:
    theirs, model = net(seed=1).state_dict(), net()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    given = {name: theirs[name] for name in names}
    if strangers:
        given |= {"other.weight": torch.zeros(2), "4.bias": torch.zeros(7)}
    loaded = load_weights(model, given) if names - ({"4.bias"} if strangers else set()) else ()
    assert set(loaded) == (names - {"4.bias"} if strangers else names)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, given[name] if name in loaded else before[name])


def test_buffers_are_loaded_and_types_converted() -> None:
    theirs = nn.BatchNorm1d(4)
    theirs(torch.arange(12.0).view(3, 4))
    model = nn.BatchNorm1d(4).double()
    load_weights(model, theirs.state_dict())
    assert model.num_batches_tracked == 1
    assert model.running_mean is not None
    assert model.running_mean.dtype == torch.float64
    assert torch.equal(model.running_mean, theirs.running_mean.double())  # type: ignore[union-attr]


def test_tied_tensors_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    load_weights(model, {"0.weight": torch.ones(3, 3)})
    assert model[1].weight is model[0].weight
    assert torch.equal(model[1].weight, torch.ones(3, 3))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_the_state_dict_inside_of_a_training_checkpoint_is_found(key: str, tmp_path: Path) -> None:
    theirs, model = net(seed=1).state_dict(), net()
    torch.save({"epoch": 3, key: theirs, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    assert load_weights(model, tmp_path / "c.pt") == tuple(theirs)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"0.weight": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(JobError, match=r"bomb\.pt is no state_dict that can be read safely"):
        load_weights(net(), tmp_path / "bomb.pt")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(JobError, match=r"plain\.bin"):
        load_weights(net(), tmp_path / "plain.bin")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped header"])
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, net().state_dict())
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"lr = 0.1\n" * 50,
        "cut": content[: len(content) // 2],
        "flipped header": bytes(255 - b for b in content[:64]) + content[64:],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(JobError, match=name.replace(".", r"\.")):
        load_weights(net(), path)


def good_file(kind: str) -> bytes:
    tensors = {"0.weight": torch.ones(5, 6)}
    if kind == "safetensors":
        return safetensors_bytes(tensors)
    if kind == "pickle":
        return pickle.dumps({"0.weight": [1, 2.5, "x"], "lr": (0.1,)}, protocol=2)
    content = io.BytesIO()
    torch.save(tensors, content, _use_new_zipfile_serialization=kind == "zip")
    return content.getvalue()


@settings(max_examples=150)
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy", "pickle"])
@given(junk=st.binary(max_size=40), at=st.integers(0, 10**6), cut=st.booleans())
def test_a_file_damaged_at_random_is_loaded_or_refused(kind: str, junk: bytes, at: int, cut: bool) -> None:
    content = bytearray(good_file(kind))
    at %= len(content)
    content[at : None if cut else at + len(junk)] = junk
    path = Path("fuzzed.safetensors" if kind == "safetensors" else "fuzzed.pt")
    path.write_bytes(content)
    weights._read.cache_clear()  # rewritten too quickly for the time of change to tell
    with contextlib.suppress(JobError):
        assert load_weights(net(), path) == ("0.weight",)


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, torch.ones(2), {"model": 3}])
def test_a_file_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(JobError, match=r"x\.pt"):
        load_weights(net(), tmp_path / "x.pt")


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no such file .*gone\.pt"):
        load_weights(net(), tmp_path / "gone.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(JobError, match=r"folder\.pt"):
        load_weights(net(), tmp_path / "folder.pt")
    with pytest.raises(JobError, match="cannot be read"):
        load_weights(net(), "nul\0l.pt")


def test_where_nothing_fits_the_first_differences_are_told(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", mlp(7, (9,), 3).state_dict())
    message = (
        r"nothing in .*w\.safetensors fits the model: 0\.weight is \(5, 6\), given \(9, 7\); "
        r"0\.bias is \(5,\), given \(9,\); 2\.weight is \(4, 5\), given \(3, 9\); "
        r"it has no 4\.weight, 4\.bias \(but 0\.bias, 0\.weight, 2\.bias\)"
    )
    with pytest.raises(JobError, match=message):
        load_weights(net(), path)
    with pytest.raises(JobError, match=r"given weights fits .* it has no 0\.weight, .* \(but a\)"):
        load_weights(net(), {"a": torch.zeros(1)})
    with pytest.raises(JobError, match=r"\(but nothing\)"):
        load_weights(net(), {})


@pytest.mark.parametrize(
    ("given_weights", "message"),
    [
        ("weights.ckpt", "must be a .safetensors, .pt, .pth or .bin file, got 'weights.ckpt'"),
        (3, "must be a path or tensors by name, got int"),
        ({"0.weight": np.zeros(3)}, "the entry '0.weight' is not"),
        ({0: torch.zeros(3)}, "the entry 0 is not"),
    ],
)
def test_what_is_no_weights_is_refused_before_anything_is_built(given_weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_job(weights=given_weights)
    with pytest.raises(ConfigError, match=message):
        load_weights(net(), given_weights)


def test_a_file_is_read_once_for_all_episodes_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "w.pt", net(seed=1).state_dict())
    reads: list[Path] = []
    load = weights._load_torch

    def counted(path: Path) -> Any:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(weights, "_load_torch", counted)
    job = TrainingJob(net, (torch.zeros(4, 6), torch.zeros(4, dtype=torch.long)), weights=path)
    models = [job.build_model(seed) for seed in range(3)]
    assert len(reads) == 1
    with torch.no_grad():
        next(models[0].parameters()).zero_()  # training one model must not reach the next
    assert torch.equal(job.build_model(0).state_dict()["0.weight"], models[1].state_dict()["0.weight"])
    save(path, net(seed=2).state_dict())
    os.utime(path, ns=(1, 1))
    assert torch.equal(job.build_model(0).state_dict()["0.weight"], read_weights(path)["0.weight"])
    assert len(reads) == 2


def test_both_engines_start_from_the_given_weights() -> None:
    given = mlp(6, (5, 4), 7).double().state_dict()
    jobs = [
        make_job(name, weights=w, dropout=None)
        for name, w in (("adam", given), ("sgd", given), ("sgd", None))
    ]
    twins = Twins(jobs, 1e-9)
    for slot in (0, 1):
        own = twins.batched.module(slot).state_dict()
        assert all(torch.equal(own[name], given[name]) for name in BODY)
    assert not torch.equal(twins.batched.module(2).state_dict()["0.weight"], given["0.weight"])
    twins.advance([400] * 3)
    twins.assert_same_weights()


def test_the_head_is_drawn_as_without_weights() -> None:
    given = mlp(6, (5, 4), 7).double().state_dict()
    plain, loaded = (make_job(weights=w, dropout=None).build_model(5) for w in (None, given))
    assert torch.equal(loaded.state_dict()["4.weight"], plain.state_dict()["4.weight"])


def test_a_slot_whose_weights_do_not_fit_says_so() -> None:
    job = make_job(weights={"0.weight": torch.zeros(2, 2)})
    with pytest.raises(JobError, match=r"0\.weight is \(5, 6\), given \(2, 2\)"):
        BatchedEngine(1).start(0, job, Streams(0))


def test_a_module_given_as_model_is_not_changed() -> None:
    module = net(seed=3)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    data = (torch.zeros(4, 6), torch.zeros(4, dtype=torch.long))
    job = TrainingJob(module, data, weights=partial(net, seed=4)().state_dict())
    assert not torch.equal(job.build_model(0).state_dict()["0.weight"], before["0.weight"])
    assert all(torch.equal(module.state_dict()[name], t) for name, t in before.items())
