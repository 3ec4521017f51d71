"""Explanation of a recorded training job: its slowdown, and which ranks, stages and kinds of operations explain it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.analysis.explain import suspects
from bench.analysis.explain.straggler_trace import Trace
from bench.analysis.explain.what_if import WhatIf
from bench.core.table import DisplayTable, column, text_column
from bench.core.values import first_few, show_count, show_number, show_seconds

MAX_ROWS = 10
"""Places shown of each sort; JSON and CSV have all."""
MOST_ASKED = 0.9
"""Share of the loss that is enough to be behind it, however few ranks or stages there are."""
HOW = (
    "actual: the recorded steps run again, each operation with its own duration; a communication's own is end - latest "
    "start among its peers.",
    "ideal: every compute operation at the mean of its kind, every communication at the median; slowdown = actual / "
    "ideal; wasted share = 1 - 1 / slowdown.",
    "slowdown by a place or kind: the ideal with only its operations as they were / ideal. Explained: share of actual "
    "- ideal that is gone when its operations are fixed; above 100% where the others are faster than the mean.",
    "After: Understanding Stragglers in Large Model Training Using What-if Analysis (OSDI 2025).",
)


def explain(trace: Trace) -> dict[str, Any]:
    """All numbers: times are means over the steps, in seconds; shares are of one."""
    whatif = WhatIf(trace.operations)
    return {
        "num_steps": len(trace.steps),
        "steps_left_out": list(trace.steps_left_out),
        "num_ranks": len(whatif.numbers("rank")),
        "recorded_step_seconds": fmean(trace.recorded_seconds),
        "actual_step_seconds": whatif.actual,
        "ideal_step_seconds": whatif.ideal,
        "slowdown": whatif.slowdown,
        "wasted_share": whatif.wasted_share,
        "worst_ranks": whatif.worst_ranks,
        "steps_explained_by_worst_ranks": _num_steps_explained(whatif, "rank", whatif.worst_ranks),
        "explained_by_worst_ranks": whatif.explained_by_worst_ranks,
        "explained_by_last_stage": whatif.explained_by_last_stage,
        "steps_explained_by_last_stage": _num_steps_explained(whatif, "stage", whatif.numbers("stage")[-1:]),
        "slowdown_by_stage": _string_keys(whatif.slowdown_by("stage")),
        "slowdown_by_dp_rank": _string_keys(whatif.slowdown_by("dp_rank")),
        "slowdown_by_rank": _string_keys(whatif.rank_slowdowns),
        "slowdown_by_kind": whatif.slowdown_by_kind(),
    }


def _num_steps_explained(whatif: WhatIf, place: str, numbers: Sequence[int]) -> int:
    """Number of steps in which these ranks or stages explain more than their part of what is lost."""
    if not numbers:
        return 0
    least = least_explained(len(numbers) / len(whatif.numbers(place)))
    return whatif.num_steps_explained(whatif.at(place, *numbers), least)


def least_explained(share: float) -> float:
    """Share of the loss that a share of the ranks or stages has to explain to be behind it: twice its own part.

    If all are alike, each explains its part; two stages explain half each.
    """
    return max(suspects.MIN_SHARE, min(MOST_ASKED, 2 * share))


def _string_keys(values: dict[int, float]) -> dict[str, float]:
    return {str(number): value for number, value in values.items()}


def tables(path: Path, trace: Trace, facts: dict[str, Any]) -> list[DisplayTable]:
    """The summary, then the places of each sort, the worst first."""
    return [_summary(path, trace, facts), *_places(rows(facts))]


def _summary(path: Path, trace: Trace, facts: dict[str, Any]) -> DisplayTable:
    worst = ranks_text(facts["worst_ranks"])
    shown = [
        ("step as recorded", show_seconds(facts["recorded_step_seconds"])),
        ("step run again (actual)", show_seconds(facts["actual_step_seconds"])),
        ("step without stragglers (ideal)", show_seconds(facts["ideal_step_seconds"])),
        ("slowdown", f"{show_number(facts['slowdown'], 4)}x"),
        ("wasted share", _percent(facts["wasted_share"])),
        ("explained by the worst ranks", f"{_percent(facts['explained_by_worst_ranks'])} ({worst})"),
        ("explained by the last stage", _percent(facts["explained_by_last_stage"])),
    ]
    left_out = len(trace.steps_left_out)
    notes = [f"{left_out} steps left out: their operations are not those of the first step"] if left_out else []
    return DisplayTable(
        f"{path}: {facts['num_ranks']} ranks, {facts['num_steps']} steps",
        (text_column("what", ""), text_column("value", "")),
        tuple({"what": what, "value": value} for what, value in shown),
        (*notes, *HOW),
    )


def ranks_text(ranks: Sequence[int]) -> str:
    """Ranks in a few words, such as `rank 5` or `ranks 5, 7, 9, and 4 more`."""
    return f"rank{'' if len(ranks) == 1 else 's'} {first_few(list(map(str, ranks)))}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{show_number(100 * share)}%"


_SORTS = {
    "kind": "slowdown_by_kind",
    "stage": "slowdown_by_stage",
    "dp_rank": "slowdown_by_dp_rank",
    "rank": "slowdown_by_rank",
}


def rows(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per kind, stage, data-parallel rank and rank, the worst of each sort first."""
    return [
        {"sort": sort, "name": name, "slowdown": value}
        for sort, key in _SORTS.items()
        for name, value in sorted(facts[key].items(), key=lambda item: -item[1])
    ]


def _places(rows: list[dict[str, Any]]) -> list[DisplayTable]:
    columns = (
        text_column("sort", "by"),
        text_column("name", ""),
        column("slowdown", "slowdown", lambda v: show_number(v, 4)),
    )
    tables = []
    for sort in _SORTS:
        sort_rows = [row for row in rows if row["sort"] == sort]
        if sort_rows:
            more = len(sort_rows) - MAX_ROWS
            notes = (f"and {show_count(more)} more; --format json has all",) if more > 0 else ()
            tables.append(DisplayTable("", columns, tuple(sort_rows[:MAX_ROWS]), notes))
    return tables
