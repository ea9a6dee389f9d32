"""Jobs in phases: both environments' contracts, what a phase starts from, and what can go wrong in one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from rl_tuner import ConfigError, JobError
from rl_tuner.applying import records_csv, trace
from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.jobs import Phase
from rl_tuner.envs.phases import EpisodePhase
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.seats import BatchedSeat, ReferenceSeat
from rl_tuner.intervals import phase_boundaries
from rl_tuner.policy_file import load_policy
from rl_tuner.rails import Rails
from rl_tuner.rewards import crash_return
from rl_tuner.rollout import run_episode
from rl_tuner.seeding import Streams
from tests.contracts import (
    EnvironmentContract,
    VectorEnvironmentContract,
    assert_same_state,
    assert_same_steps,
    play,
    random_action_batches,
    random_actions,
)
from tests.phased import FIRST, SECOND, VALIDATION, network, phased_job, second
from tests.side_by_side import assert_like_single_environments

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED
BOMB = {"lr": 1e200, "batch_size": 16.0}
STILL = np.zeros(2)
LR_AND_BATCH = ("lr", "batch_size")


class TestSingle(EnvironmentContract):
    phases = 2

    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(phased_job(), decisions=6, **options)


class TestVector(VectorEnvironmentContract):
    phases = 2

    def make(self, num_envs: int = 3, **options: Any) -> VectorTuningEnv:
        return VectorTuningEnv(num_envs, phased_job(), decisions=5, **options)


def third(trained: nn.Module) -> TrainingJob:
    """A phase with another optimizer, which has no momentum, on the whole network."""
    return second(trained, optimizer="adagrad", weights=dict(trained.state_dict()), start={"lr": 0.1})


def three_phases(**changes: Any) -> TrainingJob:
    job = phased_job(**changes)
    return replace(job, then=(*job.then, Phase(third, 250)))


def own_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def tensors(module: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for t in module.state_dict().values()]


def test_an_episode_is_its_phases_trained_one_after_the_other() -> None:
    env = TuningEnv(phased_job(), decisions=8, hyperparameters=["lr"])
    env.reset(seed=4)
    infos = [step[4] for step in play(env, [np.zeros(1)] * 8)]
    expected: list[tuple[float, int]] = []
    streams = env.streams
    first = ReferenceEngine(phased_job(), streams)
    best, weights = first.validate(), first.model.state_dict()
    ends = phase_boundaries([FIRST, SECOND], 8).tolist()
    for end in (e for e in ends if e <= FIRST):
        expected.append((first.advance(end).val_loss, first.used))
        if expected[-1][0] < best:
            best, weights = expected[-1][0], {k: v.clone() for k, v in first.model.state_dict().items()}
    fresh = network(6)
    fresh.load_state_dict(weights)
    other = ReferenceEngine(second(fresh), streams.phase(1))
    other.budget = SECOND
    other.sampler.stop_after(SECOND)
    start = other.validate()
    expected += [(other.advance(e - FIRST).val_loss, FIRST + other.used) for e in ends if e > FIRST]
    assert [(record.val_loss, record.used) for record in env.records] == expected
    assert FIRST in [used for _, used in expected]
    assert [info["phase"] for info in infos] == [int(used >= FIRST) for _, used in expected]
    changed = infos[[info["phase"] for info in infos].index(1)]
    assert changed["val_loss"] == changed["best_val_loss"] == start
    assert np.isnan(changed["train_loss"])


def test_the_next_phase_starts_from_the_best_weights_not_the_last() -> None:
    job = phased_job(start={"lr": 0.01, "batch_size": 16.0})
    env = TuningEnv(job, decisions=6, actions="anchored", rails=False, hyperparameters=["lr"])
    env.reset(seed=0)
    *_, before = play(env, [np.zeros(1)])
    kept: Any = env.engine.model
    best = kept[0].weight.clone()
    env.step(np.ones(1))  # ten times a thousand: the loss of this interval is far worse
    *_, info = env.step(np.ones(1))
    assert info["phase"] == 1
    losses = [record.val_loss for record in env.records]
    assert losses[2] > losses[0] == before[4]["best_val_loss"]
    body: Any = env.engine.model
    assert torch.equal(body[0].weight, best)


@pytest.mark.parametrize("decisions", [2, 5])
def test_samples_and_validation_samples_are_counted_through_all_phases(decisions: int) -> None:
    env = TuningEnv(phased_job(), decisions=decisions)
    _, info = env.reset(seed=0)
    assert (info["phase"], info["samples"], info["val_samples"]) == (0, 0, 30)
    infos = [step[4] for step in play(env, [np.zeros(5)] * decisions)]
    assert len(infos) == decisions
    assert infos[-1]["samples"] == FIRST + SECOND
    assert infos[-1]["val_samples"] == 30 * (decisions + 2)  # the second start is one more
    change = next(info for info in infos if info["phase"])
    assert change["samples"] == FIRST


def test_the_return_is_the_sum_of_the_phases_falls_in_nats() -> None:
    env = TuningEnv(phased_job(), decisions=6)
    _, info = env.reset(seed=2)
    starts = [info["val_loss"]]
    steps = play(env, [np.zeros(5)] * 6)
    starts.append(next(step[4]["val_loss"] for step in steps if step[4]["phase"]))
    ends = [max((r for r in env.records if r.used <= end), key=lambda r: r.used) for end in (FIRST, 10**6)]
    expected = sum(np.log(start / end.val_loss) for start, end in zip(starts, ends, strict=True))
    assert sum(step[1] for step in steps) == pytest.approx(expected)


@pytest.mark.parametrize("taken", range(7))
def test_a_snapshot_in_any_phase_continues_bit_for_bit(taken: int) -> None:
    env, other = TuningEnv(three_phases(), decisions=6), TuningEnv(three_phases(), decisions=6)
    env.reset(seed=1)
    other.reset(seed=9)
    actions = random_actions(env, 3)
    play(env, actions[:taken])
    state = pickle.loads(pickle.dumps(env.get_state()))
    expected = play(env, actions[taken:])
    for _ in range(2):
        other.set_state(state)
        assert other.phase.number == state["course"]["phase"]
        assert_same_steps(play(other, actions[taken:]), expected)
    assert all(map(torch.equal, tensors(env.engine.model), tensors(other.engine.model)))
    assert other.evaluate() == env.evaluate()


@pytest.mark.parametrize("job", [three_phases(), phased_job(then={"loss": own_loss})], ids=["three", "mixed"])
@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
def test_a_snapshot_of_slots_in_different_phases_continues_bit_for_bit(job: TrainingJob) -> None:
    env, other = (VectorTuningEnv(3, job, decisions=6, rails=Rails(rescues=2)) for _ in range(2))
    env.reset(seed=1)
    other.reset(seed=9)
    actions = random_action_batches(env, 2, 16)
    phases = set()
    for i, some in enumerate(actions[:8]):
        if i == 2:
            env.reset(options={"reset_mask": np.array([True, False, False])})
        *_, info = env.step(some)
        state = pickle.loads(pickle.dumps(env.get_state()))
        other.set_state(state)
        phases.add(tuple(info["phase"].tolist()))
        assert_same_state(other.step(actions[i + 1]), env.step(actions[i + 1]))
        env.set_state(state)
    assert any(len(set(each)) > 1 for each in phases)


@pytest.mark.parametrize("mode", [SAME, NEXT])
@pytest.mark.parametrize(
    "options",
    [
        {"actions": "discrete", "reward": "best_improvement", "early_stopping": 2, "intervals": "uniform"},
        {"actions": "continuous", "hyperparameters": None},
        {"actions": "anchored", "reward": "final_improvement", "intervals": "uniform"},
        {"actions": "anchored", "rails": False},
    ],
    ids=["discrete", "continuous", "anchored", "without rails"],
)
def test_each_slot_is_a_single_environment_through_all_phases(
    mode: AutoresetMode, options: dict[str, Any]
) -> None:
    options = {"job": three_phases(), "decisions": 6, "hyperparameters": LR_AND_BATCH, **options}
    episodes = assert_like_single_environments(3, 20, 1e-6, mode, scale=0.5, **options)
    assert (episodes >= 2).all()


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
@pytest.mark.parametrize("where", ["first", "second"])
def test_a_phase_that_cannot_be_batched_runs_on_the_reference_engine(where: str) -> None:
    def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).square().mean()

    job = phased_job(loss=squared) if where == "first" else phased_job(then={"loss": own_loss})
    assert_like_single_environments(2, 9, 1e-6, SAME, job=job, decisions=4, hyperparameters=LR_AND_BATCH)
    env = VectorTuningEnv(1, job, decisions=2)
    env.reset(seed=0)
    before = type(env.engine.seat(0))
    env.step(np.zeros((1, 5), np.float32))
    kinds = [ReferenceSeat, BatchedSeat] if where == "first" else [BatchedSeat, ReferenceSeat]
    assert [before, type(env.engine.seat(0))] == kinds


def test_programs_of_static_shapes_train_phases_as_rounds_do() -> None:
    options: dict[str, Any] = {"decisions": 4, "hyperparameters": LR_AND_BATCH}
    rounds = VectorTuningEnv(3, phased_job(), **options)
    static = VectorTuningEnv(3, phased_job(), compile=Uniform(8, 2, 3, compile=False), **options)
    rounds.reset(seed=0), static.reset(seed=0)
    for actions in random_action_batches(rounds, 0, 7):
        one, other = rounds.step(0.4 * actions), static.step(0.4 * actions)
        np.testing.assert_allclose(one[0], other[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-6)
        assert one[4]["phase"].tolist() == other[4]["phase"].tolist()


def test_slots_of_a_group_run_the_same_phases() -> None:
    env = VectorTuningEnv(4, phased_job(), decisions=4, group_size=2, hyperparameters=["lr"])
    env.reset(seed=0)
    for _ in range(7):
        observations, *_, info = env.step(np.zeros((4, 1), np.float32))
        np.testing.assert_allclose(observations[::2], observations[1::2], rtol=0, atol=1e-6)
        assert info["phase"].tolist() == [info["phase"][0]] * 4
        assert not np.allclose(info["val_loss"][0], info["val_loss"][2])


def test_a_slots_job_seed_and_name_are_the_episodes_in_every_phase() -> None:
    env = VectorTuningEnv(2, phased_job(), decisions=3)
    _, info = env.reset(seed=0)
    seeds = info["job_seed"].tolist()
    for action in random_action_batches(env, 0, 2):
        *_, info = env.step(0 * action)
        assert info["job_seed"].tolist() == seeds
        assert info["job"].tolist() == ["phased"] * 2
    assert info["phase"].tolist() == [1, 1]


def test_a_hyperparameter_that_a_phase_lacks_is_left_out_there() -> None:
    env = TuningEnv(phased_job(then={"optimizer": "adagrad", "start": {"lr": 0.1}}), decisions=2)
    observation, info = env.reset(seed=0)
    assert "momentum" in info["hyperparameters"]
    observation, *_, info = env.step(np.zeros(5))
    assert set(info["hyperparameters"]) == {"lr", "batch_size", "weight_decay"}
    assert info["hyperparameters"]["lr"] == env.engine.trainee.read()["lr"] == 0.1
    seen = dict(zip(env.feature_names, observation, strict=True))
    assert (seen["momentum_available"], seen["lr_vs_start"], seen["val_vs_first"]) == (0.0, 0.0, 0.0)
    env.step(np.zeros(5))
    head, *lines = records_csv(env.records).splitlines()
    momentum = head.split(",").index("momentum")
    assert [line.split(",")[momentum] for line in lines] == ["0.9", ""]
    assert trace({"momentum": 0.5}, env.records, "momentum")["end"] == 0.9


def test_a_drawn_episode_has_the_jobs_name_and_the_columns_of_every_phase() -> None:
    job = phased_job(optimizer="adagrad", start={"lr": 0.1})
    env = TuningEnv(job, decisions=2, render_mode="ansi")
    env.reset(seed=0)
    play(env, [np.zeros(5)] * 2)
    title, head, *lines = env.render().splitlines()
    momentum = head.split().index("momentum")
    assert title == "phased"
    assert [line.split()[momentum] for line in lines] == ["-", "0.8"]


def test_what_must_not_be_tuned_in_a_phase_stays() -> None:
    env = TuningEnv(phased_job(then={"fixed": ("batch_size",)}), decisions=4, hyperparameters=LR_AND_BATCH)
    env.reset(seed=0)
    play(env, [np.ones(2)] * 4)
    names = [set(record.values) for record in env.records]
    assert names == [{"lr", "batch_size"}] * 2 + [{"lr"}] * 2
    assert env.engine.trainee.read()["batch_size"] == 8.0


def test_the_scores_of_an_episode_are_the_last_phases() -> None:
    job, schedule = phased_job(), load_policy("constant")
    env = TuningEnv.for_policy(schedule, job)
    episode = run_episode(env, schedule, 0)
    assert set(episode.test) >= {"loss", "accuracy"}
    assert episode.samples == FIRST + SECOND == env.course.budget
    assert env.evaluate("validation")["loss"] == pytest.approx(episode.val_loss)
    assert episode.test["accuracy"] > 0.6


@pytest.mark.parametrize("rails", [False, Rails(rescues=1)])
def test_a_crash_in_the_first_phase_leaves_the_last_ones_untrained_model(rails: bool | Rails) -> None:
    env = TuningEnv(three_phases(start=BOMB), decisions=12, rails=rails, hyperparameters=["lr"])
    env.reset(seed=0)
    untrained = tensors(env.engine.model)
    steps = play(env, [np.ones(1)] * 12)
    _, _, terminated, _, info = steps[-1]
    assert (terminated, info["crashed"], info["phase"]) == (True, True, 0)
    assert sum(step[1] for step in steps) == pytest.approx(crash_return(3))
    assert all(map(torch.equal, tensors(env.engine.model)[:2], untrained[:2]))  # the best body: the first
    assert tensors(env.engine.model)[2].shape == (3, 8)
    assert 0 <= env.evaluate()["accuracy"] <= 1
    other = TuningEnv(three_phases(start=BOMB), decisions=12, rails=rails, hyperparameters=["lr"])
    other.set_state(pickle.loads(pickle.dumps(env.get_state())))
    assert other.evaluate() == env.evaluate()
    assert other.reset()[0].tobytes() == env.reset()[0].tobytes()


def test_a_crash_in_one_slots_first_phase_leaves_its_neighbours_alone() -> None:
    options: dict[str, Any] = {"decisions": 4, "rails": False, "hyperparameters": ["lr"]}
    options["autoreset_mode"] = DISABLED
    env, quiet = (VectorTuningEnv(2, phased_job(), **options) for _ in range(2))
    env.reset(seed=0), quiet.reset(seed=0)
    env.reset(options={"job": phased_job(start=BOMB), "reset_mask": np.array([True, False])})
    one, other = env.step(np.zeros((2, 1))), quiet.step(np.zeros((2, 1)))
    assert one[2].tolist() == [True, False]
    assert one[1][0] == pytest.approx(crash_return(2))
    np.testing.assert_allclose(one[0][1], other[0][1], rtol=0, atol=1e-6)
    assert 0 <= env.evaluate(0)["accuracy"] <= 1
    assert env.engine.module(0)[2].weight.shape == (3, 8)  # type: ignore[index]


def test_weights_that_became_nan_in_the_first_phase_are_not_taken_into_the_second() -> None:
    env = TuningEnv(phased_job(), decisions=2, rails=True, hyperparameters=["lr"])
    env.reset(seed=0)
    start: Any = env.engine.model
    body = start[0].weight.clone()
    with torch.no_grad():
        start[2].bias.fill_(float("nan"))
    _, reward, terminated, _, info = env.step(np.zeros(1))
    assert (terminated, info["phase"], info["rescues"], info["verdict"], reward) == (
        False,
        1,
        1,
        "diverged",
        0,
    )
    model: Any = env.engine.model
    assert torch.equal(model[0].weight, body)
    assert np.isfinite(info["val_loss"])


def test_phases_of_a_single_sample_run() -> None:
    job = replace(phased_job(budget=1), budget=1)
    env = TuningEnv(job, decisions=2)
    env.reset(seed=0)
    steps = play(env, [np.zeros(5)] * 2)
    assert [(step[4]["samples"], step[4]["phase"], step[2]) for step in steps] == [
        (1, 1, False),
        (2, 1, True),
    ]
    vector = VectorTuningEnv(2, job, decisions=2, autoreset_mode=DISABLED)
    vector.reset(seed=0)
    for _ in range(2):
        *_, terminated, _, info = vector.step(np.zeros((2, 5), np.float32))
    assert terminated.all()
    assert info["samples"].tolist() == [2, 2]


def test_fewer_decisions_than_phases_are_refused() -> None:
    message = "a job of 2 phases needs a decision for each, got 1: raise decisions"
    with pytest.raises(ConfigError, match=message):
        TuningEnv(phased_job(), decisions=1).reset(seed=0)
    with pytest.raises(ConfigError, match=message):
        VectorTuningEnv(2, phased_job(), decisions=1).reset(seed=0)


def test_patience_in_a_phase_that_is_not_the_last_ends_nothing() -> None:
    still = {"lr": 1e-7, "batch_size": 16.0}
    job = phased_job(start=still, loss=partial(_constant), then={"start": still, "loss": partial(_constant)})
    env = TuningEnv(job, decisions=8, rails=False, early_stopping=2, intervals="uniform")
    env.reset(seed=0)
    steps = play(env, [np.zeros(5)] * 8)
    first = sum(step[4]["samples"] <= FIRST for step in steps)
    assert first == 3
    assert len(steps) == first + 2


def _constant(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (0 * outputs).sum() + 1


def make_nothing(trained: nn.Module) -> Any:
    return trained


def make_more(trained: nn.Module) -> TrainingJob:
    return phased_job()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_nothing, "what follows phase 0 of the job 'phased' must be a TrainingJob, got Sequential"),
        (make_more, "what follows phase 0 of the job 'phased' has a then of its own"),
        (partial(second, weights={"9.weight": torch.zeros(1)}), "nothing in the given weights fits"),
    ],
)
def test_a_next_phase_that_cannot_be_built_is_named(make: Any, message: str) -> None:
    job = replace(phased_job(), then=(Phase(make, 100),))
    env = TuningEnv(job, decisions=2)
    env.reset(seed=0)
    with pytest.raises(JobError, match=message):
        env.step(np.zeros(5))
    vector = VectorTuningEnv(2, job, decisions=2)
    vector.reset(seed=0)
    with pytest.raises(JobError, match=f"slot 0: {message}"):
        vector.step(np.zeros((2, 5), np.float32))
    vector.reset(seed=0, options={"job": phased_job()})
    assert vector.step(np.zeros((2, 5), np.float32))[4]["phase"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 100), "a phase's job must be a function of the trained network, got 3"),
        ((second, 0), "budget of a phase must be >= 1, got 0"),
        ((second, 1.5), "budget of a phase must be a whole number, got 1.5"),
        ((second, 2**60), "budget of a phase must be .*<= "),
    ],
)
def test_a_phase_that_makes_no_sense_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Phase(*arguments)


@pytest.mark.parametrize("then", [second, Phase(second, 10), (second,), None])
def test_what_follows_must_be_phases(then: Any) -> None:
    with pytest.raises(ConfigError, match="then must be a tuple of Phase"):
        TrainingJob(partial(network, 3), VALIDATION[:2], then=then)


def test_a_state_of_a_job_with_other_phases_is_refused() -> None:
    begun = EpisodePhase.begin(phased_job(), Streams(0))
    state = begun.after(network(6), 30).get_state()
    with pytest.raises(JobError, match="in phase 1 of a job, the job 'classes' has 1 phases"):
        EpisodePhase.resume(second(network(6)), Streams(0), state)
    other = phased_job(model=partial(nn.Linear, 6, 6))
    with pytest.raises(JobError, match="the weights of phase 0 do not fit its model"):
        EpisodePhase.resume(other, Streams(0), state)


def test_the_network_handed_on_is_a_copy_with_its_hyperparameters_at_their_start() -> None:
    job = phased_job(model=partial(network, 6, 0.25))
    trained = job.build_model(3)
    for layer in trained.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.75
    seen: list[nn.Module] = []

    def look(network: nn.Module) -> TrainingJob:
        seen.append(network)
        return second(network)

    job = replace(job, then=(Phase(look, 7),))
    phase = EpisodePhase.begin(job, Streams(0)).after(trained, 12)
    assert (phase.number, phase.last, phase.val_samples, phase.job.budget) == (1, True, 12, 7)
    assert [layer.p for layer in seen[0].modules() if isinstance(layer, nn.Dropout)] == [0.25]
    assert all(map(torch.equal, tensors(seen[0]), tensors(trained)))
    with torch.no_grad():
        next(trained.parameters()).fill_(7.0)
    assert not torch.equal(phase.trained[0]["0.weight"], trained.state_dict()["0.weight"])
