from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.history import WORST
from rl_tuner.job_budgets import budget_of
from rl_tuner.rollout import beginning, run_episode
from rl_tuner.samplers import SAMPLERS, quiet
from rl_tuner.searches import SearchConfig, SearchResult, SearchTrial
from rl_tuner.searching import new_study, objective, run_search, search_result
from rl_tuner.seeding import Streams
from rl_tuner.settings import Setting
from rl_tuner.study_ledger import BUDGET, INDEX, OUTCOME, Ledger, index_of, requeue_abandoned
from rl_tuner.trials import run_trials
from tests.phased import FIRST, phased_job
from tests.quadratic import ROWS, UPDATES, best_lr, quadratic_job, quadratic_loss
from tests.tiny import TINY

OPTUNAS = [name for name in SAMPLERS if name != "pbt"]
PRUNING = [name for name in OPTUNAS if SAMPLERS[name].pruner is not None]
SPEC = TINY.family("test").sample(Streams(0).numpy("data"))
ONE_DECADE = (0.3, 1.3)
"""From 0.2 to 2; the quadratic's best learning rate is 0.62."""
DIVERGING = (2.0, 8.0)
"""So large that single precision overflows within a few updates, mostly."""


def search_lr(sampler: str, trials: int, seed: int = 0, **changes: Any) -> SearchResult:
    """A search of the quadratic's learning rate alone."""
    options: dict[str, Any] = {
        "hyperparameters": ("lr",),
        "schedules": ("constant",),
        "lr_decades": ONE_DECADE,
        **changes,
    }
    return run_search(SearchConfig(sampler, trials, **options), quadratic_job(), seed)


def chosen(result: SearchResult) -> SearchTrial:
    return result.trials[result.best]


def diverging_job(**changes: Any) -> Any:
    data = tuple(part.float() for part in quadratic_job().train)  # type: ignore[union-attr]
    model = torch.nn.Linear(data[0].shape[1], 1, bias=False)
    return quadratic_job(model=model, train=data, validation=data, test=data, **changes)


# --- what is found ---


def test_the_quadratic_trains_as_its_closed_form_says() -> None:
    for lr in (0.05, best_lr(), 0.68):
        (trial,) = run_trials([quadratic_job(start={"lr": lr, "batch_size": ROWS})], [0], decisions=UPDATES)
        assert trial.val_loss == pytest.approx(quadratic_loss(lr), rel=1e-6)
    assert all(quadratic_loss(best_lr()) < quadratic_loss(best_lr() * by) for by in (0.98, 1.02))


@pytest.mark.parametrize("seeds", [(0, 1), pytest.param((2, 3, 4), marks=pytest.mark.slow)])
@pytest.mark.parametrize("sampler", OPTUNAS)
def test_each_sampler_comes_within_a_tenth_of_the_best_setting_in_forty_trials(
    sampler: str, seeds: tuple[int, ...]
) -> None:
    """Seeds 0 to 4, all of them. Drawn at random a seed has a chance of 1 - (1 - 0.087)**40 = 0.974."""
    for seed in seeds:
        result = search_lr(sampler, 40, seed)
        assert chosen(result).setting["start"]["lr"] == pytest.approx(best_lr(), rel=0.1), seed
        assert result.samples == 40 * ROWS * UPDATES


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "least"), [("gp", 5), ("tpe", 5), ("cma-es", 4), ("grid", 5)])
def test_who_learns_from_the_past_finds_it_among_four_decades_too(sampler: str, least: int) -> None:
    """Seeds 0 to 4; drawn at random a seed has a chance of 1 - (1 - 0.0218)**40 = 0.59."""
    found = [search_lr(sampler, 40, seed, lr_decades=(-2.0, 2.0)) for seed in range(5)]
    learning_rates = np.array([chosen(result).setting["start"]["lr"] for result in found])
    # A grid of ten points a decade can be off by half the way to its next point.
    off = 10**0.05 - 1 if sampler == "grid" else 0.1
    assert np.sum(np.abs(learning_rates / best_lr() - 1) <= off) >= least


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "halving"])
def test_the_trial_with_the_lowest_validation_loss_is_chosen(sampler: str) -> None:
    result = run_search(SearchConfig(sampler, 6), SPEC, 1)
    losses = [trial.val_loss for trial in result.trials]
    assert losses[result.best] == min(losses)
    assert len({*losses}) > 3
    assert result.test["loss"] == chosen(result).test_loss
    assert {*result.test} > {"loss"}
    assert min(record.best for record in result.records) == chosen(result).val_loss
    assert result.records[-1].used == chosen(result).samples
    assert result.val_samples == sum(trial.val_samples for trial in result.trials) > 0


