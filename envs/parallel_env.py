"""The vector environment spread over processes, so that learning uses more than one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from rl_tuner.envs import suites
from rl_tuner.envs.env_parts import EnvPart, share_out
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.slot_rngs import Seeds, slot_seeds
from rl_tuner.envs.tuning_setup import require_same
from rl_tuner.envs.vector_env import Actions, Observations, Step, VectorTuningEnv
from rl_tuner.envs.vector_info import join_infos
from rl_tuner.envs.vector_requests import asked_reset, require_running
from rl_tuner.errors import JobError
from rl_tuner.history import Record
from rl_tuner.rails import Rails
from rl_tuner.remote import RemoteObjects, require_sendable
from rl_tuner.space import SearchSpace


class ParallelTuningEnv(VectorEnv[Observations, Actions, Any]):
    """`VectorTuningEnv` in worker processes, each of which has as many of the slots, side by side.

    The episodes are those of one `VectorTuningEnv` of the same seed, to floating-point tolerance: other
    neighbours in a batch give other last bits. Every worker holds the data sets in its own memory.

    An error in a worker is raised here as it is; after one in `reset`, `step` or `set_state` all slots are to
    be reset again. If a worker dies (`JobError`), the others are ended, and the environment is closed. They
    end by `close`, with the last reference to the environment, by Ctrl-C, and with this process, even where
    it is killed. A script that makes one must guard its main part by ``if __name__ == "__main__"``.

    Args:
        num_envs: Number of slots.
        workers: Number of processes, >= 1; divides the number of groups. More than there are cores do not
            help.
        job: The user's own job, picklable; None draws jobs from a suite.
        suite, split, actions, reward, hyperparameters, decisions, intervals, rails, early_stopping,
            averaging, restarts: See `TuningEnv`.
        group_size, autoreset_mode, device, compile, render_mode: See `VectorTuningEnv`.

    Attributes:
        workers: Number of processes.

    Raises:
        ConfigError: An argument is unknown or out of range, or the job cannot be sent to a process.
        JobError: A worker could not be started.
    """

    metadata: dict[str, Any] = VectorTuningEnv.metadata

    def __init__(  # noqa: PLR0913 (each one a public option of the environment)
        self,
        num_envs: int = 2,
        workers: int = 2,
        *,
        job: TrainingJob | None = None,
        suite: str = "quick",
        split: str = "train",
        actions: str = "continuous",
        reward: str = "log_improvement",
        hyperparameters: Sequence[str] | SearchSpace | None = None,
        decisions: int = 20,
        intervals: str = "geometric",
        rails: bool | Rails = True,
        early_stopping: int | None = None,
        averaging: bool = False,
        restarts: bool = False,
        group_size: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        device: str | torch.device = "cpu",
        compile: bool | Uniform = False,  # noqa: A002 (torch's own word)
        render_mode: None = None,
    ) -> None:
        options: dict[str, Any] = {
            "job": job,
            "suite": suite,
            "split": split,
            "actions": actions,
            "reward": reward,
            "hyperparameters": hyperparameters,
            "decisions": decisions,
            "intervals": intervals,
            "rails": rails,
            "early_stopping": early_stopping,
            "averaging": averaging,
            "restarts": restarts,
            "group_size": group_size,
            "autoreset_mode": autoreset_mode,
            "device": device,
            "compile": compile,
        }
        # Never reset: what it accepts and says of itself is what the workers' parts do together.
        self._whole = whole = VectorTuningEnv(num_envs, **options, render_mode=render_mode)
        self.num_envs, self.group_size = whole.num_envs, whole.group_size
        self.workers, self._parts = share_out(whole, workers)
        require_sendable("job", job)
        self.space, self.config = whole.space, whole.config
        self.actions, self.features = whole.actions, whole.features
        self.autoreset_mode, self.metadata = whole.autoreset_mode, whole.metadata
        self.single_observation_space = whole.single_observation_space
        self.single_action_space = whole.single_action_space
        self.observation_space, self.action_space = whole.observation_space, whole.action_space
        self._ready, self._ended = False, np.zeros(self.num_envs, np.bool_)
        self._observations = np.zeros(self.observation_space.shape or (), np.float32)
        own = {suite: suites.SUITES[suite]} if suite in suites.SUITES else {}
        self._remote = RemoteObjects(EnvPart, [(part, own, options) for part in self._parts])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of an observation's entries, in order."""
        return self.features.names

    @property
    def privileged_names(self) -> tuple[str, ...]:
        """Names of the privileged facts, in order."""
        return self._whole.privileged_names

    def privileged(self) -> Observations:
        """See `VectorTuningEnv.privileged`; the workers are asked."""
        self._require_open()
        facts = self._remote.call("privileged", dict.fromkeys(range(self.workers), ()))
        return np.concatenate([facts[worker] for worker in range(self.workers)])

    def records(self, slot: int) -> tuple[Record, ...]:
        """See `VectorTuningEnv.records`."""
        records: tuple[Record, ...] = self._ask_for(slot, "records")
        return records

    def final_records(self, slot: int) -> tuple[Record, ...]:
        """See `VectorTuningEnv.final_records`."""
        records: tuple[Record, ...] = self._ask_for(slot, "final_records")
        return records

    def evaluate(self, slot: int, split: str = "test") -> dict[str, float]:
        """See `VectorTuningEnv.evaluate`."""
        figures: dict[str, float] = self._ask_for(slot, "evaluate", split)
        return figures

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """See `VectorTuningEnv.reset`; workers none of whose slots are masked are not asked.

        Raises:
            ConfigError: An option or the seeds do not fit, or the job cannot be sent; nothing was changed.
            JobError, DatasetError: A slot's job cannot be built, or a worker died.
            gymnasium.error.ResetNeeded: Some slots were to be reset before all of them were.
            gymnasium.error.ClosedEnvironmentError: The environment is closed.
        """
        job, mask = asked_reset(options, self.num_envs, self._ready)
        seeds = slot_seeds(seed, self.num_envs, self.group_size)
        require_sendable("options['job']", job)
        asked = {
            worker: (seeds[part], {"job": job, "reset_mask": mask[part]})
            for worker, part in enumerate(self._parts)
            if mask[part].any()
        }
        answers = self._change("restart", asked)
        for worker, (observations, _) in answers.items():
            self._observations[self._parts[worker]] = observations
        self._ended = self._ended & ~mask
        infos = [answers[worker][1] if worker in answers else {} for worker in range(self.workers)]
        return self._observations.copy(), join_infos(infos, self.num_envs // self.workers)

    def step(self, actions: Actions) -> Step:
        """See `VectorTuningEnv.step`.

        Raises:
            ConfigError: The actions do not fit the action space; nothing was changed.
            JobError, DatasetError: A job cannot be trained, a slot's next one not be built, or a worker died.
            gymnasium.error.ResetNeeded: Nothing was started, or (without autoreset) an episode is over.
            gymnasium.error.ClosedEnvironmentError: The environment is closed.
        """
        self._require_open()
        require_running(self._ready, self._ended, self.autoreset_mode)
        self._whole.courses.read(actions, ~self._ended)
        actions = np.asarray(actions)
        answers = self._change("step", {w: (actions[part],) for w, part in enumerate(self._parts)})
        columns = list(zip(*(answers[worker] for worker in range(self.workers)), strict=True))
        self._observations, rewards, terminated, truncated = map(np.concatenate, columns[:4])
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            self._ended = terminated.copy()
        infos = join_infos(columns[4], self.num_envs // self.workers)
        return self._observations.copy(), rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """See `VectorTuningEnv.get_state`; the state is of as many workers.

        Raises:
            JobError: No jobs are running, or a worker died.
        """
        self._require_open()
        if not self._ready:
            raise JobError("there is no state to take before all slots are reset")
        states = self._remote.call("get_state", dict.fromkeys(range(self.workers), ()))
        return {"settings": self.settings(), "workers": [states[w] for w in range(self.workers)]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `VectorTuningEnv.set_state`.

        Raises:
            ConfigError: The state is of an environment with other settings; nothing was changed.
            JobError, DatasetError: A job cannot be built, or a worker died.
        """
        require_same(state["settings"], self.settings())
        answers = self._change("resume", {w: (part,) for w, part in enumerate(state["workers"])})
        self._observations = np.concatenate([answers[worker] for worker in range(self.workers)])
        self._ended = np.concatenate([part["ended"] for part in state["workers"]])

    def settings(self) -> dict[str, Any]:
        """What a snapshot must share with the environment that continues from it."""
        own = {"workers": self.workers, "number of slots a worker": self.num_envs // self.workers}
        return {name: v for name, v in self._whole.settings().items() if name != "num_envs"} | own

    def close_extras(self) -> None:
        """Ends the workers."""
        self._remote.close()

    def _ask_for(self, slot: int, method: str, *args: Any) -> Any:
        """Calls a method of a slot's part, whose first argument is the slot."""
        self._require_open()
        worker, place = divmod(range(self.num_envs)[slot], self.num_envs // self.workers)
        return self._remote.call(method, {worker: (place, *args)})[worker]

    def _change(self, method: str, calls: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Calls a method that changes what runs: if it fails, or is interrupted, nothing does."""
        self._require_open()
        self._ready = False
        answers = self._remote.call(method, calls)
        self._ready = True
        return answers

    def _require_open(self) -> None:
        if self.closed or self._remote.closed:
            raise gym.error.ClosedEnvironmentError(f"{self} is closed: make another one")
