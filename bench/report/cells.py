"""Texts of a case's cells that say how sure they are: fewer than 20 samples have two digits, a tilde and no interval.

Only several launches have an error bar (±): launches differ by more than the samples of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.values import MISSING, show_number, show_seconds
from bench.records import metrics
from bench.records.metrics import CEILING_PERCENT, PEAK_SHARE, TIME, TIME_HIGH, TIME_LOW, Metric
from bench.records.samples import has_few_samples

Row = Mapping[str, Any]

FEW_DIGITS = 2
USELESS_RATIO = 10
"""An end of an interval that is more than this many times away says only that nothing is known."""
BEST = "best here"
CEILING = "ceiling"


def show_time(row: Row) -> str:
    """Time of one call, such as `17.1 ms`, or `~39 ms` of few samples."""
    if row.get(TIME) is None:
        return MISSING
    return f"~{show_seconds(row[TIME], FEW_DIGITS)}" if has_few_samples(row) else show_seconds(row[TIME])


def show_error(row: Row) -> str:
    """The farther end of the 95% interval between launches, such as `±36%`; empty without launches or samples."""
    return f"±{_show_farthest(row)}" if row.get("interval") == "between_launches" and _has_interval(row) else ""


def show_spread(row: Row) -> str:
    """The farther end of the 95% interval of the median within the only launch: no error bar."""
    return _show_farthest(row) if row.get("interval") == "within_launch" and _has_interval(row) else MISSING


def show_interval(row: Row) -> str:
    """Ends of the 95% interval between launches."""
    if row.get("interval") != "between_launches" or not _has_interval(row):
        return MISSING
    low, high = row[TIME_LOW], row[TIME_HIGH]
    # Few launches far apart give ends that are right and tell nothing: nanoseconds to days.
    return "unknown" if high > USELESS_RATIO**2 * low else f"{show_seconds(low)} to {show_seconds(high)}"


def _has_interval(row: Row) -> bool:
    return not has_few_samples(row) and bool(row.get(TIME)) and None not in (row.get(TIME_LOW), row.get(TIME_HIGH))


def error(row: Row) -> float | None:
    """The farther end of the 95% interval between launches, as a share of the time."""
    return _farthest(row) if show_error(row) else None


def _farthest(row: Row) -> float:
    return float(max(1 - row[TIME_LOW] / row[TIME], row[TIME_HIGH] / row[TIME] - 1))


def _show_farthest(row: Row) -> str:
    return show_error_share(_farthest(row))


def show_error_share(share: float) -> str:
    """An end of an interval as a share of the time; beyond USELESS_RATIO it is only said to be so."""
    return f"{100 * share:.0f}%" if share < USELESS_RATIO else f">{USELESS_RATIO}x"


def main_rate(row: Row, own: Mapping[str, Metric]) -> Metric | None:
    """The metric that a case is judged by besides its time; the first of the suite's own if it has no other."""
    found = metrics.headline(row)
    if found is not None:
        return found
    judged = (metric for metric in own.values() if metric.better != "neither" and row.get(metric.name) is not None)
    return next(judged, None)


def show_metric(row: Row, metric: Metric) -> str:
    """A metric of a case with its unit; of few samples with two digits."""
    return metric.format(row.get(metric.name), FEW_DIGITS if has_few_samples(row) else 3)


def show_ceiling_percent(row: Row, best: frozenset[str]) -> str:
    """Percent of the ceiling; the case that sets it is not a share of itself: `best` are those that none exceeds."""
    if row.get("ceiling_source") == row["case"]:
        return BEST if row["case"] in best else CEILING
    return _show_percent(row.get(CEILING_PERCENT))


def show_peak_percent(row: Row) -> str:
    """Percent of the data sheet's peak."""
    share = row.get(PEAK_SHARE)
    return _show_percent(None if share is None else 100 * share)


def _show_percent(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f}%" if value >= 9.95 else f"{show_number(value, 2)}%"


def unexceeded(rows: Sequence[Row]) -> frozenset[str]:
    """Cases that set a ceiling which no other case of the rows goes beyond."""
    sources = {row["ceiling_source"] for row in rows if row.get("ceiling_source")}
    beyond = {row["ceiling_source"] for row in rows if (row.get(CEILING_PERCENT) or 0) > 100.5}
    return frozenset(sources - beyond)
