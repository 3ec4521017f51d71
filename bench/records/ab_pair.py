"""What ties the two result files of `bench ab` together: launch i of one was made right beside launch i of the other.

Both files carry it in their plan's options, since no other field has what was set on a side where that is a variable
which an environment does not record, or another interpreter.
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
    """Which of two files one is."""

    id: str
    """The same in both files and in no others."""
    side: str
    """"a" or "b"."""
    setting: str
    """What was set on this side, as one would type it, or `unchanged`."""

    def to_text(self) -> str:
        """For the command line of the run that makes the file; `parse` reads it."""
        return json.dumps(asdict(self))


def parse(text: str) -> Pair:
    """Raises BenchError where `text` is not what `Pair.to_text` writes."""
    try:
        pair = _from_fields(json.loads(text))
    except json.JSONDecodeError:
        pair = None
    if pair is None:
        raise BenchError(f"--pair {text}: it is what `bench ab` hands to the runs that it makes; leave it out")
    return pair


def pair_of(result: Result) -> Pair | None:
    """What `bench ab` wrote into a file; None in every other file."""
    options = result.plan.get("options")
    return _from_fields(options.get("pair")) if isinstance(options, Mapping) else None


def are_paired(base: Result, new: Result) -> bool:
    """Whether two files are the two sides of one `bench ab`, so that their launches are compared in pairs."""
    one, other = pair_of(base), pair_of(new)
    return one is not None and other is not None and one.id == other.id and one.side != other.side


def _from_fields(fields: Any) -> Pair | None:
    if not isinstance(fields, Mapping):
        return None
    values = [fields.get(name) for name in ("id", "side", "setting")]
    if not all(isinstance(value, str) and value for value in values) or fields["side"] not in SIDES:
        return None
    return Pair(*(str(value) for value in values))
