"""Findings of an explanation: where the time of steps goes, and who is accused of losing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.analysis.explain.suspects import suspects
from bench.analysis.findings.kinds import Remark
from bench.records.lines.kinds import Measurement

_REMEDIES: Mapping[str, str] = {
    "rank": "All others wait for it. Compare its clock, its temperature and other programs there: bench doctor",
    "late": "Look at its input and its host's other work: bench doctor",
    "link": "Check its cable, its port and the route: bench doctor",
}
"""Kind of a suspect -> what to do."""


def suspect_remarks(records: Iterable[Measurement]) -> list[Remark]:
    """Ranks and links that are accused, the slowest first; `records` have one for each case and launch."""
    return [
        Remark(text=found.text, remedy=_REMEDIES[found.kind], weight=found.times_as_long)
        for found in sorted(suspects(records), key=lambda suspect: -suspect.times_as_long)
    ]
