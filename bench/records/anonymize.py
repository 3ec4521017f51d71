"""Copies of results that are fit to be published: what names a machine, a person or a place is taken out.

A copy keeps the fields that `bench.records.privacy.share_rules` lists, and nothing else. Hosts and labels are numbered;
paths, addresses, names of people and of network interfaces, and secrets become `(removed)` or `(masked)` in every text.
Words that may be private are taken out; a free text may lose a harmless word by that. Every number stays as it is, and
so do the ids of cases, by which a copy is compared with other files. A copy of a copy is equal to it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from bench.core.masking.placeholders import MASKED, REMOVED
from bench.core.masking.secret_forms import mask_secrets
from bench.records.lines.header import Environment, PlanRow, SuiteFacts
from bench.records.lines.kinds import End, Header, Joined, Resume
from bench.records.privacy.hosts import HostNumbers
from bench.records.privacy.scrubber import Scrubber
from bench.records.privacy.share_rules import DEFAULT_LABELS, RULE_OF, Rule
from bench.records.privacy.shared_command import shared_command, shared_options, shared_value, without_path
from bench.records.privacy.typed_texts import TextWalk, fields_of

if TYPE_CHECKING:
    from bench.records.file import Result
    from bench.records.lines.kinds import Line

_FORMS = {
    Rule.VERSION: re.compile(r"v?\d[\w.+~-]{0,60}|none|unknown"),
    Rule.TIME: re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]{4,15}(?:Z|[+-]\d\d:?\d\d)?"),
    Rule.DIGEST: re.compile(r"[0-9a-f]{7,128}(?:-dirty)?"),
    Rule.RUN_ID: re.compile(r"[0-9a-f]{16}|"),
}
_SHARED_LABEL = re.compile(r"label\d+(?:-[ab])?")
_IDS = frozenset(("Measurement.case", "PlannedCase.id", "Choices.case"))


@dataclass
class Removed:
    """Things that a copy lacks, for the user who publishes it."""

    counts: Counter[str] = field(default_factory=Counter)
    """Kind, such as `paths` -> how many."""
    fields: Counter[str] = field(default_factory=Counter)
    """Field that was left out -> in how many records."""

    def lines(self) -> list[str]:
        """Lines for the user: what was numbered, what was taken out of texts, and which fields were left out."""
        numbered = {kind: self.counts[kind] for kind in ("hosts", "labels") if self.counts[kind]}
        rest = {kind: count for kind, count in sorted(self.counts.items()) if count and kind not in numbered}
        said = (("numbered", numbered), ("taken out", rest), ("fields left out", dict(sorted(self.fields.items()))))
        lines = [f"{what}: {', '.join(f'{name} {n}' for name, n in found.items())}" for what, found in said if found]
        return lines or ["nothing was taken out"]


def anonymize_result(result: Result, removed: Removed | None = None) -> Iterator[Line]:
    """The file's records fit to be published, in the order written; `removed` learns what they lack.

    Hosts are numbered in the order in which the environments have them, then as texts name them. A file without an end
    gets none.
    """
    removed = Removed() if removed is None else removed
    environments = [line.environment for line in result.lines if isinstance(line, Header | Joined | Resume)]
    hosts = HostNumbers(name for environment in environments for name in _host_names(environment))
    label = "" if _is_plain_label(result.label) else result.label
    scrubber = Scrubber(hosts, _interface_names(result), label)
    learning = _Learning(scrubber)
    for line in result.lines:
        learning.walk(line)
    scrubber.begin()
    publishing = _Publishing(scrubber, removed)
    for line in result.lines:
        if isinstance(line, End) and line.reason and not result.environment.ranks:
            # It names hosts that no environment has, since their ranks did not meet.
            line = msgspec.structs.replace(line, reason=f"the ranks did not meet {REMOVED}")
        published: Line = publishing.walk(line)
        yield published
    removed.counts += scrubber.counts
    removed.counts["hosts"] = hosts.num_renamed


def _host_names(environment: Environment) -> list[str | None]:
    return [*environment.hosts, *(rank.host for rank in environment.ranks)]


def _interface_names(result: Result) -> set[str]:
    """Network devices that variables of the run choose, such as NCCL_SOCKET_IFNAME, and that the doctor names."""
    texts: list[str] = []
    for line in result.lines:
        if isinstance(line, Header | Joined | Resume):
            variables = line.environment.variables
            texts += [str(value) for name, value in variables.items() if re.search(r"IFNAME|_HCA|_DEVICE|IFACE", name)]
        if isinstance(line, Header | Joined) and line.doctor is not None:
            texts += [finding.value for finding in line.doctor.findings if re.search(r"IFNAME|_HCA", finding.what)]
    words = {part.partition(":")[0] for text in texts for part in re.split(r"[,^=\s]+", text)}
    return {word for word in words if re.fullmatch(r"(?=.*\d)[\w.@-]{2,15}", word)}


def _is_plain_label(label: str) -> bool:
    return label in DEFAULT_LABELS or _SHARED_LABEL.fullmatch(label) is not None


class _Learning(TextWalk):
    """A first walk, in which the scrubber learns names of people."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._seen: set[str] = set()

    def change(self, text: str, place: str) -> str:
        if text not in self._seen:
            self._seen.add(text)
            self._scrubber.learn(text)
        return text


