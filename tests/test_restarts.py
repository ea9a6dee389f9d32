"""Restarts: the rule, the course's books over several attempts, both engines, environments and the tuner."""

from __future__ import annotations

import pickle
from dataclasses import replace
from math import inf, log, nan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rl_tuner import ConfigError, Tuner
from rl_tuner.course import Course
from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.history import Interval, Record, Track
from rl_tuner.policy import Policy
from rl_tuner.restarts import EARLY, FALL, MOST_ATTEMPTS, PAST, due, false_start, worse
from rl_tuner.rollout import run_episode
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.schedules import Constant
from rl_tuner.seeding import Streams
from rl_tuner.side_by_side import Run, run_side_by_side
from tests.batched import NAMES, OPTIMIZERS, Twins, make_job, table
from tests.phased import phased_job
from tests.test_course import FakeTrainee, decide, feature, start

BUDGET = 3000


def overfitting(optimizer: str = "adam", **changes: Any) -> TrainingJob:
    """Labels of chance: whatever is learned in training is worse in validation."""
    options: dict[str, Any] = {"dropout": None, "start": {"lr": 0.05}, "budget": BUDGET}
    return make_job(optimizer, **{**options, **changes})


def constant(**changes: Any) -> Policy:
    policy = Constant()
    policy.config = replace(policy.config, decisions=10, restarts=True, **changes)
    return policy


def test_the_rule_by_hand() -> None:
    """A budget of 100: as long past the best as it took, a tenth at least, and room for another attempt."""
    assert due(used=20, begun=0, best_used=10, budget=100, decisions=20)
    assert not due(used=19, begun=0, best_used=10, budget=100, decisions=20)  # 9 past, 10 to the best
    assert not due(used=9, begun=0, best_used=0, budget=100, decisions=20)  # less than a tenth past
    assert due(used=80, begun=60, best_used=70, budget=100, decisions=20)
    assert not due(used=81, begun=60, best_used=70, budget=100, decisions=20)  # 19 left for 20 decisions


@pytest.mark.parametrize(
    ("val_loss", "averaged_loss", "expected"),
    [
        (2.0, nan, True),
        (1.0, nan, False),
        (2.0, 1.0, False),
        (2.0, 1.5, True),
        (inf, nan, True),
        (nan, nan, False),
    ],
)
def test_worse_is_above_the_best_of_weights_and_average_where_there_is_a_validation(
    val_loss: float, averaged_loss: float, expected: bool
) -> None:
    track = Track(first=3.0, last=1.0, best=1.0, lowest=1.0)
    interval = Interval(train_late=9.0, val_loss=val_loss, averaged_loss=averaged_loss)
    assert bool(worse(interval, track)) is expected


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_there_are_no_more_attempts_than_the_log_has_room_for(steps: list[int]) -> None:
    """Even where no attempt ever improves on its start."""
    used, begun, attempts = 0, 0, 1
    for step in steps * 10:
        used += step
        if due(used, begun, begun, 1000, 1):
            begun, attempts = used, attempts + 1
    assert 1 + attempts <= MOST_ATTEMPTS  # before them a false start
    assert round(1 / PAST) == MOST_ATTEMPTS - 2


@pytest.mark.parametrize(
    ("spent", "lr", "val_loss", "expected"),
    [
        (34, 0.01, 1.0, False),  # too early to ask
        (35, 0.01, 1.0, True),
        (74, 0.01, 1.0, True),
        (75, 0.01, 1.0, False),  # too late: that is annealing
        (50, 0.0101, 1.0, False),  # not yet a decade
        (50, 1e-5, inf, True),
        (50, 1e-5, nan, False),  # no validation
        (50, nan, 1.0, False),  # the learning rate is not tuned
    ],
)
def test_a_false_start_by_hand(spent: int, lr: float, val_loss: float, expected: bool) -> None:
    assert (EARLY, FALL) == ((0.035, 0.075), 0.1)
    interval = Interval(val_loss=val_loss)
    assert bool(false_start(interval, spent, 1000, 20, lr, 0.1)) is expected
    assert not false_start(interval, spent, 1000, 1001 - spent, lr, 0.1)  # no room for another attempt


