"""Several learned policies made one: the ensemble, judged as a learning run is, and its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rl_tuner.config import require_range
from rl_tuner.controls import untrained
from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.errors import ConfigError, PolicyError
from rl_tuner.judging import Judgement, judge_policies, validation_scores
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy_file import load_policy, save_policy
from rl_tuner.runs import RunDirectory, versions


@dataclass(frozen=True, slots=True)
class EnsembleConfig:
    """What is to be made one.

    Attributes:
        members: Names or files of policies, two or more.
        suite: Whose validation jobs judge it; empty for the one that the members learned on.
        eval_jobs: How many of them, >= 2.
        seed: Of the untrained networks that it is compared with.

    Raises:
        ConfigError: A value is out of range.
    """

    members: tuple[str, ...]
    suite: str = ""
    eval_jobs: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_range("eval_jobs", self.eval_jobs, 2)
        require_range("seed", self.seed, 0)

    def command(self, names: Sequence[str]) -> str:
        """The command line that makes it.

        Args:
            names: The members', which stand for their files: a path is a machine's own.
        """
        suite = ["--suite", self.suite] if self.suite else []
        counts = ["--eval-jobs", str(self.eval_jobs), "--seed", str(self.seed)]
        return " ".join(["rl-tuner ensemble", *names, *suite, *counts])


def load_ensemble(config: EnsembleConfig, name: str) -> EnsemblePolicy:
    """The members as one policy, which knows what they came from together.

    Args:
        config: Which.
        name: Of the ensemble.

    Raises:
        PolicyError: A member is missing or damaged, is no single network, is given twice, or is not like
            the others.
        ConfigError: They learned on different suites and none is given.
    """
    members = [_member(path) for path in config.members]
    for number, member in enumerate(members):
        for earlier in members[:number]:
            _check_other(member, earlier)
    said = [member.provenance for member in members]
    suites = list(dict.fromkeys(str(one["suite"]) for one in said if "suite" in one))
    if not config.suite and len(suites) != 1:
        raise ConfigError(f"the members learned on {', '.join(suites) or 'no known suite'}: give --suite")
    provenance: dict[str, Any] = {
        "name": name,
        "agent": ", ".join(dict.fromkeys(str(one.get("agent", "unknown")) for one in said)),
        "command": config.command([member.name for member in members]),
        "suite": ", ".join(suites),
        "split": "train",
        "seeds": [one.get("seed") for one in said],
        "steps": _total(said, "steps"),
        "episodes": _total(said, "episodes"),
        "versions": versions(),
    }
    return EnsemblePolicy(members, provenance)


def judge_ensemble(
    policy: EnsemblePolicy, config: EnsembleConfig, on_job: Callable[[int], object] | None = None
) -> Judgement:
    """Evaluates it, and as many untrained networks, on the validation jobs that learning runs are judged by.

    Args:
        policy: What `load_ensemble` gave.
        config: How many jobs.
        on_job: See `judge_policies`.
    """
    suite = config.suite or policy.provenance["suite"]
    return judge_policies(policy, untrained(policy, config.seed), suite, config.eval_jobs, on_job)


def finish_ensemble(
    policy: EnsemblePolicy, judgement: Judgement, config: EnsembleConfig, run: RunDirectory
) -> dict[str, Any]:
    """Writes ``policy.safetensors`` and ``results.json``; returns the results.

    Raises:
        PolicyError: The policy cannot be written.
    """
    validation = validation_scores(judgement, policy.config.reward)
    if config.suite:
        validation["suite"] = config.suite
    policy.provenance["validation"] = validation
    path = save_policy(policy, run.path / "policy.safetensors")
    results = {
        "run": str(run.path),
        "policy": str(path),
        "members": list(config.members),
        "steps": policy.provenance["steps"],
        "episodes": policy.provenance["episodes"],
        "validation": validation | {"returns": judgement.returns},
    }
    run.write_results(results)
    return results


def _member(path: str) -> MLPPolicy:
    policy = load_policy(path)
    if not isinstance(policy, MLPPolicy):
        raise PolicyError(f"{path} is a {type(policy).__name__}: members of an ensemble are single networks")
    return policy


def _total(provenances: Sequence[Mapping[str, Any]], key: str) -> int:
    """The members' sum; a stranger's file may say nothing, or anything."""
    counts = (one.get(key) for one in provenances)
    return sum(count for count in counts if isinstance(count, int))


def _check_other(member: MLPPolicy, earlier: MLPPolicy) -> None:
    import torch

    pairs = zip(chain(*member.layers), chain(*earlier.layers), strict=False)
    if all(torch.equal(own, other) for own, other in pairs):
        raise PolicyError(
            f"{member.name} and {earlier.name} are the same network: learn members with seeds of their own"
        )
