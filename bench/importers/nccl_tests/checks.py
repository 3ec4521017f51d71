"""Comparison of the rows of nccl-tests with each other and with the rest of the run: sizes, bandwidths, the average.

Sources: src/*.cu of nccl-tests (GetCollByteCount, GetBw) and src/common.cu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.core.values import counted
from bench.importers.nccl_tests.rows import Body, Row
from bench.importers.source.statements import (
    Bandwidths,
    Contradiction,
    factor_contradiction,
    fits_factor,
)
from bench.parallelism import collectives

WIDTHS = {
    "char": 1, "int8": 1, "uint8": 1, "half": 2, "bfloat16": 2, "int": 4, "int32": 4, "uint32": 4, "float": 4,
    "int64": 8, "uint64": 8, "double": 8, "f8e4m3": 1, "f8e5m2": 1, "fp8_e4m3": 1, "fp8_e5m2": 1,
}  # fmt: skip
"""Type by its name in the table -> bytes of an element."""
SHARES = {"all_gather": True, "all_to_all": True, "reduce_scatter": True, "gather": True, "scatter": True,
          "hypercube": True, "all_reduce": False, "broadcast": False, "reduce": False, "send_recv": False}  # fmt: skip
"""Operation -> whether `count` is one rank's share of `size`, rather than all of it."""
UNIT_RATIO = {"hypercube"}
"""Operations whose bandwidths nccl-tests prints alike: the first counts received bytes alone (src/hypercube.cu)."""
TOLERANCE = 0.02
"""Relative deviation that is more than rounding."""
GROSS = 2.0
"""Factor between a time and the bandwidth of its row from which on one of them is of another unit or row."""


@dataclass
class CheckedRun:
    """Findings on the rows of a run."""

    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[Row, str]] = field(default_factory=list)
    """Rows whose size, count and type fit no operation, and why."""
    contradictions: list[Contradiction] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fits_factor: bool = True
    groups: int = 1
    """Groups of ranks that ran at the same time."""


def where(row: Row) -> str:
    """The place of a row, for a message."""
    return f"line {row.line}" if row.line else f"the row of {row.num_bytes:,} bytes"


def check_run(rows: Sequence[Row], op: str, num_ranks: int, average: float | None, out_of_bounds: int) -> CheckedRun:
    """Findings on rows of one run; `average` and `out_of_bounds` are the numbers of its last lines, if it has them."""
    found = CheckedRun()
    for row in rows:
        reason = _size_reason(row, num_ranks)
        if reason is None:
            found.rows.append(row)
        else:
            found.refused.append((row, reason))
    if (shares := _shares_contradiction(found.rows, op, num_ranks)) is not None:
        found.contradictions.append(shares)
    stated = [Bandwidths(where(row), body.algbw, body.busbw) for row, body in _halves(found.rows)]
    if op not in UNIT_RATIO and num_ranks > 1 and (factor := factor_contradiction(op, num_ranks, stated)) is not None:
        found.contradictions.append(factor)
        found.fits_factor = False
    if (times := _time_contradiction(found.rows, op)) is not None:
        is_gross = times[1]
        found.contradictions += [times[0]] if is_gross else []
        found.remarks += [] if is_gross else [times[0].note()]
    found.remarks += [*_summary_remarks(found, rows, average, out_of_bounds)]
    return found


def fitting_operations(rows: Sequence[Row], num_ranks: int) -> list[str]:
    """Operations whose factor on this many ranks all rows have; none if their digits do not tell."""
    if num_ranks < 2:
        return []
    stated = [Bandwidths(where(row), body.algbw, body.busbw) for row, body in _halves(rows)]
    fits = {
        op: [fits_factor(row, 1.0 if op in UNIT_RATIO else factor.at(num_ranks)) for row in stated]
        for op, factor in collectives.BUS_FACTORS.items()
    }
    return [op for op, found in fits.items() if True in found and False not in found]


def _halves(rows: Sequence[Row]) -> list[tuple[Row, Body]]:
    return [(row, body) for row in rows for body in row.halves.values()]


