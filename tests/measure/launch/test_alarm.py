"""A rank hears that its generation is over, while its main thread waits; after an orderly one it hears nothing."""

from __future__ import annotations

import threading

from bench.measure.launch.alarm import Alarm
from tests.measure.engine.test_consensus import memory_store


def test_every_rank_hears_of_the_end() -> None:
    store = memory_store()
    heard = [threading.Event(), threading.Event()]
    with Alarm(store, store, "g0", heard[0].set, print) as alarm, Alarm(store, store, "g0", heard[1].set, print):
        alarm.ring()
        assert all(each.wait(60.0) for each in heard)


def test_an_orderly_generation_ends_in_silence() -> None:
    store, heard = memory_store(), threading.Event()
    with Alarm(store, store, "g0", heard.set, print) as alarm:
        pass
    assert not alarm._thread.is_alive()
    assert not heard.is_set()


def test_a_generation_hears_no_other() -> None:
    store, heard = memory_store(), threading.Event()
    with Alarm(store, store, "g0", lambda: None, print) as before:
        before.ring()
    with Alarm(store, store, "g1", heard.set, print) as alarm:
        pass
    assert not alarm._thread.is_alive()
    assert not heard.is_set()
