"""Episodes side by side against their reference, the single environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import JobSpec, TrainingJob, TuningEnv, load_suite
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.tuning_free import tuning_free
from rl_tuner.errors import ConfigError, DatasetError
from rl_tuner.policy import Policy
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.schedules import Constant, Cosine, EarlyStopping, Plateau
from rl_tuner.side_by_side import Run, run_side_by_side
from rl_tuner.space import Anchor, search_space
from tests.learned_policies import network, tables
from tests.phased import phased_job
from tests.side_by_side import double

SPEC = JobSpec("iris", "mlp-4", "momentum", 400, 0, 1e-2, 16, 0.0, 0.9, None)
NUMBERS = ("return_", "start_val_loss", "val_loss")
TOLERANCE = 2e-3
"""Of losses after training: single precision, summed in another order at every update."""
EXACT = 1e-5
"""The same, of jobs in double precision."""
HUGE = 1e30
"""Losses beyond it are alike: which sum overflows is a matter of its order."""


def alone(run: Run, **options: Any) -> Episode:
    return run_episode(TuningEnv.for_policy(run.policy, **options), run.policy, run.seed, run.job)


def assert_alike(found: Episode, expected: Episode, tolerance: float = TOLERANCE) -> None:
    for name in ("job", "seed", "policy", "samples", "val_samples", "crashed", "rescues"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in NUMBERS:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=tolerance, abs=tolerance)
    assert found.test.keys() == expected.test.keys()
    assert found.test["loss"] == pytest.approx(expected.test["loss"], rel=tolerance, abs=tolerance)
    if tolerance <= EXACT:  # but where two classes tie, the last bits decide
        assert found.test == pytest.approx(expected.test, abs=0.01)
    assert len(found.records) == len(expected.records)
    for mine, other in zip(found.records, expected.records, strict=True):
        assert (mine.decision, mine.used, mine.verdict) == (other.decision, other.used, other.verdict)
        assert mine.values == pytest.approx(other.values, rel=tolerance)
        losses = [np.minimum((record.val_loss, record.best), HUGE) for record in (mine, other)]
        np.testing.assert_allclose(*losses, rtol=tolerance, atol=tolerance)


def assert_like_single_episodes(runs: Sequence[Run], tolerance: float = TOLERANCE) -> list[Episode]:
    found = run_side_by_side(runs)
    for run, episode in zip(runs, found, strict=True):
        assert_alike(episode, alone(run), tolerance)
    return found


def drawn(family: str, budget: int, split: str = "test", seed: int = 0) -> TrainingJob:
    """A short job of a family of "standard" in double precision, and without dropout, whose masks differ."""
    spec = load_suite("standard").only(family).family(split).sample(np.random.default_rng(seed))
    sane = {"lr": SANE_LR[spec.optimizer], "batch_size": 16, "dropout": None}
    return double(replace(spec, budget=budget, **sane).build())


def of_all_kinds() -> list[Policy]:
    """Rails and none, early stopping, memory; discrete, continuous and anchored; four search spaces."""
    table = tables()
    table.config = CourseConfig(decisions=8)  # with rails: where numbers end, sums of losses part
    return [
        network(seed=2),
        network(memory=3, seed=2),
        network("discrete"),
        table,
        Cosine(),
        Plateau(),
        EarlyStopping(),
    ]


@pytest.mark.parametrize("family", ["tabular", "vision", "speech", "recommendation", "finetuning"])
def test_each_episode_is_that_of_a_single_environment(family: str) -> None:
    job = drawn(family, 1600)
    runs = [Run(policy, seed, job) for seed in (3, 4) for policy in of_all_kinds()]
    assert_like_single_episodes(runs, EXACT)


def test_jobs_in_phases_go_through_them_as_in_a_single_environment() -> None:
    spec = replace(SPEC, dataset="digits", architecture="mlp-8", pretraining=0.5, budget=1600)
    found = assert_like_single_episodes([Run(policy, 5, spec) for policy in of_all_kinds()])
    assert all(episode.records[0].values != {} for episode in found)
    job = phased_job()
    assert_like_single_episodes([Run(network("discrete"), seed, job) for seed in (0, 1)], EXACT)


def test_runs_that_crash_or_are_rescued_do_so_as_in_a_single_environment() -> None:
    wild = [replace(SPEC, optimizer="sgd", lr=lr) for lr in (1e20, 0.1)]
    policies = [Constant(), Cosine(), network()]
    found = assert_like_single_episodes([Run(policy, 1, spec) for spec in wild for policy in policies])
    assert [episode.crashed for episode in found] == [True] * 3 + [False] * 3
    assert [episode.rescues > 0 for episode in found[:3]] == [False, False, True]


def test_a_crash_before_the_last_phase_leaves_that_ones_untrained_model() -> None:
    job = phased_job(start={"lr": 1e30, "batch_size": 16.0}, optimizer="sgd")
    (found,) = assert_like_single_episodes([Run(Constant(), 2, job)])
    assert found.crashed
    assert np.isfinite(found.test["loss"])


def test_jobs_of_every_kind_may_run_side_by_side() -> None:
    jobs = [drawn("tabular", 300), drawn("vision", 500), phased_job(), drawn("speech", 400)]
    assert_like_single_episodes([Run(network(), number, job) for number, job in enumerate(jobs)])


def test_a_job_that_cannot_be_batched_is_run_all_the_same() -> None:
    job = tuning_free("hypergradient", SPEC)
    runs = [Run(Cosine(), 1, job), Run(Cosine(), 1, SPEC), Run(Cosine(), 2, job)]
    with pytest.warns(UserWarning, match="runs by itself on the reference engine"):
        found = run_side_by_side(runs)
    for run, episode in zip(runs, found, strict=True):
        assert_alike(episode, alone(run), 1e-4)


def test_without_a_job_one_is_drawn_as_a_single_environment_draws_it() -> None:
    runs = [Run(network(), seed) for seed in (7, 8, 9)]
    found = run_side_by_side(runs, suite="quick", split="validation")
    expected = [alone(run, suite="quick", split="validation") for run in runs]
    assert [episode.job for episode in found] == [episode.job for episode in expected]
    starts = [episode.start_val_loss for episode in found]
    assert starts == pytest.approx([episode.start_val_loss for episode in expected])
    assert len(set(starts)) == 3


class Dice(Policy):
    """Acts at random from its seed, and remembers how often it did."""

    name = "dice"

    def __init__(self) -> None:
        super().__init__(search_space(["lr"]), "continuous", CourseConfig(decisions=4, rails=False))
        self.acted = 0

    def reset(self, seed: int | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self.acted = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.acted += 1
        return self._rng.uniform(-0.1, 0.1, 1) * self.acted


def test_every_episode_has_a_memory_and_a_randomness_of_its_own() -> None:
    dice = Dice()
    found = run_side_by_side([Run(dice, seed, SPEC) for seed in (1, 2, 1)])
    assert dice.acted == 0  # a copy acted
    rates = [[record.values["lr"] for record in episode.records] for episode in found]
    assert rates[0] == rates[2] != rates[1]
    for seed, mine in zip((1, 2), rates, strict=False):
        assert mine == [record.values["lr"] for record in alone(Run(dice, seed, SPEC)).records]


def test_the_same_runs_give_the_same_episodes_bit_for_bit() -> None:
    spec = replace(SPEC, dropout=0.3)
    runs = [Run(policy, seed, spec) for seed in (0, 1) for policy in of_all_kinds()]
    assert run_side_by_side(runs) == run_side_by_side(runs)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_fewer_slots_give_the_same_episodes_in_the_order_asked_for(slots: int) -> None:
    spec = replace(SPEC, dropout=0.3)  # whose masks do not depend on neighbours
    runs = [Run(policy, seed, spec) for seed in (0, 1, 2) for policy in (Cosine(), network(), Plateau())]
    done: list[int] = []
    found = run_side_by_side(runs, slots=slots, on_episode=lambda: done.append(1))
    assert len(done) == len(runs)
    for episode, together in zip(found, run_side_by_side(runs), strict=True):
        assert_alike(episode, together)


def test_every_decision_is_told_with_what_is_seen_then_and_the_anchor_in_force() -> None:
    told: dict[int, list[tuple[np.ndarray, Anchor]]] = {0: [], 1: []}
    runs = [Run(network("discrete"), 3, phased_job()), Run(Dice(), 4, SPEC)]

    def note(number: int, observation: np.ndarray, anchor: Anchor) -> None:
        told[number].append((observation, anchor))

    found = run_side_by_side(runs, on_decision=note)
    for number, run in enumerate(runs):
        assert len(told[number]) == len(found[number].records)
        env = TuningEnv.for_policy(run.policy)
        observation, _ = env.reset(seed=run.seed, options={"job": run.job})
        run.policy.reset(run.seed)
        for seen, anchor in told[number]:
            np.testing.assert_allclose(seen, observation, atol=1e-3)
            np.testing.assert_allclose(anchor.start, env.course.anchor.start)
            np.testing.assert_allclose(anchor.low, env.course.anchor.low)
            observation, *_ = env.step(run.policy.act(observation))
    first, last = told[0][0][1], told[0][-1][1]
    assert first.start[0] != last.start[0]  # the second phase starts at another lr


def test_a_job_without_a_test_split_gives_no_test_figures() -> None:
    (episode,) = run_side_by_side([Run(Cosine(), 0, replace(SPEC.build(), test=None))])
    assert episode.test == {}


def test_no_runs_give_no_episodes() -> None:
    assert run_side_by_side([]) == []


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="slots must be >= 1, got 0"):
        run_side_by_side([Run(Cosine(), 0, SPEC)], slots=0)
    with pytest.raises(ConfigError, match="unknown suite 'quik'"):
        run_side_by_side([Run(Cosine(), 0)], suite="quik")
    with pytest.raises(ConfigError, match="100 decisions"):
        run_side_by_side([Run(Cosine(), 0, replace(SPEC, budget=50))])
    broken = replace(SPEC.build(), train=(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)))
    with pytest.raises(DatasetError, match="slot 1: train holds no samples"):
        run_side_by_side([Run(Dice(), 0, SPEC), Run(Dice(), 0, broken)])


def test_global_randomness_is_left_alone(untouched_rng: None) -> None:
    run_side_by_side([Run(network(), 0, replace(SPEC, dropout=0.2))])
