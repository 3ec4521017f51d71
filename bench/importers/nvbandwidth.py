"""Reads the JSON of nvbandwidth (`nvbandwidth -j`), whose tests are matrices of hosts and devices.

Each cell is a case: `nvbandwidth/device_to_device_memcpy_read_ce[gpu=0,peer=1]` is row 0, column 1. A test of one row
has a cell per device, `[gpu=1]`. A test in both directions appends three matrices to one another, of which only the
last is described; they become `part=first`, `second` and `total`. The file has neither the size nor the time of a copy,
so the time of a case is that of 10^9 bytes at the stated bandwidth; a latency is a time itself.

Tests of several nodes have a row or column per process, while the file lists the devices of one host alone. A test that
fails is in the file twice: as running, and then with its status.

Source: NVIDIA/nvbandwidth, json_output.cpp, nvbandwidth.cpp, testcases_ce.cpp, testcases_sm.cpp and
multinode_testcases.cpp (v0.5 to v0.8).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError
from bench.importers.reading import (
    ImportedCase,
    ImportedText,
    ImportHints,
    check_num_ranks,
    json_value,
    launches_of_repeats,
    mapping,
    number,
    safe_name,
    sequence,
    words,
)
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Contradiction
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import WorkFacts
from bench.suite import Params, SuiteMetric

TOOL = "nvbandwidth"
SUITE = "nvbandwidth"
GIGABYTE = 10**9
UNITS = {"GB/s": lambda value: 1 / value, "ns": lambda value: value * 1e-9}
"""Unit of a matrix -> seconds of a case, from a cell."""
BANDWIDTH = "copy_gb_per_s"
METRICS = {
    BANDWIDTH: SuiteMetric("GB/s", "higher", "Bandwidth of the copies as nvbandwidth states it, 10^9 bytes each.")
}
NOTES = {
    "GB/s": "imported: the time of 10^9 bytes at the stated bandwidth; the file has neither size nor time of a copy",
    "ns": "imported: the stated latency, not a median of samples",
}
PARTS = ("first", "second", "total")
"""Matrices of a test in both directions, in their order: the two streams, and their sum."""
BISECTION, ALL_TO_ALL = "multinode_bisect_write_ce", "multinode_device_to_device_broadcast_all_to_all_sm"
UNSTATED = {BISECTION: "GB/s"}
"""Test whose description lacks the unit -> its unit."""
OF_ALL = re.compile(r"all_to_|one_to_|host_to_all|all_from_one|bisect|broadcast")
"""Names of tests in which all devices, or processes of several nodes, take part at once."""
MULTINODE = "multinode_"
TOLERANCE = 1e-3
"""Relative deviation of a sum from the printed cells, which have six digits."""
_KNOWN_KEYS = {
    "CUDA Runtime Version", "CUDA Driver Version", "Driver Version", "git_version", "version", "testcases", "error",
    "warning", "Hostname", "GPU Device list", "GPU Device info", "bufferSize", "testSamples", "useMean",
}  # fmt: skip
_DEVICE = re.compile(r"\d+: (?P<name>.+?)(?: \((?P<pci>[0-9a-fA-F:.]+)\))?(?:: ?\((?P<host>[^()]+)\))?")
_CELLS = {
    "sum": "the cells of its matrix add up to",
    "min": "the smallest cell of its matrix is",
    "max": "the largest cell of its matrix is",
    "average": "the mean of the cells of its matrix is",
}
_UNIT = re.compile(r"\(([^()]+)\)\s*$")


@dataclass(frozen=True)
class _Matrix:
    """One matrix of a test: its cells, and its part of a test in both directions."""

    rows: Sequence[Sequence[Any]]
    part: str | None = None

    def values(self) -> list[float]:
        """Numbers of its cells."""
        return [value for row in self.rows for cell in row if (value := number(cell)) is not None]

    def total(self) -> float:
        return sum(self.values())


@dataclass
class _File:
    """A file while it is read."""

    num_devices: int
    num_processes: int
    """Processes of the tests of several nodes."""
    num_listed: int
    """Devices of one host that the file lists; 0 if it has no list."""
    cases: list[ImportedCase] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    contradictions: list[Contradiction] = field(default_factory=list)


def looks_like(text: str) -> bool:
    is_alone = re.match(r'\s*\{\s*"nvbandwidth"\s*:', text) is not None  # with an error it may have no tests
    return is_alone or (text.lstrip().startswith("{") and '"nvbandwidth"' in text and '"testcases"' in text)


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a file. Raises BenchError for what is no such JSON, and for an error of the program alone."""
    data = mapping(mapping(json_value(text, "write it again with nvbandwidth -j")).get("nvbandwidth"))
    tests = sequence(data.get("testcases"))
    if not tests:
        why = words(data.get("error"))
        raise BenchError(f"nvbandwidth ran no test: {why}" if why else "no JSON of nvbandwidth: it has no `testcases`")
    tests = _without_running(tests)
    num_processes = max(map(_num_processes, tests), default=0)
    ranks = _devices(data)
    width = max((_width(test) for test in tests if not _num_processes(test)), default=0)
    file = _File(
        num_devices=check_num_ranks(max(len(ranks), width) or num_processes or 1),
        num_processes=check_num_ranks(num_processes or len(ranks) or 1),
        num_listed=len(ranks),
    )
    unknown = RankFacts(device_type="cuda", driver=words(data.get("Driver Version")))
    ranks += (unknown,) * (max(file.num_devices, num_processes) - len(ranks))
    for key in data:
        note = file.ledger.read if key in _KNOWN_KEYS else file.ledger.skip
        note(f"key {key!r}", "", "key of the file" if key in _KNOWN_KEYS else "key not known to bench")
    for index, test in enumerate(tests, 1):
        _read_test(file, index, mapping(test), words(data.get("error")))
    return ImportedText(
        tool=TOOL,
        version=words(data.get("version")),
        format="JSON",
        readings=launches_of_repeats(file.cases),
        ledger=file.ledger,
        contradictions=tuple(file.contradictions),
        remarks=_remarks(data),
        ranks=ranks,
        versions=_versions(data),
    )


