"""What a comparison compares: policies and schedules, tuning-free optimizers, searches, a static setting.

Each is a `Method`: given a job and a seed it trains, within its budget, and tells what came of it as a `Row`.
The budget is counted in training samples and the same for all: a job's own for a single run, and for a search
as many of them as it has trials (``random@16``), unless its trials share one (``random/16``).
"""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rl_tuner.config import choose
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.tuning_free import TUNING_FREE, require_tuning_free, tuning_free
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError
from rl_tuner.policies import LearnedPolicy
from rl_tuner.policy import Policy
from rl_tuner.policy_file import load_policy, policy_path, shipped_policies
from rl_tuner.results import Place, Row
from rl_tuner.rollout import Beginning, beginning, run_episode
from rl_tuner.samplers import SAMPLERS
from rl_tuner.schedules import SCHEDULES, Constant
from rl_tuner.searches import SearchConfig
from rl_tuner.searching import run_search
from rl_tuner.static_setting import STATIC, StaticSetting

BASELINE = "constant"
TRIALS = 16
"""Trials of a search that is named without a number."""
_LIKE_A_NAME = re.compile(r"[\w-]+(?P<trials>[@/]\d+)?")
_SEARCH = re.compile(r"(?P<sampler>[a-z-]+)(?:(?P<kind>[@/])(?P<trials>[^@/]*))?")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A job and a seed, which every method is run on.

    Attributes:
        spec: The job.
        job: Its number in the comparison, from 0.
        seed: The repetition's number, from 0.
        episode_seed: Given to the environment: decides initial weights, batches and dropout.
    """

    spec: JobSpec
    job: int
    seed: int
    episode_seed: int


class Method(ABC):
    """A contestant. Picklable, so that worker processes can run it.

    Attributes:
        identity: What it is, so that a run is not continued with another one: a name, or a file's SHA-256.
    """

    identity: str

    @abstractmethod
    def run(self, name: str, experiment: Experiment) -> Row:
        """Trains, and tells what came of it.

        Args:
            name: Its own name in the comparison.
            experiment: On what.

        Raises:
            ConfigError: The job has no test split.
            JobError, DatasetError: The job cannot be built or trained.
        """


class PolicyMethod(Method):
    """One run under a policy, learned or a schedule, in the environment in which it wants to be run.

    Attributes:
        policy: What acts.
        batched: Whether its jobs train side by side with others, or each on an engine of its own.
    """

    batched = True

    def __init__(self, policy: Policy, identity: str = "") -> None:
        self.policy = policy
        self.identity = identity or policy.name

    def job(self, spec: JobSpec) -> Source:
        """What it trains, given an experiment's job."""
        return spec

    def run(self, name: str, experiment: Experiment) -> Row:
        """See `Method.run`; by the plain loop, as `rl_tuner.chunks` does it to floating-point tolerance."""
        began = time.process_time()
        env = TuningEnv.for_policy(self.policy)
        episode = run_episode(env, self.policy, experiment.episode_seed, self.job(experiment.spec))
        seconds = time.process_time() - began
        return Row.of(episode, place(name, experiment), seconds)


class OptimizerMethod(PolicyMethod):
    """One run with an optimizer that needs no tuning in place of the job's own; nothing else changes.

    Raises:
        ConfigError: There is no such optimizer, or its package is missing.
    """

    batched = False

    def __init__(self, optimizer: str) -> None:
        require_tuning_free(optimizer)
        super().__init__(Constant(), optimizer)

    def job(self, spec: JobSpec) -> Source:
        """The job with the optimizer."""
        return tuning_free(self.identity, spec)


class StaticMethod(PolicyMethod):
    """One run at a setting that is the same for all jobs (see `rl_tuner.static_setting`)."""

    def __init__(self, setting: StaticSetting) -> None:
        super().__init__(load_policy(setting.schedule), STATIC)
        self.setting = setting

    def job(self, spec: JobSpec) -> Source:
        """The job at the setting."""
        return self.setting.apply(spec)


