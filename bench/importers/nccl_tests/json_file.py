"""Reads the JSON that nccl-tests writes with -J, versions 1 to 3 of its format.

The operation is only in `args`, booleans are words, an unknown number is the word `nan`. Of the dumped
environment nothing is kept, and of `args` only the options that nccl-tests knows, the output file excepted.
`devices` lists one device a process, its first; all of a process are taken to be alike. Source: src/util.cu.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.errors import BenchError
from bench.importers.nccl_tests.checks import CheckedRun, check_run
from bench.importers.nccl_tests.rows import (
    EXTRA_COLUMNS,
    OPTIONS,
    TOOL,
    Body,
    NcclTestsSetup,
    Row,
    operation,
    readings,
    version_text,
)
from bench.importers.reading import (
    MAX_DIGITS,
    ImportedCase,
    ImportedText,
    ImportHints,
    check_num_ranks,
    json_value,
    mapping,
    number,
    sequence,
    words,
)
from bench.importers.source.ledger import Ledger
from bench.records.lines.header import RankFacts

MAX_VERSION = 3
MAX_LISTED = 8
_KNOWN_KEYS = {"version", "args", "env", "nccl_version", "start_time", "end_time", "config", "devices", "results",
               "out_of_bounds", "average_bus_bandwidth", "errors"}  # fmt: skip
_KEYS = ("args", "nccl_version", "results")
_HALVES = {"out_of_place": False, "in_place": True}
_PER_ITERATION = {"i_min": "min_us", "i_max": "max_us", "i_p99": "p99_us", "i_cv%": "cv_pct"}
"""Column of the text -> its name in the JSON."""
_WHOLE = {
    "iterations": "iterations",
    "aggregated": "aggregated_iterations",
    "graph": "graph",
    "min_bytes": "minimum_bytes",
    "max_bytes": "maximum_bytes",
    "step_factor": "step_factor",
    "step_bytes": "step_bytes",
}
"""Field of Setup -> its name in the JSON's `config`."""


def looks_like(text: str) -> bool:
    return text.lstrip().startswith("{") and '"nccl_version"' in text and '"args"' in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a file. Raises BenchError for what is no such JSON, and as the text's reader does."""
    data = _parse(text)
    config = mapping(data.get("config"))
    arguments = [str(word) for word in sequence(data.get("args"))]
    options = _options(arguments)
    devices = _devices(config, data)
    setup = _setup(config, arguments, options, devices, hints)
    ledger = Ledger()
    for key in data:
        if key in _KNOWN_KEYS:
            ledger.read(f"key {key!r}", "", "key of the file")
        else:
            ledger.other(f"key {key!r}", str(key))
    checked, cases = _cases(data, setup, ledger)
    if checked.contradictions and hints.op is not None:
        raise BenchError(f"--op {hints.op}: {checked.contradictions[0].note()}")
    nccl = version_text(data["nccl_version"]) if isinstance(data.get("nccl_version"), int) else None
    return ImportedText(
        tool=TOOL,
        version=None,
        format=f"JSON, version {data['version']}",
        readings=tuple(cases),
        ledger=ledger,
        contradictions=tuple(checked.contradictions),
        remarks=(*checked.remarks, *_errors(data)),
        ranks=tuple(RankFacts(host=host, device_type="cuda", device_name=name) for _, host, name in devices),
        versions={"nccl": nccl} if nccl else {},
        settings=options,
        backend="nccl",
        started=_stamp(data.get("start_time")),
    )


def _errors(data: Mapping[str, Any]) -> list[str]:
    """A remark on each error that NCCL kept to the end of the run; it writes an empty one if there is none."""
    return [f"error of nccl-tests: {text}" for text in map(words, sequence(data.get("errors"))) if text]


def _cases(data: Mapping[str, Any], setup: NcclTestsSetup, ledger: Ledger) -> tuple[CheckedRun, list[ImportedCase]]:
    """The findings on the rows, and their cases; a row that cannot be right is noted as unread."""
    rows: dict[str, Row] = {}
    for index, result in enumerate(sequence(data.get("results")), 1):
        row, place, text = _row(result), f"result {index}", json.dumps(result)
        if row is None:
            ledger.unread(place, text, "has no size, type or time")
        else:
            rows[place] = row
            ledger.read(place, text, "row")
    if not rows:
        return CheckedRun(), []
    if setup.op is None:
        raise BenchError("the text does not say which collective it measured; add --op, such as --op all_reduce")
    assert setup.num_ranks
    average = number(mapping(data.get("average_bus_bandwidth")).get("bandwidth"))
    out_of_bounds = _whole(mapping(data.get("out_of_bounds")).get("count")) or 0
    checked = check_run(list(rows.values()), setup.op, setup.num_ranks, average, out_of_bounds)
    for place, row in rows.items():
        for refused, reason in checked.refused:
            if refused is row:
                ledger.unread(place, ledger.lines[place].text, reason)
    setup.fits_factor = checked.fits_factor
    return checked, [case for row in checked.rows for case in readings(row, setup)]