def begin_again(course: Course[int], trainee: FakeTrainee, val_loss: float) -> None:
    trainee.state = 100  # initial weights of the attempt's own
    course.begin_attempt(trainee, val_loss)


def test_a_course_goes_on_with_the_hyperparameters_and_keeps_the_books_of_all_attempts() -> None:
    course, trainee = start(reward="best_improvement", restarts=True)
    first = course.track.first
    decide(course, trainee, [1.0, 0.0], first / 2)
    before = dict(course.values)
    outcome = decide(course, trainee, [0.0, 0.0], 0.6 * first)
    while not outcome.attempt_over:
        outcome = decide(course, trainee, [0.0, 0.0], 0.6 * first)
        assert not outcome.finished
    used, decisions = course.used, course.decision
    begin_again(course, trainee, 1.1 * first)
    assert course.values == before
    assert (course.good, course.best) == (100, 1)
    assert (course.attempt, course.used, course.decision) == (1, used, decisions)
    assert course.ends[0] > used
    assert course.ends[-1] == course.budget
    assert feature(course, "progress") == 0  # to the policy it is a job of its own
    # Better than the attempt's own first loss, but not than the best one of all: nothing new is kept or paid.
    outcome = decide(course, trainee, [0.0, 0.0], 0.8 * first)
    assert (outcome.improved, outcome.reward) == (False, 0.0)
    assert course.best == 1
    outcome = decide(course, trainee, [0.0, 0.0], first / 4)
    assert outcome.improved
    assert outcome.reward == pytest.approx(log(2))
    assert course.return_ == pytest.approx(log(4))
    assert course.records[-1].best == course.overall.lowest == first / 4
    assert [record.attempt for record in course.records] == [0] * decisions + [1, 1]


def coming_down(course: Course[int], trainee: FakeTrainee, step: float, decisions: int = 20) -> list[bool]:
    """Which decisions say that the attempt is over, when each takes the learning rate down by `step`."""
    return [decide(course, trainee, [-step, 0.0], 1.0 / n).attempt_over for n in range(1, decisions + 1)]


def test_a_course_begins_again_once_when_it_has_come_down_by_a_decade_at_once() -> None:
    """Though each interval was better than the one before; the first decision past 3.5 % is the fifth."""
    options: dict[str, Any] = {"budget": 10_000, "decisions": 20, "intervals": "geometric", "restarts": True}
    course, trainee = start(**options)
    over = coming_down(course, trainee, 0.5)
    at = [course.records[i].used / course.budget for i, ended in enumerate(over) if ended]
    assert at
    assert all(EARLY[0] <= share < EARLY[1] for share in at)
    course, trainee = start(**options)
    first = over.index(True)
    assert coming_down(course, trainee, 0.5, first + 1)[-1]
    begin_again(course, trainee, 2.0)
    assert course.values["lr"] <= FALL * 0.1
    assert not any(coming_down(course, trainee, 0.5)), "a second attempt begins where the policy has arrived"
    for step in (0.0, 0.2):  # 0.2 comes down by a decade later on: that is annealing
        course, trainee = start(**options)
        assert not any(coming_down(course, trainee, step))
    assert course.values["lr"] < FALL * 0.1
    course, trainee = start(**{**options, "restarts": False})
    assert not any(coming_down(course, trainee, 0.5))


def test_a_snapshot_taken_in_a_further_attempt_goes_on_alike() -> None:
    course, trainee = start(restarts=True)
    first = course.track.first
    while not decide(course, trainee, [0.0, 0.0], 1.2 * first).attempt_over:
        pass
    begin_again(course, trainee, first)
    other, _ = start(restarts=True)
    other.set_state(pickle.loads(pickle.dumps(course.get_state())))
    for one in (course, other):
        while not one.finished:
            decide(one, FakeTrainee(), [0.0, 0.0], first / 2)
    assert other.records == course.records
    np.testing.assert_array_equal(other.observation(), course.observation())


def test_without_restarts_nothing_begins_again() -> None:
    course, trainee = start()
    while not course.finished:
        assert not decide(course, trainee, [0.0, 0.0], 1.2 * course.track.first).attempt_over


