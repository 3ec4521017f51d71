"""Branch coverage per room, from the JSON report of coverage.py: python scripts/room_coverage.py coverage.json

A room is a folder of bench/README.md; of `measure` and `workloads` each folder inside is one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path, PurePath

DEEP = ("measure", "workloads")
"""Rooms whose own rooms are shown."""


def room_of(file: str) -> str:
    parts = PurePath(file).parts[:-1]
    return "/".join(parts[: 3 if len(parts) > 2 and parts[1] in DEEP else 2])


def rows(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> list[tuple[str, int, float, float]]:
    """(room, statements, share of statements run, share of branches taken), and all of them together."""
    sums: dict[str, Counter[str]] = {}
    for file, facts in report["files"].items():
        for room in (room_of(file), "all"):
            sums.setdefault(room, Counter()).update({k: v for k, v in facts["summary"].items() if isinstance(v, int)})
    return [
        (
            room,
            each["num_statements"],
            each["covered_lines"] / max(1, each["num_statements"]),
            each["covered_branches"] / max(1, each["num_branches"]),
        )
        for room, each in sorted(sums.items(), key=lambda item: (item[0] == "all", item[0]))
    ]


def main() -> None:
    print("| room | statements | run | branches taken |\n| --- | ---: | ---: | ---: |")
    for room, statements, run, taken in rows(json.loads(Path(sys.argv[1]).read_text())):
        print(f"| {room} | {statements} | {run:.1%} | {taken:.1%} |")


if __name__ == "__main__":
    main()
