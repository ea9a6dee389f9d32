"""Ablations: the recipe of learning with one thing changed, at equal decisions, scored on the same jobs.

Every variant learns from the same number of decisions on the train split, and its policies run on the same
jobs of the validation split. Differences to the recipe itself are paired by job, in normalized scores. Their
intervals are about other jobs, not about other trainings: what the same recipe with another seed differs by
("base-again") tells how much of a difference is the luck of a training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rl_tuner.aggregates import iqm_interval
from rl_tuner.config import require_counts, to_dict
from rl_tuner.errors import ConfigError
from rl_tuner.files import write_bytes
from rl_tuner.held_out import held_out_jobs, run_held_out, scores_of
from rl_tuner.learning import Learner
from rl_tuner.methods import Experiment, PolicyMethod
from rl_tuner.policy_file import save_policy
from rl_tuner.results import Row
from rl_tuner.runs import RunDirectory, versions
from rl_tuner.statistics import Estimate, mean_interval, paired_difference, per_job
from rl_tuner.timing import one_thread
from rl_tuner.variants import AGAIN, BASE, VARIANTS, RecipeConfig, variants_of
from rl_tuner.workers import run_tasks

STEPS, JOBS = 30_000, 60


@dataclass(frozen=True, slots=True)
class AblationFigure:
    """What a variant came to; all intervals are 95 % and about other jobs.

    Attributes:
        variant: Its name.
        trainings: With as many seeds.
        jobs: That each of the policies ran on.
        score: Mean normalized score; 1 is the best loss that any variant came to on the job.
        iqm: Interquartile mean of the same.
        difference: Score less the recipe's, paired by job; 0 for the recipe itself.
        crashes: Runs on jobs that crashed.
    """

    variant: str
    trainings: int
    jobs: int
    score: Estimate
    iqm: Estimate
    difference: Estimate
    crashes: int


@dataclass(frozen=True, slots=True)
class _Training:
    """A variant to be learned with a seed, and judged.

    Attributes:
        variant: Its name.
        number: Of its seed, from 0.
        config: What is learned.
        path: The run's folder.
        command: The command line that does this training, among others.
    """

    variant: str
    number: int
    config: RecipeConfig
    path: Path
    command: str


class Ablations:
    """The trainings of some variants, in a folder that keeps what is done.

    The folder holds a run of `rl-tuner train`'s kind for each training (``base-0``, …), with its policy file,
    ``results.json`` with a row for each job and the figures, and ``ablations.md``, the table.

    Args:
        path: The folder.
        only: Names of variants; none for all. The recipe itself always takes part.
        suite: Learned on its train split, judged on its validation split.
        steps: Decisions that each training learns from, >= 1.
        jobs: Validation jobs, >= 2.
        seeds: Trainings of each variant, >= 1.
        seed: The first one's; and of the draw of validation jobs.
        resume: Whether to go on with what the folder holds.

    Attributes:
        total: Number of trainings.
        done: So many of them were done before.

    Raises:
        ConfigError: A value is unknown or out of range; or the folder exists and `resume` is not given, or it
            holds ablations of other settings.
    """

    def __init__(
        self,
        path: str | Path,
        only: Collection[str] = (),
        *,
        suite: str = "standard",
        steps: int = STEPS,
        jobs: int = JOBS,
        seeds: int = 1,
        seed: int = 0,
        resume: bool = False,
    ) -> None:
        require_counts({"steps": steps, "seeds": seeds})
        self._seeds = seeds
        base = RecipeConfig(agent="grpo", suite=suite, steps=steps, seed=seed)
        self._experiments = held_out_jobs(suite, jobs, seed)
        configs = variants_of(base, only)
        settings = {"jobs": jobs, "seeds": seeds, "recipe": to_dict(base)}
        self.run_directory = RunDirectory(path, settings, resume=resume)
        command = f"rl-tuner bench ablations --suite {suite} --steps {steps} --jobs {jobs} --seeds {seeds}"
        self._trainings = [
            _Training(
                name,
                number,
                replace(config, seed=seed + number + (seeds if name == AGAIN else 0)),
                self.run_directory.path / f"{name}-{number}",
                f"{command} --seed {seed} --only {name}",
            )
            for name, config in configs.items()
            for number in range(seeds)
        ]
        self._rows = self._known()
        self.total = len(self._trainings)
        self.done = self.total - len(self._missing())

    def run(
        self, workers: int = 1, on_training: Callable[[str], object] | None = None
    ) -> list[AblationFigure]:
        """Does what is not done yet; a training that was interrupted goes on at its last checkpoint.

        Args:
            workers: Processes, each of which learns a variant at a time.
            on_training: Called with the variant's name when one of its trainings is done and kept.

        Returns:
            A figure for each variant of which the folder holds all trainings, the recipe's first.
        """
        for _, (variant, rows) in run_tasks(_learn, self._experiments, self._missing(), workers):
            self._rows += rows
            self._write([])
            if on_training is not None:
                on_training(variant)
        figures = self._figures()
        self._write(figures)
        return figures

    def _missing(self) -> list[_Training]:
        known = {(row.method, row.seed) for row in self._rows}
        return [each for each in self._trainings if (each.variant, each.number) not in known]

    def _known(self) -> list[Row]:
        """Rows of trainings that are done; each one's are written all at once."""
        file = self.run_directory.results
        if not file.is_file():
            return []
        try:
            return [Row.from_dict(row) for row in json.loads(file.read_text())["rows"]]
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise ConfigError(f"{file} is damaged and cannot be resumed: {error}") from error

    def _figures(self) -> list[AblationFigure]:
        rows = {name: [row for row in self._rows if row.method == name] for name in VARIANTS}
        whole = self._seeds * len(self._experiments)
        rows = {name: found for name, found in rows.items() if len(found) == whole}
        scores = scores_of(rows)
        return [
            AblationFigure(
                variant=name,
                trainings=score.shape[1],
                jobs=len(score),
                score=mean_interval(per_job(score)),
                iqm=iqm_interval(score),
                difference=paired_difference(per_job(score), per_job(scores[BASE])),
                crashes=sum(row.crashed for row in rows[name]),
            )
            for name, score in scores.items()
        ]

    def _write(self, figures: Sequence[AblationFigure]) -> None:
        rows = [row.to_dict(records=False) for row in self._rows]
        self.run_directory.write_results({"figures": [asdict(f) for f in figures], "rows": rows})
        if figures:
            table = self.run_directory.path / "ablations.md"
            write_bytes(table, f"{markdown(figures)}\n".encode())


