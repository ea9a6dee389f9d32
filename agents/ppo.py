"""PPO, by Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Self, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from rl_tuner.agents.agent import Agent, Callback, TuningSpaces
from rl_tuner.agents.feature_selection import FeatureSelection
from rl_tuner.agents.group_buffer import GroupBuffer
from rl_tuner.agents.group_critic import GroupCritic
from rl_tuner.agents.ppo_envs import SelectedColumns, tuning_spaces, vectorized
from rl_tuner.agents.ppo_monitor import EpisodeMonitor
from rl_tuner.agents.ppo_settings import PPOSettings
from rl_tuner.agents.private_rng import PrivateRNG
from rl_tuner.agents.tuning_ppo import build_ppo
from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.policies import MLPPolicy


class PPOAgent(Agent):
    """Proximal policy optimization; actor and critic have a network each, no shared layers.

    Schulman et al., 2017, "Proximal Policy Optimization Algorithms". The defaults suit episodes of about
    20 decisions whose returns differ more between jobs than between actions. Global random state is as it
    was after each call.

    With ``advantages="group"`` there is no value network. Environments side by side run the same jobs (same
    data, initial weights, batch order), and a decision's advantage is its return-to-go against the mean of
    its group's, in units of the job's scale (`rl_tuner.agents.group_buffer.group_advantages`). A group whose
    members do not end together starts a new job before the next rollout; what was under way is dropped.

    Args:
        env: A Gymnasium environment, a Gymnasium vector environment that resets in the same step (see
            `VecAdapter`), or a Stable-Baselines3 `VecEnv`; observations a Box of shape (F,), actions Box,
            Discrete or MultiDiscrete.
        learning_rate: Of Adam, > 0.
        learning_rate_end: The learning rate goes to this, >= 0, on a line over the steps of `fit`: at an
            update it is as far as the share of the steps done by then. None for a constant one.
        n_steps: Steps of each environment between two updates, >= 2; None for `rollout_settings`'.
        batch_size: Of the minibatches, >= 2; must divide n_steps times the number of environments. None for
            as many minibatches as in `rollout_settings`, or else the nearest larger number that divides.
        n_epochs: Passes over what was collected, at each update; None for `rollout_settings`'.
        gamma: Discount, in [0, 1].
        gae_lambda: λ of generalized advantage estimation, in [0, 1]; not for "group".
        gae_lambda_end: λ goes to this, in [0, 1], as the learning rate does to its end.
        clip_range: Clipping of the probability ratio, > 0.
        ent_coef: Weight of the entropy bonus, >= 0.
        ent_coef_end: The weight of the entropy bonus goes to this, as the learning rate does to its end.
        hidden: Units of the hidden layers (tanh), of actor and critic each.
        log_std_init: Log standard deviation of a Box action at the start.
        log_std_end: It goes to this, as the learning rate does to its end, and is not learned. None to learn
            it.
        advantages: "gae", generalized advantage estimation with a learned value function; "group"; or
            "group_gae", such estimation within the group, with a linear critic of how its members differ
            (`rl_tuner.agents.group_critic`).
        group_size: With groups: so many environments side by side are compared, >= 2. None for the
            environment's own `group_size`, which this must divide.
        advantage_clip: With groups: advantages are clipped to ± this, > 0.
        memory: The networks read so many of the last observations, >= 1, the oldest first, zeros before the
            episode's start (`VecFrameStack`); so does the policy.
        privileged: The value network also reads what the environment's method ``privileged()`` tells of the
            jobs; neither the actor nor the policy file does. See `rl_tuner.agents.privileged`.
        features: Names of those that actor and value network read, and so the policy; None for all.
        seed: Of weights, exploration and episodes.

    Raises:
        ConfigError: An argument is out of range, a space is of another kind, or the environment has no
            groups, no privileged facts or no features of those names where they are wanted.
    """

    name = "ppo"

    def __init__(  # noqa: PLR0913 (each one a public setting of the agent)
        self,
        env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv,
        *,
        learning_rate: float = 1e-3,
        learning_rate_end: float | None = None,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int | None = None,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        gae_lambda_end: float | None = None,
        clip_range: float = 0.2,
        ent_coef: float = 0.0,
        ent_coef_end: float | None = None,
        hidden: Sequence[int] = (64, 64),
        log_std_init: float = -1.0,
        log_std_end: float | None = None,
        advantages: str = "gae",
        group_size: int | None = None,
        advantage_clip: float = 3.0,
        memory: int = 1,
        privileged: bool = False,
        features: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        venv = vectorized(env)
        super().__init__(tuning_spaces(venv), seed)
        self.settings = PPOSettings(
            learning_rate=learning_rate,
            learning_rate_end=learning_rate_end,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            gae_lambda_end=gae_lambda_end,
            clip_range=clip_range,
            ent_coef=ent_coef,
            ent_coef_end=ent_coef_end,
            hidden=tuple(hidden),
            log_std_init=log_std_init,
            log_std_end=log_std_end,
            advantages=advantages,
            group_size=group_size,
            advantage_clip=advantage_clip,
            memory=memory,
            privileged=privileged,
        )
        decisions = self.tuning.config.decisions if self.tuning else None
        self._read = FeatureSelection(self.tuning, features, int(venv.observation_space.shape[0]))  # type: ignore[index]
        if self._read.names is not None:
            venv = SelectedColumns(venv, self._read)
        self._rng = PrivateRNG(self._episode_seed(0))
        with self._rng:
            self.model = build_ppo(venv, self.settings, decisions)
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
        """The mean, or likeliest, action; clipped to the action space.

        Args:
            observation: The environment's, with all of its features. With a memory the last `memory`
                ones, oldest first, with zeros before the episode's start: shape (memory * F,).

        Raises:
            ConfigError: It has another shape.
        """
        seen = np.asarray(observation, dtype=np.float32)
        read = self._read.of(seen, self.settings.memory)
        unknown = self.model.observation_space.shape[0] - read.shape[-1]  # type: ignore[index]
        padded = np.concatenate([read, np.zeros((*read.shape[:-1], unknown), np.float32)], axis=-1)
        return self.model.predict(padded, deterministic=True)[0]

    def get_state(self) -> dict[str, Any]:
        """See `Agent.get_state`; the state after the last update, also from within a callback."""
        return deepcopy(self._checkpoint)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Agent.set_state`. Learning goes on with new episodes."""
        self._check_state(state)
        self._read.require_same(state)
        if self._critic is not None:
            if state.get("critic") is None:
                raise ConfigError("the state has no critic: it was not learned with advantages='group_gae'")
            self._critic.check_state(state["critic"])
        try:
            self.model.policy.load_state_dict(state["policy"])
        except RuntimeError as error:
            # What fitted has been copied already.
            self.model.policy.load_state_dict(self._checkpoint["policy"])
            raise ConfigError(f"the state is of another network or environment: {error}") from error
        if self._critic is not None:
            self._critic.set_state(state["critic"])
        self.model.policy.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self.steps = self.model.num_timesteps = state["steps"]
        self.episodes = state["episodes"]
        self._rng.set_state(state["rng"])
        self._checkpoint = deepcopy(dict(state))

    @property
    def _critic(self) -> GroupCritic | None:
        """What learns beside a group's advantages, if anything does."""
        buffer = self.model.rollout_buffer
        return buffer.critic if isinstance(buffer, GroupBuffer) else None

    def _new_episodes(self) -> None:
        """Gives the environments seeds of their own for this stretch, and has them reset."""
        venv = self.model.get_env()
        assert venv is not None  # noqa: S101 (for the type checker: the constructor set it)
        venv.seed(self._episode_seed(1 + self.steps))
        self.model.set_env(venv)
        self.model.rollout_buffer.reset()

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
            "critic": None if self._critic is None else self._critic.get_state(),
            "rng": rng,
            "features": self._read.state,
        }

    def _learned(self, tuning: TuningSpaces, provenance: Mapping[str, Any]) -> MLPPolicy:
        policy = self.model.policy
        linear = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
        linear.append(cast("torch.nn.Linear", policy.action_net))
        layers = [(m.weight.detach().clone(), m.bias.detach().clone()) for m in linear]
        return MLPPolicy(
            tuning.space,
            tuning.actions.kind,
            tuning.config,
            self._read.names or tuning.feature_names,
            provenance,
            layers,
            "tanh",
            memory=self.settings.memory,
        )
