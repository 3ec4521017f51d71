"""An alarm by which a rank hears that its generation is over while its main thread waits for a device.

A kernel of NCCL whose peers do not come spins until its process ends, and no error is raised. So the rank that broke
the generation rings in the store; a thread of every rank waits there, in one blocking call, which costs the timed parts
nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.measure.engine.store import StoreLost

if TYPE_CHECKING:
    from bench.measure.engine.store import Store

ALARM_TIMEOUT_SECONDS = 30 * 86400.0
"""The alarm is waited for as long as a run may take."""
CLOSE_SECONDS = 5.0
"""Time for the thread to end after an orderly generation."""
OVER, _DONE = "over", "done"


def alarm_key(prefix: str) -> str:
    """The key of a generation that gets a value once the generation is over."""
    return f"{prefix}/alarm"


class Alarm:
    """Open for one generation; on its thread it calls `on_ring` once any rank rang, `on_loss` if the store is gone.

    `main_store` serves the main thread, `store` is a connection of the thread's own: a client's calls queue up.
    """

    def __init__(
        self,
        main_store: Store,
        store: Store,
        prefix: str,
        on_ring: Callable[[], None],
        on_loss: Callable[[StoreLost], None],
    ) -> None:
        self._main_store = main_store
        self._store = store
        self._key = alarm_key(prefix)
        self._heard = on_ring
        self._lost = on_loss
        self._rang = False
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="bench-alarm", daemon=True)

    def ring(self) -> None:
        """Tell every rank, this one too, that the generation is over."""
        self._rang = True
        self._main_store.set(self._key, OVER)

    def __enter__(self) -> Alarm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if not self._rang:
            self._main_store.set(self._key, _DONE)
            self._thread.join(CLOSE_SECONDS)

    def _listen(self) -> None:
        try:
            word = self._store.get(self._key, ALARM_TIMEOUT_SECONDS).decode()
        except StoreLost as error:
            if not self._closed:
                self._lost(error)
            return
        if word == OVER:
            self._heard()
