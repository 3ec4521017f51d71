"""Forms that values of environment variables may have: a value of another form is not kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_NUMBER = r"[+-]?(?:\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(?:e[+-]?\d{1,3})?|0x[0-9a-f]{1,16}"
_SIZE = r"\d{1,15}(?:\.\d{1,3})?\s?(?:[kmgtp]i?b?|b|[num]?s|%)"
_SWITCH = (
    r"true|false|on|off|yes|no|y|n|t|f|enabled?|disabled?|auto|none|inf|infinite|infinity|all|always|never|try|default"
    r"|force"
)
_SCALAR = rf"(?:{_NUMBER}|{_SIZE}|{_SWITCH})"
_DEVICE = r"(?:[+-]?\d{1,4}(?:[-:.]\d{1,4}){0,2}|(?:GPU|MIG)-[0-9a-f-]{4,60}(?:/\d+/\d+)?|all|none|void|NoDevFiles)"
_INTERFACE = r"[a-z][\w.@-]{1,14}"
_ADAPTER = _INTERFACE + r"(?::[\w.]{1,8}){0,4}"
_CPU_SET = r"[\d\s,:;|{}()\[\]!*+-]{1,400}"
_PATH = r"(?:~|\.{1,2})?(?:/[\w.@+,= -]{1,120})*/?|[\w.+-]{1,80}\.(?:so[\d.]*|xml|txt|log|json|conf|cfg|csv)"
_ARCHITECTURE = (
    r"\d{1,2}\.\d{1,2}(?:\.\d)?[a-f]?(?:\+PTX)?|(?:sm|gfx|compute)_?[0-9a-f]{2,5}(?::\w{4,8}[+-])?|[A-Z][a-z]{2,9}"
)
_TUNABLE = rf"glibc\.[a-z0-9_]{{1,20}}\.[a-z0-9_]{{1,40}}=(?:{_SCALAR}|[A-Z0-9_,+-]{{1,200}})"
_LIBRARY = r"(?:lib)?[a-z][\w.+-]{0,40}"
MAX_LENGTH = 1000


@dataclass(frozen=True)
class ValueForm:
    """A form of values."""

    name: str
    matches: Callable[[str], bool]
    names_places: bool = False
    """True if its values name interfaces, devices, addresses or files: no published copy has them."""


def _pattern(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.I | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _list_of(item: str, separators: str = ",") -> str:
    return rf"\s*(?:{item})?(?:\s*[{separators}]\s*(?:{item})?)*\s*"


def words(vocabulary: Iterable[str]) -> Callable[[str], bool]:
    """The check that every word of a value is a number, a switch, or one of these, whatever signs stand between."""
    known = {word.lower() for word in vocabulary}
    scalar = re.compile(_SCALAR, re.I)
    signs = re.compile(r"[^\w.%]+")

    def matches(text: str) -> bool:
        return all(part.lower() in known or scalar.fullmatch(part) for part in signs.split(text) if part.strip("."))

    return matches


FORMS: Mapping[str, ValueForm] = {
    form.name: form
    for form in (
        ValueForm("scalar", _pattern(rf"\s*{_SCALAR}?\s*")),
        ValueForm("scalars", _pattern(_list_of(_SCALAR, ",:;x "))),
        ValueForm("devices", _pattern(_list_of(_DEVICE)), names_places=True),
        ValueForm("interfaces", _pattern(r"[\^=]{0,2}" + _list_of(_INTERFACE)), names_places=True),
        ValueForm("adapters", _pattern(r"[\^=]{0,2}" + _list_of(_ADAPTER)), names_places=True),
        ValueForm("path", _pattern(_list_of(_PATH, ":, ")), names_places=True),
        ValueForm("library", _pattern(rf"(?:{_LIBRARY})?|{_PATH}"), names_places=True),
        ValueForm("cores", _pattern(_CPU_SET)),
        ValueForm("tunables", _pattern(_list_of(_TUNABLE, ":"))),
        ValueForm("architectures", _pattern(_list_of(_ARCHITECTURE, ",; "))),
        ValueForm("version", _pattern(r"v?\d{1,6}(?:\.\d{1,8}){0,4}(?:[-+.][a-z]{0,8}\d{0,8}){0,3}")),
        ValueForm("address family", _pattern(r"AF_INET6?")),
    )
}  # fmt: skip
