"""Base weights: bodies without heads, the ones that come along those that the module makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rl_tuner import base_weights as module
from rl_tuner.base_weights import DATA_SEED, body, train_base, wanted
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.data import DataShape
from rl_tuner.envs.datasets import open_samples
from rl_tuner.envs.job_specs import weights_folder
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.suites import load_suite
from rl_tuner.seeding import torch_seed

IMAGES = DataShape("image", (1, 8, 8), 10)
PAIRS = wanted("finetuning")


def provenance(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["provenance"]))


def test_the_files_that_come_along_are_those_that_the_suite_wants() -> None:
    names = {f"{dataset}-{architecture}.safetensors" for dataset, architecture in PAIRS}
    assert {path.name for path in weights_folder().iterdir()} == names


def test_what_is_wanted_is_every_architecture_of_a_family_with_weights() -> None:
    parts = [part for split in SPLITS for part in load_suite("finetuning").family(split).parts]
    assert {a for _, a in PAIRS} == {a for part in parts for a in part.architectures}
    assert wanted("quick") == []
    assert wanted("standard") == PAIRS


@pytest.mark.parametrize(("dataset", "architecture"), PAIRS)
def test_a_file_holds_the_trained_body_of_its_architecture(dataset: str, architecture: str) -> None:
    path = weights_folder() / f"{dataset}-{architecture}.safetensors"
    tensors = load_file(path)
    shape = open_samples(dataset, 0).shape
    with torch_seed(0):
        fresh = build_network(architecture, shape, 0.0).state_dict()
    assert set(tensors) == body(architecture, shape)
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (fresh[name].shape, fresh[name].dtype)
        assert torch.isfinite(tensor).all()
    known = provenance(path)
    assert (known["dataset"], known["architecture"], known["data_seed"]) == (dataset, architecture, DATA_SEED)
    assert known["test"]["accuracy"] > 2 / len(open_samples(dataset, 0).classes)  # twice as good as guessing


def test_no_suite_draws_the_samples_that_base_weights_were_trained_on() -> None:
    for split in SPLITS:
        for part in load_suite("standard").family(split).parts:
            assert not part.data_seeds[0] <= DATA_SEED < part.data_seeds[1]


@pytest.mark.parametrize("architecture", ["linear", "mlp-6x5", "mlp-10x10", "cnn-4x10", "cnn-4-layer"])
def test_a_head_is_the_last_layer_however_wide_the_others_are(architecture: str) -> None:
    with torch_seed(0):
        names = list(build_network(architecture, IMAGES, 0.0).state_dict())
    assert set(names) - body(architecture, IMAGES) == set(names[-2:])


def test_a_body_and_its_head_are_all_of_a_network() -> None:
    for _, architecture in PAIRS:
        with torch_seed(0):
            tensors = build_network(architecture, IMAGES, 0.0).state_dict()
        head = set(tensors) - body(architecture, IMAGES)
        assert head
        assert all(tensors[name].shape[0] == 10 for name in head)


def test_training_writes_what_comes_along_and_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUDGET", 1500)
    files = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        scores = train_base("shapes", "mlp-64", folder)
        (path,) = folder.iterdir()
        files.append(path)
        assert provenance(path)["test"] == pytest.approx(scores)
    made, shipped = files[0], weights_folder() / files[0].name
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {name: t.shape for name, t in load_file(made).items()} == {
        name: t.shape for name, t in load_file(shipped).items()
    }
    mine, its = provenance(made), provenance(shipped)
    assert set(mine) == set(its)
    for key in ("dataset", "data_seed", "architecture", "seed", "policy"):
        assert mine[key] == its[key]
    assert (mine["budget"], its["budget"]) == (1500, 60_000)
    assert its["test"]["accuracy"] > mine["test"]["accuracy"]
