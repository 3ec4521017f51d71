"""Values as users type them: sizes, times, shares and parameters. Each raises BenchError with the way out."""

from __future__ import annotations

import math

from bench.errors import BenchError
from bench.suite import Param

_UNITS = {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


def parse_param(name: str, text: str, example: Param) -> Param:
    """A parameter's value from text, of the type of an example. Sizes as `1MiB`. Raises BenchError."""
    text = text.strip()
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise BenchError(f"{name}={text}: true or false")
        return text.lower() == "true"
    if isinstance(example, int):
        return parse_size(name, text)
    if isinstance(example, float):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BenchError(f"{name}={text}: a number, such as 0.5")
        return value
    if not text:
        raise BenchError(f"{name}=: a value is missing")
    return text


def as_size(text: str) -> str | None:
    """The whole number that a size such as `1MiB` stands for, as it is written in a case's id; None for other text."""
    try:
        return str(parse_size("", text))
    except BenchError:
        return None


def parse_size(name: str, text: str) -> int:
    """A whole number above 0, with or without a binary (KiB, MiB, GiB) or decimal (KB, MB, GB) unit."""
    number, factor = text.strip(), 1
    for unit in sorted(_UNITS, key=len, reverse=True):
        if number.lower().endswith(unit.lower()):
            number, factor = number[: -len(unit)].strip(), _UNITS[unit]
            break
    try:
        value = float(number) * factor if "." in number else int(number) * factor
    except ValueError:
        raise BenchError(f"{name}={text}: a whole number, or a size such as 64KiB, 1MiB or 4GiB") from None
    if not 1 <= value < math.inf or value != int(value):
        raise BenchError(f"{name}={text}: a whole number of at least 1")
    return int(value)


def parse_seconds(name: str, text: str) -> float:
    """A time such as `90`, `90s`, `5m` or `1.5h`, in seconds. Raises BenchError."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
    number = text.strip()
    factor = 1.0
    for unit in sorted(units, key=len, reverse=True):
        if number.endswith(unit):
            number, factor = number[: -len(unit)].strip(), units[unit]
            break
    try:
        seconds = float(number) * factor
    except ValueError:
        raise BenchError(f"{name} {text}: a time such as 90s, 5m or 1h") from None
    if not 0 < seconds < float("inf"):
        raise BenchError(f"{name} {text}: a time above 0, such as 90s, 5m or 1h")
    return seconds


def parse_share(name: str, text: str) -> float:
    """A share such as `2%` or `0.02`. Raises BenchError."""
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise BenchError(f"{name} {text}: a share such as 2%") from None
    if not 0 < value < 1:
        raise BenchError(f"{name} {text}: a share between 0% and 100%, such as 2%")
    return value
