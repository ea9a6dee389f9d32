"""Ablations: trainings that are kept, taken up again, and compared with the recipe job by job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rl_tuner import ablations
from rl_tuner.ablations import AblationFigure, Ablations, markdown
from rl_tuner.agent_kinds import AGENTS
from rl_tuner.cli import app
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from rl_tuner.held_out import held_out_jobs, run_held_out
from rl_tuner.methods import Experiment, PolicyMethod
from rl_tuner.policy_file import load_policy
from rl_tuner.results import Row
from rl_tuner.statistics import Estimate
from tests.tiny import TINY

BEST, START = 1.0, 3.0


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    monkeypatch.setitem(AGENTS, "grpo", AGENTS["grpo"]._replace(num_envs=16, group_size=4))


@pytest.fixture(scope="module")
def row() -> Row:
    """Of a run, to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "tiny", TINY)
        return run_held_out("m", PolicyMethod(load_policy("constant")), held_out_jobs("tiny", 2))[0]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, row: Row) -> list[Any]:
    """Nothing is learned: losses are made up by variant; what was asked for."""
    asked: list[Any] = []
    losses = {"base": 1.5, "rails-off": 2.0, "memory-3": BEST}

    def learn(experiments: Sequence[Experiment], training: Any) -> tuple[str, list[Row]]:
        name = training.variant
        if name == "es" and not (training.path.parent / "mended").exists():
            raise ConfigError("es broke")
        asked.append((name, training.number, training.config.seed))
        common = {"method": name, "seed": training.number, "start_test_loss": START, "crashed": name == "es"}
        worse = 0.2 * training.number
        loss = losses.get(name, 1.5) + worse
        rows = [replace(row, job=e.job, test_loss=loss, **common) for e in experiments]  # type: ignore[arg-type]
        return name, rows

    monkeypatch.setattr(ablations, "_learn", learn)
    return asked


def make(path: Path, only: Sequence[str] = (), **options: Any) -> Ablations:
    return Ablations(path, only, **{"suite": "tiny", "steps": 64, "jobs": 3, **options})


def test_differences_are_in_normalized_scores_to_the_recipe(tmp_path: Path, trained: list[Any]) -> None:
    figures = {f.variant: f for f in make(tmp_path / "a", ["rails-off", "memory-3"]).run()}
    assert list(figures) == ["base", "memory-3", "rails-off"]
    assert {name: f.score.mean for name, f in figures.items()} == pytest.approx(
        {"base": 0.75, "memory-3": 1.0, "rails-off": 0.5}
    )
    assert {name: f.difference.mean for name, f in figures.items()} == pytest.approx(
        {"base": 0.0, "memory-3": 0.25, "rails-off": -0.25}
    )
    assert all((f.jobs, f.trainings, f.difference.n) == (3, 1, 3) for f in figures.values())


def test_seeds_are_the_same_for_all_variants_but_new_ones_for_the_control(
    tmp_path: Path, trained: list[Any]
) -> None:
    figures = make(tmp_path / "a", ["base-again", "rails-off"], seeds=2, seed=5).run()
    assert sorted(trained) == [
        ("base", 0, 5),
        ("base", 1, 6),
        ("base-again", 0, 7),
        ("base-again", 1, 8),
        ("rails-off", 0, 5),
        ("rails-off", 1, 6),
    ]
    by_name = {f.variant: f for f in figures}
    assert by_name["base"].score.mean == pytest.approx((1 + 1.3 / 1.5) / 2)  # losses 1.5 and 1.7
    assert by_name["base"].trainings == 2
    assert by_name["base"].score.n == 3  # jobs, not jobs times trainings


def test_what_is_done_is_kept_and_not_done_again(tmp_path: Path, trained: list[Any]) -> None:
    folder, told = tmp_path / "a", []
    first = make(folder, ["memory-3", "es"])
    with pytest.raises(ConfigError, match="es broke"):
        first.run(on_training=told.append)
    assert told == ["base", "memory-3"]
    (folder / "mended").touch()
    again = make(folder, ["memory-3", "es"], resume=True)
    assert (again.done, again.total) == (2, 3)
    figures = again.run()
    assert [name for name, _, _ in trained] == ["base", "memory-3", "es"]
    assert [(f.variant, f.crashes) for f in figures] == [("base", 0), ("memory-3", 0), ("es", 3)]


def test_more_variants_join_those_that_the_folder_holds(tmp_path: Path, trained: list[Any]) -> None:
    folder = tmp_path / "a"
    make(folder, ["rails-off"]).run()
    figures = make(folder, ["memory-3"], resume=True).run()
    assert [f.variant for f in figures] == ["base", "memory-3", "rails-off"]
    assert (folder / "ablations.md").read_text() == markdown(figures) + "\n"


