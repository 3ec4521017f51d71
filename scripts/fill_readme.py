"""Put the table of a saved run into the README, between its markers.

    .venv/bin/python scripts/fill_readme.py RESULT.jsonl

The columns are a choice; `bench show RESULT.jsonl` has all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.core.values import show_seconds
from bench.records import metrics
from bench.records.file import load
from bench.records.rows import case_rows, own_metrics

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
REMARKS = (
    metrics.CEILING_PERCENT, "contention", metrics.SPEEDUP, "communication_share", metrics.BUBBLE, metrics.IDLE,
)  # fmt: skip
"""Metrics beside the headline."""


def main() -> None:
    result = load(Path(sys.argv[1]))
    table = own_metrics([result]) | metrics.METRICS
    lines = ["| case | median | 95% interval between launches | speed | and |", "| --- | ---: | ---: | ---: | --- |"]
    for row in case_rows([result]):
        if row["status"] != "ok":
            continue
        headline = metrics.headline(row)
        speed = f"{headline.head}: {headline.format(row[headline.name])}" if headline else ""
        known = (table[name] for name in REMARKS if row.get(name) is not None)
        remarks = ", ".join(f"{metric.head}: {metric.format(row[metric.name])}" for metric in known)
        low, high = row[metrics.TIME_LOW], row[metrics.TIME_HIGH]
        wide = low is None or high is None or high > 100 * low
        interval = "unknown: the launches disagree" if wide else f"{show_seconds(low)} to {show_seconds(high)}"
        lines.append(f"| `{row['case']}` | {show_seconds(row[metrics.TIME])} | {interval} | {speed} | {remarks} |")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    hidden = "<details><summary>All cases</summary>"
    body = "\n".join([hidden, "", *lines, "", "</details>"])
    readme.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
