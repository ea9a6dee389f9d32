from __future__ import annotations

import math
import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.courses import Courses
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval
from rl_tuner.intervals import boundaries
from rl_tuner.rails import Rails
from rl_tuner.space import search_space

SPACE = search_space(["lr", "batch_size"])
CONFIG = CourseConfig(decisions=5, rails=Rails(rescues=1), patience=4)
LR = {"lr": 0.1}
BOTH = {"lr": 0.1, "batch_size": 64.0}


def make(num: int, config: CourseConfig = CONFIG) -> Courses:
    return Courses(SPACE, ActionMap(SPACE, "continuous"), config, num)


def begin(courses: Courses, slots: list[int], start: dict[str, float] = BOTH, **changes: Any) -> None:
    k = len(slots)
    val_losses = [changes.get("val_loss", 4.0)] * k
    courses.begin(slots, [changes.get("budget", 100)] * k, [SPACE.anchor(start)] * k, val_losses)


def play(courses: Courses, seed: int, steps: int) -> list[Any]:
    """So many random decisions; what was seen and earned."""
    rng, given_out = np.random.default_rng(seed), []
    for _ in range(steps):
        num = courses.num
        courses.act(rng.uniform(-1, 1, (num, 2)))
        interval = Interval(
            train_early=rng.lognormal(size=num),
            train_late=rng.lognormal(size=num),
            val_loss=rng.choice([math.inf, 0.5, 1.0, 3.0, 9.0], num),
            grad_alive=rng.random(num),
            finite=rng.random(num) < 0.9,
        )
        outcomes = courses.settle(interval, courses.next_end)
        given_out.append([getattr(outcomes, f.name) for f in fields(outcomes)])
        given_out.append([courses.observation(), courses.values])
    return given_out


def assert_same_state(mine: Any, theirs: Any, slots: Any = slice(None)) -> None:
    for name, value in mine.items():
        if name == "_log":
            np.testing.assert_equal(value.lines[slots], theirs[name].lines[slots])
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value[slots], theirs[name][slots], name)
        else:
            for f in fields(value):
                pair = (getattr(record, f.name)[slots] for record in (value, theirs[name]))
                np.testing.assert_array_equal(*pair, f"{name}.{f.name}")


def test_a_course_begins_at_the_jobs_own_settings() -> None:
    courses = make(3)
    courses.begin([2, 0], [50, 300], [SPACE.anchor(LR), SPACE.anchor(BOTH)], [math.nan, 2.0])
    np.testing.assert_array_equal(courses.values, [[0.1, 64.0], [math.nan] * 2, [0.1, math.nan]])
    assert courses.finished.tolist() == [False, True, False]
    assert courses.budget[[2, 0]].tolist() == [50, 300]
    np.testing.assert_array_equal(courses.ends[0], boundaries(300, 5))
    np.testing.assert_array_equal(courses.track.first, [2.0, math.nan, math.nan])
    assert courses.records(0) == ()


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_beginning_leaves_the_other_slots_alone_and_nothing_of_the_old_course(seed: int, steps: int) -> None:
    courses, fresh = make(4), make(4)
    begin(courses, [0, 1, 2, 3])
    play(courses, seed, steps)
    before = courses.get_state()
    records = [courses.records(slot) for slot in range(4)]
    for c in (courses, fresh):
        begin(c, [1, 3], LR, budget=77, val_loss=1.5)
    assert_same_state(before, courses.get_state(), [0, 2])
    after, new = courses.get_state(), fresh.get_state()
    del after["_log"], new["_log"]  # old lines lie behind the end of the log
    assert_same_state(after, new, [1, 3])
    assert [courses.records(slot) for slot in range(4)] == [records[0], (), records[2], ()]


def test_a_budget_too_small_for_the_decisions_is_refused_and_leaves_the_slot_alone() -> None:
    courses = make(1)
    begin(courses, [0])
    play(courses, 0, 2)
    before = courses.get_state()
    with pytest.raises(ConfigError, match="a budget of 3 cannot hold 5 decisions"):
        begin(courses, [0], budget=3)
    assert_same_state(before, courses.get_state())


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        make(2).begin([0, 1], [100, 100], [SPACE.anchor(BOTH)], [1.0, 1.0])