def test_a_trial_is_the_job_trained_at_its_setting() -> None:
    result = run_search(SearchConfig("random", 5), SPEC, 3)
    for trial in result.trials:
        setting = Setting.from_dict(trial.setting)
        (alone,) = run_trials([setting.apply(SPEC)], [3], [setting.policy()], intervals="uniform", test=True)
        assert trial.val_loss == pytest.approx(alone.val_loss, rel=1e-4)
        assert trial.test_loss == pytest.approx(alone.test["loss"], rel=1e-4)
        assert (trial.samples, trial.val_samples) == (alone.samples, alone.val_samples)
    assert len({trial.start_val_loss for trial in result.trials}) == 1  # the same initial weights


def test_a_setting_does_in_an_environment_what_it_did_in_the_search() -> None:
    result = search_lr("random", 4, schedules=("cosine",))
    setting = Setting.from_dict(chosen(result).setting)
    policy = setting.policy()
    env = TuningEnv(
        actions="anchored", hyperparameters=policy.space, decisions=UPDATES, intervals="uniform", rails=False
    )
    episode = run_episode(env, policy, 0, setting.apply(quadratic_job()))
    assert episode.val_loss == pytest.approx(chosen(result).val_loss, rel=1e-6)


def test_fixed_hyperparameters_are_never_varied() -> None:
    spec = replace(SPEC, fixed=("momentum", "weight_decay", "batch_size"), dropout=None)
    for trial in run_search(SearchConfig("random", 4), spec, 0).trials:
        assert {*trial.setting["start"]} == {"lr"}


def test_a_schedules_own_parameters_are_searched_if_asked_for() -> None:
    config = SearchConfig("random", 8, schedules=("wsd", "linear"), schedule_options=True)
    options = [trial.setting["options"] for trial in run_search(config, SPEC, 0).trials]
    assert {frozenset(values) for values in options} == {frozenset({"warmup", "decay"}), frozenset({"floor"})}


# --- what it costs ---


@pytest.mark.parametrize("trials", [1, 5])
@pytest.mark.parametrize("sampler", OPTUNAS)
def test_every_sampler_uses_the_same_training_samples(sampler: str, trials: int) -> None:
    result = run_search(SearchConfig(sampler, trials), SPEC, 2)
    assert not any(trial.crashed for trial in result.trials)
    assert result.samples == sum(trial.samples for trial in result.trials) == trials * SPEC.budget
    if sampler not in PRUNING:
        assert [trial.samples for trial in result.trials] == [SPEC.budget] * trials


@pytest.mark.parametrize("sampler", OPTUNAS)
def test_trials_can_share_the_budget_of_one_run(sampler: str) -> None:
    result = run_search(SearchConfig(sampler, 7, shared=True), SPEC, 2)
    assert result.samples == SPEC.budget
    if sampler not in PRUNING:
        whole, over = divmod(SPEC.budget, 7)
        assert [trial.samples for trial in result.trials] == [whole + (k < over) for k in range(7)]


def test_what_pruned_trials_leave_goes_to_more_trials() -> None:
    for sampler in PRUNING:
        result = search_lr(sampler, 12)
        pruned = [trial for trial in result.trials if trial.pruned]
        assert len(result.trials) > 12
        assert all(trial.samples < ROWS * UPDATES for trial in pruned)
        assert result.samples == 12 * ROWS * UPDATES
        assert not chosen(result).pruned
        rest = [trial for trial in result.trials if not trial.pruned and trial.samples < ROWS * UPDATES]
        assert len(rest) <= 1  # of what was left at the end


def test_halving_ends_trials_at_its_rungs_and_never_the_best_one_there() -> None:
    """Decisions 2, 6 and 18 of 20: 16, 48 and 144 samples."""
    study = new_study()
    config = SearchConfig(
        "halving", 12, hyperparameters=("lr",), schedules=("constant",), lr_decades=ONE_DECADE
    )
    run_search(config, quadratic_job(), 0, study)
    records = [trial.user_attrs[OUTCOME]["records"] for trial in study.trials]
    ended = [len(of_trial) for of_trial in records[:-1]]  # the last one has what was left
    assert {*ended} == {2, 6, 18, UPDATES}
    for rung in (2, 6, 18):
        losses = {k: min(r["val_loss"] for r in records[k][:rung]) for k, n in enumerate(ended) if n >= rung}
        assert ended[min(losses, key=losses.__getitem__)] > rung
        went_on, stopped = ([losses[k] for k in losses if (ended[k] > rung) == on] for on in (True, False))
        assert np.median(went_on) < np.median(stopped)


