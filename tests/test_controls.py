"""Controls of a learned policy: what they see, what they do, and that they are run as it is."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from rl_tuner import ConfigError
from rl_tuner.controls import CONTROLS, BlindPolicy, ReplayPolicy, controls_of, untrained
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import JobSpec
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.features import FeatureSet
from rl_tuner.habits import Habits, _mean, habits
from rl_tuner.intervals import boundaries
from rl_tuner.policies import MLPPolicy
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.seeding import Streams
from rl_tuner.side_by_side import Run, run_side_by_side
from rl_tuner.space import search_space
from tests.comparing import add_suite
from tests.learned_policies import SAMPLES, network, random_observations
from tests.tiny import TINY

DECISIONS = 4
PLACES = np.array([0.0, 0.2, 0.4, 0.8])
SPACE = search_space(["lr", "weight_decay"])
NAMES = FeatureSet(SPACE).names


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)


def linear(**weights: tuple[float, float]) -> MLPPolicy:
    """A policy whose two actions are sums of the named features, each times a weight."""
    weight = torch.zeros(2, len(NAMES))
    for name, pair in weights.items():
        weight[:, NAMES.index(name)] = torch.tensor(pair)
    config = CourseConfig(decisions=DECISIONS, rails=False)
    return MLPPolicy(SPACE, "continuous", config, NAMES, {"name": "p"}, [(weight, torch.zeros(2))], "tanh")


def means(value: float = 0.0) -> Habits:
    return Habits(PLACES, np.full((DECISIONS, len(NAMES)), value), np.zeros((DECISIONS, 2)))


def seeing(**values: float) -> np.ndarray:
    observation = np.zeros(len(NAMES), np.float32)
    for name, value in values.items():
        observation[NAMES.index(name)] = value
    return observation


def test_habits_are_means_over_the_jobs_at_each_share_of_the_budget(tiny: None) -> None:
    # It moves the lr by a quarter of a step at each decision, whatever it sees.
    policy = linear(lr_available=(0.25, 0.0))
    told: list[int] = []
    found = habits(policy, "tiny", jobs=3, on_job=lambda: told.append(1))
    assert len(told) == 3
    ends = boundaries(1_000_000, DECISIONS)
    np.testing.assert_allclose(found.progress, np.array([0, *ends[:-1]]) / ends[-1], atol=1e-3)
    shares = found.observations[:, NAMES.index("progress")]
    np.testing.assert_allclose(shares[:-1], found.progress[:-1], atol=1e-6)
    assert shares[-2] < shares[-1] <= found.progress[-1]  # so short a job may take no decision as late
    step = SPACE.hyperparameters[0].step / SPACE.hyperparameters[0].reach
    assert found.offsets[0, 0] == pytest.approx(0.25 * step)
    # Batches end a little after the planned places: by then not all of a decision's move is done.
    moves = found.offsets[:, 0] / (0.25 * step)
    assert (np.diff(moves) > 0).all()
    assert (moves <= np.arange(1, 1 + DECISIONS) + 1e-6).all()
    assert moves[-1] > DECISIONS - 2
    np.testing.assert_allclose(found.offsets[:, 1], 0.0)
    assert found.observations[0, NAMES.index("lr_available")] == 1
    # The mean of what is seen there really is over different jobs.
    lone = [habits(policy, "tiny", jobs=1, seed=seed).observations for seed in (0, 1)]
    assert not np.allclose(*lone)


def test_habits_are_of_the_train_split_alone(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[str]()

    def note(runs: Sequence[Run], **options: Any) -> list[Episode]:
        seen.update(run.job.dataset for run in runs if isinstance(run.job, JobSpec))
        return run_side_by_side(runs, **options)

    monkeypatch.setattr("rl_tuner.habits.run_side_by_side", note)
    controls_of(linear(), "tiny")
    assert seen == {*TINY.family("train").parts[0].datasets}


def test_habits_are_what_single_environments_show(tiny: None) -> None:
    """At the first decision, stepped by hand in the plain loop."""
    policy = linear(val_vs_last=(0.5, 0.0), lr_available=(0.1, -0.3))
    found = habits(policy, "tiny", jobs=2, seed=7)
    family, rng = TINY.family("train"), Streams(7).numpy("data")
    first, last = [], []
    for number in range(2):
        env = TuningEnv.for_policy(policy)
        observation, _ = env.reset(seed=7 + number, options={"job": family.sample(rng)})
        first.append(observation)
        env.step(policy.act(observation))
        last.append(np.where(env.course.anchor.available, env.course.offset / SPACE.reaches, np.nan))
    np.testing.assert_allclose(found.observations[0], np.mean(first, 0), atol=1e-4)
    np.testing.assert_allclose(found.offsets[0], np.nanmean(last, 0), atol=1e-4)
    assert found.offsets[0, 0] > 0


def test_means_leave_out_the_jobs_that_lack_a_hyperparameter() -> None:
    nan = np.nan
    tables = np.array([[[1.0, nan], [2.0, nan]], [[3.0, 5.0], [4.0, nan]]])
    np.testing.assert_array_equal(_mean(tables), [[2.0, 5.0], [3.0, 0.0]])


def test_habits_repeat_with_their_seed(tiny: None) -> None:
    first, again = (habits(linear(), "tiny", jobs=2, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.observations, again.observations)
    np.testing.assert_array_equal(first.offsets, again.offsets)


def test_a_blind_policy_sees_clock_and_knobs_but_neither_losses_nor_gradients() -> None:
    reads = linear(
        val_vs_best=(0.1, 0.0), grad_vs_last=(0.2, 0.0), progress=(0.0, 0.3), lr_vs_start=(0.0, 0.4)
    )
    blind = BlindPolicy(reads, means(0.5))
    seen = seeing(val_vs_best=-2.0, grad_vs_last=3.0, progress=0.25, lr_vs_start=-0.5)
    np.testing.assert_allclose(reads.act(seen), [-0.2 + 0.6, 0.075 - 0.2], rtol=1e-5)
    np.testing.assert_allclose(blind.act(seen), [0.05 + 0.1, 0.075 - 0.2], rtol=1e-5)


def test_a_blind_policy_takes_the_mean_of_its_present_share_of_the_budget() -> None:
    reads = linear(val_vs_best=(1.0, 0.0))
    table = np.zeros((DECISIONS, len(NAMES)))
    table[:, NAMES.index("val_vs_best")] = [0.1, 0.2, 0.3, 0.4]
    blind = BlindPolicy(reads, Habits(PLACES, table, np.zeros((DECISIONS, 2))))
    shares = [0.0, 0.1, 0.2, 0.6, 0.9, 0.2]  # in whatever order
    acted = [blind.act(seeing(progress=share))[0] for share in shares]
    assert acted == pytest.approx([0.1, 0.15, 0.2, 0.35, 0.4, 0.2])


def test_a_replay_plays_back_the_mean_way_whatever_the_job_does(tiny: None) -> None:
    offsets = np.array([[0.1, 0.0], [0.2, 0.0], [-0.1, 0.0], [0.0, 0.0]])
    replay = ReplayPolicy(linear(), Habits(PLACES, np.zeros((DECISIONS, len(NAMES))), offsets))
    env = TuningEnv.for_policy(replay, suite="tiny")
    for seed in (0, 1):
        episode = run_episode(env, replay, seed)
        start, budget = env.course.anchor.start[0], env.course.budget
        begun = np.array([0, *(record.used for record in episode.records[:-1])]) / budget
        reach = SPACE.hyperparameters[0].reach
        wanted = np.exp(np.interp(begun, PLACES, offsets[:, 0]) * reach)
        rates = [record.values["lr"] / start for record in episode.records]
        assert rates == pytest.approx(wanted.tolist(), rel=1e-5)


@pytest.mark.parametrize("kind", SAMPLES)
def test_an_untrained_policy_is_of_the_same_form_but_knows_nothing(kind: str) -> None:
    policy = SAMPLES[kind]()
    fresh = untrained(policy)
    assert type(fresh) is type(policy)
    assert (fresh.space, fresh.config, fresh.feature_names) == (
        policy.space,
        policy.config,
        policy.feature_names,
    )
    assert fresh.name == "sample-untrained"
    seen = random_observations(policy, 50)
    if not kind.endswith("-discrete"):  # whose likeliest choice is any one, however little it prefers it
        changes = [fresh.actions.fraction(fresh.act(o)) for o in seen]
        assert np.abs(changes).max() < 0.3  # it holds nearly still, as learning begins
        fresh.reset()
    again, other = untrained(policy), untrained(policy, seed=1)
    np.testing.assert_array_equal([fresh.act(o) for o in seen], [again.act(o) for o in seen])
    if kind.endswith("-continuous"):
        assert not np.array_equal([fresh.act(o) for o in seen], [other.act(o) for o in seen])


def test_an_untrained_policy_remembers_as_much_as_the_trained_one() -> None:
    fresh = untrained(network(memory=3))
    assert isinstance(fresh, MLPPolicy)
    assert fresh.memory == 3
    seen = random_observations(fresh, 2)
    first = fresh.act(seen[0])
    fresh.act(seen[1])
    assert not np.array_equal(fresh.act(seen[0]), first)  # others went before


def test_a_blind_policy_remembers_what_it_saw_not_what_was_there() -> None:
    weight = torch.zeros(2, 2 * len(NAMES))
    weight[0, NAMES.index("val_vs_best")] = 1.0  # of the decision before
    weight[1, NAMES.index("progress")] = 1.0
    config = CourseConfig(decisions=DECISIONS, rails=False)
    policy = MLPPolicy(SPACE, "continuous", config, NAMES, {}, [(weight, torch.zeros(2))], memory=2)
    blind = BlindPolicy(policy, means(0.5))
    blind.reset()
    acted = [blind.act(seeing(val_vs_best=-2.0, progress=share)) for share in (0.25, 0.75)]
    np.testing.assert_allclose(acted, [[0.0, 0.0], [0.5, 0.25]])
    assert blind.get_state() == policy.get_state() != {}


def test_the_untrained_weights_have_the_gains_that_learning_begins_with() -> None:
    first, _, last = untrained(network()).layers
    np.testing.assert_allclose((first[0] @ first[0].T).numpy(), 2 * np.eye(16), atol=1e-5)
    np.testing.assert_allclose((last[0] @ last[0].T).numpy(), 1e-4 * np.eye(2), atol=1e-8)
    assert not last[1].any()


@pytest.mark.parametrize("kind", SAMPLES)
def test_controls_run_as_the_policy_does_and_survive_a_pickle(kind: str, tiny: None) -> None:
    policy = SAMPLES[kind]()
    policy.config = CourseConfig(decisions=DECISIONS)
    controls = controls_of(policy, "tiny")
    assert tuple(controls) == CONTROLS
    for name, control in controls.items():
        assert control.name == f"sample-{name}"
        assert (control.space, control.config) == (policy.space, policy.config)
        control = pickle.loads(pickle.dumps(control))
        episode = run_episode(TuningEnv.for_policy(control, suite="tiny", split="test"), control, 3)
        assert len(episode.records) == DECISIONS


def test_a_control_has_the_memory_of_its_policy_and_no_other() -> None:
    for control in (BlindPolicy(linear(), means()), ReplayPolicy(linear(), means())):
        control.act(seeing())
        assert control.get_state() == {}
        control.set_state({})


def test_without_jobs_there_are_no_habits() -> None:
    with pytest.raises(ConfigError, match="jobs must be >= 1, got 0"):
        habits(linear(), "quick", jobs=0)