@given(st.integers(0, 2**32), st.integers(0, 5))
def test_a_saved_state_continues_identically_on_other_courses(seed: int, steps: int) -> None:
    courses, other = make(3), make(3)
    begin(courses, [0, 1, 2])
    begin(other, [0, 2], LR, budget=40)
    play(courses, seed, steps)
    state = pickle.loads(pickle.dumps(courses.get_state()))
    other.set_state(state)
    np.testing.assert_equal(play(other, seed + 1, 3), play(courses, seed + 1, 3))
    assert_same_state(courses.get_state(), other.get_state())
    assert [repr(courses.records(i)) for i in range(3)] == [repr(other.records(i)) for i in range(3)]


def test_a_saved_state_does_not_change_when_either_side_goes_on() -> None:
    courses, other = make(2), make(2)
    begin(courses, [0, 1])
    play(courses, 1, 1)
    state = courses.get_state()
    before = pickle.loads(pickle.dumps(state))
    other.set_state(state)
    for c in (courses, other):
        play(c, 2, 2)
        begin(c, [0], LR)
    assert_same_state(before, state)


@pytest.mark.parametrize(
    ("num", "decisions", "names"), [(3, 5, ["lr", "dropout"]), (2, 6, ["lr", "dropout"]), (2, 5, ["lr"])]
)
def test_a_state_of_another_size_is_refused(num: int, decisions: int, names: list[str]) -> None:
    space = search_space(names)
    other = Courses(space, ActionMap(space, "continuous"), CourseConfig(decisions), num)
    sizes = rf"\({num}, {decisions}, {len(names)}\), here are \(2, 5, 2\)"
    with pytest.raises(ConfigError, match=sizes):
        make(2).set_state(other.get_state())


@pytest.mark.parametrize("num", [0, -1])
def test_there_must_be_a_slot(num: int) -> None:
    with pytest.raises(ConfigError, match=f"num must be >= 1, got {num}"):
        make(num)


def test_the_log_of_a_finished_course_stays_until_the_slots_next_one_finishes() -> None:
    courses = make(2, CourseConfig(decisions=5))
    begin(courses, [0, 1])
    assert courses.final_records(0) == ()
    play(courses, 1, 4)
    assert courses.final_records(0) == ()
    play(courses, 2, 1)
    ended = courses.records(0)
    assert len(ended) == 5
    assert courses.final_records(0) == ended
    begin(courses, [0], LR)
    courses.act(np.zeros((2, 2)))
    courses.settle(Interval(val_loss=np.full(2, 1.0)), courses.next_end)
    assert courses.final_records(0) == ended  # with a batch size, which the running job lacks
    assert courses.records(0) != ended


def test_a_state_brings_the_log_of_finished_courses_along() -> None:
    courses, other = make(2), make(2)
    begin(courses, [0, 1])
    begin(other, [0, 1])
    before = courses.get_state()
    play(courses, 1, 5)
    other.set_state(pickle.loads(pickle.dumps(courses.get_state())))
    assert courses.final_records(0)
    assert [other.final_records(i) for i in range(2)] == [courses.final_records(i) for i in range(2)]
    other.set_state(before)
    assert other.final_records(0) == ()


def test_the_log_tells_each_phases_own_hyperparameters() -> None:
    courses = make(1, CourseConfig(decisions=4, intervals="uniform"))
    courses.begin([0], [[50, 50]], [SPACE.anchor(LR)], [4.0])
    play(courses, 1, 2)
    courses.begin_phases([0], [50], [SPACE.anchor(BOTH)], [2.0])
    courses.act(np.zeros((1, 2)))
    courses.settle(Interval(val_loss=np.ones(1)), courses.next_end)
    names = [list(record.values) for record in courses.records(0)]
    assert names == [["lr"], ["lr"], ["lr", "batch_size"]]
    assert [record.used for record in courses.records(0)] == [25, 50, 75]


def test_another_slots_phase_is_left_alone_when_one_begins() -> None:
    courses = make(2, CourseConfig(decisions=4, intervals="uniform"))
    courses.begin([0, 1], [[50, 50], 100], [SPACE.anchor(BOTH)] * 2, [4.0, 4.0])
    play(courses, 1, 2)
    before = courses.get_state()
    courses.begin_phases([0], [50], [SPACE.anchor(LR)], [2.0])
    assert_same_state(before, courses.get_state(), [1])
    assert courses.phase.tolist() == [1, 0]
    assert (courses.phase_start.tolist(), courses.phase_end.tolist()) == ([50, 0], [100, 100])
    assert courses.used.tolist() == [50, 50]