@pytest.mark.parametrize("sampler", OPTUNAS)
def test_a_diverged_trial_leaves_its_samples_unused_except_where_trials_are_pruned(sampler: str) -> None:
    config = SearchConfig(sampler, 6, hyperparameters=("lr",), schedules=("constant",), lr_decades=DIVERGING)
    result = run_search(config, diverging_job(), 0)
    assert sum(trial.crashed for trial in result.trials) > 2
    assert all(trial.samples < ROWS * UPDATES for trial in result.trials if trial.crashed)
    if sampler in PRUNING:
        assert result.samples >= 6 * ROWS * UPDATES - 1 * ROWS * UPDATES
    else:
        assert len(result.trials) == 6
        assert result.samples < 6 * ROWS * UPDATES
    assert np.isfinite(chosen(result).val_loss)


def test_a_job_in_phases_is_searched_through_all_of_them() -> None:
    for sampler, shared in (("random", False), ("halving", False), ("tpe", True)):
        job = phased_job()
        result = run_search(SearchConfig(sampler, 3, shared), job, 0)
        assert result.samples == budget_of(job) * (1 if shared else 3)
        assert np.isfinite(chosen(result).val_loss)
        assert chosen(result).test_loss == result.test["loss"]


def test_a_pretrained_spec_is_searched() -> None:
    spec = replace(SPEC, dataset="digits", pretraining=0.4)
    result = run_search(SearchConfig("halving", 2), spec, 0)
    assert result.samples == 2 * spec.budget
    # What was pruned in pretraining has no loss of the job itself.
    early = [trial for trial in result.trials if trial.samples < 0.4 * spec.budget]
    assert all(trial.val_loss == trial.test_loss == np.inf for trial in early)


# --- what the study holds ---


def test_the_objective_is_the_log_ratio_and_finite_for_a_crash() -> None:
    assert objective(0.5, 2.0) == pytest.approx(np.log(0.25))
    assert [objective(bad, 2.0) for bad in (np.inf, np.nan, 1e9)] == [WORST] * 3
    study = new_study()
    config = SearchConfig("random", 4, hyperparameters=("lr",), schedules=("constant",), lr_decades=DIVERGING)
    result = run_search(config, diverging_job(), 0, study)
    for frozen, trial in zip(study.trials, result.trials, strict=True):
        assert frozen.value == pytest.approx(objective(trial.val_loss, trial.start_val_loss))
        assert np.isfinite(frozen.value)


def test_in_phases_trials_are_judged_by_their_losses_not_by_what_they_gained_in_the_last_phase() -> None:
    study, job = new_study(), phased_job()
    result = run_search(SearchConfig("random", 6), job, 0, study)
    first = beginning(job, 0).val_loss
    assert len({trial.start_val_loss for trial in result.trials}) > 1  # pretrained each in its own way
    for frozen, trial in zip(study.trials, result.trials, strict=True):
        assert frozen.value == pytest.approx(objective(trial.val_loss, first))


def test_pruning_in_phases_compares_losses_too() -> None:
    reported: list[tuple[int, float]] = []
    study, job = new_study(), phased_job()
    run_search(SearchConfig("halving", 2), job, 0, study)
    first = beginning(job, 0).val_loss
    for frozen in study.trials:
        trial = frozen.user_attrs[OUTCOME]
        least: dict[bool, float] = {False: np.inf, True: np.inf}
        for step, record in enumerate(trial["records"], 1):
            later = record["used"] > FIRST
            least[later] = min(least[later], record["val_loss"])
            if later and step in frozen.intermediate_values:
                reported.append((step, frozen.intermediate_values[step]))
                assert frozen.intermediate_values[step] == pytest.approx(objective(least[True], first))
    assert len(reported) > 5


def test_a_job_whose_last_phase_has_no_validation_cannot_be_searched() -> None:
    with pytest.raises(JobError, match="last phase has no validation samples"):
        run_search(SearchConfig("random", 2), phased_job(then={"validation": None}), 0)


