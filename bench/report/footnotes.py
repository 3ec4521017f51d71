"""Footnotes of a table: what a reader must know to read its numbers rightly.

One footnote per kind and table, with the worst figure of the table's rows; the rows name it by number. One that is true
of more than half of the rows of a file is stated once in its head, one of more than half of a table's once below it,
both without a number in each row. A new kind is one row of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.core.values import show_seconds
from bench.records.interference import clock_fall, large_other_load, large_steal
from bench.records.samples import MIN_SAMPLES, has_few_samples

Row = Mapping[str, Any]
Key = tuple[str, str]
"""`note` and its text, or `kind` and the name of one."""

FEW_SAMPLES: Key = ("kind", "few samples")
LARGE_SKEW = 0.2
"""A share of the time by which the first rank is done before the last, above which it is footnoted."""
LARGE_RUN_DELAY = 0.4
"""Share of the time; with as many ranks as cores, gloo's own threads already make it about a quarter."""
LARGE_CLOCK_FALL = 0.1


class FootnoteKind(NamedTuple):
    """One kind of footnote."""

    figure: Callable[[Row], float | None]
    """Figure by which rows are ranked; None if the footnote does not apply."""
    text: Callable[[Row], str]
    """Text for the worst row."""


def _above(name: str, limit: float) -> Callable[[Row], float | None]:
    def figure(row: Row) -> float | None:
        value = row.get(name)
        return value if value is not None and value > limit else None

    return figure


def _clock_fall(row: Row) -> float | None:
    fall = clock_fall(row)
    return fall if fall is not None and fall > LARGE_CLOCK_FALL and not row.get("throttled") else None


def _clocks(row: Row) -> str:
    return f"from {row['clock_before_hz'] / 1e9:.2f} to {row['clock_after_hz'] / 1e9:.2f} GHz"


def _throttled(row: Row) -> str:
    clocks = f"; clocks went {_clocks(row)}" if clock_fall(row) is not None else ""
    return f"throttled: {', '.join(row['throttle_reasons'])}{clocks}"


def _drift(row: Row) -> str:
    change = row["drift"]
    word = "slower" if change > 0 else "faster"
    return f"drift: the last third of a launch's samples is up to {abs(change):.0%} {word} than the first"


def _modes(row: Row) -> str:
    share = row["slow_mode_share"]
    fast, slow = show_seconds(row["fast_mode_seconds"]), show_seconds(row["slow_mode_seconds"])
    return f"two modes: {1 - share:.0%} of a launch's samples at {fast}, {share:.0%} at {slow} (the widest apart here)"


KINDS: dict[str, FootnoteKind] = {
    "skew": FootnoteKind(
        _above("skew", LARGE_SKEW),
        lambda row: (
            f"skew: the first rank is done over {LARGE_SKEW:.0%} of the time before the last "
            "(the last is not the slow one if ranks wait for each other)"
        ),
    ),
    "other load": FootnoteKind(
        large_other_load,
        lambda row: f"disturbed: other programs used up to {row['other_load_share']:.0%} of the CPU",
    ),
    "steal": FootnoteKind(
        large_steal,
        lambda row: f"disturbed: up to {row['steal_share']:.1%} of the CPU time was stolen by the hypervisor",
    ),
    "run delay": FootnoteKind(
        _above("run_delay_share", LARGE_RUN_DELAY),
        lambda row: f"disturbed: a thread of a rank waited for a core up to {row['run_delay_share']:.0%} of the time",
    ),
    "throttled": FootnoteKind(lambda row: (clock_fall(row) or 0.0) if row.get("throttled") else None, _throttled),
    "clocks": FootnoteKind(_clock_fall, lambda row: f"clocks fell {_clocks(row)}"),
    "drift": FootnoteKind(lambda row: abs(row.get("drift") or 0) or None, _drift),
    "modes": FootnoteKind(
        lambda row: row["slow_mode_seconds"] / row["fast_mode_seconds"] if row.get("modes") == 2 else None, _modes
    ),
    "few samples": FootnoteKind(
        lambda row: float(MIN_SAMPLES - row["num_samples"]) if has_few_samples(row) else None,
        lambda row: f"~: fewer than {MIN_SAMPLES} samples",
    ),
    "reduced check": FootnoteKind(
        lambda row: 0.0 if row.get("check_scope") == "reduced" else None,
        lambda row: "check: reduced (the same code was checked at a size that one device can hold)",
    ),
}
"""Name -> kind, in the order in which a row's footnotes come."""


def keys_of(row: Row) -> dict[Key, float]:
    """Footnotes of a row, each with the figure by which rows are ranked; the suite's own notes come first."""
    own = {("note", str(note)): 0.0 for note in row.get("notes") or []}
    return own | {("kind", name): figure for name, kind in KINDS.items() if (figure := kind.figure(row)) is not None}


class Footnote(NamedTuple):
    """A footnote of some rows."""

    text: str
    """With the figure of the row where it is worst."""
    cases: tuple[str, ...]


def collect(rows: Sequence[Row]) -> dict[Key, Footnote]:
    """Every footnote of the rows, in order of appearance."""
    worst: dict[Key, tuple[float, Row]] = {}
    cases: dict[Key, list[str]] = {}
    for row in rows:
        for key, figure in keys_of(row).items():
            cases.setdefault(key, []).append(row["case"])
            if key not in worst or figure > worst[key][0]:
                worst[key] = figure, row
    return {key: Footnote(_text(key, worst[key][1]), tuple(members)) for key, members in cases.items()}


def _text(key: Key, row: Row) -> str:
    what, name = key
    return KINDS[name].text(row) if what == "kind" else name


def of_file(rows: Sequence[Row], remedy: str = "") -> tuple[list[str], frozenset[Key]]:
    """Lines for the head of a file, and the footnotes that they say: kinds true of more than half of its rows.

    Few samples are there if any case has few, since a tilde marks the cases themselves; `remedy` is what gives more.
    """
    kinds = {key: note for key, note in collect(rows).items() if key[0] == "kind"}
    said = {key: note for key, note in kinds.items() if key == FEW_SAMPLES or len(note.cases) > len(rows) / 2}
    lines = [
        f"{note.text} in {len(note.cases)} of {len(rows)} cases" + (remedy if key == FEW_SAMPLES else "")
        for key, note in said.items()
    ]
    return lines, frozenset(said)


def of_table(rows: Sequence[Row], said: frozenset[Key] = frozenset()) -> tuple[list[list[int]], list[str]]:
    """Numbers of each row's footnotes, and the footnotes of the table: numbered, then those of more than half of it."""
    found = {key: note for key, note in collect(rows).items() if key not in said}
    common = {key: note for key, note in found.items() if len(note.cases) > len(rows) / 2}
    numbers = {key: number for number, key in enumerate((key for key in found if key not in common), 1)}
    marks = [sorted(numbers[key] for key in keys_of(row) if key in numbers) for row in rows]
    lines = [f"[{number}] {found[key].text}" for key, number in numbers.items()]
    for note in common.values():
        is_of_all = len(note.cases) == len(rows)
        lines.append(note.text if is_of_all else f"{note.text} (in {len(note.cases)} of {len(rows)} cases)")
    return marks, lines