def _learn(experiments: Sequence[Experiment], training: _Training) -> tuple[str, list[Row]]:
    """Learns a variant, keeps its policy, and runs it."""
    path, config = training.path, training.config
    run = RunDirectory(path, to_dict(config), resume=(path / "config.json").is_file())
    with one_thread(), closing(Learner(config, run)) as learner:
        agent = learner.fit()
        provenance = {
            "name": path.name,
            "command": training.command,
            "suite": config.suite,
            "split": "train",
            "versions": versions(),
        }
        save_policy(config.policy(agent, provenance), path / "policy.safetensors")
        method = PolicyMethod(config.policy(agent, {"name": training.variant}))
        numbered = [replace(each, seed=training.number) for each in experiments]
        return training.variant, run_held_out(training.variant, method, numbered)


def markdown(figures: Sequence[AblationFigure]) -> str:
    """The figures as a table, the best difference first, the recipe and itself again on top."""
    first = [f for f in figures if f.variant in (BASE, AGAIN)]
    rest = sorted((f for f in figures if f not in first), key=lambda f: -f.difference.mean)
    lines = ["| variant | mean score | IQM | difference to base | crashed |", "|---|---|---|---|---|"]
    for f in (*first, *rest):
        cells = (f.variant, _interval(f.score), _interval(f.iqm), _difference(f), str(f.crashes))
        lines.append(f"| {' | '.join(cells)} |")
    trainings, jobs = figures[0].trainings, figures[0].jobs
    lines += ["", f"{trainings} training{'s' * (trainings > 1)} a variant, {jobs} validation jobs."]
    return "\n".join(lines)


def _difference(figure: AblationFigure) -> str:
    return "" if figure.variant == BASE else _interval(figure.difference, "+")


def _interval(estimate: Estimate, sign: str = "") -> str:
    low, high = (f"{end:{sign}.3f}" for end in (estimate.low, estimate.high))
    return f"{estimate.mean:{sign}.3f} ({low} to {high})"
