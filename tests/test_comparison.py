from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from rl_tuner import chunks
from rl_tuner.chunks import run_together
from rl_tuner.comparison import Comparison, compare, draw_jobs, episode_seed
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.suites import load_suite
from rl_tuner.errors import ConfigError
from rl_tuner.features import FeatureSet
from rl_tuner.method_names import load_methods
from rl_tuner.methods import Experiment, PolicyMethod
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.results import Row
from rl_tuner.space import search_space
from rl_tuner.static_setting import GRID
from tests.comparing import add_suite, make_comparison, make_row

INF = float("inf")


def save_mlp(path: str, name: str = "lively", seed: int = 0) -> str:
    space = search_space()
    features = FeatureSet(space).names
    g = torch.Generator().manual_seed(seed)
    layers = [(torch.randn(5, len(features), generator=g), torch.randn(5, generator=g))]
    policy = MLPPolicy(
        space, "continuous", CourseConfig(decisions=5), features, {"name": name}, layers, "tanh"
    )
    return str(save_policy(policy, path))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch)


def run(names: list[str], jobs: int = 2, seeds: int = 2, **options: object) -> Comparison:
    return compare(load_methods(names), "tiny", "test", jobs, seeds, **options)  # type: ignore[arg-type]


def assert_alike(rows: Sequence[Row], others: Sequence[Row]) -> None:
    """The same but for rounding: runs side by side may move each other's last bits."""
    for row, other in zip(rows, others, strict=True):
        assert unmeasured(row) == unmeasured(other)
        for name in ("test_loss", "val_loss", "return_"):
            assert getattr(row, name) == pytest.approx(getattr(other, name), rel=1e-4, abs=1e-5)


def unmeasured(row: Row) -> Row:
    losses = {"test_loss": 0.0, "val_loss": 0.0, "return_": 0.0}
    return replace(row, **losses, metrics={}, records=())


def by_pair(comparison: Comparison) -> dict[tuple[int, int], list[Row]]:
    pairs: dict[tuple[int, int], list[Row]] = {}
    for row in comparison.rows:
        pairs.setdefault((row.job, row.seed), []).append(row)
    return pairs


def test_every_method_runs_the_same_jobs_from_the_same_start(tiny: None) -> None:
    comparison = run(["cosine", save_mlp("p.safetensors")])
    pairs = by_pair(comparison)
    assert set(pairs) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for rows in pairs.values():
        assert [row.method for row in rows] == ["constant", "cosine", "lively"]
        for same in ("episode_seed", "job_name", "start", "start_val_loss", "budget"):
            assert len({str(getattr(row, same)) for row in rows}) == 1, same
    starts = [rows[0].start_val_loss for rows in pairs.values()]
    assert len(set(starts)) == 4  # and other initial weights for every pair


def test_every_method_uses_the_budget_to_the_last_sample_and_its_validation_is_counted(tiny: None) -> None:
    comparison = run(["cosine", save_mlp("p.safetensors")], jobs=1)
    assert all(row.samples == row.budget for row in comparison.rows)
    held_out = len(load_suite("tiny").family("test").sample(np.random.default_rng(0)).build().validation[1])  # type: ignore[index,arg-type]
    for row in comparison.rows:
        assert row.val_samples == held_out * (1 + len(row.records))
    assert [s.samples for s in comparison.summaries] == [comparison.summaries[0].samples] * 3


def test_schedules_move_the_lr_only_and_a_learned_policy_may_move_the_rest(tiny: None) -> None:
    comparison = run(["cosine", save_mlp("p.safetensors")], jobs=1, seeds=1)
    moved = {row.method: set(row.records[-1].values) for row in comparison.rows}
    assert moved["constant"] == moved["cosine"] == {"lr"}
    assert {"lr", "batch_size"} < moved["lively"]
    constant = comparison.of("constant")[0]
    assert {record.values["lr"] for record in constant.records} == {constant.start["lr"]}


def test_a_method_compared_with_itself_shows_no_difference(tiny: None) -> None:
    path = save_mlp("p.safetensors")
    comparison = compare(load_methods([path, path], path), "tiny", jobs=2, seeds=2, baseline="lively")
    first, second = comparison.summaries
    assert (first.method, second.method) == ("lively", "lively-2")
    assert second.log_ratio.mean == second.log_ratio.low == second.log_ratio.high == 0
    assert second.verdict == "no difference shown"
    assert second.share_below == 0.5
    assert second.test_loss == first.test_loss


