"""Text and pictures of an episode's decisions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rl_tuner.history import Record
from rl_tuner.plotting import records_figure, records_image, records_text

VALUES = {"lr": 1e-3, "batch_size": 64.0, "weight_decay": 0.0, "dropout": 0.2, "momentum": 0.9}


def record(i: int, **changes: Any) -> Record:
    line = Record(i, 100 * (i + 1), 2.0 / (i + 1), 2.2 / (i + 1), 2.2 / (i + 1), 0.1, "good", VALUES)
    return replace(line, **changes)


EPISODE = tuple(record(i, values={**VALUES, "lr": 1e-3 * 2**i}) for i in range(5))
RESCUED = (
    *EPISODE[:2],
    record(2, verdict="diverged", val_loss=float("inf"), train_loss=np.nan),
    *EPISODE[3:],
)


def test_the_table_is_aligned_and_holds_each_decisions_figures() -> None:
    title, head, *lines = records_text(RESCUED, "my job").split("\n")
    assert title == "my job"
    assert head.split() == [
        "decision",
        "used",
        *VALUES,
        "train_loss",
        "val_loss",
        "best",
        "reward",
        "verdict",
        "attempt",
    ]
    assert len(lines) == 5
    assert {len(line) for line in lines} == {len(head)}
    expected = ["1", "200", "0.002", "64", "0", "0.2", "0.9", "1", "1.1", "1.1", "+0.100", "good", "0"]
    assert lines[1].split() == expected
    assert lines[2].split()[7:9] == ["-", "inf"]  # nothing measured, and not finite
    assert lines[2].split()[-2:] == ["diverged", "0"]


def test_an_empty_log_is_a_readable_placeholder_of_the_same_size() -> None:
    assert records_text((), "my job") == "my job\n(no decision yet)"
    empty = records_image((), "my job")
    assert empty.shape == records_image(EPISODE, "my job").shape
    assert empty.min() < 255  # something is written there


def test_the_image_is_eight_bit_rgb_and_reproducible() -> None:
    image = records_image(EPISODE, "my job")
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.owndata
    np.testing.assert_array_equal(image, records_image(EPISODE, "my job"))
    assert (image != records_image(RESCUED, "my job")).any()


def test_there_is_a_loss_panel_and_one_for_each_hyperparameter_on_its_own_scale() -> None:
    losses, *panels = records_figure(EPISODE, "my job").axes
    assert losses.get_yscale() == "log"
    scales = {axes.get_title(): axes.get_yscale() for axes in panels}
    assert scales == {
        "lr": "log",
        "batch_size": "log",
        "weight_decay": "symlog",  # a start value of zero has no logarithm
        "dropout": "linear",
        "momentum": "linear",
    }


def test_loss_curves_run_over_the_budget_used_and_skip_what_is_not_finite() -> None:
    losses = records_figure(RESCUED, "my job").axes[0]
    curves = {line.get_label(): line for line in losses.get_lines()}
    x, y = (np.asarray(part, float) for part in curves["validation"].get_data())
    np.testing.assert_array_equal(x, [100, 200, 300, 400, 500])
    np.testing.assert_allclose(y, [2.2, 1.1, np.nan, 0.55, 0.44])


def test_each_failed_interval_is_marked_at_its_end_in_every_panel() -> None:
    twice = (*RESCUED[:4], record(4, verdict="collapsed"))
    for axes in records_figure(twice, "my job").axes:
        xs = [np.asarray(line.get_xdata(), float) for line in axes.get_lines()]
        assert [x[0] for x in xs if len(x) == 2 and x[0] == x[1]] == [300, 500]  # the vertical lines
    labels = records_figure(twice, "my job").axes[0].get_legend_handles_labels()[1]
    assert labels.count("diverged or collapsed") == 1


@pytest.mark.parametrize(
    "records",
    [
        (record(0),),
        (record(0, val_loss=np.nan, train_loss=np.nan, best=np.nan),),
        (record(0, val_loss=-1.0), record(1, val_loss=0.0)),  # a custom loss may reach zero
        (record(0, values={}),),
        (record(0, values={"my_own": 3.0}), record(1, values={"my_own": -3.0})),
        tuple(record(i, val_loss=10.0 ** (60 * i)) for i in range(5)),
    ],
    ids=["one", "unmeasured", "not positive", "no hyperparameter", "unknown hyperparameter", "huge"],
)
def test_unusual_logs_draw_without_a_warning_at_the_same_size(records: tuple[Record, ...]) -> None:
    assert records_image(records, "my job").shape == records_image((), "").shape


def test_where_the_training_began_again_every_panel_has_a_mark_of_its_own() -> None:
    again = (*EPISODE[:3], *(replace(r, attempt=1) for r in EPISODE[3:]))
    figure = records_figure(again, "my job")
    for axes in figure.axes:
        marks = [line for line in axes.lines if list(line.get_xdata()) == [300, 300]]  # type: ignore[arg-type]
        assert [line.get_color() for line in marks] == ["gray"]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "began again" in labels
    assert "diverged or collapsed" not in labels


def test_drawing_touches_no_pyplot_and_the_module_imports_without_matplotlib() -> None:
    code = (
        "import sys, rl_tuner.plotting as p; assert 'matplotlib' not in sys.modules; "
        "p.records_image((), 'x'); assert 'matplotlib.pyplot' not in sys.modules; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_budgets_unit_stands_on_its_axis_if_it_is_known() -> None:
    labels = [records_figure(EPISODE, "x", *unit).axes[0].get_xlabel() for unit in ((), ("steps",))]
    assert labels == ["budget used", "budget used (steps)"]