def test_both_engines_begin_again_alike_whatever_trains() -> None:
    """All optimizers side by side; those that begin again train as untrained ones would, the others go on."""
    jobs = [make_job(name, start={"batch_size": 7.0 + 9 * (i % 3)}) for i, name in enumerate(OPTIMIZERS)]
    twins = Twins(jobs, 1e-9, averaging=True)
    slots = np.arange(len(jobs))
    twins.advance([700] * len(jobs))
    some = slots[::2]
    twins.batched.begin_again(some, np.full(len(some), 1))
    for slot in some.tolist():
        twins.references[slot].begin_again(1)
    values = [{**{n: v for n, v in job.start.items() if n in NAMES}, "lr": 0.01} for job in jobs]
    twins.batched.write(table(values), NAMES, slots)
    for reference, row in zip(twins.references, values, strict=True):
        reference.trainee.write(row)
    twins.advance([1500] * len(jobs))


def weights_of(engine: BatchedEngine) -> torch.Tensor:
    return nn.utils.parameters_to_vector(engine.module(0).parameters()).detach()


def test_another_attempt_has_weights_of_its_own_an_unused_optimizer_and_the_best_weights_of_before() -> None:
    engine = BatchedEngine(1, averaging=True)
    seat = engine.start(0, overfitting(), Streams(3))
    slot = np.array([0])
    before = weights_of(engine)
    engine.advance(np.array([500]), slot)
    engine.keep(slot, slot)
    trained = weights_of(engine)
    engine.begin_again(slot, np.array([1]))
    again = weights_of(engine)
    assert not torch.equal(again, before)
    assert float(again.std()) == pytest.approx(float(before.std()), rel=0.3)
    engine.advance(np.array([1000]), slot)
    engine.restore(slot)  # the last good state is that of the attempt's beginning
    assert torch.equal(weights_of(engine), again)
    engine.restore_best(0)
    assert torch.equal(weights_of(engine), trained)
    assert seat.used == 1008  # the budget goes on


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_engine_that_begins_again_trains_as_one_that_begins(optimizer: str) -> None:
    """From the same weights, on the same batches: nothing is left of what the optimizer knew."""
    job = make_job(optimizer, dropout=None)
    engine, fresh = (ReferenceEngine(job, Streams(3), averaging=True) for _ in range(2))
    engine.advance(400)
    engine.begin_again(2)
    fresh.begin_again(2)
    fresh.sampler.set_state(engine.sampler.get_state())
    fresh.used = engine.used
    ours, theirs = engine.advance(900), fresh.advance(900)
    assert ours == theirs


def attempts(records: tuple[Record, ...]) -> list[int]:
    return [record.attempt for record in records]


def test_environment_vector_environment_and_runs_side_by_side_begin_again_alike() -> None:
    job, policy = overfitting(test=make_job().validation), constant(averaging=True)
    env = TuningEnv.for_policy(policy, job)
    episode = run_episode(env, policy, 5)
    (beside,) = run_side_by_side([Run(policy, 5, job)])
    assert max(attempts(episode.records)) >= 1, "the job never overfits"
    assert attempts(beside.records) == attempts(episode.records)
    assert [r.used for r in beside.records] == [r.used for r in episode.records]
    np.testing.assert_allclose(
        [r.val_loss for r in beside.records], [r.val_loss for r in episode.records], rtol=1e-6
    )
    assert beside.val_loss == pytest.approx(episode.val_loss, rel=1e-6)
    # The weights that were kept are those of the best loss of all attempts: test and validation are the same.
    assert episode.test["loss"] == pytest.approx(min(r.best for r in episode.records), rel=1e-6)
    assert episode.samples == BUDGET


def test_infos_tell_the_attempt_and_snapshots_of_vector_environments_continue_in_it() -> None:
    options: dict[str, Any] = {"decisions": 10, "restarts": True, "autoreset_mode": "Disabled"}
    envs = [VectorTuningEnv(2, overfitting(), **options) for _ in range(2)]
    env, other = envs
    env.reset(seed=1)
    action = np.zeros(env.action_space.shape, np.float32)  # type: ignore[arg-type]
    info: dict[str, Any] = {"attempt": np.zeros(2)}
    while not info["attempt"].any():
        *_, info = env.step(action)
    other.reset(seed=9)
    other.set_state(pickle.loads(pickle.dumps(env.get_state())))
    ours, theirs = env.step(action), other.step(action)
    for mine, its in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_job_in_phases_begins_again_in_its_last_phase_only() -> None:
    policy = constant()
    policy.config = replace(policy.config, decisions=12)
    episode = run_episode(TuningEnv.for_policy(policy, phased_job()), policy, 0)
    began = min((r.used for r in episode.records if r.attempt), default=inf)
    assert began > 301


