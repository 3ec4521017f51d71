"""Patterns of what names a machine, a person or a place in a text, and may be taken out wherever it stands."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.records.privacy.word_lists import words_of

_PUBLIC_PAGES = re.compile(
    r"(?i)https?://(?:(?:docs\.)?pytorch\.org|docs\.nvidia\.com|docs\.python\.org|github\.com/(?:pytorch|NVIDIA|ROCm)"
    r"|rocm\.docs\.amd\.com)(?:/[\w./#-]*)?"
)
_VERSION_BEFORE = re.compile(
    r"(?i)(?:version|cudnn|driver|kernel|nccl|rccl|rocm|hip|firmware|release|torch|\bv)[\s:=]{0,3}v?$"
)


@dataclass(frozen=True)
class Private:
    """One kind of thing that a published copy does not name."""

    kind: str
    """In the plural, as the command prints it."""
    pattern: re.Pattern[str]
    is_meant: Callable[[re.Match[str]], bool] = lambda _: True


def _is_private_page(match: re.Match[str]) -> bool:
    return _PUBLIC_PAGES.fullmatch(match[0].rstrip(".,;:)]")) is None


def _is_address(match: re.Match[str]) -> bool:
    """True for an address of the network, also one that is mapped or has a zone; not for those of the own host."""
    before = match.string[max(0, match.start() - 12) : match.start()]
    text = match[0].strip("[]")
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return False
    if address.version == 4 and _VERSION_BEFORE.search(before):
        return False
    return not (address.is_loopback or address.is_unspecified)


def _is_guid(match: re.Match[str]) -> bool:
    return not match[0].lower().startswith("0x0000")  # a pointer


def _has_digit(match: re.Match[str]) -> bool:
    return re.search(r"\d", match["id"]) is not None


_PIECE = r"[^\s'\"`,;:()<>\[\]|]"
PRIVATE: tuple[Private, ...] = (
    Private("URLs", re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s'\"`<>]+"), _is_private_page),
    Private("e-mail addresses", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*(?![\w-])")),
    # In quotes, where a path may hold blanks and needs no leading slash.
    Private(
        "paths",
        re.compile(
            r"""(?<!\w)(?P<quote>['"`])(?:(?!(?P=quote))[^\n]){0,400}[/\\](?:(?!(?P=quote))[^\n]){0,400}(?P=quote)(?!\w)"""
        ),
        lambda match: _is_path(match[0][1:-1]),
    ),
    # At the start of a word: `GB/s` and `collective/all_reduce` are not paths.
    Private("paths", re.compile(rf"(?i)(?<![\w\])./\\~-])(?:~[\w.-]{{0,40}}|\.{{1,2}}|[a-z]:(?=\\))?[/\\]{_PIECE}+")),
    Private("paths", re.compile(r"(?i)(?<![\w/\\])(?:[\w.@+~-]{1,80}[/\\]){1,40}[\w.@+~-]{0,80}\.[a-z]\w{0,4}\b")),
    Private("UUIDs", re.compile(
        r"(?i)(?<![\w-])\{?(?:(?:GPU|MIG)-)*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?(?![\w-])(?:/\d+/\d+)?")),
    Private("serial numbers and machine ids", re.compile(
        r"(?i)\b(?:serial(?:[ _-]?(?:number|num|no|nr|id))?|s/n|asset[ _-]?tag|service[ _-]?tag"
        r"|board[ _-]?(?:id|serial)"
        r"|chassis[ _-]?(?:id|serial)|machine[ _-]?id|boot[ _-]?id|host[ _-]?id|product[ _-]?(?:uuid|serial)"
        r"|system[ _-]?uuid)"
        r"[\s.:=#\"'(]{1,5}(?P<id>(?!\(?(?:removed|masked))[A-Z0-9][\w-]{3,63})"), _has_digit),
    Private("serial numbers and machine ids", re.compile(r"(?<![\w-])(?:[0-9a-f]{32}|[0-9A-F]{32})(?![\w-])")),
    Private("InfiniBand GUIDs", re.compile(r"(?i)\b0x[0-9a-f]{16}\b"), _is_guid),
    Private("network addresses", re.compile(
        r"(?i)(?<![\w.:])\[?[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?:%[\w.-]{1,20})?\]?(?:/\d{1,3})?"
        r"(?![\w:]|\.\d)"), _is_address),
    Private("network addresses", re.compile(
        r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/\d{1,2})?(?!\w|\.\d)"), _is_address),
    Private("InfiniBand GUIDs", re.compile(r"(?i)(?<![\w:])[0-9a-f]{4}(?::[0-9a-f]{4}){3}(?![\w:])")),
    Private("MAC addresses", re.compile(
        r"(?i)(?<![\w:-])[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5,19}|(?:-[0-9a-f]{2}){5,19})(?![\w:-])")),
    Private("MAC addresses", re.compile(r"(?i)(?<![\w.])[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(?![\w.])"),
        lambda match: re.search(r"(?i)[a-f]", match[0]) is not None or match[0].count("0") > 0),
    Private("PCI addresses", re.compile(r"(?i)\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?\b")),
    # Names that Linux gives network and InfiniBand devices (systemd.net-naming-scheme; drivers' own).
    Private("network interfaces", re.compile(
        r"(?i)\b(?:eth|bond|docker|hsn|rdma|roce|tun|tap|team|br|wlan|virbr|vlan|mlx[45]_|bnxt_re|irdma|efa_|rdmap|hfi1_)"
        r"[-_]?\d[\w.]*(?:@\w+)?")),
    Private("network interfaces", re.compile(
        r"(?i)\bib[-_]?\d{1,3}\b|\b(?:en|wl|ib|ww|sl)(?:[ops]\d|x[0-9a-f]{12})[\w.]*|\bveth[0-9a-f]+\b"
        r"|\bbr-[0-9a-f]{6,}\b|\b(?:cali|flannel|cni)[0-9a-f.]{1,11}\b")),
)  # fmt: skip
"""In the order in which they are taken out."""


def _is_path(text: str) -> bool:
    """True for a path in quotes, where blanks may be part of it; `GB/s` and `collective/all_reduce[...]` are none."""
    return re.fullmatch(r"[\w.%]{1,20}(?:/[a-z]{1,2}\b)?|\w+/\w+(?:\[[^/\\]*\])?", text) is None


USERS = re.compile(
    r"(?i)(?:/home/|/users/|[a-z]:\\users\\|\\\\users\\\\|(?<![\w.])~(?=\w))(?P<path>[\w.@-]+)"
    r"|(?<![\w.+-])(?P<mail>[\w.+-]{3,64})@[\w-]"
    r"|\b(?:user|username|user name|login|owner|account|logname)\s{0,3}[=:]\s{0,3}['\"]?(?P<field>[\w.-]+)"
    r"|\b(?:user|owner|for user|logged in as|publickey for|password for)\s{1,3}['\"](?P<quoted>[\w.-]+)['\"]"
    r"|\b(?:for user|logged in as|publickey for|password for|run by|started by)\s{1,3}(?P<prose>[\w.-]+)"
    r"|\b[ug]id=\d+\((?P<id>[\w.-]+)\)"
)
"""Places of a text that have a user's name."""
COMMON_USERS = words_of("users", "common")
"""Names of users that do not tell who it is."""
