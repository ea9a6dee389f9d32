from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_tuner.actions import KINDS, ActionMap
from rl_tuner.course import Course
from rl_tuner.course_config import CourseConfig
from rl_tuner.courses import Courses, Outcomes
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval
from rl_tuner.rails import Rails, Verdict
from rl_tuner.restarts import EARLY
from rl_tuner.rewards import REWARDS
from rl_tuner.space import Anchor, SearchSpace, search_space

SPACE = search_space(["lr", "batch_size"])
START = {"lr": 0.1, "batch_size": 64.0}
NAN, INF = math.nan, math.inf

CONFIGS = st.builds(
    CourseConfig,
    decisions=st.integers(1, 6),
    intervals=st.sampled_from(["geometric", "uniform"]),
    reward=st.sampled_from(sorted(REWARDS)),
    rails=st.sampled_from(
        [True, False, Rails(rescues=1), Rails(multiple=1.0, slack=0.0, lr_cut=0.5, rescues=0)]
    ),
    patience=st.sampled_from([None, 1, 3]),
    restarts=st.booleans(),
)
SPACES = st.sampled_from([search_space(), SPACE, search_space(["dropout", "lr"]), search_space(["momentum"])])


class FakeTrainee:
    """A trainee whose whole state is one number, counted up by training."""

    def __init__(self) -> None:
        self.state = 0
        self.values: dict[str, float] = {}

    def keep(self) -> int:
        return self.state

    def restore(self, kept: int) -> None:
        self.state = kept

    def write(self, values: Mapping[str, float]) -> None:
        self.values = dict(values)


