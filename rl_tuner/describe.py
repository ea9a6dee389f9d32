"""Why a policy acts as it does, in words: a table's strongest rules, a network's sensitivities.

Everything is said over *visits*: observations that the policy itself met on jobs of a suite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.features import FeatureSet
from rl_tuner.frame_stack import FrameStack
from rl_tuner.policies import NetworkPolicy, QTablePolicy, greedy
from rl_tuner.policy import LearnedPolicy
from rl_tuner.wording import advice, condition, feature_words, move

STAGES = ("early", "middle", "late")
HELD = 0.02
"""A continuous action below this fraction of the step counts as none."""


@dataclass(frozen=True, slots=True)
class Visits:
    """What a policy saw and did over some jobs, n decisions in all.

    Attributes:
        observations: Shape (n, F).
        fractions: The actions as fractions of the step, shape (n, D).
        decisions: The number of each decision in its episode, from 0, shape (n,).
        stages: Which third of its episode's decisions each one falls in: 0, 1 or 2, shape (n,).
        jobs: Number of jobs.
        where: Suite and split.
    """

    observations: NDArray[np.float32]
    fractions: NDArray[np.float64]
    decisions: NDArray[np.int64]
    stages: NDArray[np.int64]
    jobs: int
    where: str


@dataclass(frozen=True, slots=True)
class Habit:
    """What a policy does with one hyperparameter, on average over the visits whose job has it.

    Attributes:
        hyperparameter: Its name.
        raised, held, lowered: Shares of the decisions, summing to 1; all NaN if no job had it.
        moves: Mean action, as a fraction of the step, in each of `STAGES`; NaN where never visited.
        text: `moves` in words.
    """

    hyperparameter: str
    raised: float
    held: float
    lowered: float
    moves: tuple[float, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of a table in which the greedy choice is to change something.

    Attributes:
        hyperparameter: What is changed.
        when: The row's bins, in words; none if it is always so.
        action: The choice, in words.
        gap: Value of the choice minus the value of no change, in the reward's unit, >= 0.
        share: Share of the visits that fall in the row, in (0, 1].
    """

    hyperparameter: str
    when: tuple[str, ...]
    action: str
    gap: float
    share: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How one action answers to one feature.

    Attributes:
        hyperparameter: What the action moves.
        feature: The feature's name.
        words: The same in words.
        slope: Mean change of the action, as a fraction of the step, for one standard deviation of the
            feature (over the visits) more of it.
    """

    hyperparameter: str
    feature: str
    words: str
    slope: float


def visit(
    policy: LearnedPolicy,
    *,
    suite: str,
    split: str = "train",
    jobs: int = 8,
    seed: int = 0,
    on_job: Callable[[int], object] | None = None,
) -> Visits:
    """Runs a policy on jobs of a suite and keeps what it saw and did.

    Args:
        policy: What acts.
        suite: See `rl_tuner.envs.TuningEnv`.
        split: See `rl_tuner.envs.TuningEnv`.
        jobs: Number of jobs.
        seed: The jobs have the seeds seed, seed + 1, ….
        on_job: Called with the number of jobs done.
    """
    env = TuningEnv.for_policy(policy, suite=suite, split=split)
    observations, fractions, decisions = [], [], []
    for job in range(jobs):
        policy.reset(seed + job)
        observation, _ = env.reset(seed=seed + job)
        terminated, decision = False, 0
        while not terminated:
            action = policy.act(observation)
            observations.append(observation)
            fractions.append(policy.actions.fraction(action))
            decisions.append(decision)
            observation, _, terminated, _, _ = env.step(action)
            decision += 1
        if on_job is not None:
            on_job(job + 1)
    where = f"suite {suite}, {split} split"
    numbers = np.array(decisions)
    stages = numbers * len(STAGES) // policy.config.decisions
    return Visits(np.array(observations), np.array(fractions), numbers, stages, jobs, where)


def habits(policy: LearnedPolicy, visits: Visits) -> tuple[Habit, ...]:
    """What the policy does with each hyperparameter on average."""
    names = FeatureSet(policy.space).names
    found = []
    for d, h in enumerate(policy.space.hyperparameters):
        has = visits.observations[:, names.index(f"{h.name}_available")] > 0.5
        moves, stages = visits.fractions[has, d], visits.stages[has]
        means = tuple(_mean(moves[stages == stage]) for stage in range(len(STAGES)))
        found.append(
            Habit(
                hyperparameter=h.name,
                raised=_mean(moves > HELD),
                held=_mean(np.abs(moves) <= HELD),
                lowered=_mean(moves < -HELD),
                moves=means,
                text=", ".join(
                    f"{stage} {move(h, mean)}"
                    for stage, mean in zip(STAGES, means, strict=True)
                    if np.isfinite(mean)
                ),
            )
        )
    return tuple(found)


def rules(policy: QTablePolicy, visits: Visits) -> tuple[Rule, ...]:
    """The rules by which the table changes something, the weightiest (gap times share) first.

    Rows never met in the visits are left out, as are visits whose job lacks the hyperparameter.
    """
    names = FeatureSet(policy.space).names
    seen = policy.read(visits.observations)
    found = []
    for d, h in enumerate(policy.space.hyperparameters):
        has = visits.observations[:, names.index(f"{h.name}_available")] > 0.5
        rows, counts = np.unique([policy.binnings[d].row(row) for row in seen[has]], return_counts=True)
        for row, count in zip(rows, counts, strict=True):
            rule = _rule(policy, d, int(row), float(count / len(seen)))
            if rule is not None:
                found.append(rule)
    return tuple(sorted(found, key=lambda rule: -rule.gap * rule.share))


def sensitivities(policy: NetworkPolicy, visits: Visits) -> tuple[Sensitivity, ...]:
    """How each action answers to each feature, the strongest first; features that never varied left out.

    A central difference at each visit: the feature half a standard deviation up against half a one down,
    all else equal. A discrete action counts as the mean of its choices under the network's probabilities. Of
    a policy with a memory it is the newest observation's feature; the older ones stay as they were visited.
    """
    inputs = _inputs(policy, visits)
    newest = inputs.shape[1] - len(policy.feature_names)
    found = []
    for column, feature in enumerate(policy.feature_names, start=newest):
        spread = float(inputs[:, column].std(dtype=np.float64))
        if spread < 1e-6:
            continue
        up, down = inputs.copy(), inputs.copy()
        up[:, column] += spread / 2
        down[:, column] -= spread / 2
        slopes = (_mean_action(policy, up) - _mean_action(policy, down)).mean(axis=0)
        found += [
            Sensitivity(h.name, feature, feature_words(policy.space, feature), float(slope))
            for h, slope in zip(policy.space.hyperparameters, slopes, strict=True)
        ]
    return tuple(sorted(found, key=lambda s: -abs(s.slope)))


def _inputs(policy: NetworkPolicy, visits: Visits) -> NDArray[np.float32]:
    """What the network was given at each visit, shape (n, memory x features)."""
    frames = FrameStack(policy.memory, len(policy.feature_names))
    inputs = []
    for decision, seen in zip(visits.decisions, policy.read(visits.observations), strict=True):
        if decision == 0:
            frames.clear()
        inputs.append(frames.push(seen))
    return np.stack(inputs)


def _rule(policy: QTablePolicy, d: int, row: int, share: float) -> Rule | None:
    """The rule in a row of the d-th table; None if its greedy choice is no change."""
    h, binning, values = policy.space.hyperparameters[d], policy.binnings[d], policy.tables[d][row]
    choice, still = greedy(values, policy.orders[d]), h.choices.index(0.0)
    if choice == still:
        return None
    when = []
    bins = np.unravel_index(row, binning.shape)
    for column, edges, i in zip(binning.columns, binning.edges, bins, strict=True):
        if len(edges):
            padded = np.concatenate([[-np.inf], edges, [np.inf]])
            when.append(
                condition(policy.space, policy.feature_names[column], float(padded[i]), float(padded[i + 1]))
            )
    return Rule(
        hyperparameter=h.name,
        when=tuple(when),
        action=advice(h, h.choices[choice]),
        gap=float(values[choice] - values[still]),
        share=share,
    )


def _mean_action(policy: NetworkPolicy, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The network's actions as fractions of the step, smooth in its inputs, shape (n, D)."""
    out = policy.forward(inputs).astype(np.float64)
    if policy.actions.kind != "discrete":
        return np.clip(out, -1.0, 1.0)
    means = []
    ends = np.cumsum(policy.actions.counts)[:-1]
    for h, logits in zip(policy.space.hyperparameters, np.split(out, ends, axis=-1), strict=True):
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        means.append(weights @ np.array(h.choices) / weights.sum(axis=-1))
    return np.stack(means, axis=-1)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")