def test_the_return_with_restarts_is_still_the_log_ratio_of_losses() -> None:
    policy = constant(reward="best_improvement")
    episode = run_episode(TuningEnv.for_policy(policy, overfitting()), policy, 5)
    assert max(attempts(episode.records)) >= 1
    assert episode.return_ == pytest.approx(log(episode.start_val_loss / episode.val_loss))


class Loop:
    """A stranger's loop over the job, batch by batch as the environment has it."""

    def __init__(self, job: TrainingJob, streams: Streams, **options: Any) -> None:
        self.job = job
        self.model = job.build_model(streams.seed_of("init"))
        optimizer = job.build_optimizer(self.model)
        self.inputs, self.targets = job.train  # type: ignore[misc]
        self.sampler = TunedBatchSampler(len(self.inputs), 16, streams.seed_of("batches"))
        for group in optimizer.param_groups:
            group["lr"] = job.start["lr"]
        self.optimizer = optimizer
        self.tuner = Tuner(
            optimizer, policy=constant(), model=self.model, validate=self.validate,
            batch_sampler=self.sampler, total_samples=BUDGET, **options,
        )  # fmt: skip

    def validate(self) -> float:
        self.model.eval()
        with torch.no_grad():
            inputs, targets = self.job.validation  # type: ignore[misc]
            return float(nn.functional.cross_entropy(self.model(inputs), targets))

    def train(self) -> None:
        while not self.tuner.finished:
            for batch in self.sampler:
                self.model.train()
                self.optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(self.inputs[batch]), self.targets[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.tuner.step(loss)
        self.tuner.restore_best()


def test_the_tuner_begins_again_as_the_environment_does_where_it_is_given_the_same_weights() -> None:
    job, env = overfitting(), TuningEnv.for_policy(constant(), overfitting())
    expected = run_episode(env, constant(), 5)
    number = 0

    def reinitialize(model: nn.Module) -> None:
        nonlocal number
        number += 1
        model.load_state_dict(job.build_model(env.streams.attempt(number).seed_of("init")).state_dict())

    loop = Loop(job, env.streams, reinitialize=reinitialize)
    loop.train()
    assert number == max(attempts(expected.records)) >= 1
    assert loop.tuner.attempt == number
    assert attempts(loop.tuner.records) == attempts(expected.records)
    losses = [[r.val_loss for r in records] for records in (loop.tuner.records, expected.records)]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert loop.validate() == pytest.approx(expected.val_loss)


def test_without_new_weights_the_tuner_begins_again_from_the_first_ones() -> None:
    loop = Loop(overfitting(), Streams(5))
    first = [t.clone() for t in loop.model.state_dict().values()]
    seen: list[list[torch.Tensor]] = []
    validate = loop.validate

    def watch() -> float:
        seen.append([t.clone() for t in loop.model.state_dict().values()])
        return validate()

    loop.tuner._validate_loss = watch
    loop.train()
    again = sum(all(map(torch.equal, weights, first)) for weights in seen)
    assert again == loop.tuner.records[-1].attempt >= 1


@pytest.mark.parametrize("options", [{"restarts": False}, {"rails": False, "restarts": False}])
def test_a_tuner_can_be_told_not_to(options: dict[str, Any]) -> None:
    loop = Loop(overfitting(), Streams(5), **options)
    loop.train()
    assert set(attempts(loop.tuner.records)) == {0}


@pytest.mark.parametrize(
    ("model", "reinitialize", "message"),
    [(None, print, "needs model="), (nn.Linear(1, 1), 3, "needs a function, got int")],
)
def test_what_cannot_be_reinitialized_is_refused(model: Any, reinitialize: Any, message: str) -> None:
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(ConfigError, match=message):
        Tuner(torch.optim.SGD([weight], lr=0.1), 50, "constant", model, reinitialize=reinitialize)
