"""PPO, by Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Any, Self, cast

import gymnasium as gym
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from rl_tuner.agents.agent import Agent, Callback, TuningSpaces, changing_wrappers
from rl_tuner.agents.ppo_monitor import EpisodeMonitor
from rl_tuner.agents.ppo_settings import minibatch_size, rollout_settings
from rl_tuner.agents.private_rng import PrivateRNG
from rl_tuner.agents.vec_adapter import VecAdapter
from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import MLPPolicy


class PPOAgent(Agent):
    """Proximal policy optimization; actor and critic have a network each, no shared layers.

    Schulman et al., 2017, "Proximal Policy Optimization Algorithms". The defaults suit episodes of about
    20 decisions whose returns differ more between jobs than between actions. Global random state is as it
    was after each call.

    Args:
        env: A Gymnasium environment, a Gymnasium vector environment that resets in the same step (see
            `VecAdapter`), or a Stable-Baselines3 `VecEnv`; observations a Box of shape (F,), actions Box,
            Discrete or MultiDiscrete.
        learning_rate: Of Adam, > 0.
        n_steps: Steps of each environment between two updates, >= 2; None for `rollout_settings`'.
        batch_size: Of the minibatches, >= 2; must divide n_steps times the number of environments. None for
            as many minibatches as in `rollout_settings`, or else the nearest larger number that divides.
        n_epochs: Passes over what was collected, at each update; None for `rollout_settings`'.
        gamma: Discount, in [0, 1].
        gae_lambda: λ of generalized advantage estimation, in [0, 1].
        clip_range: Clipping of the probability ratio, > 0.
        ent_coef: Weight of the entropy bonus, >= 0.
        hidden: Units of the hidden layers (tanh), of actor and critic each.
        log_std_init: Log standard deviation of a Box action at the start.
        seed: Of weights, exploration and episodes.

    Raises:
        ConfigError: An argument is out of range, or a space is of another kind.
    """

    name = "ppo"

    def __init__(  # noqa: PLR0913 (each one a public setting of the agent)
        self,
        env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv,
        *,
        learning_rate: float = 1e-3,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int | None = None,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        clip_range: float = 0.2,
        ent_coef: float = 0.0,
        hidden: Sequence[int] = (64, 64),
        log_std_init: float = -1.0,
        seed: int = 0,
    ) -> None:
        venv = _vectorized(env)
        super().__init__(_tuning_spaces(venv), seed)
        suited = rollout_settings(venv.num_envs)
        n_steps = suited.n_steps if n_steps is None else n_steps
        n_epochs = suited.n_epochs if n_epochs is None else n_epochs
        require_range("learning_rate", learning_rate, 0, above=True)
        require_range("n_epochs", n_epochs, 1)
        require_range("gamma", gamma, 0, 1)
        require_range("gae_lambda", gae_lambda, 0, 1)
        require_range("clip_range", clip_range, 0, above=True)
        require_range("ent_coef", ent_coef, 0)
        _check(venv, n_steps)
        batch_size = minibatch_size(batch_size, n_steps, venv.num_envs, suited.minibatches)
        self._rng = PrivateRNG(self._episode_seed(0))
        with self._rng:
            self.model = PPO(
                "MlpPolicy",
                venv,
                learning_rate=learning_rate,
                n_steps=n_steps,
                batch_size=batch_size,
                n_epochs=n_epochs,
                gamma=gamma,
                gae_lambda=gae_lambda,
                clip_range=clip_range,
                ent_coef=ent_coef,
                policy_kwargs={
                    "net_arch": list(hidden),
                    "log_std_init": log_std_init,
                    "optimizer_kwargs": {"eps": 1e-5, "fused": True},  # a third quicker; eps as by default
                },
                device="cpu",
            )
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self._checkpoint = self._capture(0, self._rng.get_state())

    def fit(self, steps: int, callback: Callback | None = None) -> Self:
        """See `Agent.fit`; whole rollouts of n_steps times the number of environments.

        Each call starts with new episodes. What a stopped (or interrupted) fit had collected since its
        last update is dropped: the agent is then as it was after that update.
        """
        require_range("steps", steps, 0)
        if self.steps >= steps:
            return self
        monitor = EpisodeMonitor(self.episodes, callback, self._updated)
        try:
            with self._rng:
                self._new_episodes()
                self.model.learn(steps - self.steps, callback=monitor, reset_num_timesteps=False)
                if not monitor.stopped:
                    self._updated(monitor.episodes)
        finally:
            self.set_state(self._checkpoint)
        return self

    def act(self, observation: NDArray[Any] | int) -> Any:
        """The mean, or likeliest, action; clipped to the action space."""
        return self.model.predict(observation, deterministic=True)[0]  # type: ignore[arg-type]

    def get_state(self) -> dict[str, Any]:
        """See `Agent.get_state`; the state after the last update, also from within a callback."""
        return deepcopy(self._checkpoint)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Agent.set_state`. Learning goes on with new episodes."""
        self._check_state(state)
        try:
            self.model.policy.load_state_dict(state["policy"])
        except RuntimeError as error:
            raise ConfigError(f"the state is of another network or environment: {error}") from error
        self.model.policy.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self.steps = self.model.num_timesteps = state["steps"]
        self.episodes = state["episodes"]
        self._rng.set_state(state["rng"])
        self._checkpoint = deepcopy(dict(state))

    def _new_episodes(self) -> None:
        """Gives the environments seeds of their own for this stretch, and has them reset."""
        venv = self.model.get_env()
        assert venv is not None  # noqa: S101 (for the type checker: the constructor set it)
        venv.seed(self._episode_seed(1 + self.steps))
        self.model.set_env(venv)

    def _updated(self, episodes: int) -> None:
        """Keeps what was learned up to here."""
        self.steps, self.episodes = self.model.num_timesteps, episodes
        self._checkpoint = self._capture(episodes, PrivateRNG.running())

    def _capture(self, episodes: int, rng: dict[str, Any]) -> dict[str, Any]:
        return {
            "agent": self.name,
            "steps": self.model.num_timesteps,
            "episodes": episodes,
            "policy": deepcopy(dict(self.model.policy.state_dict())),
            "optimizer": deepcopy(self.model.policy.optimizer.state_dict()),
            "rng": rng,
        }

    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> MLPPolicy:
        policy = self.model.policy
        linear = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
        linear.append(cast("torch.nn.Linear", policy.action_net))
        layers = [(m.weight.detach().clone(), m.bias.detach().clone()) for m in linear]
        return MLPPolicy(
            tuning.space, tuning.actions.kind, tuning.config, tuning.feature_names, provenance, layers, "tanh"
        )


