"""Reads the JSON of pytest-benchmark (--benchmark-json, --benchmark-save), and bench's own export in that form.

A test becomes the case `pytest_benchmark/<test's name>[its parameters]`. Its rounds are samples where the file
has them (`stats.data`); else there is only the median, and the row says so. Of `machine_info` the node, the
processor and the Python version are kept. Source: pytest-benchmark, src/pytest_benchmark/plugin.py and
stats.py, and its documentation.

A test that is in the file again, as files of several runs put together have it, is a later launch.

What `bench show -o x.pytest-benchmark.json` writes carries the case, its suite and its launches in
`extra_info`, so that reading it again gives the same cases and medians.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median_high, median_low
from typing import Any

import msgspec

from bench.errors import BenchError
from bench.importers.reading import (
    ImportedCase,
    ImportedText,
    ImportHints,
    check_num_ranks,
    distinct_name,
    json_value,
    launches_of_repeats,
    mapping,
    mean_note,
    number,
    sequence,
    words,
)
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Contradiction
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import WorkFacts
from bench.suite import Param, Params, is_param

TOOL = "pytest-benchmark"
SUITE = "pytest_benchmark"
_KNOWN_KEYS = {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
OWN = "bench"
"""Key under which bench's export keeps what the format has no place for: in `extra_info`, and in `machine_info`."""

STATISTICS: Mapping[str, tuple[Callable[[Sequence[float]], float], Callable[[Sequence[float]], float]]] = {
    "min": (min, min),
    "median": (median_low, median_high),
    "max": (max, max),
}
"""Statistic -> the least and the greatest that it can be for some rounds."""
TOLERANCE = 1e-6
"""Relative deviation of a statistic from that of the rounds."""
_UNSERIALIZABLE = "UNSERIALIZABLE["
"""Beginning of a parameter that JSON cannot hold: its text may have an address, which differs from run to run."""
_LIKE_A_VALUE = re.compile(r"[-+]?(\d[\d_]*)?\.?\d*(e[-+]?\d+)?|true|false|none|null|nan|[-+]?inf(inity)?", re.I)


def looks_like(text: str) -> bool:
    return text.lstrip().startswith("{") and '"benchmarks"' in text and '"machine_info"' in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a file. Raises BenchError for what is no such JSON."""
    data = _parse(text)
    tests = data["benchmarks"]
    names = _fullnames(tests)
    cases: list[ImportedCase] = []
    contradictions: list[Contradiction] = []
    ledger = Ledger()
    for key in data:
        if key in _KNOWN_KEYS:
            ledger.read(f"key {key!r}", "", "key of the file")
        else:
            ledger.other(f"key {key!r}", str(key))
    for index, test in enumerate(tests, 1):
        of_test = list(_readings(test, names)) if isinstance(test, dict) else []
        cases += of_test
        if of_test:
            ledger.read(f"benchmark {index}", _name(test), "test")
            for key in mapping(test.get("extra_info")):
                note = ledger.read if key == OWN else ledger.skip
                note(f"benchmark {index}, extra_info {key!r}", str(key), "extra_info, which no case needs")
            contradictions += _held_against_rounds(f"benchmark {index}, {_name(test)}", mapping(test.get("stats")))
        else:
            ledger.unread(f"benchmark {index}", json.dumps(test), _why_unread(test))
    num_ranks = max((reading.num_ranks for reading in cases), default=1)
    machine = mapping(data.get("machine_info"))
    facts = mapping(machine.get(OWN))
    return ImportedText(
        tool=TOOL,
        version=words(data.get("version")),
        format="JSON",
        readings=_with_launches(cases),
        ledger=ledger,
        contradictions=tuple(contradictions),
        ranks=(_rank(machine, facts),) * num_ranks,
        versions=_versions(machine, facts),
        started=words(data.get("datetime")),
        architecture=words(facts.get("architecture")),
    )


def _parse(text: str) -> dict[str, Any]:
    data = json_value(text, "write it again with --benchmark-json")
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise BenchError("no JSON of pytest-benchmark: it has no list `benchmarks`; name what --benchmark-json wrote")
    if not data["benchmarks"]:
        raise BenchError("its list `benchmarks` is empty: the run had no test with the fixture `benchmark`")
    return data


def _readings(test: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Iterator[ImportedCase]:
    """A reading of each launch; none if the test has neither rounds nor a median."""
    stats = mapping(test.get("stats"))
    facts = mapping(mapping(test.get("extra_info")).get(OWN))
    rounds = [number(value) for value in sequence(stats.get("data"))]
    calls = stats.get("iterations")
    calls = calls if isinstance(calls, int) and calls > 0 and rounds else 1
    seconds = tuple(value for value in rounds if value is not None and value > 0)
    notes: tuple[str, ...] = tuple(map(str, sequence(facts.get("notes"))))
    middle = number(stats.get("median"))
    if not seconds and middle is not None and middle > 0:
        seconds = (middle,)
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


def _why_unread(test: Any) -> str:
    rounds = sequence(mapping(mapping(test).get("stats")).get("data"))
    return "has a round that is not a time above 0" if rounds else "has neither rounds nor a median"


def _held_against_rounds(where: str, stats: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Stated statistics that the rounds of a test do not have."""
    rounds = [value for value in map(number, sequence(stats.get("data"))) if value is not None]
    for key, (least, greatest) in STATISTICS.items() if rounds else ():
        stated, low, high = number(stats.get(key)), least(rounds), greatest(rounds)
        if stated is not None and not low * (1 - TOLERANCE) <= stated <= high * (1 + TOLERANCE):
            yield Contradiction(where, f"its {key} is {stated:g} s, but that of its rounds is {low:g} s")


