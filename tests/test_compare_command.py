from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rl_tuner import chunks, cli, report_page, static_setting
from rl_tuner.config import to_dict
from rl_tuner.envs import suites
from rl_tuner.envs.suites import Mixture
from rl_tuner.errors import ConfigError
from rl_tuner.policy_file import save_policy
from rl_tuner.results import Row
from rl_tuner.row_store import RowStore
from tests.comparing import add_suite
from tests.learned_policies import network
from tests.tiny import TINY as SUITE

TINY = ["--suite", "tiny", "--jobs", "2", "--seeds", "2"]


@pytest.fixture
def drawn() -> None:
    """For tests that want the report and its figures, which take longer than all else."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    add_suite(monkeypatch)
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(report_page, "write_report", lambda *given: [given[-1] / "report.html"])


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
    assert "tensorboard --logdir x/tensorboard" in result.stdout


def test_a_narrow_terminal_loses_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    stdout = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", invoke("cosine", "plateau", *TINY, "--out", "x").stdout)
    table = stdout.split("Scores are")[0].split("method  ", 1)[1]
    for word in ("constant", "cosine", "plateau", "accuracy", "rescues", "no difference"):
        assert f" {word} " in table
    assert "…" not in table


def test_in_eighty_columns_no_line_of_the_table_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    stdout = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", invoke("cosine", "random@2", *TINY, "--out", "x").stdout)
    below = stdout.split("suite tiny")[1].split("\n", 1)[1]
    assert max(len(line) for line in below.splitlines()) <= 80
    for word in ("score", "k*", "rescues", "validation"):
        assert word in below


def test_what_a_search_may_use_more_than_the_others_is_said_above_the_table() -> None:
    stdout = invoke("random@2", "tpe/2", *TINY, "--out", "x").stdout
    budget = sum(row["job_budget"] for row in results()["rows"] if row["method"] == "constant")
    assert f"{budget:,} training samples a method; 2 times that for random@2\n" in stdout


def test_where_jobs_are_new_in_several_respects_each_has_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = SUITE.family("test").parts
    parts = (replace(part, unseen=("dataset",)), replace(part, unseen=("horizon",), budget=(210, 230)))
    mixed = replace(SUITE, splits={**SUITE.splits, "test": Mixture(parts)})
    monkeypatch.setitem(suites.SUITES, "tiny", mixed)
    options = ["--suite", "tiny", "--jobs", "4", "--seeds", "1", "--out", "x"]
    stdout = invoke("cosine", "random@2", *options).stdout
    below = stdout.split("Score (IQM) and k* by what is new in a job:")[1]
    assert {found["unseen"][0] for found in results()["job_specs"]} == {"dataset", "horizon"}
    counted = {found["kind"]: found["jobs"] for found in results()["analysis"]["kinds"]}
    assert sum(counted.values()) == 4
    assert re.search(r"\n +dataset +horizon", below)
    assert re.search(rf"\({counted['dataset']} jobs?\) +\({counted['horizon']} jobs?\)", below)
    assert Path("x/kinds.csv").is_file()
    only = invoke("cosine", *options[:-1], "y", "--unseen", "dataset").stdout
    assert "what is new in a job" not in only
    assert "what is new in a job" not in invoke("cosine", *TINY, "--out", "z", "--split", "train").stdout


def test_the_table_says_what_the_results_say() -> None:
    stdout = invoke("cosine", *TINY, "--out", "x").stdout
    baseline, cosine = results()["methods"]
    figures = results()["analysis"]["methods"][1]
    line = next(line for line in stdout.splitlines() if line.lstrip().startswith("cosine"))
    assert f" {cosine['median_test_loss']['mean']:.3g} " in line
    assert f"{figures['iqm']['mean']:.3f}" in line
    assert f"{figures['difference']['constant']['mean']:+.3f}" in line
    assert f"{cosine['samples']:,}" in line
    assert figures["verdicts"]["constant"] in stdout
    assert baseline["method"] == "constant"


def test_a_run_leaves_report_figures_tables_rows_results_and_a_tensorboard_run_each(drawn: None) -> None:
    stdout = invoke("cosine", *TINY, "--out", "x").stdout
    assert re.search(r"^figures  beside it: [\w., \n]*\btest_loss\.png", stdout, re.MULTILINE)
    assert max(map(len, stdout.splitlines())) <= 100
    expected = {
        "config.json",
        "versions.json",
        "results.json",
        "results.sqlite",
        "report.html",
        "tensorboard",
    }
    expected |= {"rows.csv", "summary.csv", "methods.csv", "analysis.json", "tables.md"}
    assert {path.name for path in Path("x").iterdir() if path.suffix != ".png"} == expected
    found = results()
    figures = {path.name for path in Path("x").glob("*.png")}
    assert {"test_loss.png", "anytime.png", "hyperparameters.png", "scores.png", "profiles.png"} <= figures
    assert {Path(path).name for path in found["figures"]} == figures
    assert len(found["rows"]) == len(list(Path("x/tensorboard").glob("*/*-*/events*"))) == 8
    assert len(list(Path("x/tensorboard").glob("*/summary/events*"))) == 2
    assert len(found["job_specs"]) == 2
    assert {row["budget"] == row["samples"] for row in found["rows"]} == {True}


def test_json_is_one_object_on_stdout_and_nothing_else() -> None:
    result = invoke("constant", *TINY, "--out", "x", "--json")
    assert json.loads(result.stdout) == results()
    assert "training samples a method" in result.stderr


def test_better_is_printed_only_where_an_interval_says_so() -> None:
    result = invoke("cosine", "plateau", "hypergradient", *TINY, "--out", "x")
    table = result.stdout.split("Scores are normalized")[0]
    methods = results()["analysis"]["methods"]
    words = [method["verdicts"].get("constant") for method in methods]
    for word in ("better", "worse", "no difference shown"):
        assert table.count(word) == words.count(word)
    for method in methods:
        for other, word in method["verdicts"].items():
            difference = method["difference"][other]
            if word in ("better", "worse"):
                assert difference["low"] > 0 if word == "better" else difference["high"] < 0


def test_the_same_command_gives_the_same_figures_and_another_seed_others() -> None:
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        invoke("cosine", *TINY, "--out", out, "--seed", seed)
    a, b, c = (results(out)["methods"] for out in "abc")
    assert a == b != c


def stored(out: str = "x") -> dict[tuple[str, int, int], Row]:
    with RowStore(Path(out, "results.sqlite")) as store:
        return {row.key: row for row in store.rows()}


class Stop:
    """Raises instead of writing a row, from the nth one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.add, self.left = RowStore.add, after
        monkeypatch.setattr(RowStore, "add", lambda store, row: self(store, row))

    def __call__(self, store: RowStore, row: Row) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.add(store, row)


