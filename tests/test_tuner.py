"""The tuner on plain PyTorch loops, and its agreement with the environment."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import rl_tuner
from rl_tuner import ConfigError, JobError, PolicyError, TunedBatchSampler, Tuner
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.features import FeatureSet
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy import Policy
from rl_tuner.seeding import torch_seed
from rl_tuner.space import search_space

BUDGET = 6_000


def restless_policy(kind: str = "continuous", memory: int = 1) -> MLPPolicy:
    """A network of random weights over all five hyperparameters: every decision depends on all it sees."""
    space = search_space()
    names = FeatureSet(space).names
    rng = np.random.default_rng(4)
    outputs = sum(len(h.choices) for h in space.hyperparameters) if kind == "discrete" else len(space)
    layers = [
        (torch.from_numpy(rng.normal(0, 0.6, shape).astype(np.float32)), torch.zeros(shape[0]))
        for shape in ((16, memory * len(names)), (outputs, 16))
    ]
    return MLPPolicy(space, kind, CourseConfig(), names, {"name": "restless"}, layers, memory=memory)


def still_policy() -> MLPPolicy:
    """A network of zeros: continuous actions that change nothing."""
    space = search_space()
    names = FeatureSet(space).names
    layers = [(torch.zeros(len(space), len(names)), torch.zeros(len(space)))]
    return MLPPolicy(space, "continuous", CourseConfig(), names, {"name": "still"}, layers)


def blobs(n: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping clusters in ten dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    centres = np.random.default_rng(99).normal(0, 1, (3, 10))
    return (
        torch.from_numpy((centres[labels] + rng.normal(0, 1.5, (n, 10))).astype(np.float32)),
        torch.from_numpy(labels),
    )


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 3))


def val_loss(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    model.eval()
    with torch.no_grad():
        return float(functional.cross_entropy(model(data[0]), data[1]))


class PlainLoop:
    """A user's own loop over tensors, with or without a tuner's help."""

    def __init__(self, lr: float = 0.05, seed: int = 0) -> None:
        self.train, self.validation = blobs(300, 1), blobs(150, 2)
        with torch_seed(seed):
            self.model = small_net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
        self.sampler = TunedBatchSampler(300, 32, seed=seed)
        self.losses: list[float] = []

    def validate(self) -> float:
        return val_loss(self.model, self.validation)

    def tuner(self, policy: Policy | str, **options: Any) -> Tuner:
        options.setdefault("total_samples", BUDGET)
        return Tuner(
            self.optimizer,
            policy=policy,
            model=self.model,
            validate=self.validate,
            batch_sampler=self.sampler,
            **options,
        )

    def run(self, tuner: Tuner, updates: int | None = None) -> None:
        """Trains until the tuner is finished, or for so many updates."""
        while not tuner.finished and (updates is None or updates > 0):
            batch = self.sampler.draw()
            loss = functional.cross_entropy(self.model(self.train[0][batch]), self.train[1][batch])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.losses.append(loss.item())
            tuner.step(loss)
            updates = None if updates is None else updates - 1


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# --- one truth: environment and tuner ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("start_lr", [0.05, 5.0])  # the second one diverges: the rails act too
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_job_through_environment_and_tuner_gives_the_same_decisions_and_losses(
    kind: str, start_lr: float, optimizer: str
) -> None:
    policy = restless_policy(kind)
    train, validation = blobs(300, 1), blobs(150, 2)
    start = {"lr": start_lr, "batch_size": 32, "weight_decay": 1e-4, "momentum": 0.9, "dropout": 0.1}
    job = TrainingJob(
        small_net, train, validation, blobs(90, 3), optimizer=optimizer, start=start, budget=BUDGET
    )
    env = TuningEnv.for_policy(policy, job)
    observation, _ = env.reset(seed=5)
    actions, done = [], False
    while not done:
        actions.append(policy.act(observation))
        observation, _, done, _, _ = env.step(actions[-1])

    streams = env.streams
    with torch_seed(streams.seed_of("init")):
        model = small_net()
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    first = {"momentum": 0.9} if optimizer == "sgd" else {"betas": (0.9, 0.999)}
    mine = made(model.parameters(), lr=start_lr, weight_decay=1e-4, **first)  # type: ignore[operator]
    sampler = TunedBatchSampler(300, 32, seed=streams.seed_of("batches"))
    # A loader draws a seed from torch's global generator, which dropout shares, unless it has its own.
    own = torch.Generator()
    data = torch.utils.data.TensorDataset(*train)
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, generator=own)
    tuner = Tuner(
        mine,
        total_samples=BUDGET,
        policy=policy,
        model=model,
        validate=lambda: val_loss(model, validation),
        batch_sampler=sampler,
    )
    with torch_seed(streams.seed_of("dropout")):
        while not tuner.finished:
            for inputs, targets in loader:
                loss = functional.cross_entropy(model(inputs), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                mine.step()
                mine.zero_grad()
                tuner.step(loss)
    tuner.restore_best()

    assert len(tuner.records) == len(env.records) == len(actions) > 10
    assert tuner.records == env.records
    assert tuner.used == env.engine.used == BUDGET
    assert same_weights(model, env.engine.model)
    if start_lr == 5.0:
        assert any(record.verdict != "good" for record in env.records)


# --- what a tuner does to a loop --------------------------------------------------------------------------


def test_a_policy_that_changes_nothing_leaves_the_loop_bit_identical() -> None:
    tuned, bare = PlainLoop(), PlainLoop()
    with torch_seed(0):
        tuned.run(tuned.tuner(still_policy()))
    bare.sampler.stop_after(BUDGET)
    with torch_seed(0):
        while bare.sampler.next_size():
            batch = bare.sampler.draw()
            loss = functional.cross_entropy(bare.model(bare.train[0][batch]), bare.train[1][batch])
            loss.backward()  # type: ignore[no-untyped-call]
            bare.optimizer.step()
            bare.optimizer.zero_grad()
    assert same_weights(tuned.model, bare.model)


def test_hyperparameters_reach_the_optimizer_the_model_and_the_sampler() -> None:
    loop = PlainLoop()
    tuner = loop.tuner(restless_policy())
    with torch_seed(0):
        loop.run(tuner, updates=60)
    now = tuner.hyperparameters
    group = loop.optimizer.param_groups[0]
    dropout = next(m.p for m in loop.model.modules() if isinstance(m, nn.Dropout))
    assert {
        "lr": group["lr"],
        "batch_size": loop.sampler.batch_size,
        "weight_decay": group["weight_decay"],
        "dropout": dropout,
        "momentum": group["momentum"],
    } == now
    assert now["lr"] != 0.05


def test_named_hyperparameters_move_and_the_others_stay() -> None:
    loop = PlainLoop()
    tuner = loop.tuner(restless_policy(), hyperparameters=["lr"])
    with torch_seed(0):
        loop.run(tuner)
    assert set(tuner.hyperparameters) == {"lr"}
    assert loop.optimizer.param_groups[0]["momentum"] == 0.9
    assert loop.sampler.batch_size == 32
    assert len({record.values["lr"] for record in tuner.records}) > 5


def test_the_best_weights_by_validation_come_back() -> None:
    loop = PlainLoop(lr=0.3)
    tuner = loop.tuner(restless_policy())
    with torch_seed(0):
        loop.run(tuner)
    tuner.restore_best()
    best = min(record.val_loss for record in tuner.records)
    assert loop.validate() == pytest.approx(best, rel=1e-6)
    assert best < tuner.records[-1].val_loss or best == tuner.records[-1].best


def test_restore_best_in_mid_interval_keeps_newer_weights_that_validate_better() -> None:
    loop = PlainLoop(lr=0.02)
    tuner = loop.tuner(still_policy(), total_samples=60_000)
    with torch_seed(0):
        loop.run(tuner, updates=12)
    newer = loop.validate()
    assert newer < tuner.records[-1].best
    loop.model.train()
    tuner.restore_best()
    assert loop.validate() == newer


def test_a_loop_that_diverges_is_rescued_and_ends_with_a_trained_model() -> None:
    loop = PlainLoop(lr=1e4)
    first = loop.validate()
    tuner = loop.tuner(still_policy(), hyperparameters=["lr"])
    with torch_seed(0):
        loop.run(tuner)
    tuner.restore_best()
    assert any(record.verdict == "diverged" for record in tuner.records)
    assert tuner.hyperparameters["lr"] < 1e4
    assert all(torch.isfinite(p).all() for p in loop.model.parameters())
    assert loop.validate() <= first


def test_nan_losses_past_the_last_rescue_finish_the_tuner_with_finite_weights() -> None:
    loop = PlainLoop()
    tuner = loop.tuner(still_policy())
    for _ in range(5_000):
        if tuner.finished:
            break
        batch = loop.sampler.draw()
        loss = functional.cross_entropy(loop.model(loop.train[0][batch]), loop.train[1][batch]) * float("nan")
        loss.backward()  # type: ignore[no-untyped-call]
        loop.optimizer.step()
        loop.optimizer.zero_grad()
        tuner.step(loss)
    assert tuner.crashed
    assert tuner.finished
    assert all(torch.isfinite(p).all() for p in loop.model.parameters())


def test_steps_after_the_end_change_nothing() -> None:
    loop = PlainLoop()
    tuner = loop.tuner(restless_policy())
    with torch_seed(0):
        loop.run(tuner)
    values, records = tuner.hyperparameters, tuner.records
    tuner.step(0.1, samples=32)
    assert (tuner.hyperparameters, tuner.records) == (values, records)


def test_without_validation_the_training_loss_is_tuned_for_and_the_policy_is_told() -> None:
    seen: list[np.ndarray[Any, Any]] = []
    policy = still_policy()
    act = policy.act

    def listen(observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(observation)
        return act(observation)

    policy.act = listen  # type: ignore[method-assign]
    loop = PlainLoop()
    tuner = Tuner(loop.optimizer, total_steps=100, policy=policy)
    with torch_seed(0):
        loop.run(tuner)
    flag = policy.feature_names.index("no_validation")
    assert [float(o[flag]) for o in seen] == [1.0] * len(seen)
    assert all(np.isnan(record.val_loss) for record in tuner.records)
    assert tuner.records[-1].best == min(record.train_loss for record in tuner.records)


def test_the_budget_in_steps_is_kept() -> None:
    loop = PlainLoop()
    tuner = Tuner(loop.optimizer, total_steps=77, policy="cosine", model=loop.model, validate=loop.validate)
    with torch_seed(0):
        loop.run(tuner)
    assert len(loop.losses) == 77
    assert tuner.finished
    assert not tuner.crashed


def test_a_budget_shorter_than_the_decisions_decides_at_each_step() -> None:
    loop = PlainLoop()
    tuner = Tuner(loop.optimizer, total_steps=7, policy=still_policy(), model=loop.model)
    with torch_seed(0):
        loop.run(tuner)
    assert [record.used for record in tuner.records] == list(range(1, 8))


def test_validation_leaves_every_module_in_its_own_mode() -> None:
    loop = PlainLoop()
    frozen = next(m for m in loop.model.modules() if isinstance(m, nn.BatchNorm1d))
    loop.model.train()
    frozen.eval()
    loop.tuner(still_policy())
    assert loop.model.training
    assert not frozen.training


def test_losses_are_not_read_between_decisions() -> None:
    class Unreadable(torch.Tensor):
        reads = 0

        def item(self) -> float:  # type: ignore[override]
            Unreadable.reads += 1
            return super().item()

        def __float__(self) -> float:
            Unreadable.reads += 1
            return super().__float__()

    loop = PlainLoop()
    tuner = loop.tuner(still_policy(), total_samples=600_000)
    for _ in range(50):
        tuner.step(torch.tensor(1.0).as_subclass(Unreadable), samples=32)
    assert len(tuner.records) == 0
    assert Unreadable.reads == 0


# --- snapshots --------------------------------------------------------------------------------------------


def test_two_tuners_with_one_policy_do_not_share_its_memory() -> None:
    alone = PlainLoop()
    with torch_seed(1):
        alone.run(expected := alone.tuner(restless_policy(memory=3)))
    policy, loop = restless_policy(memory=3), PlainLoop()
    with torch_seed(1):
        tuner = loop.tuner(policy)
    other = PlainLoop(seed=9)
    other.run(other.tuner(policy), updates=20)
    with torch_seed(1):
        loop.run(tuner)
    assert tuner.records == expected.records


@pytest.mark.parametrize(("updates", "memory"), [(1, 1), (30, 1), (61, 1), (8, 3)])
def test_a_tuner_continues_bit_identically_from_its_state(updates: int, memory: int) -> None:
    straight = PlainLoop()
    with torch_seed(1):
        straight.run(t := straight.tuner(restless_policy(memory=memory)))
    first = PlainLoop()
    with torch_seed(1):
        first.run(a := first.tuner(restless_policy(memory=memory)), updates=updates)
        state, generator = pickle.loads(pickle.dumps(a.get_state())), torch.get_rng_state()
    second = PlainLoop(seed=9)
    b = second.tuner(restless_policy(memory=memory))
    b.set_state(state)
    assert second.optimizer.param_groups[0]["lr"] == b.hyperparameters["lr"]
    with torch_seed(1):
        torch.set_rng_state(generator)
        second.run(b)
    assert b.records == t.records
    assert same_weights(second.model, straight.model)


def test_a_state_of_another_model_is_refused() -> None:
    loop = PlainLoop()
    state = loop.tuner(still_policy()).get_state()
    other = nn.Linear(3, 3)
    tuner = Tuner(torch.optim.SGD(other.parameters(), lr=0.1), total_samples=BUDGET, policy=still_policy())
    with pytest.raises(JobError, match="tensors"):
        tuner.set_state(state)


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_steps": None}, "total_steps or as total_samples"),
        ({"total_samples": 5}, "total_steps or as total_samples"),
        ({"total_steps": 0}, "budget must be a whole number >= 1"),
        ({"model": "net"}, "model must be a torch module"),
        ({"validate": 0.5}, "validate must be a function"),
        ({"batch_sampler": [1, 2]}, "batch_sampler must be a TunedBatchSampler"),
        ({"hyperparameters": ["learning_rate"]}, "learning_rate"),
        ({"hyperparameters": ["dropout"]}, "dropout needs model="),
        ({"rails": "yes"}, "rails must be"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    net = nn.Linear(2, 2)
    arguments: dict[str, Any] = {"total_steps": 10, "policy": still_policy(), **change}
    with pytest.raises(ConfigError, match=message):
        Tuner(torch.optim.SGD(net.parameters(), lr=0.1), **arguments)


def test_what_is_no_optimizer_is_named() -> None:
    with pytest.raises(ConfigError, match=r"torch\.optim\.Optimizer, got list"):
        Tuner([torch.zeros(1)], total_steps=5, policy=still_policy())  # type: ignore[arg-type]


def test_an_unknown_policy_lists_the_known_ones() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(PolicyError, match=r"no policy 'deafult'.*default.*cosine"):
        Tuner(torch.optim.SGD(net.parameters(), lr=0.1), total_steps=5, policy="deafult")


def test_samples_are_asked_for_where_nothing_tells_them() -> None:
    net = nn.Linear(2, 2)
    tuner = Tuner(torch.optim.SGD(net.parameters(), lr=0.1), total_samples=500, policy=still_policy())
    with pytest.raises(ConfigError, match="samples=n"):
        tuner.step(0.5)
    with pytest.raises(ConfigError, match="samples must be >= 1"):
        tuner.step(0.5, samples=0)


def test_a_loss_of_several_elements_is_refused() -> None:
    net = nn.Linear(2, 2)
    tuner = Tuner(torch.optim.SGD(net.parameters(), lr=0.1), total_steps=500, policy=still_policy())
    with pytest.raises(ConfigError, match=r"one element, got shape \(3,\)"):
        tuner.step(torch.ones(3))


def test_negative_losses_are_warned_about_once() -> None:
    net = nn.Linear(2, 2)
    tuner = Tuner(torch.optim.SGD(net.parameters(), lr=0.1), total_steps=40, policy=still_policy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        while not tuner.finished:
            tuner.step(-1.5)
    assert [str(w.message)[:29] for w in caught] == ["the loss is negative (-1.5): "]


# --- the shipped default ----------------------------------------------------------------------------------


def test_the_default_policy_is_shipped_and_tunes_a_loop_in_two_lines() -> None:
    loop = PlainLoop(lr=1e-4)
    first = loop.validate()
    tuner = rl_tuner.Tuner(
        loop.optimizer,
        total_samples=BUDGET,
        model=loop.model,
        validate=loop.validate,
        batch_sampler=loop.sampler,
    )
    with torch_seed(0):
        loop.run(tuner)
    tuner.restore_best()
    assert loop.validate() < first
    assert any(record.values["lr"] != 1e-4 for record in tuner.records)


def read_scalars(folder: str) -> Callable[[str], list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    return lambda tag: [(e.step, e.value) for e in events.Scalars(tag)]


def test_a_log_folder_gets_the_decisions_as_tensorboard_events(tmp_path: Any) -> None:
    loop = PlainLoop()
    tuner = loop.tuner(restless_policy(), log_dir=tmp_path / "log")
    with torch_seed(0):
        loop.run(tuner)
    scalars = read_scalars(str(tmp_path / "log"))
    assert [step for step, _ in scalars("loss/validation")] == [record.used for record in tuner.records]
    written = [value for _, value in scalars("hyperparameters/lr")]
    assert written == pytest.approx([record.values["lr"] for record in tuner.records], rel=1e-6)


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 3), (2, 1)])
def test_the_loop_of_the_readme_ends_under_accumulation_and_with_loader_workers(
    workers: int, accumulate: int
) -> None:
    data = torch.utils.data.TensorDataset(*blobs(300, 1))
    sampler = TunedBatchSampler(300, 24)
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, num_workers=workers)
    net = nn.Linear(10, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    tuner = Tuner(optimizer, total_samples=1_000, policy=still_policy(), batch_sampler=sampler)
    batches = 0
    while not tuner.finished:
        for inputs, targets in loader:
            batches += 1
            loss = functional.cross_entropy(net(inputs), targets) / accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            if batches % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                tuner.step(loss)
        assert batches < 200
    assert tuner.finished
    assert tuner.used <= 1_000


def test_under_gradient_accumulation_every_sample_counts() -> None:
    sampler = TunedBatchSampler(300, 20)
    net = nn.Linear(10, 3)
    tuner = Tuner(
        torch.optim.SGD(net.parameters(), lr=0.1),
        total_samples=6_000,
        policy=still_policy(),
        batch_sampler=sampler,
    )
    for _ in range(4):
        sampler.draw()
    tuner.step(1.0)
    assert tuner.used == 80


@pytest.mark.parametrize("answer", [None, (0.5, 0.1), torch.ones(2)])
def test_a_validation_that_gives_no_number_is_named(answer: Any) -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="validate must return one number"):
        Tuner(
            torch.optim.SGD(net.parameters(), lr=0.1),
            total_steps=9,
            policy=still_policy(),
            validate=lambda: answer,
        )


@pytest.mark.parametrize("budget", [10.7, 0, -3, float("inf")])
def test_a_budget_is_a_whole_number(budget: Any) -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="whole number >= 1"):
        Tuner(torch.optim.SGD(net.parameters(), lr=0.1), total_steps=budget, policy=still_policy())


@pytest.mark.parametrize(
    ("budget", "sampled", "epochs", "updates_seen", "epochs_seen"),
    [
        ({"total_steps": 1000}, False, None, 1.0, 0.0),
        ({"total_steps": 30}, False, 100.0, np.log10(0.3), 1.0),
        ({"total_steps": 30}, True, None, np.log10(0.3), np.log10(0.32)),
        ({"total_samples": 6400}, True, None, np.log10(2), np.log10(6400 / 3000)),
        ({"total_samples": 6400}, True, 3.0, np.log10(2), np.log10(0.3)),
        ({"total_samples": 6400}, False, 50.0, 0.0, np.log10(5)),
    ],
)
def test_a_policy_is_told_how_long_training_is_to_be_as_far_as_that_is_known(
    budget: dict[str, int], sampled: bool, epochs: float | None, updates_seen: float, epochs_seen: float
) -> None:
    """The sampler's batch size is 32 of 300 samples; 100 updates and 10 epochs are seen as 0."""
    loop = PlainLoop()
    sampler = {"batch_sampler": loop.sampler} if sampled else {}
    tuner = Tuner(loop.optimizer, policy=still_policy(), epochs=epochs, **budget, **sampler)
    seen = dict(zip(FeatureSet(search_space()).names, tuner._course.observation(), strict=True))
    assert (seen["updates"], seen["epochs"]) == pytest.approx((updates_seen, epochs_seen), abs=1e-6)


@pytest.mark.parametrize("epochs", [0, -1.0, float("nan")])
def test_epochs_that_are_no_passes_are_refused(epochs: float) -> None:
    loop = PlainLoop()
    with pytest.raises(ConfigError, match="epochs must be > 0"):
        Tuner(loop.optimizer, 100, still_policy(), epochs=epochs)
