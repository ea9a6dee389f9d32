"""rl-tuner: learn to tune hyperparameters while a model trains.

`Tuner`, `TunedBatchSampler` and `load_policy` are imported on first use, so that ``import rl_tuner`` is
quick; environments live in `rl_tuner.envs`, what learns in `rl_tuner.agents`.

Where the rest lies, from the ground up:

- `space`, `actions`, `features`, `history`, `rewards`, `rails`, `restarts`, `intervals`: the vocabulary;
  `course` is what happens from decision to decision, `course_config` how (`courses`, `course_table`,
  `course_log`: many side by side);
- `trainee` (`usual_lr`), `sampling`, `meter`, `optimizer_modes`: a live model and optimizer under tuning;
- `policy` → `policies` (learned; `binning`, `frame_stack`) → `ensemble_policy`; `schedule` →
  `torch_schedules`, `schedules`; `policy_file`;
- `tuner`: a policy on anybody's loop. `applying` (`user_jobs`, `user_code`, `model_file`): on a user's data;
- `rollout`: one episode; `side_by_side`: many, the fast twin. `trials`: static settings, many side by side;
- a search: `searches` (its words), `settings`, `search_dimensions`, `samplers`, `optuna_samplers` →
  `searching` (`search_studies`, `study_ledger`, `job_budgets`); a population: `population`, `members`,
  `exploring`; as a run of its own: `studies`, `study_storage`, `study_results`, `study_figures`;
- a comparison: `methods` (`method_names`), `controls` (`habits`), `static_setting` →
  `comparison` (`chunks`) → `results`, `row_store`;
- its statistics: `statistics`, `aggregates`, `scores`, `anytime`, `equivalents` (`random_pools`) → `scored`
  → `analysis` (`kinds`);
- its report: `report_page`, `report_*`, `figures`, `figure_axes`, `dot_intervals`, `inline_svg`, `reports`;
  `tracking` (TensorBoard) and `plotting` (one run);
- learning: `learning_config` → `learning`, `judging` → `ensembling`; `agent_kinds`, `checkpoint`,
  `episode_logs`; policies in words: `model_card`, `describe`, `wording`;
- figures of speed and of jobs: `benches`, `bench_*`, `timing`, `base_weights`; of learning: `bench_policy`
  (`opponent`), `ablations` (`variants`), on jobs `held_out`;
- `workers`, `remote`: other processes, for tasks and for objects that stay;
- `commands`, `cli`: what a shell sees; `config`, `errors`, `files`, `runs`, `seeding`, `columns`: for all.
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
