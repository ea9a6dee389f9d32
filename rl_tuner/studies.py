"""A search as a run: an Optuna study in the run's folder, resumable, for several workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_tuner.config import require_counts, to_dict
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError
from rl_tuner.job_budgets import budget_of
from rl_tuner.members import in_phases
from rl_tuner.runs import RunDirectory
from rl_tuner.search_studies import CURVE, first_loss, objective, search_result
from rl_tuner.searches import SearchConfig, SearchResult, SearchTrial
from rl_tuner.searching import run_search
from rl_tuner.seeding import Streams
from rl_tuner.settings import SettingSpace
from rl_tuner.study_storage import in_memory, new_trials, open_study
from rl_tuner.user_jobs import ApplyConfig, build_job
from rl_tuner.workers import run_tasks

if TYPE_CHECKING:
    import optuna

Problem = ApplyConfig | JobSpec
"""What a search is on: a user's data, as for ``rl-tuner apply``, or a job of a suite."""
STORAGE = "study.db"
MEMBERS = "members"
"""A study's user attribute: how many trials a population came to, once it is trained."""
LOOK = 0.25
"""Seconds between two looks at what the workers have come to."""
OnTrial = Callable[[SearchTrial], object]


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """What ``rl-tuner search`` was asked for.

    Attributes:
        problem: On which job.
        search: How.
        seed: Of the job's streams and of the sampler.
        workers: Processes that work on the study. With one, the same seed gives the same result, bit for
            bit (after a kill, too, unless the sampler goes by the order in which trials end); with more it
            depends on who is faster.

    Raises:
        ConfigError: A value is out of range, or there are workers that the sampler cannot use.
    """

    problem: Problem
    search: SearchConfig
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        Streams(self.seed)
        require_counts({"workers": self.workers})
        if self.search.sampler == "pbt" and self.workers > 1:
            raise ConfigError(
                f"pbt's members train side by side in one process: --workers must be 1, got {self.workers}"
            )

    def job(self) -> Source:
        """The job.

        Raises:
            ConfigError, DatasetError, JobError: Something does not exist or does not fit.
        """
        return self.problem if isinstance(self.problem, JobSpec) else build_job(self.problem)[0]

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` holds: flat, so that a difference is named by its option."""
        own = {"seed": self.seed, "workers": self.workers}
        return {**to_dict(self.problem), **to_dict(self.search), **own}


@dataclass(frozen=True, slots=True)
class Searched:
    """A search that has ended.

    Attributes:
        config: What was asked for.
        job_name: The job's name.
        budget: Training samples that it allowed.
        result: What came of it.
        study: Optuna's view of it.
        run: The run's folder.
    """

    config: StudyConfig
    job_name: str
    budget: int
    result: SearchResult
    study: optuna.Study
    run: RunDirectory

    @property
    def best(self) -> SearchTrial:
        """The chosen trial."""
        return self.result.trials[self.result.best]


class StudyRun:
    """A search about to be run: everything is checked, and the run's folder is there.

    Args:
        config: What was asked for.
        path: The run's folder.
        resume: Whether to go on with a run that exists. No process may still be at work on it.

    Attributes:
        budget: Training samples that the search may use.
        job_name: The job's name.

    Raises:
        ConfigError: The folder exists, or it is to be resumed and holds another search.
        DatasetError, JobError: The job cannot be built.
    """

    def __init__(self, config: StudyConfig, path: str | Path, *, resume: bool = False) -> None:
        self.config, self._job = config, config.job()
        self.job_name = self._job.name
        one, search = budget_of(self._job), config.search
        self.budget = one if search.shared else search.trials * one
        # Refused before there is a folder: nothing to search, or a hyperparameter that the job lacks.
        SettingSpace.of(
            self._job, search.hyperparameters, search.schedules, search.schedule_options, search.lr_decades
        )
        self.run = RunDirectory(path, config.to_dict(), resume=resume, may_change=("workers",))

    def search(self, on_trial: OnTrial | None = None) -> Searched:
        """Runs what is not done yet.

        Args:
            on_trial: Called with each trial that has ended: those of the resumed run first, then new ones.
                With several workers the calls come from another thread.

        Raises:
            ConfigError: The database is damaged, or the search cannot be run.
            JobError, DatasetError: The job cannot be trained, or a worker was killed.
        """
        from rl_tuner.study_ledger import requeue_abandoned

        storage, config = self.run.path / STORAGE, self.config
        tell = on_trial or _ignore
        with open_study(storage) as study:
            requeue_abandoned(study)
            known = set[int]()
            if config.search.sampler == "pbt":
                _train_population(study, config, self._job, tell)
                return self._searched(study)
            for trial in new_trials(study, known):
                tell(trial)
            if config.workers == 1:
                run_search(config.search, self._job, config.seed, study, tell)
            else:
                with _watching(storage, known, tell):
                    shared = (config, storage.absolute())
                    for _ in run_tasks(_work, shared, range(config.workers), config.workers):
                        pass
            return self._searched(study)

    def _searched(self, study: optuna.Study) -> Searched:
        result = search_result(study)
        return Searched(self.config, self.job_name, self.budget, result, in_memory(study), self.run)


def _ignore(trial: SearchTrial) -> None:
    """Nobody listens."""


def _work(shared: tuple[StudyConfig, Path], number: int) -> None:  # noqa: ARG001 (one works as the other)
    """What a worker does: it searches as long as there is something left to begin."""
    config, storage = shared
    with open_study(storage) as study:
        slots = -(-config.search.trials // config.workers)  # or the first one would take them all
        run_search(config.search, config.job(), config.seed, study, slots=slots)


@contextmanager
def _watching(storage: Path, known: set[int], tell: OnTrial) -> Iterator[None]:
    """Tells of the trials that other processes end while the block runs, from a thread."""
    over, failures = threading.Event(), list[BaseException]()

    def watch() -> None:
        try:
            with open_study(storage) as study:
                last = False
                while not last:
                    last = over.wait(LOOK)  # one more look after the end
                    for trial in new_trials(study, known):
                        tell(trial)
        except Exception as error:  # noqa: BLE001 (it is raised again, in the thread that waits)
            failures.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def _train_population(study: optuna.Study, config: StudyConfig, job: Source, tell: OnTrial) -> None:
    """Trains a population, from its beginning if it was stopped: its members belong together."""
    from optuna.trial import create_trial

    from rl_tuner.study_ledger import INDEX, OUTCOME, ended

    there = {trial.user_attrs[INDEX] for trial in ended(study)}
    if len(there) == study.user_attrs.get(MEMBERS):
        for trial in new_trials(study, set()):
            tell(trial)
        return
    result = run_search(config.search, job, config.seed, on_trial=tell)
    study.set_user_attr(MEMBERS, len(result.trials))
    study.set_user_attr(CURVE, result.curve)
    first = first_loss(job, config.seed) if in_phases(job) else None
    for index, trial in enumerate(result.trials):
        if index not in there:
            chosen = index == result.best
            outcome: dict[str, Any] = {
                "trial": to_dict(trial),
                "test": dict(result.test) if chosen else {},
                "curve": [],
                "records": [to_dict(record) for record in result.records] if chosen else [],
            }
            value = objective(trial.val_loss, trial.start_val_loss if first is None else first)
            study.add_trial(create_trial(value=value, user_attrs={INDEX: index, OUTCOME: outcome}))
