"""What a search keeps in an Optuna study: what is minimized, and the result that can be made of it.

The study minimizes ``log(best validation loss / validation loss before training)``, clipped to a stated range
(see `rl_tuner.history.log_level`): a trial that diverged counts as a large number, which samplers can use.
Both are of a job's last phase; the second is of weights that no phase trained, the same for every trial.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.config import from_dict
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import JobError
from rl_tuner.history import Record, log_level
from rl_tuner.rollout import beginning
from rl_tuner.samplers import quiet
from rl_tuner.searches import SearchResult, SearchTrial, best_so_far

if TYPE_CHECKING:
    import optuna

STUDY = "search"
"""Name of a study that is not given one: Hyperband's rules go by the name."""
CURVE = "curve"
"""A study's user attribute where trials ran side by side and needed each other: `SearchResult.curve`."""


def new_study() -> optuna.Study:
    """A study in memory, as a search wants it: to be minimized."""
    import optuna

    with quiet():
        return optuna.create_study(study_name=STUDY, direction="minimize")


def search_result(study: optuna.Study) -> SearchResult:
    """What came of the ended trials of a search's study.

    Raises:
        JobError: None has ended.
    """
    from rl_tuner.study_ledger import OUTCOME, ended

    outcomes = [trial.user_attrs[OUTCOME] for trial in ended(study)]
    if not outcomes:
        raise JobError(f"no trial of the study {study.study_name!r} has ended")
    trials = tuple(from_dict(SearchTrial, outcome["trial"]) for outcome in outcomes)
    best = int(np.argmin([trial.val_loss for trial in trials]))
    before = np.cumsum([0, *(trial.samples for trial in trials)]).tolist()
    steps = study.user_attrs.get(CURVE) or [
        (start + used, loss)
        for start, outcome in zip(before, outcomes, strict=False)
        for used, loss in outcome["curve"]
    ]
    return SearchResult(
        trials=trials,
        best=best,
        test=dict(outcomes[best]["test"]),
        records=tuple(from_dict(Record, record) for record in outcomes[best]["records"]),
        samples=sum(trial.samples for trial in trials),
        val_samples=sum(trial.val_samples for trial in trials),
        curve=best_so_far((int(used), float(loss)) for used, loss in steps),
    )


def objective(best: float, first: float) -> float:
    """What the study minimizes: log(best / first) of validation losses, clipped; the most if not finite."""
    return float(log_level(best, first))


def first_loss(job: Source, seed: int) -> float:
    """Validation loss of a job's last phase before any training, whatever a trial makes of the phases before.

    Raises:
        JobError: That phase has no validation samples, or the job cannot be built.
        ConfigError, DatasetError: The job cannot be built.
    """
    loss = beginning(job, seed).val_loss
    if isnan(loss):
        raise JobError("a search chooses by validation: the job's last phase has no validation samples")
    return loss
