"""Takes up an alternation of `bench ab` that ended early, from its two files.

A pair is worth something since its launches lie side by side in time. So a pair that was cut short is not completed
later: the cases that both sides have of it count, and the alternation goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.records.file import Result, load
from bench.records.saved_plan import Pair, are_paired, pair_of

if TYPE_CHECKING:
    from bench.run.ab.ab_sides import Setting


@dataclass(frozen=True)
class ResumedPair:
    """An alternation to go on with, as its two files tell."""

    files: tuple[Path, Path]
    """Files of side a, then b."""
    id: str
    pairs: int
    """Number of planned pairs."""
    first: int
    """The pair to go on with."""


def resume_pair(paths: Sequence[Path], both: Sequence[Setting]) -> ResumedPair:
    """Read an alternation. Raises BenchError if these are not the two files of one, with the sides that were typed."""
    if len(paths) != 2:
        raise BenchError(f"--resume {paths[0]}: name the files of both sides, --resume A --resume B")
    pairs = sorted(((_pair(result), result) for result in map(load, paths)), key=lambda each: each[0].side)
    (pair, first), (_, other) = pairs
    if not are_paired(first, other):
        raise BenchError(f"--resume {first.path} with {other.path}: they are not the two sides of one alternation")
    for (was, result), side in zip(pairs, both, strict=True):
        if was.setting != side.setting:
            raise BenchError(
                f"--resume {result.path}: side {side.name} was {was.setting!r} and is now {side.setting!r}; make "
                f"it the same again (--{side.name}, --{side.name}-python, --base and the files that it measures)"
            )
    begun = [record.launch for _, result in pairs for record in result.measurements]
    return ResumedPair(
        files=(first.path, other.path),
        id=pair.id,
        pairs=first.plan.launches or 0,
        first=max(begun, default=-1) + 1,
    )


def _pair(result: Result) -> Pair:
    pair = pair_of(result)
    if pair is None:
        raise BenchError(f"--resume {result.path}: no file of `bench ab`; a run is finished by bench run --resume")
    return pair
