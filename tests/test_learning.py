"""Learning runs: settings, logs, checkpoints, and the final judgement."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.style  # noqa: F401 (its first import draws from the global random state)
import torch
from gymnasium.error import ClosedEnvironmentError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_tuner import judging
from rl_tuner.agent_kinds import AGENTS
from rl_tuner.checkpoint import read_checkpoint, write_checkpoint
from rl_tuner.config import to_dict
from rl_tuner.envs.suites import SUITES
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.features import FEATURE_GROUPS, features_without
from rl_tuner.judging import Judgement, evaluate, finish, judge
from rl_tuner.learning import Learner, Standing
from rl_tuner.learning_config import FORMERLY, LearningConfig
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import load_policy
from rl_tuner.rollout import Episode
from rl_tuner.runs import RunDirectory
from rl_tuner.side_by_side import Run, run_side_by_side
from tests.comparing import add_suite
from tests.tiny import TINY

# Runs this short end within the warm-up; what matters here is not what they learn.
pytestmark = pytest.mark.filterwarnings("ignore:.*warm-up was not over")

SMALL = {
    "suite": "tiny",
    "decisions": 10,
    "intervals": "uniform",
    "hyperparameters": ("lr",),
    "eval_jobs": 2,
    "num_envs": 1,
}
"""Each episode is 10 decisions with an update or two between them."""


@pytest.fixture(autouse=True)
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


def config(**options: Any) -> LearningConfig:
    return LearningConfig(**{**SMALL, "agent": "q-learning", "steps": 560, **options})


def start(settings: LearningConfig, path: str, resume: bool = False, seconds: float = 1e9) -> Learner:
    run = RunDirectory(path, to_dict(settings), resume=resume, may_change=("steps",), formerly=FORMERLY)
    return Learner(settings, run, checkpoint_seconds=seconds)


def learn(settings: LearningConfig, path: str, resume: bool = False) -> bytes:
    """Runs to the end; returns the policy file."""
    learner = start(settings, path, resume)
    learner.fit()
    finish(learner, Judgement((1.0, 2.0), (0.0, 0.5)))
    return (Path(path) / "policy.safetensors").read_bytes()


def interrupt_after(episodes: int) -> Callable[[Standing], None]:
    left = [episodes]

    def on_episode(_: Standing) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return on_episode


def events(path: Path) -> EventAccumulator:
    return EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()


@pytest.mark.parametrize(
    ("agent", "actions", "num_envs", "steps"),
    [
        ("ppo", "continuous", 128, 100_000),
        ("grpo", "continuous", 256, 300_000),
        ("es", "continuous", 128, 100_000),
        ("q-learning", "discrete", 1, 10_000),
        ("sarsa", "discrete", 1, 10_000),
    ],
)
def test_each_agent_has_defaults_of_its_own(agent: str, actions: str, num_envs: int, steps: int) -> None:
    settings = LearningConfig(agent=agent)
    assert (settings.actions, settings.num_envs, settings.steps) == (actions, num_envs, steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"agent": "dqn"}, ["agent", "'dqn'", "q-learning"]),
        ({"agent": "sarsa", "actions": "continuous"}, ["sarsa", "discrete", "continuous"]),
        ({"actions": "both"}, ["actions", "'both'"]),
        ({"suite": "quik"}, ["suite", "'quik'", "'quick'"]),
        ({"reward": "loss"}, ["reward", "'loss'", "log_improvement"]),
        ({"hyperparameters": ("lr", "beta")}, ["hyperparameter", "'beta'"]),
        ({"hyperparameters": ()}, ["at least one"]),
        ({"steps": -1}, ["steps", ">= 1", "-1"]),
        ({"num_envs": -1}, ["num_envs", ">= 1", "-1"]),
        ({"agent": "sarsa", "num_envs": 5_000}, ["num_envs", "<= 4096", "5000"]),
        ({"decisions": 0}, ["decisions", ">= 1", "0"]),
        ({"intervals": "even"}, ["intervals", "'even'", "uniform"]),
        ({"eval_jobs": 1}, ["eval_jobs", ">= 2", "1"]),
        ({"seed": -1}, ["seed", ">= 0", "-1"]),
        ({"memory": 0}, ["memory", ">= 1", "0"]),
        ({"agent": "sarsa", "memory": 2}, ["sarsa", "memory 2"]),
        ({"without": ("clok",)}, ["group of features", "'clok'", "'clock'"]),
        ({"without": tuple(FEATURE_GROUPS)}, ["no feature left"]),
        ({"agent": "q-learning", "without": ("clock", "best")}, ["q-learning", "without clock, best"]),
        ({"agent": "grpo", "group_size": 1}, ["grpo", "group_size", ">= 2", "1"]),
        ({"num_envs": 12, "group_size": 4, "workers": 2}, ["multiple", "4 × 2", "12"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_limit(
    options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        LearningConfig(**options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_every_setting_reaches_the_environment(num_envs: int) -> None:
    env = config(reward="best_improvement", rails=False, num_envs=num_envs).make_env("train")
    assert getattr(env, "num_envs", 1) == num_envs
    assert env.space.names == ("lr",)
    assert (env.config.decisions, env.config.reward) == (10, "best_improvement")
    assert (env.config.intervals, env.config.rails) == ("uniform", False)
    assert env.actions.kind == "discrete"


@pytest.mark.parametrize(("agent", "steps"), [("q-learning", 50), ("ppo", 10)])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_same_seed_gives_the_same_policy_file_byte_for_byte(
    agent: str, steps: int, num_envs: int
) -> None:
    settings = config(agent=agent, steps=steps, seed=3, num_envs=num_envs)
    assert learn(settings, "a/run") == learn(settings, "b/run")


@pytest.mark.parametrize("agent", ["q-learning", "sarsa"])
@pytest.mark.parametrize("episodes", [20, 53])  # while bins are still unknown, and with tables in use
def test_an_interrupted_tabular_run_ends_as_if_it_had_not_been(agent: str, episodes: int) -> None:
    whole = learn(config(agent=agent), "whole/run")
    learner = start(config(agent=agent), "cut/run")

    def on_episode(_: Standing) -> None:
        if learner.agent.episodes == episodes:
            learner.save()
        if learner.agent.episodes == episodes + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.fit(on_episode)
    # Starting anew would end the same way, so: it does go on from where it was.
    assert start(config(agent=agent), "cut/run", resume=True).agent.episodes == episodes
    assert learn(config(agent=agent), "cut/run", resume=True) == whole


def test_what_came_after_the_last_checkpoint_is_all_that_is_lost() -> None:
    learner = start(config(), "run", seconds=0.0)
    seen: list[int] = []

    def on_episode(now: Standing) -> None:
        seen.append(now.steps)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.fit(on_episode)
    assert start(config(), "run", resume=True).agent.steps == seen[-1]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew() -> None:
    learner = start(config(steps=20), "run", seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(interrupt_after(2))
    assert start(config(steps=20), "run", resume=True).agent.steps == 0


def test_ppo_goes_on_from_its_last_update() -> None:
    settings = config(agent="ppo", steps=900)
    learner = start(settings, "run", seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(interrupt_after(50))  # 500 steps: one update, at 400
    again = start(settings, "run", resume=True)
    assert 400 <= again.agent.steps < 500
    again.fit()
    assert again.agent.steps >= 900


MANY: dict[str, dict[str, Any]] = {
    "q-learning": {"num_envs": 3},
    "sarsa": {"num_envs": 3},
    "ppo": {"num_envs": 3},
    "grpo": {"num_envs": 4, "group_size": 2, "reward": "best_improvement"},
    "es": {"num_envs": 4, "group_size": 2},
}
"""Settings of a short run of each agent on several jobs at once."""


def test_every_agent_is_run_on_many_jobs() -> None:
    assert MANY.keys() == AGENTS.keys()


@pytest.mark.parametrize("agent", MANY)
def test_a_run_of_many_jobs_goes_on_from_its_checkpoint_the_same_way_each_time(agent: str) -> None:
    settings = config(agent=agent, steps=600, **MANY[agent])
    learner = start(settings, "cut/run", seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(interrupt_after(45))
    shutil.copytree("cut/run", "copy/run")
    # Tables keep every decision, the others what they had learned from: whole rollouts, or generations.
    assert 0 < start(settings, "copy/run", resume=True).agent.steps <= 450
    assert learn(settings, "cut/run", resume=True) == learn(settings, "copy/run", resume=True)
    assert start(settings, "cut/run", resume=True).agent.steps >= 600


def test_every_decision_is_told_as_it_is_made() -> None:
    told: list[int] = []
    start(config(steps=20), "one").fit(on_step=told.append)
    assert told == list(range(1, 21))
    told.clear()
    start(config(steps=20, num_envs=3), "many").fit(on_step=told.append)
    assert told == list(range(3, 22, 3))
    told.clear()
    start(config(steps=25, num_envs=3), "many", resume=True).fit(on_step=told.append)
    assert told == [24, 27]


def test_a_callback_that_returns_false_ends_the_fit_and_nothing_else_does() -> None:
    told: list[int] = []
    learner = start(config(), "stopped")
    learner.fit(lambda now: told.append(now.steps) or now.steps < 30)  # type: ignore[func-returns-value]
    assert told == [10, 20, 30]
    learner.fit(lambda now: told.append(now.steps))  # returns None
    assert learner.agent.steps == 560


def test_a_finished_run_can_be_given_more_steps_and_otherwise_stands_still() -> None:
    learn(config(steps=50), "run")
    assert start(config(steps=50), "run", resume=True).fit().episodes == 5
    assert start(config(steps=80), "run", resume=True).fit().episodes == 8


@pytest.mark.usefixtures("untouched_rng")
@pytest.mark.parametrize(
    ("agent", "num_envs", "group_size"),
    [("grpo", 4, 2), *((agent, n, 1) for agent in AGENTS if agent != "grpo" for n in (1, 3))],
)
def test_learning_leaves_the_global_random_state_alone(agent: str, num_envs: int, group_size: int) -> None:
    start(config(agent=agent, steps=30, num_envs=num_envs, group_size=group_size), "run").fit()


def test_tensorboard_shows_every_episode_once_also_after_an_interruption() -> None:
    learner = start(config(steps=60), "run", seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(interrupt_after(4))  # these four are run again: there was no checkpoint
    standings: list[Standing] = []
    start(config(steps=60), "run", resume=True).fit(standings.append)
    log = events(Path("run"))
    shown = log.Scalars("episode/mean_return")
    assert [event.step for event in shown] == [now.steps for now in standings]
    np.testing.assert_allclose([e.value for e in shown], [now.mean_return for now in standings], rtol=1e-6)
    assert {"episode/return", "episode/crash_rate", "agent/epsilon"} <= set(log.Tags()["scalars"])


def test_the_mean_return_is_that_of_the_episodes_shown() -> None:
    standings: list[Standing] = []
    start(config(steps=40), "run").fit(standings.append)
    returns = [event.value for event in events(Path("run")).Scalars("episode/return")]
    expected = [np.mean(returns[: i + 1]) for i in range(len(returns))]
    np.testing.assert_allclose([now.mean_return for now in standings], expected, rtol=1e-5)


@pytest.mark.parametrize("agent", ["q-learning", "ppo"])
def test_some_episodes_are_logged_decision_by_decision(agent: str) -> None:
    start(config(agent=agent, steps=100), "run").fit()
    folders = sorted(Path("run/episodes").iterdir())
    assert len(folders) >= 10
    log = events(folders[-1])
    rewards = log.Scalars("reward")
    assert [event.step for event in rewards] == sorted({event.step for event in rewards})
    assert 1 <= len(rewards) <= 10
    total = {e.step: e.value for e in events(Path("run")).Scalars("episode/return")}
    assert any(abs(sum(e.value for e in rewards) - value) < 1e-4 for value in total.values())
    assert {"hyperparameters/lr", "loss/train", "loss/validation"} <= set(log.Tags()["scalars"])


@pytest.mark.parametrize("agent", ["q-learning", "ppo"])
def test_of_many_jobs_side_by_side_each_episodes_own_decisions_are_logged(agent: str) -> None:
    start(config(agent=agent, steps=90, num_envs=3), "run").fit()
    returns = [event.value for event in events(Path("run")).Scalars("episode/return")]
    assert len(returns) >= 9
    folders = sorted(Path("run/episodes").iterdir())
    assert {1, 2, 3} <= {int(folder.name) for folder in folders}
    for folder in folders:
        rewards = [event.value for event in events(folder).Scalars("reward")]
        assert sum(rewards) == pytest.approx(returns[int(folder.name) - 1], abs=1e-4)
    assert len(set(returns[:3])) == 3


def test_a_run_of_an_earlier_version_had_one_job_at_a_time() -> None:
    settings = config(steps=30)
    learn(settings, "run")
    old = {key: value for key, value in to_dict(settings).items() if key not in FORMERLY}
    Path("run/config.json").write_text(json.dumps(old))
    with pytest.raises(ConfigError, match="num_envs = 1, not 3"):
        start(config(steps=30, num_envs=3), "run", resume=True)
    assert start(config(steps=50), "run", resume=True).fit().episodes == 5
    assert json.loads(Path("run/config.json").read_text())["num_envs"] == 1


def test_an_evolution_strategy_compares_as_many_as_are_asked_for() -> None:
    for asked, found in ((0, 16), (4, 4), (1, 1)):
        settings = LearningConfig(agent="es", suite="tiny", num_envs=32, group_size=asked)
        agent = settings.make_agent(settings.make_env("train"))  # type: ignore[arg-type]
        assert agent.group_size == found  # type: ignore[attr-defined]


def test_the_order_of_the_groups_left_out_does_not_matter() -> None:
    settings = LearningConfig(without=("best", "validation", "best"))
    assert settings == LearningConfig(without=("validation", "best"))
    assert "--without validation,best --" in settings.command
    assert "--without" not in LearningConfig().command


@pytest.mark.parametrize("agent", ["ppo", "es"])
def test_a_policy_learned_without_groups_does_not_read_them_nor_does_the_untrained_one(agent: str) -> None:
    settings = config(
        agent=agent, steps=20, num_envs=2, group_size=2, memory=2, without=("validation", "best")
    )
    learn(settings, "run")
    policy = load_policy("run/policy.safetensors")
    assert policy.feature_names == features_without(policy.space, ("validation", "best"))
    assert start(settings, "other").untrained.feature_names == policy.feature_names
    assert np.isfinite(evaluate(policy, "tiny", "validation", [5, 6])).all()  # type: ignore[arg-type]
    assert start(settings, "run", resume=True).agent.steps >= 20
    with pytest.raises(ConfigError, match=r"without = \['validation', 'best'\], not \['best'\]"):
        start(replace(settings, without=("best",)), "run", resume=True)


@pytest.mark.parametrize(
    ("options", "work"),
    [
        ({"agent": "grpo", "num_envs": 4, "group_size": 2}, True),
        ({"agent": "grpo", "num_envs": 4, "group_size": 2, "restarts_at_work": False}, False),
        ({"agent": "ppo"}, False),
        ({"agent": "sarsa", "restarts_at_work": True}, True),
    ],
)
def test_trainings_begin_again_at_work_only(options: dict[str, Any], work: bool) -> None:
    settings = LearningConfig(**options)
    env = settings.make_env("train")
    assert env.config.restarts is False
    policy = settings.policy(settings.make_agent(env))
    assert policy.config.restarts is work
    assert f"--{'' if work else 'no-'}restarts-at-work" in settings.command


@pytest.mark.parametrize(
    ("options", "learning", "work"),
    [
        ({"agent": "grpo", "num_envs": 2}, False, True),
        ({"agent": "grpo", "num_envs": 2, "averaging_at_work": False}, False, False),
        ({"agent": "ppo", "averaging": True}, True, True),
        ({"agent": "ppo", "averaging": True, "averaging_at_work": False}, True, False),
        ({"agent": "ppo", "averaging_at_work": True}, False, True),
        ({"agent": "q-learning"}, False, False),
        ({"agent": "sarsa", "averaging_at_work": True}, False, True),
    ],
)
def test_averages_may_count_in_learning_at_work_or_both(
    options: dict[str, Any], learning: bool, work: bool
) -> None:
    settings = config(steps=20, **options)
    assert settings.make_env("train").config.averaging is learning
    learn(settings, "run")
    policy = load_policy("run/policy.safetensors")
    assert policy.config.averaging is work
    assert start(settings, "other").untrained.config.averaging is work
    # A network that could never see what averages gain is not to be told when it works.
    if AGENTS[settings.agent].network:
        assert ("averaged_over_val" in policy.feature_names) is (learning or not work)
    assert f"--{'' if work else 'no-'}averaging-at-work" in settings.command


def test_learning_in_other_processes_ends_them_and_keeps_what_was_learned() -> None:
    settings = config(agent="ppo", steps=20, num_envs=4, group_size=2, workers=2)
    with closing(start(settings, "run")) as learner:
        learner.fit()
        assert len(active_children()) == 2
    assert not active_children()
    assert np.isfinite(judge(learner).trained).all()
    finish(learner, Judgement((1.0, 2.0), (0.0, 0.5)))
    assert isinstance(load_policy("run/policy.safetensors"), LearnedPolicy)
    with pytest.raises(ClosedEnvironmentError):
        learner.agent.fit(1000)


def test_a_learner_that_cannot_go_on_leaves_no_process() -> None:
    settings = config(agent="ppo", steps=20, num_envs=4, workers=2)
    run = RunDirectory("run", to_dict(settings))
    Path("run/checkpoint.pt").write_bytes(b"this is no checkpoint")
    with pytest.raises(ConfigError, match=r"checkpoint\.pt") as caught:
        Learner(settings, run)
    assert not active_children()
    assert caught.value is not None  # it, and so the learner in its traceback, is still there


def test_the_judgement_runs_both_policies_on_the_same_validation_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, int, str]] = []

    def spy(runs: Sequence[Run], **options: Any) -> list[Episode]:
        episodes = run_side_by_side(runs, **options)
        ran.extend((each.policy, each.seed, each.job) for each in episodes)
        return episodes

    monkeypatch.setattr(judging, "run_side_by_side", spy)
    learner = start(config(steps=30), "run")
    learner.fit()
    done: list[int] = []
    judge(learner, done.append)
    assert done == [1, 2, 3, 4]
    trained = [(seed, job) for name, seed, job in ran if name == "q-learning"]
    untrained = [(seed, job) for name, seed, job in ran if name == "untrained"]
    assert trained == untrained
    assert len({seed for seed, _ in trained}) == 2
    assert all(job.startswith("wine") for _, job in trained)


def test_evaluation_is_the_return_of_each_jobs_own_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch, start={"batch_size": (16,), "dropout": (None,)})
    policy = start(config(), "run").untrained
    expected = []
    for seed in (5, 6):
        env = TuningEnv.for_policy(policy, suite="tiny", split="validation")
        observation, _ = env.reset(seed=seed)
        total, terminated = 0.0, False
        while not terminated:
            observation, reward, terminated, _, _ = env.step(policy.act(observation))
            total += reward
        expected.append(total)
    assert evaluate(policy, "tiny", "validation", [5, 6]) == pytest.approx(expected, abs=1e-4)


def test_the_difference_is_paired() -> None:
    estimates = Judgement((1.0, 11.0, 21.0), (0.0, 10.0, 20.0)).estimates
    difference = estimates["difference"]
    assert (difference.mean, difference.low, difference.high) == pytest.approx((1, 1, 1))
    assert estimates["trained"].high - estimates["trained"].low > 10


def test_the_policy_file_says_where_it_comes_from() -> None:
    settings = config(steps=50, seed=7)
    learn(settings, "runs/mine")
    known: Any = load_policy("runs/mine/policy.safetensors")
    known = known.provenance
    assert known["name"] == "mine"
    assert known["command"] == settings.command
    assert (known["suite"], known["split"], known["seed"]) == ("tiny", "train", 7)
    assert (known["steps"], known["episodes"]) == (50, 5)
    assert known["versions"]["torch"] == torch.__version__
    assert known["validation"]["trained"]["mean"] == 1.5
    results = json.loads(Path("runs/mine/results.json").read_text())
    assert results["validation"]["returns"] == {"trained": [1.0, 2.0], "untrained": [0.0, 0.5]}


def test_a_checkpoint_round_trips_tensors_and_plain_types() -> None:
    state = {"agent": {"x": torch.arange(3), "big": 2**100, "none": None}, "recent": [[1.5, True]]}
    write_checkpoint(Path("c.pt"), state)
    back = read_checkpoint(Path("c.pt"), ("agent", "recent"))
    assert torch.equal(back["agent"].pop("x"), torch.arange(3))
    assert back == {"agent": {"big": 2**100, "none": None}, "recent": [[1.5, True]]}


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


@pytest.mark.parametrize(
    "foreign", [np.zeros(2), np.float64(1.0), Path("x"), object()], ids=lambda v: type(v).__name__
)
def test_what_a_checkpoint_could_not_give_back_is_refused_when_it_is_written(foreign: object) -> None:
    write_checkpoint(Path("c.pt"), {"agent": 1})
    with pytest.raises(
        TypeError, match=rf"the checkpoint\['agent'\]\[1\]\['x'\] is a {type(foreign).__name__}"
    ):
        write_checkpoint(Path("c.pt"), {"agent": [0, {"x": foreign}]})
    assert read_checkpoint(Path("c.pt"), ("agent",)) == {"agent": 1}


@pytest.mark.parametrize("fault", ["empty", "truncated", "text", "pickle", "code", "other keys", "missing"])
def test_a_damaged_or_foreign_checkpoint_is_refused_and_never_executed(fault: str) -> None:
    path = Path("c.pt")
    write_checkpoint(path, {"agent": {"x": torch.zeros(100)}, "recent": []})
    whole = path.read_bytes()
    faults: dict[str, Callable[[], object]] = {
        "empty": lambda: path.write_bytes(b""),
        "truncated": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "text": lambda: path.write_bytes(b"this is no checkpoint"),
        "pickle": lambda: path.write_bytes(pickle.dumps({"agent": _Bomb(), "recent": []})),
        "code": lambda: torch.save({"agent": _Bomb(), "recent": []}, path),
        "other keys": lambda: write_checkpoint(path, {"model": {}}),
        "missing": path.unlink,
    }
    faults[fault]()
    with pytest.raises(ConfigError, match=r"c\.pt.*delete it to start anew"):
        read_checkpoint(path, ("agent", "recent"))
    assert not Path("exploded").exists()


def test_a_checkpoint_of_another_agent_is_refused() -> None:
    learn(config(steps=20), "run")
    with pytest.raises(ConfigError, match="'q-learning'"):
        Learner(config(agent="sarsa"), RunDirectory("other", {})).agent.set_state(
            read_checkpoint(Path("run/checkpoint.pt"), ("agent",))["agent"]
        )


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(Path("c.pt"), {"agent": 1})
    before = Path("c.pt").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_checkpoint(Path("c.pt"), {"agent": 2})
    assert Path("c.pt").read_bytes() == before
    assert [p.name for p in Path().iterdir()] == ["c.pt"]