def refuse(*_: Any) -> None:
    raise AssertionError("nothing is left to run")


def untimed(out: str) -> list[dict[str, Any]]:
    """The rows of the results, but for how long they took."""
    return [{name: v for name, v in row.items() if name != "seconds"} for row in results(out)["rows"]]


def table_of(stdout: str) -> list[str]:
    return [line for line in stdout.splitlines() if line.startswith(" ")]


def test_an_interrupted_run_is_resumed_and_ends_with_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invoke("cosine", *TINY, "--out", "whole")
    with monkeypatch.context() as patch:
        Stop(patch, after=3)
        stopped = invoke("cosine", *TINY, "--out", "x")
    assert stopped.exit_code == 130
    assert "--out x --resume" in stopped.stdout
    assert len(stored()) == 3
    resumed = invoke("cosine", *TINY, "--out", "x", "--resume")
    assert "continuing at 3 of 8 runs" in resumed.stdout
    assert table_of(resumed.stdout) == table_of(whole.stdout)
    assert untimed("x") == untimed("whole")
    for table in ("summary.csv", "tables.md"):
        assert Path("x", table).read_text() == Path("whole", table).read_text()


def test_a_finished_run_is_resumed_without_running_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    before = invoke("cosine", *TINY, "--out", "x")
    monkeypatch.setattr(chunks, "run_together", refuse)
    after = invoke("cosine", *TINY, "--out", "x", "--resume")
    assert table_of(after.stdout) == table_of(before.stdout)


def test_a_run_is_resumed_with_more_seeds_or_shown_with_fewer() -> None:
    invoke("cosine", *TINY, "--out", "x")
    first = stored()
    more = invoke("cosine", *TINY[:-1], "3", "--out", "x", "--resume")
    assert "continuing at 8 of 12 runs" in more.stdout
    again = stored()
    assert set(first) < set(again)
    assert all(again[key] == row for key, row in first.items())
    assert len(again) == 12
    invoke("cosine", *TINY[:-1], "1", "--out", "x", "--resume")
    assert len(results()["rows"]) == 4


def test_a_run_is_resumed_with_more_methods() -> None:
    invoke("cosine", *TINY, "--out", "x")
    first = stored()
    more = invoke("plateau", "random@2", "cosine", *TINY, "--out", "x", "--resume")
    assert "continuing at 8 of 16 runs" in more.stdout
    again = stored()
    assert all(again[key] == row for key, row in first.items())
    assert {key[0] for key in again} == {"constant", "cosine", "plateau", "random@2"}
    invoke("plateau", "random@2", "cosine", *TINY, "--out", "whole")
    for row, other in zip(results("x")["rows"], results("whole")["rows"], strict=True):
        assert row["method"] == other["method"]
        assert row["test_loss"] == pytest.approx(other["test_loss"], rel=1e-3)
    with pytest.raises(ConfigError, match=r"has methods\.plateau = 'plateau', not None"):
        invoke("cosine", *TINY, "--out", "x", "--resume")


