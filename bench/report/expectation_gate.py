"""Cases below what is expected of them, for `--expect`: ranges of published figures, or a file of one's own."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.core.values import show_quantity
from bench.errors import BenchError
from bench.records.expected.kinds import asked_of
from bench.records.expected.words import words
from bench.records.metrics import METRICS, TIME, headline_metrics
from bench.records.rows import case_rows

if TYPE_CHECKING:
    from bench.records.file import Result

HEAD = ("case", "low")
"""Columns of a file of one's own: the id of a case, `*` standing for any text, and the least of its rate."""


class OwnLimit(NamedTuple):
    """The least rate of the cases that a pattern fits."""

    pattern: str
    low: float

    def fits(self, case: str) -> bool:
        """True for a case's id; brackets of ids are plain text here, and only `*` stands for any."""
        return fnmatchcase(case, self.pattern.replace("[", "[[]").replace("?", "[?]"))


class Judged(NamedTuple):
    """Lines on the cases that lie below, and the number of cases that were judged."""

    lines: tuple[str, ...]
    num_cases: int


def judge(results: Sequence[Result], own: Path | None = None) -> Judged:
    """Judge the cases of results: by a file of one's own if there is one, else by the ranges of published figures."""
    rows = [row for row in case_rows(results) if row["status"] == "ok" and row[TIME] is not None]
    if own is None:
        texts = [_beside_published(row) for row in rows if row["expected_low"] is not None]
        return Judged(tuple(filter(None, texts)), len(texts))
    limits = read_limits(own)
    for limit in limits:
        if not any(limit.fits(row["case"]) for row in rows):
            raise BenchError(f"{str(own)!r}: no measured case is {limit.pattern!r}; see ids with bench show FILE --ids")
    pairs = [(row, found) for row in rows if (found := next((one for one in limits if one.fits(row["case"])), None))]
    return Judged(tuple(filter(None, (_beside_own(row, limit) for row, limit in pairs))), len(pairs))


def read_limits(path: Path) -> list[OwnLimit]:
    """The limits of a CSV file with the columns `case` and `low`. Raises BenchError for any other file."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"--expect {str(path)!r}: it cannot be read as CSV ({error})") from error
    if not rows or not set(HEAD) <= set(rows[0]):
        raise BenchError(f"--expect {str(path)!r}: it needs a first line {','.join(HEAD)}, and a line per case")
    return [OwnLimit(row["case"] or "", _limit(path, number, row["low"])) for number, row in enumerate(rows, 2)]


def _limit(path: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise BenchError(f"--expect {str(path)!r}, line {line}: low {text!r} is not a number above 0")
    return value


def _beside_published(row: Mapping[str, Any]) -> str | None:
    asked = asked_of(row)
    if asked is None or _highest(row, row[asked.metric]) >= row["expected_low"]:
        return None
    return f"{row['case']}: {show_quantity(row[asked.metric], asked.unit)}, {words(row)}"


def _beside_own(row: Mapping[str, Any], limit: OwnLimit) -> str | None:
    metric = next((metric for metric in headline_metrics() if row.get(metric.name) is not None), None)
    if metric is None or METRICS[metric.name].better != "higher":
        raise BenchError(f"case {row['case']!r} has no rate to compare with {limit.low}; leave it out of the file")
    rate = row[metric.name]
    if _highest(row, rate) >= limit.low:
        return None
    return f"{row['case']}: {show_quantity(rate, metric.unit)}, below {limit.low:g} {metric.unit}"


def _highest(row: Mapping[str, Any], rate: float) -> float:
    """The rate at the lower end of the interval of the time: below a limit counts only if all of the interval is."""
    return float(rate * row[TIME] / row["seconds_low"]) if row["seconds_low"] else float(rate)
