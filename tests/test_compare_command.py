from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rl_tuner import cli, comparison
from rl_tuner.errors import ConfigError, PolicyError
from rl_tuner.results import Row
from tests.comparing import add_suite

TINY = ["--suite", "tiny", "--jobs", "2", "--seeds", "2"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["compare", *arguments], catch_exceptions=False)


def results(out: str = "x") -> Any:
    return json.loads(Path(out, "results.json").read_text())


def test_the_table_names_every_method_and_fits_a_hundred_columns() -> None:
    result = invoke("cosine", "--methods", "plateau", *TINY, "--out", "x")
    assert result.exit_code == 0
    assert "2 jobs, 2 seeds each" in result.stdout
    for method in ("constant", "cosine", "plateau"):
        assert f" {method} " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "x/test_loss.png" in result.stdout
    assert "tensorboard --logdir x/tensorboard" in result.stdout


def test_a_narrow_terminal_loses_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    stdout = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", invoke("cosine", "plateau", *TINY, "--out", "x").stdout)
    for word in ("constant", "cosine", "plateau", "accuracy", "rescues", "no difference shown"):
        assert f" {word} " in stdout
    assert "…" not in stdout.split("Means with")[0].split("method  ")[1]


def test_the_table_says_what_the_results_say() -> None:
    stdout = invoke("cosine", *TINY, "--out", "x").stdout
    baseline, cosine = results()["methods"]
    line = next(line for line in stdout.splitlines() if line.lstrip().startswith("cosine"))
    assert f"{cosine['test_loss']['mean']:.3g} ±" in line
    assert f"{cosine['val_samples']:,}" in line
    assert baseline["verdict"] == ""
    assert cosine["verdict"] in stdout


def test_a_run_leaves_figures_tables_rows_results_and_a_tensorboard_run_each() -> None:
    invoke("cosine", *TINY, "--out", "x")
    expected = {"config.json", "versions.json", "results.json", "rows.jsonl", "rows.csv", "summary.csv"}
    expected |= {"test_loss.png", "anytime.png", "hyperparameters.png", "tensorboard"}
    assert {path.name for path in Path("x").iterdir()} == expected
    found = results()
    assert len(found["rows"]) == len(list(Path("x/tensorboard").glob("*/*/events*"))) == 8
    assert len(found["job_specs"]) == 2
    assert {row["budget"] == row["samples"] for row in found["rows"]} == {True}


def test_json_is_one_object_on_stdout_and_nothing_else() -> None:
    result = invoke("constant", *TINY, "--out", "x", "--json")
    assert json.loads(result.stdout) == results()
    assert "training samples a method" in result.stderr


def test_better_is_printed_only_where_an_interval_says_so() -> None:
    result = invoke("cosine", "plateau", "constant", *TINY, "--out", "x")
    table = result.stdout.split("Means with")[0]
    words = [m["verdict"] for m in results()["methods"]]
    assert table.count("better") == words.count("better")
    for method in results()["methods"]:
        ratio = method["log_ratio"]
        if method["verdict"] in ("better", "worse"):
            assert ratio["low"] > 0 or ratio["high"] < 0


def test_the_same_command_gives_the_same_figures_and_another_seed_others() -> None:
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        invoke("cosine", *TINY, "--out", out, "--seed", seed)
    a, b, c = (results(out)["methods"] for out in "abc")
    assert a == b != c