def _vectorized(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv) -> VecEnv:
    if isinstance(env, VecEnv):
        return env
    if isinstance(env, VectorEnv):
        return VecAdapter(env)
    return DummyVecEnv([lambda: env])


def _tuning_spaces(venv: VecEnv) -> TuningSpaces | None:
    if isinstance(venv, VecNormalize | VecFrameStack):
        return None
    try:
        if any(any(venv.env_is_wrapped(wrapper)) for wrapper in changing_wrappers()):
            return None
    except NotImplementedError:  # nobody can tell what stands before them
        return None
    names = [f.name for f in fields(TuningSpaces)]
    if not all(venv.has_attr(name) for name in names):
        return None
    return TuningSpaces(*(venv.get_attr(name, [0])[0] for name in names))


def _check(venv: VecEnv, n_steps: int) -> None:
    """Raises a `ConfigError` where Stable-Baselines3 would only warn, or fail later."""
    box, actions = venv.observation_space, venv.action_space
    if not isinstance(box, spaces.Box) or len(box.shape) != 1:
        raise ConfigError(f"PPOAgent needs Box observations of shape (F,), got {box}")
    if not isinstance(actions, spaces.Box | spaces.Discrete | spaces.MultiDiscrete):
        raise ConfigError(f"PPOAgent needs Box, Discrete or MultiDiscrete actions, got {actions}")
    require_range("n_steps", n_steps, 2)
