from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.actions import ActionMap
from rl_tuner.course import Course
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval
from rl_tuner.rails import Rails, Verdict
from rl_tuner.rewards import crash_return
from rl_tuner.space import search_space

SPACE = search_space(["lr", "batch_size"])
START = {"lr": 0.1, "batch_size": 64.0}
STILL = np.zeros(2)
ROOT10 = 10**0.5  # one full step of the learning rate
NAN = math.nan


class FakeTrainee:
    """A trainee whose whole state is one number, counted up by training."""

    def __init__(self) -> None:
        self.state = 0
        self.values: dict[str, float] = {}
        self.log: list[str] = []

    def keep(self) -> int:
        self.log.append(f"keep {self.state}")
        return self.state

    def restore(self, kept: int) -> None:
        self.log.append(f"restore {kept}")
        self.state = kept

    def write(self, values: Mapping[str, float]) -> None:
        self.log.append("write")
        self.values = dict(values)


def start(val_loss: float = 4.0, budget: Any = 100, **config: Any) -> tuple[Course[int], FakeTrainee]:
    settings = CourseConfig(**{"decisions": 4, "intervals": "uniform", **config})
    course: Course[int] = Course(SPACE, ActionMap(SPACE, "continuous"), settings, budget)
    trainee = FakeTrainee()
    course.begin(trainee, START, val_loss)
    return course, trainee


def decide(course: Course[int], trainee: FakeTrainee, action: Any, val_loss: float, **shown: Any) -> Any:
    """One decision: act, pretend to train to the interval's end, settle."""
    trainee.write(course.act(np.asarray(action, float)))
    trainee.state += 1
    interval = Interval(train_early=2.0, train_late=1.5, val_loss=val_loss, grad_alive=1.0)
    for name in shown:
        assert name in Interval.__slots__
    interval = Interval(**{**{n: getattr(interval, n) for n in Interval.__slots__}, **shown})
    return course.settle(trainee, interval, course.next_end)


def feature(course: Course[int], name: str) -> float:
    return float(course.observation()[course.features.names.index(name)])


def test_a_course_without_mishap_computed_by_hand() -> None:
    course, trainee = start()
    assert (course.used, course.next_end, course.values) == (0, 25, START)
    assert course.act(np.array([1.0, 1.0])) == pytest.approx({"lr": 0.1 * ROOT10, "batch_size": 128})
    course.offset = np.zeros(2)

    outcomes = [
        decide(course, trainee, [1.0, 1.0], 2.0),
        decide(course, trainee, [0.0, 0.0], 3.0),
        decide(course, trainee, [-0.5, -1.0], 1.0),
        decide(course, trainee, [-1.0, 0.0], 1.25),
    ]
    assert [o.verdict for o in outcomes] == [Verdict.GOOD] * 4
    assert [o.improved for o in outcomes] == [True, False, True, False]
    assert [o.finished for o in outcomes] == [False, False, False, True]
    log = math.log
    assert [o.reward for o in outcomes] == pytest.approx([log(2), -log(1.5), log(3), -log(1.25)])
    assert course.return_ == pytest.approx(log(4 / 1.25))
    assert (course.good, course.best) == (4, 3)
    assert (course.used, course.next_end, course.rescues, course.crashed) == (100, 100, 0, False)
    assert "restore 0" not in trainee.log

    assert [r.decision for r in course.records] == [0, 1, 2, 3]
    assert [r.used for r in course.records] == [25, 50, 75, 100]
    assert [r.val_loss for r in course.records] == [2.0, 3.0, 1.0, 1.25]
    assert [r.train_loss for r in course.records] == [1.5] * 4
    assert [r.best for r in course.records] == [2.0, 2.0, 1.0, 1.0]
    assert [r.reward for r in course.records] == [o.reward for o in outcomes]
    assert [r.verdict for r in course.records] == ["good"] * 4
    rates = [0.1 * ROOT10, 0.1 * ROOT10, 0.1 * 10**0.25, 0.1 * 10**-0.25]
    assert [r.values["lr"] for r in course.records] == pytest.approx(rates)
    assert [r.values["batch_size"] for r in course.records] == [128, 128, 64, 64]


