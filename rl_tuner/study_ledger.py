"""Who may begin the next trial of a study: its budget, kept in the study, so that several processes share it.

A trial's number, which the storage gives out once, decides who comes first: a trial may run if the budget
holds it besides all that has ended and all that runs with a lower number. So no lock is needed, and the
budget is never exceeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna

INDEX, BUDGET, OUTCOME = "index", "budget", "outcome"
"""A trial's user attributes: its number in the search, the samples it may use, and what came of it."""


class Ledger:
    """The budget of a search, in training samples, and what the trials of its study took of it.

    Args:
        study: Of the search.
        total: The budget.
        usual: What a trial is taken to need that was begun but has not said so yet.
    """

    def __init__(self, study: optuna.Study, total: int, usual: int) -> None:
        self._study, self._total, self._usual = study, total, usual

    def left(self, before: int | None = None) -> int:
        """What is left for a trial of this number; None for one that is not begun. It may be negative."""
        taken = 0
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                taken += trial.user_attrs[OUTCOME]["charge"]
            elif trial.state == TrialState.RUNNING and (before is None or trial.number < before):
                taken += trial.user_attrs.get(BUDGET, self._usual)
        return self._total - taken

    @property
    def running(self) -> bool:
        """Whether any process has a trial under way."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of a search's study that came to their ends, in the order in which they were begun."""
    # A failed one may have an outcome: its process was killed before it could say so. It is tried again.
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return sorted(
        (t for t in found if OUTCOME in t.user_attrs), key=lambda trial: int(trial.user_attrs[INDEX])
    )


def index_of(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> int:
    """A trial's number in the search, from 0: failed ones do not count, who repeats one has its number."""
    if INDEX in trial.user_attrs:
        return int(trial.user_attrs[INDEX])
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return trial.number - sum(other.number < trial.number for other in failed)


def requeue_abandoned(study: optuna.Study) -> int:
    """Marks trials as failed that a killed process left running, and has them tried again, the same settings.

    To be called before any process works on the study again, not while one does.

    Args:
        study: Of a search.

    Returns:
        How many there were.
    """
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    indices = [index_of(study, trial) for trial in left]
    for trial, index in zip(left, indices, strict=True):
        attributes: dict[str, Any] = {INDEX: index}
        study.enqueue_trial(trial.params, user_attrs=attributes)
        study.tell(trial.number, state=TrialState.FAIL)
    return len(left)
