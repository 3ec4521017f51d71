"""Put the table of a saved run into the README, between its markers.

    .venv/bin/python scripts/fill_readme.py RESULT.jsonl

The rows and columns are a choice; `bench show RESULT.jsonl` has all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import bench
from bench.core.values import show_number, show_percent, show_seconds

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
SPEEDS = {
    "busbw_gb_per_s": ("GB/s bus", show_number),
    "tflop_per_s": ("TFLOP/s a device", show_number),
    "membw_gb_per_s": ("GB/s memory", show_number),
}
REMARKS = {
    "percent_of_measured_ceiling": ("{} % of ceiling", show_number),
    "contention": ("contention {}x", show_number),
    "speedup": ("{}x one device", show_number),
    "communication_share": ("{} % communication", show_percent),
    "bubble_theory": ("bubble {} %", show_percent),
    "idle_share": ("idle {} %", show_percent),
}


def main() -> None:
    frame = bench.load(sys.argv[1])
    lines = ["| case | median | 95% interval between launches | speed | and |", "| --- | ---: | ---: | ---: | --- |"]
    for row in frame[frame.status == "ok"].to_dict("records"):
        known = {name: value for name, value in row.items() if not isinstance(value, list) and pd.notna(value)}
        speed = next((f"{show(known[n])} {unit}" for n, (unit, show) in SPEEDS.items() if n in known), "")
        remarks = ", ".join(text.format(show(known[n])) for n, (text, show) in REMARKS.items() if n in known)
        low, high = known.get("seconds_low"), known.get("seconds_high")
        wide = low is None or high is None or high > 100 * low
        interval = "unknown: the launches disagree" if wide else f"{show_seconds(low)} to {show_seconds(high)}"
        lines.append(
            f"| `{row['case']}` | {show_seconds(known['seconds_median'])} | {interval} | {speed} | {remarks} |"
        )
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    hidden = "<details><summary>All cases</summary>"
    body = "\n".join([hidden, "", *lines, "", "</details>"])
    readme.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
