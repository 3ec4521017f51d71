"""Findings on a terminal: at most 30 lines and its width, in the order in which people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.analysis.findings.kinds import (
    MAX_REMARKS,
    Answer,
    Correctness,
    DataState,
    Figure,
    Findings,
    NextStep,
    Unmeasured,
)
from bench.core.cell_text import clean
from bench.core.cell_text import width as cell_width
from bench.core.column_fit import wrap
from bench.core.styles import Style, style

MIN_BAR_CELLS, NUM_BAR_CELLS = 6, 20
MAX_LINES = 30
"""Lines of a screen; blocks move together before one is longer."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
MAX_NAME = 40
LINES_AFTER = 2
"""Lines that a command prints below: where it saved, what it compared."""
_GAP = "  "
MAX_UNMEASURED = 3
"""Reasons for which cases have no speed that are shown; JSON has all of them."""


class FigureBlock(NamedTuple):
    """Figures that stand together."""

    title: str
    note: str
    is_inline: bool
    """True if the figures follow one another on a line; their common reference, `of`, is then in the title."""
    is_sentences: bool = False
    """True if each figure is a sentence: its name, its value, and the words of it."""


BLOCKS: Mapping[str, FigureBlock] = {
    "reached": FigureBlock("REACHED", "of what is possible here", False),
    "change": FigureBlock("CHANGE", "95% interval", False),
    "parallelism": FigureBlock("DOES PARALLELISM PAY?", "", True),
    "step": FigureBlock("WHERE A TRAINING STEP GOES", "", True),
    "explained": FigureBlock("WHERE THE TIME GOES", "of the time of a call", False, is_sentences=True),
    "stragglers": FigureBlock("WHAT STRAGGLERS COST", "", False),
    "speed": FigureBlock("SPEED", "", False),
    "cost": FigureBlock("COST", "", False),
    "loss": FigureBlock("WHAT MIXING COSTS", "equal shares; the best split next to it", False),
    "run": FigureBlock("THE RUN", "", False),
    "scaling": FigureBlock("SCALING", "tokens/s per device, of the fewest devices that fit", False),
    "uses": FigureBlock("OR ONE KIND TRAINS WHILE OTHERS SERVE", "", False),
}
"""Group of figures -> how it is shown; a new group is a row."""
_QUALITY: Mapping[str, tuple[str, Style]] = {
    "good": ("Good data", "green"),
    "rough": ("ROUGH FIGURES", "yellow"),
    "useless": ("USELESS", "red"),
}


def show(findings: Findings, width: int, colour: bool = False) -> str:
    """The findings as text that ends in a newline. No line is wider than `width`, except for a word that is."""
    return "\n".join(lines(findings, width, colour)) + "\n"


def lines(findings: Findings, width: int, colour: bool = False) -> list[str]:
    """Lines of the findings, blocks apart by a blank line; if they are too many, the last remarks give way."""
    parts, room = [], 0
    for most in range(MAX_REMARKS, 0, -1):
        parts = [list(part) for part in _parts(findings, width, colour, most)]
        parts = [part for part in parts if part]
        room = MAX_LINES - LINES_AFTER - sum(map(len, parts))
        if room >= 0:
            break
    shown: list[str] = []
    for number, part in enumerate(parts):
        shown += [*([""] if 0 < number <= room else []), *part]
    return shown


def _parts(findings: Findings, width: int, colour: bool, most_remarks: int) -> Iterator[list[str]]:
    yield [*_opening(findings, width, colour)]
    figures = findings.of_kind(Figure)
    for group in dict.fromkeys(figure.group for figure in figures):
        block, members = BLOCKS[group], [figure for figure in figures if figure.group == group]
        show_block = _inline if block.is_inline else _sentences if block.is_sentences else _bars
        yield [*show_block(block, members, width, colour)]
    yield [*_remarks(findings, width, colour, most_remarks)]
    yield [*_closing(findings, width, colour)]


def _opening(findings: Findings, width: int, colour: bool) -> Iterator[str]:
    for answer in findings.of_kind(Answer):
        yield from (style(line, "bold", colour) for line in wrap(clean(answer.text), width))
    if findings.head:
        yield from wrap(clean(findings.head), width)
    for state in findings.of_kind(DataState):
        word, paint = _QUALITY[state.quality]
        yield from (style(line, paint, colour) for line in wrap(f"{word}: {clean(state.text)}", width))


