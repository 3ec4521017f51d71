"""Hosts in texts: those of the run, their siblings, and others that look like hosts. Each gets a number.

A name that the run knows is found wherever it stands. Others are found by their form: a domain, a port behind the name,
a word such as `node` with a number, the stem of a known name with another number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bench.records.privacy.word_lists import words_of

PLACEHOLDER = re.compile(r"host(?:0|[1-9]\d{0,5})")
"""What stands for a host in a published copy."""

_WORD = re.compile(r"(?<![\w.-])[A-Za-z0-9_][\w.-]*[\w]|(?<![\w.-])[A-Za-z]\b")
_GENERIC_DOMAINS = words_of("hosts", "generic_domains")
_COUNTRIES = words_of("hosts", "countries")
_CODE = words_of("hosts", "code")
_FILE_ENDINGS = words_of("hosts", "file_endings")
_NO_HOST_BEFORE_PORT = words_of("hosts", "no_host_before_port")
_HOST_NOUN = re.compile(
    r"(?i)(?:[a-z0-9]{1,20}[-_]){0,4}(?:gpu|cpu|hpc|compute|login|slurm|k8s|ml|ai|dl)?[-_]?"
    r"(?:node|host|login|worker|master|server|srv|dgx|hgx|rack|blade|gpunode|nid|head|bastion|gateway|frontend|storage|mgmt)"
    r"[-_]?\d{1,6}[a-z]{0,2}(?:-[a-z0-9]{1,12}){0,3}"
)
_OTHER_NAMES = re.compile(
    r"(?i)ip-\d+-\d+-\d+-\d+|[a-z]{1,4}\d{1,4}[nc]\d{1,4}|vm-[0-9a-f]{6,}"
    r"|(?:dgx|hgx|gpu|cpu|compute|rack|cn|hpc|[a-z]{0,12}node)(?:-[a-z]{0,3}\d{1,4}){2,3}"
)
_NO_HOST = re.compile(
    r"(?i)(?:h|a|b|gh|gb|mi|l|v|t|rtx|sm|gfx|xeon|epyc|nvidia|amd|tesla|intel|compute|sxm|hbm|rank|gpu|cpu|core|cuda|avx)[-_\w]*"
    r"|\d.*|(?:fp|bf|int|uint|float)\d+|.*-(?:bit|byte|way|core|dirty)"
)
_RANK_HOST = re.compile(r"\brank \d+ \((?P<host>[^()\s]{1,253})\)|\brank \d+ on (?P<on>[\w.-]{1,253})")
_PORT = re.compile(r":\d{2,5}(?![\w:.])")


class HostNumbers:
    """Numbers of the hosts that a file names, in the order in which they were met."""

    def __init__(self, known: Iterable[str | None]) -> None:
        self._numbers: dict[str, str] = {}
        names = list(dict.fromkeys(name for name in known if name))
        # In a copy that is published already every host has its number.
        self.is_published = all(PLACEHOLDER.fullmatch(name) for name in names)
        self._exact: dict[str, str] = {}
        """Names as fields have them: two that only differ in their case, or in their domain, are two hosts."""
        for index, name in enumerate(names):
            full = _folded(name)
            self._exact[name] = self._numbers[full] = name if self.is_published else f"host{index}"
            self._numbers.setdefault(full.partition(".")[0], self._exact[name])
        self._stems = frozenset(filter(None, map(_stem, () if self.is_published else self._numbers)))
        self._odd = sorted((n for n in names if not re.fullmatch(r"[\w.-]+", n)), key=len, reverse=True)

    def add(self, name: str) -> str:
        """The number of a host by its full or its first name; a new one if it was not met yet."""
        full, first = _folded(name), _folded(name).partition(".")[0]
        if full not in self._numbers:
            taken = set(self._numbers.values())
            number = self._numbers.get(first) if "." in full and first in self._numbers else None
            self._numbers[full] = number or next(
                f"host{n}" for n in range(len(taken), 10**6) if f"host{n}" not in taken
            )
        self._numbers.setdefault(first, self._numbers[full])
        return self._numbers[full]

    def number(self, name: str) -> str:
        """The number of a host that a field names."""
        if self.is_published and PLACEHOLDER.fullmatch(name):
            return name
        return self._exact.get(name) or self.add(name)

    @property
    def num_renamed(self) -> int:
        """Hosts that have a number in place of their name."""
        return len({number for name, number in {**self._numbers, **self._exact}.items() if name != number})

    def __contains__(self, name: str) -> bool:
        return _folded(name) in self._numbers

    def replace(self, text: str, is_identity: bool = False) -> str:
        """The text with numbers for hosts.

        In an identity a known name that may be any word, such as `compute`, is left alone.
        """
        named = {name.lower() for name in self._placed_names(text)}

        def numbered(match: re.Match[str]) -> str:
            word, behind = match[0], text[match.end() : match.end() + 8]
            is_meant = word.lower() in named or self._is_meant(word, behind, is_identity)
            return self.number(self._known_name(word)) if is_meant else word

        for name in self._odd:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", self.number(name), text)
        return _WORD.sub(numbered, text)

    def _placed_names(self, text: str) -> Iterator[str]:
        """Names at places where the product's own messages have a host."""
        for match in _RANK_HOST.finditer(text):
            name = match["host"] or match["on"]
            if _WORD.fullmatch(name) and not _is_plain_number(name) and name.lower() not in _NO_HOST_BEFORE_PORT:
                yield name

    def _is_meant(self, word: str, behind: str, is_identity: bool) -> bool:
        folded = _folded(word)
        first = folded.partition(".")[0]
        if self.is_published and PLACEHOLDER.fullmatch(word):
            return False
        if folded in self._numbers or (first in self._numbers and not _is_code(folded)):
            is_telling = any(re.search(r"[\d.-]", name) for name in (first, folded) if name in self._numbers)
            if is_telling or not is_identity:
                return True
        return self._looks_like_host(word, behind)

    def _known_name(self, word: str) -> str:
        """The word, or its first part if that alone is known, behind which any domain may stand."""
        folded = _folded(word)
        first = folded.partition(".")[0]
        return first if folded not in self._numbers and first in self._numbers else word

    def _looks_like_host(self, word: str, behind: str) -> bool:
        first, _, domain = word.lower().partition(".")
        if _is_plain_number(word) or _is_code(word.lower()):
            return False
        if domain and _is_domain(word.lower()):
            return True
        if _stem(first) in self._stems and not domain.isdigit():
            return True
        if _HOST_NOUN.fullmatch(first) and not PLACEHOLDER.fullmatch(word):
            return True
        if _HOST_NOUN.fullmatch(first) and not self.is_published:
            return True
        if _OTHER_NAMES.fullmatch(first) and not _NO_HOST.fullmatch(first):
            return True
        port = _PORT.match(behind)
        return (
            port is not None
            and "_" not in word
            and word.lower() not in _NO_HOST_BEFORE_PORT
            and _is_port(word, port[0])
        )


