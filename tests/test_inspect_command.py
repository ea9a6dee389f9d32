"""``rl-tuner inspect``: a policy's card, and why it acts as it does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rl_tuner.binning import Binning
from rl_tuner.cli import app
from rl_tuner.course import CourseConfig
from rl_tuner.envs.suites import SUITES
from rl_tuner.features import FeatureSet
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
    assert (rule["when"], rule["action"], rule["gap"]) == ("progress < 0.5", "lr × 3.2", 2.0)
    assert rule["share"] == pytest.approx(0.5)
    text = inspected(table, "--jobs", "3")
    assert "lr × 3.2" in text
    assert "progress < 0.5" in text


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
    assert "+1.500 (+1.000 to +2.000)" in text


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
