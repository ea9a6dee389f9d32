"""Averages of weights: the formula, the engines that agree on it, and what courses and tuners make of it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rl_tuner import JobError, Tuner
from rl_tuner.averaging import DECAY, WeightAverage, newest_share
from rl_tuner.course import Course
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import TuningEnv
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.rows import AVERAGE
from rl_tuner.history import Interval
from rl_tuner.rails import Verdict
from rl_tuner.seeding import Streams
from rl_tuner.side_by_side import Run, run_side_by_side
from rl_tuner.trainee import Trainee
from tests.batched import NAMES, OPTIMIZERS, Twins, make_job, table
from tests.learned_policies import network
from tests.test_course import FakeTrainee, decide, feature, start

NAN = float("nan")


def explicit(values: list[float]) -> float:
    """Polynomial-decay averaging by its definition, the weights of all values written out."""
    shares = np.array([(DECAY + 1) / (t + DECAY) for t in range(1, len(values) + 1)])
    left = np.append(np.cumprod((1 - shares[1:])[::-1])[::-1], 1.0)
    return float((shares * left * values).sum())


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60))
def test_the_average_is_the_sum_written_out(values: list[float]) -> None:
    live = torch.tensor([7.0, 7.0], dtype=torch.float64)
    average = WeightAverage([live])
    for value in values:
        live.fill_(value)
        average.update()
    torch.testing.assert_close(average.tensors()[0], torch.full_like(live, explicit(values)))


def test_the_first_update_replaces_the_start_and_a_constant_stays() -> None:
    assert newest_share(1) == 1
    live = torch.tensor([1.0])
    average = WeightAverage([live])
    live.fill_(3.0)
    for _ in range(50):
        average.update()
    assert average.tensors()[0].item() == pytest.approx(3.0)


def test_about_the_last_ninth_of_a_straight_line_is_averaged() -> None:
    """For a line the average's age is that of the mean weight: updates / (DECAY + 2)."""
    values = [float(t) for t in range(1, 5001)]
    assert 5000 - explicit(values) == pytest.approx(5000 / (DECAY + 2), rel=0.01)


def test_buffers_are_averaged_and_counters_taken_as_they_are() -> None:
    model = nn.BatchNorm1d(2)
    average = WeightAverage([*model.parameters(), *model.buffers()])
    for value in (0.0, 4.0):
        model(torch.full((3, 2), value))
        average.update()
    *_, mean, _, count = average.tensors()
    share = newest_share(2)
    assert count.item() == 2
    torch.testing.assert_close(mean, torch.full((2,), 0.4 * share))


def test_inside_of_the_block_the_model_is_the_average_and_afterwards_itself_even_after_an_error() -> None:
    live = nn.Parameter(torch.tensor([1.0, 2.0]))
    average = WeightAverage([live])
    with torch.no_grad():
        live.mul_(2)
    with average.in_place():
        assert live.tolist() == [1.0, 2.0]
    assert live.tolist() == [2.0, 4.0]
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert live.tolist() == [2.0, 4.0]


def test_data_that_are_replaced_are_followed() -> None:
    live = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([live])
    live.data = torch.tensor([5.0])
    average.update()
    assert average.tensors()[0].item() == 5
    with average.in_place():
        live.data.add_(1)
    assert live.item() == 5


def test_a_kept_state_holds_the_average_and_restoring_it_goes_on_alike() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainee = Trainee(optimizer, model, averaging=True)
    average = trainee.average
    assert average is not None

    def walk(steps: int) -> list[torch.Tensor]:
        for step in range(steps):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.1 * (step + 1))
            average.update()
        return [t.clone() for t in average.tensors()]

    walk(3)
    kept = pickle.loads(pickle.dumps(trainee.keep()))
    expected = walk(4)
    trainee.restore(kept)
    torch.testing.assert_close(walk(4), expected, rtol=0, atol=0)
    trainee.restore_weights(trainee.keep_average())
    torch.testing.assert_close([p.detach() for p in model.parameters()], expected, rtol=0, atol=0)


def test_without_averaging_there_is_none_to_keep() -> None:
    model = nn.Linear(2, 1)
    trainee = Trainee(torch.optim.SGD(model.parameters(), lr=0.1), model)
    assert trainee.average is None
    assert trainee.keep().average is None
    with pytest.raises(JobError, match="no average"):
        trainee.keep_average()


def average_of(engine: BatchedEngine, slot: int) -> torch.Tensor:
    seat: Any = engine.seat(slot)
    return seat.group.rows.tensors[AVERAGE][seat.row]