def test_the_first_observation_shows_the_job_at_its_start() -> None:
    course, _ = start()
    names, seen = course.features.names, course.observation()
    shown = {n: float(v) for n, v in zip(names, seen, strict=True) if v}
    assert shown == pytest.approx(
        {
            "next_interval": math.log10(0.25) + 1,
            "lr_in_bounds": 2 * 6 / 8 - 1,
            "batch_size_in_bounds": 2 * 3 / 7 - 1,
            "lr_available": 1,
            "batch_size_available": 1,
        }
    )


def test_the_observation_after_an_interval_compares_it_with_the_track_before() -> None:
    course, trainee = start()
    decide(course, trainee, [0.5, 1.0], 2.0)
    assert feature(course, "progress") == 0.25
    assert feature(course, "val_vs_last") == pytest.approx(-math.log(2))
    decide(course, trainee, [-1.0, 0.0], 3.0)
    assert feature(course, "val_vs_last") == feature(course, "val_vs_best") == pytest.approx(math.log(1.5))
    assert feature(course, "lr_last_action") == -1
    assert feature(course, "lr_vs_start") == pytest.approx(-0.5 / 6)  # the reach is six full steps
    assert feature(course, "rescued") == 0


def test_the_observation_remembers_where_and_when_the_loss_was_best() -> None:
    course, trainee = start(rails=Rails(rescues=4))
    decide(course, trainee, [1.0, 0.0], 2.0)  # the best one, at a quarter of the budget
    assert (feature(course, "lr_vs_best"), feature(course, "since_best")) == (0, 0)
    decide(course, trainee, [1.0, 1.0], 2.5)
    assert feature(course, "lr_vs_best") == pytest.approx(SPACE.steps[0] / SPACE.reaches[0])
    assert feature(course, "batch_size_vs_best") == pytest.approx(SPACE.steps[1] / SPACE.reaches[1])
    assert (feature(course, "since_best"), feature(course, "rescues")) == (0.25, 0)
    decide(course, trainee, [0.0, 0.0], math.inf)  # the rails cut the lr of the interval before
    cut = SPACE.steps[0] + math.log(0.3)
    assert feature(course, "lr_vs_best") == pytest.approx(cut / SPACE.reaches[0])
    assert (feature(course, "since_best"), feature(course, "rescues")) == (0.5, 0.25)
    assert (feature(course, "val_vs_best"), feature(course, "rescued")) == (10, 1)


def test_a_diverged_interval_is_undone_and_the_learning_rate_cut_below_good_and_failed() -> None:
    course, trainee = start()
    decide(course, trainee, [0.0, 0.0], 2.0)
    trainee.log.clear()
    outcome = decide(course, trainee, [1.0, 1.0], 50.0)
    assert outcome.verdict == Verdict.DIVERGED
    assert (outcome.reward, outcome.improved, outcome.crashed, outcome.finished) == (0.0, False, False, False)
    assert trainee.log == ["write", "restore 1", "write"]
    assert trainee.state == 1
    assert trainee.values == course.values == pytest.approx({"lr": 0.03, "batch_size": 64})
    assert course.used == 50  # the samples stay spent
    assert feature(course, "rescued") == 1
    assert feature(course, "val_vs_last") == pytest.approx(math.log(25))
    assert course.records[-1].values == pytest.approx({"lr": 0.1 * ROOT10, "batch_size": 128})
    assert course.records[-1].verdict == "diverged"
    assert course.records[-1].best == 2.0

    later = decide(course, trainee, [0.0, 0.0], 1.0)
    assert later.verdict == Verdict.GOOD
    assert later.reward == pytest.approx(math.log(2))
    assert feature(course, "rescued") == 0
    assert course.rescues == 1


def test_a_rescue_goes_back_to_the_hyperparameters_of_the_last_good_interval() -> None:
    course, trainee = start()
    decide(course, trainee, [1.0, 1.0], 2.0)
    decide(course, trainee, [0.5, 1.0], math.inf)
    assert trainee.values == pytest.approx({"lr": 0.3 * 0.1 * ROOT10, "batch_size": 128})


def test_a_lower_learning_rate_that_failed_is_the_one_that_is_cut() -> None:
    course, trainee = start()
    decide(course, trainee, [-1.0, 0.0], 50.0)
    assert course.values["lr"] == pytest.approx(0.3 * 0.1 / ROOT10)


def test_failures_in_a_row_cut_the_learning_rate_again_and_again() -> None:
    course, trainee = start()
    for k in (1, 2, 3):
        decide(course, trainee, [0.0, 0.0], math.inf)
        assert course.values["lr"] == pytest.approx(0.1 * 0.3**k)
        assert trainee.state == 0


