"""The folder of a run: what was asked for, with which versions, and what came out."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rl_tuner._version import __version__
from rl_tuner.errors import ConfigError
from rl_tuner.files import plain, write_json

LIBRARIES = (
    "torch", "numpy", "gymnasium", "stable-baselines3", "scikit-learn", "scipy", "safetensors",
    "optuna", "cmaes",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of rl-tuner, Python, the operating system and the libraries that figures depend on."""
    return {
        "rl-tuner": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: metadata.version(name) for name in LIBRARIES},
    }


class RunDirectory:
    """A run's folder.

    A new run writes ``config.json`` and ``versions.json``. A run that exists is continued when `resume`
    is given and it was asked for the same, and refused otherwise: nothing is ever overwritten.

    Args:
        path: The folder, made if need be.
        config: What was asked for, JSON-able, every default written out.
        resume: Whether to continue a run that exists.
        may_change: Keys of `config` that a continued run may change (a longer budget).
        may_grow: Keys of `config` with mappings to which a continued run may add.
        formerly: Keys of `config` that runs of earlier versions lack, with what they stood for.
        resumable: Whether runs of this kind can be continued: what the refusal of an existing one advises.

    Raises:
        ConfigError: The run exists and `resume` is not given, or it was asked for something else, or
            `resume` is given and there is no run.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        may_change: Collection[str] = (),
        may_grow: Collection[str] = (),
        formerly: Mapping[str, Any] | None = None,
        resumable: bool = True,
    ) -> None:
        self.path = Path(path)
        file = self.path / "config.json"
        if resume and not file.is_file():
            raise ConfigError(f"there is no run to resume in {self.path}: leave out --resume")
        if self.path.exists() and not resume and (not self.path.is_dir() or any(self.path.iterdir())):
            advice = "give --resume to continue it, or another --out" if resumable else "give another --out"
            raise ConfigError(f"{self.path} exists: {advice}")
        if resume:
            old, new = {**(formerly or {}), **self._recorded(file)}, plain(config)
            for key in sorted({*old, *new} - {*may_change}):
                self._check_same(key, old.get(key), new.get(key), key in may_grow)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(file, config)
            write_json(self.path / "versions.json", versions())
        except OSError as error:
            raise ConfigError(f"cannot write the run to {self.path}: {error.strerror or error}") from error

    @property
    def results(self) -> Path:
        """Where the figures go."""
        return self.path / "results.json"

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes ``results.json``, whole or not at all."""
        write_json(self.results, results)

    @staticmethod
    def _recorded(file: Path) -> dict[str, Any]:
        try:
            old = json.loads(file.read_text())
        except ValueError as error:
            raise ConfigError(f"{file} is damaged and cannot be resumed: {error}") from error
        if not isinstance(old, dict):
            raise ConfigError(f"{file} is damaged and cannot be resumed: it holds no JSON object")
        return old

    def _check_same(self, key: str, old: Any, new: Any, may_grow: bool = False) -> None:
        if may_grow and isinstance(old, dict) and isinstance(new, dict):
            for name, value in old.items():
                self._check_same(f"{key}.{name}", value, new.get(name))
        elif old != new:
            raise ConfigError(
                f"the run in {self.path} has {key} = {old!r}, not {new!r}: "
                "resume it as it was, or give another --out"
            )
