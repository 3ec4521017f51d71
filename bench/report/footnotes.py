"""Footnotes of a table: what a reader must know to read its numbers rightly.

One footnote a kind and table, with the worst figure of the table's rows; the rows name it by number. A new kind is one
row of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.core.values import show_seconds
from bench.records.interference import clock_fall

Row = Mapping[str, Any]

USELESS_RATIO = 100
MIN_SAMPLES = 20
"""Fewer are footnoted."""
LARGE_SKEW = 0.2
"""A share of the time by which the first rank is done before the last, above which it is footnoted."""
LARGE_STEAL = 0.02
LARGE_OTHER_LOAD = 0.05
"""Share of the CPU time, beyond what the kernel's coarse counting of a short phase can make of nothing."""
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


def _other_load(row: Row) -> float | None:
    share = row.get("other_load_share")
    if share is None or share <= LARGE_OTHER_LOAD + (row.get("other_load_noise_share") or 0):
        return None
    return float(share)


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
            "(the last is not the slow one where ranks wait for each other)"
        ),
    ),
    "other load": FootnoteKind(
        _other_load,
        lambda row: f"disturbed: other processes used up to {row['other_load_share']:.0%} of the CPU time",
    ),
    "steal": FootnoteKind(
        _above("steal_share", LARGE_STEAL),
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
        lambda row: MIN_SAMPLES - row["num_samples"] if 0 < row["num_samples"] < MIN_SAMPLES else None,
        lambda row: f"fewer than {MIN_SAMPLES} samples: median and interval say little",
    ),
    "reduced check": FootnoteKind(
        lambda row: 0.0 if row.get("check_scope") == "reduced" else None,
        lambda row: "check: reduced (the same code was checked at a size that one device can hold)",
    ),
}
"""Name -> kind, in the order in which a row's footnotes come."""


def number_footnotes(rows: Sequence[Row]) -> tuple[list[list[int]], list[str]]:
    """Numbers of each row's footnotes, and the footnotes with their numbers, in order of appearance.

    A suite's own notes come first in a row, and are told apart by their text.
    """
    numbers: dict[tuple[str, str], int] = {}
    worst: dict[tuple[str, str], tuple[float, Row]] = {}
    marks = []
    for row in rows:
        figures = {("note", str(note)): 0.0 for note in row.get("notes") or []}
        figures |= {("kind", name): figure for name, kind in KINDS.items() if (figure := kind.figure(row)) is not None}
        for key, figure in figures.items():
            if key not in worst or figure > worst[key][0]:
                worst[key] = figure, row
        marks.append([numbers.setdefault(key, len(numbers) + 1) for key in figures])
    return marks, [f"[{number}] {_text(key, worst[key][1])}" for key, number in numbers.items()]


def _text(key: tuple[str, str], row: Row) -> str:
    what, name = key
    return KINDS[name].text(row) if what == "kind" else name


def common_notes(rows: Sequence[Row]) -> list[str]:
    """Notes that hold for a whole table."""
    notes = []
    if any(row.get("num_launches") == 1 for row in rows):
        notes.append(
            "One launch has no error bar: the interval is that of the median within the launch, and launches "
            "differ by more. --launches 3 gives one."
        )
    if any(row.get("interval") == "between_launches" for row in rows):
        notes.append(
            "The interval is between launches: t on the logarithms of the launch medians, which are taken to vary no "
            "less than those of like cases suggest, and runs by more than their launches; unknown: its ends are "
            f"more than {USELESS_RATIO}x apart, since the launches disagree. More launches narrow it."
        )
    sources = dict.fromkeys(row["ceiling_source"] for row in rows if row.get("ceiling_source"))
    return notes + [f"Ceiling: {source}, as measured in the same file." for source in sources]
