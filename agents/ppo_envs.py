"""Environments as Stable-Baselines3's PPO wants them, and what it may know of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from rl_tuner.agents.agent import TuningSpaces, changing_wrappers
from rl_tuner.agents.feature_selection import FeatureSelection
from rl_tuner.agents.privileged import PrivilegedColumns
from rl_tuner.agents.vec_adapter import VecAdapter
from rl_tuner.errors import ConfigError


def vectorized(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv) -> VecEnv:
    """One environment or many as a Stable-Baselines3 `VecEnv`.

    Raises:
        ConfigError: The spaces are such that Stable-Baselines3 would only warn, or fail later.
    """
    if isinstance(env, VecEnv):
        venv = env
    elif isinstance(env, VectorEnv):
        venv = VecAdapter(env)
    else:
        venv = DummyVecEnv([lambda: env])
    box, actions = venv.observation_space, venv.action_space
    if not isinstance(box, spaces.Box) or len(box.shape) != 1:
        raise ConfigError(f"PPOAgent needs Box observations of shape (F,), got {box}")
    if not isinstance(actions, spaces.Box | spaces.Discrete | spaces.MultiDiscrete):
        raise ConfigError(f"PPOAgent needs Box, Discrete or MultiDiscrete actions, got {actions}")
    return venv


def tuning_spaces(venv: VecEnv) -> TuningSpaces | None:
    """See `TuningSpaces.of`, which this is for a `VecEnv`."""
    if isinstance(venv, VecNormalize | VecFrameStack):
        return None
    try:
        if any(any(venv.env_is_wrapped(wrapper)) for wrapper in changing_wrappers()):
            return None
    except NotImplementedError:  # nobody can tell what stands before them
        return None
    names = [f.name for f in fields(TuningSpaces)]
    if not all(venv.has_attr(name) for name in names):
        return None
    return TuningSpaces(*(venv.get_attr(name, [0])[0] for name in names))


class SelectedColumns(VecEnvWrapper):
    """Shows some of the features only.

    Args:
        venv: Observations of shape (F,).
        selection: Which.
    """

    def __init__(self, venv: VecEnv, selection: FeatureSelection) -> None:
        self._selection = selection
        box = venv.observation_space
        assert isinstance(box, spaces.Box)  # noqa: S101 (for the type checker: `vectorized` looked)
        low, high = selection.of(box.low), selection.of(box.high)
        super().__init__(venv, observation_space=spaces.Box(low, high, dtype=box.dtype.type))

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`."""
        return self._selection.of(cast("NDArray[Any]", self.venv.reset()))

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`; a terminal observation has the same columns."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones).tolist():
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = self._selection.of(infos[i]["terminal_observation"])
        return self._selection.of(cast("NDArray[Any]", observations)), rewards, dones, infos


def seen_as(venv: VecEnv, memory: int, privileged: bool) -> VecEnv:
    """The environments as the networks see them.

    Args:
        venv: The environments, F columns (those selected).
        memory: Decisions stacked, >= 1.
        privileged: Whether to append what only the critic reads.

    Returns:
        Observations of memory * F columns, and then the privileged ones.

    Raises:
        ConfigError: See `PrivilegedColumns`.
    """
    stacked = VecFrameStack(venv, memory) if memory > 1 else venv
    return PrivilegedColumns(stacked) if privileged else stacked


def actor_inputs(venv: VecEnv, memory: int) -> int:
    """So many columns the actor reads with a memory, in environments that `vectorized` gave."""
    return memory * int(venv.observation_space.shape[0])  # type: ignore[index]


def group_size_of(venv: VecEnv) -> int | None:
    """So many environments side by side run the same jobs, as they say themselves; None if they do not."""
    return int(venv.get_attr("group_size", [0])[0]) if venv.has_attr("group_size") else None
