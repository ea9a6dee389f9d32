from __future__ import annotations

from pathlib import Path

from rl_tuner.analysis import analyse
from rl_tuner.report_markdown import markdown, write_markdown
from rl_tuner.report_text import MINUS, fixed
from tests.comparing import make_comparison, small
from tests.reporting import full, make_full


def cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in line.strip("|").split(" | ")]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text, each a list of lines of cells, their headings first."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert all(
        set(block[1]) == {"|", "-"} and block[1].count("---") == len(cells(block[0])) for block in blocks
    )
    return [[cells(line) for line in (block[0], *block[2:])] for block in blocks]


def test_every_method_has_a_line_with_its_figures_best_score_first() -> None:
    _, analysis = full()
    headings, *lines = tables(markdown(analysis, "rl-tuner compare"))[0]
    first, runs = analysis.methods[1], analysis.jobs * analysis.seeds
    assert analysis.methods[0].method == analysis.baseline
    assert headings == [
        "method", "score (IQM)", f"`{first.method}`'s score {MINUS} its, paired", r"k\* of the mean",
        r"k\* over jobs", f"crashes of {runs}",
    ]  # fmt: skip
    methods = {method.method: method for method in analysis.methods}
    assert sorted(line[0] for line in lines) == sorted(methods)
    assert [methods[line[0]].iqm.mean for line in lines] == sorted(
        (method.iqm.mean for method in analysis.methods), reverse=True
    )
    for name, score, difference, worth, each, crashes in lines:
        method = methods[name]
        assert abs(float(score.split()[0].replace(MINUS, "-")) - method.iqm.mean) < 0.01
        assert (difference == "") == (method is first)
        if method is not first:
            mean, *interval = difference.split(" ", 1)
            assert abs(float(mean.replace(MINUS, "-")) - first.difference[name].mean) < 0.01
            assert interval[0].startswith("[")
        assert method.equivalents is not None
        assert each == fixed(method.equivalents.mean_over_jobs.mean, 1)
        assert worth.startswith("> ") == method.equivalents.censored
        assert int(crashes) == round(method.crash_rate.mean * runs)


def test_kinds_have_a_table_of_their_own_where_there_are_several() -> None:
    _, analysis = full()
    _, kinds = tables(markdown(analysis, "x"))
    per_kind = 3  # score, k*, crashes
    assert len(kinds[0]) == 1 + per_kind * len(analysis.kinds)
    assert kinds[0][1::per_kind] == [f"{kind.kind} ({kind.jobs} jobs): score" for kind in analysis.kinds]
    assert {line[0] for line in kinds[1:]} == {method.method for method in analysis.methods}
    assert all(len(line) == len(kinds[0]) for line in kinds)
    assert len(tables(markdown(analyse(make_full()), "x"))) == 1


def test_without_a_random_search_there_are_no_trial_equivalents() -> None:
    ((headings, *_),) = tables(markdown(analyse(small()), "x"))
    assert not any("k" in heading and "*" in heading for heading in headings)


def test_a_name_with_a_bar_in_it_stays_one_cell() -> None:
    losses = {"a|b": [[1.0, 1.2], [4.0, 5.0]], "x": [[0.5, 0.7], [2.0, 2.5]]}
    ((headings, *lines),) = tables(markdown(analyse(make_comparison(**losses)), "x"))
    assert {line[0] for line in lines} == set(losses)
    assert all(len(line) == len(headings) for line in lines)


def test_the_file_ends_with_the_command_and_says_how_much_was_run() -> None:
    _, analysis = full()
    path = write_markdown(analysis, "rl-tuner compare a b --jobs 2", Path())
    text = path.read_text()
    assert path.name == "tables.md"
    assert text.endswith("```\nrl-tuner compare a b --jobs 2\n```\n")
    assert text.startswith(
        f"Runs: {analysis.jobs} jobs, {analysis.seeds} seeds each. Intervals are 95 %, over jobs."
    )
    one = markdown(analyse(make_full(jobs=1, seeds=1)), "x")
    assert one.startswith("Runs: one job, one seed each. Intervals are 95 %, over seeds.")
