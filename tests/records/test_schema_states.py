"""Every state that schema 1 has had: a real file of each goes through the reading commands, and says what it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.file import Result, load
from bench.records.lines.kinds import Measurement
from bench.records.samples import num_samples
from tests import DATA
from tests.support.damage import call

FOLDER = DATA / "schema_1"
MAX_FILE_BYTES = 60_000
COMMANDS = (
    ("show", "{file}"),
    ("show", "{file}", "--ranks"),
    ("show", "{file}", "--format", "json"),
    ("show", "{file}", "--format", "csv"),
    ("show", "{file}", "-o", "{out}.csv"),
    ("show", "{file}", "--share", "-o", "{out}.jsonl"),
    ("compare", "{file}", "{file}"),
    ("explain", "{file}"),
    ("report", "{file}", "-o", "{out}.md"),
)
Record = dict[str, Any]


def _lines(result: Result) -> list[Record]:
    return [json.loads(line) for line in result.path.read_text().splitlines()]


def _first(result: Result) -> Measurement:
    return result.latest()[0]


def _samples(result: Result) -> int:
    """Samples of rank 0 in the first variant of the first case."""
    first = _first(result)
    return num_samples(first.variants[first.main])


def _span_lengths(result: Result) -> set[int]:
    return {len(span) for record in _lines(result) for span in record.get("spans") or []}


def _merged(result: Result) -> list[tuple[int, int | None]]:
    """Visits that the file has of each case and launch, and their samples together."""
    return [
        (sum(v.case == m.case and v.launch == m.launch for v in result.measurements), m.stop and m.stop.samples)
        for m in result.latest()
    ]


# State -> its values, by name: how they are read, and what they are.
FACTS: dict[str, dict[str, tuple[Callable[[Result], Any], Any]]] = {
    "one_visit": {
        "visit": (lambda r: "visit" in _lines(r)[1], False),
        "plan.visits": (lambda r: r.plan.visits, 1),
        "stop.samples": (lambda r: r.measurements[0].stop.samples, None),
        "disturbance": (lambda r: r.measurements[0].disturbance, None),
        "visits merged": (_merged, [(1, 34)]),
        "samples": (_samples, 34),
        "digest": (lambda r: r.plan.suites[0].digest, None),
        "sha256": (lambda r: len(r.plan.suites[0].sha256), 64),
    },
    "visits": {
        "visits merged": (_merged, [(1, 310), (1, 20)]),
        "stop.samples": (lambda r: [m.stop.samples for m in r.measurements], [310, 20]),
        "disturbance": (
            lambda r: (len(r.measurements[0].disturbance.hosts), len(r.measurements[0].disturbance.ranks)),
            (1, 2),
        ),
    },
    "emulated": {
        "plan.slow": (lambda r: r.plan.slow, [[1, 0.5]]),
        "architecture": (lambda r: "emulated" in r.architecture, True),
        "samples": (_samples, 16),
    },
    "long_spans": {"lengths": (_span_lengths, {7, 11}), "samples": (_samples, 22)},
    "energy": {"joules": (lambda r: _first(r).energy.joules, None), "samples": (_samples, 30)},
    "profile": {"files": (lambda r: len(r.measurements[0].profile.files), 2)},
    "tables": {
        "tables": (lambda r: any(record.tables for record in r.measurements), True),
        "samples": (_samples, 76),
    },
    "first_minute": {
        "visits merged": (_merged, [(1, 216), (1, 101), (1, 159)]),
    },
    "resumed": {
        "resumes": (lambda r: len(r.resumes), 1),
        "started": (lambda r: r.resumes[0].started > r.measurements[0].started, True),
        "cases": (lambda r: len(r.latest()), 4),
        "end": (lambda r: r.end and r.end.status, "complete"),
    },
    "version_0_2": {
        "digest": (lambda r: len(r.plan.suites[0].digest), 64),
        "sha256": (lambda r: r.plan.suites[0].sha256, None),
        "samples": (_samples, 174),
    },
    "doctor": {"doctor": (lambda r: len(r.header.doctor.findings) > 0, True)},
    "many_ranks": {
        "ranks": (lambda r: (_first(r).num_ranks, len(r.environment.ranks)), (66, 66)),
        "variant": (lambda r: _first(r).variants["full"].rank_quantiles.nanoseconds.shape, (66, 5)),
        "samples": (_samples, 20),
    },
    "imported": {
        "tool": (lambda r: r.environment.imported_from.tool, "nccl-tests"),
        "unread": (lambda r: len(r.environment.imported_from.unread), 1),
    },
    "choices": {
        "cases": (lambda r: {x.case for x in r.choices}, {"chatty/ring", "chatty/graph", "chatty/split"}),
        "algorithm": (lambda r: r.choices[0].nccl[0].algorithm, "Ring"),
    },
    "launch_times": {
        "ranks": (lambda r: len(r.measurements[0].launch_ns["full"]), 2),
        "late": (lambda r: len(r.measurements[0].num_late["full"]), 2),
    },
    "future": {
        "samples": (_samples, 174),
        "kinds": (lambda r: [x["kind"] for x in _lines(r)], ["header", "ranks", "weather", "measurement", "end"]),
    },
}
WARNED = {
    "future": (
        *("header.later", "header.plan.suites.later", "lines of the kind 'weather'"),
        *("measurement.later", "measurement.stop.later"),
    )
}
"""State -> what the one warning of its file names."""


def test_every_file_is_a_state_and_stands_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    files = sorted(FOLDER.glob("*.jsonl"))
    assert {file.stem for file in files} == set(FACTS)
    for file in files:
        assert f"`{file.name}`" in readme
        assert file.stat().st_size < MAX_FILE_BYTES


@pytest.mark.parametrize("state", FACTS)
def test_a_state_says_what_it_holds(state: str) -> None:
    result = load(FOLDER / f"{state}.jsonl")
    assert len(result.warnings) == (state in WARNED)
    assert all(name in result.warnings[0] for name in WARNED.get(state, ()))
    assert {name: read(result) for name, (read, _) in FACTS[state].items()} == {
        name: value for name, (_, value) in FACTS[state].items()
    }


@pytest.mark.parametrize("state", FACTS)
def test_every_reading_command_takes_a_state(state: str, tmp_path: Path) -> None:
    for number, command in enumerate(COMMANDS):
        words = [word.format(file=FOLDER / f"{state}.jsonl", out=tmp_path / str(number)) for word in command]
        code, output = call(*words)
        assert (code, words[0]) == (0, command[0]), output
        if state not in WARNED:
            assert "a newer bench wrote it" not in output
        elif command[0] == "show" and not {"-o", "--ranks"} & set(command):
            assert " ".join(output.split()).count("a newer bench wrote it") == 1
