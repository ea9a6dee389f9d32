"""The command line: help, errors in one line, quick imports, and one JSON object on stdout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import typer

from rl_tuner import __version__
from rl_tuner.cli import app, main
from rl_tuner.envs.suites import SUITES
from rl_tuner.rewards import REWARDS
from tests.conftest import ROOT
from tests.tiny import TINY

COMMANDS = ("train", "apply", "compare", "inspect", "list", "bench")
HEAVY = ("torch", "gymnasium", "stable_baselines3", "matplotlib", "sklearn", "pandas", "scipy")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command line in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["rl-tuner", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, command, "--help") == 0
    out, err = capsys.readouterr()
    assert f"rl-tuner {command}" in out
    assert "--help" in out
    assert max(map(len, out.splitlines())) <= 80
    assert err == ""


def test_the_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(f" {command} " in out for command in COMMANDS)


def test_version_is_printed_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    "code",
    [
        "import rl_tuner, rl_tuner.agents",
        "import sys; sys.argv = ['rl-tuner', '--help']\n"
        "from rl_tuner.cli import app, main\n"
        "try: main()\n"
        "except SystemExit: pass",
    ],
    ids=["import", "help"],
)
def test_importing_and_asking_for_help_load_nothing_heavy(code: str) -> None:
    report = "import sys; print('loaded:', *[name for name in sys.modules if name in sys.argv_heavy])"
    script = f"{code}\nimport sys; sys.argv_heavy = {HEAVY!r}\n{report}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ["nope"]),
        (["train", "--agent", "dqn"], ["'dqn'", "q-learning"]),
        (["train", "--suite", "slow"], ["'slow'", "quick"]),
        (["train", "--steps", "0"], ["steps", ">= 1"]),
        (["train", "--steps", "many"], ["--steps"]),
        (["train", "--stepz", "3"], ["--stepz", "--steps"]),
        (["train", "--agent", "sarsa", "--actions", "continuous"], ["discrete"]),
        (["train", "--hyperparameters", "lr,beta"], ["'beta'", "weight_decay"]),
        (["train", "--checkpoint-every", "-1"], ["--checkpoint-every", ">= 0"]),
        (["train", "--seed", "-1"], ["seed", ">= 0"]),
        (["train", "--resume", "--out", "nothing"], ["nothing", "--resume"]),
        (["inspect", "nope"], ["'nope'", "cosine"]),
        (["inspect", "cosine", "--jobs", "-1"], ["--jobs", ">= 0"]),
        (["inspect"], ["NAME|PATH"]),
        (["list", "--colours"], ["--colours"]),
        (["compare", "nope"], ["nope"]),
        (["apply", "nope.csv", "--target", "y"], [""]),
        (["bench", "nope"], ["nope"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words)


def test_bad_input_leaves_no_run_folder_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pathlib import Path

    for bad in (["--steps", "0"], ["--reward", "x"], ["--checkpoint-every", "-1"], ["--resume"]):
        assert run(monkeypatch, "train", *bad) == 2
    assert list(Path().iterdir()) == []


def test_a_bad_input_in_a_process_of_its_own_shows_no_traceback() -> None:
    script = "from rl_tuner.cli import app, main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "inspect", "nope"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no policy 'nope'")
    assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:.*nothing was learned yet")  # 20 steps are fewer than the warm-up
@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--json"],
        ["inspect", "cosine", "--json"],
        ["train", "--agent", "q-learning", "--suite", "tiny", "--steps", "20", "--eval-jobs", "2", "--json"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_json_is_one_object_and_all_there_is_on_stdout(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    assert run(monkeypatch, *arguments) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)


@pytest.mark.parametrize("file", ["README.md", "Makefile"])
def test_every_option_that_the_documents_use_exists(file: str) -> None:
    text = (ROOT / file).read_text().replace("\\\n", " ")
    found = re.findall(
        r"^[^#\n]*?rl-tuner (train|apply|search|compare|inspect|list|bench)\b([^#\n]*)", text, re.MULTILINE
    )
    assert found
    group: Any = typer.main.get_command(app)
    for name, rest in found:
        command: Any = group.commands[name]
        part = rest.split(maxsplit=1)[0] if hasattr(command, "commands") and rest.strip() else ""
        if part and not part.startswith("-"):  # such as `rl-tuner bench env`
            command = command.commands[part]
        known = {o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)}
        used = set(re.findall(r" (--[a-z][a-z-]*)", rest))
        assert used <= known, f"{file}: rl-tuner {name} {part} has no {', '.join(used - known)}"


def test_the_help_of_train_names_every_reward() -> None:
    group: Any = typer.main.get_command(app)
    (option,) = [p for p in group.commands["train"].params if p.name == "reward"]
    assert re.findall(r"\w+_improvement", option.help) == list(REWARDS)


def test_a_paragraph_of_the_help_is_wrapped_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(monkeypatch, "compare", "--help")
    said = capsys.readouterr().out.split("Arguments")[0].splitlines()
    lines = [line.strip() for line in said if line.strip()]
    (start,) = [i for i, line in enumerate(lines) if line.startswith("The baseline")]
    assert all(len(line) > 60 for line in lines[start:-2])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "x/results.json"), "x/results.json: No space left on device"),
        (OSError("the network is gone"), "the network is gone"),
    ],
)
def test_a_failure_of_the_system_is_one_line_and_exit_code_1(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("rl_tuner.policy_file.load_policy", fail)
    assert run(monkeypatch, "inspect", "cosine") == 1
    assert capsys.readouterr() == ("", f"error: {line}\n")
