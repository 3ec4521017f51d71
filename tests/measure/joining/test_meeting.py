"""Ranks that meet in a real store on loopback, each on a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.core import clock
from bench.errors import BenchError
from bench.measure.engine.store import Store, StoreLost, StoreTimeout, connect_store, with_prefix
from bench.measure.joining import addresses, meeting
from bench.measure.joining.meeting import Meeting, RefusedError
from bench.measure.joining.start_guard import StartGuard
from bench.measure.launchers import endpoint
from bench.measure.launchers.place import LauncherRank
from tests.measure.engine.test_consensus import memory_store
from tests.support.meetings import free_port

Maker = Callable[..., Meeting]


@pytest.fixture
def a_rank() -> Maker:
    """Makes ranks of one job."""
    port = free_port()

    def make(rank: int, size: int = 2, limit: float = 60.0, **changes: Any) -> Meeting:
        joined = LauncherRank("env", rank, size, rank % 2, "127.0.0.1", port, False, "0", local_world_size=2)
        return Meeting(
            **{
                "joined": joined,
                "host": f"node{rank // 2}",
                "number": 0,
                "limit_seconds": limit,
                "began": clock.monotonic_seconds(),
                "say": lambda text: None,
                **changes,
            }
        )

    return make


def _follow(rank: Meeting) -> list[str] | BenchError:
    try:
        rank.open()
        return rank.wait_for_word()
    except BenchError as error:
        return error


def test_all_ranks_learn_where_everyone_is(a_rank: Maker) -> None:
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(_follow, a_rank(rank, 4)) for rank in (3, 1, 2)]
        first = a_rank(0, 4)
        first.open()
        hosts = first.call_roll()
        first.give_word(hosts)
        assert hosts == ["node0", "node0", "node1", "node1"]
        assert [other.result(60) for other in others] == [hosts] * 3


def test_while_it_waits_rank_0_says_who_is_there(a_rank: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "QUIET_SECONDS", 0.0)
    said, heard = list[str](), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            heard.set()

    first = a_rank(0, 4, say=say, known_hosts={2: "spare", 3: "spare"})
    with ThreadPoolExecutor(4) as pool:
        first.open()
        roll = pool.submit(first.call_roll)
        assert heard.wait(60)
        others = [pool.submit(_follow, a_rank(rank, 4)) for rank in (1, 2, 3)]
        first.give_word(roll.result(60))
        assert all(isinstance(other.result(60), list) for other in others)
    assert said[0].startswith("ranks meet at 127.0.0.1:")
    assert "1 of 4 ranks; waiting for node0: rank 1; spare: rank 2, 3" in said


def test_after_the_limit_rank_0_names_the_missing_and_the_others_hear_it(a_rank: Maker) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_follow, a_rank(1, 4))
        first = a_rank(0, 4, limit=1.0)
        first.open()
        first.store.get("arrival/2", 60.0)
        with pytest.raises(BenchError, match=r"^2 of 4 ranks came within 1 s; missing: rank 2, 3;") as caught:
            first.call_roll()
        first.refuse(str(caught.value), is_mistake=False)
        heard = other.result(60)
        assert isinstance(heard, RefusedError)
        assert str(heard) == str(caught.value)


@pytest.mark.parametrize("is_mistake", [True, False])
def test_a_mistake_of_rank_0_is_said_once_on_a_host(a_rank: Maker, is_mistake: bool) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = a_rank(0, 4)
        first.open()
        near = pool.submit(_follow, a_rank(1, 4, host="node0", joined=_alone(first.joined, 1)))
        far = pool.submit(_follow, a_rank(2, 4, joined=_alone(first.joined, 2)))
        first.refuse("--visits 0: at least 1", is_mistake)
        while first.store.add("left", 0) < 2:  # ranks may come after the word was given
            first.linger()
        heard = [near.result(60), far.result(60)]
    assert all(isinstance(each, RefusedError) for each in heard)
    assert [each.is_said for each in heard if isinstance(each, RefusedError)] == [not is_mistake, True]


def _alone(joined: LauncherRank, rank: int) -> LauncherRank:
    """A rank whose launcher says nothing of its host."""
    return LauncherRank("env", rank, joined.world_size, None, joined.address, joined.port, False, "0")


def test_a_rank_without_rank_0_says_why_it_is_not_reached(a_rank: Maker) -> None:
    with pytest.raises(BenchError, match=r"^rank 0 did not come within 0\.5 s: 127\.0\.0\.1:\d+: refused: the host is"):
        a_rank(1, limit=0.5).open()


def test_a_rank_that_meets_an_earlier_store_waits_for_the_next(a_rank: Maker) -> None:
    """Ranks replace themselves between launches, and some are faster than rank 0, which hosts the store."""
    before = a_rank(0)
    before.open()
    with ThreadPoolExecutor(1) as pool:
        early = a_rank(1, number=1)
        other = pool.submit(_follow, early)
        its_keys = with_prefix("bench/0/1", connect_store("127.0.0.1", before.joined.port, 60.0))
        its_keys.get("arrival/1", 60.0)  # it has come to the wrong store
        del before, its_keys
        first = a_rank(0, number=1)
        first.open()
        hosts = first.call_roll()
        first.give_word(hosts)
        assert other.result(60) == hosts


def test_addresses_in_messages() -> None:
    assert endpoint.spell("node0", 1) == "node0:1"
    assert endpoint.spell("fd00::1", 1) == "[fd00::1]:1"
    assert addresses.dialled_by_host("node0.example") == "127.0.0.1"
    assert addresses.dialled_by_host("::1") == "::1"
    assert addresses.is_own("127.0.0.1")
    assert not addresses.is_own("192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert addresses.describe_listener(server).startswith("127.0.0.1 alone, port ")


def guards() -> tuple[list[StartGuard], list[threading.Event], list[str | None]]:
    store = memory_store()
    heard, told = [threading.Event(), threading.Event()], list[str | None]()

    def trouble(number: int) -> Callable[[str | None], None]:
        def tell(reason: str | None) -> None:
            told.append(reason)
            heard[number].set()

        return tell

    return [StartGuard(store, store, 60.0, "start", trouble(number)) for number in (0, 1)], heard, told


def test_every_rank_hears_the_first_error() -> None:
    both, heard, told = guards()
    with both[0], both[1]:
        both[1].fail("rank 1: no GPU")
        both[0].fail("rank 0: connection lost")
        assert all(event.wait(60) for event in heard)
    assert told == ["rank 1: no GPU"] * 2


def test_ranks_that_are_ready_hear_nothing() -> None:
    both, _, told = guards()
    with both[0], both[1]:
        both[0].ready()
        both[1].wait()
    assert told == []
    assert not any(guard._thread.is_alive() for guard in both)


def test_a_guard_tells_of_its_limit_and_of_a_lost_store() -> None:
    class Failing(Store):
        def __init__(self, error: Exception) -> None:
            self.error = error

        def get(self, key: str, timeout_seconds: float | None = None) -> bytes:
            raise self.error

    told, store = list[str | None](), memory_store()
    for error in (StoreTimeout("wait timeout after 1 s"), StoreLost("Connection was likely closed.")):
        with StartGuard(store, Failing(error), 1.0, "start", told.append) as guard:
            guard.wait()
    assert told == [None, "the store is gone: Connection was likely closed."]


def test_a_rank_that_died_as_it_reported_hides_no_other(a_rank: Maker) -> None:
    first = a_rank(0)
    first.open()
    first.store.add("arrivals", 1)  # its report never comes
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_follow, a_rank(1))
        hosts = first.call_roll()
        first.give_word(hosts)
        assert other.result(60) == hosts


def test_a_rank_that_had_to_report_again_is_one_process(a_rank: Maker) -> None:
    first, second = a_rank(0), a_rank(1)
    first.open()
    second.open()
    second._arrive()
    assert first.call_roll() == ["node0", "node0"]
