"""The words of `words.toml`, by section and name."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def _sections() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))


def words_of(section: str, name: str) -> frozenset[str]:
    """The words of one list."""
    return frozenset(_sections()[section][name])


def variables_of_form() -> dict[str, str]:
    """Name of a variable -> name of the form of its values."""
    return {name: form for form, names in _sections()["variables_of_form"].items() for name in names}


def variables_of_words() -> list[tuple[list[str], list[str]]]:
    """(names of variables, words that their values may have) of each row."""
    return [(row["names"], row["words"]) for row in _sections()["variables_of_words"]]
