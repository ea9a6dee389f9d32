"""``rl-tuner bench``: what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from rl_tuner import bench_engine, bench_families, bench_train, benches
from rl_tuner.bench_engine import EngineFigure, WayFigure
from rl_tuner.bench_families import FamilyFigure, SamplingFigure
from rl_tuner.bench_train import ScaleFigure, TrainFigure
from rl_tuner.benches import CliFigure, EnvFigure
from rl_tuner.cli import app
from rl_tuner.errors import ConfigError
from rl_tuner.static_setting import StaticSetting


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that were not measured."""

    def bench_env(repeats: int, epochs: int, on_repeat: object = None) -> list[EnvFigure]:
        return [EnvFigure(f"mlp over {epochs}", 400, 0.1, 0.13, 1.3), EnvFigure("cnn", 400, 1.0, 1.0, 1.0)]

    monkeypatch.setattr(benches, "bench_env", bench_env)
    monkeypatch.setattr(benches, "bench_cli", lambda repeats: [CliFigure("import rl_tuner", 0.0625)])


def test_env_prints_both_times_the_ratio_and_what_misses_its_bar(figures: None) -> None:
    out = CliRunner().invoke(app, ["bench", "env", "--epochs", "9"]).stdout
    assert "mlp over 9: bare loop 100 ms, environment 130 ms, ratio 1.300" in out
    assert "misses its bar: mlp over 9" in out
    assert "misses its bar: cnn" not in out


def test_json_holds_every_figure_and_what_misses_its_bar(figures: None) -> None:
    result = json.loads(CliRunner().invoke(app, ["bench", "env", "--json"]).stdout)
    assert [figure["ratio"] for figure in result["figures"]] == [1.3, 1.0]
    assert len(result["misses"]) == 1
    result = json.loads(CliRunner().invoke(app, ["bench", "cli", "--json"]).stdout)
    assert result == {"figures": [{"command": "import rl_tuner", "seconds": 0.0625}], "misses": []}


