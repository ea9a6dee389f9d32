from __future__ import annotations

import pytest

from rl_tuner.analysis import analyse
from rl_tuner.kinds import analyse_kinds
from tests.reporting import KINDS, full, make_full


@pytest.fixture
def jobs() -> dict[str, set[int]]:
    return {"dataset": {0, 1}, "optimizer": {1, 2}}


def test_the_figures_of_a_kind_are_those_of_a_comparison_on_its_jobs_alone(jobs: dict[str, set[int]]) -> None:
    comparison, analysis = full()
    assert [(kind.kind, kind.jobs) for kind in analysis.kinds] == [("dataset", 2), ("optimizer", 2)]
    for kind in analysis.kinds:
        alone = comparison.on(jobs[kind.kind])
        assert {row.job for row in alone.rows} == jobs[kind.kind]
        expected = analyse(alone)
        assert expected.kinds == ()
        for found, whole in zip(kind.methods, expected.methods, strict=True):
            assert found.method == whole.method
            assert found.iqm == whole.iqm
            assert found.mean_score == whole.mean_score
            assert found.difference == whole.difference.get("constant")
            assert found.crash_rate == whole.crash_rate
            assert found.equivalents == whole.equivalents
            assert found.equivalents is not None


def test_a_kinds_scores_are_those_of_the_whole_comparison() -> None:
    comparison, analysis = full()
    only = analyse_kinds(comparison, {0: ("a",), 1: ("b",), 2: ("b",)})
    for i, method in enumerate(analysis.methods):
        a, b = (kind.methods[i].mean_score.mean for kind in only)
        # Of "a", one job alone, the mean is over its seeds.
        assert (a + 2 * b) / 3 == pytest.approx(method.mean_score.mean)
        crashes = [kind.methods[i].crash_rate for kind in only]
        assert [rate.n for rate in crashes] == [2, 4]
        assert sum(rate.mean * rate.n for rate in crashes) == pytest.approx(method.crash_rate.mean * 6)


def test_where_jobs_are_of_one_kind_or_none_there_is_nothing_to_tell_apart() -> None:
    comparison = make_full()
    assert analyse(comparison).kinds == ()
    assert analyse_kinds(comparison, {}) == ()
    assert analyse_kinds(comparison, dict.fromkeys(range(3), ("dataset",))) == ()
    assert analyse_kinds(comparison, dict.fromkeys(range(3), ("dataset", "architecture"))) == ()
    assert analyse_kinds(comparison, dict.fromkeys(range(3), ())) == ()
    assert analyse_kinds(comparison, {0: ("dataset",), 7: ("horizon",)}) == ()


def test_jobs_of_no_kind_are_left_out_and_without_a_random_search_there_are_no_equivalents() -> None:
    comparison = make_full()
    rows = tuple(row for row in comparison.rows if row.method in ("constant", "cosine"))
    without = type(comparison)(rows, ("constant", "cosine"), "constant")
    found = analyse_kinds(without, {0: KINDS[0], 2: KINDS[2]})
    assert [kind.jobs for kind in found] == [1, 1]
    assert {method.equivalents for kind in found for method in kind.methods} == {None}