def _devices(data: Mapping[str, Any]) -> tuple[RankFacts, ...]:
    """The devices that the file lists, as far as each can be read."""
    found = [_DEVICE.fullmatch(str(row)) for row in sequence(data.get("GPU Device list"))]
    return tuple(
        RankFacts(
            device_type="cuda",
            host=(match and match["host"]) or words(data.get("Hostname")),
            device_name=match and match["name"],
            pci_bus_id=match and match["pci"],
            driver=words(data.get("Driver Version")),
        )
        for match in found
    )


def _versions(data: Mapping[str, Any]) -> dict[str, str]:
    """The version of CUDA; 12040 is 12.4."""
    cuda = data.get("CUDA Runtime Version")
    is_cuda = isinstance(cuda, int) and not isinstance(cuda, bool) and 1000 <= cuda < 10**6
    return {"cuda": f"{cuda // 1000}.{cuda % 1000 // 10}"} if is_cuda and isinstance(cuda, int) else {}


def _remarks(data: Mapping[str, Any]) -> tuple[str, ...]:
    texts = ((key, words(data.get(key))) for key in ("error", "warning"))
    return tuple(f"{key} of nvbandwidth: {text}" for key, text in texts if text)


def _width(test: Any) -> int:
    rows = sequence(mapping(test).get("bandwidth_matrix"))
    return max((len(sequence(row)) for row in rows), default=0)


def _num_processes(test: Any) -> int:
    """Processes of a test of several nodes, as its matrix has a row or column for each; 0 for any other."""
    name, rows = words(mapping(test).get("name")) or "", sequence(mapping(test).get("bandwidth_matrix"))
    return max(len(rows), _width(test)) if name.startswith(MULTINODE) else 0


def _without_running(tests: Sequence[Any]) -> list[Any]:
    """The tests without those that are in the file again, right after, with their final status."""
    names = [mapping(test).get("name") for test in tests]
    return [
        test
        for index, test in enumerate(tests)
        if mapping(test).get("status") != "Running" or names[index + 1 : index + 2] != [names[index]]
    ]


def _read_test(file: _File, index: int, test: Mapping[str, Any], error: str | None) -> None:
    """Take up one test: a case per cell, or one that says why there are none."""
    where, name, status = f"test {index}", words(test.get("name")), words(test.get("status"))
    if name is None:
        file.ledger.unread(where, json.dumps(test), "has no name")
        return
    file.ledger.read(where, name, "test")
    if status != "Passed":
        num_ranks = file.num_processes if name.startswith(MULTINODE) else file.num_devices
        file.cases.append(_without_cells(name, status, words(test.get("error")) or error, num_ranks))
        return
    described = _UNIT.search(words(test.get("bandwidth_description")) or "")
    unit = described[1] if described else UNSTATED.get(name)
    rows = [sequence(row) for row in sequence(test.get("bandwidth_matrix"))]
    if unit not in UNITS:
        file.ledger.unread(where, name, f"its unit is none of {', '.join(UNITS)}")
    elif not rows or len({len(row) for row in rows}) > 1 or not rows[0]:
        file.ledger.unread(where, name, "its matrix is empty, or has rows of different lengths")
    elif "device_to_device" in name and len(rows) > 1 and len(rows) not in (len(rows[0]), len(PARTS) * len(rows[0])):
        file.ledger.unread(where, name, "its matrix of devices is not square")
    else:
        matrices = _matrices(name, rows)
        if file.num_listed not in (0, len(rows[0])) and not name.startswith(MULTINODE):
            text = f"{name} has {len(rows[0])} columns, but `GPU Device list` has {file.num_listed} devices"
            file.contradictions.append(Contradiction(where, text))
        _hold_against_sums(file, where, test, matrices)
        for matrix in matrices:
            file.cases += _cells(file, where, name, unit, matrix)


