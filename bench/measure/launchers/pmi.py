"""A client of PMI-1, the protocol by which MPICH's Hydra lets its ranks exchange texts before they are connected.

Lines of `key=value` over a socket that Hydra leaves open in each rank (PMI_FD), or at an address (PMI_PORT); MPICH's
src/pmi/src/pmi_v1.c is the reference. A rank begins (`init`), puts texts, waits for all others (`barrier_in`),
gets theirs and ends (`finalize`), once per process that Hydra started.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress

from bench.errors import BenchError


class PmiError(BenchError):
    """A process manager that does not answer as PMI-1 has it."""


def is_here(environ: Mapping[str, str]) -> bool:
    """Return True if this process can reach Hydra; a program between the two may have closed the socket."""
    if "PMI_PORT" in environ:
        return True
    text = environ.get("PMI_FD", "")
    try:
        return text.isdecimal() and stat.S_ISSOCK(os.fstat(int(text)).st_mode)
    except OSError:
        return False


class PmiClient:
    """One conversation with Hydra."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._connection.settimeout(seconds)
        self._seconds = seconds
        self._pending = b""
        try:
            self._ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")
            self.job = self._ask("cmd=get_my_kvsname", "my_kvsname").get("kvsname", "")
        except PmiError:
            connection.close()
            raise
        """Name of the job's texts, equal on all its ranks and different from other jobs'."""

    @classmethod
    def connect(cls, environ: Mapping[str, str], seconds: float) -> PmiClient:
        """Begin. Raises PmiError."""
        if "PMI_PORT" not in environ:
            # A copy: the process manager takes the end of its own as that of the process.
            return cls(socket.socket(fileno=os.dup(int(environ["PMI_FD"]))), seconds)
        host, _, port = environ["PMI_PORT"].rpartition(":")
        try:
            connection = socket.create_connection((host, int(port)), timeout=seconds)
            connection.sendall(f"cmd=initack pmiid={environ.get('PMI_ID', environ['PMI_RANK'])}\n".encode())
        except (OSError, ValueError) as error:
            raise PmiError(f"PMI_PORT={environ['PMI_PORT']}: Hydra cannot be reached there ({error})") from None
        return cls(connection, seconds)

    def put(self, key: str, value: str) -> None:
        """Leave a text for the other ranks."""
        self._ask(f"cmd=put kvsname={self.job} key={key} value={value}", "put_result")

    def wait_for_all(self) -> None:
        """Wait until all ranks are here; texts put before are there after."""
        self._ask("cmd=barrier_in", "barrier_out")

    def get(self, key: str) -> str:
        """Return a text that a rank put before all waited."""
        return self._ask(f"cmd=get kvsname={self.job} key={key}", "get_result").get("value", "")

    def close(self) -> None:
        """End the conversation; Hydra takes a process that goes without it for one that failed."""
        with suppress(PmiError):
            self._ask("cmd=finalize", "finalize_ack")
        self._connection.close()

    def _ask(self, line: str, expected: str) -> dict[str, str]:
        name = line.partition(" ")[0].removeprefix("cmd=")
        try:
            self._connection.sendall(f"{line}\n".encode())
            while True:
                answer = dict(word.partition("=")[::2] for word in self._read_line().split())
                if answer.get("cmd") == expected:
                    break
        except TimeoutError:
            raise PmiError(
                f"Hydra did not answer `{name}` within {self._seconds:g} s: not all of its ranks asked for rank 0's "
                "address; start bench run on all of them, or set MASTER_ADDR and MASTER_PORT with -genv"
            ) from None
        except OSError as error:
            raise PmiError(f"Hydra closed its connection at `{name}` ({error.strerror or error})") from None
        if answer.get("rc", "0") != "0":
            raise PmiError(f"Hydra refused `{name}` ({answer.get('msg', 'no reason given')})")
        return answer

    def _read_line(self) -> str:
        while b"\n" not in self._pending:
            data = self._connection.recv(4096)
            if not data:
                raise OSError("it ended")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace")
