"""rl-tuner: learn to tune hyperparameters while a model trains.

`Tuner`, `TunedBatchSampler` and `load_policy` are imported on first use, so that ``import rl_tuner`` is
quick; environments live in `rl_tuner.envs`, what learns in `rl_tuner.agents`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_tuner._version import __version__
from rl_tuner.errors import ConfigError, DatasetError, JobError, PolicyError, RlTunerError

if TYPE_CHECKING:
    from rl_tuner.policy_file import load_policy
    from rl_tuner.sampling import TunedBatchSampler
    from rl_tuner.tuner import Tuner

__all__ = [
    "ConfigError",
    "DatasetError",
    "JobError",
    "PolicyError",
    "RlTunerError",
    "TunedBatchSampler",
    "Tuner",
    "__version__",
    "load_policy",
]

_LAZY = {
    "TunedBatchSampler": "rl_tuner.sampling",
    "Tuner": "rl_tuner.tuner",
    "load_policy": "rl_tuner.policy_file",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'rl_tuner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
