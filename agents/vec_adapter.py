"""A Gymnasium vector environment as Stable-Baselines3 wants it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_tuner.agents.vector_steps import require_same_step
from rl_tuner.errors import ConfigError

_SINGLE = {"observation_space": "single_observation_space", "action_space": "single_action_space"}
"""What one environment's attributes are called on a vector environment."""
_FINAL = {"final_obs", "_final_obs", "final_info", "_final_info"}
"""What a vector environment's infos say of the episodes that ended; the rest is of the new ones."""


class VecAdapter(VecEnv):
    """A Gymnasium vector environment as a Stable-Baselines3 `VecEnv`.

    Both step all environments at once, but tell an episode's end differently: with Stable-Baselines3 the
    observations are those after the reset, and ``infos[i]`` holds ``terminal_observation``, the last one
    before it, and ``TimeLimit.truncated``. For speed, ``infos[i]`` is empty for an environment whose episode
    goes on; for one that ended it also holds what the vector environment's ``final_info`` has of it.

    Args:
        venv: Resets in the step that ends an episode (`AutoresetMode.SAME_STEP`).

    Attributes:
        venv: The vector environment adapted.

    Raises:
        ConfigError: It resets at another time (see `require_same_step`).
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any]) -> None:
        require_same_step(venv)
        self.venv = venv
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> VecEnvObs:
        """Resets all, or those of the option ``reset_mask``; seeds and options given before are used once."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ConfigError("the environments of a vector environment share the options of reset()")
        begun = np.flatnonzero(options.get("reset_mask", np.ones(self.num_envs, np.bool_))).tolist()
        observations, infos = self.venv.reset(seed=self._seeds[0], options=options or None)
        self._reset_seeds()
        self._reset_options()
        for i in begun:
            self.reset_infos[i] = {}
        _fill({i: self.reset_infos[i] for i in begun}, infos)
        return deepcopy(observations)  # type: ignore[no-any-return]

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions of the next `step_wait`, shape (environments, *action shape)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all environments.

        Returns:
            Observations (after the reset, where an episode ended), float32 rewards, dones and infos. The
            caller may keep or change them: they share no memory with the environment.
        """
        observations, rewards, terminated, truncated, infos = self.venv.step(self._actions)
        dones = np.logical_or(terminated, truncated)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = {i: told[i] for i in np.flatnonzero(dones).tolist()}
        if ended:
            _fill(ended, infos.get("final_info", {}))
            for i, info in ended.items():
                info["terminal_observation"] = deepcopy(infos["final_obs"][i])
                info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
                self.reset_infos[i] = {}
            starts = {name: column for name, column in infos.items() if name not in _FINAL}
            _fill({i: self.reset_infos[i] for i in ended}, starts)
        return deepcopy(observations), rewards.astype(np.float32), dones, told

    def close(self) -> None:
        """Closes the vector environment."""
        self.venv.close()

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """An image of each environment, shape (height, width, 3) of uint8."""
        images: Any = self.venv.render()
        return [None] * self.num_envs if images is None else list(images)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each environment asked for; or the vector environment's own, as often.

        Raises:
            AttributeError: There is none of that name.
        """
        base: Any = self.venv.unwrapped
        if hasattr(base, "get_attr"):
            values = base.get_attr(attr_name)
        else:
            values = [getattr(self._holder(attr_name), _SINGLE.get(attr_name, attr_name))] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of each environment; or the vector environment's own.

        Raises:
            ConfigError: The environments share it, and not all were meant.
        """
        base: Any = self.venv.unwrapped
        chosen = set(self._get_indices(indices))
        everywhere = len(chosen) == self.num_envs
        if hasattr(base, "set_attr"):
            old = [None] * self.num_envs if everywhere else base.get_attr(attr_name)
            base.set_attr(attr_name, [value if i in chosen else old[i] for i in range(self.num_envs)])
        elif everywhere:
            setattr(base, attr_name, value)
        else:
            raise ConfigError(
                f"the {self.num_envs} environments share {attr_name!r}: set it for all of them (indices=None)"
            )

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Calls a method of each environment asked for.

        Raises:
            ConfigError: The environments cannot be called one by one.
        """
        envs = getattr(self.venv.unwrapped, "envs", None)
        if envs is None:
            raise ConfigError(
                f"{method_name!r} cannot be called environment by environment: {self.venv} steps them as one"
            )
        called = [envs[i].get_wrapper_attr(method_name) for i in self._get_indices(indices)]
        return [method(*method_args, **method_kwargs) for method in called]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether a wrapper, of one environment or of the vector environment, stands before each.

        Raises:
            NotImplementedError: The environments live in other processes and cannot be looked into.
        """
        base: Any = self.venv.unwrapped
        around = any(isinstance(layer, wrapper_class) for layer in self._layers())
        if hasattr(base, "get_attr") and not hasattr(base, "envs"):
            raise NotImplementedError(f"the environments of {self.venv} cannot be asked for their wrappers")
        envs = getattr(base, "envs", None)
        return [
            around or (envs is not None and is_wrapped(envs[i], wrapper_class))
            for i in self._get_indices(indices)
        ]

    def _layers(self) -> Iterator[VectorEnv[Any, Any, Any]]:
        """The vector environment and what it wraps, from the outside in."""
        layer = self.venv
        yield layer
        while isinstance(layer, VectorWrapper):
            layer = layer.env
            yield layer

    def _holder(self, name: str) -> VectorEnv[Any, Any, Any]:
        for layer in self._layers():
            if hasattr(layer, name):
                return layer
        raise AttributeError(f"{self.venv} has no attribute {name!r}")


def _fill(rows: Mapping[int, dict[str, Any]], infos: Mapping[str, Any]) -> None:
    """Gives each environment's row its entries of a vector environment's infos.

    Column by column: at hundreds of environments that is several times faster than row by row.

    Args:
        rows: What to fill, by index of the environment.
        infos: Arrays whose first dimension is the environments, ``_name`` masking who has ``name``; or
            mappings of such, for nested infos.
    """
    wanted = np.fromiter(rows, dtype=np.intp, count=len(rows))
    for name, column in infos.items():
        if name.startswith("_") and name[1:] in infos:
            continue
        mask = infos.get(f"_{name}")
        having = wanted if mask is None else wanted[mask[wanted]]
        if isinstance(column, Mapping):
            inner: dict[int, dict[str, Any]] = {i: {} for i in having.tolist()}
            _fill(inner, column)
            for i, entries in inner.items():
                rows[i][name] = entries
        else:
            chosen = column[having]  # a copy
            for i, value in zip(
                having.tolist(), chosen.tolist() if chosen.ndim == 1 else chosen, strict=True
            ):
                rows[i][name] = value
