"""`bench run --against`: earlier results to hold a run against, found before it starts and shown when it is over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.result import load_many

if TYPE_CHECKING:
    from bench.result import Result


def earlier_results(against: Path, own: Path) -> list[Result]:
    """What `against` names (a file, a folder, a glob), without the run's own file, which may lie in the same folder.

    Raises BenchError where there is none, or one cannot be read.
    """
    found = [result for result in load_many(against) if result.path.resolve() != own.resolve()]
    if not found:
        raise BenchError(f"--against {against}: no other result than this run's is there; name one")
    return found


def refuse_incomparable(against: Path, own: Path, cases: Iterable[str]) -> None:
    """Raises BenchError where the earlier results have none of the cases that a run will have."""
    there = {record["case"] for result in earlier_results(against, own) for record in result.measurements}
    if not there & set(cases):
        raise BenchError(
            f"--against {against}: none of its {len(there)} cases will be measured; name a result of the same suites, "
            "or measure what it has with --like FILE"
        )


def beside(against: Path, result: Result, colour: bool) -> str:
    """The comparison of a finished run, or why there is none: the run's own end is not changed by that."""
    from bench.compare import compare, show

    try:
        return show(compare(earlier_results(against, result.path), [[result]]), colour=colour)
    except BenchError as error:  # the run ended before a case that both have, or the other file is gone by now
        return f"--against {against}: {error}\n"
