"""The environment: one training job an episode, one policy decision a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.course import Course, Outcome
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.phases import EpisodePhase
from rl_tuner.envs.tuning_setup import Setup, Source, options_for, require_same
from rl_tuner.history import Extent, Record
from rl_tuner.policy import Policy
from rl_tuner.rails import Rails
from rl_tuner.seeding import Streams
from rl_tuner.space import SearchSpace
from rl_tuner.trainee import Kept, Trainee

Observation = NDArray[np.float32]
Action = NDArray[Any]

Values = dict[str, float]


class TuningEnv(gym.Env[Observation, Action]):
    """Hyperparameter tuning of a training job as a Gymnasium environment.

    An episode is one job, a step one decision and the training until the next. The observation is
    `rl_tuner.features.FeatureSet` (names in `feature_names`), the action `rl_tuner.actions.ActionMap`, the
    reward a function of `rl_tuner.rewards`. When the budget is spent (or the job crashed past the rails, or
    stopped early) the episode is ``terminated`` and the best weights by validation are back in the model.

    ``info`` holds the job's name, ``job_seed`` (equal for two runs of one job), ``hyperparameters``,
    ``samples``, ``val_samples``, ``train_loss``, ``val_loss``, ``best_val_loss``, ``verdict``, ``rescues``,
    ``crashed``, ``phase`` and ``attempt``.

    A job may have phases (see `TrainingJob.then`). When one's budget is spent the next starts in the same
    step, from the best weights: what is observed, and what ``info`` tells of losses and hyperparameters, is
    the new phase's start, and the return is the sum over the phases. The model, its test scores and its best
    weights are the last phase's, which is left untrained if the job crashed before.

    Args:
        job: Your own training job; None draws jobs from a suite.
        suite: The suite drawn from when there is no job.
        split: Its "train", "validation" or "test" part.
        actions: "discrete", "continuous" or "anchored".
        reward: A name of `rl_tuner.rewards.REWARDS`, such as "log_improvement".
        hyperparameters: Names of those acted on, or a search space; None for all five.
        decisions: Decisions an episode.
        intervals: "geometric" or "uniform".
        rails: True, False, or your own `rl_tuner.rails.Rails`.
        early_stopping: Decisions without a new best after which the episode ends; None for never.
        averaging: Whether an average of the weights is kept (see `rl_tuner.averaging`) and validated beside
            them, so that the best weights may be averaged ones. Twice the validation samples.
        restarts: Whether a training that is past its best, or had a false start, begins again for what is
            left of the budget, from other initial weights, with the hyperparameters reached (see
            `rl_tuner.restarts`). Only the last phase does.
        render_mode: "ansi" (a table of the decisions), "rgb_array" (loss and hyperparameter curves) or None.

    Raises:
        ConfigError: An argument is unknown or out of range.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(  # noqa: PLR0913 (each one a public option of the environment)
        self,
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
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            choose("render_mode", render_mode, self.metadata["render_modes"])
        self._setup = Setup(
            job, suite, split, actions, reward, hyperparameters, decisions, intervals, rails, early_stopping,
            averaging, restarts,
        )  # fmt: skip
        self.space, self.config = self._setup.space, self._setup.config
        self.actions, self.features = self._setup.actions, self._setup.features
        self.observation_space: gym.Space[Observation] = self.features.gym_space
        self.action_space = self.actions.gym_space
        self.render_mode = render_mode
        self._source: Source | None = None
        self.streams = Streams(0)
        self._phase: EpisodePhase | None = None
        self._engine: ReferenceEngine | None = None
        self._course: Course[Kept] | None = None

    @classmethod
    def for_policy(
        cls, policy: Policy, job: TrainingJob | None = None, *, suite: str = "quick", split: str = "train"
    ) -> TuningEnv:
        """The environment in which a policy runs as it wants to: its search space, actions and decisions.

        Args:
            policy: What will act.
            job: See the class.
            suite: See the class.
            split: See the class.
        """
        return cls(job, suite=suite, split=split, **options_for(policy))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the observation's entries, in order."""
        return self.features.names

    @property
    def engine(self) -> ReferenceEngine:
        """The engine of the running episode, in its present phase.

        Raises:
            gymnasium.error.ResetNeeded: There is none yet.
        """
        if self._engine is None:
            raise gym.error.ResetNeeded("call reset() first: no job is running")
        return self._engine

    @property
    def phase(self) -> EpisodePhase:
        """The phase of the running episode.

        Raises:
            gymnasium.error.ResetNeeded: There is none yet.
        """
        if self._phase is None:
            raise gym.error.ResetNeeded("call reset() first: no job is running")
        return self._phase

    @property
    def course(self) -> Course[Kept]:
        """The decisions of the running episode.

        Raises:
            gymnasium.error.ResetNeeded: There is none yet.
        """
        if self._course is None:
            raise gym.error.ResetNeeded("call reset() first: no job is running")
        return self._course

    @property
    def records(self) -> tuple[Record, ...]:
        """The episode's log, a line for each decision so far."""
        return self.course.records

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts a job.

        Args:
            seed: The same seed gives the same episode, bit for bit.
            options: ``{"job": …}`` runs this `TrainingJob` or `JobSpec` instead of drawing one.

        Raises:
            ConfigError: An option is unknown.
            JobError, DatasetError: The job cannot be built.
        """
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            choose("reset option", key, ("job",))
        self._source, self.streams = self._setup.draw(self.np_random, options.get("job"))
        phase = EpisodePhase.begin(self._source.build(), self.streams)
        engine = self._build(phase)
        self._course = Course(self.space, self.actions, self.config, phase.budgets(engine.budget))
        self._begin(self._course.begin)
        return self.course.observation(), self._info("good")

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Applies an action and trains until the next decision.

        Raises:
            ConfigError: The action does not fit the action space.
            JobError: The next phase's job cannot be built.
            gymnasium.error.ResetNeeded: The episode is over, or none was started.
        """
        engine, course = self.engine, self.course
        if course.finished:
            raise gym.error.ResetNeeded("the job is finished: call reset()")
        engine.trainee.write(course.act(action))
        interval = engine.advance(course.next_end - course.phase_start)
        outcome = course.settle(engine.trainee, interval, course.phase_start + engine.used)
        if (outcome.finished or outcome.phase_over) and course.best is not None:
            engine.trainee.restore_weights(course.best)
        self._go_on(outcome)
        info = self._info(outcome.verdict.name.lower())
        return course.observation(), outcome.reward, outcome.finished, False, info

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Loss and metrics of the present weights on a split; after the episode, of the best ones.

        Raises:
            JobError: The job has no such split.
        """
        return self.engine.evaluate(split)

    def render(self) -> Any:
        """The episode so far: text for "ansi", an image (height, width, 3) of uint8 for "rgb_array"."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode, 'ansi' or 'rgb_array', given when the env is made")
            return None
        from rl_tuner.plotting import records_image, records_text

        title = self.phase.first.name
        draw = records_text if self.render_mode == "ansi" else records_image
        return draw(self.records, title)

    def get_state(self) -> dict[str, Any]:
        """The whole environment in mid-episode, picklable if the job is; `set_state` continues from it."""
        return {
            "settings": self._setup.settings(),
            "source": self._source,
            "streams": self.streams.seed,
            "phase": self.phase.get_state(),
            "budgets": self.course.budgets,
            "np_random": self.np_random.bit_generator.state,
            "engine": self.engine.get_state(),
            "course": self.course.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, on this or another environment, bit for bit.

        Raises:
            ConfigError: The state is of an environment with other settings.
            JobError: The state is of another model.
        """
        require_same(state["settings"], self._setup.settings())
        self._source, self.streams = state["source"], Streams(state["streams"])
        self._build(EpisodePhase.resume(state["source"].build(), self.streams, state["phase"]))
        self._course = Course(self.space, self.actions, self.config, state["budgets"])
        self.np_random.bit_generator.state = state["np_random"]
        self.engine.set_state(state["engine"])
        self.course.set_state(state["course"])

    def _build(self, phase: EpisodePhase) -> ReferenceEngine:
        """The engine of a phase, which is the present one from now on."""
        config = self.config
        self._phase = phase
        self._engine = ReferenceEngine(phase.job, phase.streams, config.averaging, config.tested)
        return self._engine

    def _begin(self, begin: Callable[[Trainee, Values, float, Values, Values, Extent, float], None]) -> None:
        """Begins the course, or its next phase, on the present engine."""
        engine = self.engine
        start = {k: v for k, v in engine.trainee.read().items() if k not in engine.job.fixed}
        trainee = engine.trainee
        extent = Extent.of(engine.budget, engine.sampler.batch_size, engine.sampler.size)
        begin(
            trainee,
            start,
            engine.validate(),
            trainee.limits(),
            {"lr": trainee.usual_lr()},
            extent,
            engine.test(),
        )

    def _go_on(self, outcome: Outcome) -> None:
        """Goes on to the next phase or attempt; after a crash to the last phase, whose model is the job's."""
        engine, phase = self.engine, self.phase
        if outcome.phase_over:
            self._build(phase.after(engine.model, engine.val_samples))
            self._begin(self.course.begin_phase)
        elif outcome.attempt_over:
            engine.begin_again(self.course.attempt + 1)
            extent = Extent.of(engine.budget - engine.used, engine.sampler.batch_size, engine.sampler.size)
            self.course.begin_attempt(engine.trainee, engine.validate(), extent, engine.test())
        elif outcome.finished and not phase.last:
            self._build(phase.last_one(engine.model, engine.val_samples))

    def _info(self, verdict: str) -> dict[str, Any]:
        course, engine, phase = self.course, self.engine, self.phase
        return {
            "job": phase.first.name,
            "job_seed": self.streams.seed,
            "hyperparameters": course.values,
            "samples": course.used,
            "val_samples": phase.val_samples + engine.val_samples,
            "train_loss": float(course.interval.train_late),
            "val_loss": float(course.interval.val_loss),
            "best_val_loss": float(course.overall.lowest),
            "verdict": verdict,
            "rescues": course.rescues,
            "crashed": course.crashed,
            "phase": course.phase,
            "attempt": course.attempt,
        }
