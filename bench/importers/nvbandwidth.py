"""Reads the JSON of nvbandwidth (`nvbandwidth -j`), whose tests are matrices of hosts and devices.

Each cell is a case: `nvbandwidth/device_to_device_memcpy_read_ce[gpu=0,peer=1]` is row 0, column 1. A test of one row
has a cell per device, `[gpu=1]`. A test in both directions appends three matrices to one another, of which only the
last is described; they become `part=first`, `second` and `total`. The file has neither the size nor the time of a copy,
so the time of a case is that of 10^9 bytes at the stated bandwidth; a latency is a time itself.

Source: NVIDIA/nvbandwidth, json_output.cpp, testcases_ce.cpp and testcases_sm.cpp (v0.5 to v0.8).
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
from bench.suite import Params

TOOL = "nvbandwidth"
SUITE = "nvbandwidth"
GIGABYTE = 10**9
UNITS = {"GB/s": lambda value: 1 / value, "ns": lambda value: value * 1e-9}
"""Unit of a matrix -> seconds of a case, from a cell."""
NOTES = {
    "GB/s": "imported: the time of 10^9 bytes at the stated bandwidth; the file has neither size nor time of a copy",
    "ns": "imported: the stated latency, not a median of samples",
}
PARTS = ("first", "second", "total")
"""Matrices of a test in both directions, in their order: the two streams, and their sum."""
OF_ALL = re.compile(r"(?:all_to_|one_to_|host_to_all|multinode_(?:bisect|broadcast))")
"""Tests in which all devices take part at once."""
TOLERANCE = 1e-3
"""Relative deviation of a sum from the printed cells, which have six digits."""
_KNOWN_KEYS = {
    "CUDA Runtime Version", "CUDA Driver Version", "Driver Version", "git_version", "version", "testcases", "error",
    "warning", "Hostname", "GPU Device list", "GPU Device info", "bufferSize", "testSamples", "useMean",
}  # fmt: skip
_DEVICE = re.compile(r"\d+: (?P<name>.+?)(?: \((?P<pci>[0-9a-fA-F:.]+)\))?(?:: ?\((?P<host>[^()]+)\))?")
_UNIT = re.compile(r"\(([^()]+)\)\s*$")


@dataclass(frozen=True)
class _Matrix:
    """One matrix of a test: its cells, and its part of a test in both directions."""

    rows: Sequence[Sequence[Any]]
    part: str | None = None

    def total(self) -> float:
        return sum(number(cell) or 0.0 for row in self.rows for cell in row)


@dataclass
class _File:
    """A file while it is read."""

    num_devices: int
    cases: list[ImportedCase] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    contradictions: list[Contradiction] = field(default_factory=list)


def looks_like(text: str) -> bool:
    return text.lstrip().startswith("{") and '"nvbandwidth"' in text and '"testcases"' in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a file. Raises BenchError for what is no such JSON, and for an error of the program alone."""
    data = mapping(mapping(json_value(text, "write it again with nvbandwidth -j")).get("nvbandwidth"))
    tests = sequence(data.get("testcases"))
    if not tests:
        why = words(data.get("error"))
        raise BenchError(f"nvbandwidth ran no test: {why}" if why else "no JSON of nvbandwidth: it has no `testcases`")
    ranks = _devices(data)
    file = _File(num_devices=check_num_ranks(len(ranks) or max(map(_width, tests), default=0) or 1))
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
        ranks=ranks or (RankFacts(device_type="cuda", driver=words(data.get("Driver Version"))),) * file.num_devices,
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


def _read_test(file: _File, index: int, test: Mapping[str, Any], error: str | None) -> None:
    """Take up one test: a case per cell, or one that says why there are none."""
    where, name, status = f"test {index}", words(test.get("name")), words(test.get("status"))
    if name is None:
        file.ledger.unread(where, json.dumps(test), "has no name")
        return
    file.ledger.read(where, name, "test")
    if status != "Passed":
        file.cases.append(_without_cells(name, status, words(test.get("error")) or error, file.num_devices))
        return
    unit = _UNIT.search(words(test.get("bandwidth_description")) or "")
    rows = [sequence(row) for row in sequence(test.get("bandwidth_matrix"))]
    if unit is None or unit[1] not in UNITS:
        file.ledger.unread(where, name, f"its unit is none of {', '.join(UNITS)}")
    elif not rows or len({len(row) for row in rows}) > 1 or not rows[0]:
        file.ledger.unread(where, name, "its matrix is empty, or has rows of different lengths")
    elif "device_to_device" in name and len(rows) > 1 and len(rows) not in (len(rows[0]), len(PARTS) * len(rows[0])):
        file.ledger.unread(where, name, "its matrix of devices is not square")
    else:
        matrices = _matrices(name, rows)
        _hold_against_sums(file, where, test, matrices)
        for matrix in matrices:
            file.cases += _cells(file, where, name, unit[1], matrix)


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
    """Name a stated sum that the cells do not have, and a total that is not that of its two streams."""
    stated, found = number(test.get("sum")), matrices[-1].total()
    if stated is not None and abs(stated - found) > TOLERANCE * max(abs(stated), abs(found)):
        file.contradictions.append(
            Contradiction(where, f"its sum is {stated:g}, but the cells of its matrix add up to {found:g}")
        )
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
            pair: Params = {"gpu": column} if len(matrix.rows) == 1 else _pair(name, row, column)
            part: Params = {"part": matrix.part} if matrix.part else {}
            yield ImportedCase(
                suite=SUITE,
                params={"op": safe_name(name), **pair, **part},
                num_ranks=_num_ranks(name, pair, file.num_devices),
                seconds=(UNITS[unit](value),),
                notes=(NOTES[unit],),
                work=WorkFacts(bytes=GIGABYTE) if unit == "GB/s" else None,
            )


def _pair(name: str, row: int, column: int) -> Params:
    is_between_devices = "device_to_device" in name
    return {"gpu": row, "peer": column} if is_between_devices else {"row": row, "gpu": column}


def _num_ranks(name: str, pair: Params, num_devices: int) -> int:
    if OF_ALL.match(name):
        return num_devices
    return 2 if "peer" in pair else 1