@pytest.mark.parametrize("paused", [False, True], ids=["all train", "one pauses"])
def test_both_engines_average_alike_whatever_trains(paused: bool) -> None:
    """All optimizers side by side, with unequal batch sizes, through a state that is put back."""
    jobs = [make_job(name, start={"batch_size": 7.0 + 9 * (i % 3)}) for i, name in enumerate(OPTIMIZERS)]
    twins = Twins(jobs, 1e-9, averaging=True)
    slots = np.arange(len(jobs))
    twins.advance([100 + 90 * (i % 4) for i in slots])
    twins.batched.keep(slots, slots[:0])
    kept = [r.trainee.keep() for r in twins.references]
    twins.advance([700] * len(jobs), slots[1:] if paused else None)
    twins.batched.restore(slots)
    for reference, state in zip(twins.references, kept, strict=True):
        reference.trainee.restore(state)
    values = [{name: value for name, value in job.start.items() if name in NAMES} for job in jobs]
    twins.batched.write(table(values), NAMES, slots)
    found = twins.advance([1500] * len(jobs))
    assert np.isfinite(found.averaged_loss).all()
    assert (found.averaged_loss != found.val_loss).all()
    for slot, reference in enumerate(twins.references):
        assert reference.trainee.average is not None
        flat = torch.cat([t.flatten() for t in reference.trainee.average.tensors()])
        torch.testing.assert_close(average_of(twins.batched, slot), flat, rtol=1e-9, atol=1e-9)


def test_training_and_validation_losses_are_those_without_averages() -> None:
    engines = [BatchedEngine(2, averaging=averaging) for averaging in (False, True)]
    for engine in engines:
        for slot, optimizer in enumerate(("adam", "sgd")):
            engine.start(slot, make_job(optimizer), Streams(slot))
    plain, averaging = (engine.advance(np.array([500, 500]), np.arange(2)) for engine in engines)
    np.testing.assert_array_equal(plain.val_loss, averaging.val_loss)
    np.testing.assert_array_equal(plain.train_late, averaging.train_late)
    assert np.isnan(plain.averaged_loss).all()
    assert (engines[1].val_samples == 2 * engines[0].val_samples).all()
    assert engines[1].bytes_per_job > engines[0].bytes_per_job


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
def test_a_job_that_is_not_batched_keeps_an_average_of_its_own() -> None:
    """Batch normalization is not batched; its running statistics are averaged with the weights."""
    normed = nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    job = make_job(model="mlp", optimizer="sgd")
    job = replace(job, model=lambda: normed)
    x = job.train[0]  # type: ignore[index]
    normed[0] = nn.Linear(x.shape[1], 4).double()
    engine = BatchedEngine(1, averaging=True)
    engine.start(0, job, Streams(0))
    found = engine.advance(np.array([600]), np.array([0]))
    engine.keep(np.array([0]), np.array([], np.int64), np.array([0]))
    engine.restore_best(0)
    assert engine.evaluate(0, "validation")["loss"] == pytest.approx(found.averaged_loss[0])
    assert found.averaged_loss[0] != found.val_loss[0]


@pytest.mark.parametrize(
    ("val_loss", "averaged_loss", "lowest", "averaged"),
    [(2.0, 1.0, 1.0, True), (1.0, 2.0, 1.0, False), (1.0, 1.0, 1.0, False), (1.0, NAN, 1.0, False)],
)
def test_the_lower_of_the_two_losses_counts(
    val_loss: float, averaged_loss: float, lowest: float, averaged: bool
) -> None:
    interval = Interval(train_late=9.0, val_loss=val_loss, averaged_loss=averaged_loss)
    assert (interval.criterion, interval.lowest, bool(interval.averaged)) == (val_loss, lowest, averaged)
    arrays = Interval(train_late=np.full(2, 9.0), val_loss=np.full(2, val_loss), averaged_loss=averaged_loss)
    np.testing.assert_array_equal(arrays.lowest, [lowest] * 2)


class Averaged(FakeTrainee):
    """Its average is told apart from its states by the sign."""

    def keep_average(self) -> int:
        return -self.state


def begun(**config: Any) -> tuple[Course[int], Averaged]:
    course, _ = start(**config)
    trainee = Averaged()
    course.begin(trainee, {"lr": 0.1, "batch_size": 64.0}, 4.0)
    return course, trainee


def test_a_course_keeps_the_average_where_it_is_best_and_pays_for_it() -> None:
    course, trainee = begun(reward="best_improvement", averaging=True)
    outcome = decide(course, trainee, [0.0, 0.0], 3.0, averaged_loss=2.0)
    assert (outcome.improved, course.good, course.best) == (True, 1, -1)
    assert outcome.reward == pytest.approx(np.log(2))
    assert feature(course, "averaged_over_val") == pytest.approx(np.log(2 / 3))
    assert feature(course, "since_best") == 0
    # The present weights alone are better than before, but not than the average then.
    assert not decide(course, trainee, [0.0, 0.0], 2.5, averaged_loss=2.1).improved
    assert (course.good, course.best) == (2, -1)
    assert feature(course, "val_vs_best") == pytest.approx(np.log(2.5 / 3))
    assert decide(course, trainee, [0.0, 0.0], 1.0, averaged_loss=1.5).improved
    assert course.best == 3
    assert [r.best for r in course.records] == [2.0, 2.0, 1.0]