def test_what_a_method_gets_does_not_depend_on_who_else_is_compared(tiny: None) -> None:
    path = save_mlp("p.safetensors")
    alone, together = run([path], jobs=1), run(["plateau", path, "cosine"], jobs=1)
    assert_alike(alone.of("lively"), together.of("lively"))


def test_more_jobs_and_seeds_keep_the_first_ones(tiny: None) -> None:
    few, many = run(["cosine"], jobs=1, seeds=1), run(["cosine"], jobs=2, seeds=2)
    assert {row.key for row in few.rows} < {row.key for row in many.rows}
    assert_alike(few.of("cosine"), many.of("cosine")[:1])


def test_rows_that_are_done_are_not_run_again_and_the_result_is_the_same(tiny: None) -> None:
    whole = run(["cosine"])
    new: list[Row] = []
    rest = run(["cosine"], done_rows=whole.rows[:3], on_row=new.append)
    assert rest.rows == whole.rows
    assert new == list(whole.rows[3:])


@pytest.mark.parametrize("known", [[0], [3], [1, 2], [0, 1, 2, 4, 5, 6, 7], range(8)])
def test_a_job_half_done_ends_with_the_same_rows_bit_for_bit(tiny: None, known: Sequence[int]) -> None:
    whole = run(["cosine"])
    new: list[Row] = []
    done = [whole.rows[number] for number in known]
    assert run(["cosine"], done_rows=done, on_row=new.append).rows == whole.rows
    assert new == [row for number, row in enumerate(whole.rows) if number not in known]


def test_rows_that_are_known_are_kept_even_where_their_neighbours_are_run_again(tiny: None) -> None:
    whole = run(["cosine"])
    marked = replace(whole.rows[0], test_loss=123.0)
    assert run(["cosine"], done_rows=[marked]).rows == (marked, *whole.rows[1:])


def test_a_jobs_runs_share_an_engine_up_to_so_many_and_more_seeds_leave_full_chunks_alone(
    tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, list[int]]] = []

    def note(methods: Mapping[str, PolicyMethod], experiments: Sequence[Experiment]) -> list[Row]:
        ran.append(("+".join(methods), [each.seed for each in experiments]))
        return run_together(methods, experiments)

    monkeypatch.setattr(chunks, "run_together", note)
    monkeypatch.setattr(chunks, "SLOTS", 5)
    few = run(["cosine", "hypergradient", "random/2"], jobs=1, seeds=4)
    assert ran == [("constant+cosine", [0, 1]), ("constant+cosine", [2, 3])]
    ran.clear()
    run(["cosine", "hypergradient", "random/2"], jobs=1, seeds=5, done_rows=few.rows)
    assert ran == [("constant+cosine", [4])]


def test_the_time_of_runs_side_by_side_is_shared_out_by_samples(tiny: None) -> None:
    before = time.process_time()
    rows = run(["cosine"], jobs=1).rows
    assert 0 < sum(row.seconds for row in rows) <= time.process_time() - before
    rates = [row.seconds / row.samples for row in rows]
    assert rates == pytest.approx([rates[0]] * len(rows))


def test_worker_processes_give_the_same_rows(tiny: None) -> None:
    names = ["cosine", "random@2", "hypergradient", save_mlp("p.safetensors")]
    told: list[Row] = []
    shared = run(names, jobs=1, workers=2, on_row=told.append)
    assert shared.rows == run(names, jobs=1).rows
    assert {row.key for row in told} == {row.key for row in shared.rows}
    assert all(row.seconds > 0 for row in told)


BUDGETS = {
    "constant": 1, "cosine": 1, "onecycle": 1, "plateau": 1, "lively": 1, "static": 1,
    "schedulefree": 1, "prodigy": 1, "hypergradient": 1,
    "random@3": 3, "grid@3": 3, "tpe@3": 3, "gp@3": 3, "cma-es@3": 3, "genetic@3": 3, "pbt@3": 3,
    "halving@3": 3, "hyperband@3": 3, "random/3": 1, "tpe/3": 1, "pbt/3": 1, "halving/3": 1,
}  # fmt: skip