def test_cli_prints_seconds_and_the_bar(figures: None) -> None:
    out = CliRunner().invoke(app, ["bench", "cli", "--repeats", "3"]).stdout
    assert "import rl_tuner: 0.062 s CPU (median of 3; the bar is 0.5 s)" in out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the figures of engine and learning are asked for; nothing is measured."""
    calls: list[dict[str, Any]] = []

    def engine(
        models: Sequence[str],
        jobs: Sequence[int],
        repeats: int,
        *,
        on_action: Callable[[], None],
        **rest: Any,
    ) -> list[EngineFigure]:
        calls.append({"models": models, "jobs": jobs, "repeats": repeats, **rest})
        on_action()
        ways = ("eager", "compiled") if rest["compiled"] else ("eager",)
        ratios = {"eager": 7.5, "compiled": 19.25}
        return [EngineFigure("mlp", n, way, 5e-4, 1e-3, ratios[way], 67_496) for n in jobs for way in ways]

    def ways(
        jobs: Sequence[int], repeats: int, *, on_action: Callable[[], None], **rest: Any
    ) -> list[WayFigure]:
        calls.append({"jobs": jobs, "repeats": repeats, **rest})
        on_action()
        return [WayFigure("rounds", 32, 75_000.0, 450_000.0, 6.0)]

    def train(num_envs: int, rollouts: int, suite: str, **rest: Any) -> TrainFigure:
        calls.append({"num_envs": num_envs, "rollouts": rollouts, "suite": suite, "seed": rest["seed"]})
        rest["on_rollout"]()
        return TrainFigure(suite, num_envs, 7680, 20.0, 384.0, {"ppo": 6.0, "updates": 14.0}, 0.7)

    def scaling(scales: Sequence[int], rollouts: int, suite: str, **rest: Any) -> list[ScaleFigure]:
        calls.append({"scales": scales, "rollouts": rollouts, "suite": suite, "seed": rest["seed"]})
        return [ScaleFigure("TuningEnv", 1, 400, 50.0), ScaleFigure("VectorTuningEnv", 8, 400, 120.0)]

    def families(
        suite: str,
        split: str,
        jobs: int,
        seed: int,
        names: Sequence[str],
        *,
        on_trial: Callable[[], None],
    ) -> list[FamilyFigure]:
        calls.append({"suite": suite, "split": split, "jobs": jobs, "seed": seed, "names": names})
        on_trial()
        best, static = (0.1, 1.0, 31.6), StaticSetting(0.316, 0.3, 0.01)
        hard = FamilyFigure("speech", jobs, 316.2, best, static, 0.125, 0.25, 0.5, 0.0625)
        return [hard, FamilyFigure("vision", jobs, 3.1, best, static, 0.01, 0.0, 0.5, 0.0)]

    def sampling(suite: str, split: str, *, seed: int) -> SamplingFigure:
        calls.append({"suite": suite, "split": split, "seed": seed})
        return SamplingFigure(suite, split, 1000, 1.5, 200, 2.5, 64 * 2**20)

    monkeypatch.setattr(bench_families, "bench_families", families)
    monkeypatch.setattr(bench_families, "bench_sampling", sampling)
    monkeypatch.setattr(bench_engine, "bench_engine", engine)
    monkeypatch.setattr(bench_engine, "bench_ways", ways)
    monkeypatch.setattr(bench_train, "bench_train", train)
    monkeypatch.setattr(bench_train, "bench_scaling", scaling)
    return calls


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_engine_asks_for_all_models_eagerly_unless_told_otherwise(asked: list[dict[str, Any]]) -> None:
    run("engine")
    run("engine", "--models", "gru, mlp", "--jobs", "2,4", "--repeats", "3", "--compile", "--device", "meta")
    assert asked == [
        {
            "models": ("mlp", "cnn", "gru", "transformer"),
            "jobs": (1, 8, 32, 128, 256),
            "repeats": 5,
            "compiled": False,
            "device": "cpu",
        },
        {"models": ("gru", "mlp"), "jobs": (2, 4), "repeats": 3, "compiled": True, "device": "meta"},
    ]


def test_engine_prints_a_row_for_each_number_of_jobs_and_a_column_for_each_way(
    asked: list[dict[str, Any]],
) -> None:
    out = run("engine", "--jobs", "8,128", "--compile")
    (row,) = [line for line in out.splitlines() if " 128 " in line and "µs" in line]
    assert row.replace("│", " ").split() == ["mlp", "500", "µs", "128", "7.5", "19.2", "67,496"]
    assert "misses its bar: mlp, 128 jobs, eager: 7.5 times the bare loop, below 8" in out
    assert "compiled: " not in out


def test_ways_prints_samples_a_second_and_json_holds_them(asked: list[dict[str, Any]]) -> None:
    (row,) = [line for line in run("engine", "--ways").splitlines() if "rounds" in line]
    assert row.replace("│", " ").split() == ["rounds", "32", "75,000", "450,000", "6.0"]
    result = json.loads(run("engine", "--ways", "--jobs", "16", "--json"))
    assert result["figures"][0]["ratio"] == 6.0
    assert result["misses"] == []
    assert [call["jobs"] for call in asked] == [(32, 128), (16,)]


def test_train_prints_the_rate_and_each_part_s_share(asked: list[dict[str, Any]]) -> None:
    out = run("train", "--suite", "quick", "--seed", "5")
    assert "quick, 128 jobs: 384 transitions/s (7,680 transitions in 20.0 s CPU)" in out
    rows = [line.replace("│", " ").split() for line in out.splitlines() if "%" in line and "│" in line]
    assert rows == [["updates", "14.00", "70.0%"], ["ppo", "6.00", "30.0%"]]
    assert "misses its bar: 128 environments: updates and evaluation take 70%" in out
    assert asked == [{"num_envs": 128, "rollouts": 3, "suite": "quick", "seed": 5}]


def test_scaling_prints_a_row_for_each_environment_and_json_holds_them(asked: list[dict[str, Any]]) -> None:
    rows = [
        line.replace("│", " ").split() for line in run("train", "--scaling").splitlines() if "Env" in line
    ]
    assert rows == [["TuningEnv", "1", "50"], ["VectorTuningEnv", "8", "120"]]
    result = json.loads(run("train", "--scaling", "--rollouts", "1", "--json"))
    assert [figure["transitions_per_second"] for figure in result["figures"]] == [50.0, 120.0]
    assert [call["rollouts"] for call in asked] == [3, 1]


def test_families_prints_a_row_for_each_and_what_is_too_easy(asked: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(
        app, ["bench", "families", "--jobs", "8", "--only", "speech, vision"], env={"COLUMNS": "200"}
    )
    speech, vision = (
        next(line for line in result.stdout.splitlines() if name in line).replace("│", "|")
        for name in ("speech", "vision")
    )
    cells = [cell.strip() for cell in speech.strip("|").split("|")]
    assert cells == ["speech", "0.1 … 1 … 32", "316x", "12.5%", "25.0%", "50.0%", "6.2%"]
    assert "1.0%" in vision
    assert "8 jobs a family" in result.stdout
    assert "static setting, speech: lr 0.32x, dropout 0.3, weight decay 0.01" in result.stdout
    misses = [line for line in result.stdout.splitlines() if line.startswith("misses its bar: ")]
    assert [line.partition(": ")[2] for line in misses] == [
        "vision: best learning rates differ by 3.1 times only",
        "vision: the head-room is 1.0%, below 3%",
        "vision: no job overfits",
    ]
    asked_for = {"suite": "standard", "split": "train", "jobs": 8, "seed": 0, "names": ("speech", "vision")}
    assert asked == [asked_for]


def test_families_as_json_holds_figures_and_misses(asked: list[dict[str, Any]]) -> None:
    result = json.loads(run("families", "--suite", "standard", "--split", "test", "--seed", "4", "--json"))
    assert [figure["headroom"] for figure in result["figures"]] == [0.125, 0.01]
    static = {"lr_factor": 0.316, "dropout": 0.3, "weight_decay": 0.01, "schedule": "constant"}
    assert result["figures"][0]["static"] == static
    assert len(result["misses"]) == 3
    assert (asked[0]["split"], asked[0]["jobs"], asked[0]["seed"], asked[0]["names"]) == ("test", 32, 4, ())


def test_sampling_prints_how_long_drawing_and_building_takes(asked: list[dict[str, Any]]) -> None:
    out = run("families", "--sampling", "--suite", "quick")
    assert "quick, train: 1,000 jobs drawn in 1.500 s CPU" in out
    assert "200 of them built in 2.50 s CPU, 12.5 ms a job; 64 MiB of data kept" in out
    assert "misses its bar: quick: drawing 1,000 jobs takes 1.50 s" in out
    (figure,) = json.loads(run("families", "--sampling", "--json"))["figures"]
    assert (figure["draws"], figure["build_seconds"]) == (1000, 2.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["families", "--only", "visoin"], "unknown family 'visoin'"),
        (["families", "--jobs", "0"], "jobs must be >= 1"),
        (["families", "--suite", "nope"], "unknown suite 'nope'"),
        (["families", "--split", "tset"], "unknown split 'tset'"),
        (["families", "--sampling", "--only", "vision"], "--sampling draws from all families"),
        (["engine", "--jobs", "8,many"], "--jobs must be whole numbers separated by commas, got '8,many'"),
        (["engine", "--models", "mlp", "--ways"], "--ways measures the mlp only"),
        (["engine", "--models", "rnn"], "unknown model 'rnn'"),
        (["train", "--suite", "nope"], "suite 'nope'"),
        (["train", "--scaling", "--num-envs", "8"], "leave out --num-envs 8"),
        (["train", "--num-envs", "1"], "num_envs must be >= 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, ["bench", *arguments]).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)
