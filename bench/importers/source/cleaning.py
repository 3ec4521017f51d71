"""A text as the readers of formats get it: decoded, and without what terminals, launchers, mails and pages added.

A line stays a line, so that numbers of lines are those of the file. Each thing that was taken off is kept with its
number of lines, for the note that says so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.importers.source import decoding, prefixes
from bench.importers.source.anchors import with_hash
from bench.importers.source.markup import MARKS

_RESULTS = {"benchmarks", "results", "nccl_version", "nvbandwidth"}
"""Keys of an object that a tool wrote as its result."""

_LOG_KEYS = ("log", "message", "msg", "MESSAGE", "line", "text")
"""Keys under which collectors keep a line: Docker's json-file, journald, Fluent Bit, Loki."""
MIN_RECORDS = 3


@dataclass(frozen=True)
class TakenOff:
    """One thing that was taken off the text, or put back."""

    what: str
    num_lines: int = 0
    """Lines that had it; 0: the file as a whole."""
    example: str | None = None
    """A prefix as the text has it: shown, but not kept, since it may name a host."""

    def note(self, with_example: bool = True) -> str:
        """A line for the user."""
        details = [f"{self.num_lines:,} {'line' if self.num_lines == 1 else 'lines'}"] if self.num_lines else []
        details += [f"such as {self.example!r}"] if self.example and with_example else []
        return f"{self.what} ({', '.join(details)})" if details else self.what


@dataclass(frozen=True)
class CleanText:
    """The text of a file, cleaned."""

    lines: tuple[str, ...]
    originals: tuple[str, ...]
    """The lines as they are in the file, decoded."""
    taken_off: tuple[TakenOff, ...] = ()
    ends_open: bool = False
    """True if the last line has no end: the text may be cut off within it."""

    @property
    def text(self) -> str:
        """The cleaned lines as one text."""
        is_open = not self.lines or (self.ends_open and self.lines[-1])
        return "\n".join(self.lines) + ("" if is_open else "\n")


def clean_text(data: bytes) -> CleanText:
    """The cleaned text of a file's bytes. Raises BenchError for bytes that are not text."""
    text, encoding = decoding.decode(data)
    text = text.removeprefix("\ufeff")
    originals = tuple(split_lines(text))
    ends_open = not text.endswith(("\n", "\r"))
    whole = () if encoding is None else (TakenOff(encoding),)
    if _is_json(text):
        return CleanText(originals, originals, whole)
    unwrapped = _log_records(originals)
    unquoted = _json_strings(unwrapped)
    lines, counts = _without_marks(unquoted)
    counts["quotation marks of JSON"] = sum(line != other for line, other in zip(unwrapped, unquoted, strict=True))
    counts["JSON around log lines"] = sum(line != other for line, other in zip(originals, unwrapped, strict=True))
    lines, kinds, example = prefixes.taken_off(lines)
    counts.update(kinds)
    if (around := _around_json(lines)) is not None:
        counts["lines around the JSON"] = sum(bool(line.strip()) for line in lines) - around[1]
        lines = around[0]
    hashed = [with_hash(line) for line in lines]
    counts["a lost # put back"] = sum(line != other for line, other in zip(lines, hashed, strict=True))
    taken = [TakenOff(what, number, example if what == "prefixes" else None) for what, number in counts.items()]
    return CleanText(tuple(hashed), originals, (*whole, *(row for row in taken if row.num_lines)), ends_open)


def split_lines(text: str) -> list[str]:
    """The lines as an editor counts them: form feeds and the like end none, unlike for `str.splitlines`."""
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def _log_records(lines: Sequence[str]) -> Sequence[str]:
    """The texts of records, if most lines are JSON objects with one: `{"log": "...", "stream": "stdout"}` of Docker."""
    texts = [_log_text(line) for line in lines]
    records = sum(text is not None for text in texts)
    if records < MIN_RECORDS or 2 * records < sum(bool(line.strip()) for line in lines):
        return lines
    return [line if text is None else text for line, text in zip(lines, texts, strict=True)]


def _json_strings(lines: Sequence[str]) -> Sequence[str]:
    """The texts of a list of JSON strings, if most lines are one: `"# nThread 1 ...",` of Ansible's stdout_lines."""
    texts = [_json_string(line) for line in lines]
    strings = sum(text is not None for text in texts)
    if strings < MIN_RECORDS or 2 * strings < sum(bool(line.strip()) for line in lines):
        return lines
    return [line if text is None else text for line, text in zip(lines, texts, strict=True)]


def _json_string(line: str) -> str | None:
    text = line.strip().removesuffix(",")
    if len(text) < 2 or not text.startswith('"') or not text.endswith('"'):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value.replace("\n", " ") if isinstance(value, str) else None


def _log_text(line: str) -> str | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    values = [record.get(key) for key in _LOG_KEYS] if isinstance(record, dict) else []
    text = next((value for value in values if isinstance(value, str)), None)
    return None if text is None else text.rstrip("\r\n").replace("\n", " ")


def _is_json(text: str) -> bool:
    """Whole JSON of an object has nothing around it."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _without_marks(lines: Iterable[str]) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    result = []
    for line in lines:
        for what, without in MARKS:
            cut = without(line)
            counts[what] += cut != line
            line = cut
        result.append(line)
    return result, counts


def _around_json(lines: list[str]) -> tuple[list[str], int] | None:
    """The lines with those before and after a JSON object emptied, and the number of its own; None if there is none."""
    text = "\n".join(lines)
    if '"' not in text or "{" not in text:
        return None
    found = list(_result_objects(text))
    if len(found) != 1:  # of several, none is the one that is meant
        return None
    start, end = found[0]
    first, last = text.count("\n", 0, start), text.count("\n", 0, end)
    kept = [line if first <= index <= last else "" for index, line in enumerate(lines)]
    kept[last] = kept[last][: end - (text.rfind("\n", 0, end) + 1)]
    return kept, sum(bool(line.strip()) for line in kept)


def num_result_objects(text: str) -> int:
    """Number of JSON objects of a text that a tool wrote as its result."""
    return sum(1 for _ in _result_objects(text)) if '"' in text and "{" in text else 0


_START = re.compile(r"^\s*\[?\s*\{", re.M)
_NEXT = re.compile(r"\s*,?\s*\{")
"""Beginning of a JSON object that follows another, as in a list."""


def _result_objects(text: str) -> Iterator[tuple[int, int]]:
    """Beginning and end of each JSON object that a tool wrote as its result: at the start of a line, or in a list."""
    after, match = 0, _START.search(text)
    while match is not None:
        after = match.end()
        try:
            value, end = json.JSONDecoder().raw_decode(text, match.end() - 1)
        except (ValueError, RecursionError):
            match = _START.search(text, after)
            continue
        if isinstance(value, dict):
            after = end
            if _RESULTS & value.keys():
                yield match.end() - 1, end
        match = _NEXT.match(text, after) or _START.search(text, after)