def _without_cells(name: str, status: str | None, error: str | None, num_devices: int) -> ImportedCase:
    is_waived = status == "Waived"
    failed = f"nvbandwidth says {status or 'no status'}" + (f": {error}" if error else "")
    return ImportedCase(
        suite=SUITE,
        params={"op": safe_name(name)},
        num_ranks=num_devices,
        seconds=(),
        status="skipped" if is_waived else "failed",
        reason="waived by nvbandwidth: this machine cannot run it" if is_waived else failed,
    )


def _matrices(name: str, rows: Sequence[Sequence[Any]]) -> list[_Matrix]:
    """The matrices of a test, apart: those of a test in both directions follow one another."""
    width = len(rows[0])
    is_threefold = "bidirectional" in name and "device_to_device" in name and len(rows) == len(PARTS) * width
    if not is_threefold:
        return [_Matrix(rows)]
    return [_Matrix(rows[at * width : (at + 1) * width], part) for at, part in enumerate(PARTS)]


def _hold_against_sums(file: _File, where: str, test: Mapping[str, Any], matrices: Sequence[_Matrix]) -> None:
    """Name a stated sum or extreme that the cells do not have, and a total that is not that of its two streams."""
    values, found = matrices[-1].values(), matrices[-1].total()
    if len(values) == sum(cell != "N/A" for row in matrices[-1].rows for cell in row):  # else a cell is unread
        cells = sum(map(len, matrices[-1].rows))
        actual = {
            "sum": found,
            "min": min(values, default=0.0) if len(values) == cells else 0.0,  # a pair without a value counts as 0
            "max": max(values, default=0.0),
            "average": found / max(len(values), 1),
        }
        for key, value in actual.items():
            stated = number(test.get(key))
            if stated is not None and abs(stated - value) > TOLERANCE * max(abs(stated), abs(value)):
                text = f"its {key} is {stated:g}, but {_CELLS[key]} {value:g}"
                file.contradictions.append(Contradiction(where, text))
    if len(matrices) == len(PARTS):
        streams = matrices[0].total() + matrices[1].total()
        if abs(streams - found) > TOLERANCE * max(streams, found):
            file.contradictions.append(
                Contradiction(where, f"its total is {found:g}, but its two streams add up to {streams:g}")
            )


def _cells(file: _File, where: str, name: str, unit: str, matrix: _Matrix) -> Iterator[ImportedCase]:
    """A case per cell; `N/A` is a pair that the test does not have."""
    for row, cells in enumerate(matrix.rows):
        for column, cell in enumerate(cells):
            if cell == "N/A":
                continue
            value = number(cell)
            if value is None or value <= 0:
                file.ledger.unread(
                    f"{where}, row {row}, column {column}", str(cell), "is not a bandwidth or latency above 0"
                )
                continue
            pair = _pair(name, matrix, row, column)
            part: Params = {"part": matrix.part} if matrix.part else {}
            yield ImportedCase(
                suite=SUITE,
                params={"op": safe_name(name), **pair, **part},
                num_ranks=_num_ranks(name, pair, file),
                seconds=(UNITS[unit](value),),
                notes=(NOTES[unit],),
                work=WorkFacts(bytes=GIGABYTE) if unit == "GB/s" else None,
                derived={BANDWIDTH: value} if unit == "GB/s" else {},
                metrics=METRICS if unit == "GB/s" else {},
            )


def _pair(name: str, matrix: _Matrix, row: int, column: int) -> Params:
    """Parameters that tell a cell of the matrix from the others."""
    is_single = len(matrix.rows[0]) == 1
    if name == ALL_TO_ALL and is_single:
        return {}
    if name == BISECTION and is_single:
        return {"gpu": row, "peer": (row + len(matrix.rows) // 2) % len(matrix.rows)}
    if len(matrix.rows) == 1:
        return {"gpu": column}
    return {"gpu": row, "peer": column} if "device_to_device" in name else {"row": row, "gpu": column}


def _num_ranks(name: str, pair: Params, file: _File) -> int:
    if OF_ALL.search(name):
        return file.num_processes if name.startswith(MULTINODE) else file.num_devices
    return 2 if "peer" in pair else 1