class Stop:
    """Raises instead of running anything, from the nth run on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.run, self.left = comparison.run_episode, after
        monkeypatch.setattr(comparison, "run_episode", self)

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.run(*arguments)


def table_of(stdout: str) -> list[str]:
    return [line for line in stdout.splitlines() if line.startswith(" ")]


def test_an_interrupted_run_is_resumed_and_ends_with_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invoke("cosine", *TINY, "--out", "whole")
    with monkeypatch.context() as patch:
        Stop(patch, after=3)
        stopped = invoke("cosine", *TINY, "--out", "x")
    assert stopped.exit_code == 130
    assert "--out x --resume" in stopped.stdout
    path = Path("x/rows.jsonl")
    assert len(path.read_text().splitlines()) == 3
    path.write_bytes(path.read_bytes()[:-20])  # and the last line was only half written
    resumed = invoke("cosine", *TINY, "--out", "x", "--resume")
    assert "continuing at 2 of 8 runs" in resumed.stdout
    assert table_of(resumed.stdout) == table_of(whole.stdout)
    assert results("x")["rows"] == results("whole")["rows"]
    assert Path("x/summary.csv").read_text() == Path("whole/summary.csv").read_text()


def test_a_finished_run_is_resumed_without_running_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    before = invoke("cosine", *TINY, "--out", "x")
    Stop(monkeypatch, after=0)
    after = invoke("cosine", *TINY, "--out", "x", "--resume")
    assert table_of(after.stdout) == table_of(before.stdout)


def test_a_run_is_resumed_with_more_seeds_or_shown_with_fewer() -> None:
    invoke("cosine", *TINY, "--out", "x")
    first = [Row.from_dict(json.loads(line)) for line in Path("x/rows.jsonl").read_text().splitlines()]
    more = invoke("cosine", *TINY[:-1], "3", "--out", "x", "--resume")
    assert "continuing at 8 of 12 runs" in more.stdout
    again = [Row.from_dict(json.loads(line)) for line in Path("x/rows.jsonl").read_text().splitlines()]
    assert again[:8] == first
    assert len(again) == 12
    invoke("cosine", *TINY[:-1], "1", "--out", "x", "--resume")
    assert len(results()["rows"]) == 4


def test_another_comparison_is_not_resumed_nor_an_existing_one_overwritten() -> None:
    invoke("cosine", *TINY, "--out", "x")
    with pytest.raises(ConfigError, match="x exists: give --resume"):
        invoke("cosine", *TINY, "--out", "x")
    with pytest.raises(ConfigError, match="has methods = "):
        invoke("plateau", *TINY, "--out", "x", "--resume")
    with pytest.raises(ConfigError, match="has seed = 0, not 1"):
        invoke("cosine", *TINY, "--out", "x", "--resume", "--seed", "1")


def test_resume_needs_the_folder() -> None:
    with pytest.raises(ConfigError, match="--resume needs --out"):
        invoke("cosine", *TINY, "--resume")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), ConfigError, "no methods to compare"),
        (("cosin",), PolicyError, "no policy 'cosin'"),
        (("cosine", "--suite", "quik"), ConfigError, "unknown suite 'quik'"),
        (("cosine", "--split", "tests"), ConfigError, "unknown split 'tests'"),
        (("cosine", "--jobs", "0"), ConfigError, "jobs must be >= 1, got 0"),
        (("cosine", "--seeds", "0"), ConfigError, "seeds must be >= 1, got 0"),
        (("cosine", "--seed", "-1"), ConfigError, "seed must be an integer >= 0, got -1"),
    ],
)
def test_a_wrong_setting_is_refused_before_a_folder_is_made(
    arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        invoke(*arguments, "--out", "x")
    assert not Path("x").exists()


def test_runs_go_below_runs_where_no_folder_is_named() -> None:
    invoke("constant", "--suite", "tiny", "--jobs", "1", "--seeds", "1")
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("compare-")


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rl_tuner.cli import main; main()", "compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_from_a_shell_an_unknown_method_is_one_line_and_exit_code_2() -> None:
    done = shell("cosin")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no policy 'cosin': neither a file nor one of")
    assert done.stderr.count("\n") == 1


def test_from_a_shell_json_can_be_piped_into_another_program() -> None:
    done = shell("constant", "--jobs", "1", "--seeds", "1", "--out", "x", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert [m["method"] for m in found["methods"]] == ["constant"]
    assert "1/1" in done.stderr


def test_only_jobs_that_are_new_in_one_thing_are_compared() -> None:
    chosen = ("--suite", "tabular", "--unseen", "optimizer", "--jobs", "2", "--seeds", "1", "--out", "x")
    result = invoke("constant", *chosen)
    assert "split test, new in optimizer: 2 jobs" in result.stdout
    assert [spec["unseen"] for spec in results()["job_specs"]] == [["optimizer"], ["optimizer"]]
