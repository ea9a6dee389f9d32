"""``rl-tuner search``, and ``rl-tuner apply --setting``, as a person meets them."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_wine

from rl_tuner.applying import prepare
from rl_tuner.commands.data_options import as_arguments
from rl_tuner.errors import ConfigError
from rl_tuner.user_jobs import ApplyConfig, build_job
from tests.command_lines import Run, runner

COMMAND = [sys.executable, "-c", "from rl_tuner.cli import main; main()"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""
    return runner(monkeypatch, capsys)


@pytest.fixture
def wine() -> str:
    frame = load_wine(as_frame=True)
    frame.data.assign(cultivar=[f"c{i}" for i in frame.target]).to_csv("wine table.csv", index=False)
    return "wine table.csv"


QUICK = ("--target", "cultivar", "--epochs", "2", "--model", "mlp-8")
SEARCH = ("--sampler", "random", "--trials", "5")


def results(folder: str = "x") -> Any:
    return json.loads(Path(folder, "results.json").read_text())


# Searching.


def test_a_search_ends_with_the_best_setting_its_scores_and_where_everything_lies(
    run: Run, wine: str
) -> None:
    done = run("search", wine, *QUICK, *SEARCH, "--out", "x")
    assert done.code == 0
    best = results()["best"]
    for name, value in best["setting"]["start"].items():
        line = next(line for line in done.out.splitlines() if line.startswith(f"  {name} "))
        assert line.split()[1] == f"{value:.4g}"
    assert f"  schedule      {best['setting']['schedule']}" in done.out
    assert f"test: loss {best['test']['loss']:.4g}, accuracy {best['test']['accuracy']:.4g}" in done.out
    assert "5 trials, 1,060 training samples" in done.out
    assert "1060/1060" in done.out  # the progress reaches the end of the budget
    for written in ("x/trials.csv", "x/history.png", "x/importance.png", "x/best.json"):
        assert written in done.out
        assert Path(written).stat().st_size > 0
    assert "tensorboard --logdir x" in done.out
    with Path("x/trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5


def test_the_command_it_ends_with_trains_the_model_at_the_setting(run: Run, wine: str) -> None:
    out = run("search", wine, *QUICK, *SEARCH, "--out", "a folder").out
    line = next(line for line in out.splitlines() if line.startswith("use it"))
    words = shlex.split(line.removeprefix("use it"))
    assert words[:3] == ["rl-tuner", "apply", "wine table.csv"]
    applied = run(*words[1:], "--json", "--out", "applied")
    assert applied.code == 0, applied.err
    best = results("a folder")["best"]["setting"]
    found = json.loads(applied.out)
    assert found["policy"] == best["schedule"]
    start = {name: found["hyperparameters"][name]["start"] for name in ("lr",)}
    assert start["lr"] == best["start"]["lr"]
    config = json.loads(Path("applied/config.json").read_text())
    assert (config["model"], config["epochs"], config["policy"]) == ("mlp-8", 2.0, best["schedule"])


def test_json_is_one_object_on_stdout_and_all_else_goes_to_stderr(run: Run, wine: str) -> None:
    done = run("search", wine, *QUICK, *SEARCH, "--json", "--out", "x")
    assert json.loads(done.out) == {"run": "x", **results()}
    assert "searching wine table (random)" in done.err


def test_a_job_of_a_suite_is_the_one_that_a_comparison_draws(run: Run) -> None:
    from rl_tuner.comparison import draw_jobs
    from rl_tuner.config import to_dict

    done = run("search", "--suite", "quick", "--job", "1", *SEARCH, "--seed", "3", "--json")
    folder = "runs/search-quick-test-1-random-3"
    assert json.loads(done.out)["run"] == folder
    config = json.loads(Path(folder, "config.json").read_text())
    spec = to_dict(draw_jobs("quick", "test", 2, 3)[1])
    assert {name: config[name] for name in spec} == spec


def test_a_population_shows_how_its_hyperparameters_moved(run: Run, wine: str) -> None:
    done = run("search", wine, *QUICK, "--sampler", "pbt", "--trials", "6", "--out", "x")
    assert done.code == 0
    start = results()["best"]["setting"]["start"]
    ends = results()["records"][-1]["values"]
    line = next(line for line in done.out.splitlines() if line.startswith("  lr "))
    assert f"{start['lr']:.4g}" in line
    assert f"{ends['lr']:.4g}" in line
    assert "no importances" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the data to search on, or a --suite"),
        (["WINE", "--suite", "quick"], "one of the two"),
        (["--suite", "quick", "--epochs", "3"], "--epochs is for data of your own"),
        (["WINE", "--target", "cultivar", "--job", "1"], "--job is for a --suite"),
        (["--suite", "quick", "--job", "-1"], "--job must be >= 0, got -1"),
        (["WINE", "--target", "cultivar", "--sampler", "tpi"], "did you mean 'tpe'"),
        (["WINE", "--target", "cultivar", "--trials", "0"], "trials must be >= 1, got 0"),
        (["WINE", "--target", "cultivar", "--hyperparameters", "lr,droput"], "did you mean 'dropout'"),
        (["WINE", "--target", "cultivar", "--schedules", "cosin"], "did you mean 'cosine'"),
        (["WINE", "--target", "cultivar", "--sampler", "pbt", "--workers", "2"], "--workers must be 1"),
        (
            ["WINE", "--target", "cultivar", "--hyperparameters", ","],
            "--hyperparameters must be names such as",
        ),
        (["WINE", "--target", "cultivar", "--resume", "--out", "x"], "there is no run to resume in x"),
        (["missing.csv"], "missing.csv"),
    ],
)
def test_what_cannot_be_searched_is_one_clear_line(
    run: Run, wine: str, arguments: list[str], message: str
) -> None:
    done = run("search", *(wine if word == "WINE" else word for word in arguments))
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not Path("runs").exists()


def test_ctrl_c_is_one_line_that_says_how_to_go_on(
    run: Run, wine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rl_tuner.trials import TrialRunner

    advance, ended = TrialRunner.advance, list[int]()

    def press(runner: TrialRunner) -> list[int]:
        if len(ended) >= 4:  # in the second batch
            raise KeyboardInterrupt
        now = advance(runner)
        ended.extend(now)
        return now

    arguments = ("search", wine, *QUICK, "--trials", "6", "--out", "a folder")
    with monkeypatch.context() as patch:
        patch.setattr(TrialRunner, "advance", press)
        done = run(*arguments)
    assert done.code == 130
    line = done.out.splitlines()[-1]
    assert line == "interrupted; continue with the same command and --out 'a folder' --resume"
    assert run(*arguments, "--resume").code == 0
    assert len(results("a folder")["trials"]) == 6


def test_whole_numbers_stand_on_the_command_line_without_a_fraction() -> None:
    assert as_arguments(ApplyConfig("a.csv", epochs=10.0)) == "a.csv --epochs 10"
    assert as_arguments(ApplyConfig("a.csv", epochs=0.5)) == "a.csv --epochs 0.5"


def test_a_command_line_can_be_read_off_its_settings() -> None:
    config = ApplyConfig(
        "a b.csv", "y", hidden=(8, 4), size=(24, 32), impute=True, header=False, epochs=2.5, seed=3
    )
    words = shlex.split(as_arguments(config))
    assert words == [
        "a b.csv", "--target", "y", "--hidden", "8,4", "--epochs", "2.5", "--impute", "--seed", "3",
        "--no-header", "--size", "24x32",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_search_goes_on_and_loses_no_trial(run: Run, workers: str) -> None:
    Path("job.py").write_text(
        "import time, torch\nfrom rl_tuner.envs import TrainingJob\n"
        "class Slow(torch.nn.Linear):\n"
        "    def forward(self, x):\n        time.sleep(0.004)\n        return super().forward(x)\n"
        "def job():\n"
        "    x = torch.linspace(-1, 1, 96)[:, None]\n"
        "    data = (x, (x[:, 0] > 0).long())\n"
        "    return TrainingJob(Slow(1, 2), data, data, data, epochs=10)\n"
    )
    arguments = ["search", "job:job", "--trials", "10", "--workers", workers, "--out", "x"]
    with open("said.txt", "w") as said:
        process = subprocess.Popen([*COMMAND, *arguments], stdout=said, stderr=subprocess.STDOUT)
    before: set[str] = set()
    until = time.monotonic() + 120
    while len(before) < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
        before = ended_in("x/study.db")
    ended = process.poll()
    process.send_signal(signal.SIGKILL)
    process.wait()
    children_gone()
    before = ended_in("x/study.db")
    assert 2 <= len(before) < 10, f"exit status {ended}: {Path('said.txt').read_text()}"
    assert not Path("x/results.json").exists()
    done = run(*arguments, "--resume")
    assert done.code == 0, done.err
    assert before <= ended_in("x/study.db")
    found = results()
    assert len(found["trials"]) == 10
    assert found["samples"] == found["budget"] == 10 * 960
    if workers == "1":
        run(*arguments[:-1], "whole")
        assert results("whole")["trials"] == found["trials"]


def ended_in(path: str) -> set[str]:
    """What the ended trials in a database came to."""
    if not Path(path).exists():
        return set()
    connection = sqlite3.connect(path, timeout=30)  # not read-only: what a kill left half done is undone
    try:
        rows = connection.execute(
            "SELECT value_json FROM trial_user_attributes NATURAL JOIN trials WHERE key = 'outcome' "
            "AND state = 'COMPLETE'"
        )
        return {row[0] for row in rows}
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return set()
    finally:
        connection.close()


def children_gone() -> None:
    """Waits until no worker of the killed process is left in this folder."""
    here, until = os.getcwd(), time.monotonic() + 30
    while time.monotonic() < until:
        folders = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                folders.append((int(process.name), os.readlink(process / "cwd")))
            except OSError:
                continue
        if not any(folder == here and number != os.getpid() for number, folder in folders):
            return
        time.sleep(0.1)
    pytest.fail("workers outlive the process that began them")


# Handing a setting on.


SETTING = {
    "start": {"lr": 0.02, "batch_size": 32.0, "weight_decay": 0.001, "dropout": 0.25, "momentum": 0.8},
    "schedule": "cosine",
    "options": {},
}


def write_setting(**changes: Any) -> str:
    Path("best.json").write_text(json.dumps({**SETTING, **changes}))
    return "best.json"


def test_a_setting_gives_start_values_and_the_schedule(wine: str) -> None:
    application = prepare(ApplyConfig(wine, "cultivar", setting=write_setting()))
    assert application.job.start == SETTING["start"]
    assert application.policy.name == "cosine"
    assert application.config.policy == "cosine"
    assert application.env.engine.trainee.read()["dropout"] == 0.25
    assert application.metadata.architecture["dropout"] == 0.25


def test_what_is_given_besides_a_setting_wins(wine: str) -> None:
    config = ApplyConfig(wine, "cultivar", setting=write_setting(), lr=0.5, dropout=0.0, policy="constant")
    application = prepare(config)
    assert application.policy.name == "constant"
    assert application.job.start == {**SETTING["start"], "lr": 0.5, "dropout": 0.0}  # type: ignore[dict-item]


def test_a_schedules_own_parameters_come_with_the_setting(wine: str) -> None:
    setting = write_setting(options={"floor": 0.5})
    own = prepare(ApplyConfig(wine, "cultivar", setting=setting))
    usual = prepare(ApplyConfig(wine, "cultivar", setting=setting, policy="cosine"))
    observation = own.env.course.observation()
    observation[own.policy.feature_names.index("progress")] = 1.0
    reach = own.policy.space.hyperparameters[0].reach
    ends = [math.exp(reach * float(each.policy.act(observation)[0])) for each in (own, usual)]
    assert ends == pytest.approx([0.5, ends[1]], rel=1e-3)
    assert ends[1] < 0.01


def test_a_users_own_job_takes_a_setting_too() -> None:
    Path("own_setting.py").write_text(
        "import torch\nfrom rl_tuner.envs import TrainingJob\n"
        "def job():\n"
        "    data = (torch.linspace(-1, 1, 64)[:, None], (torch.linspace(-1, 1, 64) > 0).long())\n"
        "    model = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Dropout(0.5))\n"
        "    return TrainingJob(model, data, data, start={'lr': 1.0})\n"
    )
    application = prepare(ApplyConfig("own_setting:job", setting=write_setting(), lr=0.5))
    values = application.env.engine.trainee.read()
    assert (values["lr"], values["dropout"]) == (0.5, 0.25)
    assert application.env.engine.sampler.batch_size == 32


def test_a_model_that_a_users_function_builds_at_once_has_the_seeds_weights(untouched_rng: None) -> None:
    """Each worker of a search calls the function: all must train the same network."""
    Path("own_weights.py").write_text(
        "import torch\nfrom rl_tuner.envs import TrainingJob\n"
        "def job():\n"
        "    data = (torch.linspace(-1, 1, 64)[:, None], (torch.linspace(-1, 1, 64) > 0).long())\n"
        "    return TrainingJob(torch.nn.Linear(1, 2), data, data)\n"
    )
    jobs = [build_job(ApplyConfig("own_weights:job", seed=seed))[0] for seed in (1, 1, 2)]
    one, again, other = (job.build_model(0).state_dict()["weight"] for job in jobs)
    assert one.equal(again)
    assert not one.equal(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no setting can be read from best.json: No such file"),
        ("{", "best.json holds no setting, it is not JSON"),
        ("[1]", "best.json holds no setting, but list"),
        (json.dumps({**SETTING, "trials": 3}), "unknown Setting key 'trials'"),
        (json.dumps({**SETTING, "start": {"lrr": 1.0}}), "unknown hyperparameter 'lrr'"),
        (json.dumps({**SETTING, "start": {"lr": -1.0}}), "lr must be above 0"),
        (json.dumps({**SETTING, "start": [1]}), "start of a setting must be values by name"),
        (json.dumps({**SETTING, "schedule": "cosin"}), "unknown schedule 'cosin'"),
        ("\udcff", "best.json holds no setting, it is not JSON"),
    ],
)
def test_a_file_that_is_no_setting_is_named(run: Run, wine: str, content: str | None, message: str) -> None:
    if content is not None:
        Path("best.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    done = run("apply", wine, "--target", "cultivar", "--setting", "best.json")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not Path("runs").exists()


def test_a_setting_with_what_the_job_lacks_is_refused(wine: str) -> None:
    Path("best.json").write_text(json.dumps(SETTING))
    with pytest.raises(ConfigError, match="momentum"):
        prepare(ApplyConfig(wine, "cultivar", setting="best.json", optimizer="adagrad"))
