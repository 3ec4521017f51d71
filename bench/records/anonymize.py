"""Copies of results that are fit to be published: what names a machine, a person or a place is taken out.

Hosts are numbered; UUIDs, PCI and network addresses, names of network interfaces and paths are removed, from the
environment and from all other texts of a file. These are reasons and notes (which may quote a stranger's exception),
the command, the plan's options and references, the label. Words that may be private are taken out; a free text may lose
a harmless word by that. Values of variables are published only if they look harmless, since a list of what may be shown
fails on the safe side. Every number stays.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from bench.records.environments import REMOVED
from bench.records.lines import decoding
from bench.records.lines.kinds import End, Header, Joined, Resume

if TYPE_CHECKING:
    from bench.records.file import Result
    from bench.records.lines.header import Environment
    from bench.records.lines.kinds import Line

# Variables whose values name interfaces, network devices, addresses, peers or files.
_NAMING = re.compile(
    r"IFNAME|IFACE|INTERFACE|_HCA|NET_DEVICE|NET_PLUGIN|COMM_ID|ADDR|HOST|DOMAIN|FILE|PATH|HOME|_DIR|_ROOT"
    r"|PRELOAD"
)
_HARMLESS_VALUE = re.compile(r"[\w.,:+=%^*@-]*")
_UUID = re.compile(r"\b(?:(?:GPU|MIG)-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I)
_PCI = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b", re.I)
_MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.I)
# Wider than an address: `ipaddress` decides what of it is one.
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w:])", re.I
)
# Begins a word, so that `GB/s` and `collective/all_reduce` are not paths.
_FILE_PATH = re.compile(r"(?<![\w./~-])(?:~|\.{1,2})?(?:/[\w.@+~-]+)+/?|\b[A-Z]:\\[\w.\\-]+")


_RAW_KEYS = frozenset({"nanoseconds", "per_iteration", "rank_quantiles", "spans", "traced_call_ns"})
"""Numbers only: left as they are."""
_IDENTITY_KEYS = frozenset({"kind", "suite", "case", "id", "params", "status", "variants", "metrics", "derived"})
"""Here a host is known only by a name that is not a common word: one called `compute` renames no suite."""
_VERSION_KEYS = frozenset({"versions", "driver", "gpu_driver", "kernel"})
"""Versions of four numbers look like addresses."""
_PLACE_OPTIONS = ("output", "resume", "like", "against")
_PLACE_FLAGS = frozenset({"-o", *(f"--{name}" for name in _PLACE_OPTIONS)})

_PATTERNS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"\b[a-z][a-z0-9+.-]*://\S+",
        r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
        # In quotes, where a path may hold blanks and needs no leading slash.
        r"""(?<!\w)(?P<quote>['"`])(?:(?!(?P=quote)).)*[/\\](?:(?!(?P=quote)).)*(?P=quote)(?!\w)""",
        # At the start of a word: `GB/s` and `collective/all_reduce` are not paths.
        r"(?<![\w\])./\\~-])(?:~[\w.-]*|\.{1,2}|[a-z]:(?=\\))?[/\\][^\s'\"`,;:()<>\[\]|]+",
        r"(?<![\w/\\])(?:[\w.@+~-]+[/\\])+[\w.@+~-]*\.[a-z]\w{0,4}\b",
    )
)
_ADDRESSES = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"(?<![\w.:-])(?:\[[0-9a-f:.%\w]+\]|[\w-]+(?:\.[\w-]+)*):\d{4,5}(?![\w:])",
        # Names that Linux gives network and InfiniBand devices (systemd.net-naming-scheme; drivers' own).
        r"\b(?:eth|ib|bond|docker|hsn|rdma|roce|tun|tap|team|br|wlan|mlx[45]_|bnxt_re)[-_]?\d[\w.]*",
        r"\b(?:en|wl|ib)(?:[ops]\d|x[0-9a-f]{6})[\w.]*|\bveth[0-9a-f]+\b|\bbr-[0-9a-f]{6,}\b",
    )
)


