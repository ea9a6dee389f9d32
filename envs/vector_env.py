"""The vector environment: many training jobs at once, each an episode of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rl_tuner.config import choose, require_counts
from rl_tuner.courses import Outcomes
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.privileged_facts import PRIVILEGED_NAMES
from rl_tuner.envs.programs import STANDARD_SIZES, Uniform
from rl_tuner.envs.slot_rngs import Seeds
from rl_tuner.envs.slots import Slots
from rl_tuner.envs.tuning_setup import Setup, options_for, require_same
from rl_tuner.envs.vector_info import with_final
from rl_tuner.envs.vector_requests import asked_reset, require_running
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record
from rl_tuner.policy import Policy
from rl_tuner.rails import Rails, Verdict
from rl_tuner.space import SearchSpace

Observations = NDArray[np.float32]
Actions = NDArray[Any]
Bools = NDArray[np.bool_]
Step = tuple[Observations, NDArray[np.float64], Bools, Bools, dict[str, Any]]


class VectorTuningEnv(VectorEnv[Observations, Actions, Any]):
    """`TuningEnv` in many slots at once, on the batched engine: the same episodes, several times as fast.

    Slot i, reset with seed s, runs the episodes of a `TuningEnv` reset with seed s + i, to floating-point
    tolerance (dropout masks differ). A job that ended is followed by the slot's next one in the same step,
    with the last observation in ``info["final_obs"]`` and the last info in ``info["final_info"]``; infos
    are those of `TuningEnv`, as arrays with a ``_key`` mask each.

    Args:
        num_envs: Number of slots, >= 1.
        job, suite, split, actions, reward, hyperparameters, decisions, intervals, rails, early_stopping,
            averaging, restarts: See `TuningEnv`.
        group_size: So many slots side by side run the same jobs in the same order: same data, initial weights
            and batch order (``info["job_seed"]`` is equal). A slot whose job ends early goes on to its
            group's next one without waiting. Must divide num_envs.
        autoreset_mode: `AutoresetMode.SAME_STEP`, NEXT_STEP (the step after an episode's end starts the next
            one; its action is ignored, its reward 0) or DISABLED (``reset(options={"reset_mask": …})``).
        device: Where batched jobs are trained; `TrainingJob.device` counts for those that cannot be batched.
        compile: Train compiled programs of static shapes instead (see `rl_tuner.envs.uniform`): faster where
            many jobs share an architecture (`rl-tuner bench engine --ways --compile`), after a minute or so
            of compiling for each. True, or your own `Uniform` sizes. Without a C++ compiler a warning is
            given, and nothing is compiled.
        render_mode: None; only a `TuningEnv` draws.

    Raises:
        ConfigError: An argument is unknown or out of range.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own form)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(  # noqa: PLR0913 (each one a public option of the environment)
        self,
        num_envs: int = 1,
        job: TrainingJob | None = None,
        *,
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
        if render_mode is not None:
            raise ConfigError(
                f"a vector environment has no render_mode, got {render_mode!r}: make a single one to see it"
            )
        require_counts({"num_envs": num_envs, "group_size": group_size})
        if not isinstance(compile, bool | Uniform):
            raise ConfigError(f"compile must be True, False or a Uniform, got {compile!r}")
        self.num_envs, self.group_size = int(num_envs), int(group_size)
        if self.num_envs % self.group_size:
            raise ConfigError(f"group_size must divide num_envs={num_envs}, got {group_size}")
        self._setup = Setup(
            job, suite, split, actions, reward, hyperparameters, decisions, intervals, rails, early_stopping,
            averaging, restarts,
        )  # fmt: skip
        self.space, self.config = self._setup.space, self._setup.config
        self.actions, self.features = self._setup.actions, self._setup.features
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.features.gym_space
        self.single_action_space = self.actions.gym_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.engine = BatchedEngine(
            self.num_envs,
            device,
            STANDARD_SIZES if compile is True else compile or None,
            averaging,
            self._setup.config.tested,
        )
        self._slots = Slots(self._setup, self.group_size, self.engine)
        self.courses = self._slots.courses
        self._ended = np.zeros(self.num_envs, np.bool_)

    @classmethod
    def for_policy(
        cls, policy: Policy, num_envs: int, *, suite: str = "quick", split: str = "train"
    ) -> VectorTuningEnv:
        """The environment in which a policy runs as it wants to: its search space, actions and decisions."""
        return cls(num_envs, suite=suite, split=split, **options_for(policy))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of an observation's entries, in order."""
        return self.features.names

    @property
    def privileged_names(self) -> tuple[str, ...]:
        """Names of the privileged facts, in order."""
        return PRIVILEGED_NAMES

    def privileged(self) -> Observations:
        """Facts of the jobs in the slots that no observation holds, for a critic: shape (num_envs, P).

        Finite; zeros before the first reset. Those of a job that ended are gone when the slot's next one
        starts. See `rl_tuner.envs.privileged_facts`.
        """
        return self._slots.facts.copy()

    def records(self, slot: int) -> tuple[Record, ...]:
        """The log of a slot's present episode, a line for each decision so far."""
        return self.courses.records(slot)

    def final_records(self, slot: int) -> tuple[Record, ...]:
        """The log of the episode that ended last in a slot; empty before one did."""
        return self.courses.final_records(slot)

    def reset(
        self, *, seed: Seeds = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts a job in every slot.

        Args:
            seed: Slot i's first episode is that of `TuningEnv.reset(seed=seed + i)` (of ``seed + i //
                group_size`` in groups); a sequence gives each slot its own. None goes on from where it was.
            options: ``{"job": …}`` runs this `TrainingJob` or `JobSpec` in every slot; ``{"reset_mask": …}``
                (bool, shape (num_envs,)) leaves other slots as they are.

        Raises:
            ConfigError: An option or the seeds do not fit; nothing was changed.
            JobError, DatasetError: A slot's job cannot be built; all slots are to be reset again.
            gymnasium.error.ResetNeeded: Some slots were to be reset before all of them were.
        """
        job, mask = asked_reset(options, self.num_envs, self._slots.ready)
        self._slots.rngs.seed(seed, mask)
        self._slots.start(mask, job)
        self._ended[mask] = False
        return self.courses.observation(), self._slots.infos(np.zeros(self.num_envs, np.int64), mask)

    def step(self, actions: Actions) -> Step:
        """Applies an action in each slot and trains until the next decisions.

        Args:
            actions: Shape (num_envs, D).

        Returns:
            Observations (num_envs, F), rewards, terminated, truncated (never), each of shape
            (num_envs,), and infos.

        Raises:
            ConfigError: The actions do not fit the action space; nothing was changed.
            JobError, DatasetError: A job cannot be trained, or a slot's next one not be built.
            gymnasium.error.ResetNeeded: Nothing was started, or (without autoreset) an episode is over.
        """
        require_running(self._slots.ready, self._ended, self.autoreset_mode)
        outcome = self._slots.train(actions, ~self._ended)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            observations, infos = self._show_and_restart(outcome)
        else:
            observations, infos = self._restart_and_show(outcome)
        return observations, outcome.reward, outcome.finished, np.zeros(self.num_envs, np.bool_), infos

    def _show_and_restart(self, outcome: Outcomes) -> tuple[Observations, dict[str, Any]]:
        """SAME_STEP: the next job starts at once; what the last one showed in the end is told besides."""
        ended, everywhere = outcome.finished, np.ones(self.num_envs, np.bool_)
        observations = self.courses.observation()
        if not ended.any():
            return observations, self._slots.infos(outcome.verdict, everywhere)
        final = self._slots.infos(outcome.verdict, ended)
        self._slots.start(ended)
        infos = self._slots.infos(np.where(ended, Verdict.GOOD, outcome.verdict), everywhere)
        return self.courses.observation(), with_final(infos, observations, final, ended)

    def _restart_and_show(self, outcome: Outcomes) -> tuple[Observations, dict[str, Any]]:
        """NEXT_STEP: a job that ended in the step before gives way now. DISABLED: none did."""
        if self._ended.any():
            self._slots.start(self._ended)
        self._ended = outcome.finished.copy()
        for slot in np.flatnonzero(self._ended).tolist():
            self.engine.restore_best(slot)
        return self.courses.observation(), self._slots.infos(
            outcome.verdict, np.ones(self.num_envs, np.bool_)
        )

    def evaluate(self, slot: int, split: str = "test") -> dict[str, float]:
        """Loss and metrics of a slot's present weights on a split.

        An episode's best weights are there between its end and the next one's start: with NEXT_STEP, or
        without autoreset.

        Raises:
            JobError: The job has no such split.
        """
        return self.engine.evaluate(slot, split)

    def get_state(self) -> dict[str, Any]:
        """The whole environment in mid-episode, picklable if the jobs are; `set_state` continues from it.

        Raises:
            JobError: No jobs are running.
        """
        return {"settings": self.settings(), "ended": self._ended.copy(), "slots": self._slots.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, on this or another environment, bit for bit.

        Raises:
            ConfigError: The state is of an environment with other settings; nothing was changed.
        """
        require_same(state["settings"], self.settings())
        self._slots.set_state(state["slots"])
        self._ended = state["ended"].copy()

    def settings(self) -> dict[str, Any]:
        """What a snapshot must share with the environment that continues from it."""
        own = {name: getattr(self, name) for name in ("num_envs", "group_size", "autoreset_mode")}
        return {**self._setup.settings(), **own}


def _mode(mode: str | AutoresetMode) -> AutoresetMode:
    names = {m.value: m for m in AutoresetMode} | {m.name: m for m in AutoresetMode}
    return mode if isinstance(mode, AutoresetMode) else names[choose("autoreset_mode", mode, names)]
