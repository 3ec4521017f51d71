"""Colours of a terminal, for what may not be overlooked: never the only sign of it."""

from __future__ import annotations

from typing import Literal

Style = Literal["bold", "dim", "red", "yellow", "green"]
_CODES: dict[str, str] = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "green": "32"}


def style(text: str, name: Style | None, colour: bool) -> str:
    """The text in a style, if there is colour."""
    return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if colour and name and text else text
