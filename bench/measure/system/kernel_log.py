"""The kernel's log since the start of the host, read from /dev/kmsg, without a program and without waiting.

Records as the kernel documents them (Documentation/ABI/testing/dev-kmsg): `priority,number,microseconds,flags;message`.
Each read gives one; EAGAIN is the end, and EPIPE says that records were overwritten in the meantime. Who may read it
depends on the file's mode and on kernel.dmesg_restrict; a container often has no such file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure.system.cgroup import read_text

RECORD_BYTES = 1 << 16
"""Room for one record; the kernel's own limit is 8 KiB."""
MAX_RECORDS = 1_000_000
"""Bound on a log that is written while it is read."""

_RECORD = re.compile(r"\d+,\d+,(\d+),[^;]*;(.*)")
_OF_NVIDIA = re.compile(r"NVRM: Xid|nvidia-nvswitch\d*: SXid")


@dataclass(frozen=True)
class KernelLine:
    """One message of the kernel."""

    seconds: float
    """Time since the host started."""
    text: str


@dataclass(frozen=True)
class KernelLog:
    """Messages of NVIDIA's drivers about errors, in order, or the reason for which the log could not be read."""

    lines: tuple[KernelLine, ...] = ()
    unreadable: str | None = None
    uptime_seconds: float | None = None
    """Time since the host started, when the log was read; None: unknown."""


def read_driver_errors(root: Path = Path("/")) -> KernelLog:
    """Read the lines with an Xid or SXid; only these, since other lines name programs and files of users."""
    try:
        handle = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return KernelLog(unreadable=f"/dev/kmsg: {(error.strerror or 'cannot be opened').lower()}")
    try:
        text = b"".join(_read_records(handle)).decode(errors="replace")
    except OSError as error:
        return KernelLog(unreadable=f"/dev/kmsg: {(error.strerror or 'cannot be read').lower()}")
    finally:
        os.close(handle)
    matches = filter(None, (_RECORD.fullmatch(line) for line in text.splitlines()))
    lines = (KernelLine(int(match[1]) / 1e6, match[2]) for match in matches if _OF_NVIDIA.search(match[2]))
    return KernelLog(tuple(lines), uptime_seconds=_uptime_seconds(root))


def _uptime_seconds(root: Path) -> float | None:
    """Time since the start of the host, by which the log's times count."""
    first = (read_text(root / "proc/uptime") or "").split(" ")[0]
    return float(first) if re.fullmatch(r"\d+(\.\d+)?", first) else None


def _read_records(handle: int) -> Iterator[bytes]:
    for _ in range(MAX_RECORDS):
        try:
            record = os.read(handle, RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue
        if not record:
            return
        yield record
