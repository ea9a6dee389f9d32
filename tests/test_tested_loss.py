"""The reward paid by samples that do not select: what is measured for it, where, and what it pays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.envs import TuningEnv, VectorTuningEnv
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.history import Interval, Track
from rl_tuner.rewards import reads_test, reward_function
from rl_tuner.seeding import Streams
from tests.batched import OPTIMIZERS, SAMPLES, Twins, make_data, make_job

NAN = math.nan
REWARD = "test_improvement"
pay = reward_function(REWARD)
LOSSES = st.floats(1e-3, 1e3)


def job_with_test(optimizer: str = "adam", **changes: Any) -> Any:
    job = make_job(optimizer, **changes)
    inputs, targets = make_data("mlp", "classification", job.train[0].dtype, seed=7)  # type: ignore[index]
    return replace(job, test=(inputs[:20], targets[:20]))


def walk(measured: list[tuple[float, float, float, float]], start: float, test: float) -> list[Any]:
    """The rewards of intervals that showed (validation, averaged, test, averaged test) losses."""
    track, paid = Track.begin(start, test_loss=test), []
    for losses in measured:
        names = ("val_loss", "averaged_loss", "test_loss", "averaged_test_loss")
        after = track.accept(Interval(**dict(zip(names, losses, strict=True))))
        paid.append(pay(track, after, False))
        track = after
    return paid


def test_the_test_loss_of_the_weights_that_validation_keeps_is_paid_for() -> None:
    paid = walk([(2.0, NAN, 1.0, NAN), (3.0, NAN, 0.1, NAN), (1.0, NAN, 2.0, NAN)], 4.0, 4.0)
    assert paid == pytest.approx([math.log(4), 0.0, -math.log(2)])


def test_where_the_average_is_kept_its_test_loss_is_paid_for() -> None:
    paid = walk([(2.0, 1.0, 3.0, 0.5), (0.9, 0.95, 0.25, 0.1)], 4.0, 4.0)
    assert paid == pytest.approx([math.log(4 / 0.5), math.log(0.5 / 0.25)])


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=1, max_size=12), LOSSES, LOSSES)
def test_the_return_is_first_over_kept_test_loss(
    losses: list[tuple[float, float]], start: float, test: float
) -> None:
    paid = walk([(val, NAN, tested, NAN) for val, tested in losses], start, test)
    kept, lowest = test, start
    for val, tested in losses:
        kept, lowest = (tested, val) if val < lowest else (kept, lowest)
    expected = min(max(math.log(test / kept), -3.0), 10.0)
    assert sum(paid) == pytest.approx(expected, abs=1e-9)


@given(st.lists(LOSSES, min_size=2, max_size=8))
def test_without_a_test_part_the_best_validation_loss_is_paid_for(curve: list[float]) -> None:
    track, best = Track.begin(curve[0]), reward_function("best_improvement")
    for value in curve[1:]:
        after = track.accept(Interval(val_loss=value))
        assert pay(track, after, False) == best(track, after, False)
        track = after


def test_jobs_with_and_without_a_test_part_are_paid_side_by_side_like_alone() -> None:
    start, first, shown, tested = np.full(3, 4.0), [4.0, NAN, 2.0], [2.0, 2.0, 5.0], [1.0, NAN, 1.0]
    before = Track.begin(start, test_loss=np.array(first))
    after = before.accept(Interval(val_loss=np.array(shown), test_loss=np.array(tested)))
    alone = [walk([(v, NAN, t, NAN)], 4.0, f)[0] for v, t, f in zip(shown, tested, first, strict=True)]
    np.testing.assert_array_equal(pay(before, after, False), alone)
    assert alone == pytest.approx([math.log(4), math.log(2), 0.0])


def test_only_this_reward_reads_the_test_part() -> None:
    assert reads_test(REWARD)
    assert not any(map(reads_test, ("log_improvement", "best_improvement", "final_improvement")))


def test_both_engines_measure_alike_and_count_no_test_sample_as_validation() -> None:
    jobs = [job_with_test(name) for name in OPTIMIZERS]
    twins = Twins(jobs, 1e-9, averaging=True, tested=True)
    begun = twins.batched.test(np.arange(len(jobs)))
    assert begun == pytest.approx([reference.test() for reference in twins.references])
    found = twins.advance([600] * len(jobs))
    for slot, reference in enumerate(twins.references):
        assert found.test_loss[slot] == pytest.approx(reference.evaluate("test")["loss"])
        assert reference.val_samples == 2 * (SAMPLES - 64)
    assert (found.averaged_test_loss != found.test_loss).all()


def test_a_job_without_a_test_part_and_one_that_is_not_batched_stand_beside_one_that_has_it() -> None:
    odd = replace(job_with_test(), loss=lambda outputs, targets: (outputs**2).mean())
    engine = BatchedEngine(3, averaging=True, tested=True)
    engine.start(0, make_job(), Streams(0))
    with pytest.warns(UserWarning, match="its loss is its own"):
        engine.start(1, odd, Streams(1))
    engine.start(2, job_with_test(), Streams(2))
    found = engine.advance(np.full(3, 400), np.arange(3))
    assert np.isnan([found.test_loss[0], found.averaged_test_loss[0]]).all()
    for slot in (1, 2):
        assert found.test_loss[slot] == pytest.approx(engine.evaluate(slot, "test")["loss"])
    assert np.isfinite(found.averaged_test_loss[1:]).all()


def test_unless_a_reward_asks_nothing_is_measured() -> None:
    twins = Twins([job_with_test()], 1e-9, averaging=True)
    found = twins.advance([600])
    assert np.isnan([*found.test_loss, *found.averaged_test_loss, *twins.batched.test(np.array([0]))]).all()
    assert math.isnan(twins.references[0].test())


def test_samples_are_let_go_of_with_the_job() -> None:
    engine = BatchedEngine(1, tested=True)
    seat: Any = engine.start(0, job_with_test(), Streams(0))
    assert seat.test.holders == 1
    engine.start(0, make_job(), Streams(0))
    assert seat.test.holders == 0


@pytest.mark.parametrize("averaging", [False, True])
def test_both_environments_pay_the_fall_of_the_kept_weights_test_loss(averaging: bool) -> None:
    """Against an oracle: the best weights, put back and scored at the episode's end."""
    job = job_with_test("sgd", dropout=None, start={"lr": 0.3}, budget=1500)
    options: dict[str, Any] = {
        "reward": REWARD, "hyperparameters": ["lr"], "decisions": 6, "averaging": averaging, "rails": False,
    }  # fmt: skip
    env, venv = TuningEnv(job, **options), VectorTuningEnv(2, job, **options)
    env.reset(seed=3)
    first = env.evaluate("test")["loss"]
    venv.reset(seed=[3, 4])
    paid, rng = [], np.random.default_rng(0)
    for number in range(6):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        _, reward, finished, _, _ = env.step(action)
        _, rewards, *_ = venv.step(np.stack([action, action]))
        assert rewards[0] == pytest.approx(reward, abs=1e-6)
        assert finished == (number == 5)
        paid.append(float(reward))
    last = env.evaluate("test")["loss"]  # of the best weights, now that the episode is over
    assert sum(paid) == pytest.approx(math.log(first / last), abs=1e-6)
    assert len(set(paid)) > 2
