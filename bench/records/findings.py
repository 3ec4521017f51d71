"""Types that a processor has no instructions for, as a result tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bench.core.values import as_count
from bench.records.lines.parts import Finding
from bench.records.metrics import COMPUTE_SPEED

if TYPE_CHECKING:
    from bench.records.file import Result

_BASE = "float32"


class SlowType(NamedTuple):
    """A type that was measured although the processor has no instructions for products in it."""

    dtype: str
    ratio: float | None
    """Time of a product over that in float32; None: unknown."""
    size: int | None
    """Size of that product."""


def slow_types(result: Result) -> list[SlowType]:
    """Each slow type that was measured, in the order of names."""
    from bench.records.rows import case_rows

    if not result.environment.slow_types:  # the usual case costs nothing
        return []
    rows = [row for row in case_rows([result]) if row["status"] == "ok" and row[COMPUTE_SPEED] is not None]
    measured = sorted({str(row["params"].get("dtype")) for row in rows} & result.environment.slow_types)
    return [SlowType(dtype, *(_times_slower(dtype, rows) or (None, None))) for dtype in measured]


def slow_type_findings(result: Result) -> list[Finding]:
    """One line for each slow type that was measured."""
    return [_slow_type_finding(slow) for slow in slow_types(result)]


def _slow_type_finding(slow: SlowType) -> Finding:
    value = "this processor has no instructions for products in it"
    if slow.ratio is not None:
        ratio = f"{slow.ratio:{'.0f' if slow.ratio >= 10 else '.2g'}}"
        value += f": one of {slow.size} takes {ratio}x as long as in {_BASE}"
    remedy = f"compute in {_BASE} here; only its smallest product was measured, and other suites leave it out"
    return Finding("warn", slow.dtype, value, remedy)


def _times_slower(dtype: str, rows: list[dict[str, Any]]) -> tuple[float, int] | None:
    """Ratio of a product's time to that in float32, and its size, the largest that has both."""
    seconds: dict[str, dict[int, float]] = {dtype: {}, _BASE: {}}
    for row in rows:
        params = row["params"]
        if row["suite"] == "compute" and params.get("shape") == "square" and params.get("dtype") in seconds:
            size = as_count(params.get("size"))
            if size is not None:
                seconds[params["dtype"]][size] = row["seconds_median"]
    both = [size for size in seconds[dtype] if seconds[_BASE].get(size)]
    return (seconds[dtype][max(both)] / seconds[_BASE][max(both)], max(both)) if both else None
