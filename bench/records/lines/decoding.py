"""Decoding of a result file's lines: bytes to checked structures, or one line that says what is wrong, and where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from bench.records.lines.kinds import Choices, End, Header, Joined, Line, Measurement, Resume
from bench.records.lines.parts import decode_numbers, encode_numbers

KINDS: dict[str, type[Line]] = {
    "header": Header,
    "measurement": Measurement,
    "choices": Choices,
    "resume": Resume,
    "ranks": Joined,
    "end": End,
}


class UnreadableLineError(ValueError):
    """A line is not JSON, of an unknown kind, or has a field that is unknown, missing or wrong."""


class _KindOnly(msgspec.Struct):
    kind: str | None = None


_KIND = msgspec.json.Decoder(_KindOnly)
_LINE = msgspec.json.Decoder(Line, dec_hook=decode_numbers)
_ENCODER = msgspec.json.Encoder(enc_hook=encode_numbers)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeError)


def encode(line: Line) -> bytes:
    """One line of a file, without its newline. A number that is not finite becomes null, which is unknown."""
    return _ENCODER.encode(line)


def decode(line: bytes) -> Line:
    """Structure of a line. Raises UnreadableLineError, which says what is wrong, and in which field."""
    try:
        decoded: Line = _LINE.decode(line)
    except _ERRORS as error:
        raise UnreadableLineError(_plain(str(error))) from error
    return decoded


def kind_of(line: bytes) -> str | None:
    """The kind that a line says it is of; None if it is torn, or no record of a kind."""
    try:
        return _KIND.decode(line).kind
    except _ERRORS:
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


def decode_known(line: bytes) -> tuple[Line, list[str]]:
    """Structure of a line without the fields that this program does not know, and their names with their places.

    Takes several times as long as `decode`. Raises UnreadableLineError if what is left is wrong.
    """
    try:
        value = msgspec.json.decode(line)
    except _ERRORS:
        return decode(line), []  # which says in which field
    try:
        names = list(dict.fromkeys(_drop_unknown(value, _line_type(value["kind"]), value["kind"])))
        decoded: Line = msgspec.convert(value, Line, dec_hook=decode_numbers)
    except _ERRORS as error:
        raise UnreadableLineError(_plain(str(error))) from error
    return decoded, names


def plain(line: Line) -> dict[str, Any]:
    """A line as plain values, as JSON has it; unknown fields are left out."""
    fields: dict[str, Any] = msgspec.to_builtins(line, enc_hook=encode_numbers)
    return fields


def structure(fields: dict[str, Any]) -> Line:
    """The line of plain values. Raises UnreadableLineError as `decode`."""
    try:
        line: Line = msgspec.convert(fields, Line, dec_hook=decode_numbers)
    except _ERRORS as error:
        raise UnreadableLineError(_plain(str(error))) from error
    return line


def _plain(text: str) -> str:
    """The message of msgspec with the field's place first: `variants.full.calls: Expected ...`."""
    match = re.fullmatch(r"(.*?)(?: - at `(?:key in )?`?\$\.?(.*?)`)?", text, re.DOTALL)
    what, place = (match[1], match[2]) if match else (text, None)
    return f"{place}: {what}" if place else what


@cache
def _line_type(kind: str) -> inspect.Type:
    return inspect.type_info(KINDS[kind])


def _drop_unknown(value: Any, kind: inspect.Type, place: str) -> Iterator[str]:
    """Take fields that the type does not have out of plain values, at any depth; yields where each was."""
    if isinstance(kind, inspect.UnionType):
        for option in kind.types:
            yield from _drop_unknown(value, option, place)
    elif isinstance(kind, inspect.StructType) and kind.array_like and isinstance(value, list):
        if len(value) > len(kind.fields):
            del value[len(kind.fields) :]
            yield f"{place}[{len(kind.fields)}]"
    elif isinstance(kind, inspect.StructType) and not kind.array_like and isinstance(value, dict):
        types = {field.encode_name: field.type for field in kind.fields}
        for name in [name for name in value if name not in types and name != kind.tag_field]:
            del value[name]
            yield f"{place}.{name}"
        for name, item in value.items():
            if name in types:
                yield from _drop_unknown(item, types[name], f"{place}.{name}")
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for item in value.values():
            yield from _drop_unknown(item, kind.value_type, place)
    elif isinstance(kind, inspect.ListType) and isinstance(value, list):
        for item in value:
            yield from _drop_unknown(item, kind.item_type, place)
