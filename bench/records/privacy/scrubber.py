"""Texts of one file made fit to be published: hosts numbered; names of machines, people and places taken out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from bench.core.masking.placeholders import MASKED, REMOVED
from bench.core.masking.secret_forms import mask_secrets
from bench.records.privacy.addresses import COMMON_USERS, PRIVATE, USERS, Private
from bench.records.privacy.hosts import HostNumbers

_PROGRAM = re.compile(r"(?P<name>[^,:;()]{1,64}?) (?=\d+\.\d cores?\b)|(?P<gpu>[^,:;()]{1,64}) \(\d+\)(?= on GPU \d)")
_HOLDER = re.compile(r"(?<=\bby )[^()]{1,64} \(process \d+: .{0,500}?\)(?=; |$)", re.MULTILINE)
"""Another program that holds a port, with its command line."""
_KNOWN_PROGRAMS = ("short-lived or unseen processes", "a program")


class Scrubber:
    """Scrubs the texts of one file, and counts what it takes out by kind. Ranks by the thousand say the same."""

    def __init__(self, hosts: HostNumbers, interfaces: Iterable[str] = (), label: str = "") -> None:
        self.hosts = hosts
        self.counts: Counter[str] = Counter()
        self._users: set[str] = set()
        self._label = label if re.search(r"[\W\d_]", label) and len(label) > 3 else ""
        self._names = _word_pattern(interfaces)
        self._people = _word_pattern(())
        self._done: dict[tuple[str, bool], tuple[str, Counter[str]]] = {}

    def learn(self, text: str) -> None:
        """Take note of the names of users in a text, which other texts may have alone."""
        for match in USERS.finditer(text) if len(text) > 5 else ():
            name = next(filter(None, match.groups()), "").strip(".").lower()
            if len(name) > 2 and name not in COMMON_USERS and not name.isdigit():
                self._users.add(name)

    def begin(self) -> None:
        """End learning."""
        self._people = _word_pattern(self._users)

    def text(self, text: str, is_identity: bool = False) -> str:
        """One text, scrubbed; of an identity, a case's id or a parameter, no word is taken for a host by its form."""
        key = text, is_identity
        if key not in self._done:
            counts: Counter[str] = Counter()
            scrubbed = self._scrub(text, is_identity, counts)
            self._done[key] = scrubbed, +counts
        scrubbed, counts = self._done[key]
        if counts:
            self.counts.update(counts)
        return scrubbed

    def _scrub(self, text: str, is_identity: bool, counts: Counter[str]) -> str:
        masked = mask_secrets(text)
        counts["secrets"] += masked.count(MASKED) - text.count(MASKED)
        text = masked
        if self._label and not is_identity:
            text, found = re.subn(rf"(?<!\w){re.escape(self._label)}(?!\w)", "label0", text)
            counts["labels"] += min(found, 1)
        for private in PRIVATE:
            text, found = _remove(text, private)
            counts[private.kind] += found
        text = self.hosts.replace(text, is_identity)
        for kind, pattern in (("network interfaces", self._names), ("names of users", self._people)):
            text, found = pattern.subn(REMOVED, text)
            counts[kind] += found
        text, found = _HOLDER.subn("a program", text)
        counts["names of programs"] += found
        if not is_identity and (" cores" in text or " on GPU " in text):
            text, found = _remove_programs(text)
            counts["names of programs"] += found
        return text


def _remove(text: str, private: Private) -> tuple[str, int]:
    found = 0

    def removed(match: re.Match[str]) -> str:
        nonlocal found
        if not private.is_meant(match):
            return match[0]
        found += 1
        named = match.groupdict().get("id") or match[0]
        return match[0].removesuffix(named) + REMOVED

    return private.pattern.sub(removed, text), found


def _remove_programs(text: str) -> tuple[str, int]:
    found = 0

    def removed(match: re.Match[str]) -> str:
        nonlocal found
        name = (match["name"] or match["gpu"] or "").strip()
        if name in _KNOWN_PROGRAMS or re.search(r"\d of$|\buse$", name):
            return match[0]
        found += 1
        blanks = match[0][: len(match[0]) - len(match[0].lstrip())]
        return f"{blanks}a program " if match["name"] else f"{blanks}a program"

    return _PROGRAM.sub(removed, text), found


def _word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    names = sorted((re.escape(word) for word in words if word), key=len, reverse=True)
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?![\w-])" if names else r"(?!)", re.I)
