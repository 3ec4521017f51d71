"""How far a run is, on a clock of the test's own; and one case in a few words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from bench.measure.launch.progress import Lines, Terminal, choose_display, headline
from bench.measure.launch.progress_line import ASCII_MARKS, Counting, Marks, marks_for, show_clock
from bench.measure.planning.session import BUDGET_REASON
from bench.records.lines.header import Environment
from bench.records.lines.kinds import Measurement
from tests.support.results import line, measurement

ALL_REDUCE = "collective/all_reduce[num_bytes=1000000]"
SHORT = "all_reduce 977 KiB"
MLP = "tensor_parallel/mlp[batch=1,direction=forward,ffn_hidden=1024,hidden=256,implementation=sequence,sequence=256]"
WIDTHS = (40, 80, 100, 200)


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
        ({"bytes": 1_000_000, "bus_factor": 1.5}, "2.00 ms  750 MB/s"),
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


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (31.4, "0:31"), (59.6, "1:00"), (3725, "1:02:05")])
def test_a_time_as_a_clock_shows_it(seconds: float, text: str) -> None:
    assert show_clock(seconds) == text


@pytest.mark.parametrize(
    ("encoding", "marks"), [("utf-8", Marks()), ("ascii", ASCII_MARKS), (None, ASCII_MARKS), ("no such", ASCII_MARKS)]
)
def test_the_bar_has_characters_that_the_stream_can_write(encoding: str | None, marks: Marks) -> None:
    assert marks_for(encoding) == marks


def counting(now: Time, num_planned: int = 43, estimate_seconds: float = 100.0) -> Counting:
    return Counting(num_planned, estimate_seconds, [ALL_REDUCE, MLP, "sum/run"], now)


def test_the_time_left_is_what_was_last_told_less_what_has_gone_since() -> None:
    now = Time()
    count = counting(now)
    assert count.seconds_left() == 100.0
    now.seconds += 4
    assert count.seconds_left() == 96.0
    count.expect(30.0)
    assert count.seconds_left() == 30.0
    now.seconds += 12
    assert count.seconds_left() == 18.0
    now.seconds += 20
    assert count.seconds_left() == 0.0  # until it is told again
    count.expect(5.0)
    assert count.seconds_left() == 5.0


def test_a_case_that_hangs_takes_nothing_off_the_time_of_the_others_and_says_so() -> None:
    now = Time()
    count = counting(now)
    count.expect(30.0)
    count.begin(ALL_REDUCE, expected_seconds=2.0)
    shown = []
    for _ in range(40):
        now.seconds += 1
        shown.append(count.seconds_left())
        assert ("over its time: all_reduce" in count.line_under_way(100)) == (now.seconds > 1006)
    assert shown == [29.0, *[28.0] * 39]
    count.count(is_repeat=False)
    assert count.seconds_left() == 28.0
    now.seconds += 3
    assert count.seconds_left() == 25.0  # the time goes on


def test_the_time_left_never_goes_beyond_the_run_s_limit() -> None:
    now = Time()
    count = counting(now)
    count.expect(30.0, limit_seconds=40.0)
    count.begin(ALL_REDUCE, expected_seconds=2.0)
    now.seconds += 35
    assert count.seconds_left() == 5.0


def test_nothing_to_do_is_no_error() -> None:
    count = counting(Time(), 0, 0.0)
    assert count.seconds_left() == 0.0
    assert count.line_under_way(80) == "0:00 left  ########## 0/0  starting the ranks"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_time_left_comes_first_at_any_width(width: int) -> None:
    count = counting(Time(), estimate_seconds=31.0)
    for _ in range(25):
        count.count(is_repeat=False)
    count.begin(MLP)
    lines = [
        count.line_under_way(width),
        count.line_under_way(width, f"{SHORT}  2.00 ms  500 MB/s"),
        count.line_done(MLP, "1.23 ms  4.50 GB/s", False, width),
        count.line_done(MLP, f"failed: {'a long reason ' * 20}", False, width),
        count.line_done(MLP, "1.23 ms", True, width),
    ]
    bar = "##..." if width < 80 else "#####....."
    for text in lines:
        assert len(text) <= width
        assert text.startswith(f"0:31 left  {bar} 25/43  ")
    assert lines[0].endswith("tensor parallel mlp"[: max(0, width - 27)] + ("..." if width < 43 else ""))
    if width >= 80:
        assert lines[2] == f"0:31 left  {bar} 25/43  tensor parallel mlp  1.23 ms  4.50 GB/s"


def test_the_last_figure_stands_beside_its_own_name() -> None:
    count = counting(Time(), estimate_seconds=31.0)
    count.begin("sum/run")
    last = f"{SHORT}  2.00 ms"
    assert count.line_under_way(100, last).endswith(f"0/43  sum   last: {SHORT}  2.00 ms")
    assert count.line_under_way(60, last).endswith("0/43  sum")  # no room for the whole
    count.count(is_repeat=False)
    assert count.line_under_way(100, last).endswith(f" 1/43   last: {SHORT}  2.00 ms")


def test_repeats_are_named_so_and_are_no_cases() -> None:
    count = counting(Time(), 2)
    count.drop(1)  # a visit that will not be made
    count.count(is_repeat=False)
    for number, words in enumerate(["+1 repeat of a disturbed case: sum", "+2 repeats of disturbed cases: sum"], 1):
        count.begin("sum/run", is_repeat=True)
        assert count.line_under_way(80) == f"1:40 left  ########## 1/1  {words}"
        assert count.line_under_way(40).startswith(f"1:40 left  ##### 1/1  +{number} repeat")
        count.count(is_repeat=True)
        assert count.line_done("sum/run", "2.00 ms", True, 80) == f"1:40 left  ########## 1/1  {words}  2.00 ms"


def test_where_there_is_no_terminal_a_case_is_a_plain_line() -> None:
    now, stream = Time(), io.StringIO()
    lines = Lines(stream, 4, 150.0, [ALL_REDUCE, "sum/run"], now)
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
    lines.done(line(measurement(ALL_REDUCE)), is_repeat=True)
    lines.done(without_speed("sum/run", "skipped", BUDGET_REASON))
    lines.done(without_speed("sum/run", "skipped", BUDGET_REASON))
    lines.close()
    lines.close()
    assert stream.getvalue().splitlines() == [
        f"1:25 left  ##........ 1/4  {SHORT}  2.00 ms  500 MB/s",
        "0:03 left  #####..... 2/4  sum  failed: boom",
        "Rough:",
        f"0:03 left  #####..... 2/4  +1 repeat of a disturbed case: {SHORT}  2.00 ms",
        "0:03 left  ########## 4/4  2 skipped: no time was left",
    ]


def test_a_reason_is_said_once_for_a_suite_and_in_full() -> None:
    now, stream = Time(), io.StringIO()
    lines = Lines(stream, 6, 60.0, [ALL_REDUCE, "sum/run", "sum/add", "sum/max"], now)
    reason = "check() has to return (error, tolerance), two numbers; it returned True (sum.py, check, line 12)"
    for case in ("sum/run", "sum/add", ALL_REDUCE, "sum/max"):
        lines.done(without_speed(case, "failed", reason))
    lines.done(line(measurement(ALL_REDUCE)))
    lines.done(line(measurement(ALL_REDUCE)))
    lines.close()
    said = stream.getvalue().splitlines()
    assert max(map(len, said)) <= 100
    assert said == [
        "1:00 left  #......... 1/6  sum  failed",
        "    check() has to return (error, tolerance), two numbers; it returned True (sum.py, check, line",
        "    12)",
        f"1:00 left  #####..... 3/6  {SHORT}  failed",
        "    check() has to return (error, tolerance), two numbers; it returned True (sum.py, check, line",
        "    12)",
        f"1:00 left  ########.. 5/6  {SHORT}  2.00 ms",
        f"1:00 left  ########## 6/6  {SHORT}  2.00 ms",
        "1:00 left  ########## 6/6  2 more failed, for a reason said above",
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_stream_gets_the_display_that_fits_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    assert isinstance(choose_display(io.StringIO(), 2, 10.0), Lines)
    stream = FakeTerminal()
    display = choose_display(stream, 0, 0.0, ["sum/run[size=8]"])  # a resumed run may have nothing left to do
    try:
        assert isinstance(display, Terminal)
        display.ready(Environment())
        display.begin("sum/run[size=8]")
        display.done(line(measurement(ALL_REDUCE)))
        display.begin("sum/run[size=8]")
        display.say("[bold]Rough:")
        assert len(display.line()) <= width
        assert display.line().startswith("0:00 left  ")
        assert " 1/1  sum 8" in display.line()
        assert display.line().endswith(f"   last: {ALL_REDUCE}  2.00 ms") == (width >= 100)
    finally:
        display.close()
    assert "sum 8" in stream.getvalue()
    assert "[bold]Rough:\n" in stream.getvalue()  # taken as it is, and left there
    assert not display.live.is_started
