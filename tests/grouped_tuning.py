"""A vector environment whose slots run the same jobs in groups: quick, and its optimum is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tests.contracts_agents import LENGTH, TinyTuning

Bools = NDArray[np.bool_]


class GroupedTuning(VectorEnv[Any, Any, Any]):
    """`TinyTuning` in groups, where most of a return is the job's luck and only a little the agent's doing.

    A job shows a sign in the first feature, which the learning rate is to follow, and pays a luck that the
    members of a group share. ``privileged()`` tells the luck and nothing else does.

    Args:
        num_envs: Slots.
        group_size: Slots side by side that run the same jobs.
        luck: Standard deviation of what a job pays at each step, whatever is done.
        crashes: Probability that a step ends a slot's episode early.
        crashing: So many slots, from the first, can crash; None for all.

    Attributes:
        log: For each step so far, the slots' jobs by number and their decisions before it, shape (2, slots).
        resets: For each reset so far, which slots it was of.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        num_envs: int,
        group_size: int,
        *,
        luck: float = 0.0,
        crashes: float = 0.0,
        crashing: int | None = None,
    ) -> None:
        one = TinyTuning("continuous")
        self.num_envs, self.group_size = num_envs, group_size
        self.space, self.actions, self.config = one.space, one.actions, one.config
        self.feature_names = one.feature_names
        self.single_observation_space = one.observation_space
        self.single_action_space = one.action_space
        self.observation_space = batch_space(one.observation_space, num_envs)
        self.action_space = batch_space(one.action_space, num_envs)
        self._luck, self._crashes = luck, crashes
        self._crashing = np.arange(num_envs) < (num_envs if crashing is None else crashing)
        self.log: list[NDArray[np.int64]] = []
        self.resets: list[Bools] = []
        self.job, self.step_of = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self.sign, self.lucky = np.zeros(num_envs), np.zeros(num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed, self._own = seed, np.random.default_rng(seed)
            self.job[:] = 0
        mask: Bools = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        self.resets.append(mask.copy())
        groups = self.job.reshape(-1, self.group_size)
        furthest = np.repeat(groups.max(axis=1), self.group_size)
        self._start(mask, furthest + 1)
        return self._observe(), {}

    def _start(self, mask: Bools, job: NDArray[np.int64]) -> None:
        for i in np.flatnonzero(mask).tolist():
            rng = np.random.default_rng([self.seed, i // self.group_size, int(job[i])])
            self.job[i], self.step_of[i] = job[i], 0
            self.sign[i], self.lucky[i] = rng.choice([-1.0, 1.0]), rng.normal()

    def _observe(self) -> NDArray[np.float32]:
        noise = self._own.uniform(-0.1, 0.1, self.observation_space.shape).astype(np.float32)
        noise[:, 0] = self.sign
        return noise

    def step(self, actions: Any) -> tuple[Any, Any, Bools, Bools, dict[str, Any]]:
        self.log.append(np.stack([self.job, self.step_of]))
        lr, dropout = np.array([self.actions.fraction(action) for action in actions]).T
        rewards = 1 - (lr - self.sign) ** 2 - dropout**2 + self._luck * self.lucky
        self.step_of += 1
        crashed = self._crashing & (self._own.random(self.num_envs) < self._crashes)
        over = crashed | (self.step_of == LENGTH)
        last = self._observe()
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over).tolist():
            final[i] = last[i]
        infos = {
            "final_obs": final,
            "_final_obs": over,
            "final_info": {"crashed": crashed, "_crashed": over},
            "_final_info": over,
        }
        self._start(over, self.job + 1)
        return self._observe(), rewards, over, np.zeros_like(over), infos

    def privileged(self) -> NDArray[np.float32]:
        """The luck of each slot's job, shape (slots, 1)."""
        return self.lucky[:, None].astype(np.float32)
