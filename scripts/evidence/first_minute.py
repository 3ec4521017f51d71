"""What the first minute of a new user tells: the smoke preset, quiet, without bf16 instructions, and beside busy loops.

    .venv/bin/python scripts/evidence/first_minute.py [RUNS [BUSY_RUNS]] [--setting NAME] [--preset standard]

Every setting runs so often: `plain`; `masked`, in which oneDNN and torch are kept to AVX2, as on a processor without
bfloat16 instructions; `busy`, with two endless loops beside it; `masked-busy`, with both. Printed, one Markdown row a
run: its seconds from the command to its end, its exit code, cases with a number of those planned, suites with one of
those of the preset, the share of measured cases with 20 samples or more, how often the time left was right within 30%
(readings after the tenth case, against the end of the run), and the second at which a rough answer came, where there
is one. Below them how many readings of all runs were right. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MASK = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SETTINGS: dict[str, tuple[dict[str, str], int]] = {
    "plain": ({}, 0),
    "masked": (MASK, 0),
    "busy": ({}, 2),
    "masked-busy": (MASK, 2),
}
"""Name -> variables of the run, and endless loops beside it."""
TOLERANCE, FIRST_READING = 0.3, 10
FEW = 20
ONE_MOMENT_SECONDS = 0.02
_LINE = re.compile(r"^(?P<minutes>\d+):(?P<seconds>\d\d) left  \S+ +(?P<done>\d+)/\d+  ")


@dataclass(frozen=True)
class Run:
    """One run as its user sees it."""

    seconds: float
    code: int
    lines: list[tuple[float, str]]
    """(seconds since the start, line of stderr)."""
    records: list[dict[str, Any]]

    @property
    def measured(self) -> dict[str, int]:
        """Case -> the most samples that a launch has of it."""
        found: dict[str, int] = {}
        for record in self.records:
            if record["kind"] == "measurement" and record["status"] == "ok":
                found[record["case"]] = max(found.get(record["case"], 0), record["stop"]["samples"])
        return found

    @property
    def planned(self) -> list[dict[str, Any]]:
        plan = self.records[0]["plan"]
        return [*plan["cases"], *plan.get("left_out", ())]

    def readings(self) -> list[tuple[float, float]]:
        """(seconds left as told, as it came to be), but of lines of one moment the last, as the eye has it."""
        told = [(at, match) for at, line in self.lines if (match := _LINE.match(line))]
        after = [
            (at, int(match["minutes"]) * 60 + int(match["seconds"]))
            for at, match in told
            if int(match["done"]) >= FIRST_READING
        ]
        ends = [*(at for at, _ in after[1:]), float("inf")]
        apart = [one for one, end in zip(after, ends, strict=False) if end - one[0] > ONE_MOMENT_SECONDS]
        return [(left, self.seconds - at) for at, left in apart]

    @property
    def rough_seconds(self) -> float | None:
        return next((at for at, line in self.lines if line.startswith("Rough")), None)


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many endless loops beside what is done meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(preset: str, variables: dict[str, str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench", "run", "--preset", preset, "--device", "cpu", "-o", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )
        assert process.stderr is not None
        lines = [(time.monotonic() - began, line.rstrip("\n")) for line in process.stderr]
        code = process.wait()
        seconds = time.monotonic() - began
        files = sorted(Path(folder).glob("*.jsonl"))
        records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return Run(seconds, code, lines, records)


def right(readings: list[tuple[float, float]]) -> int:
    return sum(abs(told - true) <= TOLERANCE * true for told, true in readings)


def row(setting: str, done: Run) -> str:
    if not done.records:
        last = done.lines[-1][1] if done.lines else "no word"
        return f"| {setting} | {done.seconds:.1f} | {done.code} | nothing measured: {last} |"
    measured, readings = done.measured, done.readings()
    suites = {case.partition("/")[0] for case in measured}
    of_suites = {case["suite"] for case in done.planned}
    many = sum(count >= FEW for count in measured.values())
    rough = "-" if done.rough_seconds is None else f"{done.rough_seconds:.1f}"
    return (
        f"| {setting} | {done.seconds:.1f} | {done.code} | {len(measured)} of {len(done.planned)} "
        f"| {len(suites)} of {len(of_suites)} | {many} of {len(measured)} ({many / max(1, len(measured)):.0%}) "
        f"| {right(readings)} of {len(readings)} | {rough} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, nargs="?", default=5)
    parser.add_argument("busy_runs", type=int, nargs="?", default=3)
    parser.add_argument("--setting", choices=list(SETTINGS), action="append")
    parser.add_argument("--preset", default="smoke")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"preset {options.preset}, {os.cpu_count()} cores, load {load:.1f} before\n")
    print("| setting | seconds | exit | cases | suites | 20 samples | time left right | rough after |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    all_readings: list[tuple[float, float]] = []
    for setting in options.setting or SETTINGS:
        variables, loops = SETTINGS[setting]
        for _ in range(options.busy_runs if loops else options.runs):
            with busy(loops):
                done = run(options.preset, variables)
            print(row(setting, done), flush=True)
            all_readings += done.readings()
    share = right(all_readings) / max(1, len(all_readings))
    print(
        f"\ntime left right within {TOLERANCE:.0%}: {right(all_readings)} of {len(all_readings)} readings ({share:.0%})"
    )


if __name__ == "__main__":
    main()
