"""The phases of an episode: which one runs, on which job, and what the ones before it came to.

A job's `then` names what follows it (see `rl_tuner.envs.jobs.Phase`). Both environments walk through the
phases by `EpisodePhase.after`, so that each next job is built of the same network, bit for bit, in an
episode that runs and in one that continues from a snapshot.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.errors import JobError
from rl_tuner.seeding import Streams

StateDict = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class EpisodePhase:
    """A phase of an episode; made by `begin`, `after` and `resume`.

    Attributes:
        first: The job that the episode began with; its `then` holds the phases that follow.
        episode: The episode's random streams.
        job: The phase's job.
        trained: The best weights of each phase before, as state_dicts.
        val_samples: Validation samples that those evaluated.
    """

    first: TrainingJob
    episode: Streams
    job: TrainingJob
    trained: tuple[StateDict, ...] = ()
    val_samples: int = 0

    @classmethod
    def begin(cls, job: TrainingJob, streams: Streams) -> EpisodePhase:
        """The first phase of an episode."""
        return cls(job, streams, job)

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return len(self.trained)

    @property
    def last(self) -> bool:
        """Whether no other phase follows."""
        return self.number == len(self.first.then)

    @property
    def streams(self) -> Streams:
        """The phase's own random streams."""
        return self.episode.phase(self.number)

    def budgets(self, first: int) -> list[int]:
        """What each phase of the episode may use, in training samples.

        Args:
            first: What the first one may use, which can depend on its data.
        """
        return [first, *(phase.budget for phase in self.first.then)]

    def after(self, module: nn.Module, val_samples: int) -> EpisodePhase:
        """The next phase.

        Args:
            module: This phase's network, its best weights in it; only read.
            val_samples: Validation samples that this phase evaluated.

        Raises:
            JobError: What the job's `then` returned is no job, or one with phases of its own.
        """
        return self._after(copy.deepcopy(dict(module.state_dict())), val_samples)

    def last_one(self, module: nn.Module, val_samples: int) -> EpisodePhase:
        """The last phase, where those between are never trained: what a crash leaves of the episode.

        Args:
            module: See `after`.
            val_samples: See `after`.

        Raises:
            JobError: See `after`.
        """
        phase = self.after(module, val_samples)
        while not phase.last:
            phase = phase.after(phase.job.build_model(phase.streams.seed_of("init")), 0)
        return phase

    def get_state(self) -> dict[str, Any]:
        """What the phases before came to; `resume` continues from it."""
        return {"trained": self.trained, "val_samples": self.val_samples}

    @classmethod
    def resume(cls, job: TrainingJob, streams: Streams, state: Mapping[str, Any]) -> EpisodePhase:
        """The phase of an episode of this job that `get_state` was called in.

        Raises:
            JobError: The state is of another model, or of a job with more phases.
        """
        if len(state["trained"]) > len(job.then):
            raise JobError(
                f"the state is in phase {len(state['trained'])} of a job, the job {job.name!r} has "
                f"{len(job.then) + 1} phases"
            )
        phase = cls.begin(job, streams)
        for weights in state["trained"]:
            phase = phase._after(weights, 0)
        return replace(phase, val_samples=state["val_samples"])

    def _after(self, weights: StateDict, val_samples: int) -> EpisodePhase:
        # A fresh network, not the one that trained: its hyperparameters (dropout) are at their start.
        module = self.job.build_model(self.streams.seed_of("init"))
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:  # torch's complaint about missing, foreign or misshapen tensors
            raise JobError(f"the weights of phase {self.number} do not fit its model: {error}") from error
        following = self.first.then[self.number]
        job = following.job(module)
        what = f"what follows phase {self.number} of the job {self.first.name!r}"
        if not isinstance(job, TrainingJob):
            raise JobError(f"{what} must be a TrainingJob, got {type(job).__name__}")
        if job.then:
            raise JobError(f"{what} has a then of its own: name all phases in the first job's")
        return replace(
            self,
            job=replace(job, budget=following.budget),
            trained=(*self.trained, weights),
            val_samples=self.val_samples + val_samples,
        )
