"""Lines of the summary, and the measurements of a folder of result files that they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def note(word: str, name: str, value: object, expected: str = "") -> None:
    """Print a line that begins with PASS, FAIL or INFO: the summary keeps those."""
    print(f"{word} {name}: {value}" + (f" (expected {expected})" if expected else ""))


def judge(name: str, value: float | None, low: float, high: float, unit: str = "") -> None:
    """PASS for a value from low to high, FAIL for another and for none."""
    shown = "not measured" if value is None else f"{value:.4g} {unit}".rstrip()
    is_right = value is not None and low <= value <= high
    note("PASS" if is_right else "FAIL", name, shown, f"{low:g} to {high:g}")


def expect(name: str, found: object, wanted: object) -> None:
    note("PASS" if found == wanted else "FAIL", name, found, str(wanted))


def records(folder: Path) -> list[Record]:
    """All lines of the folder's result files, in the order of their names."""
    paths = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def measurements(folder: Path) -> list[Record]:
    return [record for record in records(folder) if record["kind"] == "measurement"]


def statuses(folder: Path) -> None:
    """A line per measurement and end: what is ok passes, what was skipped is told, anything else fails."""
    words = {"ok": "PASS", "skipped": "INFO"}
    found = measurements(folder)
    if not found:
        note("FAIL", f"result files in {folder.name}", "no measurement")
    for record in found:
        check = record.get("check") or {}
        told = [
            record["status"],
            record.get("reason"),
            *(f"{check[k]:.2g}" for k in ("error", "tolerance") if check.get(k)),
        ]
        label = f"{record['case']} launch {record['launch']}"
        note(words.get(record["status"], "FAIL"), label, " ".join(str(each) for each in told if each is not None))
    for record in records(folder):
        if record["kind"] == "end":
            note("INFO", "end", f"{record['status']}, exit code {record['exit_code']}")


def median_seconds(record: Record, variant: str = "full") -> float:
    """Of one call, over rank 0's samples."""
    found = record["variants"][variant]
    samples = sorted(found["nanoseconds"][0])
    return samples[len(samples) // 2] / found["calls"] / 1e9