def test_a_network_that_died_without_exploding_is_restored() -> None:
    course, trainee = start()
    outcome = decide(course, trainee, [0.0, 0.0], 3.9, grad_alive=0.0)
    assert outcome.verdict == Verdict.COLLAPSED
    assert trainee.state == 0
    assert course.records[-1].verdict == "collapsed"


def test_a_rescue_in_the_last_interval_leaves_the_last_good_state() -> None:
    course, trainee = start(decisions=2)
    decide(course, trainee, [0.0, 0.0], 2.0)
    outcome = decide(course, trainee, [1.0, 0.0], math.inf)
    assert (outcome.finished, outcome.crashed) == (True, False)
    assert trainee.state == course.best == 1
    assert course.return_ == pytest.approx(math.log(2))


def test_when_the_rescues_are_used_up_the_next_failure_ends_the_job_as_crashed() -> None:
    course, trainee = start(decisions=10, rails=Rails(rescues=2))
    decide(course, trainee, STILL, 2.0)
    outcomes = [decide(course, trainee, STILL, math.inf) for _ in range(3)]
    assert [o.crashed for o in outcomes] == [False, False, True]
    assert [o.finished for o in outcomes] == [False, False, True]
    assert course.rescues == 2
    assert feature(course, "rescued") == 0
    assert course.return_ == pytest.approx(crash_return())
    assert outcomes[-1].reward == pytest.approx(crash_return() - math.log(2))
    assert course.best == 1
    assert trainee.state == 1


def test_without_rails_a_loss_that_is_not_finite_ends_the_job_at_once() -> None:
    course, trainee = start(rails=False)
    decide(course, trainee, STILL, 2.0)
    outcome = decide(course, trainee, STILL, math.inf)
    assert (outcome.verdict, outcome.crashed, outcome.finished) == (Verdict.DIVERGED, True, True)
    assert course.return_ == pytest.approx(crash_return())
    assert course.best == 1


def test_without_rails_a_high_loss_is_no_failure() -> None:
    course, trainee = start(rails=False)
    outcome = decide(course, trainee, STILL, 4000.0)
    assert (outcome.verdict, outcome.crashed) == (Verdict.GOOD, False)
    assert outcome.reward == -3.0


def test_without_rails_only_improvements_are_kept() -> None:
    course, trainee = start(rails=False)
    trainee.log.clear()
    for val_loss in (2.0, 3.0, 1.0):
        decide(course, trainee, STILL, val_loss)
    assert [line for line in trainee.log if line != "write"] == ["keep 1", "keep 3"]


def test_a_job_without_validation_is_tuned_for_its_training_loss() -> None:
    course, trainee = start(val_loss=NAN)
    assert feature(course, "no_validation") == 1
    first = decide(course, trainee, STILL, NAN, train_early=4.0, train_late=2.0)
    second = decide(course, trainee, STILL, NAN, train_early=2.0, train_late=1.0)
    assert (first.improved, second.improved) == (True, True)
    assert [first.reward, second.reward] == pytest.approx([math.log(2), math.log(2)])
    assert decide(course, trainee, STILL, NAN, train_late=9.0).verdict == Verdict.DIVERGED
    assert [r.best for r in course.records] == [2.0, 1.0, 1.0]
    assert all(math.isnan(r.val_loss) for r in course.records)


def test_patience_ends_the_job_after_so_many_decisions_without_a_new_best() -> None:
    course, trainee = start(decisions=10, patience=2)
    finished = [decide(course, trainee, STILL, v).finished for v in (2.0, 2.1, 1.9, 1.9)]
    assert finished == [False, False, False, False]
    outcome = decide(course, trainee, STILL, 2.0)
    assert (outcome.finished, outcome.crashed) == (True, False)
    assert course.used < course.budget


def test_rescues_count_against_patience() -> None:
    course, trainee = start(decisions=10, patience=2)
    assert [decide(course, trainee, STILL, math.inf).finished for _ in range(2)] == [False, True]


def test_final_improvement_is_paid_at_an_early_stop_too() -> None:
    course, trainee = start(decisions=10, patience=1, reward="final_improvement")
    rewards = [decide(course, trainee, STILL, v).reward for v in (1.0, 1.5)]
    assert rewards == pytest.approx([0.0, math.log(4)])


