"""``rl-tuner inspect``: a policy's card, and why it acts as it does."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from rl_tuner.binning import Binning
from rl_tuner.cli import app
from rl_tuner.commands.card_text import show_card
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.suites import SUITES
from rl_tuner.features import FeatureSet
from rl_tuner.model_card import EVALUATION, TRAINING, model_card
from rl_tuner.policies import MLPPolicy, QTablePolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.schedules import SCHEDULES
from rl_tuner.space import search_space
from tests.tiny import TINY

SPACE = search_space(["lr", "weight_decay"])
CONFIG = CourseConfig(decisions=6, intervals="uniform", reward="best_improvement")
PROVENANCE = {"name": "mine", "suite": "tiny", "seed": 3, "scores": {"mean": 1.5, "low": 1.0, "high": 2.0}}


@pytest.fixture(autouse=True)
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


@pytest.fixture
def table() -> str:
    """lr rises by its full step while progress is below 0.5; weight decay never moves."""
    binning = Binning((0,), (np.array([0.5]),))
    lr = np.array([[0, 0, 0, 0, 2.0], [0, 0, 0, 0, 0]])
    policy = QTablePolicy(SPACE, CONFIG, PROVENANCE, [binning, binning], [lr, np.zeros((2, 3))], ["progress"])
    return str(save_policy(policy, "table.safetensors"))


@pytest.fixture
def network() -> str:
    """lr answers to progress alone; weight decay to nothing."""
    names = FeatureSet(SPACE).names
    weight = torch.zeros(2, len(names))
    weight[0, names.index("progress")] = -0.5
    policy = MLPPolicy(SPACE, "continuous", CONFIG, names, PROVENANCE, [(weight, torch.zeros(2))])
    return str(save_policy(policy, "network.safetensors"))


def inspected(*arguments: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(inspected(*arguments, "--json"))


def test_the_card_says_what_the_file_holds(table: str) -> None:
    card = as_json(table, "--jobs", "0")
    assert (card["name"], card["kind"], card["actions"]) == ("mine", "q-table", "discrete")
    assert card["bytes"] == Path(table).stat().st_size
    assert card["format_version"] == 1
    assert card["config"]["reward"] == "best_improvement"
    assert [h["name"] for h in card["hyperparameters"]] == ["lr", "weight_decay"]
    assert card["hyperparameters"][0]["high"] == 10.0
    assert card["features"] == ["progress"]
    assert card["network"]["tables"]["lr"] == {"bins": {"progress": 2}, "choices": 5}
    assert card["network"]["values"] == 2 * 5 + 2 * 3
    assert card["provenance"] == PROVENANCE
    assert "behaviour" not in card


def test_the_card_of_a_network_says_its_size(network: str) -> None:
    card = as_json(network, "--jobs", "0")
    inputs = len(FeatureSet(SPACE))
    assert card["network"] == {
        "layers": [inputs, 2],
        "activation": "tanh",
        "parameters": inputs * 2 + 2,
    }


def test_a_tables_rule_is_found_and_said_in_words(table: str) -> None:
    behaviour = as_json(table, "--jobs", "3")["behaviour"]
    assert (behaviour["jobs"], behaviour["observations"]) == (3, 18)
    assert behaviour["of"] == "suite tiny, train split"
    (rule,) = behaviour["rules"]
    assert (rule["when"], rule["action"]) == (["in the first 50 % of the budget"], "multiply lr by 3.2")
    assert rule["gap"] == 2.0
    assert rule["share"] == pytest.approx(0.5)
    text = inspected(table, "--jobs", "3")
    assert re.search(r"in the first 50 % of the budget: *\n +multiply lr by 3\.2 +\+2 +50%", text)


def test_rules_of_one_situation_stand_together_and_what_they_share_is_said_once() -> None:
    binning = Binning((0, 1), (np.array([0.5]), np.array([0.5])))
    lr, decay = np.zeros((4, 5)), np.zeros((4, 3))
    lr[0, 4], lr[2, 0], decay[0, 2] = 2.0, 3.0, 1.0  # rows: early, early rescued, late, late rescued
    policy = QTablePolicy(SPACE, CONFIG, PROVENANCE, [binning, binning], [lr, decay], ["progress", "rescued"])
    text = inspected(str(save_policy(policy, "table.safetensors")), "--jobs", "1")
    rules = text[text.index("its strongest rules") :]
    assert rules.count("no rescue just before") == 1
    found = re.findall(r"^ *(.*?:|multiply \w+ by [0-9.]+)", rules, re.MULTILINE)
    assert found[1:7] == [
        "after 50 % of the budget:",
        "multiply lr by 0.32",
        "in the first 50 % of the budget:",
        "multiply lr by 3.2",
        "multiply weight_decay by 3.2",
        "worth:",
    ]


def test_a_network_with_a_memory_says_how_far_back_it_reads() -> None:
    weight = torch.zeros(2, 3)
    weight[0] = torch.tensor([0.0, 0.0, -0.5])  # on progress now
    layers = [(weight, torch.zeros(2))]
    policy = MLPPolicy(SPACE, "continuous", CONFIG, ["progress"], PROVENANCE, layers, memory=3)
    path = str(save_policy(policy, "memory.safetensors"))
    card = as_json(path, "--jobs", "1")
    assert (card["memory"], card["network"]["layers"]) == (3, [3, 2])
    assert card["behaviour"]["sensitivities"][0]["slope"] < 0
    text = inspected(path, "--jobs", "1")
    assert re.search(r"reads +at the last 3 decisions progress", text)
    assert "of the newest decision: the older ones that it remembers stay as they were" in text


def test_what_a_stranger_wrote_reaches_the_terminal_as_text(network: str) -> None:
    nasty = "[red]own[/red]\x1b[2J\x07"
    card = {"intended": nasty, "limits": nasty, "results": {nasty: {"mean": 1.0, "low": 0.5, "high": nasty}}}
    provenance = {"name": nasty, "suite": nasty, "notes": [nasty, {nasty: None}], "card": card}
    policy = MLPPolicy(SPACE, "continuous", CONFIG, [], provenance, [(torch.zeros(2, 0), torch.zeros(2))])
    path = str(save_policy(policy, "nasty.safetensors"))
    text = inspected(path, "--jobs", "1", columns=200)
    assert text.count("[red]own[/red]") >= 8
    assert "\x1b" not in text
    assert "\x07" not in text
    assert as_json(path, "--jobs", "0")["provenance"] == provenance


TEXT = st.text() | st.sampled_from(["[/bold]", "[bold", "\ud800", "\x1b]0;title\x07", "mean", "low", "high"])
KEYS = st.sampled_from([*TRAINING, *EVALUATION, "card", "name", "difference"]) | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(provenance=st.dictionaries(KEYS, JSON, max_size=5))
def test_any_provenance_has_a_card_that_can_be_printed(
    provenance: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    policy = QTablePolicy(search_space(["lr"]), CONFIG, provenance, [Binning((), ())], [np.zeros((1, 5))], [])
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.touch()
    printed = io.StringIO()
    show_card(model_card(policy, path), Console(file=printed, width=100))
    text = printed.getvalue()
    text.encode()
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_networks_sensitivity_is_found_and_ranked(network: str) -> None:
    behaviour = as_json(network, "--jobs", "2", "--top", "3")["behaviour"]
    assert len(behaviour["sensitivities"]) == 3
    strongest = behaviour["sensitivities"][0]
    assert (strongest["hyperparameter"], strongest["feature"]) == ("lr", "progress")
    # Uniform intervals: progress is near 0, 1/6, …, 5/6 on each job.
    assert strongest["slope"] == pytest.approx(-0.5 * np.std(np.arange(6) / 6), rel=0.1)
    habits = {habit["hyperparameter"]: habit for habit in behaviour["habits"]}
    assert habits["weight_decay"]["held"] == 1.0
    assert habits["lr"]["lowered"] == pytest.approx(5 / 6)


def test_the_same_seed_watches_the_same_jobs(network: str) -> None:
    assert as_json(network, "--jobs", "2", "--seed", "5") == as_json(network, "--jobs", "2", "--seed", "5")
    assert as_json(network, "--jobs", "2", "--seed", "5") != as_json(network, "--jobs", "2", "--seed", "6")


def test_a_policy_of_an_unknown_suite_is_watched_on_a_known_one() -> None:
    binning = Binning((), ())
    policy = QTablePolicy(
        search_space(["lr"]), CONFIG, {"suite": "forgotten"}, [binning], [np.zeros((1, 5))], []
    )
    save_policy(policy, "old.safetensors")
    assert as_json("old.safetensors", "--jobs", "1")["behaviour"]["of"].startswith("suite quick")


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("kind", ["table", "network"])
def test_the_text_fits_its_width_and_shows_the_provenance(
    kind: str, columns: int, request: pytest.FixtureRequest
) -> None:
    text = inspected(request.getfixturevalue(kind), "--jobs", "1", columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "suite" in text
    assert re.search(r"scores +\+1\.500 +\+1\.000 to \+2\.000", text)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_a_schedule_is_one_line(name: str) -> None:
    lines = inspected(name, columns=200).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")
    assert as_json(name)["kind"] == "schedule"


def test_nothing_not_finite_reaches_the_json(table: str) -> None:
    text = inspected(table, "--jobs", "1", "--json")
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert not math.isnan(as_json(table, "--jobs", "1")["behaviour"]["rules"][0]["gap"])
