from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rl_tuner import __version__
from rl_tuner.errors import ConfigError
from rl_tuner.runs import RunDirectory, versions

CONFIG = {"suite": "quick", "seed": 0, "names": ("a", "b")}


def load(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_a_new_run_writes_what_was_asked_for_and_with_which_versions() -> None:
    RunDirectory("runs/x", CONFIG)
    assert load("runs/x/config.json") == {"suite": "quick", "seed": 0, "names": ["a", "b"]}
    assert load("runs/x/versions.json") == versions()


def test_versions_name_rl_tuner_and_the_libraries_that_figures_depend_on() -> None:
    found = versions()
    assert found["rl-tuner"] == __version__
    assert found["torch"] == metadata.version("torch")
    assert all(found.values())


def test_an_existing_run_is_refused_and_left_as_it_was() -> None:
    RunDirectory("x", CONFIG).write_results({"a": 1})
    with pytest.raises(ConfigError, match="x exists: give --resume to continue it, or another --out"):
        RunDirectory("x", {**CONFIG, "seed": 1})
    assert load("x/config.json")["seed"] == 0
    assert load("x/results.json") == {"a": 1}


def test_a_run_that_cannot_be_continued_is_not_told_to_be_resumed() -> None:
    RunDirectory("x", CONFIG)
    with pytest.raises(ConfigError, match="x exists: give another --out"):
        RunDirectory("x", CONFIG, resumable=False)


def test_an_empty_folder_is_as_good_as_none() -> None:
    Path("x").mkdir()
    assert RunDirectory("x", CONFIG).path == Path("x")


def test_a_file_in_the_place_of_the_folder_is_refused() -> None:
    Path("x").write_text("mine")
    with pytest.raises(ConfigError, match="x exists"):
        RunDirectory("x", CONFIG)
    assert Path("x").read_text() == "mine"


def test_the_same_run_is_resumed_with_its_results_kept() -> None:
    RunDirectory("x", CONFIG).write_results({"a": 1})
    assert load(str(RunDirectory("x", CONFIG, resume=True).results)) == {"a": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({**CONFIG, "seed": 1}, "the run in x has seed = 0, not 1"),
        ({**CONFIG, "names": ("a",)}, r"has names = \['a', 'b'\], not \['a'\]"),
        ({**CONFIG, "new": 5}, "has new = None, not 5"),
        ({"suite": "quick", "seed": 0}, r"has names = \['a', 'b'\], not None"),
    ],
)
def test_another_run_is_not_resumed_and_the_difference_is_named(
    changed: dict[str, Any], message: str
) -> None:
    RunDirectory("x", CONFIG)
    with pytest.raises(ConfigError, match=message):
        RunDirectory("x", changed, resume=True)
    assert load("x/config.json")["seed"] == 0


def test_a_key_that_may_change_is_changed_and_remembered() -> None:
    RunDirectory("x", CONFIG)
    RunDirectory("x", {**CONFIG, "seed": 1}, resume=True, may_change=("seed",))
    assert load("x/config.json")["seed"] == 1


def test_a_key_that_may_grow_keeps_what_it_held() -> None:
    config = {**CONFIG, "methods": {"a": "1", "b": "2"}}
    RunDirectory("x", config)
    more = {"c": "3", "b": "2", "a": "1"}
    for changed, message in (
        ({"a": "1", "c": "3"}, r"the run in x has methods\.b = '2', not None"),
        ({"a": "0", "b": "2"}, r"has methods\.a = '1', not '0'"),
        (None, r"has methods = \{.*\}, not None"),
    ):
        with pytest.raises(ConfigError, match=message):
            RunDirectory("x", {**CONFIG, "methods": changed}, resume=True, may_grow=("methods",))
    with pytest.raises(ConfigError, match="has methods = "):
        RunDirectory("x", {**CONFIG, "methods": more}, resume=True)
    RunDirectory("x", {**CONFIG, "methods": more}, resume=True, may_grow=("methods",))
    assert load("x/config.json")["methods"] == more


def test_a_key_that_earlier_versions_lacked_is_what_it_stood_for() -> None:
    RunDirectory("x", CONFIG)
    with pytest.raises(ConfigError, match="has jobs = 1, not 2"):
        RunDirectory("x", {**CONFIG, "jobs": 2}, resume=True, formerly={"jobs": 1})
    RunDirectory("x", {**CONFIG, "jobs": 1}, resume=True, formerly={"jobs": 1})
    with pytest.raises(ConfigError, match="has jobs = 1, not 3"):  # what the run says itself stands
        RunDirectory("x", {**CONFIG, "jobs": 3}, resume=True, formerly={"jobs": 3})


def test_there_is_nothing_to_resume_in_a_folder_without_a_run() -> None:
    with pytest.raises(ConfigError, match="no run to resume in x: leave out --resume"):
        RunDirectory("x", CONFIG, resume=True)
    assert not Path("x").exists()


def test_a_damaged_configuration_is_an_error_that_names_its_file() -> None:
    RunDirectory("x", CONFIG)
    Path("x/config.json").write_text('{"suite": "qu')
    with pytest.raises(ConfigError, match=r"x/config\.json is damaged and cannot be resumed"):
        RunDirectory("x", CONFIG, resume=True)


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_a_configuration_that_is_no_object_is_damaged_too(content: str) -> None:
    RunDirectory("x", CONFIG)
    Path("x/config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"x/config\.json is damaged"):
        RunDirectory("x", CONFIG, resume=True)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it() -> None:
    Path("file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the run to file/x: Not a directory"):
        RunDirectory("file/x", CONFIG)


def test_results_hold_null_where_a_figure_is_not_finite() -> None:
    run = RunDirectory("x", CONFIG)
    run.write_results({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert load("x/results.json") == {"a": None, "b": [None, 1.5]}
