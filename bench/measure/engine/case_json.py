"""JSON forms of a case's work, check, tables and errors."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import Any

from bench.suite import Check, Table, Work


def describe_error(error: BaseException) -> str:
    """An error in one line, with the last place in it that is not the engine's or torch's own."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    engine = str(Path(__file__).parents[1])
    suite_frames = [f for f in frames if not f.filename.startswith(engine) and "site-packages" not in f.filename]
    return f"{text} ({Path(suite_frames[-1].filename).name}, line {suite_frames[-1].lineno})" if suite_frames else text


def work_to_json(work: Work) -> dict[str, Any]:
    return {
        "bytes": work.bytes,
        "bus_factor": work.bus_factor,
        "memory_traffic_bytes": work.memory_traffic_bytes,
        "flops": work.flops,
        **({} if work.hardware_flops is None else {"hardware_flops": work.hardware_flops}),
        "flops_dtype": work.flops_dtype,
        "tokens": work.tokens,
        "clock": work.clock,
    }


def check_to_json(check: Check) -> list[float | str | None]:
    """JSON has no NaN: an error that is not a number travels as null, and never passes."""
    return [finite_or_none(check.error), float(check.tolerance), check.scope]


def check_from_json(row: list[Any]) -> Check:
    return Check(math.nan if row[0] is None else row[0], row[1], row[2])


def table_to_json(table: Table) -> dict[str, Any]:
    rows = [[finite_or_none(cell) if isinstance(cell, float) else cell for cell in row] for row in table.rows]
    return {"title": table.title, "columns": list(table.columns), "rows": rows, "notes": list(table.notes)}


def finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def excess_error(check: Check) -> float:
    return math.inf if math.isnan(check.error) else check.error - check.tolerance
