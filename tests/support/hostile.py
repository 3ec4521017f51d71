"""Result files whose texts are hostile: every string that the schema leaves free, found by walking its types.

A field that the schema gains is filled and made hostile by itself. Names, numbers and words of fixed sets stay as they
are, since the reader refuses anything else there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from bench.records.lines import decoding
from tests import DATA
from tests.support.damage import Line, lines_of, text_of

EVIL = "evil"
"""Word in names of elements and attributes, commands and addresses of hostile texts, to be looked for."""
TEXTS = [
    "", " ", "\x00", "\x07\x1b]0;evil\x07", "\x1b[2J\x1b[31m", "\x9b31m", "\x85evil", "a\nb\rc\td\x0be\x0cf", "\x7f",
    "\u2028x\u2029", "\u202eevil\u2066", "\u200bx\u200d\u2060\ufeff", "\u3164", "\ufe0f",
    "\U000e0041", "\uffff", "\ue000", "::error::evil", " ::add-mask::evil", "\n::set-output name=evil::b",
    "x\r\n::stop-commands::evil", "##[error]evil",
    "x ##vso[task.setvariable variable=evil]y", "##teamcity[evil name='x']",
    "section_start:1:evil\r\x1b[0K", "+++ evil",
    "long words before " * 6 + "::error::evil " * 6, "a/" * 50 + "::warning::evil",
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "x;=cmd|' /C evil'!A0", "|=1", "＝1+1", '"=1+1', "x\",=1+1",
    "<script>evil()</script>", '"><evil a="b">', "'><img src=x onerror=evil()>", "</style><evil>", "</svg><evil>",
    "<!--", "-->", "]]>", "<![CDATA[<evil>]]>", "&lt;evil&gt;", "&#x3c;evil>",
    "javascript:evil()", "{{ 7*7 }}", "{% evil %}",
    '" onmouseover="evil()', "<meta http-equiv=refresh content=evil>", "<p class=evil>", "</td></table><evil>",
    "[evil](http://evil.example)", "![evil](http://evil.example/x.png)", "[evil]: http://evil.example", "[evil][x]",
    "http://evil.example", "www.evil.example", "evil@evil.example", "<http://evil.example>", "mailto:evil@evil.example",
    "@evil", "#1", "evil/evil#1", "!1", "GH-1", "# evil", "- evil", "1. evil", "> evil", "    evil",
    "```", "~~~", "---", "===", "`evil`", "**evil**", "_evil_", "~~evil~~", "$evil$", "|evil|", "a|b",
    "\\", "\\|", "a\\", "evil\\\n",
    "../../evil", "/../../../evil", "/etc/passwd", "..", ".", "C:\\evil", "evil; rm -rf x", "$(evil)", "`evil`;", "-rf",
    "--evil", "'", '"', "a b", "{}", "{0}", "%s", "%n", "%0A::error::evil", "_evil", r"$\frac{", "\\u0041", "nan", "-0",
    "\u05d0\u05d1", "e\u0301" * 20, "漢" * 90, "a" * 3000,
    f"collective/all_reduce[num_bytes={'9' * 5000}]", "collective/all_reduce[num_bytes=\u00b2]", "compute/[=]",
    "x" * 40_000,
]  # fmt: skip
"""Texts that some form of output takes for its own."""
NUMBERS = ["evil", "", "9" * 5000, "1", "\u00b2", True, False, -1, 0, 0.5, 2**62, 1e100, -1e100]
"""In the place of a parameter that is a number or a flag in our own suites."""


def value_of(kind: inspect.Type, words: Iterator[int], depth: int = 0) -> Any:
    """A plain value of a type, with each part that it may have; free texts are all different."""
    if isinstance(kind, inspect.UnionType):
        order = (inspect.DictType, inspect.ListType, inspect.StructType, inspect.StrType, inspect.CustomType)
        deep = depth > 3
        options = [each for wanted in (order[2:] if deep else order) for each in kind.types if isinstance(each, wanted)]
        return value_of((options or [e for e in kind.types if not isinstance(e, inspect.NoneType)])[0], words, depth)
    for type_, make in _VALUES.items():
        if isinstance(kind, type_):
            return make(kind, words, depth + 1)
    raise AssertionError(f"{kind}: the test knows no value of this type")


def _struct(kind: Any, words: Iterator[int], depth: int) -> Any:
    values = {field.encode_name: value_of(field.type, words, depth) for field in kind.fields}
    tag = {kind.tag_field: kind.tag} if kind.tag_field else {}
    return list(values.values()) if kind.array_like else tag | values


def _number(kind: Any, words: Iterator[int], depth: int) -> Any:
    return max(1, kind.ge or 0)


_VALUES: dict[Any, Callable[[Any, Iterator[int], int], Any]] = {
    inspect.StructType: _struct,
    inspect.NamedTupleType: lambda kind, words, depth: [value_of(each.type, words, depth) for each in kind.fields],
    inspect.StrType: lambda kind, words, depth: f"text {next(words)}" if kind.pattern is None else f"name{next(words)}",
    inspect.BoolType: lambda kind, words, depth: True,
    inspect.IntType: _number,
    inspect.FloatType: lambda kind, words, depth: 0.5,
    inspect.LiteralType: lambda kind, words, depth: kind.values[0],
    inspect.ListType: lambda kind, words, depth: [
        value_of(kind.item_type, words, depth) for _ in range(max(1, kind.min_length or 0))
    ],
    inspect.TupleType: lambda kind, words, depth: [value_of(each, words, depth) for each in kind.item_types],
    inspect.DictType: lambda kind, words, depth: {
        value_of(kind.key_type, words, depth): value_of(kind.value_type, words, depth)
    },
    inspect.CustomType: lambda kind, words, depth: [1000],
    inspect.NoneType: lambda kind, words, depth: None,
}


def fill(value: Any, kind: inspect.Type, words: Iterator[int], is_right: Callable[[], bool]) -> None:
    """Give a plain value each field that it lacks, at any depth, as long as the whole stays right."""
    if isinstance(kind, inspect.UnionType):
        for option in kind.types:
            fill(value, option, words, is_right)
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        for field in kind.fields:
            if value.get(field.encode_name) in (None, [], {}, ""):
                before = value.get(field.encode_name)
                value[field.encode_name] = value_of(field.type, words)
                if not is_right():
                    value[field.encode_name] = before
                if not is_right():
                    del value[field.encode_name]
            elif field.encode_name in value:
                fill(value[field.encode_name], field.type, words, is_right)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for item in value.values():
            fill(item, kind.value_type, words, is_right)
    elif isinstance(kind, inspect.ListType) and isinstance(value, list):
        for item in value:
            fill(item, kind.item_type, words, is_right)


@cache
def full_lines() -> tuple[Line, ...]:
    """Lines of a file in which every field of every kind of line is filled, as far as they may stand together."""
    words = iter(range(10**6))
    seed = json.loads(json.dumps(lines_of(DATA / "schema1.jsonl")).replace("4194304", str(2**28)))
    measured = [line for line in seed if line["kind"] == "measurement" and not line["case"].startswith("faulty/raise")]
    others = [
        value_of(inspect.type_info(decoding.KINDS[kind]), words) for kind in ("ranks", "choices", "resume", "end")
    ]
    lines = [seed[0], *measured[:11], *measured[12:15], *others]
    for line in lines:
        kind = inspect.type_info(decoding.KINDS[line["kind"]])
        if line["kind"] == "measurement" and line["status"] == "ok":
            _trace(line)
            line["tables"] = _TABLES
        fill(line, kind, words, lambda line=line: _is_right(line))  # type: ignore[misc]
        assert _is_right(line), line["kind"]
    lines[-4]["environment"] = {"architecture": "text of ranks"}
    lines[-4]["plan"] = lines[-4]["doctor"] = None
    return tuple(lines)


_TABLES = {
    "pairs": {
        "title": "title of pairs",
        "columns": ["from", "GB/s end0", "GB/s end1"],
        "rows": [["end0", None, 1.5], ["end1", 1.25, None]],
        "notes": ["note of pairs"],
    },
    "parts": {"columns": ["rank", "part0 ms", "step ms"], "rows": [["rank0", 1.0, 3.0], ["rank1", 2.0, 3.0]]},
    "series": {"columns": ["until s", "host", "speed"], "rows": [[0.0, "host0", 2.0], [1.0, "host0", 1.9]]},
}
"""Tables that are drawn."""


def _trace(line: Line) -> None:
    """Give a case of which no call was traced one span of a kind."""
    if not line["traced_call_ns"]:
        line["traced_call_ns"] = [[2000] for _ in range(line["num_ranks"])]
        line["spans"] = [
            [rank, 0, f"span {n}", 900 * n, 500, 1, n] for rank in range(line["num_ranks"]) for n in (0, 1)
        ]
        if not _is_right(line):
            line["spans"], line["traced_call_ns"] = [], []


def _is_right(line: Line) -> bool:
    try:
        decoding.decode(json.dumps(line).encode())
    except decoding.UnreadableLineError:
        return False
    return True


def free_texts(value: Any, kind: inspect.Type, are_free: bool = True) -> Iterator[str]:
    """Texts of a plain value that the schema leaves free, keys of tables among them; or those that it does not."""
    if isinstance(kind, inspect.UnionType):
        for option in kind.types:
            yield from free_texts(value, option, are_free)
    elif isinstance(kind, inspect.StrType | inspect.LiteralType) and isinstance(value, str):
        if (isinstance(kind, inspect.StrType) and kind.pattern is None) == are_free:
            yield value
    elif isinstance(kind, inspect.StructType | inspect.NamedTupleType) and isinstance(value, dict | list):
        items = value if isinstance(value, list) else [value.get(field.encode_name) for field in kind.fields]
        for item, field in zip(items, kind.fields, strict=False):
            yield from free_texts(item, field.type, are_free)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for key, item in value.items():
            yield from (*free_texts(key, kind.key_type, are_free), *free_texts(item, kind.value_type, are_free))
    elif isinstance(kind, inspect.ListType | inspect.TupleType) and isinstance(value, list):
        types = kind.item_types if isinstance(kind, inspect.TupleType) else [kind.item_type] * len(value)
        for item, each in zip(value, types, strict=False):
            yield from free_texts(item, each, are_free)


@cache
def all_free_texts() -> tuple[str, ...]:
    return tuple(dict.fromkeys(_all_texts(are_free=True)))


@cache
def _fixed_texts() -> frozenset[str]:
    return frozenset(_all_texts(are_free=False))


def _all_texts(are_free: bool) -> Iterator[str]:
    for line in full_lines():
        yield from free_texts(line, inspect.type_info(decoding.KINDS[line["kind"]]), are_free)


def replaced(value: Any, new: dict[str, str]) -> Any:
    """A plain value with texts replaced; equal ones stay equal, so that hosts and cases still fit together."""
    if isinstance(value, dict):
        return {replaced(key, new) if key not in _FIELDS else key: replaced(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, new) for item in value]
    return new.get(value, value) if isinstance(value, str) else value


@cache
def _fields() -> frozenset[str]:
    """Names of fields of the schema, and its words and names of fixed form."""

    def walk(kind: inspect.Type, seen: set[Any]) -> Iterator[str]:
        if isinstance(kind, inspect.StructType | inspect.NamedTupleType) and kind.cls not in seen:
            seen.add(kind.cls)
            yield from (field.encode_name for field in kind.fields)
            for field in kind.fields:
                yield from walk(field.type, seen)
        for part in (*getattr(kind, "types", ()), *getattr(kind, "item_types", ())):
            yield from walk(part, seen)
        for name in ("item_type", "key_type", "value_type"):
            if hasattr(kind, name):
                yield from walk(getattr(kind, name), seen)
        if isinstance(kind, inspect.LiteralType):
            yield from map(str, kind.values)

    seen: set[Any] = set()
    return frozenset(
        {"kind", *(name for each in decoding.KINDS.values() for name in walk(inspect.type_info(each), seen))}
    )


_FIELDS = _fields()


def _alike(text: str, hostile: str) -> str:
    """The hostile text with the beginning or end by which readers know what the other is about."""
    start = next((start for start in ("GB/s ", text.partition("/")[0] + "/") if text.startswith(start)), "")
    return start + hostile + (" ms" if text.endswith(" ms") else "")


@dataclass(frozen=True)
class HostileFile:
    """A result file in which few, many or all of the free texts are hostile."""

    seed: int
    share: float
    more: tuple[str, ...]
    """Texts beside those of the list."""
    are_halves: bool
    """True: halves of pairs of UTF-16, which no text has, so that the file is refused."""

    def text(self) -> str:
        chance = random.Random(self.seed)
        texts = [*TEXTS, *self.more * 10] if self.share < 1 else [*TEXTS[:-1], *self.more * 10]
        texts = ["\ud800", "a\udfffb"] if self.are_halves else texts
        fixed = _FIELDS | _fixed_texts() | set(decoding.KINDS)
        new = {}
        for text in all_free_texts():
            if text not in fixed and chance.random() < self.share:
                joined = chance.choice(texts) + (chance.choice(texts) if chance.random() < 0.2 else "")
                unique = joined if chance.random() < 0.5 else f"{joined}{len(new)}"
                new[text] = unique if chance.random() < 0.5 else _alike(text, unique)
        lines = [replaced(line, new) for line in full_lines()]
        if not self.are_halves:
            _spoil_numbers(lines, chance, self.share / 10)
        return text_of(lines)


def _spoil_numbers(lines: list[Line], chance: random.Random, share: float) -> None:
    """Take other values for some parameters that are numbers or flags in our own suites."""
    for params in (line["params"] for line in lines if "params" in line):
        for name in [name for name, value in params.items() if not isinstance(value, str)]:
            if chance.random() < share:
                params[name] = chance.choice(NUMBERS)


HOSTILE_FILES = st.builds(
    HostileFile,
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.02, 0.2, 0.2, 0.6, 1.0]),
    more=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=3).map(tuple),
    are_halves=st.integers(0, 24).map(lambda number: number == 24),
)