def test_ablations_of_other_settings_or_a_damaged_file_are_not_continued(
    tmp_path: Path, trained: list[Any]
) -> None:
    folder = tmp_path / "a"
    make(folder, ["rails-off"]).run()
    with pytest.raises(ConfigError, match="exists"):
        make(folder, ["rails-off"])
    with pytest.raises(ConfigError, match="jobs = 3, not 4"):
        make(folder, ["rails-off"], jobs=4, resume=True)
    with pytest.raises(ConfigError, match="recipe = "):
        make(folder, ["rails-off"], steps=65, resume=True)
    (folder / "results.json").write_text('{"rows": [{"job": 1}]}')
    with pytest.raises(ConfigError, match=r"results\.json is damaged"):
        make(folder, ["rails-off"], resume=True)


def test_infinite_losses_survive_a_resumption(tmp_path: Path, trained: list[Any]) -> None:
    folder = tmp_path / "a"
    work = make(folder, ["rails-off"])
    work.run()
    held = json.loads((folder / "results.json").read_text())
    held["rows"][0]["test_loss"] = None  # JSON's infinity
    (folder / "results.json").write_text(json.dumps(held))
    (figure, _) = make(folder, ["rails-off"], resume=True).run()
    assert figure.score.mean == pytest.approx((-1 + 1 + 1) / 3)


def test_values_out_of_range_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    for options, message in (
        ({"jobs": 1}, "jobs must be >= 2"),
        ({"seeds": 0}, "seeds must be >= 1"),
        ({"steps": -1}, "steps must be >= 1"),
        ({"only": ["nope"]}, "unknown variant 'nope'"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(tmp_path / "a", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def figure(name: str, difference: float) -> AblationFigure:
    return AblationFigure(
        variant=name,
        trainings=2,
        jobs=9,
        score=Estimate(0.8, 0.7, 0.9, 9),
        iqm=Estimate(0.85, 0.8, 0.9, 9),
        difference=Estimate(difference, difference - 0.1, difference + 0.1, 9),
        crashes=1,
    )


def test_the_table_has_the_recipe_on_top_and_then_the_best_first() -> None:
    lines = markdown([figure("base", 0), figure("es", -0.2), figure("memory-3", 0.3)]).splitlines()
    assert lines[0] == "| variant | mean score | IQM | difference to base | crashed |"
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| base", "| memory-3", "| es"]
    assert lines[2] == "| base | 0.800 (0.700 to 0.900) | 0.850 (0.800 to 0.900) |  | 1 |"
    assert lines[4].endswith("| -0.200 (-0.300 to -0.100) | 1 |")
    assert lines[-1] == "2 trainings a variant, 9 validation jobs."


def test_a_variant_is_learned_judged_and_left_as_a_policy_file(tmp_path: Path) -> None:
    figures = make(tmp_path / "a", ["lr"], jobs=2).run()
    assert [f.variant for f in figures] == ["base", "lr"]
    assert [f.jobs for f in figures] == [2, 2]
    policy = load_policy(tmp_path / "a" / "lr-0" / "policy.safetensors")
    assert policy.space.names == ("lr",)
    command = "rl-tuner bench ablations --suite tiny --steps 64 --jobs 2 --seeds 1 --seed 0 --only lr"
    assert policy.provenance["command"] == command
    rows = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    assert [(row["method"], row["job"]) for row in rows] == [("base", 0), ("base", 1), ("lr", 0), ("lr", 1)]
    by_hand = run_held_out("lr", PolicyMethod(policy), held_out_jobs("tiny", 2))
    np.testing.assert_allclose([r["test_loss"] for r in rows[2:]], [r.test_loss for r in by_hand], rtol=1e-5)


def test_the_command_prints_and_writes_the_table(tmp_path: Path, trained: list[Any]) -> None:
    folder = tmp_path / "a"
    common = ["bench", "ablations", "--suite", "tiny", "--steps", "64", "--jobs", "3", "--workers", "1"]
    only = ["--only", "memory-3, rails-off", "--out", str(folder)]
    result = CliRunner().invoke(app, [*common, *only], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    (line,) = [
        row.replace("│", "|") for row in result.stdout.splitlines() if "rails-off" in row and "│" in row
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["rails-off", "0.500", "0.500", "-0.250 (-0.250 to -0.250)"]
    result = CliRunner().invoke(app, [*common, *only, "--resume", "--json"])
    assert [f["variant"] for f in json.loads(result.stdout)["figures"]] == ["base", "memory-3", "rails-off"]
    assert len(trained) == 3
