"""Hold the outputs that README.md and the pages show to what their commands print.

    python scripts/fill_outputs.py [PAGE...]          # writes the present outputs into the documents
    python scripts/fill_outputs.py --check [PAGE...]  # exit 1 and a line for each that differs

An output is a fenced block below `<!-- output: COMMAND -->`. COMMAND is called in this process, from a folder with the
repository's files, so what it writes leaves no trace. A line `...` stands for left-out lines, one or more. When a
block with gaps is filled, those lines of the new output are kept that are most like the lines that it had.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.cli import call
from bench.core import exit_codes

ROOT = Path(__file__).resolve().parent.parent
GAP = "..."
BLOCK = re.compile(
    r"^<!-- output: (?P<command>[^\n]+?) -->\n+(?P<fence>```+)[^\n]*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
LEAST_ALIKE = 0.6
"""Likeness, 0 to 1, of a line and the one that it had been."""


class Output(NamedTuple):
    """A block of a document that shows the output of a command."""

    page: Path
    command: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.command}"


def main() -> None:
    named = [Path(word).resolve() for word in sys.argv[1:] if not word.startswith("-")]
    pages = named or documents()
    if "--check" in sys.argv[1:]:
        sys.exit(check(pages))
    fill(pages)


def check(pages: Sequence[Path]) -> bool:
    """True, after a line for each, if outputs of the pages are not what their commands print."""
    unlike = [output for output in outputs(pages) if not fits(output.lines, printed(output.command))]
    for output in unlike:
        print(f"{output}: prints other lines; python scripts/fill_outputs.py")
    return bool(unlike)


def fill(pages: Sequence[Path]) -> None:
    for page in pages:
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(_filled, text), encoding="utf-8")


def documents() -> list[Path]:
    """The README and the pages for users."""
    return [ROOT / "README.md", *sorted((ROOT / "bench" / "docs").glob("*.md"))]


def outputs(pages: Sequence[Path]) -> Iterator[Output]:
    for page in pages:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            yield Output(page, match["command"], tuple(_lines(match["text"])))


def printed(command: str) -> list[str]:
    """The lines that a `bench` command prints to its output, 100 columns wide as in a pipe."""
    name, *words = shlex.split(command)
    if name != "bench":
        raise SystemExit(f"{command!r}: not a command of bench")
    stream, errors = io.StringIO(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(errors),
    ):
        for path in ROOT.iterdir():
            Path(path.name).symlink_to(path)
        code = call(words)
    if code == exit_codes.USAGE or not stream.getvalue():
        raise SystemExit(f"{command}: {errors.getvalue().strip() or 'prints nothing'}")
    return _lines(stream.getvalue())


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


def fits(shown: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether the lines are those shown, with one line or more in the place of each gap."""
    first, *others = _pieces(shown)
    if not others:
        return first == [*lines]
    *between, last = others
    end = len(lines) - len(last)
    if [*lines[: len(first)]] != first:
        return False
    place = len(first)
    for piece in between:  # the first place that fits leaves most room for the others
        starts = (
            start for start in range(place + 1, end - len(piece) + 1) if [*lines[start : start + len(piece)]] == piece
        )
        found = next(starts, None)
        if found is None:
            return False
        place = found + len(piece)
    return place < end and [*lines[end:]] == last


def _pieces(shown: Sequence[str]) -> list[list[str]]:
    """The lines between gaps; empty before a gap at the start and behind one at the end."""
    pieces: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == GAP:
            pieces.append([])
        else:
            pieces[-1].append(line)
    return pieces


def _filled(match: re.Match[str]) -> str:
    shown, lines = _lines(match["text"]), printed(match["command"])
    wanted = [line for line in shown if line.strip() != GAP]
    if len(wanted) < len(shown):
        lines = [*_with_gaps(lines, most_alike(wanted, lines))]
    begin = match.start("text") - match.start()
    end = match.end("text") - match.start()
    whole = match[0]
    return whole[:begin] + "".join(f"{line}\n" for line in lines) + whole[end:]


def _with_gaps(lines: Sequence[str], kept: Sequence[int]) -> Iterator[str]:
    last = -1
    for place in (*kept, len(lines)):
        if place > last + 1:
            yield GAP
        if place < len(lines):
            yield lines[place]
        last = place


def most_alike(wanted: Sequence[str], lines: Sequence[str]) -> list[int]:
    """Places of the lines, in order, that together are most like the wanted ones: the best common subsequence."""
    best = [[0.0] * (len(lines) + 1) for _ in range(len(wanted) + 1)]
    likeness = [[_likeness(old, new) for new in lines] for old in wanted]
    for i in range(len(wanted) - 1, -1, -1):
        for j in range(len(lines) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], likeness[i][j] + best[i + 1][j + 1])
    places, i, j = [], 0, 0
    while i < len(wanted) and j < len(lines):
        if likeness[i][j] and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            places.append(j)
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return places


def _likeness(old: str, new: str) -> float:
    """0 to 1; 0 of lines that are less than a little alike. Digits are all the same."""
    if old == new:
        return 2.0
    first, second = (re.sub(r"\d", "0", line) for line in (old, new))
    ratio = difflib.SequenceMatcher(None, first, second).ratio()
    return ratio if ratio >= LEAST_ALIKE else 0.0


if __name__ == "__main__":
    main()
