"""Speed and memory of the commands that read results, besides the time that Python's json takes to parse the file.

    python -m tests.support.reading_speed                  # all of it: a few minutes, 500 MB in the temporary folder
    python -m tests.support.reading_speed --scale 0.01     # small files: does it work?
    python -m tests.support.reading_speed --only cases

Each command runs in a process of its own, and is timed with its start. Times vary with the machine; compare ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import numpy as np

from bench.records.file import Writer
from bench.records.lines.decoding import structure
from bench.records.lines.header import Environment, HostFacts, PlannedCase, RankFacts
from bench.records.lines.kinds import End, Header, Line, Measurement
from bench.records.lines.parts import RankExtremes, RankQuantiles, VariantSamples
from tests.support.results import header, measurement

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference" / "reference-2-xeon-cores-gloo.jsonl"
PARSE = "import json, sys; [json.loads(line) for line in open(sys.argv[1], 'rb')]"
REPEATED_SECONDS = 10.0
"""Commands that take less are timed three times."""


class Timed(NamedTuple):
    seconds: float
    memory_mb: float


def timed(words: list[str]) -> Timed:
    """Seconds and peak memory of a command, whose output is dropped. Raises SystemExit if it fails."""
    began = time.perf_counter()
    with Path(os.devnull).open("wb") as null:
        child = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null.fileno(), 1)])
        _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return Timed(seconds, usage.ru_maxrss / 1e3)


def median_of(words: Callable[[], list[str]]) -> Timed:
    """The median of three runs, or the only one of a long command."""
    runs = [timed(words())]
    if runs[0].seconds < REPEATED_SECONDS:
        runs += [timed(words()), timed(words())]
    return Timed(statistics.median(run.seconds for run in runs), max(run.memory_mb for run in runs))


def samples(generator: np.random.Generator, ranks: int, count: int, middle_ns: float = 1e6) -> VariantSamples:
    """Times that look like real ones: a narrow peak with a tail."""
    return VariantSamples(
        calls=1, nanoseconds=(middle_ns * generator.lognormal(0, 0.05, (ranks, count))).astype(np.int64)
    )


def case_line(case: str, launch: int, variant: VariantSamples, num_ranks: int) -> Measurement:
    line = structure(measurement(case, [[1]], launch))
    assert isinstance(line, Measurement)
    return msgspec.structs.replace(line, num_ranks=num_ranks, variants={"full": variant})


def head(cases: list[str], environment: Environment | None = None) -> Header:
    line = structure(header())
    assert isinstance(line, Header)
    plan = msgspec.structs.replace(
        line.plan, cases=[PlannedCase("collective", case, {"op": "all_reduce"}) for case in cases]
    )
    return msgspec.structs.replace(line, plan=plan, environment=environment or line.environment)


def save(path: Path, lines: Iterator[Line]) -> Path:
    with Writer.create(path) as writer:
        for line in lines:
            writer.append(line)
        writer.append(End(status="complete", exit_code=0))
    return path


def many_samples(folder: Path, scale: float) -> Path:
    """10 million samples: 50 cases, 2 ranks, 100,000 each."""
    cases = [f"collective/all_reduce[num_bytes={1000 * number}]" for number in range(1, 51)]
    generator, count = np.random.default_rng(0), max(20, int(100_000 * scale))

    def lines() -> Iterator[Line]:
        yield head(cases)
        for case in cases:
            yield case_line(case, 0, samples(generator, 2, count), 2)

    return save(folder / "samples.jsonl", lines())


def many_cases(folder: Path, scale: float) -> Path:
    """40,000 cases of 20 samples."""
    cases = [f"collective/all_reduce[num_bytes={number}]" for number in range(1, max(20, int(40_000 * scale)) + 1)]
    generator = np.random.default_rng(0)

    def lines() -> Iterator[Line]:
        yield head(cases)
        for case in cases:
            yield case_line(case, 0, samples(generator, 2, 20), 2)

    return save(folder / "cases.jsonl", lines())


def many_files(folder: Path, scale: float) -> Path:
    """2,000 files of a host each: 15 cases of 20 samples."""
    cases = [f"collective/all_reduce[num_bytes={1000 * number}]" for number in range(1, 16)]
    generator = np.random.default_rng(0)
    (folder / "hosts").mkdir(exist_ok=True)
    for number in range(max(4, int(2000 * scale))):
        host = f"node{number:04d}"
        ranks = [RankFacts(rank=rank, host=host, device_type="cpu", device_name="AMD EPYC 7B13") for rank in range(2)]
        environment = Environment(architecture="2 x AMD EPYC 7B13", ranks=ranks, hosts={host: HostFacts(hostname=host)})
        lines = (case_line(case, 0, samples(generator, 2, 20), 2) for case in cases)
        save(folder / "hosts" / f"{host}.jsonl", iter([head(cases, environment), *lines]))
    return folder / "hosts"


def many_ranks(folder: Path, scale: float) -> Path:
    """512 hosts and 4,096 ranks, 20 cases of which the extremes and quantiles are kept."""
    num_hosts = max(10, int(512 * scale))
    num_ranks, generator = 8 * num_hosts, np.random.default_rng(0)
    names = [f"node{number:04d}" for number in range(num_hosts)]
    environment = Environment(
        architecture=f"{num_ranks} x NVIDIA H100 80GB HBM3",
        ranks=[
            RankFacts(
                rank=rank, host=names[rank // 8], host_index=rank // 8, local_index=rank % 8, device_type="cuda",
                device_name="NVIDIA H100 80GB HBM3", memory_bytes=85_000_000_000, num_threads=4, driver="570.86.15",
                visible_devices=8, present_devices=8, cpu_affinity=list(range(96)),
            )
            for rank in range(num_ranks)
        ],
        hosts={
            name: HostFacts(hostname=name, cpu_model="AMD EPYC 9654", logical_cores=192, usable_cores=192)
            for name in names
        },
    )  # fmt: skip
    cases = [f"collective/all_reduce[num_bytes={1000 * number}]" for number in range(1, 21)]

    def variant() -> VariantSamples:
        slow = (1e6 * generator.lognormal(0, 0.05, 200)).astype(np.int64)
        quantiles = np.sort((1e6 * generator.lognormal(0, 0.05, (num_ranks, 5))).astype(np.int64), axis=1)
        return VariantSamples(
            calls=1,
            per_iteration=RankExtremes(max=slow, min=slow - 10_000, last_rank=[0] * 200),
            rank_quantiles=RankQuantiles(q=[0.0, 0.25, 0.5, 0.75, 1.0], nanoseconds=quantiles),
        )

    lines = (case_line(case, 0, variant(), num_ranks) for case in cases)
    return save(folder / "ranks.jsonl", iter([head(cases, environment), *lines]))


class Command(NamedTuple):
    """A command, and the time that it may take: seconds, or times what json takes."""

    words: Callable[[Path, Path], list[str]]
    """Words of the command for an input and a folder for output."""
    goal: float
    is_ratio: bool = False


def _show(path: Path, _: Path) -> list[str]:
    return ["show", str(path)]


def _saved(name: str, *words: str) -> Callable[[Path, Path], list[str]]:
    """Words of a command that saves to a new file: saving never overwrites."""

    def command(path: Path, folder: Path) -> list[str]:
        (folder / name).unlink(missing_ok=True)
        return [words[0], str(path), *words[1:], "-o", str(folder / name)]

    return command


_REPORT, _SHARE = _saved("page.html", "report"), _saved("shared.jsonl", "show", "--share")

INPUTS: dict[str, tuple[Callable[[Path, float], Path], dict[str, Command]]] = {
    "start": (
        lambda folder, scale: REFERENCE,
        {
            "--help": Command(lambda path, folder: ["--help"], 0.15),
            "show of the reference": Command(_show, 0.5),
        },
    ),
    "samples": (
        many_samples,
        {
            "show": Command(_show, 1.5, True),
            "compare": Command(lambda path, folder: ["compare", str(path), str(path)], 2.5, True),
            "report": Command(_REPORT, 10, True),
        },
    ),
    "cases": (many_cases, {"show": Command(_show, 6)}),
    "files": (
        many_files,
        {"--among host": Command(lambda path, folder: ["compare", str(path), "--among", "host"], 15)},
    ),
    "ranks": (
        many_ranks,
        {
            "show": Command(_show, 3),
            "show --share": Command(_SHARE, 5),
            "report": Command(_REPORT, 15),
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=INPUTS, help="one kind of input")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    options = parser.parse_args()
    click.echo(f"{'input':8} {'MB':>7}  {'command':22} {'s':>7} {'x json':>7}  {'goal':>10}  {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, (make, commands) in INPUTS.items():
            if options.only in (None, kind):
                _report(kind, make(folder, options.scale), commands, folder)


def _report(kind: str, path: Path, commands: dict[str, Command], folder: Path) -> None:
    files = [path] if path.is_file() else list(path.iterdir())
    size = f"{kind:8} {sum(file.stat().st_size for file in files) / 1e6:7.1f}"
    parsed = median_of(lambda: [sys.executable, "-c", PARSE, str(path)]) if path.is_file() else None
    if parsed is not None:
        click.echo(f"{size}  {'json.loads':22} {parsed.seconds:7.2f} {1.0:7.2f}  {'':10}  {parsed.memory_mb:8.0f}")
    for label, command in commands.items():
        run = median_of(lambda words=command.words: [sys.executable, "-m", "bench", *words(path, folder)])
        ratio = "" if parsed is None else f"{run.seconds / parsed.seconds:.2f}"
        goal = f"{command.goal:g} {'x json' if command.is_ratio else 's'}"
        click.echo(f"{size}  {label:22} {run.seconds:7.2f} {ratio:>7}  {goal:>10}  {run.memory_mb:8.0f}")


if __name__ == "__main__":
    main()
