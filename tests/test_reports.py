from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_tuner.analysis import analyse
from rl_tuner.reports import write_analysis, write_csv, write_tensorboard, write_tensorboard_summary
from tests.comparing import failed, make_row, small
from tests.reporting import full, make_full, method

INF, NAN = float("inf"), float("nan")


def read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(name).read_text())))


def test_the_csv_tables_hold_every_row_and_every_summary() -> None:
    comparison = small()
    write_csv(comparison, Path())
    rows, summary = read("rows.csv"), read("summary.csv")
    got = [(r["method"], int(r["job"]), int(r["seed"]), float(r["test_loss"])) for r in rows]
    assert got == [(*row.key, row.test_loss) for row in comparison.rows]
    assert rows[0]["start_lr"] == "0.1"
    assert float(rows[0]["accuracy"]) == 0.75
    for line, s in zip(summary, comparison.summaries, strict=True):
        assert float(line["test_loss"]) == s.test_loss.mean
        assert float(line["log_ratio_high"]) == s.log_ratio.high
        assert line["verdict"] == s.verdict


def test_what_is_not_finite_is_an_empty_cell() -> None:
    write_csv(failed(), Path())
    assert {row["test_loss"] for row in read("rows.csv")} == {""}
    assert [line["not_finite"] for line in read("summary.csv")] == ["2", "2"]


def events(path: Path) -> Any:
    found = EventAccumulator(str(path))
    found.Reload()
    return found


def test_a_row_becomes_a_tensorboard_run_with_its_curves_and_final_metrics() -> None:
    row = make_row("x", 2, 1, test_loss=0.25, rescues=3)
    write_tensorboard(row, Path("tb"))
    found = events(Path("tb/x/2-toy-2-seed1"))
    tags = set(found.Tags()["scalars"])
    assert {"loss/train", "loss/validation", "hyperparameters/lr", "reward", "decision/number"} < tags
    assert [(e.step, e.value) for e in found.Scalars("hyperparameters/lr")] == [
        (30, pytest.approx(0.1)),
        (100, pytest.approx(0.01)),
    ]
    finals = {tag: found.Scalars(tag)[0].value for tag in tags if tag.startswith("hparam/")}
    assert finals["hparam/test_loss"] == 0.25
    assert finals["hparam/rescues"] == 3
    assert finals["hparam/test_accuracy"] == 0.75
    assert "hparams" in found.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name


def test_a_run_written_again_is_not_shown_twice() -> None:
    write_tensorboard(make_row(), Path("tb"))
    write_tensorboard(make_row(), Path("tb"))
    found = events(Path("tb/a/0-toy-0-seed0"))
    assert [e.step for e in found.Scalars("loss/validation")] == [30, 100]
    assert len(found.Scalars("hparam/test_loss")) == 1


def test_the_analysis_is_written_whole_and_as_a_table_of_methods() -> None:
    _, analysis = full()
    paths = write_analysis(analysis, Path())
    assert [path.name for path in paths] == ["analysis.json", "methods.csv", "kinds.csv"]
    data = json.loads(paths[0].read_text())
    assert data["shares"] == list(analysis.shares)
    for line, m, found in zip(read("methods.csv"), analysis.methods, data["methods"], strict=True):
        assert found["profile"] == list(m.profile)
        assert line["method"] == m.method
        assert float(line["iqm_low"]) == m.iqm.low
        for other, estimate in m.difference.items():
            assert float(line[f"difference_{other}"]) == estimate.mean
            assert line[f"verdicts_{other}"] == m.verdicts[other]
        assert "profile" not in line
    lines = iter(read("kinds.csv"))
    for kind in analysis.kinds:
        for figures in kind.methods:
            line = next(lines)
            assert (line["kind"], line["jobs"], line["method"]) == (kind.kind, "2", figures.method)
            assert float(line["iqm_high"]) == figures.iqm.high
            assert figures.equivalents is not None
            assert float(line["equivalents_of_mean"]) == figures.equivalents.of_mean.mean
            assert line["difference"] == ("" if figures.difference is None else str(figures.difference.mean))
    assert not list(lines)


def test_there_is_no_table_of_kinds_where_there_are_not_several() -> None:
    write_analysis(full()[1], Path())
    assert Path("kinds.csv").is_file()
    paths = write_analysis(analyse(make_full()), Path())
    assert [path.name for path in paths] == ["analysis.json", "methods.csv"]
    assert not Path("kinds.csv").exists()


def test_what_an_analysis_does_not_know_is_empty_not_a_word() -> None:
    write_analysis(analyse(failed()), Path())
    text = Path("methods.csv").read_text() + Path("analysis.json").read_text()
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_each_method_has_a_tensorboard_run_with_the_numbers_of_the_report() -> None:
    _, analysis = full()
    write_tensorboard_summary(analysis, Path("tb"))
    for name in ("cosine", "random@8"):
        m, found = method(analysis, name), events(Path("tb", name, "summary"))

        def last(tag: str, found: Any = found) -> Any:
            return pytest.approx(found.Scalars(tag)[-1].value, rel=1e-6)

        assert m.iqm.mean == last("summary/iqm")
        assert m.rank.high == last("summary/rank_high")
        assert m.crash_rate.mean == last("summary/crash_rate")
        assert m.equivalents is not None
        assert m.equivalents.of_mean.mean == last("summary/equivalents_of_mean")
        assert m.probability["constant"].mean == last("improvement/constant")
        assert m.difference["constant"].mean == last("difference/constant")
        curve = [(e.step, e.value) for e in found.Scalars("anytime/score")]
        assert [step for step, _ in curve] == [round(1000 * share) for share in analysis.shares]
        assert [value for _, value in curve] == pytest.approx(m.anytime, rel=1e-6)
        assert len(found.Scalars("profile/share_above")) == len(analysis.taus)


def test_a_summary_written_again_is_not_shown_twice() -> None:
    analysis = analyse(small())
    write_tensorboard_summary(analysis, Path("tb"))
    write_tensorboard_summary(analysis, Path("tb"))
    assert len(events(Path("tb/x/summary")).Scalars("summary/iqm")) == 1
