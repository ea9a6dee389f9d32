"""``rl-tuner train``: its files, its report, and what a kill costs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rl_tuner import judging
from rl_tuner.agent_kinds import AGENTS
from rl_tuner.checkpoint import read_checkpoint
from rl_tuner.cli import app
from rl_tuner.envs.suites import SUITES
from rl_tuner.features import FEATURE_GROUPS
from rl_tuner.learning import Learner
from rl_tuner.learning_config import LearningConfig
from rl_tuner.policy_file import load_policy
from tests.tiny import TINY

# Runs this short end within the warm-up; what matters here is not what they learn.
pytestmark = pytest.mark.filterwarnings("ignore:.*warm-up was not over")

SMALL = [
    *("--suite", "tiny", "--decisions", "10", "--intervals", "uniform"),
    *("--hyperparameters", "lr", "--eval-jobs", "2", "--num-envs", "1"),
]
MANY = [*SMALL, "--num-envs", "3"]
"""The later --num-envs holds."""
SCRIPT = "from tests.tiny import register; register(); from rl_tuner.cli import main; main()"


@pytest.fixture(autouse=True)
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


def train(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["train", *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    return result


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which heeds Ctrl-C even if the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "train", *arguments],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run made no progress"
        time.sleep(0.02)


def test_a_run_writes_its_whole_folder_and_a_loadable_policy() -> None:
    result = train("--agent", "q-learning", *SMALL, "--steps", "30", "--out", "runs/a", "--json")
    found = json.loads(result.stdout)
    names = {path.name for path in Path("runs/a").iterdir() if "tfevents" not in path.name}
    assert names == {
        "config.json",
        "versions.json",
        "checkpoint.pt",
        "episodes",
        "policy.safetensors",
        "results.json",
    }
    assert len(list(Path("runs/a").glob("events.out.tfevents.*"))) == 1
    assert json.loads(Path("runs/a/results.json").read_text()) == found
    assert found["policy"] == "runs/a/policy.safetensors"
    policy = load_policy(found["policy"])
    assert (policy.actions.kind, policy.space.names, policy.config.decisions) == ("discrete", ("lr",), 10)


@pytest.mark.parametrize("size", [SMALL, MANY])
def test_the_provenance_holds_a_command_that_repeats_the_run(size: list[str]) -> None:
    options = ["--agent", "sarsa", *size, "--steps", "20", "--seed", "2", "--no-rails"]
    train(*options, "--out", "first/run")
    policy: Any = load_policy("first/run/policy.safetensors")
    program, command, *again = policy.provenance["command"].split()
    assert (program, command) == ("rl-tuner", "train")
    train(*again, "--out", "second/run")
    for name in ("config.json", "policy.safetensors"):
        assert Path("first/run", name).read_bytes() == Path("second/run", name).read_bytes()


def test_the_report_shows_both_policies_with_intervals_and_where_things_are() -> None:
    text = train("--agent", "q-learning", *SMALL, "--steps", "20", "--out", "runs/a").output
    for words in ("trained", "untrained", "difference", "95 % interval", "runs/a/policy.safetensors"):
        assert words in text
    assert "tensorboard --logdir runs/a" in text
    # Nothing was learned in two episodes: the two do the same, and it says so.
    assert "not told apart" in text


def test_the_default_folder_names_agent_suite_and_seed() -> None:
    train("--agent", "q-learning", *SMALL, "--steps", "10", "--seed", "5")
    assert Path("runs/q-learning-tiny-5/policy.safetensors").is_file()


def test_an_existing_run_is_refused_and_left_as_it_was() -> None:
    train("--agent", "q-learning", *SMALL, "--steps", "10", "--out", "runs/a")
    before = {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, ["train", "--agent", "q-learning", *SMALL, "--out", "runs/a"])
    assert "--resume" in str(result.exception)
    assert before == {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}


def test_resume_takes_what_is_left_out_from_the_run() -> None:
    train("--agent", "sarsa", *SMALL, "--steps", "10", "--seed", "3", "--out", "runs/a")
    found = json.loads(train("--out", "runs/a", "--resume", "--steps", "30", "--json").stdout)
    assert (found["agent"], found["steps"]) == ("sarsa", 30)
    assert json.loads(Path("runs/a/config.json").read_text())["seed"] == 3


def test_resume_refuses_other_settings() -> None:
    train("--agent", "sarsa", *SMALL, "--steps", "10", "--out", "runs/a")
    result = CliRunner().invoke(app, ["train", "--out", "runs/a", "--resume", "--seed", "4"])
    assert "seed = 0, not 4" in str(result.exception)


def test_resume_refuses_another_number_of_jobs_side_by_side() -> None:
    train("--agent", "sarsa", *MANY, "--steps", "10", "--out", "runs/a")
    result = CliRunner().invoke(app, ["train", "--out", "runs/a", "--resume", "--num-envs", "4"])
    assert "num_envs = 3, not 4" in str(result.exception)


def test_resume_goes_on_with_a_run_of_before_there_were_many_jobs_side_by_side() -> None:
    train("--agent", "q-learning", *SMALL, "--steps", "30", "--out", "whole/run")
    train("--agent", "q-learning", *SMALL, "--steps", "10", "--out", "cut/run")
    config = Path("cut/run/config.json")
    old = {key: value for key, value in json.loads(config.read_text()).items() if key != "num_envs"}
    config.write_text(json.dumps(old))
    train("--out", "cut/run", "--resume", "--steps", "30")
    for name in ("config.json", "policy.safetensors"):
        assert Path("cut/run", name).read_bytes() == Path("whole/run", name).read_bytes()


def test_ppo_rounds_steps_up_to_a_rollout_and_says_so() -> None:
    result = train("--agent", "ppo", *MANY, "--steps", "30", "--out", "runs/a")
    assert "learned from 420 decisions" in result.output  # 140 of each of the three
    assert json.loads(Path("runs/a/results.json").read_text())["steps"] == 420
    assert "rollouts" in train("--help").output


def test_progress_is_shown_before_the_first_of_many_episodes_ends() -> None:
    text = train("--agent", "q-learning", *MANY, "--steps", "30", "--out", "runs/a").output
    shown = [line for line in text.splitlines() if line.startswith("learning (q-learning): ")]
    assert [int(line.split()[2].split("/")[0]) for line in shown] == [0, *range(3, 31, 3)]
    assert "mean return" in shown[-1]


@pytest.mark.parametrize("option", ["--steps", "--num-envs", "--group-size"])
def test_a_number_below_one_is_refused_though_it_may_be_left_out(option: str) -> None:
    result = CliRunner().invoke(app, ["train", option, "0", "--out", "runs/a"])
    assert f"{option} must be >= 1, got 0" in str(result.exception)
    assert not Path("runs/a").exists()


def test_a_policy_is_learned_without_groups_of_features_and_the_run_goes_on_so() -> None:
    size = [*MANY, "--memory", "2", "--without", "validation,best"]
    train("--agent", "ppo", *size, "--steps", "10", "--out", "runs/a")
    train("--out", "runs/a", "--resume", "--steps", "20")
    assert json.loads(Path("runs/a/config.json").read_text())["without"] == ["validation", "best"]
    policy: Any = load_policy("runs/a/policy.safetensors")
    assert policy.memory == 2
    assert not {"val_vs_best", "no_validation", "since_best", "lr_vs_best"} & set(policy.feature_names)
    assert {"progress", "train_vs_best", "lr_vs_start"} <= set(policy.feature_names)


def test_the_help_names_every_agent_and_every_group_of_features() -> None:
    words = re.findall(r"[a-z-]+", train("--help").output)
    assert set(AGENTS) | set(FEATURE_GROUPS) <= set(words)


@pytest.mark.parametrize("fails", [False, True])
def test_processes_of_the_environment_end_before_the_judgement(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []

    def fit(learner: Learner, *_: object) -> None:
        running.append(len(active_children()))
        if fails:
            raise KeyboardInterrupt

    def judged(*_: object) -> None:
        running.append(len(active_children()))
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "fit", fit)
    monkeypatch.setattr(judging, "judge", judged)
    size = [*SMALL, "--num-envs", "4", "--workers", "2"]
    train("--agent", "ppo", *size, "--out", "runs/a", code=130)
    assert running == ([2] if fails else [2, 0])
    assert not active_children()


@pytest.mark.parametrize("text", ["{", "[1, 2]"])
def test_a_damaged_config_is_named(text: str) -> None:
    train("--agent", "sarsa", *SMALL, "--steps", "10", "--out", "runs/a")
    Path("runs/a/config.json").write_text(text)
    result = CliRunner().invoke(app, ["train", "--out", "runs/a", "--resume"])
    assert "config.json is damaged" in str(result.exception)


def test_a_continued_run_cannot_be_asked_for_fewer_steps() -> None:
    train("--agent", "sarsa", *SMALL, "--steps", "20", "--out", "runs/a")
    result = CliRunner().invoke(app, ["train", "--out", "runs/a", "--resume", "--steps", "10"])
    assert "asked for 20 steps" in str(result.exception)


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "fit", interrupted)
    result = train("--agent", "sarsa", *SMALL, "--out", "runs/a", code=130)
    assert "rl-tuner train --out runs/a --resume" in result.output


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_policy_byte_for_byte() -> None:
    options = ["--agent", "q-learning", *SMALL, "--steps", "700", "--checkpoint-every", "0.2"]
    train(*options, "--out", "whole/run")
    process = start(*options, "--out", "cut/run")
    checkpoint = Path("cut/run/checkpoint.pt")

    def past_warmup() -> bool:
        return checkpoint.is_file() and read_checkpoint(checkpoint, ["agent"])["agent"]["steps"] > 500

    wait_for(past_warmup, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("cut/run/policy.safetensors").exists()
    resumed = train("--out", "cut/run", "--resume")
    (line,) = [line for line in resumed.output.splitlines() if line.startswith("continuing at")]
    assert int(line.split()[2]) > 500
    assert (
        Path("cut/run/policy.safetensors").read_bytes() == Path("whole/run/policy.safetensors").read_bytes()
    )


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["q-learning", "ppo"])
def test_a_killed_run_of_many_jobs_goes_on_from_its_checkpoint(agent: str) -> None:
    options = ["--agent", agent, *MANY, "--steps", "1300", "--checkpoint-every", "0.2"]
    process = start(*options, "--out", "cut/run")
    checkpoint = Path("cut/run/checkpoint.pt")

    def well_begun() -> bool:
        return checkpoint.is_file() and read_checkpoint(checkpoint, ["agent"])["agent"]["steps"] > 500

    wait_for(well_begun, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("cut/run/policy.safetensors").exists()
    kept = read_checkpoint(checkpoint, ["agent"])["agent"]["steps"]
    shutil.copytree("cut", "copy")
    resumed = train("--out", "cut/run", "--resume")
    assert f"continuing at {kept} of 1300 steps" in resumed.output
    train("--out", "copy/run", "--resume")
    for name in ("config.json", "policy.safetensors"):
        assert Path("cut/run", name).read_bytes() == Path("copy/run", name).read_bytes()


def test_a_real_ctrl_c_ends_with_code_130_and_no_traceback() -> None:
    options = ["--agent", "sarsa", *SMALL, "--steps", "1000000", "--checkpoint-every", "0.2"]
    process = start(*options, "--out", "runs/a")
    wait_for(Path("runs/a/checkpoint.pt").is_file, process)  # it learns: nothing is being imported any more
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_every_agent_trains_on_the_quick_suite() -> None:
    for agent in ("ppo", "q-learning", "sarsa"):
        found = json.loads(
            train("--agent", agent, "--steps", "60", "--eval-jobs", "2", "--out", agent, "--json").stdout
        )
        assert found["steps"] >= 60
        assert all(abs(value) < 100 for value in found["validation"]["returns"]["trained"])
        assert LearningConfig(agent=agent).suite == "quick"
