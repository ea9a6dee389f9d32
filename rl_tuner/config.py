"""Strict configuration: dataclasses to JSON and back, where a typo is an error that names it."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar, get_type_hints

from rl_tuner.errors import ConfigError

T = TypeVar("T")


def choose(what: str, value: str, allowed: Collection[str]) -> str:
    """Returns `value` if it is allowed.

    Raises:
        ConfigError: It is not; the message lists the choices and the nearest one.
    """
    if isinstance(value, str) and value in allowed:  # what cannot be hashed is no key of a mapping
        return value
    near = difflib.get_close_matches(str(value), list(allowed), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ConfigError(f"unknown {what} {value!r}{hint}: choose from {', '.join(allowed)}")


def require_range(
    what: str, value: float, low: float, high: float = float("inf"), *, above: bool = False
) -> float:
    """Returns `value` if it lies in [low, high], or in (low, high] with `above`.

    Raises:
        ConfigError: It does not, or is not a number.
    """
    given: object = value
    number = isinstance(given, Real) and not isinstance(given, bool)  # NumPy's numbers are Real too
    inside = number and value <= high and (value > low if above else value >= low)
    if not inside:  # NaN fails every comparison and ends here too
        bound = f"{'>' if above else '>='} {low:g}"
        if high != float("inf"):  # a limit of 1 - 1e-9, say, is there to mean "below 1"
            bound += f" and {'<' if high < 1 and f'{high:g}' == '1' else '<='} {high:g}"
        raise ConfigError(f"{what} must be {bound}, got {value!r}")
    return value


def require_counts(counts: Mapping[str, int]) -> None:
    """Checks that counts, by name, are whole numbers >= 1.

    Raises:
        ConfigError: One is not.
    """
    for name, value in counts.items():
        given: object = require_range(name, value, 1)
        if not isinstance(given, Integral):
            raise ConfigError(f"{name} must be a whole number, got {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON-able types: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """Builds a flat dataclass from a mapping; the inverse of `to_dict`.

    Lists become tuples. Unknown and missing keys are errors.

    Raises:
        ConfigError: A key is unknown or missing; the message names it. Or `data` is no mapping.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{cls.__name__} must be a mapping of its fields, got {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        choose(f"{cls.__name__} key", key, fields)
    missing = [
        name
        for name, f in fields.items()
        if name not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{cls.__name__} needs {', '.join(missing)}")
    hints = get_type_hints(cls)
    values = {
        key: tuple(value) if isinstance(value, list) and "tuple" in str(hints[key]) else value
        for key, value in data.items()
    }
    return cls(**values)
