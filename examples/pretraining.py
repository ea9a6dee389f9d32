"""Few labels, many images: masked pretraining, then fine-tuning, in one episode under one policy.

    python examples/pretraining.py

A job's `then` names what follows it. Here the first phase predicts hidden pixels of all training images, the
second one starts from its body and learns from 60 labels. The policy tunes both, and starts anew with the
second one's own learning rate.
"""

from dataclasses import replace
from functools import partial

from torch import nn

import rl_tuner
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.masking import pretrained
from rl_tuner.rollout import run_episode

digits = load_split("digit-images", seed=0)
labelled = (digits.train[0][:60], digits.train[1][:60])


def network(outputs: int) -> nn.Module:
    """The same body whatever the number of outputs: ten classes, or all pixels."""
    return build_network("mlp-128x64", replace(digits.shape, outputs=outputs), dropout=0.1)


job = TrainingJob(
    model=partial(network, 10),
    train=labelled,
    validation=digits.validation,
    test=digits.test,
    start={"lr": 1e-3, "batch_size": 32.0},
    budget=20_000,
    name="60 labels",
)
policy = rl_tuner.load_policy("default")
for title, task in {
    "labels alone": job,
    "pretrained first": pretrained(job, network, share=0.7, seed=0, unlabelled=digits.train[0]),
}.items():
    episode = run_episode(TuningEnv.for_policy(policy, task), policy, seed=0)
    print(f"{title}: test accuracy {episode.test['accuracy']:.3f}, {episode.samples:,} training samples")
