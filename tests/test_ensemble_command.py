"""``rl-tuner ensemble``: several policies as one file, judged as a learning run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rl_tuner.cli import app
from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.envs.suites import SUITES
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy_file import load_policy, save_policy
from tests.command_lines import Run, runner
from tests.learned_policies import network, random_observations, tables
from tests.test_ensemble_policy import rebuilt
from tests.tiny import TINY

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys, "ensemble")


def write_member(name: str, seed: int, **provenance: Any) -> str:
    """A policy as `rl-tuner train` writes it, with weights that hold nearly still."""
    command = f"rl-tuner train --suite tiny --seed {seed} --rails"
    said = {"name": name, "agent": "ppo", "command": command, "suite": "tiny", "seed": seed, "steps": 40}
    policy = network(seed=seed)
    layers = [(weight * 0.1, bias * 0.1) for weight, bias in policy.layers]
    member = rebuilt(policy, layers=layers, provenance={**said, "episodes": 2, **provenance})
    return str(save_policy(member, f"{name}.safetensors"))


@pytest.fixture
def members() -> list[str]:
    return [write_member(name, seed) for seed, name in enumerate(NAMES)]


def test_it_writes_a_policy_that_acts_by_the_mean_and_says_what_it_came_from(
    run: Run, members: list[str]
) -> None:
    outcome = run(*members, "--out", "runs/three", "--eval-jobs", "2", "--seed", "4", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert json.loads(Path("runs/three/results.json").read_text()) == found
    assert (found["steps"], found["episodes"], found["members"]) == (120, 6, members)
    policy: Any = load_policy(found["policy"])
    assert isinstance(policy, EnsemblePolicy)
    said = policy.provenance
    assert (said["name"], said["agent"], said["suite"], said["seeds"]) == ("three", "ppo", "tiny", [0, 1, 2])
    assert said["command"] == "rl-tuner ensemble a b c --eval-jobs 2 --seed 4"
    assert [member.name for member in policy.members] == list(NAMES)
    seen = random_observations(policy, 20)
    alone = [load_policy(member).act(seen) for member in members]
    np.testing.assert_allclose(policy.act(seen), np.mean(alone, axis=0), atol=1e-6)


def test_the_judgement_is_of_the_jobs_that_learning_runs_are_judged_by(run: Run, members: list[str]) -> None:
    found = json.loads(run(*members, "--out", "x", "--eval-jobs", "3", "--json").out)["validation"]
    assert (found["jobs"], found["first_seed"], found["unit"]) == (3, 1_000_000, "nats")
    trained, untrained = (np.array(found["returns"][name]) for name in ("trained", "untrained"))
    assert len(trained) == len(untrained) == 3
    assert found["difference"]["mean"] == pytest.approx((trained - untrained).mean())
    assert (trained != untrained).any()


def test_the_report_shows_the_judgement_and_where_the_policy_lies(run: Run, members: list[str]) -> None:
    outcome = run(*members[:2], "--out", "runs/two", "--eval-jobs", "2")
    for words in ("trained", "untrained", "difference", "runs/two/policy.safetensors"):
        assert words in outcome.out


def test_the_same_command_gives_the_same_bytes(run: Run, members: list[str]) -> None:
    for folder in ("first", "second"):
        run(*members, "--out", f"{folder}/run", "--eval-jobs", "2")
    first, second = (Path(folder, "run/policy.safetensors").read_bytes() for folder in ("first", "second"))
    assert first == second


def test_inspect_tells_how_members_were_learned_once(run: Run, members: list[str]) -> None:
    run(*members, "--out", "three", "--eval-jobs", "2")
    shown = CliRunner().invoke(app, ["inspect", "three/policy.safetensors", "--jobs", "2"]).output
    text = " ".join(shown.split())
    assert "ensemble (the mean of 3 networks " in text
    assert "each by rl-tuner train --suite tiny --seed SEED --rails" in text
    assert "seeds 0, 1, 2" in text
    card = CliRunner().invoke(app, ["inspect", "three/policy.safetensors", "--jobs", "2", "--json"]).stdout
    found = json.loads(card)
    assert found["network"]["members"] == 3
    assert found["network"]["parameters"] == 3 * parameters(members[0])
    assert found["training"]["members"][2] == "rl-tuner train --suite tiny --seed 2 --rails"
    assert found["behaviour"]["sensitivities"]


def parameters(path: str) -> int:
    policy = load_policy(path)
    assert isinstance(policy, MLPPolicy)
    return sum(weight.numel() + bias.numel() for weight, bias in policy.layers)


def test_members_learned_in_other_ways_are_told_apart_by_inspect(run: Run, members: list[str]) -> None:
    other = write_member("d", 3, command="rl-tuner train --suite tiny --steps 50 --seed 3")
    run(members[0], other, "--out", "two", "--eval-jobs", "2")
    shown = CliRunner().invoke(app, ["inspect", "two/policy.safetensors", "--jobs", "1"]).output
    assert "--seed 0 --rails; rl-tuner train --suite tiny --steps 50 --seed 3" in " ".join(shown.split())


def test_what_cannot_be_a_member_is_refused_and_nothing_is_written(run: Run, members: list[str]) -> None:
    table = str(save_policy(tables(), "table.safetensors"))
    for arguments, message in (
        (
            [members[0], table],
            "table.safetensors is a QTablePolicy: members of an ensemble are single networks",
        ),
        ([members[0], "constant"], "constant is a Constant"),
        ([members[0], members[1], members[0]], "a and a are the same network"),
        ([members[0]], "two members or more, got 1"),
        ([members[0], "gone.safetensors"], "no policy 'gone.safetensors'"),
        ([*members, "--eval-jobs", "1"], "eval_jobs must be >= 2, got 1"),
    ):
        outcome = run(*arguments, "--out", "never")
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
    assert not Path("never").exists()


def test_members_of_two_suites_need_one_to_be_judged_on(run: Run, members: list[str]) -> None:
    other = write_member("d", 3, suite="quick")
    assert "the members learned on tiny, quick: give --suite" in run(members[0], other, "--out", "x").err
    outcome = run(members[0], other, "--out", "x", "--suite", "tiny", "--eval-jobs", "2")
    assert outcome.code == 0
    policy: Any = load_policy("x/policy.safetensors")
    assert policy.provenance["command"] == "rl-tuner ensemble a d --suite tiny --eval-jobs 2 --seed 0"
    assert policy.provenance["suite"] == "tiny, quick"  # what was learned on
    assert policy.provenance["validation"]["suite"] == "tiny"


def test_a_strangers_provenance_may_say_anything(run: Run, members: list[str]) -> None:
    other = write_member("d", 3, steps="many", episodes=None, command=7, agent=["es"])
    assert run(members[0], other, "--out", "x", "--eval-jobs", "2").code == 0
    policy: Any = load_policy("x/policy.safetensors")
    assert (policy.provenance["steps"], policy.provenance["episodes"]) == (40, 2)


def test_a_folder_that_is_there_is_left_as_it_was(run: Run, members: list[str]) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep")
    outcome = run(*members, "--out", "mine")
    assert outcome.code == 2
    assert "mine exists: give another --out" in outcome.err
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]
