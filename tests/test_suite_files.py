"""Suite files: TOML and JSON say the same, what is wrong is named with file and key, all else is a suite."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_tuner import ConfigError
from rl_tuner.config import from_dict, to_dict
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.suite_files import MOST_BYTES, make_suite, read_suite
from rl_tuner.envs.suites import Suite

TOML = """
name = "mine"
description = "a suite of my own"
held_out = "apart"

[defaults]
lr_decades = [-1, 1]
optimizers = ["adam", "sgd"]

[[families]]
name = "tables"
weight = 2
fixed_share = 0
data_seeds = [3, 9]

[families.datasets]
train = ["linear-classes", "digits"]
validation = ["wine"]
test = ["iris", "clusters"]

[families.architectures]
train = ["mlp-8"]
test = ["linear"]

[families.budget]
train = [100, 200]
test = [201, 300]

[families.start]
batch_size = [16]
weight_decay = [0]
dropout = ["none", 0.1]
max_grad_norm = [1]

[families.data]
samples = [0, 50]
noise = [1]

[[families]]
name = "ratings"
datasets = ["low-rank"]
architectures = ["factors-4"]
optimizers = ["adam"]
budget = [500, 600]
"""
DATA: dict[str, Any] = {
    "name": "mine",
    "description": "a suite of my own",
    "held_out": "apart",
    "defaults": {"lr_decades": [-1, 1], "optimizers": ["adam", "sgd"]},
    "families": [
        {
            "name": "tables",
            "weight": 2,
            "fixed_share": 0,
            "data_seeds": [3, 9],
            "datasets": {
                "train": ["linear-classes", "digits"],
                "validation": ["wine"],
                "test": ["iris", "clusters"],
            },
            "architectures": {"train": ["mlp-8"], "test": ["linear"]},
            "budget": {"train": [100, 200], "test": [201, 300]},
            "start": {
                "batch_size": [16],
                "weight_decay": [0],
                "dropout": ["none", 0.1],
                "max_grad_norm": [1],
            },
            "data": {"samples": [0, 50], "noise": [1]},
        },
        {
            "name": "ratings",
            "datasets": ["low-rank"],
            "architectures": ["factors-4"],
            "optimizers": ["adam"],
            "budget": [500, 600],
        },
    ],
}


def written(text: str | bytes, suffix: str = ".toml") -> Path:
    path = Path(f"mine{suffix}")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def changed(value: Any, *path: str | int) -> dict[str, Any]:
    """`DATA` with the value at a path."""
    data = copy.deepcopy(DATA)
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


def test_toml_and_json_make_the_same_suite() -> None:
    suite = read_suite(written(TOML))
    assert suite == read_suite(written(json.dumps(DATA), ".json")) == make_suite(DATA)
    assert (suite.name, suite.description, suite.families) == (
        "mine",
        "a suite of my own",
        ("tables", "ratings"),
    )


def test_a_split_has_a_part_for_each_thing_that_it_holds_out() -> None:
    suite = make_suite(DATA)
    parts = {split: [(p.name, p.unseen) for p in suite.family(split).parts] for split in SPLITS}
    assert parts == {
        "train": [("tables", ()), ("ratings", ())],
        "validation": [("tables", ("dataset",)), ("ratings", ())],
        "test": [
            ("tables", ("dataset",)),
            ("tables", ("architecture",)),
            ("tables", ("horizon",)),
            ("ratings", ()),
        ],
    }
    new_dataset, new_architecture, new_horizon, _ = suite.family("test").parts
    train = ("linear-classes", "digits"), ("mlp-8",), (100, 200)
    for part, wanted in (
        (new_dataset, (("iris", "clusters"), *train[1:])),
        (new_architecture, (train[0], ("linear",), train[2])),
        (new_horizon, (*train[:2], (201, 300))),
    ):
        assert (part.datasets, part.architectures, part.budget) == wanted


def test_together_means_that_all_is_new_at_once() -> None:
    suite = make_suite({**DATA, "held_out": "together"})
    part, _ = suite.family("test").parts
    assert part.unseen == ("dataset", "architecture", "horizon")
    assert (part.datasets, part.architectures, part.budget) == (("iris", "clusters"), ("linear",), (201, 300))


def test_defaults_hold_where_a_family_does_not_say_otherwise() -> None:
    tables, ratings = make_suite(DATA).family("train").parts
    assert tables.optimizers == ("adam", "sgd")
    assert ratings.optimizers == ("adam",)
    assert tables.lr_decades == ratings.lr_decades == (-1, 1)


def test_a_weight_may_differ_by_split_and_is_the_train_splits_where_it_does_not() -> None:
    suite = make_suite(changed({"train": 0.5, "test": 3}, "families", 1, "weight"))
    found = {split: suite.family(split).only(family="ratings").parts[0].weight for split in SPLITS}
    assert found == {"train": 0.5, "validation": 0.5, "test": 3}
    assert make_suite(DATA).family("test").only(family="ratings").parts[0].weight == 1


def test_data_seeds_are_the_splits_own_unless_they_are_given() -> None:
    suite = make_suite(DATA)
    for split, seeds in zip(SPLITS, ((0, 1000), (1000, 2000), (2000, 3000)), strict=True):
        tables, *_, ratings = suite.family(split).parts
        assert (tables.data_seeds, ratings.data_seeds) == ((3, 9), seeds)


@pytest.mark.parametrize("split", SPLITS)
def test_whole_numbers_may_stand_for_any_number(split: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        spec = make_suite(DATA).family(split).sample(rng)
        assert from_dict(JobSpec, json.loads(json.dumps(to_dict(spec)))) == spec
        assert spec.family != "tables" or spec.noise == 1.0
        spec.build()


def test_none_stands_for_what_a_job_lacks() -> None:
    (tables, _) = make_suite(DATA).family("train").parts
    assert tables.start["dropout"] == (None, 0.1)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"families": DATA["families"]}, "needs 'name'"),
    "no families": ({"name": "mine"}, "needs 'families'"),
    "a name that is a number": (changed(3, "name"), "'name' of a suite must be text, got 3"),
    "a description that is a list": (changed([], "description"), "'description'.* must be text"),
    "an unknown key": ({**DATA, "famlies": []}, "unknown key of a suite 'famlies'.*'families'"),
    "an unknown held_out": (changed("appart", "held_out"), "unknown held_out 'appart'.*'apart'"),
    "families that are a table": (changed({}, "families"), "'families' must be a list of tables"),
    "families without one": (changed([], "families"), "'families' must be a list of tables"),
    "a family that is a text": (changed("x", "families", 0), "a family must be a table.*'x'"),
    "defaults that are a list": (changed([], "defaults"), "'defaults' must be a table"),
    "an unknown key of a family": (
        changed(1, "families", 0, "wieght"),
        "family 'tables', train split: unknown key of a family 'wieght'.*'weight'",
    ),
    "an unknown key of the defaults": (changed(1, "defaults", "lr"), "family 'tables'.* unknown key.* 'lr'"),
    "a family's name that is a number": (changed(3, "families", 0, "name"), "family 3.* name must be text"),
    "no data sets": (
        {"name": "m", "families": [{"name": "f", "architectures": ["linear"]}]},
        "family 'f', train split: a family needs 'datasets'",
    ),
    "no architectures": (
        {"name": "m", "families": [{"name": "f", "datasets": ["iris"]}]},
        "family 'f', train split: a family needs 'architectures'",
    ),
    "a text where a list belongs": (
        changed("iris", "families", 0, "datasets"),
        "datasets must be a list with at least one value, got 'iris'",
    ),
    "a number where a name belongs": (
        changed([3], "families", 0, "architectures"),
        "architectures must hold names, got 3",
    ),
    "an empty list": (changed([], "families", 1, "optimizers"), "'ratings'.* optimizers must be a list"),
    "an unknown data set": (
        changed(["irish"], "families", 0, "datasets", "test"),
        "family 'tables', test split: unknown dataset 'irish'.*'iris'",
    ),
    "a file of data that is not there": (
        changed(["mine.csv#kind"], "families", 0, "datasets", "test"),
        "family 'tables', test split: .*mine.csv",
    ),
    "an architecture that does not fit": (
        changed(["cnn-4"], "families", 0, "architectures", "train"),
        "'cnn-4' fits image, not table",
    ),
    "an unknown optimizer": (changed(["adamm"], "families", 1, "optimizers"), "'adamm'.*'adam'"),
    "an unknown split": (
        changed(["iris"], "families", 0, "datasets", "val"),
        "unknown split of 'datasets' in family 'tables' 'val': choose from train, validation, test",
    ),
    "no train split": (
        changed({"test": ["mlp-3"]}, "families", 0, "architectures"),
        "family 'tables': 'architectures' needs what the train split draws from",
    ),
    "what is held out and trained on": (
        changed(["digits"], "families", 0, "datasets", "validation"),
        "the validation split holds out dataset digits, which occurs in the train split",
    ),
    "a budget of one number": (
        changed([100], "families", 1, "budget"),
        "budget must be the smallest and the",
    ),
    "a budget that is a number": (changed(100, "families", 1, "budget"), "budget must be the smallest and"),
    "a budget that falls": (changed([9, 8], "families", 1, "budget"), "the last of budget must be >= 9"),
    "a budget of a part of a sample": (
        changed([1.5, 8], "families", 1, "budget"),
        "budget must be whole numbers, got 1.5",
    ),
    "a budget of texts": (changed(["1", "8"], "families", 1, "budget"), "the first of budget must be .*'1'"),
    "no data seed": (changed([5, 5], "families", 1, "data_seeds"), "the last of data_seeds must be > 5"),
    "a negative data seed": (changed([-1, 5], "families", 1, "data_seeds"), "the first of data_seeds"),
    "decades beyond all numbers": (
        changed([-1000, 0], "families", 1, "lr_decades"),
        "the first of lr_decades must be >= -10",
    ),
    "a share above 1": (changed(1.2, "families", 1, "fixed_share"), "fixed_share must be >= 0 and <= 1"),
    "a share that is true": (changed(True, "families", 1, "fixed_share"), "fixed_share must be .* got True"),
    "a weight of zero": (changed(0, "families", 1, "weight"), "weight must be > 0"),
    "an infinite weight": (changed(float("inf"), "families", 1, "weight"), "weight must be > 0 and <= "),
    "a weight of the held-out splits only": (
        changed({"test": 2}, "families", 1, "weight"),
        "family 'ratings': 'weight' needs what the train split draws from",
    ),
    "a weight of another split": (
        changed({"train": 1, "tset": 2}, "families", 1, "weight"),
        "unknown split of 'weight' in family 'ratings' 'tset'.*'test'",
    ),
    "a weight of zero in one split": (
        changed({"train": 1, "test": 0}, "families", 1, "weight"),
        "test split: weight must be > 0",
    ),
    "start values that are a list": (changed([], "families", 0, "start"), "'start' must be a table"),
    "an unknown start value": (
        changed([1], "families", 0, "start", "dropuot"),
        "unknown start value 'dropuot'.*'dropout'",
    ),
    "a start value without a list": (
        changed(16, "families", 0, "start", "batch_size"),
        "start.batch_size must be a list with at least one value, got 16",
    ),
    "none for what cannot lack": (
        changed([0, "none"], "families", 0, "start", "weight_decay"),
        "start.weight_decay cannot be none: dropout, l1, l2, label_smoothing, max_grad_norm can",
    ),
    "a start value that is a text": (
        changed(["0.1"], "families", 0, "start", "dropout"),
        "start.dropout must be .*'0.1'",
    ),
    "a start value out of range": (
        changed([1.5], "families", 0, "start", "dropout"),
        "dropout must be .*1.5",
    ),
    "a batch of a part of a sample": (
        changed([16.5], "families", 0, "start", "batch_size"),
        "start.batch_size must be whole numbers, got 16.5",
    ),
    "an unknown difficulty": (
        changed([1], "families", 0, "data", "niose"),
        "unknown difficulty 'niose'.*'noise'",
    ),
    "a difficulty without a list": (changed(1, "families", 0, "data", "noise"), "data.noise must be a list"),
    "a difficulty out of range": (changed([-1], "families", 0, "data", "noise"), "data.noise must be >= 0"),
    "one training sample": (changed([1], "families", 0, "data", "samples"), "samples must be >= 2, got 1"),
    "pretraining of all": (changed([1.0], "families", 0, "pretraining"), "pretraining must be .* <= 0.9"),
    "pretraining without rows of numbers": (
        changed([0.5], "families", 1, "pretraining"),
        "pretraining is for table, image, sound, not ratings",
    ),
    "weights that are numbers": (changed([1], "families", 0, "weights"), "weights must hold names, got 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named_with_the_file(wrong: str) -> None:
    data, message = WRONG[wrong]
    with pytest.raises(ConfigError, match=rf"^mine\.json: .*{message}"):
        read_suite(written(json.dumps(data), ".json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'name = "\xff"', "mine.toml is malformed: .*utf-8"),
        (b"name = \nx = 1", "mine.toml is malformed: .*line 1"),
        (b'name = "a"\nname = "b"\n', "mine.toml is malformed: .*line 2"),
        (b"", "mine.toml: a suite needs 'name'"),
        (b"a = " + b"[" * 100_000 + b"]" * 100_000, "mine.toml is malformed"),
        (b"#" * (MOST_BYTES + 1), "mine.toml is no suite: it has more than 1,000,000 bytes"),
    ],
)
def test_what_is_no_toml_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_suite(written(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "mine.json is malformed: .*utf-8"),
        (b'{"name": }', "mine.json is malformed: .*line 1"),
        (b"", "mine.json is malformed"),
        (b"[1, 2]", r"mine.json: a suite must be a table of keys and values, got \[1, 2\]"),
        (b"[" * 100_000, "mine.json is malformed: .*recursion"),
        (b'{"name": 1' + b"0" * 5000 + b"}", "mine.json is malformed: .*digits"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_suite(written(text, ".json"))


@pytest.mark.parametrize("name", ["nothing.toml", "folder.toml", f"{'x' * 5000}.toml", "a\0b.toml"])
def test_what_is_no_file_is_refused_by_name(name: str) -> None:
    Path("folder.toml").mkdir()
    with pytest.raises(ConfigError, match=re.escape(name)):
        read_suite(name)


def test_a_message_does_not_repeat_a_huge_value() -> None:
    with pytest.raises(ConfigError) as caught:
        make_suite({"name": "m", "families": [{"datasets": "x" * 10_000, "architectures": ["linear"]}]})
    assert len(str(caught.value)) < 500


# Anything at all

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["none", "iris", "digits", "mlp-4", "low-rank", "factors-2", "adam", "./x", "a#b", "apart"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.sampled_from(SPLITS), inner)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of everything inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*path, key)
        yield from places(part, (*path, key))


def require_suite_or_config_error(data: Any) -> None:
    """What is no suite is a `ConfigError`; what is one gives jobs."""
    try:
        suite = make_suite(data)
    except ConfigError:
        return
    assert isinstance(suite, Suite)
    rng = np.random.default_rng(0)
    for split, _ in product(SPLITS, range(5)):
        spec = suite.family(split).sample(rng)
        assert from_dict(JobSpec, json.loads(json.dumps(to_dict(spec)))) == spec


@given(data=JSON)
def test_any_value_is_a_suite_or_a_config_error(data: Any) -> None:
    require_suite_or_config_error(data)


@settings(max_examples=600)
@given(path=st.sampled_from(list(places(DATA))), value=JSON)
def test_any_value_inside_of_a_suite_leaves_a_suite_or_a_config_error(
    path: tuple[str | int, ...], value: Any
) -> None:
    require_suite_or_config_error(changed(value, *path))


@given(place=st.integers(0, len(TOML) - 1), byte=st.integers(0, 255))
def test_any_byte_of_a_file_may_be_wrong(place: int, byte: int) -> None:
    text = bytearray(TOML.encode())
    text[place] = byte
    path = written(bytes(text))
    with suppress(ConfigError):
        assert isinstance(read_suite(path), Suite)