def _size_reason(row: Row, num_ranks: int) -> str | None:
    """Why the size of a row cannot be right; None if it is count x width, of all or of one rank, or not known."""
    width = WIDTHS.get(row.dtype)
    if width is None or not row.count or not row.num_bytes:
        return None
    if row.num_bytes in (row.count * width, row.count * width * num_ranks):
        return None
    return (
        f"size {row.num_bytes} is not count {row.count} x {width} bytes of {row.dtype}, and not {num_ranks} times that"
    )


def _shares_contradiction(rows: Sequence[Row], op: str, num_ranks: int) -> Contradiction | None:
    """Rows whose count is of all ranks if the operation's is one rank's share, or the other way."""
    if num_ranks < 2 or op not in SHARES:
        return None
    known = [row for row in rows if row.count and row.num_bytes and row.dtype in WIDTHS]
    ranks = num_ranks if SHARES[op] else 1
    wrong = [row for row in known if row.num_bytes != (row.count or 0) * WIDTHS[row.dtype] * ranks]
    if not wrong:
        return None
    share = "one rank's share" if SHARES[op] else "the whole"
    return Contradiction(
        where(wrong[0]),
        f"count x type is not the size in {len(wrong)} of {counted(len(known), 'row')} for {op} on {num_ranks} ranks, "
        f"whose count is of {share}; the operation or the number of ranks is wrong",
    )


def _time_contradiction(rows: Sequence[Row], op: str) -> tuple[Contradiction, bool] | None:
    """Times that do not give the bandwidth of their row, and whether one is off by a factor of GROSS."""
    known = [
        (row, body)
        for row, body in _halves(rows)
        if not body.is_cpu_time and body.algbw and body.algbw >= 1 and body.microseconds and body.microseconds > 0
    ]
    if op in UNIT_RATIO:
        return None
    wrong = [
        (row, body)
        for row, body in known
        if abs(_algbw(row, body) - (body.algbw or 0)) > max(TOLERANCE * (body.algbw or 0), 0.01 + _rounding(row, body))
    ]
    if not wrong:
        return None
    row, body = wrong[0]
    ratios = [_algbw(row, body) / (body.algbw or 1.0) for row, body in wrong]
    text = (
        f"{row.num_bytes:,} bytes in {body.microseconds:g} us are {_algbw(row, body):.2f} GB/s, but the row says "
        f"{body.algbw:.2f} GB/s; the same holds in {len(wrong)} of {len(known)} halves; the time is taken"
    )
    return Contradiction(where(row), text), max(ratios) > GROSS or min(ratios) < 1 / GROSS


def _algbw(row: Row, body: Body) -> float:
    return row.num_bytes / ((body.microseconds or 1.0) * 1e3)


def _rounding(row: Row, body: Body) -> float:
    """GB/s by which the last digit of the time changes its bandwidth: nccl-tests prints two digits below 100 us."""
    time = body.microseconds or 1.0
    digit = 0.005 if time < 100 else 0.05 if time < 10_000 else 0.5
    return _algbw(row, body) * digit / time


def _summary_remarks(found: CheckedRun, rows: Sequence[Row], average: float | None, out_of_bounds: int) -> list[str]:
    """Remarks on the lines after the table: an average of other rows, and wrong results that no row shows."""
    remarks: list[str] = []
    stated = [body.busbw for _, body in _halves(found.rows)]
    if average is not None and stated and None not in stated and len(found.rows) == len(rows):
        mean = sum(value or 0.0 for value in stated) / len(stated)
        if abs(mean - average) > max(TOLERANCE * average, 0.02):
            remarks.append(
                f"the text says an average bus bandwidth of {average:g} GB/s, and its rows have {mean:.4g} GB/s: rows "
                "may be missing, or of another run"
            )
    is_wrong = any((body.wrong or 0) > 0 or body.is_marked or (body.delta or 0) > 0 for _, body in _halves(rows))
    if out_of_bounds and not is_wrong:
        remarks.append(f"the text says {out_of_bounds} values out of bounds, and no row says which")
    return remarks
