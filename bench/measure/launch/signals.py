"""A thread that hears the signals that end a run: the main thread may be in a collective, and Python hears nothing."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold_signals() -> None:
    """Put the signals off until a `SignalWatch` is there, also across the re-execution of this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class SignalWatch:
    """Calls `on_signal` with the first signal's number, on a thread of its own; open it on the main thread."""

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        # nohup has SIGHUP ignored, and a shell SIGINT of what it starts in the background.
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, lambda *_: None) for number in heard}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=self._listen, name="bench-signals", daemon=True).start()

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._write.close()

    def _listen(self) -> None:
        data = self._read.recv(1)
        if data:
            self._on_signal(data[0])
