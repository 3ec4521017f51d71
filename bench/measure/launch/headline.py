"""One case in a few words: its time, and its most telling speed."""

from __future__ import annotations

from typing import Any

from bench.core.cell_text import clean
from bench.core.values import show_number, show_seconds
from bench.records import metrics
from bench.records.case_view import CaseView
from bench.records.samples import launch_times

SPEEDS = ("busbw_gb_per_s", "tokens_per_s", "tflop_per_s", "membw_gb_per_s")
"""The first that a case has is its headline."""


def headline(record: dict[str, Any]) -> str:
    """Of one measurement line: `1.23 ms  4.5 GB/s`, or why it has no speed."""
    if record["status"] != "ok":
        return clean(f"{record['status']}: {record['reason']}")
    view = CaseView(
        main=next(iter(record["variants"])),
        num_ranks=record["num_ranks"],
        launches=(launch_times(record),),
        work=record["work"],
    )
    values = metrics.values(view)
    seconds = values["seconds_median"]
    words = [] if seconds is None else [show_seconds(seconds)]
    for name in SPEEDS:
        value = values[name]
        if value is not None:
            words.append(f"{show_number(value)} {metrics.METRICS[name].unit}")
            break
    return "  ".join(words)
