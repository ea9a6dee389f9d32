"""Timing: every moment belongs to one part, what is compared runs in turn, and nothing stays replaced."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch

from rl_tuner import timing
from rl_tuner.errors import ConfigError
from rl_tuner.timing import Stopwatch, in_turn, one_thread, replaced, seconds_of


class Work:
    """Takes so many seconds by a clock that stands still otherwise."""

    now = 0.0

    def outer(self, seconds: float) -> str:
        """Takes them, the inner method's 3 seconds between."""
        Work.now += seconds
        self.inner()
        Work.now += seconds
        return "done"

    def inner(self) -> None:
        """Takes 3 seconds."""
        Work.now += 3.0

    def fail(self) -> None:
        """Takes 1 second."""
        Work.now += 1.0
        raise ValueError("broken")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Work.now = 0.0
    monkeypatch.setattr(timing.time, "process_time", lambda: Work.now)


def test_nested_parts_are_subtracted_and_all_parts_add_up() -> None:
    watch = Stopwatch("rest")
    with watch.watching({"outer": [(Work, "outer")], "inner": [(Work, "inner")]}):
        Work.now += 10.0
        assert Work().outer(2.0) == "done"
        Work().inner()
    assert watch.read() == {"rest": 10.0, "outer": 4.0, "inner": 6.0}
    assert sum(watch.read().values()) == Work.now


def test_a_part_that_fails_ends_there_and_what_follows_is_not_its_own() -> None:
    watch = Stopwatch("rest")
    with watch.watching({"failing": [(Work, "fail")]}):
        with pytest.raises(ValueError, match="broken"):
            Work().fail()
        Work.now += 5.0
    assert watch.read() == {"rest": 5.0, "failing": 1.0}


def test_the_methods_are_as_they_were_after_the_block_also_after_an_error() -> None:
    before = dict(vars(Work))
    watching = Stopwatch("rest").watching({"a": [(Work, "outer"), (Work, "fail")], "b": [(Work, "inner")]})
    with watching:
        assert all(vars(Work)[name] is not before[name] for name in ("outer", "inner", "fail"))
    assert dict(vars(Work)) == before
    watching = Stopwatch("rest").watching({"a": [(Work, "outer")]})
    with pytest.raises(ValueError, match="broken"), watching:
        Work().fail()
    assert dict(vars(Work)) == before | {"now": 1.0}


def test_a_method_that_the_class_does_not_define_is_not_replaced_silently() -> None:
    with pytest.raises(KeyError, match="missing"), replaced((Work, "missing"), lambda method: method):
        pass


def test_a_replaced_method_keeps_its_name_and_is_called_through() -> None:
    def loud(method: Callable[..., str]) -> Callable[..., str]:
        return lambda *args: method(*args).upper()

    with replaced((Work, "outer"), loud):
        assert Work().outer(1.0) == "DONE"
        assert Work.outer.__name__ == "outer"


def test_actions_run_in_turn_in_changing_order_and_the_first_time_is_not_counted() -> None:
    order: list[str] = []
    lengths: Iterator[float] = itertools.count(1.0)

    def action(name: str) -> Callable[[], None]:
        def run() -> None:
            order.append(name)
            Work.now += next(lengths)

        return run

    told: list[int] = []
    found = in_turn({"a": action("a"), "b": action("b")}, 2, on_action=lambda: told.append(1))
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert found["a"].tolist() == [3.0, 6.0]
    assert found["b"].tolist() == [4.0, 5.0]
    assert len(told) == 6


def test_on_another_device_the_clock_counts_and_what_is_pending_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Device:
        waits = 0

        @staticmethod
        def synchronize() -> None:
            Device.waits += 1
            Work.now += 0.5

    monkeypatch.setattr(timing.torch, "get_device_module", lambda device: Device)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 100 + Work.now)
    assert seconds_of(Work().inner, "cuda") == 3.5
    assert Device.waits == 2


@pytest.mark.parametrize("repeats", [0, -1])
def test_no_repeats_are_refused(repeats: int) -> None:
    with pytest.raises(ConfigError, match="repeats must be >= 1"):
        in_turn({"a": lambda: None}, repeats)


def test_one_thread_computes_and_their_number_is_put_back_also_after_an_error() -> None:
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="broken"), one_thread():
            Work().fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