class Twins:
    """`Courses`, and for each slot a plain `Course`, led through the same random jobs."""

    def __init__(self, space: SearchSpace, kind: str, config: CourseConfig, num: int, seed: int) -> None:
        self.space, self.actions, self.config = space, ActionMap(space, kind), config
        self.rng = np.random.default_rng(seed)
        self.courses = Courses(space, self.actions, config, num)
        self.plain = [Course[int](space, self.actions, config, config.decisions) for _ in range(num)]
        self.trainees = [FakeTrainee() for _ in range(num)]
        self.state, self.good, self.best = np.zeros((3, num), np.int64)  # the batched trainees' states
        self.begin(range(num))

    def begin(self, slots: Any) -> None:
        """Starts random new jobs in these slots."""
        slots = [int(slot) for slot in slots]
        budgets = [self._budgets() for _ in slots]
        for slot, parts in zip(slots, budgets, strict=True):
            one = parts[0] if len(parts) == 1 and self.rng.random() < 0.5 else parts
            self.plain[slot] = Course[int](self.space, self.actions, self.config, one)
        self.courses.begin(slots, budgets, *self._train([self.plain[slot].begin for slot in slots], slots))

    def begin_phases(self, slots: Any) -> None:
        """Starts the next phases in these slots."""
        slots = [int(slot) for slot in slots]
        begun = self._train([self.plain[slot].begin_phase for slot in slots], slots)
        budgets = [self.plain[slot].budgets[self.plain[slot].phase] for slot in slots]
        self.courses.begin_phases(slots, budgets, *begun)

    def begin_attempts(self, slots: list[int]) -> None:
        """Starts the next attempts in these slots."""
        losses = [self._pick(INF, 1.0, float(self.rng.lognormal())) for _ in slots]
        for slot, loss in zip(slots, losses, strict=True):
            self.trainees[slot].state = self.state[slot] = self.good[slot] = -1
            self.plain[slot].begin_attempt(self.trainees[slot], loss)
        self.courses.begin_attempts(slots, losses)

    def _train(self, begins: Any, slots: list[int]) -> tuple[list[Anchor], list[float]]:
        """Begins random new trainings of the plain courses; their anchors and validation losses."""
        anchors, val_losses = [], []
        for begin, slot in zip(begins, slots, strict=True):
            start, limits = self._start(), {"batch_size": 200.0}
            val_losses.append(self._pick(NAN, INF, 1.0, float(self.rng.lognormal())))
            anchors.append(self.space.anchor(start, limits))
            self.trainees[slot] = FakeTrainee()
            begin(self.trainees[slot], start, val_losses[-1], limits)
            self.state[slot] = self.good[slot] = self.best[slot] = 0
        return anchors, val_losses

    def _budgets(self) -> list[int]:
        """Budgets of one to three phases that hold the decisions."""
        decisions = self.config.decisions
        phases = int(self.rng.integers(1, min(3, decisions) + 1))
        budgets = [1 + int(self.rng.integers(0, 200)) for _ in range(phases)]
        budgets[-1] += max(decisions - sum(budgets), 0)
        return budgets

    def step(self) -> None:
        """One decision in a random part of the running slots; each claim of equality is checked."""
        num, courses = self.courses.num, self.courses
        active = (self.rng.random(num) < 0.8) & ~courses.finished
        actions = self._actions()
        actions[~active] = 99 if self.actions.kind == "discrete" else NAN  # nobody is to read these
        values = courses.act(actions, active)
        for slot in np.flatnonzero(active):
            self.trainees[slot].write(self.plain[slot].act(actions[slot]))
            assert self._named(values[slot]) == self.trainees[slot].values
            self.trainees[slot].state += 1
        self.state += active
        shown = [self._interval(self.plain[slot].next_end) for slot in range(num)]
        used = courses.next_end + self.rng.choice([0, 0, 3], num)
        columns = zip(
            *([getattr(interval, f.name) for f in fields(Interval)] for interval in shown), strict=True
        )
        outcomes = courses.settle(Interval(*map(np.array, columns)), used, active)
        self._follow(outcomes)
        for slot in range(num):
            plain = None
            if active[slot]:
                plain = self.plain[slot].settle(self.trainees[slot], shown[slot], int(used[slot]))
            self._compare_outcome(outcomes, slot, plain)
        self.begin_phases(np.flatnonzero(outcomes.phase_over))
        self.begin_attempts(np.flatnonzero(outcomes.attempt_over).tolist())
        self.compare()

    def compare(self) -> None:
        """What is public after a decision is the same in every slot."""
        courses, seen = self.courses, self.courses.observation()
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, [course.observation() for course in self.plain])
        np.testing.assert_array_equal(courses.next_end, [course.next_end for course in self.plain])
        for slot, course in enumerate(self.plain):
            for name in (
                "used",
                "decision",
                "rescues",
                "return_",
                "budget",
                "phase",
                "phase_start",
                "attempt",
            ):
                assert getattr(courses, name)[slot] == getattr(course, name), name
            for name in ("crashed", "finished"):
                assert getattr(courses, name)[slot] == getattr(course, name), name
            for f in fields(course.track):
                np.testing.assert_equal(getattr(courses.track, f.name)[slot], getattr(course.track, f.name))
                overall = getattr(courses.overall, f.name)[slot], getattr(course.overall, f.name)
                np.testing.assert_equal(*overall)
            assert self._named(courses.values[slot]) == course.values
            assert repr(courses.records(slot)) == repr(course.records)  # as text: NaN equals itself there
            kept = (self.trainees[slot].state, course.good, course.best)
            assert (self.state[slot], self.good[slot], self.best[slot]) == kept

    def _follow(self, outcomes: Outcomes) -> None:
        """What an engine does with the outcomes."""
        np.copyto(self.good, self.state, where=outcomes.good)
        np.copyto(self.best, self.state, where=outcomes.improved)
        np.copyto(self.state, self.good, where=outcomes.restore)

    def _compare_outcome(self, outcomes: Outcomes, slot: int, plain: Any) -> None:
        if plain is None:
            assert not any(getattr(outcomes, f.name)[slot] for f in fields(outcomes))
            return
        for name in ("verdict", "reward", "improved", "crashed", "finished", "phase_over", "attempt_over"):
            assert getattr(outcomes, name)[slot] == getattr(plain, name), name

    def _named(self, values: Any) -> dict[str, float]:
        pairs = zip(self.space.names, values.tolist(), strict=True)
        return {name: value for name, value in pairs if not math.isnan(value)}

    def _pick(self, *choices: float) -> float:
        return choices[self.rng.integers(len(choices))]

    def _start(self) -> dict[str, float | None]:
        draw = {
            "lr": 10 ** self.rng.uniform(-8, 1.5),
            "batch_size": float(self.rng.integers(4, 200)),
            "weight_decay": self._pick(0.0, 1e-3),
            "dropout": self._pick(0.0, 0.3),
            "momentum": self._pick(0.0, 0.9, 0.999),
        }
        return {name: value for name, value in draw.items() if self.rng.random() < 0.8}

    def _actions(self) -> Any:
        shape = (self.courses.num, len(self.space))
        if self.actions.kind == "discrete":
            return self.rng.integers(0, np.broadcast_to(self.actions.counts, shape))
        return self.rng.uniform(-1.2, 1.2, shape) * self.rng.integers(0, 2, shape)

    def _interval(self, samples: int) -> Interval:
        def loss(*others: float) -> float:
            return self._pick(*[float(x) for x in self.rng.lognormal(0, 0.5, 6)], *others)

        return Interval(
            samples=samples,
            updates=int(self.rng.integers(0, 50)),
            train_early=loss(NAN, INF, 0.0),
            train_late=loss(NAN, INF, -1.0),
            train_noise=loss(NAN),
            val_loss=loss(NAN, INF, 0.0, 30.0),
            grad_norm=loss(NAN, INF, 0.0),
            grad_alive=self._pick(0.0, 0.4, 1.0, 1.0, NAN),
            update_ratio=loss(NAN, 0.0),
            finite=bool(self.rng.random() < 0.95),
        )


