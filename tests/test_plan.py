from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.envs import plan as plan_module
from rl_tuner.envs.plan import ROW_COST, Plan, Work, make_plan, row_size


@st.composite
def works(draw: st.DrawFn) -> list[Work]:
    """Works of a few jobs; sample number s of the job in row r has the place 1000 r + s."""
    made = []
    for row in range(draw(st.integers(1, 8))):
        size, full = draw(st.integers(1, 12)), draw(st.integers(0, 9))
        last = draw(st.integers(1, size + 1))
        kind = draw(st.integers(0, 2))
        made.append(Work(row, kind, size, last, 1000 * row + np.arange(full * size + last)))
    return made


def batches(work: Work) -> list[list[int]]:
    """What each update is made of, by the definition."""
    places = work.places.tolist()
    full = (len(places) - work.last) // work.batch_size
    cuts = [work.batch_size * i for i in range(full + 1)] + [len(places)]
    return [places[a:b] for a, b in pairwise(cuts)]


def played(plan: Plan) -> dict[int, dict[int, list[tuple[int, int]]]]:
    """By position in the plan and by round: (place within the batch, place in the arena) of what counts."""
    found: dict[int, dict[int, list[tuple[int, int]]]] = {i: {} for i in range(len(plan.works))}
    for phase in plan.phases:
        for r in range(phase.rounds):
            for row, owner in enumerate(phase.owner):
                counts = phase.weights[row] > 0
                pairs = zip(
                    phase.within[row][counts].tolist(), phase.places[r, row][counts].tolist(), strict=True
                )
                found[int(phase.jobs[owner])].setdefault(phase.first + r, []).extend(pairs)
    return found


@given(works())
def test_each_sample_comes_once_in_its_update_and_all_jobs_end_together(made: list[Work]) -> None:
    plan = make_plan(made)
    assert sorted(w.row for w in plan.works) == list(range(len(made)))
    for i, rounds in played(plan).items():
        updates = batches(plan.works[i])
        assert plan.updates[i] == plan.works[i].updates == len(updates)
        assert sorted(rounds) == list(range(plan.rounds - len(updates), plan.rounds))
        for number, pairs in rounds.items():
            expected = updates[number - plan.rounds + len(updates)]
            assert sorted(pairs) == list(enumerate(expected))


@given(works())
def test_weights_make_each_jobs_mean_and_empty_places_hold_a_sample_of_the_batch(made: list[Work]) -> None:
    for phase in (plan := make_plan(made)).phases:
        n = len(phase.jobs)
        assert phase.owner[:n].tolist() == list(range(n))
        total = np.bincount(phase.owner, phase.weights.sum(1), minlength=n)
        np.testing.assert_allclose(total, 1, rtol=1e-12)
        for position, owner in enumerate(phase.owner):
            job = plan.works[phase.jobs[owner]]
            first = phase.places[:, owner, 0]
            empty = phase.weights[position] == 0
            assert (phase.places[:, position][:, empty] == first[:, None]).all()
            assert (phase.places[:, position] // 1000 == job.row).all()


@given(works())
def test_phases_follow_each_other_and_the_last_round_stands_alone(made: list[Work]) -> None:
    plan = make_plan(made)
    expected = 0
    for phase in plan.phases:
        assert phase.first == expected
        expected += phase.rounds
        joined = np.flatnonzero(plan.rounds - plan.updates <= phase.first)
        assert phase.jobs.tolist() == joined.tolist()
    assert expected == plan.rounds
    assert plan.phases[-1].rounds == 1
    assert len(plan.phases[-1].jobs) == len(made)


@given(works())
def test_segments_are_the_stretches_of_each_rule(made: list[Work]) -> None:
    plan = make_plan(made)
    for phase in plan.phases:
        covered: list[int] = []
        for kind, first, end, start, stop in phase.segments:
            assert phase.jobs[start:stop].tolist() == list(range(first, end))
            assert {plan.works[i].kind for i in range(first, end)} == {kind}
            covered += range(start, stop)
        assert sorted(covered) == list(range(len(phase.jobs)))
        assert len({s[0] for s in phase.segments}) == len(phase.segments)


@given(works(), st.permutations([5, 7, 6]))
def test_the_order_does_not_depend_on_how_rules_are_numbered(made: list[Work], numbers: list[int]) -> None:
    renamed = [Work(w.row, numbers[w.kind], w.batch_size, w.last, w.places) for w in made]
    assert [w.row for w in make_plan(renamed).works] == [w.row for w in make_plan(made).works]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_the_row_size_is_the_cheapest_of_the_batch_sizes(sizes: list[int]) -> None:
    def cost(m: int) -> int:
        return sum(-(-size // m) * (ROW_COST + m) for size in sizes)

    assert row_size(np.array(sizes)) in sizes
    assert cost(row_size(np.array(sizes))) == min(cost(m) for m in sizes)


@pytest.mark.parametrize(
    ("sizes", "m"), [([64] * 5, 64), ([64, 64, 1], 64), ([8] * 20 + [512], 8), ([512] * 20 + [8], 512)]
)
def test_row_sizes_as_computed_by_hand(sizes: list[int], m: int) -> None:
    assert row_size(np.array(sizes)) == m


def test_long_phases_are_cut_so_that_their_indices_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MOST_ROUNDS", 10)
    work = Work(0, 0, 3, 2, np.arange(3 * 34 + 2))
    plan = make_plan([work])
    assert [p.rounds for p in plan.phases] == [10, 10, 10, 4, 1]
    assert all(p.first % 10 + p.rounds <= 10 for p in plan.phases)


def test_no_phase_straddles_a_multiple_of_the_most_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MOST_ROUNDS", 4)
    plan = make_plan([Work(i, 0, 1, 1, np.arange(n)) for i, n in enumerate((13, 9, 6, 2))])
    firsts = [p.first for p in plan.phases]
    assert {0, 4, 8, 12} <= set(firsts)
    assert all(p.first // 4 == (p.first + p.rounds - 1) // 4 for p in plan.phases)
