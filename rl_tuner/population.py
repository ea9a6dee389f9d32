"""Population-based training: settings that change while they train, as the better of them are copied.

Jaderberg et al., 2017, "Population Based Training of Neural Networks"; see `rl_tuner.members`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.exploring import Explorer
from rl_tuner.job_budgets import phase_budgets
from rl_tuner.members import Ended, Population
from rl_tuner.search_dimensions import dimensions_of
from rl_tuner.searches import SearchConfig, SearchResult, SearchTrial, best_so_far
from rl_tuner.seeding import Streams
from rl_tuner.trials import DECISIONS, TrialRunner


def run_population(
    config: SearchConfig, job: Source, seed: int, on_trial: Callable[[SearchTrial], object] | None = None
) -> SearchResult:
    """Trains a population, and chooses the member with the lowest validation loss.

    Members use `config.trials` times the job's budget of training samples (once the budget, if they share
    it), but for what `Population` says of those that died. A trial is a member or its successor. Its setting
    is where its weights began: what trained before the first time that weights were copied.

    Args:
        config: As for any search. Members' schedules are what selection makes of them: `schedules` and
            `schedule_options` are not looked at.
        job: On which job.
        seed: Of all that is random: the same seed gives the same result, bit for bit.
        on_trial: Called with each member that has ended.

    Raises:
        ConfigError: The job leaves nothing to vary while it trains, or its budget cannot be shared.
        JobError, DatasetError: The job has no validation samples, or cannot be built or trained.
    """
    built = job.build()
    if built.validation is None and not built.then:
        raise JobError(f"a search chooses by validation: the job {built.name!r} has no validation samples")
    dimensions = dimensions_of(job, config.hyperparameters, config.lr_decades)
    if not dimensions:
        raise ConfigError(f"the job {built.name!r} has no hyperparameter that pbt could change")
    usual = sum(phase_budgets(built))
    budgets = split_budget(usual, config.trials) if config.shared else [usual] * config.trials
    decisions = min(DECISIONS, budgets[-1])
    runner = TrialRunner(config.trials, decisions)
    streams = Streams(seed)
    explorer = Explorer(runner.space, dimensions, streams.numpy("policy"))

    def end(ended: Ended) -> None:
        if on_trial is not None:
            on_trial(_search_trial(ended, explorer))

    population = Population(
        runner=runner,
        job=explorer.setting(explorer.center).apply(job),
        usual=usual,
        scored=built.test is not None or bool(built.then),
        seed=seed,
        explorer=explorer,
        decisions=decisions,
        on_end=end,
    )
    return _result(population.run(budgets), explorer, len(budgets))


def split_budget(budget: int, members: int) -> list[int]:
    """A budget in equal parts, the first ones larger by one where it must be.

    Raises:
        ConfigError: There are fewer samples than members.
    """
    if budget < members:
        raise ConfigError(f"a budget of {budget} samples cannot be shared by {members} trials")
    return [budget // members + (number < budget % members) for number in range(members)]


def _result(ended: Sequence[Ended], explorer: Explorer, members: int) -> SearchResult:
    trials = [_search_trial(member, explorer) for member in ended]
    best = int(np.argmin([trial.val_loss for trial in trials]))
    samples = sum(trial.samples for trial in trials)
    # Members train side by side: when one has used so much, all have, but for parts that are not quite equal.
    curve = ((min(used * members, samples), loss) for each in ended for used, loss in each.trial.curve)
    return SearchResult(
        trials=tuple(trials),
        best=best,
        test=dict(ended[best].trial.test),
        records=ended[best].trial.records,
        samples=samples,
        val_samples=sum(trial.val_samples for trial in trials),
        curve=best_so_far(curve),
    )


def _search_trial(ended: Ended, explorer: Explorer) -> SearchTrial:
    return SearchTrial.of(ended.trial, explorer.setting(ended.start))
