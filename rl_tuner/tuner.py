"""A policy at work on somebody's own PyTorch loop."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_tuner.config import choose, require_range
from rl_tuner.course import Course
from rl_tuner.errors import ConfigError
from rl_tuner.history import Extent, Interval, Record
from rl_tuner.meter import Meter
from rl_tuner.optimizer_modes import OptimizerModes
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy
from rl_tuner.rails import Rails
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.tracking import Tracker
from rl_tuner.trainee import Kept, Trainee

if TYPE_CHECKING:
    import torch
    from torch import nn


class Tuner:
    """Lets a policy tune an optimizer (and model, and sampler) while they train.

    Create it before the loop, call `step` after each ``optimizer.step()``, and `restore_best` at the end::

        tuner = rl_tuner.Tuner(optimizer, total_steps=10_000, model=model, validate=lambda: val_loss(model))
        for batch in loader:
            ...; loss.backward(); optimizer.step(); optimizer.zero_grad()
            tuner.step(loss)
        tuner.restore_best()

    Decisions fall where the policy was trained to take them (20 at most by default, short intervals
    first); between them `step` costs next to nothing and never waits for the device. At a decision
    `validate` is called, and the model and optimizer are copied in memory: after an interval that diverged
    the rails put the last good copy back. Observations, actions and rails are those of
    `rl_tuner.envs.TuningEnv`.

    An optimizer with modes of its own (``optimizer.train()`` and ``optimizer.eval()``, as Schedule-Free's) is
    in evaluation mode while `validate` runs and copies are made, in training mode after each `step`, and in
    evaluation mode after `restore_best`: call neither yourself. Its "momentum" must stay above 0.

    Args:
        optimizer: Any `torch.optim.Optimizer`, at the start values you would use without a tuner.
        total_steps: The budget in optimizer steps; give this or `total_samples`.
        total_samples: The budget in training samples.
        policy: A policy (the tuner acts with a copy of it), a shipped name, a schedule's name, or a policy
            file's path.
        model: Needed to tune dropout, and for buffers to be kept and restored.
        validate: Returns the validation loss of the model as it is, lower is better, >= 0; None tunes for
            the training loss. Called once at the start, and at each decision once, or twice with `averaging`.
        batch_sampler: Your loader's sampler, if the batch size may be tuned. With `total_samples` it ends
            by itself when the budget is spent.
        hyperparameters: Names that may be tuned; None for all that the policy moves and the job has.
        rails: True, False or your own `rl_tuner.rails.Rails`; None for what the policy was trained with.
        averaging: Whether an average of the weights is kept, which `validate` judges as well: the best
            weights may be averaged ones (see `rl_tuner.averaging`). None for what the policy was trained
            with. Without `validate` there is none.
        restarts: Whether training begins again when it is past its best, or when its learning rate has come
            down by a decade at once (see `rl_tuner.restarts`), from the weights that the model has now, for
            what is left of the budget; `restore_best` gives the best weights of all attempts. None for what
            the policy was trained with. Without `validate` it never does. Keeps one more copy of model and
            optimizer.
        reinitialize: Called with the model when training begins again: gives it other initial weights, in
            place, which is worth more than the same ones. Needs `model`.
        epochs: How many passes over your training samples the budget is, > 0, which tells a policy whether
            to expect overfitting; None where that is not known, or a `batch_sampler` knows.
        seed: Of the policy's own randomness, if it has any.
        log_dir: A folder for TensorBoard events; None writes none.

    Attributes:
        finished: Whether the budget is spent, or the run crashed past the rails.
        crashed: Whether it crashed.

    Raises:
        ConfigError: An argument is of the wrong kind or out of range.
        PolicyError: The policy cannot be loaded.
    """

    def __init__(  # noqa: PLR0913 (each one a public option)
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int | None = None,
        policy: str | Path | Policy = "default",
        model: nn.Module | None = None,
        validate: Callable[[], float | torch.Tensor] | None = None,
        batch_sampler: TunedBatchSampler | None = None,
        *,
        total_samples: int | None = None,
        hyperparameters: Sequence[str] | None = None,
        rails: bool | Rails | None = None,
        averaging: bool | None = None,
        restarts: bool | None = None,
        reinitialize: Callable[[nn.Module], object] | None = None,
        epochs: float | None = None,
        seed: int = 0,
        log_dir: str | Path | None = None,
    ) -> None:
        if (total_steps is None) == (total_samples is None):
            raise ConfigError("give the budget as total_steps or as total_samples, one of the two")
        _check_types(model, validate, batch_sampler, reinitialize)
        # A copy: another tuner at work with the same policy must not share its memory.
        self.policy = copy.deepcopy(policy) if isinstance(policy, Policy) else load_policy(policy)
        self._in_samples = total_samples is not None
        budget = total_samples if total_samples is not None else total_steps
        if not isinstance(budget, int) or budget < 1:
            raise ConfigError(f"the budget must be a whole number >= 1, got {budget!r}")
        self._sampler = batch_sampler
        if batch_sampler is not None and self._in_samples:
            batch_sampler.stop_after(budget)
        averaging = self.policy.config.averaging if averaging is None else averaging
        averaging = averaging and validate is not None
        self._trainee = Trainee(optimizer, model, batch_sampler, averaging=averaging)
        self._validate_loss, self._model = validate, model
        self._meter, self._modes = Meter(optimizer), OptimizerModes(optimizer)
        self._course = self._make_course(budget, rails, restarts)
        self._reinitialize, self._epochs = reinitialize, epochs
        self._settings = self._trainee.settings()
        self._tracker = Tracker(Path(log_dir)) if log_dir is not None else None
        self._last_samples = 1
        self._drawn = 0 if batch_sampler is None else batch_sampler.drawn
        self._warned = False
        self.used = 0
        start = self._start_values(hyperparameters)
        usual = {"lr": self._trainee.usual_lr()}
        extent = self._extent(budget)
        self._course.begin(self._trainee, start, self._validate(), self._trainee.limits(), usual, extent)
        # What further attempts begin from.
        self._first = self._course.good if self._course.config.restarts and validate is not None else None
        self.policy.reset(seed)
        self._act()
        self._modes.train()

    @property
    def finished(self) -> bool:
        """Whether the budget is spent (or the sampler's stream at its end), or the run crashed."""
        at_end = self._in_samples and self._sampler is not None and self._sampler.next_size() == 0
        return self._course.finished or at_end

    @property
    def crashed(self) -> bool:
        """Whether the run crashed: it failed once more after the last rescue (or at all, without rails)."""
        return self._course.crashed

    @property
    def attempt(self) -> int:
        """Number of the present attempt, from 0: how often training has begun again (see `restarts`)."""
        return self._course.attempt

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The tuned hyperparameters as they are now."""
        return self._course.values

    @property
    def records(self) -> tuple[Record, ...]:
        """The log, a line for each decision so far."""
        return self._course.records

    def step(self, loss: torch.Tensor | float, samples: int | None = None) -> None:
        """Notes one optimizer step; takes a decision when one is due. Does nothing once `finished`.

        Args:
            loss: The step's training loss, a tensor of one element (read only at a decision) or a number.
            samples: Samples used since the step before; None for what the sampler drew since then (all
                of it under gradient accumulation; with loader workers, which draw ahead, pass the number).
                Needed when the budget is in samples and there is no sampler.

        Raises:
            ConfigError: `samples` is needed or below 1.
        """
        if self._course.finished:
            return
        if samples is None:
            if self._in_samples and self._sampler is None:
                raise ConfigError("with total_samples and no batch_sampler, call step(loss, samples=n)")
            samples = 0 if self._sampler is None else self._sampler.drawn - self._drawn
        else:
            require_range("samples", samples, 1)
        self._meter.record(loss, samples)
        if self._trainee.average is not None:
            self._trainee.average.update()
        self._last_samples = samples
        self._drawn = 0 if self._sampler is None else self._sampler.drawn
        self.used += samples if self._in_samples else 1
        if self.used >= self._course.next_end:
            self._decide()
        else:
            self._arm_if_last()

    def restore_best(self) -> None:
        """Puts the best weights by validation back into the model (by training loss without `validate`).

        Weights trained since the last decision are validated first, and stay if they are the best.
        """
        best = self._course.best
        self._modes.eval()
        if self._meter.updates and not self._course.finished and self._validate_loss is not None:
            self._meter.clear()
            latest = Interval(
                val_loss=self._validate(), averaged_loss=self._trainee.judge_average(self._validate)
            )
            if latest.lowest < self._course.overall.lowest:
                best = self._trainee.keep_average() if latest.averaged else None
        if best is not None:
            self._trainee.restore_weights(best)

    def get_state(self) -> dict[str, Any]:
        """Model, optimizer, gradients, sampler, log and the policy's memory, copied and picklable.

        Your own generators and data loader are yours to save. Call it between two training steps.
        """
        return {
            "trainee": self._trainee.keep(),
            "values": self._trainee.read(),
            "gradients": self._trainee.gradients(),
            "sampler": None if self._sampler is None else self._sampler.get_state(),
            "meter": self._meter.get_state(),
            "course": self._course.get_state(),
            "first": self._first,
            "policy": self.policy.get_state(),
            "used": self.used,
            "last_samples": self._last_samples,
            "drawn": self._drawn,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, bit for bit.

        Raises:
            ConfigError: The state is of another search space or sampler.
            JobError: The state is of another model.
        """
        self._course.set_state(state["course"])
        self._first = state["first"]
        self._trainee.restore(state["trainee"])
        self._trainee.set_gradients(state["gradients"])
        self._modes.set_state(None)  # the state was taken in training
        if self._sampler is not None and state["sampler"] is not None:
            self._sampler.set_state(state["sampler"])
        self._trainee.write(state["values"])  # after the optimizer's state, which holds older ones
        self._meter.set_state(state["meter"])
        self.policy.set_state(state["policy"])
        self.used, self._last_samples, self._drawn = state["used"], state["last_samples"], state["drawn"]

    def _make_course(self, budget: int, rails: bool | Rails | None, restarts: bool | None) -> Course[Kept]:
        config = self.policy.config
        # A budget shorter than the policy's decisions takes one at each step.
        config = replace(
            config,
            decisions=min(config.decisions, budget),
            rails=config.rails if rails is None else rails,
            restarts=config.restarts if restarts is None else restarts,
        )
        return Course(self.policy.space, self.policy.actions, config, budget)

    def _extent(self, budget: int) -> Extent:
        """How long the training with this budget is to be, as far as it is known."""
        epochs = self._epochs
        if epochs is not None:
            require_range("epochs", epochs, 0, above=True)
            epochs *= budget / self._course.budget
        given = nan if epochs is None else epochs
        if self._sampler is None:
            return Extent(nan if self._in_samples else budget, given)
        samples = budget if self._in_samples else budget * self._sampler.batch_size
        known = Extent.of(samples, self._sampler.batch_size, self._sampler.size)
        return known if epochs is None else replace(known, epochs=epochs)

    def _start_values(self, hyperparameters: Sequence[str] | None) -> dict[str, float]:
        names = self.policy.space.names
        wanted = names if hyperparameters is None else hyperparameters
        for name in wanted:
            choose("hyperparameter of the policy", name, names)
        values = {k: v for k, v in self._trainee.read().items() if k in wanted}
        if hyperparameters is not None and set(wanted) - set(values):
            lacking = ", ".join(sorted(set(wanted) - set(values)))
            raise ConfigError(
                f"the job has no {lacking}: dropout needs model= (with dropout layers), batch_size needs "
                "batch_sampler=, the others an optimizer that has them"
            )
        return values

    def _validate(self) -> float:
        """The user's validation loss: NaN without one, inf if not finite. Module modes stay as they were.

        The optimizer is left in its evaluation mode.
        """
        self._modes.eval()
        if self._validate_loss is None:
            return nan
        modes = [] if self._model is None else [(m, m.training) for m in self._model.modules()]
        given = self._validate_loss()
        self._modes.eval()  # also if `validate` switched to it and back
        try:
            loss = float(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"validate must return one number, got {given!r}") from error
        for module, training in modes:
            module.training = training
        return loss if np.isfinite(loss) else float("inf")

    def _decide(self) -> None:
        interval = self._meter.read(self._validate(), self._trainee.judge_average(self._validate))
        if interval.criterion < 0 and not self._warned:
            self._warned = True
            warnings.warn(
                f"the loss is negative ({interval.criterion:.3g}): observations are log-ratios of losses and "
                "cannot tell values below zero apart; add a constant to the loss you report",
                stacklevel=3,
            )
        outcome = self._course.settle(self._trainee, interval, self.used)
        if outcome.attempt_over and self._first is not None:
            self._begin_again(self._first)
        if self._tracker is not None:
            self._tracker.record(self.records[-1])
        if not self._course.finished:
            self._act()
        elif self._tracker is not None:
            self._tracker.close()
        self._modes.train()

    def _begin_again(self, first: Kept) -> None:
        """Training starts anew, with the hyperparameters reached."""
        self._trainee.restore(first)
        if self._reinitialize is not None and self._model is not None:
            self._reinitialize(self._model)
            self._trainee.begin_again(self._settings)
        self._trainee.write(self._course.values)
        extent = self._extent(self._course.budget - self.used)
        self._course.begin_attempt(self._trainee, self._validate(), extent)

    def _act(self) -> None:
        self._trainee.write(self._course.act(self.policy.act(self._course.observation())))
        self._arm_if_last()

    def _arm_if_last(self) -> None:
        """Has the next update measured if it is likely the interval's last."""
        size = 1
        if self._in_samples:
            size = self._sampler.next_size() if self._sampler is not None else self._last_samples
        if self.used + size >= self._course.next_end:
            self._meter.arm()


def _check_types(model: object, validate: object, batch_sampler: object, reinitialize: object) -> None:
    from torch import nn

    if model is not None and not isinstance(model, nn.Module):
        raise ConfigError(f"model must be a torch module, got {type(model).__name__}")
    if validate is not None and not callable(validate):
        raise ConfigError(f"validate must be a function that returns a loss, got {type(validate).__name__}")
    if reinitialize is not None and not (callable(reinitialize) and model is not None):
        what = "model=" if callable(reinitialize) else f"a function, got {type(reinitialize).__name__}"
        raise ConfigError(f"reinitialize needs {what}")
    if batch_sampler is not None and not isinstance(batch_sampler, TunedBatchSampler):
        raise ConfigError(f"batch_sampler must be a TunedBatchSampler, got {type(batch_sampler).__name__}")
