"""Evolution strategies' arithmetic: mirrored perturbations, fitness ranked per job, the gradient's estimate.

Shapes: J jobs, each played by all P members of a population, P even; n weights. Members p and p + P/2 are a
mirrored pair.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def mirrored(weights: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """The members' weights ``θ ± σ ε``.

    Brockhoff et al., 2010, "Mirrored Sampling and Sequential Selection for Evolution Strategies".

    Args:
        weights: θ, shape (n,).
        noise: ε, shape (P/2, n), standard normal.
        sigma: Standard deviation of the perturbations, > 0.

    Returns:
        Shape (P, n): first all with +, then all with −.
    """
    return torch.cat([weights + sigma * noise, weights - sigma * noise])


def centred_ranks(returns: Floats) -> Floats:
    """Each job's returns as ranks on [-0.5, 0.5], equal ones sharing theirs; so each job counts alike.

    Fitness shaping as in Salimans et al., 2017, "Evolution Strategies as a Scalable Alternative to
    Reinforcement Learning", section 2.1, but within a job: what one job gives more than another says nothing
    of the members.

    Args:
        returns: Shape (J, P), P >= 2; a return that is NaN is the worst.

    Returns:
        Shape (J, P); each row sums to 0, and is all 0 where all members did equally well.
    """
    ranks: Floats = rankdata(np.where(np.isnan(returns), -np.inf, returns), axis=-1)
    centred: Floats = (ranks - 1) / (returns.shape[-1] - 1) - 0.5
    return centred


def gradient(utilities: Floats, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """An estimate of the gradient of ``E u(θ + σ ε)``: ``mean over jobs and pairs of (u₊ − u₋) ε / 2σ``.

    Salimans et al., 2017, equation 1 of section 2, with mirrored pairs: whatever is even in ε cancels.

    Args:
        utilities: u, shape (J, P), in the order of `mirrored`.
        noise: ε, shape (P/2, n).
        sigma: Standard deviation of the perturbations, > 0.

    Returns:
        Shape (n,).
    """
    ahead, behind = np.split(utilities, 2, axis=-1)
    slopes = torch.from_numpy((ahead - behind).mean(axis=0) / (2 * sigma)).to(noise)
    return slopes @ noise / len(noise)
