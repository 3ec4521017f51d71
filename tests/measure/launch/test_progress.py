"""How far a run is, on a clock of the test's own; and one case in a few words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from bench.measure.launch.progress import Counting, Lines, Terminal, choose_display, headline
from bench.records.lines.header import Environment
from bench.records.lines.kinds import Measurement
from tests.support.results import line, measurement

ALL_REDUCE = "collective/all_reduce[num_bytes=1000000]"


def without_speed(case: str, status: str, reason: str) -> Measurement:
    return line(measurement(case, status=status, reason=reason, variants={}))


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        # The slowest rank took 2 ms.
        ({}, "2.00 ms"),
        ({"calls": 4}, "500 us"),
        ({"bytes": 1_000_000, "bus_factor": 1.5}, "2.00 ms  0.750 GB/s"),
        ({"bytes": 1_000_000}, "2.00 ms"),  # no bus factor, such as a barrier
        ({"tokens": 100}, "2.00 ms  50,000 tokens/s"),
        ({"flops": 4e9}, "2.00 ms  1.00 TFLOP/s"),  # 2 ranks
        ({"memory_traffic_bytes": 4_000_000}, "2.00 ms  2.00 GB/s"),
        ({"flops": 4e9, "tokens": 100}, "2.00 ms  50,000 tokens/s"),
    ],
)
def test_a_case_in_a_few_words(fields: dict[str, Any], words: str) -> None:
    assert headline(line(measurement(ALL_REDUCE, **fields))) == words


def test_a_case_without_a_speed_says_why_on_one_line() -> None:
    assert headline(without_speed(ALL_REDUCE, "skipped", "needs 2 ranks")) == "skipped: needs 2 ranks"
    assert headline(without_speed(ALL_REDUCE, "failed", "two\nlines \x1b[31mred")) == "failed: two lines \\x1b[31mred"


def test_the_time_left_is_what_was_last_told_less_what_has_gone_since() -> None:
    now = Time()
    counting = Counting(20, 100.0, now)
    assert counting.seconds_left() == 100.0
    now.seconds += 4
    assert counting.seconds_left() == 96.0
    counting.expect(30.0)
    assert counting.seconds_left() == 30.0
    now.seconds += 12
    counting.num_done = 3
    assert counting.seconds_left() == 18.0
    now.seconds += 20
    assert counting.seconds_left() == 0.0  # until it is told anew
    counting.expect(5.0)
    assert counting.seconds_left() == 5.0


def test_nothing_to_do_is_no_error() -> None:
    assert Counting(0, 0.0, Time()).seconds_left() == 0.0
    assert Counting(0, 0.0, Time()).line() == "[0/0] starting the ranks    about 0:00 left"


def test_where_there_is_no_terminal_a_case_is_a_plain_line() -> None:
    now, stream = Time(), io.StringIO()
    lines = Lines(stream, 2, 150.0, now)
    lines.ready(Environment())
    lines.begin(ALL_REDUCE)
    assert stream.getvalue() == ""
    now.seconds += 65
    lines.done(line(measurement(ALL_REDUCE, bytes=1_000_000, bus_factor=1.0)))
    lines.begin("sum/run")
    now.seconds += 10
    lines.expect(3.0)
    lines.done(without_speed("sum/run", "failed", "boom"))
    lines.say("Rough:")
    lines.close()
    assert stream.getvalue().splitlines() == [
        f"[1/2] {ALL_REDUCE}  2.00 ms  0.500 GB/s  about 1:25 left",
        "[2/2] sum/run  failed: boom  about 0:03 left",
        "Rough:",
    ]


def test_a_stream_gets_the_display_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_display(io.StringIO(), 2, 10.0), Lines)
    stream = FakeTerminal()
    display = choose_display(stream, 0, 0.0)  # a resumed run may have nothing left to do
    try:
        assert isinstance(display, Terminal)
        display.ready(Environment())
        display.begin("sum/run[size=8]")
        display.done(line(measurement(ALL_REDUCE)))
        display.say("[bold]Rough:")
        assert display.line() == "[1/0] sum/run[size=8]  last: 2.00 ms  about 0:00 left"
    finally:
        display.close()
    assert "sum/run[size=8]" in stream.getvalue()
    assert "[bold]Rough:\n" in stream.getvalue()  # taken as it is, and left there
    assert not display.live.is_started
