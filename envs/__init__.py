"""Training jobs as Gymnasium environments. Importing this registers ``rl_tuner/Tuning-v0``.

Where jobs come from:

- `jobs`: a job, anybody's model, data and optimizer; `losses` and `regularizers` by name, `weights` it starts
  from, `phases` that follow one another in an episode, `masking` (self-supervised pretraining first);
- `suites` (`suite_files`, `leakage`) → `families` → `job_specs`: distributions over jobs, by split;
- `architectures` → `models`, `rating_models` (`sequence_layers`, `joint_layers`): networks by name;
- `datasets`: data by name, from `real_tables`, `teachers`, and `*_sets` of images, sounds, texts, ratings;
- `loaders`: users' own data, from `tables` (`table_files`, `npz_files`, `encoding`), `idx_files`,
  `image_folders`, `wav_folders` (`class_folders`), `text_files`, `rating_files`, `remote_data` (`reading`);
- `samples` → `data`: any of these, split, made harder (`difficulty`), scaled (`preprocessing`).

One job: `tuning_env` on `engine`, the plain PyTorch loop; `tuning_free` (`hypergradient`): optimizers that
need no tuning in place of the job's own. Many jobs, from the outside in:

- `parallel_env` (`env_parts`, in processes) → `vector_env` (`vector_requests`, `vector_info`) → `slots`,
  `slot_rngs`, `privileged_facts` (what only a critic sees);
- `batched_engine` → `allocation`, `seats`: which job trains where, on `engine` if it cannot be batched;
- `group`: the jobs of one architecture, in `rows` of weights and optimizer state, samples in an `arena`;
- `rounds` after a `plan`, or `uniform` (`ticks`, `block`, `programs`, `compiling`): the inner loop;
- `stacked` (`stacked_layers`, `leaf_rules`, `dropout`), `row_losses`, `update_rules` (`torch_rules`): parts;
- `stack_check`, `signatures`: what makes it safe to batch a stranger's module.
"""

import gymnasium as gym

from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.envs.parallel_env import ParallelTuningEnv
from rl_tuner.envs.suites import Mixture, Suite, load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv

__all__ = [
    "JobFamily",
    "JobSpec",
    "Mixture",
    "ParallelTuningEnv",
    "Phase",
    "Suite",
    "TrainingJob",
    "TuningEnv",
    "VectorTuningEnv",
    "load_suite",
]

gym.register(
    id="rl_tuner/Tuning-v0",
    entry_point="rl_tuner.envs.tuning_env:TuningEnv",
    vector_entry_point="rl_tuner.envs.vector_env:VectorTuningEnv",
)
