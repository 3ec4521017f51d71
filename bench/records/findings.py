"""Findings: one line each of what is right, suspicious or wrong, and what to do.

`bench doctor` makes them of a machine, and they stand in a result's header; those of a result itself are about types
that its processor has no instructions for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.records.lines.parts import Finding
from bench.records.metrics import COMPUTE_SPEED

if TYPE_CHECKING:
    from bench.records.file import Result

_BASE = "float32"


def slow_type_findings(result: Result) -> list[Finding]:
    """One for each slow type that was measured, with how many times slower its products are where that is known."""
    from bench.records.rows import case_rows

    if not result.environment.slow_types:  # the usual case costs nothing
        return []
    rows = [row for row in case_rows([result]) if row["status"] == "ok" and row[COMPUTE_SPEED] is not None]
    measured = sorted({str(row["params"].get("dtype")) for row in rows} & result.environment.slow_types)
    return [_slow_type_finding(dtype, _times_slower(dtype, rows)) for dtype in measured]


def _slow_type_finding(dtype: str, slower: tuple[float, int] | None) -> Finding:
    value = "this processor has no instructions for products in it"
    if slower is not None:
        ratio, size = slower
        value += f": one of {size} takes {ratio:{'.0f' if ratio >= 10 else '.2g'}}x as long as in {_BASE}"
    remedy = f"compute in {_BASE} here; only its smallest product was measured, and other suites leave it out"
    return Finding("warn", dtype, value, remedy)


def _times_slower(dtype: str, rows: list[dict[str, Any]]) -> tuple[float, int] | None:
    """Ratio of a product's time to that in float32, and its size, the largest that has both."""
    seconds: dict[str, dict[int, float]] = {dtype: {}, _BASE: {}}
    for row in rows:
        params = row["params"]
        if row["suite"] == "compute" and params.get("shape") == "square" and params.get("dtype") in seconds:
            seconds[params["dtype"]][params["size"]] = row["seconds_median"]
    both = [size for size in seconds[dtype] if seconds[_BASE].get(size)]
    return (seconds[dtype][max(both)] / seconds[_BASE][max(both)], max(both)) if both else None
