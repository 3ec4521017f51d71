"""Values as users type them and read them: sizes, times, shares, parameters, numbers with units.

Each `parse_*` raises BenchError with the way out, each `show_*` gives the text of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from bench.core.cell_text import clean
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


def parse_share(name: str, text: str, may_be_whole: bool = False) -> float:
    """A share such as `2%` or `0.02`, below 100% unless it `may_be_whole`. Raises BenchError."""
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise BenchError(f"{name} {text}: a share such as 2%") from None
    if not (0 < value < 1 or (may_be_whole and value == 1)):
        limit = "up to 100%" if may_be_whole else "below 100%"
        raise BenchError(f"{name} {text}: a share above 0% and {limit}, such as 2%")
    return value


def is_number(cell: object) -> TypeGuard[float]:
    """True for a raw cell that can be drawn and aligned as a number; a flag is none."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)


MAX_DIGITS = 18
"""Digits of a whole number in a text that is computed with."""


def as_count(value: object) -> int | None:
    """A parameter of a file as a whole number of at least 1; None for a word, a flag, or what no size or count is."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def digits(text: str) -> int | None:
    """The whole number that a text of digits is; None for other texts, and for more digits than any size has."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


MISSING = "-"


def show_text(value: object) -> str:
    return MISSING if value is None or value == "" else clean(str(value))


MAX_SHOWN = 80
"""Characters of a value whose length is not bounded; JSON has all of them."""


def brief_text(value: object) -> str:
    """Text of a value, cut to MAX_SHOWN characters."""
    text = show_text(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def show_number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits, as a power of ten only if people would write one."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - exponent)
    if rounded and -4 <= exponent < 15:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
        return f"{rounded:,.{decimals}f}"
    return f"{value:.{digits - 1}e}"


_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def show_seconds(value: float | None, digits: int = 3) -> str:
    """A time with the unit that fits it, such as `1.23 ms`."""
    if value is None:
        return MISSING
    for scale, unit in _TIME_UNITS:
        # What rounds up to the next unit is written in it: 1.00 ms rather than 1,000 us.
        if abs(value) >= 0.9995 * scale:
            return f"{show_number(value / scale, digits)} {unit}"
    return "0 s" if value == 0 else f"{show_number(value * 1e9, digits)} ns"


def show_duration(seconds: float) -> str:
    """A time as people say it: `42 s`, `3 min 40 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small = ("min", "s") if whole < 3600 else ("h", "min")
    count, rest = divmod(whole if whole < 3600 else whole // 60, 60)
    return f"{count} {large}" + (f" {rest} {small}" if rest else "")


def show_value(value: float, unit: str) -> str:
    """A metric's value with its unit."""
    if unit == "s":
        return show_seconds(value)
    return f"{100 * value:.1f}%" if unit == "share" else f"{show_number(value)} {unit}".strip()


_SCALED = {"GB/s": (1e9, "B/s"), "TFLOP/s": (1e12, "FLOP/s"), "FLOP/s": (1.0, "FLOP/s"), "B/s": (1.0, "B/s")}
"""Unit -> its factor, and the unit that takes a prefix."""
_COUNTED = {"count": "", "layers": "layers"}
"""Unit of what is counted -> the word for it; whole numbers stay whole."""
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def show_quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """A value with its unit and the prefix that fits, such as `890 MFLOP/s`, `2.3 ms`, `64 MiB` or `12.5%`."""
    if value is None:
        return MISSING
    if unit == "s":
        return show_seconds(value, digits)
    if unit in ("share", "%"):
        return f"{show_number(100 * value if unit == 'share' else value, digits)}%"
    if unit == "B":
        return show_size(value, digits)
    if unit == "x":
        return f"{show_number(value, digits)}x"
    if unit in _COUNTED and value == int(value):
        return f"{value:,.0f} {_COUNTED[unit]}".strip()
    if unit not in _SCALED:
        return f"{show_number(value, digits)} {unit}".strip()
    factor, base = _SCALED[unit]
    scaled = value * factor
    # What rounds up to the next prefix is written with it: 1.00 GB/s rather than 1,000 MB/s.
    scale, prefix = next((p for p in _PREFIXES if abs(scaled) >= 0.9995 * p[0]), _PREFIXES[-1])
    return f"{show_number(scaled / scale, digits)} {prefix}{base}"


def show_size(num_bytes: float, digits: int = 3) -> str:
    """A size in binary units, such as `64 MiB`; whole numbers stay whole."""
    scale, unit = next(
        ((2**p, u) for p, u in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")) if num_bytes >= 2**p), (1, "B")
    )
    value = num_bytes / scale
    return f"{value:.0f} {unit}" if value == int(value) else f"{show_number(value, digits)} {unit}"


def show_percent(value: float | None) -> str:
    """A share of one in percent; the sign is in the column's head."""
    return MISSING if value is None else f"{100 * value:.1f}"


def show_share(share: float) -> str:
    """A share as people type it: `5%`, `2.5%`."""
    return f"{100 * share:g}%"


def show_count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as `1 GPU` or `2 GPUs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_few(texts: Sequence[str], most: int = 3, more: str = ", and {} more") -> str:
    """Texts in a row, at most this many; `more` says how many others there are."""
    others = len(texts) - most
    return ", ".join(texts[:most]) + (more.format(others) if others > 0 else "")