def test_an_interval_that_runs_over_its_end_shortens_the_next_one() -> None:
    course, trainee = start()
    course.act(STILL)
    course.settle(trainee, Interval(train_early=1.0, train_late=1.0, val_loss=3.0), 55)
    assert course.next_end == 75
    assert feature(course, "next_interval") == pytest.approx(math.log10(0.20) + 1, abs=1e-6)


def test_what_the_job_lacks_is_neither_moved_nor_shown_nor_cut() -> None:
    course: Course[int] = Course(SPACE, ActionMap(SPACE, "continuous"), CourseConfig(4), 100)
    trainee = FakeTrainee()
    course.begin(trainee, {"batch_size": 64.0}, 4.0)
    decide(course, trainee, [1.0, 1.0], math.inf)
    assert trainee.values == {"batch_size": 64.0}
    assert feature(course, "lr_last_action") == feature(course, "lr_available") == 0


STEPS = st.lists(
    st.tuples(
        st.lists(st.floats(-1, 1), min_size=2, max_size=2),
        st.floats(1e-3, 100) | st.sampled_from([math.inf]),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.sampled_from(["log_improvement", "best_improvement", "final_improvement"]), st.booleans())
def test_whatever_happens_the_bookkeeping_holds(steps: list[Any], reward: str, rails: bool) -> None:
    course, trainee = start(decisions=len(steps), reward=reward, rails=rails and Rails(rescues=2))
    for action, val_loss, alive in steps:
        outcome = decide(course, trainee, action, val_loss, grad_alive=alive)
        assert math.isfinite(outcome.reward)
        assert course.features.gym_space.contains(course.observation())
        assert (course.anchor.low <= course.offset).all()
        assert (course.offset <= course.anchor.high).all()
        if outcome.finished:
            break
    assert course.finished
    assert course.return_ == pytest.approx(sum(r.reward for r in course.records))
    accepted = [r.val_loss for r in course.records if r.verdict == "good"]
    assert course.track.best == min([4.0, *accepted])
    if course.crashed:
        assert course.return_ == pytest.approx(crash_return())
    else:
        assert course.used == course.budget
        assert course.return_ > crash_return()
        final = accepted[-1] if accepted and reward == "log_improvement" else course.track.best
        assert course.return_ == pytest.approx(-min(max(math.log(final / 4.0), -10), 3), abs=1e-9)


@given(STEPS, st.data())
def test_a_saved_state_continues_identically_on_another_course(steps: list[Any], data: st.DataObject) -> None:
    cut, patience = data.draw(st.integers(0, len(steps))), data.draw(st.sampled_from([None, 2]))
    course, trainee = start(decisions=len(steps), patience=patience)
    other, _ = start(val_loss=1.0, decisions=len(steps), patience=patience)
    for step in steps[:cut]:
        if not course.finished:
            decide(course, trainee, step[0], step[1], grad_alive=step[2])
    other.set_state(pickle.loads(pickle.dumps(course.get_state())))
    np.testing.assert_array_equal(course.observation(), other.observation())
    twin = FakeTrainee()
    twin.state = trainee.state
    for step in steps[cut:]:
        if course.finished:
            break
        outcomes = [
            decide(c, t, step[0], step[1], grad_alive=step[2]) for c, t in ((course, trainee), (other, twin))
        ]
        assert outcomes[0] == outcomes[1]
        np.testing.assert_array_equal(course.observation(), other.observation())
        assert trainee.values == twin.values
    assert course.records == other.records
    assert (course.finished, course.return_, course.best) == (other.finished, other.return_, other.best)


def test_patience_is_carried_by_a_saved_state() -> None:
    course, trainee = start(decisions=10, patience=2)
    decide(course, trainee, STILL, 5.0)
    other, _ = start(decisions=10, patience=2)
    other.set_state(course.get_state())
    assert decide(other, trainee, STILL, 5.0).finished


def test_a_saved_state_does_not_change_when_the_course_goes_on() -> None:
    course, trainee = start()
    decide(course, trainee, [1.0, 1.0], 2.0)
    state = course.get_state()
    before = pickle.dumps(state)
    decide(course, trainee, [1.0, 0.0], math.inf)
    decide(course, trainee, [1.0, 0.0], 1.0)
    assert pickle.dumps(state) == before


def test_a_state_of_an_earlier_version_is_refused_by_what_it_lacks() -> None:
    course, _ = start()
    old = {name: value for name, value in course.get_state().items() if name != "_best_offset"}
    with pytest.raises(ConfigError, match="saved by another version of rl-tuner: it lacks '_best_offset'"):
        course.set_state(old)


def test_a_state_of_another_search_space_is_refused() -> None:
    course, _ = start()
    space = search_space(["lr"])
    other: Course[int] = Course(space, ActionMap(space, "continuous"), CourseConfig(4), 100)
    with pytest.raises(ConfigError, match="the state tunes 2 hyperparameters, this course 1"):
        other.set_state(course.get_state())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"decisions": 0}, "decisions must be >= 1, got 0"),
        ({"decisions": 2.5}, "decisions must be a whole number, got 2.5"),
        ({"intervals": "linear"}, "unknown intervals 'linear'"),
        ({"reward": "accuracy"}, "unknown reward 'accuracy'"),
        ({"rails": "on"}, "rails must be True, False or a Rails, got 'on'"),
        ({"patience": 0}, "patience must be >= 1, got 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_and_value(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CourseConfig(**config)


def test_a_budget_too_small_for_the_decisions_is_refused() -> None:
    with pytest.raises(ConfigError, match="a budget of 3 cannot hold 4 decisions"):
        start(budget=3)


def begin_next(course: Course[int], val_loss: float, **values: float) -> FakeTrainee:
    """The next phase, on a trainee of its own."""
    trainee = FakeTrainee()
    trainee.state = 100
    course.begin_phase(trainee, {**START, **values}, val_loss)
    return trainee


def test_a_course_of_two_phases_computed_by_hand() -> None:
    course, trainee = start(budget=[40, 120])
    assert course.budget == 160
    assert course.ends == [40, 80, 120, 160]
    first = decide(course, trainee, [1.0, 1.0], 2.0)
    assert (first.phase_over, first.finished, course.next_end) == (True, False, 80)
    assert first.reward == pytest.approx(math.log(2))
    trainee = begin_next(course, 10.0, lr=0.5)
    assert (course.phase, course.phase_start, course.used, course.decision) == (1, 40, 40, 1)
    assert course.values == {"lr": 0.5, "batch_size": 64.0}
    assert (course.good, course.best, course.track.first, course.track.best) == (100, 100, 10.0, 10.0)
    later = [decide(course, trainee, [0.0, 0.0], loss) for loss in (12.0, 5.0, 8.0)]
    assert [o.improved for o in later] == [False, True, False]  # the best before was of another phase
    assert [o.phase_over for o in later] == [False] * 3
    assert [o.finished for o in later] == [False, False, True]
    assert course.return_ == pytest.approx(math.log(4 / 2) + math.log(10 / 8))
    assert course.best == 102
    assert [r.used for r in course.records] == [40, 80, 120, 160]
    assert [r.decision for r in course.records] == [0, 1, 2, 3]
    assert [r.best for r in course.records] == [2.0, 10.0, 5.0, 5.0]


def test_a_phase_begins_with_the_observation_of_a_fresh_start_at_its_progress_and_rescues() -> None:
    course, trainee = start(budget=[40, 120])
    decide(course, trainee, [1.0, 1.0], 50.0)  # diverged, and rescued
    assert feature(course, "rescued") == 1
    begin_next(course, 10.0)
    fresh, _ = start(10.0, budget=[40, 120])
    names = course.features.names
    shown = dict(zip(names, course.observation(), strict=True))
    expected = dict(zip(names, fresh.observation(), strict=True))
    assert shown.pop("progress") == 0.25
    assert expected.pop("progress") == 0
    assert (shown.pop("rescues"), expected.pop("rescues")) == (1 / 8, 0)
    assert shown == expected


def test_rescues_are_counted_over_all_phases_and_a_crash_ends_the_job_below_every_finite_return() -> None:
    course, trainee = start(budget=[80, 80], rails=Rails(rescues=1))
    decide(course, trainee, STILL, 50.0)
    decide(course, trainee, STILL, 0.5)
    trainee = begin_next(course, 4.0)
    assert not decide(course, trainee, STILL, 50.0).crashed
    assert course.rescues == 2
    outcome = decide(course, trainee, STILL, 50.0)
    assert (outcome.crashed, outcome.finished, outcome.phase_over) == (True, True, False)
    assert course.rescues == 2
    assert course.return_ == pytest.approx(-2 * 3.0 - 1)
    early, trainee = start(budget=[80, 80], rails=False)
    assert decide(early, trainee, STILL, math.inf).finished
    assert early.return_ == pytest.approx(-7.0)


def test_rails_give_up_after_failures_in_a_row_only() -> None:
    course, trainee = start(decisions=8, rails=Rails(rescues=2))
    for loss in (50.0, 50.0, 3.0, 50.0, 50.0, 2.0, 50.0):
        assert not decide(course, trainee, STILL, loss).crashed
    assert (course.rescues, feature(course, "rescues")) == (5, 1.0)
    other, trainee = start(decisions=8, rails=Rails(rescues=2))
    outcomes = [decide(other, trainee, STILL, loss).crashed for loss in (3.0, 50.0, 50.0, 50.0)]
    assert outcomes == [False, False, False, True]


def test_a_new_phase_has_all_its_rescues_before_it() -> None:
    course, trainee = start(budget=[80, 80], decisions=6, rails=Rails(rescues=1))
    for loss in (3.0, 2.0, 50.0):
        decide(course, trainee, STILL, loss)
    trainee = begin_next(course, 4.0)
    assert not decide(course, trainee, STILL, 50.0).crashed


def test_the_worst_finite_return_of_two_phases_is_better_than_a_crash() -> None:
    course, trainee = start(budget=[80, 80], rails=Rails(multiple=1e9))
    for loss in (1e8, 1e8):
        decide(course, trainee, STILL, loss)
    trainee = begin_next(course, 4.0)
    for loss in (1e8, 1e8):
        decide(course, trainee, STILL, loss)
    assert not course.crashed
    assert course.return_ == pytest.approx(-6.0)


def test_a_crash_in_a_phases_last_interval_is_no_change_of_phase() -> None:
    course, trainee = start(budget=[40, 120], rails=False)
    outcome = decide(course, trainee, STILL, math.inf)
    assert (outcome.crashed, outcome.finished, outcome.phase_over) == (True, True, False)


def test_patience_ends_the_job_in_its_last_phase_only_and_counts_anew_there() -> None:
    course, trainee = start(budget=[300, 300], decisions=6, patience=2)
    for _ in range(3):
        outcome = decide(course, trainee, STILL, 4.5)
    assert (outcome.finished, outcome.phase_over) == (False, True)
    trainee = begin_next(course, 4.0)
    assert not decide(course, trainee, STILL, 4.5).finished
    assert decide(course, trainee, STILL, 4.5).finished
    assert course.used == 500


def test_the_final_improvement_is_paid_at_each_phases_end() -> None:
    course, trainee = start(budget=[80, 80], reward="final_improvement")
    rewards = [decide(course, trainee, STILL, loss).reward for loss in (1.0, 2.0)]
    trainee = begin_next(course, 9.0)
    rewards += [decide(course, trainee, STILL, loss).reward for loss in (6.0, 3.0)]
    assert rewards == pytest.approx([0.0, math.log(4), 0.0, math.log(3)])


def test_cuts_of_the_learning_rate_do_not_reach_into_the_next_phase() -> None:
    settings = CourseConfig(4, "uniform")
    course: Course[int] = Course(SPACE, ActionMap(SPACE, "anchored"), settings, [40, 120])
    trainee = FakeTrainee()
    course.begin(trainee, START, 4.0)
    decide(course, trainee, STILL, 50.0)
    assert course.values["lr"] == pytest.approx(0.03)
    trainee = begin_next(course, 4.0)
    decide(course, trainee, STILL, 3.0)
    assert course.values["lr"] == pytest.approx(0.1)


def test_a_state_taken_in_the_second_phase_continues_on_another_course() -> None:
    course, trainee = start(budget=[40, 120])
    other, their_trainee = start(budget=[40, 120])
    decide(course, trainee, [1.0, 1.0], 2.0)
    trainee = begin_next(course, 10.0, lr=0.5)
    decide(course, trainee, [1.0, 0.0], 5.0)
    other.set_state(pickle.loads(pickle.dumps(course.get_state())))
    for c, t in ((course, trainee), (other, their_trainee)):
        decide(c, t, [-0.5, 1.0], 4.0)
    assert (other.phase, other.phase_start, other.next_end) == (1, 40, 160)
    assert other.values == course.values
    assert other.records == course.records
    assert other.observation().tobytes() == course.observation().tobytes()
