"""Names of methods: what they stand for, and what a misspelt one is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rl_tuner.errors import ConfigError, PolicyError
from rl_tuner.method_names import TRIALS, load_methods, make_method, stands_for_static
from rl_tuner.methods import (
    OptimizerMethod,
    PolicyMethod,
    SearchMethod,
    StartedMethod,
    StaticMethod,
    learned,
)
from rl_tuner.policy_file import save_policy, shipped_policies
from rl_tuner.searches import SearchConfig
from rl_tuner.static_setting import StaticSetting
from tests.learned_policies import network

SETTING = StaticSetting(10.0, 0.0, 0.01, "cosine")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("random@16", SearchConfig("random", 16)),
        ("tpe/8", SearchConfig("tpe", 8, shared=True)),
        ("cma-es@5", SearchConfig("cma-es", 5)),
        ("pbt", SearchConfig("pbt", TRIALS)),
    ],
)
def test_a_search_is_named_by_its_sampler_and_its_trials(name: str, config: SearchConfig) -> None:
    method = make_method(name)
    assert isinstance(method, SearchMethod)
    assert method.config == config


@pytest.mark.parametrize("name", ["random@", "random@0", "tpe/-1", "gp@x", "grid@1.5"])
def test_a_search_without_a_number_of_trials_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must end in a number of trials >= 1: \w+@16"):
        make_method(name)


def test_a_name_stands_for_one_kind_of_method() -> None:
    assert isinstance(make_method("cosine"), PolicyMethod)
    assert isinstance(make_method("prodigy"), OptimizerMethod)
    assert isinstance(make_method("static", SETTING), StaticMethod)
    with pytest.raises(ConfigError, match="must be chosen on a suite first"):
        make_method("static")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("static", True),
        ("static+averaging", True),
        ("static+averaging+no-restarts", True),
        ("statics", False),
        ("constant+averaging", False),
    ],
)
def test_what_needs_the_static_setting_is_told_by_its_name(name: str, expected: bool) -> None:
    assert stands_for_static(name) is expected


@pytest.mark.parametrize(
    ("name", "near"),
    [("randm@16", "random@16"), ("tpee/8", "tpe/8"), ("prodgy", "prodigy"), ("cosin", "cosine")],
)
def test_a_misspelt_name_is_refused_with_the_nearest_of_all_kinds(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match="unknown method or policy file") as refused:
        make_method(name)
    known = ", ".join([*shipped_policies(), "constant"])
    assert f"{name!r} (did you mean {near!r}?): choose from {known}" in str(refused.value)


def test_an_optimizer_whose_package_is_missing_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(ConfigError, match=r"needs the package prodigyopt: pip install rl-tuner\[optim\]"):
        make_method("prodigy")


def test_a_policy_file_that_is_not_there_is_a_policy_error() -> None:
    with pytest.raises(PolicyError, match=r"no policy 'runs/best\.safetensors'"):
        make_method("runs/best.safetensors")


def test_names_in_a_comparison_are_unique_and_speak() -> None:
    path = str(save_policy(network(), "p.safetensors"))
    methods = load_methods(["random", "random@4", "random@4", "tpe/8", path, path, "prodigy"])
    names = ["constant", "random", "random@4", "random@4-2", "tpe/8", "sample", "sample-2", "prodigy"]
    assert list(methods) == names
    assert list(learned(methods)) == ["sample", "sample-2"]
    assert methods["random"].identity == f"random@{TRIALS}"
    assert methods["sample"].identity == methods["sample-2"].identity != path


def test_two_files_of_one_name_are_told_apart() -> None:
    one, other = (make_method(str(save_policy(network(seed=seed), f"{seed}.safetensors"))) for seed in (0, 1))
    assert one.identity != other.identity


@pytest.mark.parametrize(
    ("name", "factor"), [("cosine@0.1x", 0.1), ("default@100x", 100.0), ("constant@1e-2x", 0.01)]
)
def test_a_policy_or_schedule_can_be_started_at_another_learning_rate(name: str, factor: float) -> None:
    method = make_method(name)
    assert isinstance(method, StartedMethod)
    assert method.lr_factor == factor
    assert method.policy.name == make_method(name.split("@")[0]).policy.name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cosine@0x", "must be > 0, got 0"),
        ("cosine@x", "must end in a factor of the start learning rate, such as @0.1x, got ''"),
        ("cosine@nanx", "got nan"),
        ("prodigy@2x", "only a policy or a schedule can be started at another learning rate, not 'prodigy'"),
        ("static@2x", "not 'static'"),
        ("random@4x", "must end in a number of trials"),
        ("cosin@2x", "did you mean 'cosine'"),
    ],
)
def test_who_cannot_be_started_so_is_told_why(name: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_method(name, SETTING)
    assert problem in str(refused.value)


def test_a_file_started_at_another_learning_rate_has_its_policys_name_and_no_controls() -> None:
    path = str(save_policy(network(), "p.safetensors"))
    methods = load_methods([f"{path}@10x", "default@10x", path])
    assert list(methods) == ["constant", "sample@10x", "default@10x", "sample"]
    assert list(learned(methods)) == ["sample"]
    assert methods["sample@10x"].identity == f"{methods['sample'].identity}@10x"


def test_more_trials_than_anybody_means_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"trials must be >= 1 and <= 100000, got 99999999"):
        make_method("random@99999999")


@pytest.mark.parametrize("option", ["averaging", "restarts"])
@pytest.mark.parametrize("name", ["constant", "default@0.1x", "prodigy", "static", "lr-only"])
def test_any_single_run_can_be_told_to_count_averages_of_weights_or_to_begin_again(
    name: str, option: str
) -> None:
    plain = make_method(name, SETTING)
    with_it, without = (make_method(f"{name}{suffix}{option}", SETTING) for suffix in ("+", "+no-"))
    assert isinstance(plain, PolicyMethod)
    wanted = getattr(plain.policy.config, option)
    for method, on in ((with_it, True), (without, False)):
        assert type(method) is type(plain)
        assert isinstance(method, PolicyMethod)
        assert getattr(method.policy.config, option) is on
        assert method.policy.name == plain.policy.name
    assert getattr(plain.policy.config, option) is wanted
    assert list(load_methods([f"{name}+{option}", name], name, SETTING)) == [f"{name}+{option}", name]


def test_several_options_stand_behind_each_other(tmp_path: Path) -> None:
    file = str(save_policy(network(), tmp_path / "p.safetensors"))
    method = make_method(f"{file}+averaging+restarts")
    assert isinstance(method, PolicyMethod)
    assert (method.policy.config.averaging, method.policy.config.restarts) == (True, True)
    names = [f"{file}+averaging+restarts", f"{file}+averaging+no-restarts", file]
    assert list(load_methods(names))[1:] == [
        "sample+averaging+restarts",
        "sample+averaging+no-restarts",
        "sample",
    ]


def test_a_file_with_averaging_is_told_apart_from_the_file(tmp_path: Path) -> None:
    save_policy(network(), tmp_path / "p.safetensors")
    file = str(tmp_path / "p.safetensors")
    assert list(load_methods([f"{file}+averaging", file]))[1:] == ["sample+averaging", "sample"]


def test_searches_do_not_average() -> None:
    with pytest.raises(ConfigError, match="in single runs, not in those of a search, 'random@4'"):
        make_method("random@4+averaging")


@pytest.mark.parametrize("name", ["constnt+averaging", "constant+averagin"])
def test_a_misspelt_name_with_averaging_is_refused(name: str) -> None:
    with pytest.raises((ConfigError, PolicyError)):
        make_method(name)
