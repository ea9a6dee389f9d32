"""One step of a vector environment, told slot by slot as a single environment would tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_tuner.errors import ConfigError


class SlotStep(NamedTuple):
    """What a step came to in one slot.

    Attributes:
        observation: The next one; the last one of an episode that ended, not the next one's first.
        reward: What the step gave.
        terminated: Whether the episode ended for good: there is nothing to bootstrap from.
        over: Whether it ended at all.
        crashed: Whether it ended and the environment said so (``info["crashed"]``).
    """

    observation: Any
    reward: float
    terminated: bool
    over: bool
    crashed: bool


def slot_steps(result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Iterator[SlotStep]:
    """Each slot's part of what `VectorEnv.step` returned, in slot order.

    Args:
        result: Observations, rewards, terminated, truncated and infos, of an environment that
            `require_same_step` lets pass.
    """
    observations, rewards, terminated, truncated, infos = result
    final = infos.get("final_info", {})
    for slot in range(len(rewards)):
        over = bool(terminated[slot] or truncated[slot])
        yield SlotStep(
            infos["final_obs"][slot] if over else observations[slot],
            float(rewards[slot]),
            bool(terminated[slot]),
            over,
            over and "crashed" in final and bool(final["crashed"][slot]),
        )


def require_same_step(venv: VectorEnv[Any, Any, Any]) -> None:
    """Refuses a vector environment that does not reset in the step that ends an episode.

    With NEXT_STEP each episode's end is followed by a step that only resets, whose action does nothing and
    whose reward is 0: no agent must learn from it.

    Raises:
        ConfigError: Its autoreset_mode is not SAME_STEP.
    """
    mode = venv.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value):
        raise ConfigError(
            "the vector environment's autoreset_mode must be SAME_STEP, got "
            f"{getattr(mode, 'name', mode)}: make it with "
            "autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP"
        )


def single_spaces(
    env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The observation and action space of one environment, or of one slot of many.

    Raises:
        ConfigError: See `require_same_step`.
    """
    if isinstance(env, VectorEnv):
        require_same_step(env)
        return env.single_observation_space, env.single_action_space
    return env.observation_space, env.action_space
