"""Runs the steps of a group one after the other, and writes what came out into a folder.

    summary.txt    a line per step, and its PASS, FAIL and INFO lines
    log.txt        all that the steps printed
    results.tgz    the result files, as `bench show --share` makes them fit to be published

A step that takes too long is ended, and one that breaks ends nothing but itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from device.steps import BENCH, PYTHON, STEPS, Place

LEAST_SECONDS = 5
"""A step for which less is left is not begun."""
KEPT_WORDS = ("PASS ", "FAIL ", "INFO ")


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="scripts/device_check", description=__doc__, formatter_class=raw)
    told = "which steps; arch: figures by which cards are compared (about 6 min), a and b: the rest (about 7 min each)"
    parser.add_argument("--group", choices=("arch", "a", "b"), default="arch", help=told)
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=f"just these: {', '.join(STEPS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=os.environ.get("DEVICE", "cuda"))
    parser.add_argument("--limit", type=int, default=530, help="seconds for all of it (default 530)")
    parser.add_argument("-o", "--output", type=Path, default=Path(os.environ.get("OUT", "device_check")))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


class Summary:
    """What the check says, on the terminal and in a file."""

    def __init__(self, folder: Path) -> None:
        self.began = time.monotonic()
        self.path = folder / "summary.txt"
        self.path.write_text("")
        self.counts = dict.fromkeys(KEPT_WORDS, 0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def say(self, line: str) -> None:
        print(line)
        with self.path.open("a") as file:
            file.write(f"{line}\n")

    def take(self, output: str) -> None:
        for line in output.splitlines():
            word = line[:5]
            if word in self.counts:
                self.counts[word] += 1
                self.say(line)


def run_step(name: str, device: str, folder: Path, seconds: float) -> tuple[int | None, str]:
    """Exit code (None: it took too long) and output of a step, with all that it started ended."""
    command = [*PYTHON, "device", "--step", name, "--device", device, "--folder", str(folder)]
    path = folder / f"{name}.txt"
    with path.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # `bench run` ends its ranks and its file in order
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    return code, path.read_text(errors="replace")


def publish(folder: Path, output: Path) -> None:
    """The result files fit to be published, as one archive."""
    shared = folder / "shared"
    for path in sorted((folder / "r").glob("*/*.jsonl")):
        target = shared / path.parent.name / path.name.partition("-")[0]
        number = len(list(target.parent.glob("*.jsonl")))
        target.parent.mkdir(parents=True, exist_ok=True)
        target = target.with_name(f"{target.name}-{number}.jsonl")
        subprocess.run([*BENCH, "show", str(path), "--share", "-o", str(target)], check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(output / "results.tgz", "w:gz") as archive:
        for path in sorted(shared.glob("*/*.jsonl")):
            archive.add(path, path.relative_to(shared))


def main() -> int:
    options = arguments()
    if options.step is not None:
        STEPS[options.step].run(Place(options.device, options.folder))
        return 0
    names = options.only or [name for name, step in STEPS.items() if options.group in step.groups.split()]
    options.output.mkdir(parents=True, exist_ok=True)
    summary = Summary(options.output)
    with tempfile.TemporaryDirectory() as text, (options.output / "log.txt").open("w") as log:
        folder = Path(text)
        for name in names:
            step, left = STEPS[name], options.limit - summary.seconds
            if step.only_cuda and options.device != "cuda":
                continue
            if left < LEAST_SECONDS:
                summary.say(f"LEFT OUT {name}: no time")
                continue
            began = summary.seconds
            code, output = run_step(name, options.device, folder, min(step.seconds, left))
            ended = "took too long" if code is None else f"exit {code}"
            log.write(f"##### {name}\n{output}\n")
            log.flush()
            summary.say(f"{began:4.0f}s {name}: {ended}, {summary.seconds - began:.0f} s")
            summary.take(output)
            if code != 0:
                summary.take(f"FAIL {name}: {ended}")
        publish(folder, options.output)
    failed = summary.counts["FAIL "]
    summary.say(f"{summary.counts['PASS ']} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
