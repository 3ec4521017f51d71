"""Walk through a line of a result file by the schema's types, and change its texts; numbers are not looked at.

Only parts that change are copied: the arrays of a shared file are those of the private one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import inspect

from bench.suite import NAME

NAME_IN_PLACE = "masked"
"""In place of a masked text of which no letter may stay, among names."""


@cache
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, inspect.Type]:
    """Field of a structure -> its type."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return {field.name: field.type for field in described.fields}


def holds_text(kind: inspect.Type) -> bool:
    """True for a type of which a value can be, or have in it, a text that is not one of a few words."""
    return _holds_text(kind, frozenset())


def _holds_text(kind: inspect.Type, seen: frozenset[type]) -> bool:
    match kind:
        case inspect.Metadata():
            return _holds_text(kind.type, seen)
        case inspect.StrType():
            return True
        case inspect.UnionType():
            return any(_holds_text(option, seen) for option in kind.types)
        case inspect.ListType() | inspect.VarTupleType():
            return _holds_text(kind.item_type, seen)
        case inspect.TupleType():
            return any(_holds_text(item, seen) for item in kind.item_types)
        case inspect.DictType():
            return True
        case inspect.StructType():
            return kind.cls not in seen and any(_holds_text(f.type, seen | {kind.cls}) for f in kind.fields)
        case _:
            return False


@cache
def text_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Names of a structure's fields that can have a text in them."""
    return tuple(name for name, described in fields_of(kind).items() if holds_text(described))


@cache
def name_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Names of a structure's fields whose texts, or whose keys, are names of a safe alphabet."""
    return frozenset(name for name, described in fields_of(kind).items() if _has_names(described))


def _has_names(kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata():
            return _has_names(kind.type)
        case inspect.StrType():
            return kind.pattern is not None
        case inspect.DictType():
            return _has_names(kind.key_type)
        case inspect.ListType():
            return _has_names(kind.item_type)
        case _:
            return False


class TextWalk:
    """A walk that changes nothing; `change` and `prepare` of its kinds say what becomes of texts and records."""

    def change(self, text: str, place: str) -> str:
        """The text in the place of this one; the place is such as `Measurement.notes`.

        Keys of a table have `.key` behind its place; `key=text` together, of which the text is taken, `.item`.
        """
        return text

    def prepare(self, record: Any) -> Any:
        """The record, before its texts are changed."""
        return record

    def must_prepare(self, kind: type[msgspec.Struct]) -> bool:
        """True if `prepare` changes records of this type."""
        return False

    def walk(self, value: Any, place: str = "", is_name: bool = False) -> Any:
        """The value with its texts, and the keys of its tables, changed; itself if none changes."""
        if isinstance(value, str):
            changed = self.change(value, place)
            if changed == value:
                return value
            return _as_name(changed) if is_name else changed
        if isinstance(value, msgspec.Struct):
            return self._walk_record(value)
        if isinstance(value, dict):
            return self._walk_table(value, place, is_name)
        if isinstance(value, list | tuple):
            if self._repeats_same(value):
                return value
            items = [self.walk(item, place, is_name) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            if isinstance(value, list):
                return items
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _repeats_same(self, values: Sequence[Any]) -> bool:
        """True if structures, of which a case can have 100,000, repeat a few texts of which none changes."""
        if len(values) < 2 or not isinstance(values[0], msgspec.Struct) or self.must_prepare(type(values[0])):
            return False
        kind = type(values[0])
        try:
            found = {name: set(map(attrgetter(name), values)) for name in text_fields(kind)}
        except (TypeError, AttributeError):  # texts within texts, or structures of several kinds
            return False
        return all(
            isinstance(text, str) and self.change(text, f"{kind.__name__}.{name}") == text
            for name, texts in found.items()
            for text in texts - {None}
        )

    def _walk_record(self, record: msgspec.Struct) -> Any:
        kind = type(record)
        prepared: msgspec.Struct = self.prepare(record)
        new = {}
        for name in text_fields(kind):
            old = getattr(prepared, name)
            item = self.walk(old, f"{kind.__name__}.{name}", name in name_fields(kind))
            if item is not old:
                new[name] = item
        return msgspec.structs.replace(prepared, **new) if new else prepared

    def _walk_table(self, table: dict[str, Any], place: str, is_name: bool) -> dict[str, Any]:
        new: dict[str, Any] = {}
        is_same = True
        for key, item in table.items():
            changed, changed_item = self.walk(key, f"{place}.key", is_name), self._walk_item(key, item, place)
            is_same = is_same and changed == key and changed_item is item
            new[_free(changed, new)] = changed_item
        return table if is_same else new

    def _walk_item(self, key: str, item: Any, place: str) -> Any:
        """The item of a table; a text together with its key, which may say what it is: `{"password": "..."}`."""
        if not isinstance(item, str):
            return self.walk(item, place)
        before = f"{key}="
        changed = self.change(before + item, f"{place}.item")
        value = self.change(changed.removeprefix(before) if changed.startswith(before) else item, place)
        return item if value == item else value


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or it with a number: two keys that were masked stay two."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _as_name(text: str) -> str:
    """A masked text of the alphabet of names."""
    bare = "".join(character for character in text if NAME.fullmatch(character))
    return bare[:200] or NAME_IN_PLACE
