"""The policy file: what was saved comes back, and nothing else gets in."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save

from rl_tuner import load_policy
from rl_tuner.errors import PolicyError
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import FORMAT_VERSION, save_policy
from rl_tuner.schedules import SCHEDULES, Cosine
from tests.learned_policies import SAMPLES, network, random_observations, tables

Tensors = dict[str, torch.Tensor]


def content(policy: LearnedPolicy, folder: Path) -> tuple[dict[str, Any], Tensors]:
    path = save_policy(policy, folder / "content.safetensors")
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["rl_tuner"]), load(path.read_bytes())


def rewrite(path: Path, header: Any, tensors: Tensors) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save(tensors, metadata={"rl_tuner": text}))
    return path


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_policy_comes_back_whole(sample: str, tmp_path: Path) -> None:
    policy = SAMPLES[sample]()
    loaded = load_policy(save_policy(policy, tmp_path / "p.safetensors"))
    assert type(loaded) is type(policy)
    assert isinstance(loaded, LearnedPolicy)
    assert (loaded.space, loaded.config, loaded.name) == (policy.space, policy.config, policy.name)
    assert (loaded.actions.kind, loaded.feature_names) == (policy.actions.kind, policy.feature_names)
    assert loaded.provenance == policy.provenance
    for seen in random_observations(policy):
        np.testing.assert_array_equal(loaded.act(seen), policy.act(seen))


@pytest.mark.parametrize("sample", SAMPLES)
def test_saving_what_was_loaded_gives_the_same_bytes(sample: str, tmp_path: Path) -> None:
    first = save_policy(SAMPLES[sample](), tmp_path / "a.safetensors")
    second = save_policy(load_policy(first), tmp_path / "b.safetensors")
    assert content_of(first) == content_of(second)


def content_of(path: Path) -> tuple[Any, list[tuple[str, bytes]]]:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["rl_tuner"])
    return header, sorted((k, t.numpy().tobytes()) for k, t in load(path.read_bytes()).items())


def test_the_header_says_what_the_tensors_mean(tmp_path: Path) -> None:
    header, tensors = content(network("discrete"), tmp_path)
    assert header["format_version"] == FORMAT_VERSION
    assert (header["kind"], header["actions"]) == ("mlp", "discrete")
    assert header["network"] == {"layers": 3, "activation": "tanh"}
    assert [h["name"] for h in header["search_space"]["hyperparameters"]] == ["lr", "dropout"]
    assert set(tensors) == {f"{i}.{part}" for i in range(3) for part in ("weight", "bias")}


def test_a_memory_is_in_the_header_only_where_there_is_one(tmp_path: Path) -> None:
    header, tensors = content(network(memory=3, seed=3), tmp_path)
    assert header["network"] == {"layers": 3, "activation": "tanh", "memory": 3}
    # A reader that does not know the key must refuse the file, not read it as a policy without a memory.
    del header["network"]["memory"]
    with pytest.raises(PolicyError, match="layer 0"):
        load_policy(rewrite(tmp_path / "old.safetensors", header, tensors))


def test_a_policy_with_a_memory_acts_from_its_file_as_before_over_an_episode(tmp_path: Path) -> None:
    policy = network(memory=3, seed=3)
    seen = random_observations(policy, 12)
    before = [policy.act(o) for o in seen]
    loaded = load_policy(save_policy(policy, tmp_path / "p.safetensors"))
    np.testing.assert_array_equal([loaded.act(o) for o in seen], before)
    # It does remember: alone, the last observation is answered otherwise.
    loaded.reset()
    assert not np.array_equal(loaded.act(seen[-1]), before[-1])


def test_a_half_precision_network_is_read_as_float32(tmp_path: Path) -> None:
    header, tensors = content(network(), tmp_path)
    loaded = load_policy(
        rewrite(tmp_path / "half.safetensors", header, {k: t.bfloat16() for k, t in tensors.items()})
    )
    seen = random_observations(network())
    assert loaded.act(seen).dtype == np.float32


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_loaded_by_its_name(name: str) -> None:
    assert load_policy(name).name == name


def test_a_schedule_has_no_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="a Cosine is not learned"):
        save_policy(Cosine(), tmp_path / "p.safetensors")


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(PolicyError, match=r"no policy 'cosin': neither a file nor one of .*cosine"):
        load_policy("cosin")


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"PK\x03\x04 a zip file",
        lambda: b"\x00" * 64,
        lambda: pickle.dumps({"a": 1}),
        lambda: b"\xff" * 8 + b"{}",
    ],
    ids=["empty", "zip", "zeros", "pickle", "huge header length"],
)
def test_what_is_not_safetensors_is_refused_by_name(make: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(make())
    with pytest.raises(PolicyError, match=r"p\.safetensors is no policy file"):
        load_policy(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "p.safetensors"
    for make in (pickle.dumps, lambda bomb: torch.save(bomb, path)):
        written = make(Bomb())
        if isinstance(written, bytes):
            path.write_bytes(written)
        with pytest.raises(PolicyError):
            load_policy(path)
    assert not (tmp_path / "executed").exists()


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(save({"weight": torch.zeros(2)}, metadata=metadata))
        with pytest.raises(PolicyError, match="a safetensors file, but not a policy of rl-tuner"):
            load_policy(path)


def test_a_header_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = rewrite(tmp_path / "p.safetensors", "{not json", {"a": torch.zeros(1)})
    with pytest.raises(PolicyError, match="header is not JSON"):
        load_policy(path)


def test_a_header_nested_beyond_reading_is_refused(tmp_path: Path) -> None:
    deep = '{"a":' * 100_000
    path = rewrite(tmp_path / "p.safetensors", deep, {"a": torch.zeros(1)})
    with pytest.raises(PolicyError, match="header is not JSON"):
        load_policy(path)


@pytest.mark.parametrize("header", ["[]", "3", '"text"', "null", "{}"])
def test_a_header_of_another_form_is_refused(header: str, tmp_path: Path) -> None:
    path = rewrite(tmp_path / "p.safetensors", header, {"a": torch.zeros(1)})
    with pytest.raises(PolicyError, match="format version None"):
        load_policy(path)


def drop(key: str) -> Callable[[dict[str, Any], Tensors], None]:
    return lambda header, tensors: header.pop(key)


def put(key: str, value: Any) -> Callable[[dict[str, Any], Tensors], None]:
    *path, last = key.split(".")

    def change(header: dict[str, Any], tensors: Tensors) -> None:
        target = header
        for step in path:
            target = target[int(step)] if isinstance(target, list) else target[step]
        target[last] = value

    return change


def tensor(name: str, value: torch.Tensor | None) -> Callable[[dict[str, Any], Tensors], None]:
    def change(header: dict[str, Any], tensors: Tensors) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


def foreign_feature(header: dict[str, Any], tensors: Tensors) -> None:
    header["feature_names"][3] = "moon_phase"


def missing_feature(header: dict[str, Any], tensors: Tensors) -> None:
    header["feature_names"].remove("progress")


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any], Tensors], None], str]] = {
    "version": ("mlp-continuous", put("format_version", 99), "version 99; this rl-tuner reads 1"),
    "no version": ("mlp-continuous", drop("format_version"), "format version None"),
    "no config": ("mlp-continuous", drop("config"), "its header lacks config"),
    "no provenance": ("mlp-continuous", drop("provenance"), "its header lacks provenance"),
    "kind": ("mlp-continuous", put("kind", "transformer"), "unknown kind 'transformer'"),
    "actions": ("mlp-continuous", put("actions", "telepathic"), "unknown actions 'telepathic'"),
    "foreign feature": ("mlp-continuous", foreign_feature, "'moon_phase'"),
    "missing feature": ("mlp-continuous", missing_feature, "layer 0"),
    "table's feature": ("q-table", missing_feature, "progress"),
    "config key": ("mlp-continuous", put("config.decision", 3), "unknown CourseConfig key 'decision'"),
    "config value": ("mlp-continuous", put("config.decisions", 0), "decisions must be >= 1, got 0"),
    "config type": ("mlp-continuous", put("config", [1]), "faulty"),
    "reward": ("mlp-continuous", put("config.reward", "money"), "unknown reward 'money'"),
    "rails key": ("mlp-continuous", put("config.rails.speed", 1), "unknown Rails key 'speed'"),
    "space key": ("mlp-continuous", put("search_space.hyperparameters.0.color", 1), "'color'"),
    "space": ("mlp-continuous", put("search_space", {}), "hyperparameters"),
    "space type": ("mlp-continuous", put("search_space", 7), "faulty"),
    "bounds": ("mlp-continuous", put("search_space.hyperparameters.0.low", -1), "lr.low must be > 0"),
    "activation": ("mlp-continuous", put("network.activation", "os.system"), "'os.system'"),
    "network type": ("mlp-continuous", put("network", None), "faulty"),
    "layers type": ("mlp-continuous", put("network.layers", "three"), "faulty"),
    "memory": ("mlp-continuous", put("network.memory", 2), "layer 0"),
    "no memory": ("mlp-memory", put("network.memory", 0), "memory must be .* >= 1, got 0"),
    "memory type": ("mlp-memory", put("network.memory", "3"), "memory must be .* got '3'"),
    "too many layers": ("mlp-continuous", put("network.layers", 4), "the file lacks '3.weight'"),
    "features type": ("mlp-continuous", put("feature_names", 5), "faulty"),
    "feature is a list": ("mlp-continuous", put("feature_names", [["progress"]]), "faulty"),
    "provenance type": ("mlp-continuous", put("provenance", 5), "faulty"),
    "lost tensor": ("mlp-continuous", tensor("1.bias", None), "the file lacks '1.bias'"),
    "shape": ("mlp-continuous", tensor("1.weight", torch.zeros(16, 15)), "layer 1"),
    "nan": ("mlp-continuous", tensor("0.bias", torch.full((16,), float("nan"))), "layer 0 .* not finite"),
    "lost member": ("ensemble-continuous", tensor("0.bias", torch.zeros(2, 16)), "faulty"),
    "one network only": ("ensemble-continuous", tensor("0.bias", torch.zeros(16)), "faulty"),
    "no members": ("ensemble-continuous", put("network.members", []), "faulty"),
    "members' provenance": ("ensemble-continuous", put("network.members", [7, 7, 7]), "faulty"),
    "a network as an ensemble": ("mlp-continuous", put("kind", "ensemble"), "the file lacks 'members'"),
    "an ensemble as a network": ("ensemble-continuous", put("kind", "mlp"), "layer 0"),
    "table's nan": ("q-table", tensor("lr.values", torch.full((12, 5), float("nan"))), "table of lr"),
    "table's shape": ("q-table", tensor("lr.values", torch.zeros(12, 4)), "table of lr has shape"),
    "edges fall": ("q-table", tensor("lr.edges.1", torch.tensor([1.0, 0.0])), "strictly increasing"),
    "lost edges": ("q-table", tensor("lr.edges.1", None), "the file lacks 'lr.edges.1'"),
    "columns": ("q-table", put("network.columns", {}), "the file lacks 'lr'"),
    "columns type": ("q-table", put("network.columns", []), "faulty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_file_is_a_policy_error_that_names_it(fault: str, tmp_path: Path) -> None:
    sample, change, message = FAULTS[fault]
    header, tensors = content(SAMPLES[sample](), tmp_path)
    change(header, tensors)
    path = rewrite(tmp_path / "faulty.safetensors", header, tensors)
    with pytest.raises(PolicyError, match=message) as error:
        load_policy(path)
    assert "faulty.safetensors" in str(error.value)


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    return {
        name: save_policy(make(), folder / f"{name}.safetensors").read_bytes()
        for name, make in SAMPLES.items()
    }


@given(sample=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_flipped_and_lost_bytes_never_raise_anything_but_policy_errors(
    sample: str, data: st.DataObject, good_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(good_files[sample])
    end = data.draw(st.integers(0, len(whole)) | st.just(len(whole)), label="end")
    # Half of the flips fall into the header, which is where structure is.
    header = int.from_bytes(whole[:8], "little") + 8
    places = st.integers(0, header - 1) | st.integers(0, len(whole) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8), label="flips"):
        whole[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(bytes(whole[:end]))
    try:
        policy = load_policy(path)
    except PolicyError as error:
        assert "damaged.safetensors" in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert isinstance(policy, LearnedPolicy)
        assert (np.abs(policy.actions.fraction(policy.act(random_observations(policy, 1)[0]))) <= 1).all()


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@given(value=VALUES, data=st.data())
def test_any_other_value_in_the_header_never_raises_anything_but_policy_errors(
    value: Any, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    header, tensors = content(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))](), folder)
    target: Any = header
    while True:
        key = data.draw(st.sampled_from(list(target) if isinstance(target, dict) else range(len(target))))
        inner = target[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        target = inner
    target[key] = value
    path = rewrite(folder / "changed.safetensors", header, tensors)
    try:
        assert isinstance(load_policy(path), LearnedPolicy)
    except PolicyError as error:
        assert "changed.safetensors" in str(error)  # noqa: PT017 (either outcome is right)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"cannot write the policy to .*nowhere"):
        save_policy(tables(), tmp_path / "nowhere" / "p.safetensors")


def test_a_full_disk_leaves_the_old_policy_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_policy(tables(0), tmp_path / "p.safetensors")
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PolicyError, match="No space left on device"):
        save_policy(tables(1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


@pytest.mark.parametrize("sample", ["mlp-continuous", "q-table"])
def test_acting_from_a_file_needs_no_stable_baselines3(sample: str, tmp_path: Path) -> None:
    path = save_policy(SAMPLES[sample](), tmp_path / "p.safetensors")
    code = (
        "import sys, numpy as np, rl_tuner\n"
        f"policy = rl_tuner.load_policy({str(path)!r})\n"
        "from rl_tuner.features import FeatureSet\n"
        "policy.act(np.zeros(len(FeatureSet(policy.space)), dtype=np.float32))\n"
        "print(sorted(m for m in ('stable_baselines3', 'pickle5', 'gymnasium') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
