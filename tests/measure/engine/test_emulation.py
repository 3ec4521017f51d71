"""Emulated slow ranks and links: what is parsed, what is waited for, and a run that says so everywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bench.errors import BenchError, Skip
from bench.measure.engine import emulation
from bench.measure.engine.emulation import CpuSpeed, slow_down
from bench.measure.planning.options import parse_speeds
from bench.measure.planning.plan import Plan
from bench.records.environments import architecture, differences, emulation_label
from bench.records.lines.header import Environment, RankFacts
from bench.suite import COMMUNICATION, Work
from tests.support.command import call, saved
from tests.support.plans import a_plan


class Clock:
    """A thread's and a process's CPU time, and what was waited."""

    def __init__(self) -> None:
        self.thread, self.process, self.waited = 0.0, 0.0, []  # type: ignore[var-annotated]

    def pace(self, compute: float = 1.0, link: float = 1.0) -> CpuSpeed:
        return CpuSpeed(compute, link, lambda: self.thread, lambda: self.process, self.waited.append)

    def compute(self, seconds: float) -> None:
        self.thread += seconds
        self.process += seconds

    def copy(self, seconds: float) -> None:
        """Work of another thread of the process."""
        self.process += seconds


def test_ranks_and_speeds_are_parsed_in_the_order_of_the_ranks() -> None:
    assert parse_speeds("--slow", ["3=0.25", "1=0.5,0=0.9"], 4) == ((0, 0.9), (1, 0.5), (3, 0.25))
    assert parse_speeds("--slow", [], 4) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4=0.5", "the run has 4 ranks, 0 to 3"),
        ("1", "RANK=SPEED"),
        ("-1=0.5", "RANK=SPEED"),
        ("1=0", "between 0 and 1"),
        ("1=2", "between 0 and 1"),
        ("1=1", "between 0 and 1"),
        ("1=nan", "between 0 and 1"),
        ("1=half", "between 0 and 1"),
        ("1=0.5,1=0.25", "rank 1 is given twice"),
    ],
)
def test_what_is_no_rank_or_speed_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        parse_speeds("--slow-link", [text], 4)
    assert "--slow-link" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_is_dilated_by_its_cpu_seconds_once_and_without_its_communication() -> None:
    clock = Clock()
    pace = clock.pace(compute=0.25)
    with pace.part("backward"):
        clock.compute(2.0)
        with pace.part("loss"):
            clock.compute(1.0)
        with pace.part(COMMUNICATION):
            clock.compute(5.0)
    assert clock.waited == [pytest.approx(9.0)]
    assert (pace.seen, pace.link_seen) == (True, True)


def test_a_part_that_raises_leaves_nothing_behind() -> None:
    clock = Clock()
    pace = clock.pace(compute=0.5)
    with suppress(ZeroDivisionError), pace.part("forward"):
        clock.compute(1.0)
        raise ZeroDivisionError
    with pace.part("forward"):
        clock.compute(3.0)
    assert clock.waited == [1.0, 3.0]


def test_a_slow_link_waits_before_by_what_the_process_last_copied() -> None:
    clock = Clock()
    pace = clock.pace(link=0.25)
    for _ in range(2):
        with pace.part(COMMUNICATION):
            clock.copy(2.0)
        with pace.part("forward"):
            clock.compute(7.0)
    assert clock.waited == [0.0, 6.0]


def work(run: Any, **facts: Any) -> Work:
    return Work(variants={"full": run}, check=lambda: (0.0, 0.0), **facts)


def test_a_call_without_parts_is_one_part_where_it_computes() -> None:
    clock = Clock()
    pace = clock.pace(compute=0.5)
    whole = slow_down(work(lambda: clock.compute(1.0), flops=1.0), pace)
    for _ in range(3):
        whole.variants["full"]()
    assert clock.waited == [1.0, 1.0]  # the first call, a warm-up, shows that it has no parts

    def marked() -> None:
        with pace.part("forward"):
            clock.compute(3.0)

    clock.waited.clear()
    parts = slow_down(work(marked, flops=1.0), pace)
    for _ in range(2):
        parts.variants["full"]()
    assert clock.waited == [3.0, 3.0]


def test_collectives_have_a_slow_link_and_no_slow_compute() -> None:
    clock = Clock()
    both = clock.pace(compute=0.5, link=0.5)
    collective = slow_down(work(lambda: clock.copy(1.0), bytes=8, bus_factor=1.0), both)
    for _ in range(3):
        collective.variants["full"]()
    assert clock.waited == [0.0, 1.0, 1.0]
    nothing = work(lambda: None)
    assert slow_down(nothing, both) is nothing
    assert slow_down(nothing, None) is nothing


def test_a_slow_link_is_refused_where_no_message_is_marked() -> None:
    pace = Clock().pace(link=0.5)
    split = Work(variants={"full": print}, check=lambda: (0.0, 0.0), flops=1.0)
    with pytest.raises(Skip, match="does not mark its communication"):
        emulation.refuse_unmarked_links(split, pace)
    pace.link_seen = True
    emulation.refuse_unmarked_links(split, pace)
    emulation.refuse_unmarked_links(split, None)
    pace.link_seen = False
    emulation.refuse_unmarked_links(replace(split, communicates=False), pace)


def test_names_and_differences_say_what_is_emulated() -> None:
    plain = [RankFacts(rank=r, host="a", device_type="cuda", device_name="X") for r in range(3)]
    ranks = [msgspec.structs.replace(facts, emulated_speed=0.5 if facts.rank else None) for facts in plain]
    assert emulation_label(ranks) == " (emulated: ranks 1, 2 compute at 0.5)"
    ranks[2] = msgspec.structs.replace(plain[2], emulated_link_speed=0.1)
    assert architecture(ranks, {}) == "3 x X (emulated: rank 1 computes at 0.5; rank 2 communicates at 0.1)"
    assert "rank.emulated_speed" in [
        name for name, _, _ in differences(Environment(ranks=ranks), Environment(ranks=plain))
    ]
    assert emulation_label(plain) == ""


def test_a_plan_keeps_it_and_plans_from_before_have_none() -> None:
    plan = a_plan(slow=((1, 0.5),))
    assert Plan.from_row(plan.row()) == plan
    old = msgspec.structs.replace(plan.row(), slow=[], slow_links=[])
    assert Plan.from_row(old).slow == ()
    assert emulation.notes(plan) == ["emulated: rank 1 computes at 0.5 of its speed"]


def fake_stream(monkeypatch: pytest.MonkeyPatch, cycles_per_second: Callable[[], float]) -> list[float]:
    """A stream whose time only sleeps and parts take, with events and a sleep that only count."""
    import torch

    stream = [0.0]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = -1.0

        def record(self) -> None:
            self.at = stream[0]

        def synchronize(self) -> None: ...

        def query(self) -> bool:
            return True

        def elapsed_time(self, end: Event) -> float:
            return (end.at - self.at) * 1e3

    def sleep(cycles: int) -> None:
        stream[0] += cycles / cycles_per_second()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", sleep, raising=False)
    return stream


def test_a_waiting_kernel_is_as_long_as_the_part_took(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = fake_stream(monkeypatch, lambda: 1000.0)
    monkeypatch.setattr(emulation, "keep_busy", lambda device, seconds: None)
    pace = emulation.make_rank_speed(SimpleNamespace(type="cuda"), compute_speed=0.25)  # type: ignore[arg-type]
    stream[0] = 0.0
    for took in (1.0, 2.0, 2.0):
        with pace.part("forward"):
            stream[0] += took
    assert stream[0] == pytest.approx(1.0 + 3.0 + 2.0 + 3.0 + 2.0 + 6.0)  # the second waits as long as the first took


def test_a_clock_is_asked_for_at_work_and_again_until_it_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle GPU at 345 MHz, which work brings up in steps: a wait of 1 s by the first of them would last 0.17 s."""
    clocks = [345e6, 345e6, 600e6, 600e6, 1200e6, 1200e6, 1960e6, 1960e6, 1980e6]  # each for two sleeps
    asked: list[float] = []

    def cycles_per_second() -> float:
        asked.append(clocks[min(len(asked), len(clocks) - 1)])
        return asked[-1]

    stream = fake_stream(monkeypatch, cycles_per_second)
    busy: list[float] = []

    def keep_busy(device: Any, seconds: float) -> None:
        assert not asked
        busy.append(seconds)

    monkeypatch.setattr(emulation, "keep_busy", keep_busy)
    pace = emulation.make_rank_speed(SimpleNamespace(type="cuda"), compute_speed=0.5)  # type: ignore[arg-type]
    assert busy == [emulation.WARM_SECONDS]
    stream[0] = 0.0
    with pace.part("forward"):
        stream[0] += 1.0
    assert stream[0] == pytest.approx(2.0, rel=0.001)


