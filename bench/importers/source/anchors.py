"""Beginnings of lines that a tool writes itself: any text before one is a prefix of a launcher or collector.

nccl-tests and OSU begin such lines with `#`, which pages and mails lose: it is put back.
"""

from __future__ import annotations

import re

HASHED = (
    r"nThread\s+\d+\s+nGpus\s+\d+",
    r"Using devices\b",
    r"Rank\s+\d+\s+(?:Group\s+\d+\s+)?Pid\s+\d+\s+on\s",
    r"size\s+count\s+type\b",
    r"\(B\)\s+\(elements\)",
    r"out-of-place\s+in-place\b",
    r"in-place\s*$",
    r"out-of-place\s*$",
    r"Out of bounds values\s*:",
    r"Avg bus bandwidth\s*:",
    r"Collective test (?:starting|concluded):",
    r"nccl-tests version\b",
    r"Blocking Enabled\b",
    r"OSU (?:MPI|NCCL|OpenSHMEM|UPC|UPCXX|RCCL|XCCL)[\w+-]*(?: [\w/+.-]+)* (?:Test|v\d\S*)",
    r"Size\s{2,}\S.*(?:\(us\)|MB/s)",
    r"(?:Avg|Average) Latency\s*\(us\)",
    r"Send Buffer on \w+",
    r"Window creation:",
    r"Synchronization:",
    r"Datatype:\s*\w+",
    r"\[ pairs: \d+ \]",
)
"""Lines that begin with `#` where nccl-tests (src/common.cu) and OSU (util/osu_util_mpi.c) print them."""
_BARE = (
    r"rccl-tests: Version\b",
    r"COMMS-RES\S*\s",
    r"groupSize \d+",
    r"backend: \w+ nw-stack:",
    r":::(?:MLLOG|SYSJSON) \{",
    r"The (?:average|\S+ payload) bandwidth of all_reduce\b",
    r"\|\s*payload\s*\|",
    r"\|\s*\d+[KMGT]?iB\s*\|",
    r"(?:algbw|busbw): \d",
    r"- (?:software: torch|hardware: )",
    r"Legend: 1KiB\b",
    r'"[A-Za-z_]\w*"\s*:\s*\S',
)
"""Lines of PARAM, MLPerf and all_reduce_bench, and keys of JSON."""

HASHED_LINE = re.compile(rf"(?:{'|'.join(HASHED)})")
ANCHOR = re.compile(rf"(?:#\s*)?(?:{'|'.join(HASHED)})|(?:{'|'.join(_BARE)})")


def with_hash(line: str) -> str:
    """The line with its `#` put back."""
    return f"# {line.lstrip()}" if HASHED_LINE.match(line.lstrip()) else line
