"""Time to a policy: when it is evaluated, when it stops, and that evaluations cost and change nothing."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rl_tuner import bench_policy as bench
from rl_tuner import opponent as opponents
from rl_tuner.bench_policy import PolicyFigure, bench_policy, misses
from rl_tuner.cli import app
from rl_tuner.config import to_dict
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from rl_tuner.learning import Learner
from rl_tuner.learning_config import LearningConfig
from rl_tuner.opponent import Opponent, Trial, choose_opponent
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.runs import RunDirectory
from rl_tuner.static_setting import StaticSetting
from rl_tuner.statistics import Estimate
from tests.tiny import TINY

SETTING = StaticSetting(1.0, 0.0, 0.0)
CONFIG: dict[str, Any] = {"agent": "grpo", "num_envs": 8, "group_size": 4, "decisions": 4, "seed": 3}
ROLLOUT = 4 * 104  # decisions between two updates: whole episodes, 400 at least
LOST, WON = Estimate(0.1, -0.1, 0.3, 9), Estimate(0.2, 0.1, 0.3, 9)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


def config(**changes: Any) -> LearningConfig:
    return LearningConfig(suite="tiny", **{**CONFIG, "steps": 3 * ROLLOUT, **changes})


class Scripted(Opponent):
    """Says what comes of each policy; keeps what it was shown."""

    def __init__(self, *outcomes: Estimate) -> None:
        super().__init__(SETTING, (), (), (), ())
        object.__setattr__(self, "outcomes", list(outcomes))
        object.__setattr__(self, "shown", [])

    def against(self, policy: Policy, workers: int = 1, *, others: bool = False) -> Trial:
        self.shown.append((policy, others))  # type: ignore[attr-defined]
        return Trial(0.5, 0.4, self.outcomes.pop(0) if self.outcomes else WON)  # type: ignore[attr-defined]


def test_it_is_evaluated_after_each_update_that_passes_a_multiple_until_the_steps_are_done() -> None:
    opponent, told = Scripted(LOST, LOST, LOST), []
    figure = bench_policy(config(), opponent, every=ROLLOUT, on_point=told.append)
    assert [point.decisions for point in figure.curve] == [ROLLOUT, 2 * ROLLOUT, 3 * ROLLOUT]
    assert list(figure.curve) == told
    assert figure.seconds is figure.decisions is figure.again is None
    seconds = [point.seconds for point in figure.curve]
    assert seconds == sorted(seconds)
    assert figure.learning_seconds == seconds[-1]


def test_the_first_interval_above_zero_ends_the_learning_and_is_tried_on_other_jobs() -> None:
    opponent = Scripted(LOST, WON, LOST)
    figure = bench_policy(config(steps=20 * ROLLOUT), opponent, every=ROLLOUT)
    assert figure.decisions == 2 * ROLLOUT
    assert figure.seconds == figure.curve[-1].seconds
    assert figure.again == Trial(0.5, 0.4, LOST)
    policies, others = zip(*opponent.shown, strict=True)  # type: ignore[attr-defined]
    assert others == (False, False, True)
    same = zip(policies[1].layers, policies[2].layers, strict=True)
    assert all(torch.equal(a, b) for one, other in same for a, b in zip(one, other, strict=True))


def test_tables_that_learn_on_until_an_episode_ends_are_tried_again_as_they_won() -> None:
    settings = config(agent="q-learning", num_envs=1, group_size=1, steps=2000)
    opponent = Scripted(WON, LOST)
    bench_policy(settings, opponent, every=6)  # an episode is of 4 decisions
    (first, _), (again, others) = opponent.shown  # type: ignore[attr-defined]
    assert others
    assert first is again


def test_when_the_time_is_over_it_is_evaluated_once_more_and_stops() -> None:
    figure = bench_policy(config(steps=10**6), Scripted(LOST), limit=1e-9)
    assert [point.decisions for point in figure.curve] == [0]
    assert figure.seconds is None
    assert figure.learning_seconds >= 1e-9


def test_the_time_is_all_of_it_though_nothing_new_was_learned_to_evaluate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def later(_: int) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(bench.time, "perf_counter", lambda: now)
    figure = bench_policy(
        config(steps=10**6), Scripted(LOST), every=ROLLOUT, limit=60.0, on_step=later
    )  # an update after 52 steps, the next one after 104
    assert [(point.decisions, point.seconds) for point in figure.curve] == [(ROLLOUT, 52.0)]
    assert figure.learning_seconds == 60.0


def test_evaluations_do_not_count_as_time_of_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(Scripted):
        def against(self, *args: Any, **options: Any) -> Trial:
            nonlocal now
            now += 1000.0
            return super().against(*args, **options)

    monkeypatch.setattr(bench.time, "perf_counter", lambda: now)
    figure = bench_policy(config(), Slow(LOST, LOST, LOST), every=ROLLOUT, limit=900.0)
    assert len(figure.curve) == 3
    assert figure.learning_seconds == 0.0
    assert figure.evaluation_seconds == 3000.0


def test_learning_is_the_same_as_without_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opponents, "choose_static", lambda *_: SETTING)
    tried: list[Policy] = []

    class Noted(Opponent):
        def against(self, policy: Policy, workers: int = 1, *, others: bool = False) -> Trial:
            tried.append(policy)
            found = super().against(policy, workers, others=others)
            return replace(found, difference=LOST)  # goes on to the end

    chosen = choose_opponent("tiny", jobs=2)
    opponent = Noted(chosen.setting, chosen.experiments, chosen.rows, chosen.others, chosen.other_rows)
    bench_policy(config(steps=2 * ROLLOUT), opponent, every=ROLLOUT)
    alone_config = config(steps=2 * ROLLOUT)
    run = RunDirectory(tmp_path / "run", to_dict(alone_config))
    with closing(Learner(alone_config, run)) as learner:
        alone = learner.fit().policy()
    watched = tried[-1]
    assert len(tried) == 2
    assert isinstance(alone, MLPPolicy)
    assert isinstance(watched, MLPPolicy)
    for one, other in zip(alone.layers, watched.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_opponent_is_chosen_on_train_jobs_and_run_on_two_sets_of_validation_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opponents, "choose_static", lambda *_: SETTING)
    opponent = choose_opponent("tiny", jobs=3, seed=1)
    assert opponent.setting == SETTING
    for experiments, rows in ((opponent.experiments, opponent.rows), (opponent.others, opponent.other_rows)):
        assert [row.job for row in rows] == [each.job for each in experiments] == [0, 1, 2]
        assert all(each.spec.dataset == "wine" for each in experiments)
    assert {e.episode_seed for e in opponent.experiments}.isdisjoint(
        {e.episode_seed for e in opponent.others}
    )


def test_against_itself_the_static_setting_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schedule, on jobs that start at the setting already, is the setting."""
    monkeypatch.setattr(opponents, "choose_static", lambda *_: SETTING)
    opponent = choose_opponent("tiny", jobs=3, seed=1)
    at_setting = tuple(replace(each, spec=SETTING.apply(each.spec)) for each in opponent.experiments)
    trial = replace(opponent, experiments=at_setting).against(load_policy("constant"))
    assert trial.policy == pytest.approx(trial.static)
    assert trial.difference.mean == pytest.approx(0.0, abs=1e-9)
    assert not trial.won