def test_a_clock_that_never_settles_ends_the_calibration_too() -> None:
    measured: list[float] = []

    def measure() -> float:
        measured.append(1e9 * 1.05 ** len(measured))
        return measured[-1]

    assert emulation.settle(measure) == measured[-1]
    assert len(measured) == emulation.MAX_CALIBRATIONS


@pytest.mark.long
@pytest.mark.seeded
def test_a_run_with_a_slow_rank_says_so_everywhere(tmp_path: Path) -> None:
    case = "compute/matmul[shape=square,size=256]"
    run = call("run", "--preset", "smoke", "--ranks", "2", "--slow", "1=0.25", "--case", case, "-o", str(tmp_path))
    assert run.returncode == 0, run.stderr
    file = saved(tmp_path)
    said = "emulated: rank 1 computes at 0.25"
    assert said in file.header["architecture"]
    assert said in run.stdout
    assert file.header["plan"]["slow"] == [[1, 0.25]]
    assert [rank.get("emulated_speed") for rank in file.header["environment"]["ranks"]] == [None, 0.25]
    (record,) = file.measurements
    assert f"{said} of its speed" in record["notes"]
    alone = [sorted(samples)[len(samples) // 2] for samples in record["variants"]["full"]["nanoseconds"]]
    assert 2.0 < alone[1] / alone[0] < 8.0
    assert said in call("show", str(file.path)).stdout
    wrong = call("run", "--preset", "smoke", "--ranks", "2", "--slow", "2=0.5", "-o", str(tmp_path / "no"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--slow 2=0.5: the run has 2 ranks, 0 to 1" in wrong.stderr


def test_a_wait_follows_the_clock_as_it_falls_at_the_power_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrated at 2.0 GHz, at work at 1.6: only the first wait may be a quarter too long."""
    gigahertz = [2.0]
    stream = fake_stream(monkeypatch, lambda: gigahertz[0] * 1e9)
    monkeypatch.setattr(emulation, "keep_busy", lambda device, seconds: None)
    pace = emulation.make_rank_speed(SimpleNamespace(type="cuda"), compute_speed=0.5)  # type: ignore[arg-type]
    gigahertz[0] = 1.6
    waits = []
    for _ in range(4):
        with pace.part("forward"):
            stream[0] += 0.01
        waits.append(stream[0])
    lengths = [after - before - 0.01 for before, after in pairwise(waits)]
    assert lengths == [pytest.approx(0.01)] * 3
