"""Checks of a result file's records, one at a time: what `bench.records.file.load` needs them to hold.

A damaged or forged file ends in one clear line here, and never in a traceback or a wrong number further on.
"""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any

from bench.core.values import is_number
from bench.errors import BenchError

Record = dict[str, Any]

STATUSES = ("ok", "invalid", "skipped", "failed")

_NUMBERS = {int, float}
MAX_NANOSECONDS = 2**63
"""About 300 years; a larger number is none of a clock's."""
_MAYBE_DICT = (dict, NoneType)
REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "header": {"schema": int, "label": str, "architecture": str, "environment": dict, "plan": dict},
    "measurement": {
        "launch": int, "suite": str, "case": str, "params": dict, "status": str, "num_ranks": int,
        "variants": dict, "check": _MAYBE_DICT, "work": _MAYBE_DICT, "stop": _MAYBE_DICT,
        "derived": _MAYBE_DICT, "metrics": _MAYBE_DICT, "notes": (list, NoneType),
    },
    "choices": {"case": str, "nccl": list},
    "resume": {"environment": dict},
    "end": {"status": str, "exit_code": int},
}  # fmt: skip


def check_record(path: Path, number: int, kind: str, record: Record) -> None:
    """Check one record. Raises BenchError for a field that is missing, or of another type than readers rely on."""
    for name, wanted in REQUIRED[kind].items():
        if not isinstance(record.get(name), wanted):
            raise _unreadable(path, number, kind, name, record.get(name))
    if kind == "choices" and not all(isinstance(choice, dict) for choice in record["nccl"]):
        raise _unreadable(path, number, kind, "nccl", record["nccl"])
    if kind != "measurement":
        return
    if record["status"] not in STATUSES:
        raise _unreadable(path, number, kind, "status", record["status"])
    visit = record.get("visit", 0)
    if not isinstance(visit, int) or isinstance(visit, bool) or visit < 0:
        raise _unreadable(path, number, kind, "visit", visit)
    if not is_disturbance(record.get("disturbance")):
        raise _unreadable(path, number, kind, "disturbance", record["disturbance"])
    if not is_energy(record.get("energy")):
        raise _unreadable(path, number, kind, "energy", record["energy"])
    for name, table in _entries(path, number, kind, record):
        if not is_table(table):
            raise _unreadable(path, number, kind, f"tables.{name}", table)
    for name, variant in record["variants"].items():
        if not _is_variant(variant):
            raise _unreadable(path, number, kind, f"variants.{name}", variant)


def _entries(path: Path, number: int, kind: str, record: Record) -> list[tuple[str, Any]]:
    tables = record.get("tables") or {}
    if not isinstance(tables, dict):
        raise _unreadable(path, number, kind, "tables", tables)
    return list(tables.items())


def is_table(value: object) -> bool:
    """True if a file's table has heads, and rows of as many plain cells."""
    if not isinstance(value, dict) or not isinstance(value.get("title", ""), str):
        return False
    columns, rows, notes = value.get("columns"), value.get("rows"), value.get("notes", [])
    if not isinstance(columns, list) or not isinstance(rows, list) or not isinstance(notes, list):
        return False
    cells = [row for row in rows if isinstance(row, list) and len(row) == len(columns)]
    plain = all(isinstance(cell, bool | int | float | str | NoneType) for row in cells for cell in row)
    return len(cells) == len(rows) and plain and all(isinstance(text, str) for text in (*columns, *notes))


def _is_variant(variant: Any) -> bool:
    """True if a variant has calls and samples: equally many numbers from every rank, or what stands for them."""
    if not isinstance(variant, dict) or not isinstance(variant.get("calls"), int) or variant["calls"] < 1:
        return False
    iterations = variant.get("per_iteration", {})
    rows = variant.get("nanoseconds", [iterations.get(key) for key in ("max", "min", "last_rank")])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return False
    # Types and ends of whole rows: a million samples take as long as making an array of them, and few far less.
    return len({len(row) for row in rows}) == 1 and all(
        not row or (set(map(type, row)) <= _NUMBERS and max(row) < MAX_NANOSECONDS and min(row) > -MAX_NANOSECONDS)
        for row in rows
    )


def _unreadable(path: Path, number: int, kind: str, name: str, value: object) -> BenchError:
    shown = f"{value!r:.40}"
    return BenchError(f"{str(path)!r}: record {number}, a {kind}, has {name} {shown}; take the original file")


def is_disturbance(value: object) -> bool:
    """True for a readable `disturbance`: missing, or lists of rows of numbers, texts and lists of texts."""
    if value is None:
        return True
    if not isinstance(value, dict) or not all(isinstance(value.get(part, []), list) for part in ("hosts", "ranks")):
        return False
    rows = [row for part in ("hosts", "ranks") for row in value.get(part, [])]
    return all(isinstance(row, dict) and all(_is_cell(*cell) for cell in row.items()) for row in rows)


def is_energy(value: object) -> bool:
    """True for a readable `energy`: missing, or its texts and numbers."""
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    texts = (value.get("source"), value.get("scope"), value.get("reason"))
    numbers = (value.get("joules"), value.get("idle_watts"), value.get("busy_share"), *(value.get("rank_joules") or ()))
    return all(text is None or isinstance(text, str) for text in texts) and all(
        number is None or is_number(number) for number in numbers
    )


def _is_cell(key: str, value: object) -> bool:
    if key == "host":
        return isinstance(value, str)
    if "reasons" in key:
        return isinstance(value, list) and all(isinstance(reason, str) for reason in value)
    return is_number(value)
