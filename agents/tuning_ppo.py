"""Stable-Baselines3's PPO as `PPOAgent` wants it: schedules of exploration, groups that start together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from rl_tuner.agents.group_buffer import GroupBuffer
from rl_tuner.agents.ppo_envs import actor_inputs, group_size_of, seen_as
from rl_tuner.agents.ppo_settings import PPOSettings, minibatch_size
from rl_tuner.agents.privileged import AsymmetricPolicy
from rl_tuner.agents.vec_adapter import VecAdapter


class TuningPPO(PPO):
    """PPO whose exploration may follow schedules, and whose rollouts start with every group in step.

    A group is in step when its members stand at the start of the same job. One whose job ended early is
    ahead of its group, in jobs that the others have not begun, and would be compared with nobody ever after;
    so groups that are not in step start a new job together before each rollout. "train/compared" tells the
    share of a rollout's decisions that had a baseline. By groups nothing is bootstrapped past a truncation.

    Args:
        policy, env: See `stable_baselines3.PPO`.
        gae_lambda: As there, or a function of the share of the training that remains.
        ent_coef: As there, or a function of the share of the training that remains.
        log_std: Log standard deviation of a Box action; learned from there, unless it is such a function.
        **kwargs: See `stable_baselines3.PPO`.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: VecEnv,
        *,
        gae_lambda: float | Schedule,
        ent_coef: float | Schedule,
        log_std: float | Schedule,
        **kwargs: Any,
    ) -> None:
        self.ent_schedule, self.lambda_schedule = FloatSchedule(ent_coef), FloatSchedule(gae_lambda)
        super().__init__(
            policy, env, gae_lambda=self.lambda_schedule(1.0), ent_coef=self.ent_schedule(1.0), **kwargs
        )
        self._log_std = log_std if callable(log_std) and hasattr(self.policy, "log_std") else None
        if self._log_std is not None:
            self.policy.log_std.requires_grad_(False)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """See `stable_baselines3.PPO`."""
        if isinstance(rollout_buffer, GroupBuffer) and rollout_buffer.apart.any():
            if isinstance(env.unwrapped, VecAdapter):
                env.set_options({"reset_mask": rollout_buffer.apart})
            self._last_obs = env.reset()  # type: ignore[assignment]
            self._last_episode_starts = np.ones(env.num_envs, np.bool_)
        remaining = 1.0 - self.num_timesteps / self._total_timesteps
        rollout_buffer.gae_lambda = self.lambda_schedule(remaining)
        if self._log_std is not None:
            self.policy.log_std.fill_(self._log_std(remaining))
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """See `stable_baselines3.PPO`."""
        self.ent_coef = self.ent_schedule(self._current_progress_remaining)
        super().train()
        self.logger.record("train/ent_coef", self.ent_coef)
        if isinstance(self.rollout_buffer, GroupBuffer):
            for figure in ("train/value_loss", "train/explained_variance"):  # there is no value function
                self.logger.name_to_value.pop(figure, None)
            self.logger.record("train/compared", self.rollout_buffer.compared)
            if self.rollout_buffer.critic is not None:
                self.logger.record("train/explained_variance", self.rollout_buffer.explained)


def build_ppo(venv: VecEnv, settings: PPOSettings, decisions: int | None) -> TuningPPO:
    """Untrained, as the settings say; draws its weights from the global random state.

    Args:
        venv: The environments, without memory or privileged facts.
        settings: What was asked for.
        decisions: See `PPOSettings.whole_rollout`.

    Raises:
        ConfigError: The settings do not fit the environments.
    """
    rollout = settings.whole_rollout(venv.num_envs, decisions)
    hidden = list(settings.hidden)
    networks: dict[str, Any] = {
        "net_arch": {"pi": hidden, "vf": [] if settings.grouped else hidden},
        "log_std_init": settings.log_std_init,
        "optimizer_kwargs": {"eps": 1e-5, "fused": True},  # a third quicker; eps as by default
    }
    if settings.privileged:
        networks["actor_inputs"] = actor_inputs(venv, settings.memory)
    model = TuningPPO(
        AsymmetricPolicy if settings.privileged else "MlpPolicy",
        seen_as(venv, settings.memory, settings.privileged),
        learning_rate=_line(settings.learning_rate, settings.learning_rate_end),
        n_steps=rollout.n_steps,
        batch_size=minibatch_size(settings.batch_size, rollout.n_steps, venv.num_envs, rollout.minibatches),
        n_epochs=rollout.n_epochs,
        gamma=settings.gamma,
        gae_lambda=_line(settings.gae_lambda, settings.gae_lambda_end),
        clip_range=settings.clip_range,
        ent_coef=_line(settings.ent_coef, settings.ent_coef_end),
        log_std=_line(settings.log_std_init, settings.log_std_end),
        policy_kwargs=networks,
        device="cpu",
        **(_by_groups(venv, settings, decisions or rollout.n_steps) if settings.grouped else {}),
    )
    if settings.grouped:
        torch.nn.init.zeros_(model.policy.value_net.weight)  # it stays so: every value is 0
    return model


def _by_groups(venv: VecEnv, settings: PPOSettings, decisions: int) -> dict[str, Any]:
    """What Stable-Baselines3's PPO is told for advantages relative to groups: there is no value network."""
    return {
        "rollout_buffer_class": GroupBuffer,
        "rollout_buffer_kwargs": {
            "group_size": settings.group_of(venv.num_envs, group_size_of(venv)),
            "clip": settings.advantage_clip,
            "critic": decisions if settings.advantages == "group_gae" else 0,
        },
        "normalize_advantage": False,  # they are scaled job by job
        "vf_coef": 0.0,
    }


def _line(start: float, end: float | None) -> float | Schedule:
    """From `start` to `end` over the training, in Stable-Baselines3's form."""
    return start if end is None else LinearSchedule(start, end, 1.0)