def test_every_method_uses_the_same_training_samples_to_the_last_one(tiny: None) -> None:
    """Counted in the engines: a search with n trials uses n times as many, and with shared trials as many."""
    names = [save_mlp("p.safetensors") if name == "lively" else name for name in BUDGETS]
    comparison = compare(load_methods(names, static=GRID[5]), "tiny", "test", 2, 1)
    for row in comparison.rows:
        assert row.samples == row.budget == BUDGETS[row.method] * row.job_budget, row.method
        assert row.val_samples > 0, row.method
        if row.trials:
            assert row.samples == sum(trial.samples for trial in row.trials), row.method
            assert row.val_samples == sum(trial.val_samples for trial in row.trials), row.method
    starts = {(row.job, row.job_budget, row.start_test_loss) for row in comparison.rows}
    assert len(starts) == 2  # one for each job: the same for every method


def test_a_search_is_scored_by_the_trial_that_validation_chose(tiny: None) -> None:
    for row in run(["random@4", "tpe@4"], jobs=2, seeds=1).rows:
        if row.trials:
            chosen = min(row.trials, key=lambda trial: trial.val_loss)
            assert (row.val_loss, row.test_loss) == (chosen.val_loss, chosen.test_loss)
            assert row.records[-1].best == row.val_loss


def test_another_seed_draws_other_jobs(tiny: None) -> None:
    assert draw_jobs("tiny", "test", 3, 0) != draw_jobs("tiny", "test", 3, 1)
    assert draw_jobs("tiny", "test", 3, 0) == draw_jobs("tiny", "test", 5, 0)[:3]


def test_episode_seeds_differ_by_seed_job_and_repetition() -> None:
    seeds = [episode_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    assert len(set(seeds)) == 64


def test_a_comparison_leaves_global_randomness_alone(tiny: None, untouched_rng: None) -> None:
    run(["cosine", save_mlp("p.safetensors")], jobs=1, seeds=1)


def test_a_crashed_run_counts_and_is_scored_with_its_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    add_suite(monkeypatch, lr_decades=(10.0, 10.0), optimizers=("sgd",))
    comparison = run(["cosine"], jobs=1)
    summary = comparison.summaries[0]
    assert summary.crashes == summary.runs == 2
    assert summary.samples < summary.budget
    for row in comparison.rows:  # nothing trained: the best weights are those before training
        assert row.val_loss == pytest.approx(row.start_val_loss, rel=1e-6)  # as another engine has it
        assert row.test_loss == pytest.approx(row.start_val_loss, rel=0.5)


def test_summaries_computed_by_hand() -> None:
    comparison = make_comparison(
        constant=[[1.0, 3.0], [4.0, 4.0], [3.0, 9.0]], x=[[0.5, 1.5], [4, 4], [9, 3]]
    )
    constant, x = comparison.summaries
    assert constant.test_loss.mean == pytest.approx(4)  # of 2, 4, 6
    assert constant.test_loss.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 2 / np.sqrt(3))
    assert constant.median_test_loss.mean == 3.5
    # Per job: both halved, both equal, and one tripled while the other fell to a third.
    assert x.log_ratio.mean == pytest.approx(-np.log(2) / 3)
    assert x.log_ratio.n == 3
    assert x.share_below == pytest.approx((2 + 1 + 1) / 6)
    assert (x.runs, x.budget, x.samples, x.val_samples) == (6, 600, 600, 360)
    assert constant.verdict == ""


@pytest.mark.parametrize(("factor", "word"), [(0.5, "better"), (2.0, "worse")])
def test_a_steady_ratio_is_called_by_its_name(factor: float, word: str) -> None:
    base = [[1.0, 1.2], [5.0, 5.5], [20.0, 30.0]]
    noise = np.array([[1.01, 0.99], [1.02, 1.0], [0.97, 1.03]])
    comparison = make_comparison(constant=base, x=(np.array(base) * factor * noise).tolist())
    assert comparison.summaries[1].verdict == word
    assert np.exp(comparison.summaries[1].log_ratio.mean) == pytest.approx(factor, rel=0.02)