def figure_of(seconds: float | None, again: Estimate | None) -> PolicyFigure:
    point = bench.CurvePoint(20_000, seconds or 901.0, Trial(0.9, 0.8, WON if seconds else LOST))
    tried = None if again is None else Trial(0.9, 0.8, again)
    decisions = None if seconds is None else 20_000
    return PolicyFigure(
        config=LearningConfig(agent="grpo", suite="quick"),
        static=SETTING,
        jobs=9,
        decisions=decisions,
        seconds=seconds,
        learning_seconds=point.seconds,
        evaluation_seconds=30.0,
        curve=(point,),
        again=tried,
        cores=2,
        used_cores=2,
        versions={"system": "Linux", "torch": "2"},
    )


def test_no_policy_too_late_a_policy_or_one_that_does_not_hold_misses_the_bar() -> None:
    assert misses(figure_of(300.0, WON)) == []
    assert misses(figure_of(None, None)) == [
        "grpo: no policy above the static setting after 901 s of learning from 20,000 decisions"
    ]
    assert misses(figure_of(1000.0, WON)) == ["grpo: 1000 s of learning, above 900 s"]
    (line,) = misses(figure_of(300.0, LOST))
    assert line.startswith("grpo: on 9 other jobs its difference to the static setting is +0.100")


def test_values_out_of_range_are_refused() -> None:
    for options, message in (({"every": 0}, "every must be >= 1"), ({"limit": 0.0}, "limit must be > 0")):
        with pytest.raises(ConfigError, match=message):
            bench_policy(config(), Scripted(), **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="jobs must be >= 2"):
        choose_opponent("tiny", jobs=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def choose(suite: str, jobs: int, seed: int, workers: int, **options: Any) -> Opponent:
        calls.append((suite, jobs, seed, workers))
        options["on_trial"]()
        return Opponent(SETTING, (), (), (), ())

    def measured(config: LearningConfig, opponent: Opponent, every: int, limit: float, **options: Any) -> Any:
        calls.append((config.agent, config.workers, config.seed, every, limit))
        figure = figure_of(300.0, LOST)
        options["on_step"](256)
        options["on_point"](figure.curve[0])
        return figure

    monkeypatch.setattr(opponents, "choose_opponent", choose)
    monkeypatch.setattr(bench, "bench_policy", measured)
    return calls


def test_the_command_shows_the_curve_the_time_and_what_misses_its_bar(asked: list[Any]) -> None:
    result = CliRunner().invoke(
        app, ["bench", "policy", "--suite", "quick", "--jobs", "9"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert asked == [("quick", 9, 0, 2), ("grpo", 2, 0, 20_000, 900.0)]
    (row,) = [line.replace("│", "|") for line in result.stdout.splitlines() if "│" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["20,000", "300", "0.900", "0.800", "+0.200 (+0.100 to +0.300)"]
    assert "above it after 300 s of learning from 20,000 decisions" in result.stdout
    assert "300 s of learning on 2 of 2 cores, 30 s of evaluations besides" in result.stdout
    assert "misses its bar: grpo: on 9 other jobs" in result.stdout


def test_the_command_s_json_holds_the_curve(asked: list[Any]) -> None:
    result = CliRunner().invoke(app, ["bench", "policy", "--suite", "quick", "--json"])
    found = json.loads(result.stdout)
    (figure,) = found["figures"]
    assert [figure["seconds"], figure["decisions"], figure["used_cores"]] == [300.0, 20_000, 2]
    assert figure["curve"][0]["trial"]["difference"] == {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 9}
    assert len(found["misses"]) == 1


@pytest.mark.parametrize("option", [("--every", "0"), ("--limit", "0"), ("--steps", "-1"), ("--agent", "x")])
def test_the_command_refuses_bad_values_before_it_begins(asked: list[Any], option: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["bench", "policy", "--suite", "quick", *option])
    assert isinstance(result.exception, ConfigError)
    assert asked == []
