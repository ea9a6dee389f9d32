"""Infos of many slots: the form is that of Gymnasium's own vector environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.courses import Courses
from rl_tuner.envs.vector_info import gather_info, join_infos, with_final
from rl_tuner.history import Interval
from rl_tuner.rails import Verdict
from rl_tuner.space import search_space

SPACE = search_space(["lr", "momentum"])
NAMES = np.array(["a", "b", "c"], dtype=object)
SEEDS = np.array([2**61, 1, 2])
VAL_SAMPLES = np.array([30, 40, 50])
GOOD = np.full(3, int(Verdict.GOOD))


def make_courses(starts: list[dict[str, float]]) -> Courses:
    """Begun at validation losses 2, 3, 4; every job has the hyperparameters of its start."""
    courses = Courses(SPACE, ActionMap(SPACE, "continuous"), CourseConfig(4), len(starts))
    anchors = [SPACE.anchor(start) for start in starts]
    courses.begin(np.arange(3), [100] * 3, anchors, [2.0, 3.0, 4.0])
    return courses


LR_AND_MOMENTUM = {"lr": 0.1, "momentum": 0.9}
MIXED = [LR_AND_MOMENTUM, {"lr": 0.2}, {"lr": 0.3}]


def as_gymnasium_adds(rows: dict[int, dict[str, Any]], size: int = 3) -> dict[str, Any]:
    """What Gymnasium makes of single environments' infos, by slot."""
    env: VectorEnv[Any, Any, Any] = VectorEnv()
    env.num_envs = size
    infos: dict[str, Any] = {}
    for slot, info in rows.items():
        infos = env._add_info(infos, info, slot)
    return infos


def row(slot: int, **changes: Any) -> dict[str, Any]:
    """A single environment's info after a reset."""
    loss = 2.0 + slot
    info = {
        "job": NAMES[slot],
        "job_seed": int(SEEDS[slot]),
        "hyperparameters": MIXED[slot],
        "samples": 0,
        "val_samples": int(VAL_SAMPLES[slot]),
        "train_loss": np.nan,
        "val_loss": loss,
        "best_val_loss": loss,
        "verdict": "good",
        "rescues": 0,
        "crashed": False,
        "phase": 0,
        "attempt": 0,
    }
    return {**info, **changes}


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, dict):
            assert_same(value, right[name])
        else:
            assert value.dtype == right[name].dtype, name
            np.testing.assert_equal(value, right[name])


@pytest.mark.parametrize("slots", [[0, 1, 2], [1], [1, 2], [0, 2]])
def test_infos_are_what_gymnasium_makes_of_the_slots_own(slots: list[int]) -> None:
    mask = np.isin(np.arange(3), slots)
    infos = gather_info(make_courses(MIXED), NAMES, SEEDS, VAL_SAMPLES, GOOD, mask)
    assert_same(infos, as_gymnasium_adds({slot: row(slot) for slot in slots}))


def test_a_hyperparameter_that_no_slots_job_has_is_left_out() -> None:
    infos = gather_info(make_courses(MIXED), NAMES, SEEDS, VAL_SAMPLES, GOOD, np.array([False, True, True]))
    assert set(infos["hyperparameters"]) == {"lr", "_lr"}
    assert infos["_hyperparameters"].tolist() == [False, True, True]


def test_after_a_decision_infos_show_what_the_interval_came_to() -> None:
    courses = make_courses([LR_AND_MOMENTUM] * 3)
    courses.act(np.zeros((3, 2)))
    interval = Interval(
        samples=np.full(3, 25),
        updates=np.full(3, 2),
        train_early=np.ones(3),
        train_late=np.array([1.0, 2.0, 3.0]),
        train_noise=np.zeros(3),
        val_loss=np.array([1.5, np.inf, 5.0]),
        grad_norm=np.ones(3),
        grad_alive=np.ones(3),
        update_ratio=np.ones(3),
    )
    outcome = courses.settle(interval, np.array([25, 26, 27]))
    infos = gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, outcome.verdict, np.ones(3, np.bool_))
    assert infos["samples"].tolist() == [25, 26, 27]
    assert infos["train_loss"].tolist() == [1, 2, 3]
    assert infos["val_loss"].tolist() == [1.5, np.inf, 5]
    assert infos["best_val_loss"].tolist() == [1.5, 3, 4]
    assert infos["verdict"].tolist() == ["good", "diverged", "good"]
    assert infos["rescues"].tolist() == [0, 1, 0]


def test_final_infos_are_what_gymnasium_makes_of_the_slots_that_ended() -> None:
    courses = make_courses(MIXED)
    ended = np.array([False, True, False])
    observations = np.arange(6, dtype=np.float32).reshape(3, 2)
    final = gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, GOOD, ended)
    everywhere = gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, GOOD, np.ones(3, np.bool_))
    infos = with_final(everywhere, observations, final, ended)
    rows = {slot: row(slot) for slot in range(3)}
    rows[1] |= {"final_obs": observations[1], "final_info": row(1)}
    expected = as_gymnasium_adds(rows)
    last, expected_last = infos.pop("final_obs"), expected.pop("final_obs")
    assert [None if each is None else each.tolist() for each in last] == [None, [2.0, 3.0], None]
    assert last.dtype == expected_last.dtype == object
    assert_same(infos, expected)


def test_infos_share_no_memory_with_what_goes_on() -> None:
    courses = make_courses(MIXED)
    infos = gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, GOOD, np.ones(3, np.bool_))
    kept = gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, GOOD, np.ones(3, np.bool_))
    for name in ("samples", "best_val_loss", "rescues", "crashed", "job_seed", "job"):
        infos[name][:] = infos[name][::-1].copy()
        infos[f"_{name}"][:] = False
    infos["hyperparameters"]["lr"][:] = 7
    assert_same(gather_info(courses, NAMES, SEEDS, VAL_SAMPLES, GOOD, np.ones(3, np.bool_)), kept)


@pytest.mark.parametrize("asked", [[0, 1], [0], [1]])
def test_joined_infos_are_what_gymnasium_makes_of_all_slots_own(asked: list[int]) -> None:
    parts: list[dict[str, Any]] = [{}, {}]
    if 0 in asked:
        parts[0] = _part({0: row(0), 1: row(1) | {"final_obs": np.ones(2), "final_info": row(1)}})
    if 1 in asked:
        parts[1] = _part({0: row(2), 1: row(0)})
    rows = {0: row(0), 1: row(1) | {"final_obs": np.ones(2), "final_info": row(1)}} if 0 in asked else {}
    rows |= {2: row(2), 3: row(0)} if 1 in asked else {}
    joined, expected = join_infos(parts, 2), _part(rows, 4)
    if 0 in asked:
        last, expected_last = joined.pop("final_obs"), expected.pop("final_obs")
        assert [each is None for each in last] == [each is None for each in expected_last]
        assert last[1].tolist() == [1.0, 1.0]
    assert_same(joined, expected)


def _part(rows: dict[int, dict[str, Any]], size: int = 2) -> dict[str, Any]:
    """What Gymnasium makes of a part's rows."""
    return as_gymnasium_adds(rows, size)