def test_noise_is_not_called_better() -> None:
    rng = np.random.default_rng(0)
    words = []
    for _ in range(200):
        a, b = rng.lognormal(size=(2, 5, 1)).tolist()
        words.append(make_comparison(constant=a, x=b).summaries[1].verdict)
    assert 0.90 <= words.count("no difference shown") / 200 <= 0.99


def test_a_single_run_says_nothing() -> None:
    summary = make_comparison(constant=[[1.0]], x=[[0.1]]).summaries[1]
    assert summary.verdict == "too few runs"
    assert summary.log_ratio.mean == pytest.approx(np.log(0.1))


def test_an_infinite_test_loss_is_counted_and_never_dropped() -> None:
    comparison = make_comparison(constant=[[1.0], [1.0], [1.0]], x=[[0.1], [0.1], [INF]])
    x = comparison.summaries[1]
    assert x.not_finite == 1
    assert x.test_loss.mean == x.log_ratio.mean == INF
    assert np.isnan(x.log_ratio.low)
    assert x.verdict == "no difference shown"
    assert x.share_below == pytest.approx(2 / 3)


def test_a_metric_is_averaged_over_the_jobs_that_have_it() -> None:
    rows = (
        make_row("a", 0, metrics={"accuracy": 0.5}),
        make_row("a", 1, metrics={"accuracy": 0.7}),
        make_row("a", 2, metrics={"r2": 0.9}),
    )
    metrics = Comparison(rows, ("a",), "a").summaries[0].metrics
    assert metrics["accuracy"].mean == pytest.approx(0.6)
    assert (metrics["accuracy"].n, metrics["r2"].n) == (2, 1)


def test_methods_are_named_after_what_they_are_and_the_baseline_comes_along() -> None:
    Path("a").mkdir()
    paths = [save_mlp("a/policy.safetensors", "my run/1"), save_mlp("b.safetensors", "my run/1")]
    assert list(load_methods(["cosine", *paths])) == ["constant", "cosine", "my-run-1", "my-run-1-2"]
    assert list(load_methods(["plateau", "constant"])) == ["plateau", "constant"]


def test_unknown_methods_settings_and_baselines_are_refused(tiny: None) -> None:
    with pytest.raises(ConfigError, match="unknown method or policy file 'cosin'"):
        load_methods(["cosin"])
    with pytest.raises(ConfigError, match="no methods to compare"):
        load_methods([])
    with pytest.raises(ConfigError, match="jobs must be >= 1, got 0"):
        run(["cosine"], jobs=0)
    with pytest.raises(ConfigError, match="seeds must be >= 1, got 0"):
        run(["cosine"], seeds=0)
    with pytest.raises(ConfigError, match="the baseline 'x' is not among the methods constant, cosine"):
        run(["cosine"], baseline="x")


@pytest.mark.parametrize("unseen", ["dataset", "architecture", "optimizer", "horizon"])
def test_jobs_of_one_kind_of_generalization_can_be_drawn_alone(unseen: str) -> None:
    specs = draw_jobs("standard", "test", 30, 0, unseen)
    assert {spec.unseen for spec in specs} == {(unseen,)}
    assert len({spec.family for spec in specs}) > 3


def test_a_kind_of_generalization_that_nothing_asks_for_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown unseen 'data'.*dataset"):
        draw_jobs("standard", "test", 1, 0, "data")
    with pytest.raises(ConfigError, match="no part of the split has unseen 'optimizer'"):
        draw_jobs("quick", "test", 1, 0, "optimizer")
    with pytest.raises(ConfigError, match="no part of the split has unseen 'dataset'"):
        draw_jobs("standard", "train", 1, 0, "dataset")


def test_a_searchs_curve_ends_at_what_it_chose_and_a_populations_runs_side_by_side(tiny: None) -> None:
    for row in run(["random@3", "pbt@3", "pbt/3"], jobs=2, seeds=2).rows:
        if row.trials:
            used, losses = zip(*row.curve, strict=True)
            assert list(used) == sorted(set(used))
            assert list(losses) == sorted(set(losses), reverse=True)
            assert losses[-1] == row.val_loss
            assert used[-1] <= row.samples
            assert used[0] >= row.job_budget * len(row.trials) // 40 if row.method == "pbt@3" else used[0] > 0
