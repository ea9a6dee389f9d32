"""Optuna's own pictures of a study: how the search went, and which hyperparameters mattered."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from rl_tuner.samplers import SPARE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study

OBJECTIVE = "log(validation loss / loss before training)"
"""What a study minimizes, in nats."""
LEAST_TRIALS = 4
"""Importances of fewer trials say nothing."""


def history_png(study: Study) -> bytes:
    """The objective of each trial, and the best one so far, as a PNG image."""
    from optuna.visualization.matplotlib import plot_optimization_history

    with _aside():
        axes = plot_optimization_history(study, target_name=OBJECTIVE)
        axes.set_title("Trials of the search")
        _figure(axes).set_size_inches(8, 4.5)
        axes.legend(axes.get_legend_handles_labels()[0], ("a trial", "best so far"), loc="best")
        return _png(axes)


def importance_png(study: Study, seed: int = 0) -> bytes | None:
    """How much of the objective's variation each hyperparameter explains (fANOVA), as a PNG image.

    Hutter et al., 2014, "An Efficient Approach for Assessing Hyperparameter Importance".

    Args:
        study: Finished trials.
        seed: Of the forest that is fitted.

    Returns:
        None where nothing can be said: of fewer than `LEAST_TRIALS` complete trials, of one hyperparameter,
        or where all trials came to the same.
    """
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import TrialState
    from optuna.visualization.matplotlib import plot_param_importances

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = set[str].intersection(*({*trial.params} for trial in trials)) if trials else set[str]()
    varied = [
        name
        for name in sorted(names)
        if not name.startswith(SPARE) and len({trial.params[name] for trial in trials}) > 1
    ]
    if len(trials) < LEAST_TRIALS or len(varied) < 2 or len({trial.value for trial in trials}) < 2:
        return None
    with _aside():
        axes = plot_param_importances(study, FanovaImportanceEvaluator(seed=seed), varied)
        shown = [label.get_text() for label in axes.get_yticklabels()]
        axes.set_yticks(axes.get_yticks(), [re.sub("^(log2|one_minus)_", "", name) for name in shown])
        axes.set_title("Which hyperparameters mattered", loc="left")
        axes.set_xlabel("share of the objective's variance (fANOVA)")
        axes.set_ylabel("")
        axes.legend().remove()
        return _png(axes)


@contextmanager
def _aside() -> Iterator[None]:
    """Optuna sets a style for all figures, opens them in pyplot, and says that they are experimental."""
    import matplotlib
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning

    backend = matplotlib.get_backend()
    open_before = pyplot.get_fignums()
    pyplot.switch_backend("Agg")  # nothing is shown: no window, whatever the user's own backend is
    try:
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        for number in set(pyplot.get_fignums()) - set(open_before):
            pyplot.close(number)
        pyplot.switch_backend(backend)


def _png(axes: Axes) -> bytes:
    image = io.BytesIO()
    _figure(axes).savefig(image, format="png", dpi=120, bbox_inches="tight")
    return image.getvalue()


def _figure(axes: Axes) -> Figure:
    return cast("Figure", axes.get_figure(root=True))
