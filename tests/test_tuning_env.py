"""The environment: its contract for each kind of action, and what rails, endings and options do."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.models import mlp
from rl_tuner.rails import Rails
from rl_tuner.rewards import crash_return
from rl_tuner.space import SearchSpace, search_space
from tests.contracts import EnvironmentContract, play

WINE = load_split("wine", 0)
STILL = np.zeros(5)


def wine_job(**changes: Any) -> TrainingJob:
    options: dict[str, Any] = {
        "model": partial(mlp, 13, (16,), 3, 0.1),
        "train": WINE.train,
        "validation": WINE.validation,
        "test": WINE.test,
        "optimizer": "sgd",
        "start": {"lr": 0.03, "batch_size": 16.0},
        "budget": 1501,
        "name": "wine",
    }
    return TrainingJob(**{**options, **changes})


class TestDiscrete(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(wine_job(), actions="discrete", decisions=6, **options)


class TestContinuous(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(wine_job(), actions="continuous", decisions=6, **options)


class TestAnchored(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(wine_job(), actions="anchored", decisions=6, **options)


class TestSuite(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        return TuningEnv(split="validation", decisions=4, **options)


class TestAdamWithoutRails(EnvironmentContract):
    def make(self, **options: Any) -> TuningEnv:
        job = wine_job(optimizer="adam")
        return TuningEnv(job, decisions=6, rails=False, intervals="uniform", **options)


def episode(env: TuningEnv, seed: int = 0) -> list[dict[str, Any]]:
    """Plays an episode without changes; the infos, each with its reward."""
    env.reset(seed=seed)
    steps = play(env, [np.zeros(len(env.space))] * env.config.decisions)
    return [{**info, "reward": reward} for _, reward, _, _, info in steps]


@pytest.mark.parametrize("budget", [60, 777, 1000, 1501])
@pytest.mark.parametrize("batch", [8.0, 50.0, 106.0])
def test_samples_used_are_the_budget_to_the_sample(budget: int, batch: float) -> None:
    env = TuningEnv(wine_job(budget=budget, start={"lr": 0.01, "batch_size": batch}), decisions=5)
    infos = episode(env)
    assert infos[-1]["samples"] == budget
    assert infos[-1]["val_samples"] == (len(infos) + 1) * len(WINE.validation[0])  # counted, the first too


@pytest.mark.parametrize("reward", ["log_improvement", "best_improvement", "final_improvement"])
def test_the_return_is_the_fall_of_the_validation_loss_in_nats(reward: str) -> None:
    env = TuningEnv(wine_job(), decisions=6, reward=reward)
    _, info = env.reset(seed=0)
    first = info["val_loss"]
    infos = episode(env)
    last = infos[-1]["val_loss"] if reward == "log_improvement" else infos[-1]["best_val_loss"]
    assert sum(i["reward"] for i in infos) == pytest.approx(np.log(first / last))


class Poison(Dataset[Any]):
    def __len__(self) -> int:
        raise AssertionError("the test split was looked at")

    def __getitem__(self, i: int) -> Any:
        raise AssertionError("the test split was looked at")


def test_the_test_split_is_not_read_before_evaluate() -> None:
    env = TuningEnv(wine_job(test=Poison()), decisions=3, early_stopping=2, render_mode="ansi")
    assert len(episode(env)) == 3
    env.set_state(env.get_state())
    env.render()
    with pytest.raises(AssertionError, match="looked at"):
        env.evaluate("test")


def test_evaluate_gives_the_metrics_of_the_best_weights_on_the_test_split() -> None:
    env = TuningEnv(wine_job(), decisions=6)
    episode(env)
    model = env.engine.model.eval()
    with torch.no_grad():
        guess = model(WINE.test[0]).argmax(1)
    assert env.evaluate()["accuracy"] == pytest.approx(float((guess == WINE.test[1]).float().mean()))
    without = TuningEnv(wine_job(test=None), decisions=3)
    without.reset(seed=0)
    with pytest.raises(JobError, match="no test samples"):
        without.evaluate()


def test_rails_bring_a_far_too_high_learning_rate_back_to_where_training_works() -> None:
    job = wine_job(start={"lr": 300.0, "batch_size": 16.0}, budget=4000)
    env = TuningEnv(job, decisions=12)
    infos = episode(env)
    assert infos[0]["verdict"] == "diverged"
    assert infos[0]["hyperparameters"]["lr"] == pytest.approx(300.0 * Rails().lr_cut)
    assert env.records[0].values["lr"] == 300.0  # what it was trained with
    assert infos[-1]["rescues"] >= 2
    assert not infos[-1]["crashed"]
    assert infos[-1]["samples"] == 4000  # what was spent stays spent
    assert infos[-1]["best_val_loss"] < 0.5 * infos[0]["best_val_loss"]


def test_a_rescue_is_seen_in_the_observation_and_the_written_hyperparameters() -> None:
    env = TuningEnv(wine_job(start={"lr": 300.0, "batch_size": 16.0}), decisions=6)
    env.reset(seed=0)
    observation, *_, info = env.step(STILL)
    seen = dict(zip(env.feature_names, observation, strict=True))
    assert seen["rescued"] == 1.0
    assert env.engine.trainee.read()["lr"] == info["hyperparameters"]["lr"] < 300.0


def test_when_the_rescues_are_used_up_the_job_ends_as_crashed_below_every_finite_return() -> None:
    env = TuningEnv(wine_job(start={"lr": 1e6, "batch_size": 16.0}), decisions=6, rails=Rails(rescues=1))
    infos = episode(env)
    assert [i["crashed"] for i in infos] == [False, True]
    assert sum(i["reward"] for i in infos) == pytest.approx(crash_return())


def test_without_rails_divergence_ends_the_job_at_once_with_a_finite_reward() -> None:
    job = wine_job(start={"lr": 1e12, "batch_size": 16.0}, optimizer="sgd")
    env = TuningEnv(job, decisions=6, rails=False)
    _, first = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["crashed"], info["verdict"]) == (True, False, True, "diverged")
    assert np.isfinite(observation).all()
    assert reward == crash_return()
    # The worst finite return is that of a job that ends on the highest level counted.
    assert reward < -np.log(20)
    assert env.evaluate("validation")["loss"] == first["val_loss"]  # the best weights: the first ones


def test_a_network_whose_units_all_died_is_restored() -> None:
    env = TuningEnv(wine_job(), decisions=8)
    env.reset(seed=0)
    play(env, [STILL])
    first: Any = env.engine.model[0]  # type: ignore[index]
    alive = {k: v.clone() for k, v in env.engine.model.state_dict().items()}
    with torch.no_grad():
        first.bias.fill_(-1e4)
    info = play(env, [STILL])[0][4]
    assert info["verdict"] == "collapsed"
    assert info["rescues"] == 1
    for name, tensor in env.engine.model.state_dict().items():
        assert torch.equal(tensor, alive[name])
    assert play(env, [STILL] * 6)[-1][4]["val_loss"] < 0.9 * info["best_val_loss"]


def test_early_stopping_counts_decisions_without_a_new_best() -> None:
    def constant(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (0 * outputs).sum() + 1

    job = wine_job(loss=constant)
    assert len(episode(TuningEnv(job, decisions=10, rails=False, early_stopping=3))) == 3
    assert len(episode(TuningEnv(job, decisions=10, rails=False))) == 10


def test_an_own_module_is_copied_and_its_initial_weights_kept() -> None:
    module = mlp(13, (8,), 3)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    env = TuningEnv(wine_job(model=module), decisions=3)
    losses = [env.reset(seed=s)[1]["val_loss"] for s in (0, 1)]
    episode(env)
    assert losses[0] == losses[1]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_batch_norm_and_a_dataset_train_through_an_episode() -> None:
    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return len(WINE.train[0])

        def __getitem__(self, i: int) -> Any:
            return WINE.train[0][i], WINE.train[1][i]

    def normalized() -> nn.Module:
        return nn.Sequential(nn.Linear(13, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    env = TuningEnv(wine_job(model=normalized, train=Rows()), decisions=4)
    infos = episode(env)
    assert infos[-1]["val_loss"] < 0.5 * env.course.track.first
    assert env.evaluate("validation")["loss"] == infos[-1]["best_val_loss"]


def test_hyperparameters_that_the_job_lacks_are_marked_and_left_out() -> None:
    env = TuningEnv(wine_job(model=partial(mlp, 13, (8,), 3), optimizer="adagrad"), decisions=3)
    observation, info = env.reset(seed=0)
    assert set(info["hyperparameters"]) == {"lr", "batch_size", "weight_decay"}
    seen = dict(zip(env.feature_names, observation, strict=True))
    assert (seen["dropout_available"], seen["momentum_available"], seen["lr_available"]) == (0.0, 0.0, 1.0)


def test_only_the_hyperparameters_asked_for_are_moved() -> None:
    for space in (("lr",), search_space(["lr"])):
        env = TuningEnv(wine_job(), decisions=3, hyperparameters=space)
        env.reset(seed=0)
        before = env.engine.trainee.read()
        env.step(np.array([1.0]))
        after = env.engine.trainee.read()
        assert {k for k in before if before[k] != after[k]} == {"lr"}
        assert isinstance(env.space, SearchSpace)


def test_a_job_can_be_given_for_one_episode_by_specification() -> None:
    spec = JobSpec("wine", "mlp-8", "adam", 600, 0, 1e-3, 16, 0.0, 0.9, None)
    env = TuningEnv(decisions=3)
    _, info = env.reset(seed=0, options={"job": spec})
    assert info["job"] == spec.name == "wine-mlp-8-adam"
    assert info["hyperparameters"] == {"lr": 1e-3, "batch_size": 16.0, "weight_decay": 0.0, "momentum": 0.9}
    assert env.reset(seed=0)[1]["job"] != spec.name


def test_gymnasium_makes_it_by_name_and_passes_options_on() -> None:
    env = gym.make("rl_tuner/Tuning-v0", split="validation", actions="discrete", decisions=3)
    assert isinstance(env.unwrapped, TuningEnv)
    _, info = env.reset(seed=0)
    assert info["job"].startswith("wine")
    assert env.action_space == env.unwrapped.actions.gym_space
    observation, *_ = env.step(env.action_space.sample())
    assert observation.shape == (len(env.unwrapped.feature_names),)
    env.close()


def test_gymnasium_checks_a_made_environment_with_its_render_modes() -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make("rl_tuner/Tuning-v0", decisions=3, render_mode="rgb_array").unwrapped)


def test_render_gives_text_or_an_image_of_the_decisions_so_far() -> None:
    text = TuningEnv(wine_job(), decisions=4, render_mode="ansi")
    text.reset(seed=0)
    assert "no decision yet" in text.render()
    play(text, [STILL] * 2)
    assert len(text.render().splitlines()) == 2 + 2  # title and head, then a line for each decision
    image = TuningEnv(wine_job(), decisions=4, render_mode="rgb_array")
    image.reset(seed=0)
    frames = [image.render()]
    play(image, [STILL] * 2)
    frames.append(image.render())
    assert frames[0].shape == frames[1].shape
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "quik"}, "unknown suite 'quik'.*'quick'"),
        ({"split": "tst"}, "unknown split 'tst'"),
        ({"actions": "discreet"}, "unknown actions 'discreet'"),
        ({"reward": "accuracy"}, "unknown reward 'accuracy'"),
        ({"intervals": "even"}, "unknown intervals 'even'"),
        ({"hyperparameters": ["lr", "learning_rate"]}, "'learning_rate'"),
        ({"hyperparameters": []}, "at least one"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
        ({"decisions": 0}, "decisions must be >= 1, got 0"),
        ({"rails": "yes"}, "rails.*'yes'"),
        ({"early_stopping": 0}, "got 0"),
        ({"job": 3}, "job must be a TrainingJob.*got int"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TuningEnv(**options)


def test_reset_options_and_actions_that_make_no_sense_are_named() -> None:
    env = TuningEnv(wine_job(), decisions=3)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(STILL)
    with pytest.raises(ConfigError, match="unknown reset option 'jobs'"):
        env.reset(options={"jobs": 3})
    with pytest.raises(ConfigError, match="got str"):
        env.reset(options={"job": "wine"})
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="5 entries"):
        env.step(np.zeros(3))
    with pytest.raises(ConfigError, match="finite"):
        env.step(np.full(5, np.nan))
    env.step(STILL)  # a refused action leaves the episode where it was
    assert env.course.decision == 1


def test_a_budget_that_cannot_hold_the_decisions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget of 10 .*20 decisions"):
        TuningEnv(wine_job(budget=10)).reset(seed=0)


def test_a_state_of_another_search_space_is_refused() -> None:
    env = TuningEnv(wine_job(), decisions=3)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="environment with another search space"):
        TuningEnv(wine_job(), decisions=3, hyperparameters=["lr"]).set_state(env.get_state())


def test_the_batch_size_that_is_told_is_the_one_trained_with_on_a_small_dataset() -> None:
    x, y = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    job = TrainingJob(torch.nn.Linear(4, 2), (x, y), (x, y), budget=2_000, start={"batch_size": 32})
    env = TuningEnv(job, hyperparameters=["batch_size"])
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, info = env.step(np.ones(1, np.float32))
        assert info["hyperparameters"]["batch_size"] == env.engine.sampler.batch_size
    assert info["hyperparameters"]["batch_size"] == 50


def test_rails_cut_the_learning_rate_also_where_actions_set_it_outright() -> None:
    x, y = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 2
    job = TrainingJob(mlp_of_four, (x, y), (x, y), optimizer="sgd", budget=6_000, start={"lr": 50.0})
    env = TuningEnv(job, actions="anchored", hyperparameters=["lr"])
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, info = env.step(np.zeros(1, np.float32))
    assert not info["crashed"]
    rates = [record.values["lr"] for record in env.records]
    assert rates[0] == 50.0
    assert rates[-1] == pytest.approx(50 * 0.3 ** info["rescues"])


def mlp_of_four() -> nn.Module:
    return mlp(4, (16,), 2)


@pytest.mark.parametrize("other", [{"decisions": 7}, {"reward": "best_improvement"}, {"rails": False}])
def test_a_state_of_other_settings_is_refused(other: dict[str, Any]) -> None:
    env, stranger = TuningEnv(suite="quick"), TuningEnv(suite="quick", **other)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="environment with another config"):
        stranger.set_state(env.get_state())
