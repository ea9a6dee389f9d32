"""A critic that knows more than the actor: privileged facts help to learn, and are not needed to act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import nn

from rl_tuner.errors import ConfigError


class PrivilegedColumns(VecEnvWrapper):
    """Appends the environment's privileged facts to the observations.

    Args:
        venv: Observations of shape (F,); its environment has a method ``privileged()`` that gives facts of
            the jobs that now run in all slots, float32 of shape (slots, P) and finite, of the same P also
            before the first reset.

    Attributes:
        inputs: F, the columns that are not privileged.

    Raises:
        ConfigError: The environment has no such method, or it gives something else.
    """

    def __init__(self, venv: VecEnv) -> None:
        if not venv.has_attr("privileged"):
            raise ConfigError(
                "privileged=True needs a vector environment with a method privileged(), such as "
                "VectorTuningEnv: this one tells no privileged facts"
            )
        self._tell = venv.get_attr("privileged", [0])[0]
        self._told = np.asarray(self._tell())
        if self._told.ndim != 2 or len(self._told) != venv.num_envs:
            raise ConfigError(
                f"privileged() must give an array of shape ({venv.num_envs}, P), got {self._told.shape}"
            )
        box = venv.observation_space
        assert isinstance(box, spaces.Box)  # noqa: S101 (for the type checker: PPOAgent looked)
        self.inputs = box.shape[0]
        unbounded = np.full(self._told.shape[1], np.inf, np.float32)
        low, high = np.concatenate([box.low, -unbounded]), np.concatenate([box.high, unbounded])
        super().__init__(venv, observation_space=spaces.Box(low, high, dtype=np.float32))

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`; observations of shape (slots, F + P)."""
        return self._with_columns(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`; a terminal observation has the facts of the job that ended."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones).tolist():
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = np.concatenate(
                    [infos[i]["terminal_observation"], self._told[i]]
                )
        return self._with_columns(observations), rewards, dones, infos

    def _with_columns(self, observations: Any) -> NDArray[np.float32]:
        self._told = np.array(self._tell(), dtype=np.float32)
        return np.concatenate([observations, self._told], axis=1)


class AsymmetricExtractor(nn.Module):
    """Networks of actor and critic, of which the actor's reads only the first columns.

    Args:
        actor_inputs: So many columns the actor reads.
        inputs: So many there are, all of which the critic reads.
        net_arch: Units of the hidden layers of the actor, "pi", and of the critic, "vf".
        activation: Between layers.
    """

    def __init__(
        self,
        actor_inputs: int,
        inputs: int,
        net_arch: Mapping[str, Sequence[int]],
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        actor, critic = list(net_arch["pi"]), list(net_arch["vf"])
        self.actor_inputs = actor_inputs
        self.policy_net = nn.Sequential(*create_mlp(actor_inputs, -1, actor, activation))
        self.value_net = nn.Sequential(*create_mlp(inputs, -1, critic, activation))
        self.latent_dim_pi = [actor_inputs, *actor][-1]
        self.latent_dim_vf = [inputs, *critic][-1]

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of both, for features of shape (batch, inputs)."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """The actor's outputs, shape (batch, latent_dim_pi)."""
        out: torch.Tensor = self.policy_net(features[:, : self.actor_inputs])
        return out

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """The critic's outputs, shape (batch, latent_dim_vf)."""
        out: torch.Tensor = self.value_net(features)
        return out


class AsymmetricPolicy(ActorCriticPolicy):
    """Actor and critic of which only the critic sees the last columns of an observation.

    Pinto et al., 2018, "Asymmetric Actor Critic for Image-Based Robot Learning" (arXiv 1710.06542).

    Args:
        *args: See `ActorCriticPolicy`.
        actor_inputs: See `AsymmetricExtractor`.
        **kwargs: See `ActorCriticPolicy`; `net_arch` is a mapping with "pi" and "vf".
    """

    def __init__(self, *args: Any, actor_inputs: int, **kwargs: Any) -> None:
        self.actor_inputs = actor_inputs
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.net_arch, dict)  # noqa: S101 (for the type checker: we alone make it)
        self.mlp_extractor = AsymmetricExtractor(  # type: ignore[assignment]
            self.actor_inputs, self.features_dim, self.net_arch, self.activation_fn
        )