def _anonymize_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the plain values of an environment without what names its machines."""
    names = _number_hosts(environment)
    scrubber = Scrubber(names)
    hosts = {
        names[name]: scrub({**host, "hostname": REMOVED}, scrubber)
        for name, host in environment.get("hosts", {}).items()
    }
    ranks = [
        scrub({**rank, "uuid": None, "pci_bus_id": None, "host": names.get(str(rank.get("host")))}, scrubber)
        for rank in environment.get("ranks", [])
    ]
    variables = {
        name: value if _is_harmless(name, value, scrubber) else REMOVED
        for name, value in environment.get("variables", {}).items()
    }
    return {**environment, "hosts": hosts, "ranks": ranks, "variables": variables}


def _number_hosts(environment: Mapping[str, Any]) -> dict[str, str]:
    """Host name -> `host0`, `host1`, ... in the order in which the environment has them."""
    return _number([*environment.get("hosts", {}), *(rank.get("host") for rank in environment.get("ranks", []))])


def _number(hosts: Iterable[str | None]) -> dict[str, str]:
    """Host name -> its number, in the order given; a host that is not known has none."""
    return {name: f"host{index}" for index, name in enumerate(dict.fromkeys(filter(None, hosts)))}


def scrub(value: Any, scrubber: Scrubber) -> Any:
    """A copy of plain JSON data whose strings are scrubbed. Keys of objects are left as they are."""
    if isinstance(value, str):
        return scrubber.text(value)
    if isinstance(value, Mapping):
        return {key: scrub(item, scrubber) for key, item in value.items()}
    return [scrub(item, scrubber) for item in value] if isinstance(value, list | tuple) else value


class Scrubber:
    """Numbers hosts, and takes paths, UUIDs and addresses out of texts such as error messages.

    `hosts`: host name -> what stands for it. Ranks by the thousand say the same: each text is scrubbed once.
    """

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._hosts = hosts
        # A name that is not a word of a text is looked for by itself.
        self._odd = sorted((name for name in hosts if not re.fullmatch(r"[\w.-]+", name)), key=len, reverse=True)
        self._done: dict[str, str] = {}

    def text(self, text: str) -> str:
        """One string, scrubbed."""
        if text not in self._done:
            self._done[text] = self._scrub(text)
        return self._done[text]

    def _scrub(self, text: str) -> str:
        text = _remove(text, (_UUID, _PCI, _MAC, _FILE_PATH))
        text = _ADDRESS.sub(lambda match: REMOVED if _is_address(match[0]) else match[0], text)
        for name in self._odd:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", self._hosts[name], text)
        return re.sub(r"(?<![\w.-])[\w.-]+", self._numbered, text)

    def _numbered(self, match: re.Match[str]) -> str:
        """A word with the host that it is, or begins with: `node1` of `node1.cluster`, if that is none itself."""
        word, end = match[0], len(match[0])
        while end > 0:
            if word[:end] in self._hosts:
                return self._hosts[word[:end]] + word[end:]
            end = word.rfind(".", 0, end)
        return word


def _is_harmless(name: str, value: Any, scrubber: Scrubber) -> bool:
    text = str(value)
    return (
        not _NAMING.search(name.upper()) and _HARMLESS_VALUE.fullmatch(text) is not None and scrubber.text(text) == text
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def anonymize_result(result: Result) -> Iterator[Line]:
    """The file's records fit to be published, in the order written.

    Hosts are numbered, in the order in which the environments have them; UUIDs, addresses, interface names and paths
    become `(removed)`. Cases, parameters and all numbers stay as they are. A file without an end gets none.
    """
    environments = [line.environment for line in result.lines if isinstance(line, Header | Joined | Resume)]
    names = _number(host for environment in environments for host in _host_names(environment))
    cleaner = _Cleaner(names, _interface_names(environments))
    for line in result.lines:
        if isinstance(line, End) and line.reason and not result.environment.ranks:
            # It names hosts that no environment has, since their ranks did not meet.
            line = msgspec.structs.replace(line, reason=f"the ranks did not meet {REMOVED}")
        yield decoding.structure(cleaner.record(decoding.plain(line)))


def _host_names(environment: Environment) -> list[str | None]:
    return [*environment.hosts, *(rank.host for rank in environment.ranks)]


class _Cleaner:
    """Takes out of every text of a record what must not be published."""

    def __init__(self, hosts: Mapping[str, str], interfaces: Iterable[str]) -> None:
        self._numbers = {name.lower(): number for name, number in hosts.items()}
        for name, number in hosts.items():
            self._numbers.setdefault(name.lower().partition(".")[0], number)
        interfaces = frozenset(interfaces)
        self._places = Scrubber({})
        self._words = _words(self._numbers, interfaces)
        # Hosts of an environment are numbered by `share`; in an identity only a telling name can be meant.
        self._in_environment = _words((), interfaces)
        self._in_identity = _words([name for name in self._numbers if re.search(r"[\d.-]", name)], interfaces)

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """A copy of a line's plain values."""
        record = record | {name: rule(record[name]) for name, rule in _RULES.items() if name in record}
        copy = {key: self._value(value, key, self._words) for key, value in record.items()}
        if isinstance(record.get("command"), list):
            arguments = [self._text(word, "command", self._words) for word in _without_places(record["command"])]
            copy["command"] = arguments
        if "environment" in record:
            copy["environment"] = self._value(
                _anonymize_environment(record["environment"]), "environment", self._in_environment
            )
        return copy

    def _value(self, value: Any, key: str, words: re.Pattern[str]) -> Any:
        if key in _RAW_KEYS:
            return value
        if key in _IDENTITY_KEYS:
            words = self._in_identity
        if isinstance(value, str):
            return self._text(value, key, words)
        if isinstance(value, Mapping):
            inner = key if key in _VERSION_KEYS else None
            return {
                self._text(name, "", self._in_identity): self._value(item, inner or name, words)
                for name, item in value.items()
            }
        return [self._value(item, key, words) for item in value] if isinstance(value, list | tuple) else value

    def _text(self, text: str, key: str, words: re.Pattern[str]) -> str:
        text = _remove(text, _PATTERNS)
        text = words.sub(self._instead, text)
        return text if key in _VERSION_KEYS else _remove(self._places.text(text), _ADDRESSES)

    def _instead(self, match: re.Match[str]) -> str:
        name = match[0].lower()
        return self._numbers.get(name) or self._numbers.get(name.partition(".")[0], REMOVED)