def _with_launches(cases: Sequence[ImportedCase]) -> tuple[ImportedCase, ...]:
    """The cases, each in its launch; bench's own export states the launches."""
    repeated = iter(launches_of_repeats([case for case in cases if case.case is None]))
    return tuple(next(repeated) if case.case is None else case for case in cases)


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


def _fullnames(tests: Sequence[Any]) -> dict[str, list[str]]:
    """A test's name -> the different full names that have it: path::class::test."""
    names: dict[str, list[str]] = {}
    for test in tests:
        if isinstance(test, dict):
            known = names.setdefault(_name(test), [])
            fullname = str(test.get("fullname", ""))
            known += [fullname] if fullname not in known else []
    return names


def _identity(
    test: Mapping[str, Any], facts: Mapping[str, Any], names: Mapping[str, Sequence[str]]
) -> tuple[str, str | None, Params]:
    if isinstance(facts.get("case"), str) and isinstance(facts.get("suite"), str) and _are_params(facts.get("params")):
        return facts["suite"], facts["case"], dict(facts["params"])
    name = _name(test)
    op, _, ids = name.partition("[")
    given = mapping(test.get("params"))
    known = {key: value for key, value in given.items() if not str(value).startswith(_UNSERIALIZABLE)}
    params: Params = {_key(str(key), given): _param(value) for key, value in known.items()}
    if ids and len(known) < max(1, len(given)):
        params["id"] = _param(ids.removesuffix("]"))
    if len(names[name]) > 1:  # of several files or classes
        params["where"] = _place(str(test.get("fullname", "")), names[name])
    return SUITE, None, {"op": distinct_name(op), **params}


def _key(name: str, given: Mapping[str, Any]) -> str:
    """A parameter's name: `op` is the test itself in a case, and `where` and `id` tell tests apart."""
    safe = distinct_name(name)
    while safe in ("op", "where", "id") or (safe != name and safe in given):
        safe = f"{safe}_"
    return safe


def _place(fullname: str, others: Sequence[str]) -> str:
    """The file and class of a test: without the folders, unless two tests of the name differ by those alone."""
    return distinct_name(".".join(_parts_of(fullname, _number_of_folders(others))))


def _parts_of(fullname: str, folders: int) -> list[str]:
    path, *classes = fullname.partition("[")[0].split("::")[:-1] or [""]
    return [*path.replace("\\", "/").split("/")[-1 - folders :], *classes]


def _number_of_folders(fullnames: Sequence[str]) -> int:
    """Folders of a path that it takes to tell the tests apart."""
    most = max(name.count("/") + name.count("\\") for name in fullnames)
    for folders in range(most + 1):
        if len({tuple(_parts_of(name, folders)) for name in fullnames}) == len(fullnames):
            return folders
    return most


def _name(test: Mapping[str, Any]) -> str:
    return str(test.get("name") or "unnamed")


def _are_params(value: Any) -> bool:
    return isinstance(value, dict) and all(is_param(param) for param in value.values())


def _param(value: Any) -> Param:
    """A value as a case's parameter: texts as an id can hold them, and never like a number or truth value."""
    if not isinstance(value, str):
        return value if is_param(value) else distinct_name(str(value))
    return f"str-{distinct_name(value)}" if _LIKE_A_VALUE.fullmatch(value) else distinct_name(value)


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
