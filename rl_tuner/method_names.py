"""The names of methods: what a comparison's contestants are called on the command line and in tables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from rl_tuner.config import choose
from rl_tuner.envs.tuning_free import TUNING_FREE
from rl_tuner.errors import ConfigError
from rl_tuner.methods import (
    BASELINE,
    Method,
    OptimizerMethod,
    PolicyMethod,
    SearchMethod,
    StartedMethod,
    StaticMethod,
)
from rl_tuner.policy_file import load_policy, policy_path, shipped_policies
from rl_tuner.samplers import SAMPLERS
from rl_tuner.schedules import SCHEDULES
from rl_tuner.searches import SearchConfig
from rl_tuner.static_setting import STATIC, StaticSetting

TRIALS = 16
"""Trials of a search that is named without a number."""
_LIKE_A_NAME = re.compile(r"[\w-]+(?P<trials>[@/]\d+)?")
_STARTED = re.compile(r"(?P<name>.+)@(?P<factor>[^@]*)x")
_OPTION = re.compile(r"(?P<name>.+)\+(?P<no>no-)?(?P<option>averaging|restarts)")
_OPTIONS = re.compile(r"(\+(no-)?(averaging|restarts))+$")
_SEARCH = re.compile(r"(?P<sampler>[a-z-]+)(?:(?P<kind>[@/])(?P<trials>[^@/]*))?")


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


def started_method(name: str) -> StartedMethod | None:
    """The method of a name such as "default@0.01x" or "constant@10x"; None if it is none of that form.

    Raises:
        PolicyError: See `make_method`.
        ConfigError: See `make_method`; or it is no policy's or schedule's name, or not a factor.
    """
    found = _STARTED.fullmatch(name)
    if found is None or Path(name).is_file() or search_method(found["name"]) is not None:
        return None
    try:
        factor = float(found["factor"])
    except ValueError:
        raise ConfigError(
            f"{name!r} must end in a factor of the start learning rate, such as @0.1x, got "
            f"{found['factor']!r}"
        ) from None
    if found["name"] in (*TUNING_FREE, STATIC):
        raise ConfigError(
            f"{name!r}: only a policy or a schedule can be started at another learning rate, not "
            f"{found['name']!r}"
        )
    method = make_method(found["name"])
    assert isinstance(method, PolicyMethod)  # noqa: S101 (for the type checker: all others were refused)
    return StartedMethod(method.policy, factor, method.identity)


def optional_method(name: str, static: StaticSetting | None) -> PolicyMethod | None:
    """The method of a name such as "constant+averaging" or "default+no-restarts"; None if it is none.

    Raises:
        PolicyError: See `make_method`.
        ConfigError: See `make_method`; or it is a search's name.
    """
    found = _OPTION.fullmatch(name)
    if found is None or Path(name).is_file():
        return None
    method = make_method(found["name"], static)
    if not isinstance(method, PolicyMethod):
        raise ConfigError(
            f"{name!r}: averages of weights are kept, and trainings begin again, in single runs, not in "
            f"those of a search, {found['name']!r}"
        )
    return method.with_option(found["option"], not found["no"])


def stands_for_static(name: str) -> bool:
    """Whether a method of that name needs to know what "static" is: itself, or with options behind it."""
    return _OPTIONS.sub("", name) == STATIC


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
    optional = optional_method(name, static)
    if optional is not None:
        return optional
    search = search_method(name)
    if search is not None:
        return search
    started = started_method(name)
    if started is not None:
        return started
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
    label = re.sub(r"[^\w.+-]+", "-", method.policy.name).strip(".-") or "policy"
    options = _OPTIONS.search(method.identity)
    started = f"@{method.lr_factor:g}x" if isinstance(method, StartedMethod) else ""
    return label + started + (options.group() if options else "")
