"""A search on one job: trials chosen by a sampler, trained side by side, the best chosen by validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rl_tuner.config import require_counts, to_dict
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.job_budgets import phase_budgets, with_budget
from rl_tuner.samplers import SAMPLERS, Ask, batch_of, make_sampler, narrowed, quiet
from rl_tuner.search_studies import first_loss, new_study, objective, search_result
from rl_tuner.searches import SearchConfig, SearchResult, SearchTrial
from rl_tuner.settings import Setting, SettingSpace
from rl_tuner.trials import DECISIONS, SLOTS, TrialRunner

if TYPE_CHECKING:
    import optuna

__all__ = [
    "SearchConfig",
    "SearchResult",
    "SearchTrial",
    "new_study",
    "objective",
    "run_search",
    "search_result",
]

OnTrial = Callable[[SearchTrial], object]


def run_search(
    config: SearchConfig,
    job: Source,
    seed: int,
    study: optuna.Study | None = None,
    on_trial: OnTrial | None = None,
    slots: int | None = None,
) -> SearchResult:
    """Searches a job's best static setting.

    The search uses `config.trials` times the job's budget of training samples, exactly (once the budget, if
    the trials share it). Where trials are pruned, what they leave goes to more trials, and what is left at
    the end to one of exactly that budget. A trial that diverges ends there; what it leaves stays unused,
    except where trials are pruned. Every trial has the same initial weights and batch order.

    Args:
        config: How to search.
        job: On which job.
        seed: Of the job's streams and of the sampler. The same seed gives the same result, bit for bit.
        study: Goes on from the trials in it; None for a new one in memory. Several processes may work on one
            study, which its storage must allow for; each leaves when nothing is left for it to begin, and
            returns what the study held then.
        on_trial: Called with each trial of this process when it has ended.
        slots: Trials side by side in this process, at most; None for the sampler's own choice.

    Returns:
        All ended trials of the study.

    Raises:
        ConfigError: The job leaves nothing to search, or its budget cannot be shared by so many trials.
        JobError, DatasetError: The job has no validation samples, or cannot be built or trained.
    """
    if config.sampler == "pbt":
        from rl_tuner.population import run_population

        return run_population(config, job, seed, on_trial)
    with quiet():
        study = new_study() if study is None else study
        sampler, pruner = study.sampler, study.pruner
        try:
            _Search(config, job, seed, study, on_trial, slots).run()
        finally:
            study.sampler, study.pruner = sampler, pruner
        return search_result(study)


@dataclass(slots=True)
class _Running:
    """A trial under way.

    Attributes:
        trial: The study's view of it.
        setting: What it tries.
        budget: Training samples that it may use.
        first: What the losses of its present phase are compared to, the same for all trials.
        least: The lowest one after training, in that phase; what is pruned by. (The lowest of all would be
            the same for all that never came below the first.)
        phase: Number of that phase.
    """

    trial: optuna.Trial
    setting: Setting
    budget: int
    first: float
    least: float = float("inf")
    phase: int = 0


class _Search:
    """A search at work in this process. See `run_search`."""

    def __init__(
        self,
        config: SearchConfig,
        job: Source,
        seed: int,
        study: optuna.Study,
        on_trial: OnTrial | None,
        slots: int | None,
    ) -> None:
        from rl_tuner.study_ledger import Ledger

        built = job.build()
        if built.validation is None and not built.then:
            raise JobError(
                f"a search chooses by validation: the job {built.name!r} has no validation samples"
            )
        space = SettingSpace.of(
            job, config.hyperparameters, config.schedules, config.schedule_options, config.lr_decades
        )
        self._config, self._job, self._seed, self._study, self._on_trial = config, job, seed, study, on_trial
        self._space = narrowed(config.sampler, space, config.trials)
        self._sampler = SAMPLERS[config.sampler]
        self._scored = built.test is not None or bool(built.then)
        self._phases, self._own = len(built.then) + 1, sum(phase_budgets(built))
        self._first = first_loss(job, seed) if built.then else None
        self._total = self._own if config.shared else self._own * config.trials
        self._usual = self._total // config.trials
        if self._usual < self._phases:
            raise ConfigError(f"a budget of {self._own} samples cannot be shared by {config.trials} trials")
        self._ledger = Ledger(study, self._total, self._usual)
        self._decisions = min(DECISIONS, self._usual)
        self._batch = self._slots(slots)
        self._runner = TrialRunner(self._batch, self._decisions)
        self._running: dict[int, _Running] = {}
        if self._sampler.pruner is not None:
            study.pruner = self._sampler.pruner(self._decisions)

    def run(self) -> None:
        """Goes on until nothing is left to begin."""
        while True:
            self._fill()
            if not self._running:
                if self._begin_rest():
                    continue
                return
            for slot in self._runner.advance():
                self._end(slot)
            if self._sampler.pruner is not None:
                self._prune()

    def _slots(self, most: int | None) -> int:
        if most is not None:
            require_counts({"slots": most})
        batch = batch_of(self._config.sampler, self._space, self._config.trials)
        return min(batch, SLOTS if most is None else most)

    def _fill(self) -> None:
        """Begins trials in the free slots, as far as the budget goes."""
        from rl_tuner.study_ledger import INDEX

        if self._sampler.waits and self._running:
            return
        for slot in self._runner.free:
            if self._ledger.left() < self._usual or not self._begin(slot):
                return
            # A resumed batch, part of which has ended, is not filled up: the next ones wait for all of it.
            index = int(self._running[slot].trial.user_attrs[INDEX])
            if self._sampler.waits and (index + 1) % self._batch == 0:
                return

    def _begin_rest(self) -> bool:
        """Begins a trial of what is left, if that is less than usual; returns whether there is more to do."""
        left = self._ledger.left()
        if self._ledger.running or left < self._phases:
            return False
        if left >= self._usual:  # another process let go of it in this moment
            return True
        # Its steps are of other lengths: nothing to compare by, so it is not pruned.
        self._runner = TrialRunner(1, min(DECISIONS, left))
        return self._begin(0, left)

    def _begin(self, slot: int, rest: int | None = None) -> bool:
        """Begins a trial, of the usual budget or of what is left; returns whether the budget held it."""
        from optuna.trial import TrialState

        from rl_tuner.study_ledger import BUDGET, INDEX, index_of

        config, study = self._config, self._study
        trial = study.ask()
        index = index_of(study, trial)
        budget = self._budget(index) if rest is None else rest
        if self._ledger.left(trial.number) < budget:
            study.tell(trial, state=TrialState.FAIL)
            return False
        trial.set_user_attr(BUDGET, budget)
        trial.set_user_attr(INDEX, index)
        # Only now: Optuna samples when the first value is suggested.
        study.sampler = make_sampler(config.sampler, Ask(self._seed, index, config.trials, self._space))
        setting = self._space.suggest(trial)
        for name in self._sampler.spare(self._space):
            trial.suggest_float(name, 0.0, 1.0)
        job = setting.apply(self._job)
        if budget != self._own:
            job = with_budget(job, budget)
        self._runner.start(slot, job, self._seed, setting.policy())
        self._running[slot] = _Running(trial, setting, budget, float(self._runner.val_losses()[slot]))
        return True

    def _budget(self, index: int) -> int:
        """What a trial may use: if they share a budget, the first ones get the samples that are over."""
        over = 0 if self._sampler.pruner is not None else self._total % self._config.trials
        return self._usual + (index < over)

    def _prune(self) -> None:
        """Ends the trials that the pruner gives up."""
        for slot in list(self._running):
            running = self._running[slot]
            if running.budget != self._usual:
                continue
            records = self._runner.records(slot)
            running.least = min(running.least, records[-1].val_loss)
            running.trial.report(objective(running.least, running.first), len(records))
            if running.trial.should_prune():
                self._end(slot, pruned=True)
            elif self._runner.phase(slot) != running.phase:  # what follows is another loss
                running.phase, running.least = self._runner.phase(slot), float("inf")
                if self._first is not None and running.phase == self._phases - 1:
                    running.first = self._first

    def _end(self, slot: int, *, pruned: bool = False) -> None:
        """Takes a trial out of its slot, and tells the study."""
        from optuna.trial import TrialState

        from rl_tuner.study_ledger import OUTCOME

        running = self._running.pop(slot)
        ended = self._runner.stop(slot, self._scored)
        found = SearchTrial.of(ended, running.setting, pruned=pruned)
        reusable = self._sampler.pruner is not None
        outcome: dict[str, Any] = {
            "trial": to_dict(found),
            "test": dict(ended.test),
            "curve": ended.curve,
            "records": [to_dict(record) for record in ended.records],
            "charge": ended.samples if reusable else running.budget,
        }
        running.trial.set_user_attr(OUTCOME, outcome)
        if pruned:
            self._study.tell(running.trial, state=TrialState.PRUNED)
        else:
            first = ended.start_val_loss if self._first is None else self._first
            self._study.tell(running.trial, objective(ended.val_loss, first))
        if self._on_trial is not None:
            self._on_trial(found)
