"""One case in a few words: its time, and its most telling speed."""

from __future__ import annotations

from typing import Any

from bench import metrics

SPEEDS = ("busbw_gb_per_s", "tokens_per_s", "tflop_per_s", "membw_gb_per_s")
"""The first that a case has is its headline."""
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def format_seconds(seconds: float) -> str:
    """Three significant digits in the unit that fits."""
    factor, unit = next((row for row in _TIMES if seconds >= row[0]), _TIMES[-1])
    return f"{seconds / factor:.3g} {unit}" if seconds / factor < 999.5 else f"{seconds / factor:.0f} {unit}"


def headline(record: dict[str, Any]) -> str:
    """Of one measurement line: `1.23 ms  4.5 GB/s`, or why it has no speed."""
    if record["status"] != "ok":
        return f"{record['status']}: {record['reason']}"
    view = metrics.CaseView(
        main=next(iter(record["variants"])),
        num_ranks=record["num_ranks"],
        launches=(metrics.launch_times(record),),
        work=record["work"],
    )
    values = metrics.values(view)
    seconds = values["seconds_median"]
    words = [] if seconds is None else [format_seconds(seconds)]
    for name in SPEEDS:
        value = values[name]
        if value is not None:
            words.append(f"{value:.3g} {metrics.METRICS[name].unit}")
            break
    return "  ".join(words)