class _Publishing(TextWalk):
    """The second walk, by the rules of the fields."""

    def __init__(self, scrubber: Scrubber, removed: Removed) -> None:
        self._scrubber = scrubber
        self._removed = removed
        self._ids: dict[str, str] = {}

    def must_prepare(self, kind: type[msgspec.Struct]) -> bool:
        return bool(_left_out(kind)) or kind in (Header, Resume, Environment, PlanRow, SuiteFacts)

    def prepare(self, record: Any) -> Any:
        kind: type[msgspec.Struct] = type(record)
        changes: dict[str, Any] = {}
        for name, default in _left_out(kind).items():
            if getattr(record, name) not in (default, None, REMOVED):
                self._removed.fields[f"{kind.__name__}.{name}"] += 1
                changes[name] = default
        if isinstance(record, Header | Resume):
            changes["command"] = shared_command(record.command, self._name, self._label)
        elif isinstance(record, Environment):
            changes["variables"] = self._variables(record)
        elif isinstance(record, PlanRow):
            changes["options"], dropped = shared_options(record.options, self._name, self._label)
            self._removed.fields.update(f"PlanRow.options.{self._scrubber.text(name)}" for name in dropped)
        elif isinstance(record, SuiteFacts):
            changes["reference"] = self._name(without_path(record.reference))
        return msgspec.structs.replace(record, **changes) if changes else record

    def _variables(self, environment: Environment) -> dict[str, Any]:
        kept = {}
        for name, value in environment.variables.items():
            shared = None if value is None else shared_value(name, str(value), self._name)
            if shared is None:
                self._removed.fields["Environment.variables: not on the list"] += 1
            else:
                self._removed.counts["values of variables"] += shared != str(value)
                kept[name] = shared
        return kept

    def change(self, text: str, place: str) -> str:
        base = place.removesuffix(".key").removesuffix(".item")
        rule = RULE_OF.get(base, Rule.DROPPED)
        if place.endswith(".item"):
            return self._scrubber.text(text) if rule is Rule.TEXT else mask_secrets(text)
        if place in _IDS:
            return self._case(text)
        return self._by_rule(text, rule, is_key=place.endswith(".key"))

    def _by_rule(self, text: str, rule: Rule, is_key: bool) -> str:
        if rule in (Rule.COMMAND, Rule.OPTIONS, Rule.VARIABLES, Rule.REFERENCE):
            return text  # by `prepare`
        if rule is Rule.DROPPED:
            return REMOVED
        if rule is Rule.HOST:
            return self._scrubber.hosts.number(text)
        if rule is Rule.LABEL:
            return self._label(text)
        if rule is Rule.IDENTITY or is_key:
            return self._name(text)
        form = _FORMS.get(rule)
        if form is None:
            return self._scrubber.text(text)
        if form.fullmatch(text) and mask_secrets(text) == text:
            # Of four numbers a version is taken for an address elsewhere.
            return text if rule is not Rule.VERSION else self._scrubber.hosts.replace(text, is_identity=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16] if rule is Rule.RUN_ID else self._scrubber.text(text)

    def _name(self, text: str) -> str:
        return self._scrubber.text(text, is_identity=True)

    def _label(self, text: str) -> str:
        """The number of a label. A file has one; of a pair, one per side."""
        if _is_plain_label(text):
            return text
        if text in self._scrubber.hosts:
            return self._scrubber.hosts.number(text)
        self._removed.counts["labels"] = 1
        return "label0" + (text[-2:] if text.endswith(("-a", "-b")) else "")

    def _case(self, case: str) -> str:
        """The id of a case; two that differ in what was taken out stay two."""
        name = self._name(case)
        number, free = 1, name
        while self._ids.setdefault(free, case) != case:
            number += 1
            free = re.sub(rf"({re.escape(REMOVED[:-1])}|{re.escape(MASKED[:-1])})\)", rf"\1-{number})", name, count=1)
        return free


@cache
def _left_out(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Fields of a record type that a copy lacks, with what stands in their place."""
    defaults = {f.name: f.default for f in msgspec.structs.fields(kind)}
    left_out = {}
    for name in fields_of(kind):
        if RULE_OF.get(f"{kind.__name__}.{name}", Rule.DROPPED) is Rule.DROPPED:
            left_out[name] = defaults[name]
    return {
        name: REMOVED if name == "hostname" else value
        for name, value in left_out.items()
        if value is not msgspec.NODEFAULT
    }
