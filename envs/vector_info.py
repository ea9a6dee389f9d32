"""Infos of many slots in Gymnasium's vector form: arrays, each with a mask of the slots it is valid in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.courses import Courses
from rl_tuner.rails import Verdict

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
_VERDICTS = np.array([v.name.lower() for v in Verdict], dtype=object)


def gather_info(
    courses: Courses,
    jobs: NDArray[np.object_],
    job_seeds: Ints,
    val_samples: Ints,
    verdicts: Ints,
    mask: Bools,
) -> dict[str, Any]:
    """What `TuningEnv`'s info holds, for the masked slots; copies.

    Args:
        courses: The slots' courses.
        jobs: Names of the slots' jobs, str, shape (N,).
        job_seeds: Seeds of the slots' episodes, shape (N,).
        val_samples: Validation samples evaluated so far, shape (N,).
        verdicts: On the last interval, a `Verdict` as int, shape (N,).
        mask: Which slots, shape (N,).
    """
    interval = courses.interval
    columns: dict[str, Any] = {
        "job": jobs,
        "job_seed": job_seeds,
        "hyperparameters": _hyperparameters(courses, mask),
        "samples": courses.used,
        "val_samples": val_samples,
        "train_loss": interval.train_late,
        "val_loss": interval.val_loss,
        "best_val_loss": courses.overall.lowest,
        "verdict": _VERDICTS[verdicts],
        "rescues": courses.rescues,
        "crashed": courses.crashed,
        "phase": courses.phase,
        "attempt": courses.attempt,
    }
    infos: dict[str, Any] = {}
    for name, values in columns.items():
        _add(infos, name, values, mask)
    return infos


def _hyperparameters(courses: Courses, mask: Bools) -> dict[str, Any]:
    """The values by name; a hyperparameter that no masked slot's job has is left out."""
    columns: dict[str, Any] = {}
    values, available = courses.values, courses.anchor.available & mask[:, None]
    for i in np.flatnonzero(available.any(axis=0)):
        _add(columns, courses.space.names[i], values[:, i], available[:, i])
    return columns


def with_final(
    infos: dict[str, Any], observations: NDArray[np.float32], final: dict[str, Any], ended: Bools
) -> dict[str, Any]:
    """Adds what the episodes that ended showed last to infos of slots that already run their next ones.

    Args:
        infos: Infos of all slots; changed.
        observations: The last ones, shape (N, F).
        final: Infos of the slots that ended.
        ended: Which slots, shape (N,).

    Returns:
        `infos`, with "final_obs" (objects: an array of shape (F,), None where nothing ended) and
        "final_info".
    """
    last = np.full(len(ended), None, dtype=object)
    for slot in np.flatnonzero(ended):
        last[slot] = observations[slot]
    _add(infos, "final_obs", last, ended)
    _add(infos, "final_info", final, ended)
    return infos


def join_infos(parts: Sequence[Mapping[str, Any]], size: int) -> dict[str, Any]:
    """Infos of as many slots each, one after the other.

    Args:
        parts: Infos of the same form; what only some of them hold is empty in the others' slots.
        size: Number of slots in each part.
    """
    infos: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        columns = [part.get(name) for part in parts]
        shown = next(column for column in columns if column is not None)
        if isinstance(shown, Mapping):
            infos[name] = join_infos([column or {} for column in columns], size)
        else:
            empty = np.zeros((size, *shown.shape[1:]), shown.dtype)
            if shown.dtype == object:
                empty[:] = None
            infos[name] = np.concatenate([empty if column is None else column for column in columns])
    return infos


def _add(infos: dict[str, Any], name: str, values: Any, mask: Bools) -> None:
    """Adds an entry, empty outside of its mask as Gymnasium's own vector environments leave it."""
    if isinstance(values, np.ndarray):
        values = values.copy()
        values[~mask] = None if values.dtype == object else 0
    infos[name], infos[f"_{name}"] = values, mask.copy()