class SearchMethod(Method):
    """A search: its trials trained on the job, one chosen by validation."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.identity = f"{config.sampler}{'/' if config.shared else '@'}{config.trials}"

    def run(self, name: str, experiment: Experiment) -> Row:
        """See `Method.run`."""
        began = time.process_time()
        result = run_search(self.config, experiment.spec, experiment.episode_seed)
        where = place(name, experiment)
        budget = where.beginning.budget * (1 if self.config.shared else self.config.trials)
        return Row.of_search(result, where, budget, time.process_time() - began)


def place(name: str, experiment: Experiment) -> Place:
    """Where a method's row of an experiment stands."""
    start = _beginning(experiment.spec, experiment.episode_seed)
    return Place(name, experiment.job, experiment.seed, experiment.episode_seed, start)


@lru_cache(maxsize=8)
def _beginning(spec: JobSpec, seed: int) -> Beginning:
    """Every method of an experiment asks for it."""
    return beginning(spec, seed)


def search_method(name: str) -> SearchMethod | None:
    """The search of that name, such as "random@16", "tpe/8" or "gp"; None if it names no sampler.

    Raises:
        ConfigError: The number of trials is none.
    """
    found = _SEARCH.fullmatch(name)
    if found is None or found["sampler"] not in SAMPLERS:
        return None
    if found["kind"] is None:
        return SearchMethod(SearchConfig(found["sampler"], TRIALS))
    if not found["trials"].isdecimal() or int(found["trials"]) < 1:
        raise ConfigError(
            f"{name!r} must end in a number of trials >= 1: {found['sampler']}@16 for trials with a job's "
            f"budget each, {found['sampler']}/16 for trials that share one"
        )
    return SearchMethod(SearchConfig(found["sampler"], int(found["trials"]), shared=found["kind"] == "/"))


def make_method(name: str, static: StaticSetting | None = None) -> Method:
    """The method of a name: a search, an optimizer, "static", a schedule, or a policy's name or file.

    Args:
        name: See `rl-tuner compare --help`.
        static: What "static" stands for.

    Raises:
        PolicyError: There is no such policy file, or it is unfit.
        ConfigError: The name is unknown, or that of a search but not well formed; or "static" is not known
            here.
    """
    search = search_method(name)
    if search is not None:
        return search
    if name in TUNING_FREE:
        return OptimizerMethod(name)
    if name == STATIC:
        if static is None:
            raise ConfigError(f"the setting that {STATIC!r} stands for must be chosen on a suite first")
        return StaticMethod(static)
    _check_known(name)
    policy = load_policy(name)
    known = name in SCHEDULES or name in shipped_policies()
    return PolicyMethod(policy, name if known else _digest(policy_path(name)))


def _check_known(name: str) -> None:
    """Refuses a misspelt name. One that is, or looks like, a file is left to who reads policies."""
    found = _LIKE_A_NAME.fullmatch(name)
    if found is not None and not Path(name).is_file():
        searches = (f"{sampler}{found['trials'] or f'@{TRIALS}'}" for sampler in SAMPLERS)
        known = (*shipped_policies(), *SCHEDULES, *TUNING_FREE, STATIC, *searches)
        choose("method or policy file", name, known)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_methods(
    names: Sequence[str], baseline: str = BASELINE, static: StaticSetting | None = None
) -> dict[str, Method]:
    """The methods of these names, the baseline first if it is not among them.

    Args:
        names: See `make_method`. One that stands twice is run twice.
        baseline: What the others are compared to, likewise.
        static: What "static" stands for.

    Returns:
        Methods by their names in the comparison: the name given, or that in a policy's file; with -2, -3, …
        where two would be the same.

    Raises:
        PolicyError, ConfigError: See `make_method`; or there is no name.
    """
    if not names:
        raise ConfigError("no methods to compare: name policies, schedules or searches, such as random@16")
    methods: dict[str, Method] = {}
    for name in names if baseline in names else (baseline, *names):
        method = make_method(name, static)
        label = name if method.identity == name or name in SAMPLERS else _label(method)
        number, unique = 1, label
        while unique in methods:
            number += 1
            unique = f"{label}-{number}"
        methods[unique] = method
    return methods


def _label(method: Method) -> str:
    """A name for tables, plots and folders, from a policy's file or a search's settings."""
    if not isinstance(method, PolicyMethod):
        return method.identity
    return re.sub(r"[^\w.+-]+", "-", method.policy.name).strip(".-") or "policy"


def learned(methods: Mapping[str, Method]) -> dict[str, LearnedPolicy]:
    """Those of the methods that are learned policies, by name."""
    return {
        name: method.policy
        for name, method in methods.items()
        if isinstance(method, PolicyMethod) and isinstance(method.policy, LearnedPolicy)
    }