def test_another_comparison_is_not_resumed_nor_an_existing_one_overwritten() -> None:
    invoke("cosine", *TINY, "--out", "x")
    with pytest.raises(ConfigError, match="x exists: give --resume"):
        invoke("cosine", *TINY, "--out", "x")
    with pytest.raises(ConfigError, match=r"has methods\.cosine = 'cosine', not None"):
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
        (("cosin",), ConfigError, r"unknown method or policy file 'cosin' \(did you mean 'cosine'\?\)"),
        (("cosine", "--suite", "quik"), ConfigError, "unknown suite 'quik'"),
        (("cosine", "--split", "tests"), ConfigError, "unknown split 'tests'"),
        (("cosine", "--jobs", "0"), ConfigError, "jobs must be >= 1, got 0"),
        (("cosine", "--workers", "0"), ConfigError, "--workers must be >= 1, got 0"),
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
    assert done.stderr.startswith(
        "error: unknown method or policy file 'cosin' (did you mean 'cosine'?): choose from"
    )
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


def test_static_with_an_option_is_chosen_though_static_itself_is_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = static_setting.GRID[1]
    monkeypatch.setattr(static_setting, "choose_static", lambda *_: setting)
    invoke("static+averaging", *TINY, "--out", "x")
    assert json.loads(Path("x/static.json").read_text()) == to_dict(setting)
    assert {row["method"] for row in results()["rows"]} == {"constant", "static+averaging"}


def test_a_search_an_optimizer_and_the_static_setting_stand_in_one_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(static_setting, "JOBS", 2)
    result = invoke("random@2", "tpe/2", "prodigy", "static", *TINY, "--out", "x", "--seed", "3")
    assert "k*" in result.stdout
    rows = results()["rows"]
    assert {row["method"] for row in rows} == {"constant", "random@2", "tpe/2", "prodigy", "static"}
    for row in rows:
        assert row["budget"] == row["job_budget"] * (2 if row["method"] == "random@2" else 1)
    setting = json.loads(Path("x/static.json").read_text())
    assert results()["static"] == setting
    assert "choosing the static setting: 152/152 trials" in result.stdout
    again = invoke("random@2", "tpe/2", "prodigy", "static", *TINY, "--out", "x", "--seed", "3", "--resume")
    assert "choosing" not in again.stdout
    assert table_of(again.stdout) == table_of(result.stdout)
    folders = {path.name for path in Path("x/tensorboard").iterdir()}
    assert folders == {"constant", "random@2", "tpe-shared-2", "prodigy", "static"}


def test_a_policys_controls_run_beside_it_unless_they_are_not_wanted() -> None:
    path = str(save_policy(network(), "p.safetensors"))
    invoke(path, *TINY, "--out", "x")
    names = [method["method"] for method in results()["methods"]]
    assert names == ["constant", "sample", "sample-untrained", "sample-blind", "sample-replay"]
    invoke(path, *TINY, "--out", "y", "--no-controls")
    assert [method["method"] for method in results("y")["methods"]] == ["constant", "sample"]
    with pytest.raises(ConfigError, match=r"has controls = True, not False"):
        invoke(path, *TINY, "--out", "x", "--resume", "--no-controls")


def test_the_report_is_told_how_to_run_the_comparison_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def write_report(comparison: Any, analysis: Any, provenance: dict[str, Any], folder: Path) -> list[Path]:
        told.append(provenance["command"])
        return [folder / "report.html"]

    monkeypatch.setattr(report_page, "write_report", write_report)
    invoke("cosine", "random@2", *TINY, "--out", "x")
    again = "cosine random@2 --suite tiny --split test --jobs 2 --seeds 2 --seed 0 --no-controls"
    assert told == [f"rl-tuner compare {again}"]


def test_a_policy_named_as_anothers_control_is_refused_before_anything_is_run() -> None:
    policies = [network(), network(seed=1)]
    policies[1].provenance = {**policies[1].provenance, "name": "sample-blind"}
    paths = [str(save_policy(policy, f"{i}.safetensors")) for i, policy in enumerate(policies)]
    with pytest.raises(ConfigError, match=r"'sample-blind' is the name .* give --no-controls"):
        invoke(*paths, *TINY, "--out", "x")
    assert not Path("x").exists()