def test_a_result_can_be_made_of_the_study_alone(tmp_path: Path) -> None:
    with quiet():
        study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s")
        sampler, pruner = study.sampler, study.pruner
        result = run_search(SearchConfig("halving", 3), SPEC, 0, study)
        assert (study.sampler, study.pruner) == (sampler, pruner)  # put back
        read = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert search_result(read) == result
    assert {trial.state for trial in read.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_study_without_an_ended_trial_has_no_result() -> None:
    with pytest.raises(JobError, match="no trial of the study 'search' has ended"):
        search_result(new_study())


@pytest.mark.usefixtures("untouched_rng")
@pytest.mark.parametrize("sampler", OPTUNAS)
def test_a_search_is_repeated_bit_for_bit(sampler: str) -> None:
    config = SearchConfig(sampler, 6)
    first, told = run_search(config, SPEC, 5), list[SearchTrial]()
    assert run_search(config, SPEC, 5, on_trial=told.append) == first
    assert sorted(map(repr, told)) == sorted(map(repr, first.trials))
    assert run_search(config, SPEC, 6) != first


def losses(trial: SearchTrial) -> list[float]:
    return [trial.val_loss, trial.test_loss, trial.start_val_loss]


def without_losses(result: SearchResult) -> SearchResult:
    """All that must be the same to the last bit."""
    trials = tuple(replace(t, val_loss=0.0, test_loss=0.0, start_val_loss=0.0) for t in result.trials)
    curve = tuple((used, 0.0) for used, _ in result.curve)
    return replace(result, trials=trials, test={}, records=(), curve=curve)


class Killed(BaseException):
    """Nothing but the end of a process is meant to catch it."""


@pytest.mark.parametrize("ended", [0, 3])
@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "gp"])
def test_a_killed_search_goes_on_as_if_it_had_not_been(sampler: str, ended: int) -> None:
    """Killed when so many trials have ended; with small batches, so that others have not begun."""
    config = SearchConfig(sampler, 6)
    # TPE and GP look at a whole batch of four at once: killed between two of their ends, they see more.
    slots = 1 if sampler in ("tpe", "gp") else 3
    whole = run_search(config, SPEC, 5, slots=slots)
    study, told = new_study(), list[SearchTrial]()

    def kill(trial: SearchTrial) -> None:
        told.append(trial)
        if len(told) > ended:
            raise Killed

    with pytest.raises(Killed):
        run_search(config, SPEC, 5, study, kill, slots)
    left = sum(trial.state == TrialState.RUNNING for trial in study.trials)
    assert requeue_abandoned(study) == left
    assert requeue_abandoned(study) == 0
    again = run_search(config, SPEC, 5, study, slots=slots)
    # Trials that were begun once more train beside others than before: their last bits may be others.
    assert without_losses(again) == without_losses(whole)
    for mine, other in zip(again.trials, whole.trials, strict=True):
        assert losses(mine) == pytest.approx(losses(other), rel=1e-6)
    assert [(r.used, r.values) for r in again.records] == [(r.used, r.values) for r in whole.records]
    assert again.test == pytest.approx(whole.test, rel=1e-6)
    assert sum(trial.state == TrialState.FAIL for trial in study.trials) == left


def test_a_killed_trial_is_tried_again_at_its_setting_in_a_database(tmp_path: Path) -> None:
    config, storage = SearchConfig("random", 4), f"sqlite:///{tmp_path / 'study.db'}"

    def kill(trial: SearchTrial) -> None:
        raise Killed

    with quiet():
        study = optuna.create_study(storage=storage, study_name="search")
        with pytest.raises(Killed):
            run_search(config, SPEC, 5, study, kill)
        study = optuna.load_study(storage=storage, study_name="search")
        assert requeue_abandoned(study) == 3
    assert run_search(config, SPEC, 5, study) == run_search(config, SPEC, 5)


@pytest.mark.parametrize("sampler", ["cma-es", "genetic", "halving", "hyperband"])
def test_a_killed_search_loses_no_trial_and_uses_its_budget(sampler: str) -> None:
    config, study, told = SearchConfig(sampler, 6), new_study(), list[SearchTrial]()

    def kill(trial: SearchTrial) -> None:
        told.append(trial)
        if len(told) == 2:
            raise Killed

    with pytest.raises(Killed):
        run_search(config, SPEC, 5, study, kill)
    with quiet():
        requeue_abandoned(study)
    result = run_search(config, SPEC, 5, study)
    assert all(trial in result.trials for trial in told)
    assert result.samples == 6 * SPEC.budget
    settings = [repr(trial.setting) for trial in result.trials]
    assert len({*settings}) == len(settings)


