"""Result files made by hand, with round numbers, for tests of what reads them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from bench.records.file import Writer
from bench.records.lines.decoding import structure
from bench.records.lines.kinds import Header, Line, Measurement
from bench.records.reader import SCHEMA

Record = dict[str, Any]
"""Plain values of a line, to be changed before they become its structure."""
HOST = "node07"
GPU = "NVIDIA H100 80GB HBM3"
"""Peak in bfloat16 after the catalogue: 989 TFLOP/s."""
GPU_BYTES = 85_000_000_000
MILLISECOND = 1_000_000


def header(num_ranks: int = 2, device: str = "AMD EPYC 7B13", label: str = "run", **changes: Any) -> Record:
    """`changes` replace fields of the header; `plan` and `environment` are merged into what is there."""
    ranks = [
        {"rank": r, "host": HOST, "device_type": "cpu", "device_name": device, "memory_bytes": GPU_BYTES}
        for r in range(num_ranks)
    ]
    record: Record = {
        "kind": "header",
        "schema": SCHEMA,
        "run_id": "5d0a2f3c",
        "label": label,
        "started": "2026-01-31T12:00:00.000+00:00",
        "architecture": f"{num_ranks} x {device}",
        "environment": {
            "architecture": f"{num_ranks} x {device}",
            "hosts": {HOST: {"hostname": HOST, "cpu_model": "AMD EPYC 7B13"}},
            "ranks": ranks,
            "versions": {"torch": "2.13.0", "python": "3.12.1"},
            "variables": {},
            "settings": {},
            "commit": "0" * 40,
        },
        "plan": {
            "preset": "smoke",
            "world_size": num_ranks,
            "backend": "gloo",
            "launches": 1,
            "suites": [{"name": "collective", "reference": "collective", "digest": "a" * 64, "metrics": {}}],
            "cases": [],
            "options": {},
        },
        "command": ["run", "--preset", "smoke"],
    }
    for name, value in changes.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    return record


def measurement(
    case: str = "collective/all_reduce[num_bytes=1000000]",
    nanoseconds: list[list[int]] | None = None,
    launch: int = 0,
    calls: int = 1,
    others: dict[str, list[list[int]]] | None = None,
    **fields: Any,
) -> Record:
    """One case; `nanoseconds` is [rank][sample] of `full`, `others` that of further variants."""
    rows = [[MILLISECOND] * 3, [2 * MILLISECOND] * 3] if nanoseconds is None else nanoseconds
    suite, _, rest = case.partition("/")
    op, _, tail = rest.partition("[")
    pairs = (pair.split("=") for pair in filter(None, tail.rstrip("]").split(",")))
    record: Record = {
        "kind": "measurement",
        "launch": launch,
        "suite": suite,
        "case": case,
        "params": {"op": op, "dtype": "float32"} | {k: int(v) if v.isdigit() else v for k, v in pairs},
        "status": "ok",
        "reason": None,
        "num_ranks": len(rows),
        "variants": {
            name: {"calls": calls, "nanoseconds": each} for name, each in {"full": rows, **(others or {})}.items()
        },
        "check": {"error": 0.0, "tolerance": 0.0, "scope": "full", "error_after": 0.0},
        "work": {
            "bytes": None,
            "bus_factor": None,
            "memory_traffic_bytes": None,
            "flops": None,
            "flops_dtype": None,
            "tokens": None,
            "clock": "device",
        },
        "derived": {},
        "metrics": {},
        "stop": {"reason": "precision", "half_width": 0.01, "warmup_calls": 3},
        "spans": [],
        "traced_call_ns": [],
        "notes": [],
        "started": "2026-01-31T12:00:01.000+00:00",
        "seconds": 0.5,
    }
    work = {name: fields.pop(name) for name in list(fields) if name in record["work"]}
    record |= fields
    record["work"] = record["work"] | work
    return record


def not_ok(case: str, status: str, reason: str, launch: int = 0, num_ranks: int = 2) -> Record:
    return measurement(case, [[1]] * num_ranks, launch) | {
        "status": status, "reason": reason, "variants": {}, "work": None, "check": None, "stop": None,
    }  # fmt: skip


def planned(case: str) -> Record:
    """A case of the plan."""
    return {"suite": case.partition("/")[0], "id": case, "params": {}}


def end(status: str = "complete", exit_code: int = 0) -> Record:
    return {"kind": "end", "ended": "2026-01-31T12:00:30.000+00:00", "status": status, "exit_code": exit_code}


def save(path: Path, *records: Record | Line) -> Path:
    """A file of a header (a plain one where the first record is none) and the records.

    Raises UnreadableLineError for a record that no reader would take.
    """
    lines = [structure(copy.deepcopy(record)) if isinstance(record, dict) else record for record in records]
    if not lines or not isinstance(lines[0], Header):
        lines.insert(0, structure(header()))
    with Writer.create(path) as writer:
        for line in lines:
            writer.append(line)
    return path


def header_line(num_ranks: int = 2, **changes: Any) -> Header:
    """Structure of `header`."""
    head = structure(header(num_ranks, **changes))
    assert isinstance(head, Header)
    return head


def save_unchecked(path: Path, *records: Record) -> Path:
    """A file of a header (a plain one if the first record is none) and the records, whether a reader takes them or not.

    They are written as JSON that may be loose, as another program's may.
    """
    lines = list(records) if records and records[0]["kind"] == "header" else [header(), *records]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(record: Record) -> Measurement:
    """Structure of the plain values of a measurement."""
    measured = structure(copy.deepcopy(record))
    assert isinstance(measured, Measurement)
    return measured