@settings(max_examples=150)
@given(SPACES, st.sampled_from(KINDS), CONFIGS, st.integers(1, 5), st.integers(0, 2**32))
def test_each_slot_runs_as_a_course_alone_does(
    space: SearchSpace, kind: str, config: CourseConfig, num: int, seed: int
) -> None:
    twins = Twins(space, kind, config, num, seed)
    twins.compare()
    for _ in range(2 * config.decisions):
        twins.step()
        over = np.flatnonzero(twins.courses.finished)
        twins.begin(over[twins.rng.random(len(over)) < 0.7])
        twins.compare()


def test_the_random_jobs_hold_what_the_comparison_is_about() -> None:
    twins = Twins(search_space(), "anchored", CourseConfig(6, rails=Rails(rescues=1)), 64, 0)
    verdicts, rescues, failures = set(), 0, 0
    for _ in range(6):
        twins.step()
        failures = max(failures, int(twins.courses.failures.max()))
        verdicts |= {r.verdict for slot in range(64) for r in twins.courses.records(slot)}
        rescues = max(rescues, int(twins.courses.rescues.max()))
    assert verdicts == {"good", "diverged", "collapsed"}
    assert failures == 1
    assert rescues > 1
    assert twins.courses.crashed.any()
    assert (twins.courses.finished & ~twins.courses.crashed).any()
    assert not twins.courses.finished.all()
    assert set(twins.courses.phase.tolist()) == {0, 1, 2}
    assert (twins.courses.crashed & (twins.courses.phase < twins.courses.phases - 1)).any()
    assert np.isnan(twins.courses.track.first).any()
    assert not twins.courses.anchor.available.all()


def test_among_them_are_false_starts_and_they_begin_again_as_a_course_alone_does() -> None:
    """Anchored actions set the learning rate outright, so that it is often a decade down at once."""
    twins = Twins(SPACE, "anchored", CourseConfig(20, restarts=True), 64, 0)
    for _ in range(8):
        twins.step()
    courses = twins.courses
    spent = [courses.begun[i] - courses.phase_start[i] for i in np.flatnonzero(courses.attempt == 1)]
    shares = np.array(spent) / (courses.phase_end - courses.phase_start)[courses.attempt == 1]
    assert ((shares > 0) & (shares < EARLY[1])).sum() > 3


def start(num: int = 2, kind: str = "continuous", **config: Any) -> Courses:
    settings = CourseConfig(**{"decisions": 4, "intervals": "uniform", **config})
    courses = Courses(SPACE, ActionMap(SPACE, kind), settings, num)
    begin(courses, range(num))
    return courses


def begin(courses: Courses, slots: Any, budget: int = 100, val_loss: float = 4.0) -> None:
    k = len(slots)
    courses.begin(slots, [budget] * k, [SPACE.anchor(START)] * k, [val_loss] * k)


def decide(courses: Courses, actions: Any, val_loss: Any, active: Any = None) -> Outcomes:
    active = None if active is None else np.array(active)
    courses.act(np.array(actions, float), active)
    shown = Interval(train_early=2.0, train_late=1.5, val_loss=np.array(val_loss, float), grad_alive=1.0)
    return courses.settle(shown, courses.next_end, active)


def test_a_good_and_a_diverged_slot_computed_by_hand() -> None:
    courses = start()
    outcomes = decide(courses, [[1.0, 1.0], [1.0, 1.0]], [2.0, 50.0])
    assert outcomes.verdict.tolist() == [Verdict.GOOD, Verdict.DIVERGED]
    assert outcomes.reward == pytest.approx([math.log(2), 0.0])
    assert outcomes.good.tolist() == outcomes.improved.tolist() == [True, False]
    assert outcomes.restore.tolist() == [False, True]
    assert outcomes.finished.tolist() == outcomes.crashed.tolist() == [False, False]
    np.testing.assert_allclose(courses.values, [[0.1 * 10**0.5, 128], [0.03, 64]])
    assert courses.used.tolist() == [25, 25]
    assert courses.next_end.tolist() == [50, 50]


