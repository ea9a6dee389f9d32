"""What a learning run came to: trained against untrained on held-out jobs, and the policy's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rl_tuner.learning import Learner
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.rewards import reward_unit
from rl_tuner.runs import versions
from rl_tuner.side_by_side import Run, run_side_by_side
from rl_tuner.statistics import Estimate, mean_interval, paired_difference

EVALUATION_SEED = 1_000_000
"""Evaluation jobs have this seed and the following ones, whatever the run's seed: runs stay comparable."""


def evaluate(
    policy: LearnedPolicy,
    suite: str,
    split: str,
    seeds: Sequence[int],
    on_job: Callable[[], object] | None = None,
) -> list[float]:
    """The policy's returns on jobs of a split, one a seed; it acts greedily.

    Args:
        policy: What is judged.
        suite: Whose jobs.
        split: "validation", or another one.
        seeds: Of the jobs.
        on_job: Called when one is done.
    """
    runs = [Run(policy, seed) for seed in seeds]
    episodes = run_side_by_side(runs, suite=suite, split=split, on_episode=on_job)
    return [episode.return_ for episode in episodes]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Trained against untrained on the validation split, the same jobs for both.

    Attributes:
        trained: Returns of the trained policy, one a job.
        untrained: Those of the policy before training.
    """

    trained: tuple[float, ...]
    untrained: tuple[float, ...]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Mean and 95 % interval of "trained", of "untrained" and of their paired "difference"."""
        return {
            "trained": mean_interval(self.trained),
            "untrained": mean_interval(self.untrained),
            "difference": paired_difference(self.trained, self.untrained),
        }

    @property
    def returns(self) -> dict[str, tuple[float, ...]]:
        """The returns by name, as ``results.json`` holds them."""
        return {"trained": self.trained, "untrained": self.untrained}


def judge_policies(
    trained: LearnedPolicy,
    untrained: LearnedPolicy,
    suite: str,
    jobs: int,
    on_job: Callable[[int], object] | None = None,
) -> Judgement:
    """Evaluates what was learned, and what there was before, on held-out jobs of the validation split.

    Args:
        trained: What is judged.
        untrained: What it is compared with.
        suite: Whose jobs.
        jobs: How many for each.
        on_job: Called with the number of jobs done, of twice `jobs` in all.
    """
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + jobs)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if on_job is not None:
            on_job(done)

    first, second = (
        tuple(evaluate(policy, suite, "validation", seeds, one_more)) for policy in (trained, untrained)
    )
    return Judgement(first, second)


def judge(learner: Learner, on_job: Callable[[int], object] | None = None) -> Judgement:
    """Judges what a learner's agent has learned so far; see `judge_policies`."""
    config = learner.config
    trained = config.policy(learner.agent)
    return judge_policies(trained, learner.untrained, config.suite, config.eval_jobs, on_job)


def validation_scores(judgement: Judgement, reward: str) -> dict[str, Any]:
    """What a policy file says of its judgement: jobs, unit, and estimates as mean, low and high.

    Args:
        judgement: Which.
        reward: What the returns are sums of, a name of `rl_tuner.rewards`.
    """
    scores = {name: {"mean": e.mean, "low": e.low, "high": e.high} for name, e in judgement.estimates.items()}
    jobs, unit = len(judgement.trained), reward_unit(reward)
    return {"jobs": jobs, "first_seed": EVALUATION_SEED, "unit": unit, **scores}


def finish(learner: Learner, judgement: Judgement) -> dict[str, Any]:
    """Writes ``policy.safetensors`` and ``results.json``; returns the results.

    The policy file holds no date and no path, so that the same run gives the same bytes.

    Raises:
        PolicyError: The policy cannot be written.
    """
    config, agent = learner.config, learner.agent
    validation = validation_scores(judgement, config.reward)
    provenance = {
        "name": learner.run.path.name,
        "agent": config.agent,
        "command": config.command,
        "suite": config.suite,
        "split": "train",
        "seed": config.seed,
        "steps": agent.steps,
        "episodes": agent.episodes,
        "validation": validation,
        "versions": versions(),
    }
    policy = save_policy(config.policy(agent, provenance), learner.run.path / "policy.safetensors")
    results = {
        "run": str(learner.run.path),
        "policy": str(policy),
        "agent": config.agent,
        "steps": agent.steps,
        "episodes": agent.episodes,
        "validation": validation | {"returns": judgement.returns},
    }
    learner.run.write_results(results)
    return results
