"""Decoding of a result file's lines: bytes to checked structures, or one line that says what is wrong, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import BenchError
from bench.records.lines.header import PlanRow
from bench.records.lines.kinds import Choices, End, Header, Joined, Line, Measurement, Resume

KINDS: dict[str, type[Any]] = {
    "header": Header,
    "measurement": Measurement,
    "choices": Choices,
    "resume": Resume,
    "ranks": Joined,
    "end": End,
}


class _KindOnly(msgspec.Struct):
    kind: str | None = None


_KIND = msgspec.json.Decoder(_KindOnly)
_SPAN_FIELDS = 7
"""Fields of every span; those of communication have more."""
_LINE = msgspec.json.Decoder(Line)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def kind_of(line: bytes) -> str | None:
    """The kind that a line says it is of; None if it is torn, or no record of a kind."""
    try:
        return _KIND.decode(line).kind
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def field_of(line: bytes, name: str) -> Any:
    """A field of a line as plain JSON; None if there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(_FIELDS.decode(line)[name])
    except (KeyError, msgspec.DecodeError, RecursionError):
        return None


def changed(line: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """A line with its record changed, as an upgrade from an older schema does."""
    return msgspec.json.encode(change(msgspec.json.decode(line)))


def decode(path: Path, number: int, line: bytes) -> Line:
    """The structure of a line of a known kind. Raises BenchError for a field that is missing or wrong."""
    try:
        decoded: Line = _LINE.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        kind = kind_of(line)
        raise BenchError(
            f"{str(path)!r}: record {number}, a {kind}, cannot be read: {_plain(str(error))}; take the original file"
        ) from error
    return decoded


def _plain(text: str) -> str:
    """The message of msgspec with the field's place first: `variants.full.calls: Expected ...`."""
    match = re.fullmatch(r"(.*?)(?: - at `(?:key in )?`?\$\.?(.*?)`)?", text, re.DOTALL)
    what, place = (match[1], match[2]) if match else (text, None)
    return f"{place}: {what}" if place else what


def complaint(record: dict[str, Any]) -> str | None:
    """Complaint of a reader about a record that is about to be written; None if it would take all of it."""
    try:
        _LINE.decode(json.dumps(record, allow_nan=False))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return _plain(str(error))
    return None


def unknown_fields(kind: str, line: bytes) -> Iterable[str]:
    """Names of the line's own fields that this program does not know."""
    return [name for name in _FIELDS.decode(line) if name not in _known(kind)]


def unknown_plan_fields(line: bytes) -> list[str]:
    """Names of fields of a header's plan that this program does not know."""
    plan = _FIELDS.decode(_FIELDS.decode(line)["plan"])
    return [name for name in plan if name not in PlanRow.__struct_fields__]


@cache
def _known(kind: str) -> frozenset[str]:
    return frozenset(("kind", *KINDS[kind].__struct_fields__))


def plain(line: Line) -> dict[str, Any]:
    """A line as plain values, as JSON has it: fields that were left out are left out."""
    fields: dict[str, Any] = msgspec.to_builtins(line)
    if fields.get("spans"):
        fields["spans"] = [row if any(row[_SPAN_FIELDS:]) else row[:_SPAN_FIELDS] for row in fields["spans"]]
    return fields