def test_a_finished_search_trains_nothing_more() -> None:
    study = new_study()
    result = run_search(SearchConfig("tpe", 4), SPEC, 5, study)
    told: list[SearchTrial] = []
    assert run_search(SearchConfig("tpe", 4), SPEC, 5, study, told.append) == result
    assert told == []


@pytest.mark.parametrize("sampler", OPTUNAS)
def test_a_second_process_takes_what_the_first_has_not_begun(sampler: str) -> None:
    """It works on the study in the midst of the first one's trials, and leaves; then the first goes on."""
    config, study, told = SearchConfig(sampler, 8), new_study(), list[SearchTrial]()
    seconds: list[SearchTrial] = []

    def second(trial: SearchTrial) -> None:
        told.append(trial)
        if len(told) == 1:
            run_search(config, SPEC, 5, study, seconds.append, 2)

    result = run_search(config, SPEC, 5, study, second, 2)
    assert seconds
    assert sorted(map(repr, told + seconds)) == sorted(map(repr, result.trials))
    assert result.samples == 8 * SPEC.budget
    settings = [repr(trial.setting) for trial in result.trials]
    if sampler not in ("cma-es", "genetic"):  # they may try a setting again, at the range's end or unmutated
        assert len({*settings}) == len(settings)


def test_of_two_that_begin_at_once_the_lower_number_goes_first() -> None:
    study = new_study()
    ledger = Ledger(study, total=100, usual=40)
    first, second, third = study.ask(), study.ask(), study.ask()
    assert [ledger.left(trial.number) for trial in (first, second, third)] == [
        100,
        60,
        20,
    ]  # 40 each till told
    first.set_user_attr(BUDGET, 10)
    assert [ledger.left(trial.number) for trial in (first, second, third)] == [100, 90, 50]
    assert ledger.left() == 10
    first.set_user_attr(OUTCOME, {"charge": 7})
    study.tell(first, 0.0)
    study.tell(second, state=TrialState.FAIL)
    assert ledger.left() == 53
    assert ledger.left(0) == 93  # what has ended counts for all


def test_failed_trials_give_their_places_to_later_ones() -> None:
    study = new_study()
    trials = [study.ask() for _ in range(4)]
    assert [index_of(study, trial) for trial in trials] == [0, 1, 2, 3]
    study.tell(trials[1], state=TrialState.FAIL)
    assert [index_of(study, study.trials[number]) for number in (0, 2, 3)] == [0, 1, 2]
    trials[3].set_user_attr(INDEX, 3)  # it was begun before that
    assert index_of(study, study.trials[3]) == 3


# --- what is refused ---


def test_a_job_without_validation_cannot_be_searched() -> None:
    with pytest.raises(
        JobError, match="a search chooses by validation: the job 'quadratic' has no validation samples"
    ):
        run_search(SearchConfig("random", 2), quadratic_job(validation=None), 0)


def test_a_job_without_test_samples_has_no_test_scores() -> None:
    result = run_search(SearchConfig("random", 2), quadratic_job(test=None), 0)
    assert result.test == {}
    assert [trial.test_loss for trial in result.trials] == [np.inf] * 2
    assert np.isfinite(chosen(result).val_loss)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "tpu"}, "unknown sampler 'tpu'"),
        ({"trials": 0}, "trials must be >= 1, got 0"),
        ({"trials": 2.5}, "trials must be a whole number, got 2.5"),
        ({"lr_decades": (1.0,)}, "lr_decades must be a lowest and a highest power of ten"),
        ({"hyperparameters": ("lr", "lrr")}, "unknown hyperparameter 'lrr'"),
        ({"schedules": ("cosin",)}, "unknown schedule 'cosin'"),
        ({"trials": 500, "shared": True}, "a budget of 160 samples cannot be shared by 500 trials"),
    ],
)
def test_a_search_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_search(SearchConfig(**{"sampler": "random", "trials": 2, **values}), quadratic_job(), 0)


def test_slots_are_a_count() -> None:
    with pytest.raises(ConfigError, match="slots must be >= 1, got 0"):
        run_search(SearchConfig("random", 2), quadratic_job(), 0, slots=0)


def test_specs_are_left_as_they_were() -> None:
    before = replace(SPEC)
    run_search(SearchConfig("random", 2), SPEC, 0)
    assert before == SPEC
    assert isinstance(SPEC, JobSpec)
