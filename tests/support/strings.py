"""Every text in plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def all_strings(value: Any) -> Iterator[str]:
    """The texts in plain JSON values, keys of objects among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from all_strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from all_strings(item)