def test_rails_judge_the_present_weights_and_an_average_beside_destroyed_ones_does_not_count() -> None:
    course, trainee = begun(averaging=True)
    outcome = decide(course, trainee, [0.0, 0.0], 50.0, averaged_loss=0.5)
    assert (outcome.improved, course.rescues, course.best) == (False, 1, 0)
    assert course.track.lowest == 4.0


def test_rails_compare_present_weights_with_present_weights_however_good_the_average_is() -> None:
    course, trainee = begun(averaging=True)
    decide(course, trainee, [0.0, 0.0], 3.0, averaged_loss=0.5)
    assert decide(course, trainee, [0.0, 0.0], 3.1, averaged_loss=0.4).verdict == Verdict.GOOD
    assert (course.track.best, course.track.lowest, course.best) == (3.0, 0.4, -2)


def averaging_policy(**changes: Any) -> Any:
    policy = network()
    policy.config = replace(policy.config, averaging=True, patience=None, **changes)
    return policy


def test_single_environment_and_side_by_side_runs_end_with_the_same_averaged_weights() -> None:
    policy = averaging_policy(decisions=6)
    job = make_job("sgd", dropout=None, start={"lr": 0.3}, budget=1500, test=make_job().validation)
    env = TuningEnv.for_policy(policy, job)
    policy.reset(3)
    observation, _ = env.reset(seed=3)
    finished, sources = False, []
    while not finished:
        observation, _, finished, _, _ = env.step(policy.act(observation))
        interval = env.course.interval
        sources.append(bool(interval.averaged))
    (episode,) = run_side_by_side([Run(averaging_policy(decisions=6), 3, job)])
    assert any(sources), "the job never shows an average that is better"
    assert episode.val_loss == pytest.approx(env.course.track.lowest, rel=1e-6)
    assert episode.test["loss"] == pytest.approx(env.evaluate("test")["loss"], rel=1e-6)
    # Validation and test are the same samples here: what was kept is what was judged.
    assert episode.test["loss"] == pytest.approx(episode.val_loss, rel=1e-6)


class Walk:
    """A loop whose weight jumps between two sides of the minimum: only the average comes near it."""

    def __init__(self, **options: Any) -> None:
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.judged: list[float] = []
        policy = averaging_policy()
        self.tuner = Tuner(self.optimizer, 60, policy, validate=self.validate, **options)

    def validate(self) -> float:
        self.judged.append(self.weight.item())
        return self.weight.item() ** 2 + 0.01

    def train(self, steps: int) -> None:
        for _ in range(steps):
            with torch.no_grad():
                self.weight.neg_()
            self.tuner.step(1.0)


def test_the_tuner_gives_back_the_average_where_it_is_best() -> None:
    walk = Walk()
    walk.train(60)
    assert walk.weight.abs().item() == 1
    assert walk.tuner.finished
    walk.tuner.restore_best()
    assert walk.weight.abs().item() < 0.2
    assert walk.validate() == pytest.approx(walk.tuner.records[-1].best)
    assert len(walk.judged) == 1 + 2 * len(walk.tuner.records) + 1


def test_weights_since_the_last_decision_are_averaged_and_judged_at_the_end() -> None:
    walk = Walk()
    walk.train(3)
    walk.tuner.restore_best()
    assert walk.weight.abs().item() == pytest.approx(min(abs(w) for w in walk.judged))
    assert walk.weight.abs().item() < 0.9


@pytest.mark.parametrize("options", [{"averaging": False}, {"validate": None}])
def test_a_tuner_without_averaging_judges_the_weights_alone(options: dict[str, Any]) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    calls: list[float] = []

    def validate() -> float:
        calls.append(weight.item())
        return 1.0

    given: dict[str, Any] = {"validate": validate, **options}
    tuner = Tuner(torch.optim.SGD([weight], lr=0.1), 60, averaging_policy(), **given)
    for _ in range(60):
        tuner.step(1.0)
    assert len(calls) == (0 if options.get("validate", True) is None else 1 + len(tuner.records))


def test_a_tuner_goes_on_from_a_state_with_its_average() -> None:
    one, other = Walk(), Walk()
    one.train(25)
    other.train(7)
    other.tuner.set_state(pickle.loads(pickle.dumps(one.tuner.get_state())))
    for walk in (one, other):
        walk.judged.clear()
        walk.train(35)
    assert one.judged == other.judged


def test_a_job_without_validation_keeps_no_average_that_nobody_judges() -> None:
    engine = ReferenceEngine(make_job(validation=None), Streams(0), averaging=True)
    assert engine.trainee.average is None
    assert np.isnan(engine.advance(100).averaged_loss)


def test_the_config_says_whether_averages_are_kept() -> None:
    assert CourseConfig().averaging is False
    env = TuningEnv(make_job(), averaging=True, decisions=3)
    env.reset(seed=0)
    assert env.engine.trainee.average is not None
    state = pickle.loads(pickle.dumps(env.course.get_state()))
    assert state["best"].average is not None