def _parse(text: str) -> dict[str, Any]:
    data = json_value(text, "the run may have been cut off: import its text instead")
    if not isinstance(data, dict) or not any(key in data for key in _KEYS):
        raise BenchError("no JSON of nccl-tests: it has none of " + ", ".join(_KEYS))
    version = data.setdefault("version", 1)
    if version not in range(1, MAX_VERSION + 1):
        raise BenchError(f"version {version!r} of nccl-tests' JSON; this bench reads 1 to {MAX_VERSION}: update bench")
    return data


def _devices(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[tuple[int, str | None, str | None]]:
    """(group, host, device's name) of every rank."""
    devices = [each for each in sequence(config.get("devices") or data.get("devices")) if isinstance(each, dict)]
    of_each = (_whole(config.get("nthreads")) or 1) * (_whole(config.get("ngpus")) or 1)
    check_num_ranks(of_each * (len(devices) or 1))
    ranks = [_whole(device.get("rank")) for device in devices]
    if None not in ranks and ranks != [of_each * index for index in range(len(ranks))]:
        listed = ", ".join(map(str, ranks[:MAX_LISTED]))
        raise BenchError(
            f"`devices` lists the ranks {listed}, not the first of each process of {of_each} ranks (nthreads x ngpus); "
            "take the original file"
        )
    return [
        (_whole(device.get("group")) or 0, words(device.get("hostname")), words(device.get("device_info")))
        for device in devices
        for _ in range(of_each)
    ]


def _setup(
    config: Mapping[str, Any],
    arguments: Sequence[str],
    options: Mapping[str, str],
    devices: Sequence[tuple[int, str | None, str | None]],
    hints: ImportHints,
) -> NcclTestsSetup:
    op = operation(arguments[0]) if arguments else None
    if hints.op is not None and op not in (None, hints.op):
        raise BenchError(f"--op {hints.op}: the file says {op}; leave the option out")
    groups = [group for group, _, _ in devices]
    setup = NcclTestsSetup(
        op=op or hints.op,
        num_ranks=hints.ranks(groups.count(groups[0]) if groups else None, TOOL),
        groups=len(set(groups)) or 1,
        is_blocking=str(config.get("blocking_collectives", "false")).lower() == "true",
        unalign=_whole(number(options.get("unalign"))) or 0,
        average=options.get("average", "1"),
    )
    stated = {field: _whole(config.get(name)) for field, name in _WHOLE.items()}
    known: dict[str, Any] = {field: value for field, value in stated.items() if value is not None}
    return replace(setup, **known)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """The known options among the arguments, by their long names; values are short words without a path."""
    long_names = set(OPTIONS.values())
    options: dict[str, str] = {}
    for word, after in zip(arguments[1:], [*arguments[2:], ""], strict=False):
        match = re.fullmatch(r"--(\w+)(?:=(.*))?|-([A-Za-z])(.*)", word)
        if match is None:
            continue
        name = match[1] if match[1] in long_names else OPTIONS.get(match[3] or "")
        value = match[2] or match[4] or after
        if name and re.fullmatch(r"[\w.]{1,16}", value):
            options[name] = value
    return options


def _row(result: Any) -> Row | None:
    if not isinstance(result, dict) or _whole(result.get("size")) is None or not isinstance(result.get("type"), str):
        return None
    halves = {
        in_place: _half(result[name], result.get(f"{name}_per_iter"))
        for name, in_place in _HALVES.items()
        if isinstance(result.get(name), dict)
    }
    if not halves:
        return None
    return Row(
        num_bytes=int(result["size"]),
        count=_whole(result.get("count")),
        dtype=result["type"],
        redop=result.get("redop"),
        root=_whole(number(result.get("root"))),
        halves=halves,
    )


def _half(body: Mapping[str, Any], per_iteration: Any) -> Body:
    is_cpu_time = "cpu_time" in body
    iterations = mapping(per_iteration)
    extras = {column: number(iterations.get(name)) for column, name in _PER_ITERATION.items() if iterations}
    if isinstance(body.get("bitwise"), dict):
        extras["#bitdiff"] = number(body["bitwise"].get("different_bits"))
    assert set(extras) <= set(EXTRA_COLUMNS)
    return Body(
        microseconds=number(body.get("cpu_time" if is_cpu_time else "time")),
        is_cpu_time=is_cpu_time,
        algbw=number(body.get("alg_bw")),
        busbw=number(body.get("bus_bw")),
        wrong=number(body.get("nwrong")),
        extras=extras,
        samples_us=_samples(iterations),
    )


def _samples(iterations: Mapping[str, Any]) -> list[list[float]]:
    """[process][iteration]; of one process a single row. Nothing if a time is unknown."""
    rows = sequence(iterations.get("per_process_max_times_us")) or [iterations.get("times_us")]
    times = [[number(value) for value in row] for row in rows if isinstance(row, list) and row]
    known = [[value for value in row if value is not None] for row in times]
    return known if known == times and len({len(row) for row in known}) == 1 else []


def _whole(value: Any) -> int | None:
    """A whole number, which a JSON number or `number`'s result may be; None for anything else, or beyond any size."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and abs(value) < 10**MAX_DIGITS else None


def _stamp(value: Any) -> str | None:
    """`2026-01-31T12:00:00` of `2026-01-31 12:00:00`; the zone is not stated."""
    stamp = str(value or "")
    return stamp.replace(" ", "T") if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", stamp) else None
