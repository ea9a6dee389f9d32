"""Suites: what is held out occurs nowhere else, draws follow seed and weight, names and files are found."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_tuner import ConfigError
from rl_tuner.config import from_dict, to_dict
from rl_tuner.envs import JobFamily, JobSpec, Suite, load_suite
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.suites import AXES, Mixture, suite_names
from tests import own_files

STANDARD = ("tabular", "vision", "language", "speech", "recommendation", "pretraining", "finetuning")
QUICK_DRAWS: dict[str, list[tuple[Any, ...]]] = {
    "train": [
        ("diabetes", "mlp-64x32", "momentum", 4184, 2, 0.0003493267125530363, 32, 0.01, 0.9, 0.3, ()),
        ("diabetes", "mlp-32x32x32", "adam", 10259, 0, 1.3625181657841057e-05, 128, 0.01, 0.95, None, ()),
        ("digits", "mlp-32", "adam", 8356, 0, 0.003879341802770623, 32, 0.0001, 0.95, 0.0, ()),
    ],
    "validation": [
        ("wine", "mlp-24x24", "momentum", 5379, 2, 0.0003493267125530363, 32, 0.0, 0.95, 0.1, ()),
        ("wine", "mlp-48", "momentum", 4012, 6, 0.8067488612744017, 64, 0.0, 0.95, 0.1, ("batch_size",)),
    ],
    "test": [
        ("breast_cancer", "mlp-64x64x32", "momentum", 5379, 2, 0.0003493267125530363, 32, 0.0, 0.95, 0.1, ()),
        (
            *("breast_cancer", "mlp-128", "momentum", 4012, 6, 0.8067488612744017, 64, 0.0, 0.95, 0.1),
            ("batch_size",),
        ),
    ],
}
"""The first draws from `default_rng(0)` since the suite was made; published figures depend on them."""


def family(**changes: Any) -> JobFamily:
    options: dict[str, Any] = {"datasets": ("diabetes",), "architectures": ("mlp-4",), "name": "f"}
    return JobFamily(**{**options, **changes})


def suite_of(train: JobFamily, validation: JobFamily, test: JobFamily) -> Suite:
    splits = zip(SPLITS, (train, validation, test), strict=True)
    return Suite("s", "", {split: Mixture((part,)) for split, part in splits})


def draws(suite: str, split: str, n: int, seed: int = 0) -> list[JobSpec]:
    rng = np.random.default_rng(seed)
    mixture = load_suite(suite).family(split)
    return [mixture.sample(rng) for _ in range(n)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_quick_suites_draws_never_change(split: str) -> None:
    wanted = QUICK_DRAWS[split]
    for spec, values in zip(draws("quick", split, len(wanted)), wanted, strict=True):
        unseen = () if split == "train" else ("dataset", "architecture")
        assert spec == replace(JobSpec(*values), family="tables", unseen=unseen)


@pytest.mark.parametrize(("suite", "split"), [*product(["quick", "standard"], SPLITS)])
def test_sampling_follows_the_generator_and_nothing_else(suite: str, split: str, untouched_rng: None) -> None:
    assert draws(suite, split, 40) == draws(suite, split, 40)
    assert draws(suite, split, 40) != draws(suite, split, 40, seed=1)
    assert len(set(draws(suite, split, 200))) == 200


@pytest.mark.parametrize("split", SPLITS)
def test_specifications_of_all_families_travel_as_json(split: str) -> None:
    specs = draws("standard", split, 150)
    assert {spec.family for spec in specs} == set(STANDARD)
    for spec in specs:
        assert from_dict(JobSpec, json.loads(json.dumps(to_dict(spec)))) == spec


def test_a_specification_with_a_typo_is_refused() -> None:
    spec = to_dict(draws("quick", "train", 1)[0])
    with pytest.raises(ConfigError, match=r"'batchsize'.*'batch_size'"):
        from_dict(JobSpec, {**spec, "batchsize": 3})
    with pytest.raises(ConfigError, match="momentum"):
        from_dict(JobSpec, {key: value for key, value in spec.items() if key != "momentum"})


# What a split holds out


VALUES = {
    "dataset": ("datasets", ("wine",)),
    "architecture": ("architectures", ("mlp-5",)),
    "optimizer": ("optimizers", ("adadelta",)),
    "horizon": ("budget", (500, 900)),
}


@pytest.mark.parametrize(("axis", "held", "other"), [*product(AXES, ["validation", "test"], SPLITS)])
def test_what_a_split_holds_out_may_occur_in_no_other(axis: str, held: str, other: str) -> None:
    field, values = VALUES[axis]
    parts = dict.fromkeys(SPLITS, family())
    parts[held] = replace(family(**{field: values}), unseen=(axis,))
    suite_of(**parts)  # nobody else has it
    if held == other:
        return
    parts[other] = family(**{field: values})
    shown = "500 to 900 samples" if axis == "horizon" else values[0]
    with pytest.raises(
        ConfigError, match=f"'s'.*the {held} split holds out {axis} {shown}.* the {other} split.*'f'"
    ):
        suite_of(**parts)


def test_what_one_family_holds_out_may_occur_in_no_other_family_either() -> None:
    held = family(datasets=("wine", "iris"), unseen=("dataset",))
    other = family(datasets=("iris", "digits"), name="other")
    train = Mixture((family(), other))
    with pytest.raises(ConfigError, match=r"holds out dataset iris, which occurs in the train.*'other'"):
        Suite("s", "", {"train": train, "validation": Mixture((family(),)), "test": Mixture((held,))})


def test_horizons_are_compared_within_a_family() -> None:
    held = family(budget=(500, 900), unseen=("horizon",))
    suite_of(family(budget=(800, 1000), name="another"), family(), held)
    with pytest.raises(ConfigError, match="horizon 800 to 900 samples"):
        suite_of(family(budget=(800, 1000)), family(), held)


def test_a_held_out_horizon_that_only_touches_another_is_refused() -> None:
    held = family(budget=(1001, 2000), unseen=("horizon",))
    suite_of(family(budget=(800, 1000)), family(budget=(800, 1000)), held)
    with pytest.raises(ConfigError, match="horizon 1001 to 1001 samples"):
        suite_of(family(budget=(800, 1001)), family(budget=(800, 1000)), held)


def test_values_that_are_not_said_to_be_held_out_may_be_shared() -> None:
    suite_of(family(), family(unseen=()), family(architectures=("mlp-9",), unseen=("architecture",)))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_held_out_job_is_new_in_what_it_says_and_in_nothing_else(split: str) -> None:
    train = load_suite("standard").family("train")
    found = Counter[str]()
    for spec in draws("standard", split, 300):
        (axis,) = spec.unseen
        found[axis] += 1
        everywhere = {
            "dataset": {d for part in train.parts for d in part.datasets},
            "architecture": {a for part in train.parts for a in part.architectures},
            "optimizer": {o for part in train.parts for o in part.optimizers},
        }
        for other, known in everywhere.items():
            assert (getattr(spec, other) in known) == (other != axis), (spec, other)
        (own,) = train.only(family=spec.family).parts
        assert (own.budget[0] <= spec.budget <= own.budget[1]) == (axis != "horizon"), spec
    assert set(found) == set(AXES)


def test_synthetic_sets_of_one_split_occur_in_no_other() -> None:
    seeds = {split: {spec.data_seed for spec in draws("standard", split, 300)} for split in SPLITS}
    assert not seeds["train"] & seeds["validation"]
    assert not seeds["train"] & seeds["test"]
    assert not seeds["validation"] & seeds["test"]


# Mixtures


def test_families_are_drawn_by_their_weights() -> None:
    parts = tuple(family(name=name, weight=weight) for name, weight in (("a", 1.0), ("b", 2.0), ("c", 5.0)))
    rng = np.random.default_rng(0)
    mixture = Mixture(parts)
    found = Counter(mixture.sample(rng).family for _ in range(8000))
    np.testing.assert_allclose([found[name] / 8000 for name in "abc"], [1 / 8, 2 / 8, 5 / 8], atol=0.015)


def test_a_split_can_be_weighted_as_another_one() -> None:
    mine = Mixture((family(name="a", weight=1.0), family(name="b", weight=1.0), family(name="c", weight=5.0)))
    theirs = Mixture(
        tuple(family(name=name, weight=weight) for name, weight in (("a", 2.0), ("b", 6.0), ("a", 1.0)))
    )
    assert [part.weight for part in mine.weighted_as(theirs).parts] == [3.0, 6.0, 5.0]
    train, test = (load_suite("standard").family(split) for split in ("train", "test"))
    weights = {part.name: part.weight for part in train.weighted_as(test).parts}
    assert weights["tabular"] == 2 * weights["language"] == 2 * weights["speech"]


def test_the_standard_suites_families_are_drawn_by_their_weights_in_every_split() -> None:
    for split in SPLITS:
        parts = load_suite("standard").family(split).parts
        total = sum(part.weight for part in parts)
        found = Counter(spec.family for spec in draws("standard", split, 4000))
        for name in STANDARD:
            share = sum(part.weight for part in parts if part.name == name) / total
            assert found[name] / 4000 == pytest.approx(share, abs=0.025)


def test_one_family_or_one_kind_of_generalization_can_be_drawn_alone() -> None:
    test = load_suite("standard").family("test")
    rng = np.random.default_rng(0)
    for name, axis in product(STANDARD, AXES):
        some = test.only(family=name, unseen=axis)
        specs = [some.sample(rng) for _ in range(5)]
        assert {(spec.family, spec.unseen) for spec in specs} == {(name, (axis,))}
    assert {part.name for part in test.only(unseen="optimizer").parts} == set(STANDARD)


def test_what_no_part_has_is_refused_by_name() -> None:
    train = load_suite("standard").family("train")
    with pytest.raises(ConfigError, match="no part of the split has family 'visoin'"):
        train.only(family="visoin")
    with pytest.raises(ConfigError, match="family 'vision' and unseen 'dataset'"):
        train.only(family="vision", unseen="dataset")
    with pytest.raises(ConfigError, match="at least one family"):
        Mixture(())


# Names


def test_every_family_of_the_standard_suite_is_a_suite() -> None:
    assert suite_names()[: 2 + len(STANDARD)] == ("quick", "standard", *STANDARD)
    for name in STANDARD:
        suite = load_suite(name)
        assert (suite.name, suite.families) == (name, (name,))
        assert suite is load_suite(name)
        for split in SPLITS:
            assert {spec.family for spec in draws(name, split, 5)} == {name}


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown suite 'quik'.*'quick'"):
        load_suite("quik")
    with pytest.raises(ConfigError, match=r"unknown suite 'vison'.*'vision'"):
        load_suite("vison")
    with pytest.raises(ConfigError, match=r"unknown split 'val'.*validation"):
        load_suite("quick").family("val")
    with pytest.raises(ConfigError, match=r"unknown family 'speach'.*'speech'"):
        load_suite("standard").only("speach")
    with pytest.raises(ConfigError, match=r"suite 'half' must have splits"):
        Suite("half", "", {"train": load_suite("quick").family("train")})


@pytest.mark.parametrize("suffix", [".toml", ".TOML", ".json"])
def test_a_path_of_a_file_is_a_suite(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    if suffix == ".json":
        text = json.dumps({"name": "mine", "families": [{"datasets": ["iris"], "architectures": ["mlp-7"]}]})
    else:
        text = 'name = "mine"\n[[families]]\ndatasets = ["iris"]\narchitectures = ["mlp-7"]\n'
    path.write_text(text)
    suite = load_suite(str(path))
    assert suite.name == "mine"
    assert suite.family("train").sample(np.random.default_rng(0)).architecture == "mlp-7"
    assert "mine" not in suite_names()


def test_a_users_suite_finds_its_data_beside_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    own_files.write(own_files.table(), folder)
    (folder / "mine.toml").write_text(
        'name = "mine"\n[[families]]\ndatasets = ["table.csv#kind"]\narchitectures = ["mlp-4"]\n'
    )
    spec = load_suite("elsewhere/mine.toml").family("train").sample(np.random.default_rng(0))
    job = spec.build()
    assert job.task == "classification"
    assert isinstance(job.train, tuple)
    assert job.train[0].shape[1] == 4  # size, weight, and a column for each of two colours


def test_weights_count_as_having_seen_the_data_that_they_were_trained_on() -> None:
    held = family(datasets=("shapes",), architectures=("mlp-64",), unseen=("dataset",))
    tuned = family(datasets=("textures",), architectures=("mlp-64",), weights=("shapes",), name="tuned")
    suite_of(family(), family(), held)
    with pytest.raises(ConfigError, match=r"holds out dataset shapes.*train split.*'tuned'"):
        suite_of(tuned, family(), held)
    with pytest.raises(ConfigError, match=r"the test split holds out dataset shapes"):
        suite_of(family(), family(), replace(held, weights=("shapes",)))


@pytest.mark.parametrize("spelling", ["./table.csv#kind", "elsewhere/../table.csv#kind", "table.csv#size"])
def test_a_file_is_the_same_however_its_path_is_written(spelling: str) -> None:
    own_files.write(own_files.table())
    Path("elsewhere").mkdir()
    held = family(datasets=("table.csv#kind",), unseen=("dataset",))
    with pytest.raises(ConfigError, match=r"holds out dataset table\.csv#kind, which occurs in the train"):
        suite_of(family(datasets=(spelling,)), family(), held)


def test_missing_weights_are_told_when_a_users_suite_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[[families]]\nname = "f"\ndatasets = ["shapes"]\narchitectures = ["mlp-5"]\n'
        'weights = ["shapes"]\n'
    )
    with pytest.raises(ConfigError, match=r"train split, family 'f': no weights of 'mlp-5'"):
        load_suite(str(tmp_path / "mine.toml"))


def test_a_data_file_that_is_missing_is_told_with_the_suites_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[[families]]\ndatasets = ["gone.csv#y"]\narchitectures = ["mlp-5"]\n'
    )
    with pytest.raises(ConfigError, match=str(tmp_path / "gone.csv")):
        load_suite(str(tmp_path / "mine.toml"))
