"""Tests of the OSU micro-benchmarks by their titles, and the columns of their tables.

Source: c/mpi, c/xccl and c/util/osu_util_mpi.c of the benchmarks (5.x to 7.x), whose titles are
`# OSU MPI-CUDA Latency Test v7.4`, `# OSU MPI_Put Latency Test v5.8`, `# OSU NCCL-CUDA Allreduce Latency Test v7.5`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.importers.reading import COLLECTIVE

SUITE = "osu"


@dataclass(frozen=True)
class OsuTest:
    """A test of the text, in the terms of bench."""

    op: str
    shares: bool = False
    """True if the size column is one rank's share of the payload."""
    dtype: str | None = "int8"
    """Type if the text has no `# Datatype`, as before version 7; None: it is not part of the case."""
    suite: str = COLLECTIVE
    num_ranks: int | None = None
    """Number of ranks if the test is always between this many."""


def _between_two(op: str) -> OsuTest:
    return OsuTest(op, dtype=None, suite=SUITE, num_ranks=2)


TESTS: Mapping[str, OsuTest] = {
    "allreduce latency test": OsuTest("all_reduce", dtype="float32"),
    "reduce latency test": OsuTest("reduce", dtype="float32"),
    "reduce_scatter latency test": OsuTest("reduce_scatter", dtype="float32"),
    "allgather latency test": OsuTest("all_gather", shares=True),
    "all-to-all personalized exchange latency test": OsuTest("all_to_all", shares=True),
    "gather latency test": OsuTest("gather", shares=True),
    "scatter latency test": OsuTest("scatter", shares=True),
    "broadcast latency test": OsuTest("broadcast"),
    "barrier latency test": OsuTest("barrier", dtype=None),
    "latency test": _between_two("latency"),
    "bandwidth test": _between_two("bandwidth"),
    "bi-directional bandwidth test": _between_two("bidirectional_bandwidth"),
    "multi latency test": OsuTest("multi_latency", dtype=None, suite=SUITE),
    "multiple bandwidth / message rate test": OsuTest("multiple_bandwidth", dtype=None, suite=SUITE),
    "put latency test": _between_two("put_latency"),
    "put bandwidth test": _between_two("put_bandwidth"),
    "put bi-directional bandwidth test": _between_two("put_bidirectional_bandwidth"),
    "get latency test": _between_two("get_latency"),
    "get bandwidth test": _between_two("get_bandwidth"),
    "accumulate latency test": _between_two("accumulate_latency"),
    "get_accumulate latency test": _between_two("get_accumulate_latency"),
    "fetch_and_op latency test": _between_two("fetch_and_op_latency"),
    "compare_and_swap latency test": _between_two("compare_and_swap_latency"),
}
"""A further test is a further row; a one-sided one begins with the call that it times."""
DTYPES = {"MPI_CHAR": "int8", "MPI_INT": "int32", "MPI_FLOAT": "float32", "MPI_DOUBLE": "float64"}
DEVICE_TYPES = {"CUDA": "cuda", "ROCM": "cuda", "OPENACC": "cuda"}
"""Name in the text -> torch's; AMD's devices are `cuda` too."""
BACKENDS = {"MPI": "mpi", "NCCL": "nccl", "RCCL": "nccl", "OpenSHMEM": "openshmem", "UPC": "upc", "UPCXX": "upcxx"}

TITLE = re.compile(
    r"#\s*OSU (?P<library>[A-Za-z]+)(?:_(?P<call>\w+))?(?:-(?P<device>[A-Z]+)(?: (?P<managed>MANAGED))?)?"
    r" (?P<test>\S.*?\b[Tt]est)\b(?: v(?P<version>\S+))?\s*$"
)
ANY_TITLE = re.compile(r"#\s*OSU \S")


def test_of(title: re.Match[str]) -> OsuTest | None:
    """The test of a title; None for one that bench does not know."""
    call = f"{title['call'].lower()} " if title["call"] else ""
    return TESTS.get(call + title["test"].lower())


# Column -> seconds of one call, from the cell and the size in bytes; the first that a table has is taken.
SECONDS: Mapping[str, Callable[[float, float], float]] = {
    "max latency(us)": lambda value, _: value * 1e-6,
    "avg latency(us)": lambda value, _: value * 1e-6,
    "latency (us)": lambda value, _: value * 1e-6,
    "latency(us)": lambda value, _: value * 1e-6,
    "bandwidth (mb/s)": lambda value, size: size / (value * 1e6),
    "mb/s": lambda value, size: size / (value * 1e6),
}
TAKEN = {
    "max latency(us)": "the slowest rank's mean over its calls",
    "avg latency(us)": "a mean over the calls and over the ranks",
    "bandwidth (mb/s)": "the time of one message among many in flight, from the bandwidth",
    "mb/s": "the time of one message among those of all pairs in flight, from the bandwidth",
}
_HEAD = re.compile(
    r"Transmit Size|Size|(?:Avg |Min |Max )?Latency ?\(us\)|Iterations|Bandwidth \(MB/s\)|MB/s|Messages/s|Validation"
    r"|P\d+ Tail (?:Lat\(us\)|BW\(MB/s\))|(?:Overall|Compute|Coll\. Init|MPI_Test|MPI_Wait)\(us\)"
    r"|(?:Pure|Min|Max) Comm\.\(us\)|Overlap\(%\)",
    re.I,
)
HEADS = re.compile(r"#\s*(Size|Avg Latency|Latency|Bandwidth|MB/s|Overall)\b", re.I)


def columns_of(line: str) -> list[str] | None:
    """The columns of a head, in small letters; None for a line that is none. A page may have lost its wide blanks."""
    if HEADS.match(line) is None:
        return None
    text = line.lstrip("# ").strip()
    heads = [match.lower() for match in _HEAD.findall(text)]
    return heads if not _HEAD.sub("", text).strip() else [head.lower() for head in re.split(r"\s{2,}", text)]