def test_without_rails_only_new_bests_are_kept_and_nothing_is_restored() -> None:
    courses = start(3, rails=False)
    outcomes = decide(courses, np.zeros((3, 2)), [2.0, 5.0, INF])
    assert outcomes.good.tolist() == outcomes.improved.tolist() == [True, False, False]
    assert not outcomes.restore.any()
    assert outcomes.crashed.tolist() == [False, False, True]


def test_a_slot_that_does_not_take_part_stays_as_it_is_whatever_it_is_handed() -> None:
    courses = start(3)
    decide(courses, np.ones((3, 2)), [2.0, 2.0, 50.0])
    before = courses.get_state()
    seen, records = courses.observation(), courses.records(1)
    outcomes = decide(courses, [[0.5, 0.0], [NAN, 7.0], [-1.0, 0.0]], [1.0, 1.0, INF], [True, False, True])
    after = courses.get_state()
    assert not any(getattr(outcomes, f.name)[1] for f in fields(outcomes))
    for name in ("used", "offset", "fraction", "return_", "rescues", "since_best", "finished", "decision"):
        np.testing.assert_array_equal(before[name][1], after[name][1])
        assert (np.asarray(before[name]) != after[name]).any() or name == "finished"
    np.testing.assert_array_equal(seen[1], courses.observation()[1])
    assert courses.records(1) == records


def test_left_to_themselves_all_slots_that_are_not_finished_take_part() -> None:
    courses = start(2, decisions=1)
    assert decide(courses, np.zeros((2, 2)), [1.0, 1.0]).finished.tolist() == [True, True]
    begin(courses, [1])
    assert decide(courses, np.ones((2, 2)), [0.5, 0.5]).finished.tolist() == [False, True]
    assert courses.values[0].tolist() == [0.1, 64]
    assert courses.values[1].tolist() == pytest.approx([0.1 * 10**0.5, 128])


def test_before_a_course_begins_its_slot_counts_as_finished() -> None:
    courses = Courses(SPACE, ActionMap(SPACE, "continuous"), CourseConfig(4), 2)
    assert courses.finished.all()
    assert np.isnan(courses.act(np.ones((2, 2)))).all()
    begin(courses, [1])
    assert courses.finished.tolist() == [True, False]
    assert np.isfinite(courses.observation()).all()


def test_a_slot_that_is_finished_cannot_take_part() -> None:
    courses = start(3, decisions=1)
    decide(courses, np.zeros((3, 2)), [1.0, 1.0, 1.0], [False, True, True])
    message = r"the courses in slots \[1, 2\] are finished: begin new ones"
    with pytest.raises(ConfigError, match=message):
        courses.act(np.zeros((3, 2)), np.ones(3, bool))
    with pytest.raises(ConfigError, match=message):
        courses.settle(Interval(val_loss=1.0), courses.next_end, np.ones(3, bool))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 3), (1, 2)])
def test_actions_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"in 2 slots over lr, batch_size have shape \(2, 2\), got \("):
        start().act(np.zeros(shape))


def test_an_action_that_does_not_exist_is_refused_and_moves_nothing() -> None:
    courses = start()
    with pytest.raises(ConfigError, match="must be finite"):
        courses.act(np.array([[1.0, 1.0], [1.0, NAN]]))
    assert courses.values.tolist() == [[0.1, 64], [0.1, 64]]


def test_the_callers_actions_are_not_changed() -> None:
    actions = np.ones((2, 2))
    start().act(actions, np.array([True, False]))
    assert actions.tolist() == [[1, 1], [1, 1]]


def test_outcomes_and_values_do_not_change_when_the_courses_go_on() -> None:
    courses = start()
    values = courses.act(np.ones((2, 2)))
    outcomes = decide(courses, np.ones((2, 2)), [2.0, INF])
    before = pickle.dumps((values, outcomes))
    for _ in range(3):
        decide(courses, np.full((2, 2), -1.0), [INF, 0.1])
    assert pickle.dumps((values, outcomes)) == before


def test_anchors_are_copied_when_a_course_begins() -> None:
    anchor: Anchor = SPACE.anchor(START)
    courses = Courses(SPACE, ActionMap(SPACE, "continuous"), CourseConfig(4), 1)
    courses.begin([0], [100], [anchor], [1.0])
    anchor.start[0] = 7.0
    assert courses.values[0, 0] == 0.1
