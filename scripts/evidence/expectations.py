"""Evidence on expectations: each published figure against the range that the other sources make of its kind of case.

`python scripts/evidence/expectations.py` writes results/evidence/expectations.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalog.expectation_rules import RULES, LineRule, shares
from bench.catalog.expectations import expectation, is_judged
from bench.catalog.questions import MARGIN, MAX_WIDTH, MEASURED, RULE, Expectation, question_of
from bench.catalog.reference import ReferenceNumber, reference_numbers, relative_width, vendor
from bench.core.values import counted
from bench.records.file import load_many
from bench.records.rows import case_rows

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "results" / "evidence" / "expectations.md"
OURS = sorted((ROOT / "results" / "gpu").rglob("*.jsonl"))
KINDS = ("_busbw", "_copy")
BEGINS = ("matmul_", "memory_")
DEMANDS = ("floor_", "expected_")
GOAL = 0.85

HEAD = """# Expectations: does a figure lie in the range that the others make?

Each published figure of `bench/catalog/data/reference_numbers.csv` is left out together with all others of its source;
the rest makes a range for its kind of case, if at least three sources are left. Written by
`scripts/evidence/expectations.py`. A range reaches {margin:.0%} beyond the figures that make it, and is at most
{width:.0%} of its middle wide. The goal is {goal:.0%} of the figures inside. A rule is tried with the shares of its
line rate, and on each accelerator as if nobody had published a figure of it.
"""


@dataclass(frozen=True)
class Trial:
    """A figure and the range that others made for it; in the unit of the range."""

    number: ReferenceNumber
    value: float
    found: Expectation

    @property
    def is_inside(self) -> bool:
        return self.found.low <= self.value <= self.found.high

    @property
    def width(self) -> float:
        return relative_width(self.found.low, self.found.high)


def judged() -> list[ReferenceNumber]:
    """Published figures of kinds that cases of bench are compared with, of healthy machines and sizes that count."""
    rows = [row for row in reference_numbers() if row.kind.endswith(KINDS) or row.kind.startswith(BEGINS)]
    return [row for row in rows if not row.kind.startswith(DEMANDS) and row.is_healthy and is_judged(question_of(row))]


def left_out(rows: Sequence[ReferenceNumber], keep: Callable[[ReferenceNumber, ReferenceNumber], bool]) -> list[Trial]:
    """A trial of each figure for which the figures that are kept make a range."""
    trials = []
    for row in rows:
        found = expectation(question_of(row), [other for other in reference_numbers() if keep(row, other)])
        if found is not None and found.is_range:
            trials.append(Trial(row, row.value, found))
    return trials


def of_rule(rule: LineRule, rows: Sequence[ReferenceNumber]) -> list[Trial]:
    """A trial of each figure that a rule holds for, against the share that other sources make."""
    trials = []
    for row in rows:
        question = question_of(row)
        line = rule.line(question) if row.kind in rule.kinds and rule.holds(question) else None
        others = [other for other in reference_numbers() if vendor(other) != vendor(row)]
        found = shares(rule, question, others) if line else None
        if line and found is not None and found.is_range:
            trials.append(Trial(row, row.value / line, found))
    return trials


def summary(name: str, trials: Sequence[Trial]) -> str:
    """A row of the table."""
    if not trials:
        return f"| {name} | 0 | - | - | - |"
    inside = sum(trial.is_inside for trial in trials)
    widths = [trial.width for trial in trials]
    share = f"{inside} ({inside / len(trials):.0%})"
    return f"| {name} | {len(trials)} | {share} | {statistics.median(widths):.1%} | {max(widths):.1%} |"


def page() -> Iterator[str]:
    """Lines of the page."""
    rows = judged()
    by_source = left_out(rows, lambda row, other: vendor(other) != vendor(row))
    by_device = left_out(rows, lambda row, other: other.accelerator != row.accelerator)
    rules = {rule.name: of_rule(rule, rows) for rule in RULES}
    in_rules = [trial for trials in rules.values() for trial in trials]
    yield HEAD.format(margin=MARGIN, width=MAX_WIDTH, goal=GOAL)
    yield "## Figures inside"
    yield ""
    yield "| figures | with a range of others | inside | median width | largest width |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    yield summary("one source left out, kinds that were measured", [t for t in by_source if t.found.basis == MEASURED])
    yield summary("one source left out, by rule", [t for t in by_source if t.found.basis == RULE])
    yield from (summary(f"rule: {name}", trials) for name, trials in rules.items())
    yield summary("one accelerator left out, by rule", [t for t in by_device if t.found.basis == RULE])
    whole = {t.number: t for t in (*in_rules, *by_source)}
    yield summary("**one source left out, each figure once**", list(whole.values()))
    yield ""
    yield from outside(list(({t.number: t for t in by_device} | whole).values()))
    yield "## Figures that get a range at all"
    yield ""
    yield from coverage(rows)


def outside(trials: Sequence[Trial]) -> Iterator[str]:
    """The figures that lie outside, each once."""
    lines = dict.fromkeys(
        f"- {t.number.accelerator}, {t.number.kind}, {t.number.conditions}: {t.value:.4g}, range {t.found.low:.4g} to "
        f"{t.found.high:.4g} ({t.number.source.split(' ')[0]})"
        for t in trials
        if not t.is_inside
    )
    yield f"Outside: {len(lines)}."
    yield ""
    yield from lines
    yield from [""] if lines else []


def _kind(row: ReferenceNumber, answer: Expectation) -> str:
    machine = f"{counted(row.num_ranks or 0, 'rank')}, {counted(row.num_nodes or 0, 'node')}"
    width = relative_width(answer.low, answer.high)
    return f"- {row.accelerator}, {row.kind}, {machine}: {answer.text()}, {row.unit}, {width:.0%} wide"


def coverage(rows: Sequence[ReferenceNumber]) -> Iterator[str]:
    """How many figures get a range, from all sources together."""
    found = [(row, expectation(question_of(row))) for row in rows]
    have = [row for row, answer in found if answer is not None and answer.is_range]
    yield f"{len(have)} of {len(rows)} published figures ({len(have) / len(rows):.0%}) are of a kind of case that"
    yield "has a range; the others have fewer than three sources of one kind of loop, or sources too far apart."
    yield "The kinds with a range, all sources together:"
    yield ""
    yield from dict.fromkeys(_kind(row, answer) for row, answer in found if answer is not None and answer.is_range)
    yield ""
    ours = case_rows(load_many(OURS))
    asked = [row for row in ours if row["expected_text"]]
    ranges = sum(row["expected_low"] is not None for row in asked)
    known = sum(row["expected_sources"] is not None for row in asked)
    yield f"Of our own figures on one H100 and one H200, {len(asked)} are of kinds that others publish: {ranges} have a"
    yield f"range, {known} have one or two sources beside them, and {len(asked) - known} are unknown: one GPU has no"
    yield "collectives, and products and copies have at most two publishers."


if __name__ == "__main__":
    OUT.write_text("\n".join(page()) + "\n", encoding="utf-8")
