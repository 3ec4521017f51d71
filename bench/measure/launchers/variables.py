"""Values that launchers leave in the environment, read strictly: a wrong one is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from bench.errors import BenchError
from bench.measure.launchers.host_lists import first_host

MAX_PORT = 65535


def number(environ: Mapping[str, str], name: str, missing: int | None = None) -> int:
    """A variable's whole number, or `missing` if it is not set. Raises BenchError."""
    text = environ.get(name)
    if text is None:
        if missing is not None:
            return missing
        raise BenchError(f"{name} is not set in the environment, though its launcher sets it; start all ranks with it")
    if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) is None:
        raise BenchError(f"{name}={text!r} in the environment: a whole number; it comes from the launcher")
    return int(text)


def optional_number(environ: Mapping[str, str], name: str) -> int | None:
    """A variable's whole number; None: it is not set. Raises BenchError."""
    return number(environ, name) if name in environ else None


def port(environ: Mapping[str, str], missing: int) -> int:
    """MASTER_PORT, or `missing` if it is not set. Raises BenchError."""
    value = number(environ, "MASTER_PORT", missing)
    if "MASTER_PORT" in environ and not 1 <= value <= MAX_PORT:
        raise BenchError(
            f"MASTER_PORT={value}: 1 to {MAX_PORT}; take a free one above 1023, the same on all ranks, such as 29500"
        )
    return value


def address(environ: Mapping[str, str]) -> str:
    """MASTER_ADDR; empty if it is not set. Raises BenchError if it is not one name or address."""
    text = environ.get("MASTER_ADDR")
    if text is None:
        return ""
    complaint = None if _is_ip(text) else next((say(text) for fits, say in _MISTAKES if fits(text)), None)
    if complaint is not None:
        raise BenchError(f"MASTER_ADDR={_shown(text)} {complaint}")
    if _is_ip(text) and ip_address(text.partition("%")[0]).is_unspecified:
        raise BenchError(f"MASTER_ADDR={text} stands for any host: set it to the name or address of rank 0's host")
    return text


def _is_ip(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return text if re.fullmatch(r"[!-~]+", text) else repr(text)


def _split_port(text: str) -> str:
    host, _, given = text.rpartition(":")
    return f"set MASTER_ADDR={host.strip('[]')} and MASTER_PORT={given or 29500}"


def _url_host(text: str) -> str:
    return re.sub(r":\d+$", "", re.split(r"[/?#]", text.partition("://")[2])[0])


# Patterns are tried in this order: `a, b` is a list before it is a name with a space.
_MISTAKES: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
    (
        lambda text: not text.strip(),
        lambda text: "is empty; set it to the name or address of rank 0's host",
    ),
    (
        lambda text: "://" in text,
        lambda text: f"is a URL; set it to the name alone, {_url_host(text)}, and MASTER_PORT to the port",
    ),
    (
        lambda text: re.fullmatch(r"\[[0-9a-fA-F:.%\w]*:[0-9a-fA-F:.%\w]*\]", text) is not None,
        lambda text: f"has brackets; write the IPv6 address without them, {text[1:-1]}",
    ),
    (
        lambda text: re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^:\s,]+):\d*", text) is not None,
        lambda text: f"has a port in it; {_split_port(text)}",
    ),
    (
        lambda text: "," in text or re.search(r"\[[^\]]*\]", text) is not None,
        lambda text: f"is a list of hosts; set it to one, that of rank 0, such as {first_host(text)}",
    ),
    (
        lambda text: re.search(r"\s", text) is not None,
        lambda text: "has a space in it; set it to one name or address, that of rank 0's host",
    ),
    (
        lambda text: re.search(r"[^\w.:%-]", text) is not None,
        lambda text: "is not a host name; set it to the name or address of rank 0's host",
    ),
)
"""(a mistake's test, the words after the value) of texts that do not name one host."""
