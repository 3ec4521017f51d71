"""Who holds up a case, from what the ranks' watchdogs say; and what one watchdog says of its main thread."""

from __future__ import annotations

import threading
from dataclasses import replace

import msgspec
import pytest

from bench.measure.engine.watchdog import (
    OverdueReport,
    Watchdog,
    describe_limit,
    describe_missing,
    read_report,
    report_key,
)
from bench.measure.engine.worker import LEAST_TIMEOUT_SECONDS, timeout_seconds
from bench.measure.planning.time_budget import NextTurn
from tests.measure.engine.test_consensus import memory_store
from tests.support.plans import a_plan

HEAD = "no end within --timeout 90 s: "
TIMEOUT_SECONDS = 90.0


def busy(rank: int) -> OverdueReport:
    return OverdueReport(rank, f"node{rank}", "measure", waits_in_communication=False, frame="mine.py:12 run")


def waiting(rank: int) -> OverdueReport:
    return OverdueReport(rank, f"node{rank}", "check before", waits_in_communication=True, frame="mine.py:20 check")


@pytest.mark.parametrize(
    ("reports", "num_ranks", "sentence"),
    [
        ([], 3, "no rank gives a sign of life"),
        ([waiting(0), waiting(2)], 3, "rank 1 gives no sign of life (stopped, or its interpreter is stuck)"),
        ([waiting(1)], 3, "rank 0, 2 gives no sign of life (stopped, or its interpreter is stuck)"),
        ([busy(0)], 2, "rank 1 gives no sign of life (stopped, or its interpreter is stuck)"),
        (
            [waiting(0), busy(1)],
            2,
            "rank 1 on node1 in phase measure, at mine.py:12 run; the others wait in communication",
        ),
        (
            [busy(0), waiting(1), busy(2)],
            3,
            "rank 0 on node0 in phase measure, at mine.py:12 run; rank 2 on node2 in phase measure, at mine.py:12 run; "
            "the others wait in communication",
        ),
        ([busy(0)], 1, "rank 0 on node0 in phase measure, at mine.py:12 run"),
        (
            [busy(0), busy(1)],
            2,
            "rank 0 on node0 in phase measure, at mine.py:12 run; rank 1 on node1 in phase measure, at mine.py:12 run",
        ),
        (
            [waiting(0), waiting(1)],
            2,
            "every rank waits in communication: rank 0 (node0, check before), rank 1 (node1, check before)",
        ),
    ],
)
def test_the_rank_that_did_not_arrive_is_named(reports: list[OverdueReport], num_ranks: int, sentence: str) -> None:
    limit = describe_limit(TIMEOUT_SECONDS, TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    assert describe_missing({r.rank: r for r in reports}, num_ranks, limit) == HEAD + sentence


def test_what_cut_a_case_off_is_said_whichever_it_was() -> None:
    assert describe_limit(60.0, 60.0, 60.0) == "--timeout 60 s"
    assert describe_limit(180.0, 180.0, 60.0) == "--timeout 60 s"  # and two minutes that its work asked for
    assert describe_limit(12.34, 60.0, 60.0) == "the 12.3 s that were left of the run's time"
    assert describe_limit(90.0, 60.0, 60.0) == "the 90 s that were left of the run's time"  # of an expensive case


@pytest.mark.parametrize(
    ("seconds_left", "lasts", "is_dear", "limit"),
    [
        (None, 0.0, False, 60.0),
        (300.0, 0.0, False, 60.0),
        (20.0, 0.0, False, 20.0),
        (1.0, 0.0, False, LEAST_TIMEOUT_SECONDS),  # what was begun has a moment, since what it takes was guessed
        (300.0, 120.0, False, 180.0),  # what lasts by its own word has that besides
        (150.0, 120.0, False, 150.0),
        (90.0, 0.0, True, 90.0),  # known to take long
    ],
)
def test_no_time_out_is_above_the_time_left(
    seconds_left: float | None, lasts: float, is_dear: bool, limit: float
) -> None:
    plan = a_plan(1, timeout_seconds=60.0)
    plan = replace(plan, cases=(msgspec.structs.replace(plan.cases[0], min_seconds=lasts),))
    assert timeout_seconds(plan, seconds_left, NextTurn((0, 0), 0.5, None, None, is_dear)) == limit


def test_a_case_with_less_time_than_the_one_before_is_late_when_its_own_time_is_up() -> None:
    store, expired = memory_store(), threading.Event()
    watchdog = Watchdog(0, "node0", store, store, "g0", 3600.0, expired.set)
    watchdog.restart()
    watchdog.restart(0.01)
    assert expired.wait(60.0)
    assert watchdog.limit_seconds == 0.01


def test_what_a_case_asks_for_on_the_way_does_not_outlast_the_run() -> None:
    store, expired = memory_store(), threading.Event()
    watchdog = Watchdog(0, "node0", store, store, "g0", 3600.0, expired.set)
    watchdog.restart(0.005, 0.01)
    watchdog.allow(3600.0)
    assert expired.wait(60.0)
    assert watchdog.limit_seconds == 0.01


def late(filename: str, device_is_busy: bool = False) -> OverdueReport:
    """What a watchdog says of a main thread that waits in code of this file."""
    store, expired = memory_store(), threading.Event()
    watchdog = Watchdog(3, "node3", store, store, "g0", timeout_seconds=0.3, expired=expired.set)
    watchdog.watch_device(lambda: device_is_busy)
    watchdog.restart()
    watchdog.enter("check before")
    code = compile("def wait():\n    assert event.wait(30)\n", filename, "exec")
    scope: dict[str, object] = {"event": expired}
    exec(code, scope)
    wait = scope["wait"]
    assert callable(wait)
    wait()
    assert store.get("g0/phase/3") == b"check before"
    return read_report(store.get(report_key("g0", 3)))


def test_a_late_rank_says_where_it_is() -> None:
    assert late("/home/someone/mine.py") == OverdueReport(
        3, "node3", "check before", waits_in_communication=False, frame="mine.py:2 wait"
    )


def test_a_rank_whose_device_is_not_done_waits_for_it_in_its_own_code_too() -> None:
    """`float(tensor)`, `.item()` and `.tolist()` have no frame of torch's."""
    report = late("/home/someone/mine.py", device_is_busy=True)
    assert report == OverdueReport(3, "node3", "check before", waits_in_communication=True, frame="mine.py:2 wait")


@pytest.mark.parametrize("package", ["distributed", "cuda"])
def test_a_rank_that_waits_for_others_or_for_its_device_says_so(package: str) -> None:
    report = late(f"/venv/lib/python3.12/site-packages/torch/{package}/module.py")
    assert report.waits_in_communication
    assert report.frame.startswith("test_watchdog.py:")
    assert report.frame.endswith(" late")


def test_work_that_asks_for_more_time_gets_it() -> None:
    store = memory_store()
    expired = threading.Event()
    watchdog = Watchdog(0, "node0", store, store, "p", 0.0, expired.set)
    watchdog.allow(3600.0)  # before the first case nothing is watched, and nothing is given
    watchdog.timeout_seconds = 3600.0
    watchdog.restart()
    watchdog.allow(-7200.0)
    with watchdog._changed:
        watchdog._changed.notify()
    assert expired.wait(60.0)


def test_a_watchdog_watches_as_long_as_it_is_held() -> None:
    store = memory_store()
    with Watchdog(0, "node0", store, store, "g0", timeout_seconds=3600.0) as watchdog:
        watchdog.restart()
        assert not watchdog._stopped
    assert watchdog._stopped


def test_a_watchdog_that_was_stopped_is_silent() -> None:
    store, before = memory_store(), set(threading.enumerate())
    watchdog = Watchdog(0, "node0", store, store, "g0", timeout_seconds=3600.0, expired=lambda: pytest.fail("expired"))
    watchdog.enter("prepare")
    watchdog.restart()
    (thread,) = [each for each in threading.enumerate() if each.name == "bench-watchdog" and each not in before]
    watchdog.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert not store.check([report_key("g0", 0)])
