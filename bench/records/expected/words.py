"""What others reach, as words next to a row's own rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core.values import show_quantity
from bench.records.expected.kinds import asked_of

UNKNOWN = "unknown"
"""Text of a figure on an accelerator without published ones of its kind."""


def verdict(row: Mapping[str, Any]) -> str | None:
    """Words on a row's rate in view of its range: `below` or `above` it, else None; None without a range, too."""
    asked = asked_of(row)
    low, high = row.get("expected_low"), row.get("expected_high")
    rate = row.get(asked.metric) if asked else None
    if rate is None or low is None or high is None:
        return None
    return "below" if rate < low else "above" if rate > high else None


def words(row: Mapping[str, Any]) -> str | None:
    """What others reach, and on which side of it the row's rate lies; None if they do not say.

    It has no unit if the rate is shown in the same one.
    """
    text, asked = row.get("expected_text"), asked_of(row)
    if text is None or text == UNKNOWN or asked is None:
        return None
    side = verdict(row)
    if not show_quantity(row[asked.metric], asked.unit).endswith(f" {asked.unit}"):
        body, bracket, rest = text.partition(" (")
        text = f"{body} {asked.unit}{bracket}{rest}"
    return f"{side} the {text}" if side else text
