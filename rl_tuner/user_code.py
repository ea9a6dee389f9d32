"""Calls a user's own function, named ``module:function`` on the command line."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_tuner.errors import JobError, RlTunerError

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_reference(name: str) -> bool:
    """Whether a name has the form ``module:function``."""
    return _REFERENCE.fullmatch(name) is not None


def call(reference: str, *arguments: Any) -> Any:
    """Imports a function, with the current folder on the path, and calls it.

    Args:
        reference: ``module:function``.
        arguments: What it is called with.

    Raises:
        JobError: The module cannot be imported, has no such function, or the function fails; the message
            says where and why.
    """
    module_name, _, function_name = reference.partition(":")
    with _current_folder_on_path():
        module = _guarded(f"cannot import {module_name!r}", lambda: importlib.import_module(module_name))
        function = getattr(module, function_name, None)
        if not callable(function):
            own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise JobError(f"{module_name!r} has no function {function_name!r}: {has}")
        return _guarded(f"{reference} failed", lambda: function(*arguments))


def _guarded(what: str, action: Callable[[], Any]) -> Any:
    """Runs foreign code; whatever it raises becomes one clear line."""
    try:
        return action()
    except RlTunerError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        foreign = place.filename != __file__ and not place.filename.startswith("<")
        where = f" ({Path(place.filename).name}, line {place.lineno})" if foreign else ""
        raise JobError(f"{what}: {type(error).__name__}: {error}{where}") from error


@contextmanager
def _current_folder_on_path() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
