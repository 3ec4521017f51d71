"""The next launch of a joined run: every rank replaces itself with a fresh process, and the ranks meet again.

A launcher goes on watching the same process ids, and any of them will do. Fresh are the interpreter, torch, the
context on the device and all connections, as after a new start.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.measure.launch import bootstrap
from bench.measure.launch.signals import hold_signals
from bench.measure.launchers.place import LauncherRank

if TYPE_CHECKING:
    from bench.records.run_file.run_file import RunFile

FIRST_OWN_FD = 3


@dataclass(frozen=True)
class Continuation:
    """Orders of a rank to itself for its next launch, as a word of the command line."""

    number: int = 0
    """Meetings of this job before this one."""
    held: str | None = None
    """Result file of the job with its lock, on rank 0: the words of `RunFile.pass_on`."""
    began: float | None = None
    """Start of the job on this host's monotonic clock."""
    inherited: tuple[int, ...] = ()
    """File descriptors that the launcher gave to this process."""

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str | None) -> Continuation:
        """Raises BenchError for words that are not those of `to_text`."""
        if text is None:
            return Continuation(inherited=tuple(_open_descriptors()))
        try:
            words = json.loads(text)
            return Continuation(**{**words, "inherited": tuple(words["inherited"])})
        except (ValueError, TypeError, KeyError) as error:
            raise BenchError(f"--continuation {text}: bench gives it to itself; leave it out") from error


def _open_descriptors() -> Iterator[int]:
    """Descriptors above those of the standard streams."""
    folder = Path("/proc/self/fd")
    names = [int(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    for number in names:
        with suppress(OSError):
            if number >= FIRST_OWN_FD and not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                yield number


def run_again(
    joined: LauncherRank, arguments: Sequence[str], before: Continuation, file: RunFile | None, began: float
) -> None:
    """Replace this process with one that makes the next launch; it does not return.

    `arguments` are the words of `bench`, and `file` is the result file on rank 0.
    """
    held, own = (None, ()) if file is None else file.pass_on()
    orders = Continuation(before.number + 1, held, began, before.inherited)
    hold_signals()
    for number in set(_open_descriptors()) - set(before.inherited):  # devices and sockets go with this process
        os.set_inheritable(number, False)
    for number in own:  # the lock goes with the descriptor, so that nobody else can have the file between two launches
        os.set_inheritable(number, True)
    words = without_orders(arguments)
    command = bootstrap.command(sys.executable, "bench.cli:main", *words, "--continuation", orders.to_text())
    # Where rank 0 is was found once, and need not be asked of the launcher again.
    where = {"MASTER_ADDR": joined.address, "MASTER_PORT": str(joined.port)}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, {**os.environ, **where})


def without_orders(arguments: Sequence[str]) -> list[str]:
    """Return the words of `bench` as the user gave them."""
    words = list(arguments)
    if "--continuation" in words:
        place = words.index("--continuation")
        del words[place : place + 2]
    return words
