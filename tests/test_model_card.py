"""The model card: what a file and its suite say, and what they leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_tuner.binning import Binning
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.datasets import kind_of
from rl_tuner.envs.suites import SUITES, load_suite
from rl_tuner.model_card import is_estimate, model_card, training_jobs
from rl_tuner.policies import QTablePolicy
from rl_tuner.policy_file import load_policy, save_policy, shipped_policies
from rl_tuner.space import search_space
from tests.tiny import TINY

CONFIG = CourseConfig(decisions=6)
BETTER = {"jobs": 10, "unit": "nats", "difference": {"mean": 1.0, "low": 0.5, "high": 1.5}}


def card_of(decisions: int = 6, **provenance: Any) -> dict[str, Any]:
    tables = [np.zeros((1, 5)), np.zeros((1, 3))]
    policy = QTablePolicy(
        search_space(["lr", "dropout"]),
        CourseConfig(decisions),
        provenance,
        [Binning((), ())] * 2,
        tables,
        [],
    )
    return model_card(policy, save_policy(policy, "p.safetensors"))


def test_the_intended_use_is_the_authors_or_what_the_policy_moves() -> None:
    assert card_of(card={"intended": " For small MLPs. "})["intended_use"] == "For small MLPs."
    assert card_of()["intended_use"].startswith("Changes lr and dropout of a training run 6 times while")
    assert "a training run once while" in card_of(decisions=1)["intended_use"]


def test_training_is_what_the_provenance_says_and_what_the_suite_draws_from() -> None:
    card = card_of(suite="quick", seed=3, steps=100, versions={"torch": "2"}, notes="else")
    jobs = card["training"].pop("jobs")
    assert card["training"] == {"suite": "quick", "seed": 3, "steps": 100, "versions": {"torch": "2"}}
    assert (jobs["data"], jobs["datasets"]) == (["table"], ["digits", "diabetes"])
    assert jobs["architectures"] == ["mlp-32", "mlp-64x32", "mlp-32x32x32"]
    assert (jobs["budget"], jobs["lr_decades"]) == ([4000, 12000], [-2.0, 2.0])
    assert card["provenance"]["notes"] == "else"


def test_the_whole_train_split_is_looked_at_and_nothing_else() -> None:
    jobs, parts = training_jobs("standard"), load_suite("standard").splits["train"].parts
    assert {*jobs["data"]} == {kind_of(name) for part in parts for name in part.datasets}
    assert len(parts) > 1
    assert {*jobs["optimizers"]} == {name for part in parts for name in part.optimizers}
    assert jobs["budget"] == [min(p.budget[0] for p in parts), max(p.budget[1] for p in parts)]
    held_out = {name for part in load_suite("standard").splits["test"].parts for name in part.datasets}
    assert held_out - {*jobs["datasets"]}


@pytest.mark.parametrize(
    "suite", [None, "forgotten", 3, ["quick"], {"quick": 1}, "/etc/passwd.toml", "a/b.json"]
)
def test_what_is_no_known_suite_is_not_looked_up(suite: Any) -> None:
    assert training_jobs(suite) == {}


def test_the_limits_say_what_no_training_job_was_like() -> None:
    said = " ".join(card_of(suite="quick", validation=BETTER)["limits"])
    assert "on data of the kinds image, sound, tokens, ratings;" in said
    assert "on the architectures linear, cnn, conv1d, gru, transformer" in said
    assert "with the optimizers sgd, nesterov, adamw" in said
    assert "budgets of 4,000 to 12,000 samples and on start learning rates of 0.01 to 100 times" in said
    assert "kinds" not in " ".join(card_of(suite="standard")["limits"])  # all were trained on


def test_the_limits_begin_with_the_authors_own() -> None:
    assert card_of(card={"limits": "Not for GANs."})["limits"][0] == "Not for GANs."


@pytest.mark.parametrize(
    ("provenance", "sentence", "there"),
    [
        ({}, "The file holds no scores", True),
        ({"validation": BETTER}, "The file holds no scores", False),
        ({"validation": BETTER}, "validation jobs of its own suite alone", True),
        ({"validation": BETTER, "card": {"results": {"test": 1.0}}}, "of its own suite alone", False),
        ({"validation": BETTER}, "do not show it to be better", False),
        ({"validation": {"difference": {"mean": 1.0, "low": -0.1, "high": 2.0}}}, "do not show it", True),
        ({}, "does not say, in terms known here, what it was trained on", True),
        ({"suite": "quick"}, "does not say", False),
    ],
)
def test_the_limits_say_what_the_scores_leave_open(
    provenance: dict[str, Any], sentence: str, there: bool
) -> None:
    assert (sentence in " ".join(card_of(**provenance)["limits"])) == there


def test_the_evaluation_holds_the_files_scores_and_the_authors_results() -> None:
    results = {"test": {"mean": 1.0, "low": 0.9, "high": 1.1}, "trial equivalents": 14}
    card = card_of(validation=BETTER, card={"results": results})
    assert card["evaluation"] == {"validation": BETTER, **results}


@pytest.mark.parametrize("author", [None, 3, "text", [1], {"intended": 3, "limits": [], "results": "good"}])
def test_a_card_of_another_form_is_passed_over(author: Any) -> None:
    card = card_of(card=author)
    assert card["evaluation"] == {}
    assert card["intended_use"].startswith("Changes")
    assert all(isinstance(line, str) and line for line in card["limits"])


def test_an_estimate_has_three_numbers() -> None:
    assert is_estimate({"mean": 1, "low": 0.5, "high": 2.0, "n": 3})
    for other in (None, 1.0, {}, {"mean": 1, "low": 0}):
        assert not is_estimate(other)
    for high in ("2", None, [2], float("inf"), float("nan"), 10**400):
        assert not is_estimate({"mean": 1, "low": 0, "high": high})


def test_a_suite_of_ones_own_may_hold_data_that_is_not_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    assert training_jobs("tiny")["data"] == ["table"]


@pytest.mark.parametrize("name", shipped_policies())
def test_a_shipped_policy_is_small_and_says_where_it_comes_from(name: str) -> None:
    path = Path(__file__).parent.parent / "rl_tuner" / "policies" / f"{name}.safetensors"
    policy = load_policy(name)
    card = model_card(policy, path)  # type: ignore[arg-type]
    assert card["bytes"] <= 200_000
    commands = card["training"].get("members", [card["training"]["command"]])
    assert all(command.startswith("rl-tuner train ") for command in commands)
    seeds = "seeds" if card["kind"] == "ensemble" else "seed"
    assert {"suite", seeds, "steps", "versions", "jobs"} <= set(card["training"])
    assert card["evaluation"]
