"""A vector environment beside Gymnasium's own of single ones: the same episodes, to a tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv
from tests.contracts import random_action_batches


def assert_close(left: Any, right: Any, tolerance: float) -> None:
    """Infos (or parts of them) have the same keys and types, and numbers within a tolerance."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_close(left[name], right[name], tolerance)
    elif left is None:
        assert right is None
    elif left.dtype == object:
        for one, other in zip(left, right, strict=True):
            assert one == other if isinstance(one, str) else assert_close(one, other, tolerance) is None
    else:
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def assert_like_single_environments(
    num_envs: int, steps: int, tolerance: float, mode: AutoresetMode, scale: float = 1.0, **options: Any
) -> NDArray[np.int64]:
    """Steps a vector environment beside Gymnasium's own; returns how many episodes ended in each slot."""
    batched = VectorTuningEnv(num_envs, autoreset_mode=mode, **options)
    singles = SyncVectorEnv([lambda: TuningEnv(**options)] * num_envs, autoreset_mode=mode)
    episodes = np.zeros(num_envs, np.int64)
    left, right = batched.reset(seed=3), singles.reset(seed=3)
    np.testing.assert_allclose(left[0], right[0], rtol=0, atol=tolerance)
    assert_close(left[1], right[1], tolerance)
    for actions in random_action_batches(batched, 5, steps):
        given = actions if batched.actions.kind == "discrete" else (scale * actions).astype(np.float32)
        one, other = batched.step(given), singles.step(given)
        np.testing.assert_array_equal(one[2], other[2])
        np.testing.assert_array_equal(one[3], other[3])
        np.testing.assert_allclose(one[0], other[0], rtol=0, atol=tolerance)
        np.testing.assert_allclose(one[1], other[1], rtol=0, atol=tolerance)
        assert_close(one[4], other[4], tolerance)
        episodes += one[2]
    return episodes


def double(job: TrainingJob) -> TrainingJob:
    """The job in double precision: what starts alike stays alike, even where a policy is reckless."""
    splits = {name: tuple(map(_double, getattr(job, name))) for name in ("train", "validation", "test")}
    build: Any = job.model
    return replace(job, model=lambda: build().double(), **splits)


def _double(values: Any) -> torch.Tensor:
    values = torch.as_tensor(values)
    return values.double() if values.is_floating_point() else values