def _bars(block: FigureBlock, figures: Sequence[Figure], width: int, colour: bool) -> Iterator[str]:
    """A line per figure: name, value, bar of its share, and what it is a share of."""
    names = [clean(figure.name) for figure in figures]
    room = min(MAX_NAME, max(map(cell_width, names)))
    values = max(cell_width(clean(figure.text)) for figure in figures)
    has_bars = any(figure.share is not None for figure in figures)
    left = room + values + 2 * len(_GAP)
    words = max(cell_width(clean(figure.of)) for figure in figures)
    cells = max(MIN_BAR_CELLS, min(NUM_BAR_CELLS, width - left - words - len(_GAP) - 1)) if has_bars else 0
    blanks = " " * max(1, left + len(_GAP) - len(block.title))
    note = f"{blanks}{block.note}" if block.note and len(block.title + blanks + block.note) <= width else ""
    yield style(block.title, "bold", colour) + style(note, "dim", colour)
    for figure, name in zip(figures, names, strict=True):
        text = clean(figure.text)
        start = f"{_GAP}{_pad(name, room)}{_GAP}{' ' * (values - cell_width(text))}{text}"
        shown = _bar(figure.share, cells) if figure.share is not None else " " * cells
        rest = f"{_GAP}{shown} {clean(figure.of)}" if cells else f"{_GAP}{clean(figure.of)}"
        yield from wrap(f"{start}{rest}".rstrip(), width, indent=" " * min(left + len(_GAP) + cells + 1, width // 2))


def _pad(text: str, room: int) -> str:
    return text + " " * (room - cell_width(text))


def _bar(share: float, cells: int) -> str:
    """A bar of eighths of a cell; what is more than all of it fills it."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    eighths = max(eighths, 1) if share > 0 else eighths
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(cells)


def _sentences(block: FigureBlock, figures: Sequence[Figure], width: int, colour: bool) -> Iterator[str]:
    note = f"   {block.note}" if block.note else ""
    yield style(block.title, "bold", colour) + style(note, "dim", colour)
    for figure in figures:
        yield from wrap(f"{_GAP}{clean(figure.name)}, {clean(figure.text)}: {clean(figure.of)}", width, indent="      ")


def _inline(block: FigureBlock, figures: Sequence[Figure], width: int, colour: bool) -> Iterator[str]:
    words = figures[0].of or block.note
    first, *others = wrap(f"{block.title}   {clean(words)}".rstrip(), width, _GAP)
    yield style(block.title, "bold", colour) + style(first.removeprefix(block.title), "dim", colour)
    yield from (style(line, "dim", colour) for line in others)
    yield from flow([f"{clean(figure.name)} {clean(figure.text)}" for figure in figures], width, "  ")


def _remarks(findings: Findings, width: int, colour: bool, most: int) -> Iterator[str]:
    remarks = findings.remarks()
    if not remarks:
        return
    yield style("WHAT STANDS OUT", "bold", colour)
    for number, remark in enumerate(remarks[:most], 1):
        advice = f" {_capitalised(clean(remark.remedy))}" if remark.remedy else ""
        stop = "." if advice and "bench " not in advice else ""  # no full stop behind a command
        yield from wrap(f"{_GAP}{number}  {clean(remark.text)}.{advice}{stop}", width, indent="     ")


def _closing(findings: Findings, width: int, colour: bool) -> Iterator[str]:
    for correct in findings.of_kind(Correctness):
        paint: Style | None = "red" if correct.num_wrong else None
        yield from _labelled("CORRECT" if not correct.num_wrong else "WRONG", correct.text, width, colour, paint)
    unmeasured = findings.of_kind(Unmeasured)
    for lacking in unmeasured[:MAX_UNMEASURED]:
        remedy = f": {lacking.remedy}" if lacking.remedy else ""
        yield from _labelled("NOT MEASURED", f"{lacking.num_cases}, {lacking.text}{remedy}", width, colour)
    if len(unmeasured) > MAX_UNMEASURED:
        further = unmeasured[MAX_UNMEASURED:]
        count = sum(lacking.num_cases for lacking in further)
        yield from _labelled("NOT MEASURED", f"{count} for {len(further)} more reasons: bench show FILE", width, colour)
    steps = [f"{step.purpose}: {step.command}" for step in findings.of_kind(NextStep)]
    if steps:
        first, *others = flow(list(map(clean, steps)), width, " " * len("NEXT     "), "    ")
        yield style("NEXT", "bold", colour) + first.removeprefix("    ")
        yield from others


def _labelled(label: str, text: str, width: int, colour: bool, paint: Style | None = None) -> Iterator[str]:
    first, *others = wrap(f"{label}  {clean(text)}", width, indent="         ")
    yield style(label, paint or "bold", colour) + first.removeprefix(label)
    yield from others


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def flow(texts: Sequence[str], width: int, indent: str, gap: str = "   ") -> list[str]:
    """Texts that follow one another, as many on a line as it holds; none is broken unless it is wider than a line."""
    done: list[str] = []
    line = ""
    for text in texts:
        if line and cell_width(indent + line + gap + text) > width:
            done.append(indent + line)
            line = ""
        line = f"{line}{gap}{text}" if line else text
    return [piece for whole in [*done, indent + line] for piece in wrap(whole, width, indent + "  ")]
