"""What learns policies. Agents are given environments; they are imported on first use.

`QLearning` and `Sarsa` keep tables and need NumPy only; `PPOAgent` stands on Stable-Baselines3;
`EvolutionStrategy` searches the weights of the same network by torch alone.

- `agent`: what all share. `temporal_difference` → `tabular`: tables (`layout`, `discretizer`, `factored`,
  `experience`, `vector_steps`);
- `ppo` (`ppo_settings`, `ppo_monitor`, `private_rng`) → `tuning_ppo`: Stable-Baselines3's PPO; its
  advantages by groups (`groups` → `group_critic` → `group_buffer`), its critic that sees more
  (`privileged`), its environments (`ppo_envs`, `vec_adapter`, `feature_selection`);
- `evolution` (`mirrored`, `member_networks`, `member_episodes`): a population of networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl_tuner.agents.agent import Agent, EpisodeSummary
    from rl_tuner.agents.evolution import EvolutionStrategy
    from rl_tuner.agents.ppo import PPOAgent
    from rl_tuner.agents.temporal_difference import QLearning, Sarsa

__all__ = ["Agent", "EpisodeSummary", "EvolutionStrategy", "PPOAgent", "QLearning", "Sarsa"]

_LAZY = {
    "Agent": "rl_tuner.agents.agent",
    "EpisodeSummary": "rl_tuner.agents.agent",
    "EvolutionStrategy": "rl_tuner.agents.evolution",
    "PPOAgent": "rl_tuner.agents.ppo",
    "QLearning": "rl_tuner.agents.temporal_difference",
    "Sarsa": "rl_tuner.agents.temporal_difference",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'rl_tuner.agents' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
