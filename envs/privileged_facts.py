"""What a critic may know of a job and a policy may not: facts that the observation keeps out.

Observations are scale-free, so that a policy means the same on another model, optimizer or budget; how long a
training is to be they tell within bounds only. How much return a job has to give depends on just these
things; a critic that is thrown away after learning may know.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.seats import Seat

USUAL_LR = 1e-3
"""Learning rates of an optimizer that `SANE_LR` does not name are compared to this one, Adam's."""
PRIVILEGED_NAMES: tuple[str, ...] = (
    "lr_over_usual",  # log10 of the start learning rate over the optimizer's usual one
    "budget",  # log10 of the training samples that it may use
    "train_samples",  # log10 of those there are
    "parameters",  # log10 of the network's number of weights
    "batch_size",  # log2 of the start batch size
    "validation",  # 1 if it has validation samples
    "phases",  # number of phases of the episode
    *(f"optimizer_{name}" for name in OPTIMIZERS),  # 1 for its own; all 0 for one without a name
)
"""Names of the privileged facts, in order; P of them."""


def privileged_facts(seat: Seat, phases: int) -> NDArray[np.float32]:
    """The facts of a job, as it starts: of the phase that runs, if its episode has several.

    Args:
        seat: Where it trains.
        phases: How many the episode has, >= 1.

    Returns:
        Shape (P,), finite.
    """
    job, start = seat.job, seat.start
    usual = SANE_LR.get(job.optimizer, USUAL_LR) if isinstance(job.optimizer, str) else USUAL_LR
    facts = [
        np.log10(start["lr"] / usual),
        np.log10(seat.budget),
        np.log10(seat.sampler.size),
        np.log10(seat.parameters),
        np.log2(start["batch_size"]),
        job.validation is not None,
        phases,
        *(name == job.optimizer for name in OPTIMIZERS),
    ]
    return np.array(facts, np.float32)
