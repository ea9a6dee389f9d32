"""Population-based training: who is given whose weights, what is noted of it, and that it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import JobSpec, TrainingJob
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.exploring import FACTORS, RESAMPLED, Explorer
from rl_tuner.history import Record
from rl_tuner.members import EVERY, Member, Population, successors
from rl_tuner.population import run_population, split_budget
from rl_tuner.search_dimensions import RANGES, Dimension
from rl_tuner.searches import SearchConfig, SearchResult
from rl_tuner.searching import run_search
from rl_tuner.space import Array, search_space
from rl_tuner.trials import Trial, TrialRunner

LR = Dimension("lr", 1e-4, 1.0, "log")
SPACE = search_space()
JOB = JobSpec("digits", "mlp-8", "momentum", 1000, 0, 3e-2, 64, 0.0, 0.9, 0.1)
DIVERGING = replace(JOB, dataset="diabetes", optimizer="sgd", momentum=0.0)
"""With learning rates up to 10: some of its members diverge."""


# Who is given whose weights.


@pytest.mark.parametrize(
    ("losses", "due", "targets", "sources"),
    [
        ([3, 1, 2, 5, 4], range(5), {3}, {1}),
        ([3, 1, 2, 5, 4], [0, 1, 2, 4], set(), set()),  # the worst one is not due
        ([5, 4, 3, 2, 1, 0, 9, 8, 7, 6], range(10), {6, 7}, {4, 5}),
        ([2.0, 1.0], range(2), {0}, {1}),
        ([1.0], range(1), set(), set()),
        ([1.0, 1.0, 1.0], range(3), set(), set()),  # nobody is better
    ],
)
def test_the_worst_fifth_is_given_the_weights_of_some_of_the_best_fifth(
    losses: list[float], due: list[int], targets: set[int], sources: set[int]
) -> None:
    chosen = successors(dict(enumerate(losses)), due, np.random.default_rng(0))
    assert set(chosen) == targets
    assert set(chosen.values()) <= sources


def test_each_of_the_best_is_chosen_about_as_often() -> None:
    rng, losses = np.random.default_rng(0), dict(enumerate(range(20)))
    chosen = [source for _ in range(250) for source in successors(losses, losses, rng).values()]
    counts = np.bincount(chosen, minlength=20)
    assert counts[4:].sum() == 0
    assert counts[:4].min() > 200  # of 250 expected; five standard deviations below are 181


# How settings move.


def explorer(seed: int = 0, dimensions: tuple[Dimension, ...] = (LR, *RANGES.values())) -> Explorer:
    known = [d for d in dimensions if d.name in SPACE.names]
    return Explorer(SPACE, known, np.random.default_rng(seed))


@given(st.integers(0, 1000))
def test_what_is_drawn_and_explored_stays_in_the_ranges(seed: int) -> None:
    moving = explorer(seed)
    place = moving.draw()
    for _ in range(20):
        for name, value in moving.setting(place).start.items():
            dimension = LR if name == "lr" else RANGES[name]
            # At the low end of a scale that holds zero the value is 0.
            assert value == 0 or dimension.low * (1 - 1e-9) <= value
            assert value <= dimension.high * (1 + 1e-9)
        place = moving.explore(place)


def test_exploring_multiplies_or_draws_anew() -> None:
    moving = explorer()
    place, ratios, batches = moving.center, [], []
    for _ in range(2000):
        start = moving.setting(moving.explore(place)).start
        ratios.append(start["lr"] / moving.setting(place).start["lr"])
        batches.append(start["batch_size"] / moving.setting(place).start["batch_size"])
    steps = [sum(abs(ratio - factor) < 1e-9 for ratio in ratios) / 2000 for factor in FACTORS]
    assert steps == pytest.approx([(1 - RESAMPLED) / 2] * 2, abs=0.05)  # four standard deviations: 0.043
    assert set(batches) <= {0.25, 0.5, 1.0, 2.0, 4.0}
    assert sum(ratio in (0.5, 1.0, 2.0) for ratio in batches) / 2000 > 1 - RESAMPLED


def test_draws_are_spread_as_random_searchs_are() -> None:
    moving = explorer()
    drawn = [moving.setting(moving.draw()).start for _ in range(2000)]
    log_lr = np.log10([start["lr"] for start in drawn])
    assert np.quantile(log_lr, [0.25, 0.5, 0.75]) == pytest.approx([-3, -2, -1], abs=0.15)
    assert np.mean([start["dropout"] for start in drawn]) == pytest.approx(0.25, abs=0.02)
    sizes, counts = np.unique([start["batch_size"] for start in drawn], return_counts=True)
    assert sizes.tolist() == [16, 32, 64, 128, 256]
    assert counts.min() > 300


def test_what_no_trial_can_move_while_it_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pbt changes lr, batch_size, .* not l1"):
        Explorer(SPACE, [LR, RANGES["l1"]], np.random.default_rng(0))


# What is noted of it, on trials by hand.


def record(decision: int, used: int, best: float, **values: float) -> Record:
    return Record(decision, used, best, best, best, 0.0, "good", values)


@dataclass
class ByHand:
    """Trials whose losses are given for each slot and decision; a loss that is None is a death."""

    losses: Mapping[int, Sequence[float | None]]
    step: int = 100
    space: Any = SPACE
    budgets: dict[int, int] = field(default_factory=dict)
    logs: dict[int, list[Record]] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    copied: list[tuple[int, int]] = field(default_factory=list)
    moves: list[tuple[int, Array]] = field(default_factory=list)
    taken: dict[int, int] = field(default_factory=dict)

    @property
    def running(self) -> list[int]:
        over = {slot for slot in self.logs if len(self.logs[slot]) * self.step >= self.budgets[slot]}
        return sorted({*self.logs} - over - self.dead)

    def start(self, slot: int, job: Source, seed: int) -> None:
        assert isinstance(job, JobSpec)
        self.budgets[slot], self.logs[slot] = job.budget, []

    def move(self, slot: int, offset: Array) -> None:
        self.moves.append((slot, offset))

    def copy(self, source: int, target: int) -> None:
        self.copied.append((source, target))

    def phase(self, slot: int) -> int:
        return 0

    def val_losses(self) -> Array:
        count = max(self.logs, default=0) + 1
        return np.array([self.logs[i][-1].best if self.logs.get(i) else np.inf for i in range(count)])

    def advance(self) -> list[int]:
        before = self.running
        for slot in before:
            number = self.taken.get(slot, 0)
            loss = self.losses[slot][number]
            self.taken[slot] = number + 1
            if loss is None:
                self.dead.add(slot)
                loss = self.logs[slot][-1].best if self.logs[slot] else np.inf
            log = self.logs[slot]
            log.append(record(len(log), self.step * (len(log) + 1), loss, slot=slot))
        return sorted({*before} - {*self.running})

    def records(self, slot: int) -> tuple[Record, ...]:
        return tuple(self.logs[slot])

    def stop(self, slot: int, test: bool) -> Trial:
        log = self.logs.pop(slot)
        crashed = slot in self.dead
        self.dead.discard(slot)
        return Trial(tuple(log), crashed, {"loss": 1.0}, True, 9.0, self.step * len(log), 7)


def by_hand(runner: ByHand, members: int, budget: int = 800) -> Population:
    moving = explorer(0, (LR,))
    job = replace(JOB, budget=budget)
    population = Population(
        runner=cast("TrialRunner", runner), job=job, usual=budget, scored=True, seed=0, explorer=moving,
        decisions=2,
    )  # fmt: skip
    population.run([budget] * members)
    return population


def test_weights_are_copied_every_few_decisions_and_their_history_with_them() -> None:
    good, bad = [9.0, 8, 7, 6, 5, 4, 3, 2], [9.5, 9.4, 9.3, 9.2, 4.5, 3.5, 2.5, 1.5]
    runner = ByHand({0: bad, 1: good})
    ended = by_hand(runner, 2).ended
    assert EVERY == 4
    assert runner.copied == [(1, 0)]  # after four decisions; after eight both are over
    winner = min(ended, key=lambda e: e.trial.val_loss)
    assert winner.number == 0
    assert [r.values["slot"] for r in winner.trial.records] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert [r.used for r in winner.trial.records] == list(range(100, 900, 100))
    assert winner.trial.samples == 800
    first, second = ended
    np.testing.assert_array_equal(first.start, second.start)  # both come of what member 1 began with
    assert first.final[0] != second.final[0]  # one of them explored


def test_copies_train_near_the_copied_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_tuner.exploring.RESAMPLED", 0.0)
    runner = ByHand({0: [9.5] * 8, 1: [9.0] * 8})
    by_hand(runner, 2)
    (first, _), (second, its), (slot, moved) = runner.moves
    assert (first, second, slot) == (0, 1, 0)
    assert min(abs(np.exp(moved[0] - its[0]) - factor) for factor in FACTORS) < 1e-9
    assert (moved[1:] == 0).all()  # what is not varied stays


def test_the_budget_of_the_dead_goes_to_a_successor_with_the_best_ones_weights() -> None:
    alive = [5.0 - i / 10 for i in range(8)]
    runner = ByHand({0: alive, 1: [9.0, None, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0]})
    ended = by_hand(runner, 2).ended
    assert runner.copied[0] == (0, 1)
    dead, _, successor = sorted(ended, key=lambda e: (not e.trial.crashed, e.number))
    assert (dead.number, successor.number) == (1, 2)
    assert (dead.trial.samples, successor.trial.samples) == (200, 600)
    # Two intervals of the one whose weights they are, then its own, where in the budget they lie.
    assert [r.values["slot"] for r in successor.trial.records] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert [r.used for r in successor.trial.records] == list(range(100, 900, 100))
    assert sum(e.trial.samples for e in ended) == 1600


def test_where_nobody_is_left_a_successor_begins_anew() -> None:
    runner = ByHand({0: [None, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0]})
    first, second = by_hand(runner, 1).ended
    assert runner.copied == []
    assert [r.used for r in second.trial.records] == list(range(200, 900, 100))
    assert first.start[0] != second.start[0]


def test_a_rest_that_holds_no_trial_is_left() -> None:
    runner = ByHand({0: [5.0] * 7 + [None]})
    (ended,) = by_hand(runner, 1, 801).ended  # one sample, two decisions
    assert ended.trial.crashed


def test_histories_of_members_that_are_not_abreast_go_forward_only() -> None:
    ahead = Member(0, np.zeros(5), np.ones(5), 1000)
    mine = Member(1, np.zeros(5), np.zeros(5), 1000)
    mine.inherit(ahead, (record(0, 130, 3.0), record(1, 260, 2.0)), own=2)
    own = (record(0, 100, 4.0), record(1, 200, 3.5), record(2, 250, 1.9), record(3, 300, 1.8))
    assert [r.used for r in mine.history(own)] == [130, 260, 300]
    np.testing.assert_array_equal(mine.place, ahead.place)


# On jobs.


def spread(result: SearchResult) -> Array:
    return np.array([trial.val_loss for trial in result.trials])


@pytest.mark.parametrize("members", [1, 2, 7])
def test_a_population_uses_the_members_budgets_exactly(members: int) -> None:
    seen: list[int] = []
    config = SearchConfig("pbt", members)
    result = run_population(config, JOB, 0, lambda trial: seen.append(trial.samples))
    assert sum(seen) == result.samples == members * JOB.budget
    assert len(seen) == len(result.trials) == members
    assert result.val_samples == sum(trial.val_samples for trial in result.trials) > 0
    assert result.trials[result.best].val_loss == spread(result).min() == result.records[-1].best
    assert result.test["loss"] == result.trials[result.best].test_loss
    used = [r.used for r in result.records]
    assert used == sorted(set(used))
    assert used[-1] == JOB.budget


@pytest.mark.parametrize(("members", "shared"), [(3, False), (3, True), (7, False)])
def test_what_a_population_shows_at_a_time_took_the_samples_of_all_its_members(
    members: int, shared: bool
) -> None:
    result = run_population(SearchConfig("pbt", members, shared), JOB, 0)
    chosen = [(min(members * r.used, result.samples), r.best) for r in result.records]
    for used, best in chosen:
        assert [loss for then, loss in result.curve if then <= used][-1] <= best
    assert all(used % members == 0 or used == result.samples for used, _ in result.curve)
    assert result.curve[-1][0] <= result.samples
    assert result.curve[-1][1] == result.trials[result.best].val_loss


def test_a_shared_budget_is_divided() -> None:
    result = run_population(SearchConfig("pbt", 3, shared=True), JOB, 0)
    assert [trial.samples for trial in result.trials] == [334, 333, 333]
    assert split_budget(10, 4) == [3, 3, 2, 2]
    with pytest.raises(ConfigError, match="a budget of 3 samples cannot be shared by 4 trials"):
        split_budget(3, 4)


def test_members_that_diverge_cost_no_budget() -> None:
    result = run_population(SearchConfig("pbt", 16), DIVERGING, 1)
    dead = [trial for trial in result.trials if trial.crashed]
    assert len(dead) >= 2
    assert len(result.trials) == 16 + len(dead)
    assert result.samples == 16 * DIVERGING.budget


def test_a_population_that_dies_as_a_whole_ends() -> None:
    config = SearchConfig("pbt", 2, lr_decades=(9.0, 10.0), hyperparameters=("lr",))
    result = run_population(config, DIVERGING, 0)
    assert all(trial.crashed for trial in result.trials)
    assert len(result.trials) > 2
    assert 2 * DIVERGING.budget - 2 * 20 < result.samples <= 2 * DIVERGING.budget


def test_the_same_seed_gives_the_same_result_and_another_one_another(untouched_rng: None) -> None:
    config = SearchConfig("pbt", 5)
    one, again = (run_search(config, DIVERGING, 3) for _ in range(2))
    assert one == again
    assert run_search(config, DIVERGING, 4).trials != one.trials


def test_a_population_ends_better_than_its_members_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config, job = SearchConfig("pbt", 10), replace(JOB, budget=4000)
    together = [run_population(config, job, seed) for seed in range(3)]
    monkeypatch.setattr("rl_tuner.members.EVERY", 10**6)
    alone = [run_population(config, job, seed) for seed in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert spread(one).min() < np.median(spread(other))
        assert np.median(spread(one)) < 0.8 * np.median(spread(other))
    best, rivals = (np.mean([spread(r).min() for r in results]) for results in (together, alone))
    assert best <= rivals * 1.02


def test_the_winners_records_show_how_its_hyperparameters_moved() -> None:
    result = run_population(SearchConfig("pbt", 10), replace(JOB, budget=4000), 1)
    start = result.trials[result.best].setting["start"]
    first = result.records[0].values
    assert {name: first[name] for name in start} == pytest.approx(start)
    rates = [r.values["lr"] for r in result.records]
    assert len(set(rates)) > 1
    changes = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
    assert all(i % EVERY == 0 for i in changes)


def test_a_job_in_phases_is_trained_through_all_of_them() -> None:
    job = replace(JOB, pretraining=0.5, samples=200)
    result = run_population(SearchConfig("pbt", 5), job, 0)
    assert result.samples == 5 * job.budget
    assert result.test["accuracy"] > 0.2


def tiny_job(**changes: Any) -> TrainingJob:
    torch_data = (torch.linspace(-1, 1, 64)[:, None], torch.linspace(-1, 1, 64))
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
    settings: dict[str, Any] = {
        "validation": torch_data,
        "optimizer": "sgd",
        "task": "regression",
        "epochs": 8,
    }
    return TrainingJob(model, torch_data, **{**settings, **changes})


def test_a_users_job_without_a_test_split_is_not_scored() -> None:
    result = run_population(SearchConfig("pbt", 3), tiny_job(), 0)
    assert result.test == {}
    assert result.samples == 3 * 8 * 64


def test_jobs_that_cannot_be_searched_are_refused() -> None:
    with pytest.raises(JobError, match="has no validation samples"):
        run_population(SearchConfig("pbt", 2), tiny_job(validation=None), 0)
    everything = ("lr", "batch_size", "weight_decay", "momentum")
    with pytest.raises(ConfigError, match="no hyperparameter"):
        run_population(SearchConfig("pbt", 2), tiny_job(fixed=everything), 0)
