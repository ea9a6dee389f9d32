"""``rl-tuner list``: everything there is to choose from, from the registries themselves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rl_tuner import policy_file
from rl_tuner.agent_kinds import AGENTS
from rl_tuner.cli import app
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.suites import load_suite, suite_names
from rl_tuner.envs.tuning_free import TUNING_FREE
from rl_tuner.policies import QTablePolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.rewards import REWARDS
from rl_tuner.samplers import SAMPLERS
from rl_tuner.schedules import SCHEDULES
from rl_tuner.space import HYPERPARAMETERS, search_space

PARTS = {
    "suites": suite_names(),
    "schedules": SCHEDULES,
    "samplers": SAMPLERS,
    "optimizers": TUNING_FREE,
    "agents": AGENTS,
    "rewards": REWARDS,
    "hyperparameters": HYPERPARAMETERS,
}


def listed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["list", *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("part", PARTS)
def test_each_part_lists_its_registry_and_nothing_else(part: str) -> None:
    found = json.loads(listed(f"--{part}", "--json"))
    assert list(found) == [part]
    assert list(found[part]) == list(PARTS[part])


def test_without_a_choice_all_parts_are_listed() -> None:
    assert set(json.loads(listed("--json"))) == {*PARTS, "policies"}


def test_several_parts_can_be_chosen() -> None:
    assert set(json.loads(listed("--agents", "--rewards", "--json"))) == {"agents", "rewards"}


def test_a_suite_shows_what_its_splits_draw_from_and_hold_out() -> None:
    (part,) = json.loads(listed("--suites", "--json"))["suites"]["quick"]["splits"]["test"]
    assert part["datasets"] == ["breast_cancer"]
    assert part["optimizers"] == ["adam", "momentum"]
    assert part["unseen"] == ["dataset", "architecture"]
    text = listed("--suites")
    for axis, words in {
        "dataset": "digits wine breast_cancer",
        "architecture": "mlp-64x32 mlp-24x24 mlp-128",
        "horizon": "4,000",
    }.items():
        row = text[text.index(axis, text.index("100% of the jobs")) :]
        assert all(word in row for word in words.split())


def test_a_suite_shows_how_many_samples_its_data_sets_have() -> None:
    entry = json.loads(listed("--suites", "--json"))["suites"]["quick"]
    assert entry["sizes"] == {"digits": 1797, "diabetes": 442, "wine": 178, "breast_cancer": 569}
    assert "1,797" in listed("--suites")


def test_each_family_is_listed_as_a_suite() -> None:
    found = json.loads(listed("--suites", "--json"))["suites"]
    for name in load_suite("standard").families:
        assert found[name]["families"] == [name]
        theirs = [part for part in found["standard"]["splits"]["train"] if part["name"] == name]
        assert found[name]["splits"]["train"] == theirs


def test_a_hyperparameter_shows_bounds_and_steps() -> None:
    lr = json.loads(listed("--hyperparameters", "--json"))["hyperparameters"]["lr"]
    assert (lr["low"], lr["high"]) == (HYPERPARAMETERS["lr"].low, HYPERPARAMETERS["lr"].high)
    assert lr["steps"] == ["× 0.32", "× 0.75", "unchanged", "× 1.3", "× 3.2"]


def test_the_text_names_everything_within_80_columns() -> None:
    text = listed()
    for part, registry in PARTS.items():
        assert part in text
        assert all(name in text for name in registry)
    assert max(map(len, text.splitlines())) <= 80


def test_a_shipped_policy_is_listed_with_where_it_comes_from(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rl_tuner.binning import Binning

    provenance = {"name": "calm", "agent": "sarsa", "suite": "quick", "steps": 123, "seed": 4}
    policy = QTablePolicy(
        search_space(["lr"]), CourseConfig(), provenance, [Binning((), ())], [np.zeros((1, 5))], []
    )
    save_policy(policy, tmp_path / "calm.safetensors")
    monkeypatch.setattr(policy_file, "SHIPPED", tmp_path)
    found = json.loads(listed("--policies", "--json"))["policies"]
    assert found == {"calm": {"actions": "discrete", "hyperparameters": ["lr"], "provenance": provenance}}
    line = next(line for line in listed("--policies").splitlines() if "calm" in line)
    assert all(word in line for word in ("discrete on lr", "agent sarsa", "suite quick", "steps 123"))
