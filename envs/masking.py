"""Self-supervised jobs: masked-autoencoder pretraining, then fine-tuning from it, in one episode.

He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), on rows of numbers: a share of each
sample's entries is hidden, and the network predicts these from the others. Its body then goes under a fresh
head, and is trained on the job itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import nn

from rl_tuner.config import require_range
from rl_tuner.envs.data import TensorPool, make_pool
from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.envs.weights import body_names
from rl_tuner.errors import ConfigError, JobError

Network = Callable[[int], nn.Module]
"""Number of outputs → a network on the job's inputs, its body the same whatever the number."""
ENOUGH, MOST_COPIES = 1024, 8
"""Fewer samples than that are masked several times, in as many ways as allowed, so that masks vary."""
KEPT = 32
"""So many splits' masked samples are held in memory, for jobs to come on the same data."""


def pretrained(
    job: TrainingJob,
    network: Network,
    share: float,
    seed: int,
    mask: float = 0.5,
    *,
    unlabelled: torch.Tensor | None = None,
) -> TrainingJob:
    """A job in two phases: `pretraining_job` on a share of the budget, then the job on its body.

    Args:
        job: What it is all for. Its model is ``network(outputs)``.
        network: Builds the network for a number of outputs.
        share: Of the job's budget that pretraining spends, in (0, 1).
        seed: Of the masks, >= 0.
        mask: See `pretraining_job`.
        unlabelled: See `pretraining_job`.

    Raises:
        ConfigError: A number is out of range, or the job has phases already.
        JobError: The job's inputs are no float rows.
        DatasetError: Its data are none.
    """
    require_range("share", share, 0, 1, above=True)
    if job.then:
        raise ConfigError(f"the job {job.name!r} has phases already: pretraining comes before one without")
    first = pretraining_job(job, network, seed, mask, unlabelled=unlabelled)
    budget = job.budget
    if budget is None:
        budget = max(1, round(job.epochs * len(_float_rows(job, "train"))))
    spent = max(1, round(share * budget))
    if spent >= budget:
        raise ConfigError(f"pretraining on {share:g} of a budget of {budget} leaves nothing for the job")
    fine_tune = partial(_fine_tune, job, network)
    return replace(first, budget=spent, then=(Phase(fine_tune, budget - spent),))


def pretraining_job(
    job: TrainingJob,
    network: Network,
    seed: int,
    mask: float = 0.5,
    *,
    unlabelled: torch.Tensor | None = None,
) -> TrainingJob:
    """The job of predicting hidden entries of a job's inputs, with its optimizer, start values and budget.

    Inputs have zeros (the mean of what is standardized) where entries are hidden, and targets NaN where they
    are not: the loss is "masked_mse". The masks are drawn once, for the validation inputs too; where samples
    are few each is there several times, masked in other ways.

    Args:
        job: Whose inputs, in train and validation, are float rows of shape (n, d).
        network: Builds the network for a number of outputs.
        seed: Of the masks, >= 0.
        mask: Share of each sample's entries that are hidden, in (0, 1); at least one is, at least one is not.
        unlabelled: Inputs trained on instead of the job's own, shape (m, d): there may be more of them.

    Raises:
        ConfigError: A number is out of range.
        JobError: The inputs are no float rows, or of a single column.
        DatasetError: The job's data are none.
    """
    require_range("mask", mask, 0, 1 - 1e-9, above=True)
    require_range("seed", seed, 0)
    train = _float_rows(job, "train")
    if unlabelled is not None:
        if unlabelled.ndim != 2 or len(unlabelled) == 0 or unlabelled.shape[1:] != train.shape[1:]:
            raise JobError(
                f"unlabelled inputs must be rows like the job's, (m, {train.shape[1]}), "
                f"got {tuple(unlabelled.shape)}"
            )
        train = unlabelled.to(train.dtype)
    validation = None if job.validation is None else _masked(_float_rows(job, "validation"), seed, 1, mask)
    return replace(
        job,
        model=partial(network, train.shape[1]),
        train=_masked(train, seed, 0, mask),
        validation=validation,
        test=None,
        task="regression",
        loss="masked_mse",
        start={name: value for name, value in job.start.items() if name != "label_smoothing"},
    )


def _float_rows(job: TrainingJob, split: str) -> torch.Tensor:
    """A split's inputs, shape (n, d)."""
    pool = make_pool(getattr(job, split), torch.device("cpu"), split)
    if not isinstance(pool, TensorPool):
        raise JobError(f"the {split} samples of {job.name!r} are fetched one by one: masking needs tensors")
    inputs = pool.inputs
    if inputs.ndim != 2 or not inputs.is_floating_point() or inputs.shape[1] < 2:
        raise JobError(
            f"masking needs float inputs (n, d >= 2), the {split} samples of {job.name!r} are "
            f"{inputs.dtype} of shape {tuple(inputs.shape)}"
        )
    return inputs


@lru_cache(maxsize=KEPT)  # a tensor is found again by identity: the same samples are one pool for all jobs
def _masked(inputs: torch.Tensor, seed: int, part: int, mask: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Masked inputs and targets, shape (copies · n, d).

    Args:
        inputs: Shape (n, d).
        seed: Of the masks.
        part: Number of the split; each has masks of its own.
        mask: Share of a sample's entries that are hidden.
    """
    copies = min(MOST_COPIES, -(-ENOUGH // len(inputs)))
    rows = inputs.repeat(copies, 1)
    count = min(max(1, round(mask * rows.shape[1])), rows.shape[1] - 1)
    noise = np.random.default_rng([seed, part]).random(tuple(rows.shape), np.float32)
    hidden = torch.zeros(rows.shape, dtype=torch.bool)
    hidden.scatter_(1, torch.from_numpy(noise.argpartition(count - 1, axis=1)[:, :count].copy()), True)
    hidden = hidden.to(rows.device)
    return rows.masked_fill(hidden, 0.0), rows.masked_fill(~hidden, float("nan"))


def _fine_tune(job: TrainingJob, network: Network, trained: nn.Module) -> TrainingJob:
    """The job on the trained network's body.

    Raises:
        JobError: The network has no head (nothing in it depends on the number of outputs), or nothing else.
    """
    tensors = trained.state_dict()
    # By shape alone a head would be taken for the body where the job has as many outputs as columns.
    names = body_names(network, _float_rows(job, "train").shape[1])
    body = {name: tensor for name, tensor in tensors.items() if name in names}
    if not 0 < len(body) < len(tensors):
        raise JobError(
            f"the network of {job.name!r} must be a body and a head, the head's shape given by the number of "
            f"outputs; of its {len(tensors)} tensors {len(body)} do not depend on it"
        )
    return replace(job, weights=body)
