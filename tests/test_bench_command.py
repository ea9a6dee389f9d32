"""``rl-tuner bench``: what it prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rl_tuner import benches
from rl_tuner.benches import CliFigure, EnvFigure
from rl_tuner.cli import app


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
