"""A sign of life from ranks whose main thread is inside torch, and rank 0's word that the run is over.

A thread of each rank waits in the store, which costs the timed parts nothing. Rank 0 asks when a signal ends it: a rank
that does not answer died; the others end as it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from bench.measure.engine.store import Store, StoreLost, StoreTimeout

LIFETIME_SECONDS = 30 * 86400.0
"""The question is waited for as long as a run may take."""
ANSWER_KEY = "alive"
_ASK, _OVER = "pulse/ask", "pulse/over"


class Pulse:
    """Answers for one rank; `on_over` is called, on the thread, with the exit code of the run that rank 0 has ended.

    `store` is a connection of the thread's own: a client's calls queue up.
    """

    def __init__(self, store: Store, rank: int, on_over: Callable[[int], None]) -> None:
        self._store = store
        self._rank = rank
        self._on_over = on_over
        self._thread = threading.Thread(target=self._answer, name="bench-pulse", daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with suppress(StoreLost, StoreTimeout):
            self._store.get(_ASK, LIFETIME_SECONDS)
            self._store.set(f"{ANSWER_KEY}/{self._rank}", "here")
            self._on_over(int(self._store.get(_OVER, LIFETIME_SECONDS)))


def ask(store: Store) -> None:
    """Ask every rank for a sign of life, under ANSWER_KEY."""
    store.set(_ASK, "who")


def end_all(store: Store, code: int) -> None:
    """Tell the ranks that answered that the run is over."""
    store.set(_OVER, str(code))
