"""Reads the JSON of pytest-benchmark (--benchmark-json, --benchmark-save), and bench's own export in that form.

A test becomes the case `pytest_benchmark/<test's name>[its parameters]`. Its rounds are samples where the file
has them (`stats.data`); else there is only the median, and the row says so. Of `machine_info` the node, the
processor and the Python version are kept. Source: pytest-benchmark, src/pytest_benchmark/plugin.py and
stats.py, and its documentation.

What `bench show -o x.pytest-benchmark.json` writes carries the case, its suite and its launches in
`extra_info`, so that reading it again gives the same cases and medians.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bench.errors import BenchError
from bench.importers.reading import (
    ImportedCase,
    ImportedText,
    ImportHints,
    Unread,
    check_num_ranks,
    json_value,
    mapping,
    mean_note,
    number,
    safe_name,
    sequence,
    words,
)
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import WorkFacts
from bench.suite import Param, Params, is_param

TOOL = "pytest-benchmark"
SUITE = "pytest_benchmark"
OWN = "bench"
"""Key under which bench's export keeps what the format has no place for: in `extra_info`, and in `machine_info`."""


def looks_like(text: str) -> bool:
    return text.lstrip().startswith("{") and '"benchmarks"' in text and '"machine_info"' in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a file. Raises BenchError for what is no such JSON."""
    data = _parse(text)
    tests = data["benchmarks"]
    names = Counter(_name(test) for test in tests if isinstance(test, dict))
    cases: list[ImportedCase] = []
    unread: list[Unread] = []
    for index, test in enumerate(tests, 1):
        of_test = list(_readings(test, names)) if isinstance(test, dict) else []
        cases += of_test
        unread += [] if of_test else [Unread.of(f"benchmark {index}", json.dumps(test))]
    num_ranks = max((reading.num_ranks for reading in cases), default=1)
    machine = mapping(data.get("machine_info"))
    facts = mapping(machine.get(OWN))
    return ImportedText(
        tool=TOOL,
        version=words(data.get("version")),
        format="JSON",
        readings=tuple(cases),
        unread=tuple(unread),
        ranks=(_rank(machine, facts),) * num_ranks,
        versions=_versions(machine, facts),
        started=words(data.get("datetime")),
        architecture=words(facts.get("architecture")),
    )


def _parse(text: str) -> dict[str, Any]:
    data = json_value(text, "write it again with --benchmark-json")
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise BenchError("no JSON of pytest-benchmark: it has no list `benchmarks`; name what --benchmark-json wrote")
    return data


def _readings(test: Mapping[str, Any], names: Counter[str]) -> Iterator[ImportedCase]:
    """A reading of each launch; none if the test has neither rounds nor a median."""
    stats = mapping(test.get("stats"))
    facts = mapping(mapping(test.get("extra_info")).get(OWN))
    rounds = [number(value) for value in sequence(stats.get("data"))]
    calls = stats.get("iterations")
    calls = calls if isinstance(calls, int) and calls > 0 and rounds else 1
    seconds = tuple(value for value in rounds if value is not None and value > 0)
    notes: tuple[str, ...] = tuple(map(str, sequence(facts.get("notes"))))
    median = number(stats.get("median"))
    if not seconds and median is not None and median > 0:
        seconds = (median,)
        notes += (mean_note("the median of rounds that the file does not have"),)
    if len(seconds) != max(1, len(rounds)):
        return
    suite, case, params = _identity(test, facts, names)
    for launch, part in enumerate(_parts(seconds, facts.get("launches"))):
        yield ImportedCase(
            suite=suite,
            case=case,
            params=params,
            num_ranks=check_num_ranks(facts["num_ranks"]) if isinstance(facts.get("num_ranks"), int) else 1,
            seconds=part,
            calls=calls,
            launch=launch,
            notes=notes,
            work=_work(_name(test), facts.get("work")),
        )


def _work(name: str, value: Any) -> WorkFacts | None:
    """Work that bench's export wrote. Raises BenchError for another table."""
    try:
        return msgspec.convert(value, WorkFacts) if isinstance(value, dict) else None
    except msgspec.ValidationError as error:
        raise BenchError(f"{name}: its amounts of work cannot be read ({error}); take the original file") from error


def _parts(seconds: Sequence[float], sizes: Any) -> Iterator[tuple[float, ...]]:
    """The samples of each launch: `sizes` says how many each has, in their order."""
    is_right = isinstance(sizes, list) and all(isinstance(size, int) and size > 0 for size in sizes)
    start = 0
    for size in sizes if is_right and sum(sizes) == len(seconds) else [len(seconds)]:
        yield tuple(seconds[start : start + size])
        start += size


def _identity(test: Mapping[str, Any], facts: Mapping[str, Any], names: Counter[str]) -> tuple[str, str | None, Params]:
    if isinstance(facts.get("case"), str) and isinstance(facts.get("suite"), str) and _are_params(facts.get("params")):
        return facts["suite"], facts["case"], dict(facts["params"])
    name = _name(test)
    op, _, ids = name.partition("[")
    given = mapping(test.get("params"))
    params: Params = {safe_name(str(key)): _param(value) for key, value in given.items()}
    if ids and not params:
        params["id"] = _param(ids.removesuffix("]"))
    if names[name] > 1:  # of several files or classes; `fullname` is path::class::test
        parts = str(test.get("fullname", "")).partition("[")[0].split("::")
        params["where"] = safe_name(".".join(part.replace("\\", "/").rsplit("/", 1)[-1] for part in parts[:-1]))
    return SUITE, None, {"op": safe_name(op), **{k: v for k, v in params.items() if k != "op"}}


def _name(test: Mapping[str, Any]) -> str:
    return str(test.get("name") or "unnamed")


def _are_params(value: Any) -> bool:
    return isinstance(value, dict) and all(is_param(param) for param in value.values())


def _param(value: Any) -> Param:
    """A value as a case's parameter; any other than a plain value becomes text that an id can hold."""
    return value if is_param(value) and not isinstance(value, str) else safe_name(str(value))


def _rank(machine: Mapping[str, Any], facts: Mapping[str, Any]) -> RankFacts:
    cpu = mapping(machine.get("cpu"))
    name = words(facts.get("device_name")) or words(cpu.get("brand_raw")) or words(cpu.get("brand"))
    return RankFacts(
        host=words(machine.get("node")),
        device_type=words(facts.get("device_type")) or "cpu",
        device_name=name or words(machine.get("processor")),
    )


def _versions(machine: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    stated = mapping(facts.get("versions"))
    python = words(machine.get("python_version"))
    versions = {"python": python} if python and re.fullmatch(r"[\w.+-]{1,32}", python) else {}
    return {name: str(value) for name, value in stated.items() if value} | versions