def _words(hosts: Iterable[str], interfaces: Iterable[str]) -> re.Pattern[str]:
    """Pattern of the hosts with any domain, their numbered siblings, and the interfaces, as words."""
    hosts = list(hosts)
    # `node07` gives away `node08`, which an error message may name.
    stems = {match[1] for name in hosts if (match := re.match(r"(.*[a-z][-_]?)\d+$", name.partition(".")[0]))}
    names = [re.escape(name) for name in sorted(hosts, key=len, reverse=True)]
    names += [re.escape(stem) + r"\d+" for stem in sorted(stems, key=len, reverse=True) if len(stem) > 1]
    parts = [rf"(?:{'|'.join(names)})(?:\.[\w-]+)*"] if names else []
    parts += [re.escape(name) for name in sorted(interfaces, key=len, reverse=True)]
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(parts)})(?![\w-])" if parts else r"(?!)", re.I)


def _remove(text: str, patterns: Sequence[re.Pattern[str]]) -> str:
    for pattern in patterns:
        text = pattern.sub(REMOVED, text)
    return text


def _interface_names(environments: Iterable[Environment]) -> set[str]:
    """Network devices that variables of the run choose, such as NCCL_SOCKET_IFNAME and NCCL_IB_HCA."""
    names: set[str] = set()
    for environment in environments:
        for name, value in environment.variables.items():
            if re.search(r"IFNAME|_HCA|NET_DEVICE", name):
                names |= {part.partition(":")[0] for part in re.split(r"[,^=\s]+", str(value))}
    return {name for name in names if len(name) > 1}


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan without the paths in its options and of suites that are files."""
    copy = dict(plan)
    if "options" in plan:
        copy["options"] = {k: REMOVED if k in _PLACE_OPTIONS else _without_path(v) for k, v in plan["options"].items()}
    if "suites" in plan:
        copy["suites"] = [facts | {"reference": _without_path(facts.get("reference", ""))} for facts in plan["suites"]]
    return copy


def _run_id(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def _profile(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile without its folder, whose name has the host's, and which no copy has with it."""
    return profile | {"folder": REMOVED}


_RULES: dict[str, Callable[[Any], Any]] = {"plan": _plan, "run_id": _run_id, "profile": _profile}
"""Field of a line -> what is done with it first."""


def _without_path(value: Any) -> Any:
    """Copy of an option's value without paths; a case's id, one slash and parameters behind it, is none."""
    if isinstance(value, list | tuple):
        return [_without_path(item) for item in value]
    is_path = (
        isinstance(value, str) and re.search(r"[/\\]", value) and not re.fullmatch(r"\w+/\w+(\[[^/\\]*\])?", value)
    )
    return REMOVED if is_path else value


def _without_places(words: Sequence[str]) -> list[str]:
    """The command's words; the word after an option that names a place is a place, whatever it looks like."""
    kept: list[str] = []
    for word in map(str, words):
        flag, separator, value = word.partition("=")
        if kept and kept[-1] in _PLACE_FLAGS:
            kept.append(REMOVED)
        elif flag in _PLACE_FLAGS and separator:
            kept.append(f"{flag}={REMOVED}")
        elif word.startswith("-o") and len(word) > 2:
            kept.append(f"-o{REMOVED}")
        else:
            kept.append(
                f"{flag}={_without_path(value)}" if word.startswith("-") and separator else str(_without_path(word))
            )
    return kept
