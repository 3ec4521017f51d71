"""Parts of a measurement line, from a case's work, check and tables; and its errors in words."""

from __future__ import annotations

import math
import traceback
from pathlib import Path

from bench.records.lines.parts import CheckOutcome, TableRows, WorkFacts
from bench.suite import Check, Table, Work


def describe_error(error: BaseException) -> str:
    """An error in one line, with the last place in it that is not the engine's or torch's own."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    engine = str(Path(__file__).parents[1])
    suite_frames = [f for f in frames if not f.filename.startswith(engine) and "site-packages" not in f.filename]
    return f"{text} ({Path(suite_frames[-1].filename).name}, line {suite_frames[-1].lineno})" if suite_frames else text


def work_facts(work: Work) -> WorkFacts:
    return WorkFacts(**{name: getattr(work, name) for name in WorkFacts.__struct_fields__})


def check_outcome(check: Check) -> CheckOutcome:
    """One rank's check. JSON has no NaN: an error that is not a number is null, and never passes."""
    return CheckOutcome(error=finite_or_none(check.error), tolerance=float(check.tolerance), scope=check.scope)


def table_rows(table: Table) -> TableRows:
    rows = [[finite_or_none(cell) if isinstance(cell, float) else cell for cell in row] for row in table.rows]
    return TableRows(title=table.title, columns=list(table.columns), rows=rows, notes=list(table.notes))


def finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def excess_error(check: CheckOutcome) -> float:
    """Error above the tolerance: a check passes unless it is positive."""
    return math.inf if check.error is None else check.error - check.tolerance
