"""The plan that a result file's header keeps: its suites, its cases, and the pair that `bench ab` made of two files.

Launch i of one file of a pair was made right next to launch i of the other. Both files carry the pair in their plan's
options, since no other field has what was set on a side if that is a variable which an environment does not record, or
another interpreter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.records.file import Result

SIDES = ("a", "b")
UNCHANGED = "unchanged"
"""The setting of a side on which nothing was set."""


@dataclass(frozen=True)
class Pair:
    """One side of a pair of files."""

    id: str
    """Random; the same in both files of the pair."""
    side: str
    """"a" or "b"."""
    setting: str
    """Setting of this side as one would type it, or `unchanged`."""

    def to_text(self) -> str:
        """Text for the command line of the run that makes the file; `parse_pair` reads it."""
        return json.dumps(asdict(self))


def parse_pair(text: str) -> Pair:
    """Read what `Pair.to_text` writes. Raises BenchError for other text."""
    try:
        pair = _from_fields(json.loads(text))
    except json.JSONDecodeError:
        pair = None
    if pair is None:
        raise BenchError(f"--pair {text}: it is what `bench ab` hands to the runs that it makes; leave it out")
    return pair


def pair_of(result: Result) -> Pair | None:
    """The pair that `bench ab` wrote into a file; None in every other file."""
    return _from_fields(result.plan.options.get("pair"))


def planned_launches(result: Result) -> int | None:
    """Launches that were planned; None if that is not known, or for a side of `bench ab`, which may plan for more."""
    return result.plan.launches or None if pair_of(result) is None else None


def are_paired(base: Result, new: Result) -> bool:
    """True if two files are the two sides of one `bench ab`, so that their launches are compared in pairs."""
    one, other = pair_of(base), pair_of(new)
    return one is not None and other is not None and one.id == other.id and one.side != other.side


def _from_fields(fields: Any) -> Pair | None:
    if not isinstance(fields, Mapping):
        return None
    values = [fields.get(name) for name in ("id", "side", "setting")]
    if not all(isinstance(value, str) and value for value in values) or fields["side"] not in SIDES:
        return None
    return Pair(*(str(value) for value in values))
