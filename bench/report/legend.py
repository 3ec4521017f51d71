"""What the signs of a file's tables mean: ±, one launch, and the ceilings that percents are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.values import show_quantity
from bench.records.case_names import SHORT_TYPES, short_name, split_id
from bench.records.expected.kinds import asked_of
from bench.records.expected.words import UNKNOWN
from bench.records.expected.words import words as words_of_others
from bench.records.metrics import (
    BUS_BANDWIDTH,
    CEILING_PERCENT,
    CEILING_SUITE,
    COMPUTE_SPEED,
    METRICS,
    PEAK_SHARE,
)
from bench.report.cells import USELESS_RATIO, error, show_peak_percent

Row = Mapping[str, Any]

MAX_EXPECTED = 6
"""Lines on what others reach; JSON has every case."""
DEFAULT_TYPE = "float32"
"""Type of a product whose id names none."""


def interval_lines(rows: Sequence[Row], remedy: str = ": --launches 3") -> list[str]:
    """Lines on what the error bars are, and if there are none; `remedy` is what gives them."""
    lines = []
    errors = [share for row in rows if (share := error(row)) is not None]
    if errors:
        text = "±: 95% interval between launches, as a share of the time"
        useless = sum(share >= USELESS_RATIO for share in errors)
        lines.append(f"{text}; >{USELESS_RATIO}x: the launches disagree, more of them narrow it" if useless else text)
    lone = sum(row.get("num_launches") == 1 for row in rows)
    if lone:
        where = "one launch" if lone == len(rows) else f"one launch in {lone} of {len(rows)} cases"
        lines.append(f"{where}: no error bar, since launches differ by more than the samples of one{remedy}")
    return lines


def ceiling_lines(rows: Sequence[Row]) -> list[str]:
    """A line per ceiling that rows are compared with: its type, its rate and the case that sets it."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("ceiling_source"):
            by_source.setdefault(row["ceiling_source"], []).append(row)
    return [_ceiling_line(source, held) for source, held in sorted(by_source.items(), key=lambda pair: pair[0])]


def expectation_lines(rows: Sequence[Row]) -> list[str]:
    """What others reach in the same cases: ranges first, then single figures, and for how many nothing is known."""
    asked = [row for row in rows if row.get("expected_text")]
    known = sorted(
        (row for row in asked if row["expected_text"] != UNKNOWN),
        key=lambda row: (row["expected_low"] is None, -row["expected_sources"]),
    )
    lines = [line for row in known[:MAX_EXPECTED] if (line := _expectation_line(row))]
    if len(known) > MAX_EXPECTED:
        lines.append(f"{len(known) - MAX_EXPECTED} more cases with published figures: --format json")
    if len(asked) > len(known):
        count = f"{len(asked) - len(known)} of {len(asked)} cases"
        lines.append(f"Expected: unknown for {count}: no published figures of their kinds")
    return lines


def _expectation_line(row: Row) -> str | None:
    asked = asked_of(row)
    if asked is None:
        return None
    return f"{short_name(row['case'])}: {show_quantity(row[asked.metric], asked.unit)}, {words_of_others(row)}"


def _ceiling_line(source: str, held: Sequence[Row]) -> str:
    kind, name = _kind(source), short_name(source)
    if len({row.get("file") for row in held}) > 1:
        return f"Ceiling {kind}: {name.removesuffix(f' {kind}')}, as measured in the same file"
    row = held[0]
    metric = METRICS[COMPUTE_SPEED if row.get(COMPUTE_SPEED) is not None else BUS_BANDWIDTH]
    rate = metric.phrase(row[metric.name] * 100 / row[CEILING_PERCENT])
    parts = [f"Ceiling {kind}: {rate}, {name.removesuffix(f' {kind}')}"]
    own = next((row for row in held if row["case"] == source and row.get(PEAK_SHARE) is not None), None)
    if own is not None:
        parts.append(f"{show_peak_percent(own)} of the data sheet's peak")
    beyond = max(held, key=lambda row: row[CEILING_PERCENT])
    text = ", ".join(parts)
    if beyond[CEILING_PERCENT] <= EXCEEDED:
        return text
    return f"{text}; {short_name(beyond['case'])} reached {show_quantity(beyond[CEILING_PERCENT], '%')} of it"


EXCEEDED = 100.5
"""Percent of a ceiling from which it is said that a case went beyond it."""


def _kind(source: str) -> str:
    """Type of the products that a ceiling is of, or `link`."""
    suite, _, params = split_id(source)
    dtype = params.get("dtype", DEFAULT_TYPE)
    return SHORT_TYPES.get(dtype, dtype) if suite == CEILING_SUITE else "link"