def _is_port(word: str, port: str) -> bool:
    number = int(port[1:])
    return (
        number >= 1024
        or number in (22, 53, 80, 111, 389, 443, 514, 636, 873)
        or re.search(r"[a-z]-?\d", word, re.I) is not None
    )


def _folded(name: str) -> str:
    """`node07` of `NODE_07` and `node-07`: one spelling of a host."""
    return re.sub(r"(?<=[a-z])[-_](?=\d)", "", name.lower().rstrip(".")).replace("_", "-")


def _stem(name: str) -> str:
    """`gpu-node-` of `GPU_NODE_017`, `gpu-node-17b` and `gpu-node17`: what numbered siblings share."""
    match = re.match(r"(.*?[a-z])-?\d+[a-z]{0,2}$", _folded(name).partition(".")[0])
    return match[1] if match and len(match[1]) > 1 else ""


def _is_plain_number(word: str) -> bool:
    return re.fullmatch(r"[\d._-]+", word) is not None


def _is_code(word: str) -> bool:
    """True for a name of code or of a file: `torch.nn.Linear`, `mine.py`, `libnccl.so.2`."""
    parts = word.split(".")
    return len(parts) > 1 and (parts[0] in _CODE or parts[-1] in _FILE_ENDINGS or ".so." in word)


def _is_domain(word: str) -> bool:
    parts = word.split(".")
    if not all(re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", part) for part in parts) or parts[-1].isdigit():
        return False
    if parts[-1] in _GENERIC_DOMAINS:
        return True
    return parts[-1] in _COUNTRIES and len(parts) > 2 and not any(part.isdigit() for part in parts)
