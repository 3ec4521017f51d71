"""A guard over a stage of the start of joined ranks: one that fails there is heard by all, wherever they are.

Until their first vote ranks load suites, or wait for each other inside torch, and no message reaches them. So a thread
of every rank waits in the store, for the word that all are ready, or for the first error.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress

from bench.measure.engine.store import Store, StoreLost, StoreTimeout

CLOSE_SECONDS = 5.0
"""Time for the thread to hear rank 0's word: one that is left inside torch would abort the end of the process."""


class StartGuard:
    """Open for a stage of the start; `on_trouble` is called once, on the thread, with the reason of the end.

    It gets None if there was no word within the limit.

    `main_store` serves the main thread, `store` is a connection of the thread's own: a client's calls queue up.
    """

    def __init__(
        self,
        main_store: Store,
        store: Store,
        limit_seconds: float,
        prefix: str,
        on_trouble: Callable[[str | None], None],
    ) -> None:
        self._main_store = main_store
        self._store = store
        self._limit_seconds = limit_seconds
        self._prefix = prefix
        self._on_trouble = on_trouble
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="bench-start", daemon=True)

    def __enter__(self) -> StartGuard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join(CLOSE_SECONDS)

    def close(self) -> None:
        """From now on this rank hears nothing."""
        self._closed = True

    def ready(self) -> None:
        """Tell every rank, from rank 0, that all have met inside torch."""
        self._main_store.set(f"{self._prefix}/word", json.dumps({"error": None}))

    def fail(self, error: str) -> None:
        """Tell every rank why this one cannot start; the first error of all ranks counts."""
        with suppress(StoreLost):
            if self._main_store.add(f"{self._prefix}/errors", 1) == 1:
                self._main_store.set(f"{self._prefix}/word", json.dumps({"error": error}))

    def wait(self) -> None:
        """Wait for the word: after an error the thread ends the process, and this does not return."""
        self._thread.join()

    def _listen(self) -> None:
        try:
            error = json.loads(self._store.get(f"{self._prefix}/word", self._limit_seconds))["error"]
        except StoreTimeout:
            self._tell(None)
        except StoreLost as lost:
            self._tell(f"the store is gone: {lost}")
        else:
            if error is not None:
                self._tell(error)

    def _tell(self, reason: str | None) -> None:
        if not self._closed:
            self._on_trouble(reason)
