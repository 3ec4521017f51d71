"""A comparison as JUnit XML, which most CI systems read: one test per case and new side.

A case fails if it fails the gate, or without a gate if it is shown to be slower. What is undecided, or was not measured
on both sides, is skipped. Texts have no control characters, so that the file is well-formed whatever labels hold.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.compare import gate as gates
from bench.analysis.compare import settling
from bench.analysis.compare.change_text import told
from bench.core.cell_text import escape_xml
from bench.records.metrics import TIME

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.gate import Gate, Ruling
    from bench.analysis.compare.sides import Side
    from bench.records.rows import Row

_STATUS_TAGS = {"failed": "failure", "skipped": "skipped"}


class CaseTest(NamedTuple):
    """One test: a case on one new side."""

    suite: str
    name: str
    status: str
    """`passed`, `failed` or `skipped`."""
    message: str
    seconds: float | None
    """Time of the case on the new side."""


def show(comparison: Comparison, gate: Gate, ruling: Ruling | None) -> str:
    """The file's text, ending in a newline."""
    root = ElementTree.Element("testsuites")
    for side in comparison.sides[1:]:
        _add_side(root, comparison, side, list(_tests(comparison, side, gate, ruling)), ruling)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _add_side(
    root: ElementTree.Element, comparison: Comparison, side: Side, tests: list[CaseTest], ruling: Ruling | None
) -> None:
    base = comparison.sides[0]
    counts = {
        "tests": len(tests),
        "failures": sum(test.status == "failed" for test in tests),
        "errors": 0,
        "skipped": sum(test.status == "skipped" for test in tests),
    }
    name = escape_xml(f"bench compare: {side.name} against {base.name}")
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **{k: str(n) for k, n in counts.items()}})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "base": base.name,
        "new": side.name,
        "base architecture": base.architecture,
        "new architecture": side.architecture,
        "base file": str(base.results[0].path),
        "new file": str(side.results[0].path),
        "gate": "none" if ruling is None else ruling.line,
    }
    for key, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": key, "value": escape_xml(value)})
    for test in tests:
        _add_test(suite, test)


def _add_test(suite: ElementTree.Element, test: CaseTest) -> None:
    attributes = {"classname": escape_xml(test.suite), "name": escape_xml(test.name)}
    if test.seconds is not None:
        attributes["time"] = f"{test.seconds:.9f}"
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if test.status in _STATUS_TAGS:
        ElementTree.SubElement(case, _STATUS_TAGS[test.status], {"message": escape_xml(test.message)})


def _tests(comparison: Comparison, side: Side, gate: Gate, ruling: Ruling | None) -> Iterator[CaseTest]:
    """Tests of one new side: judged cases, then those that could not be."""
    rows = [row for row in comparison.cases if row["name"] == side.name]
    groups = {**comparison.sides[0].groups, **side.groups}
    several = len({row["metric"] for row in rows}) > 1
    for row in rows:
        status = _status(row, gate)
        name = comparison.name_of(row["case"]) + (f", {row['metric']}" if several else "")
        seconds = row["new"] if row["metric"] == TIME else None
        yield CaseTest(row["suite"], name, status, _message(comparison, row, status), seconds)
    judged = {row["case"] for row in rows}
    missing = set(ruling.missing) if ruling is not None else set()
    for case, group in groups.items():
        if case not in judged:
            own = side.groups.get(case)
            lacks = "not on " + side.name if own is None else own.reason or f"not on {comparison.sides[0].name}"
            yield CaseTest(
                group.leader.suite, comparison.name_of(case), "failed" if case in missing else "skipped", lacks, None
            )


def _status(row: Row, gate: Gate) -> str:
    """The gate's outcome; without one slower fails, and undecided is skipped."""
    if gate.fail_slower is not None:
        found = gates.outcome(row, gate.fail_slower)
        return "skipped" if found == "undecided" else found
    return {"slower": "failed", "unclear": "skipped"}.get(row["verdict"], "passed")


def _message(comparison: Comparison, row: Row, status: str) -> str:
    if row["change_low"] is None:
        return "undecided: one launch per side has no error bar"
    text = told(row)
    if status != "skipped":
        return text
    further = settling.further_launches(row)
    if row["verdict"] != "unclear":
        return f"undecided: {text}"
    if further is None:
        return f"undecided: {text}; {settling.TOO_NOISY}"
    return f"undecided: {text}; {settling.settle(comparison, further, row['name']).words()}, would settle it"
