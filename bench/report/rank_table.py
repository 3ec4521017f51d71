"""`bench show --ranks`: the median time of every rank by itself, and of its own work without waiting.

If ranks wait for one another their times are alike, and the longest is not the slow rank's: the fast ones wait. Own
work is either the variant of the case that does the same local work without communication, or what the case marked as
its work in the traced calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.core.table import Column, DisplayTable, column, csv_text, json_text, render
from bench.core.values import show_count, show_seconds, show_text
from bench.records import metrics
from bench.records.case_names import name_cases
from bench.records.file import Result
from bench.records.lines.header import RankFacts
from bench.records.lines.kinds import Measurement
from bench.records.samples import is_over_ranks, rank_times
from bench.stats import intervals
from bench.suite import COMMUNICATION, Span

Row = dict[str, Any]

NOTES = (
    "Times are medians of each rank's own samples, of several launches the median of their medians.",
    "The longest time does not name the slow rank if ranks wait for one another: the fast ones wait. Own work does: "
    f"the same local work without communication ({metrics.COMPUTE_ONLY}), or the time in the marked parts of the work "
    "in traced calls (spans); with more ranks than cores it holds waiting too.",
)


def text(
    results: Sequence[Result],
    output: str = "table",
    colour: bool = False,
    width: int | None = None,
    has_ids: bool = False,
) -> str:
    """The ranks of some results in a format, ready to print. JSON is an array of one object a case and rank."""
    rows = rank_rows(results)
    if output == "json":
        return json_text(rows)
    if output == "csv":
        return csv_text(rows)
    by_file: dict[str, list[Row]] = {}
    names = name_cases(row["case"] for row in rows)
    for row in rows:
        name = row["case"] if has_ids else names.across(row["case"])
        by_file.setdefault(row["file"], []).append(row | {"name": name})
    tables = [DisplayTable(f"Ranks of {file}", COLUMNS, tuple(ranks), NOTES) for file, ranks in by_file.items()]
    return render(tables or [DisplayTable("No rank was timed", (), ())], output, colour, width)


def rank_rows(results: Sequence[Result]) -> list[Row]:
    """One row per case and rank, of the cases that are ok; seconds of one call, unknown values None."""
    rows = []
    for result in results:
        cases: dict[str, list[Measurement]] = {}
        for record in result.latest():
            if record.status == "ok":
                cases.setdefault(record.case, []).append(record)
        devices = result.environment.ranks
        for records in cases.values():
            for row in _case_rows(records):
                rank = devices[row["rank"]] if row["rank"] < len(devices) else RankFacts()
                rows.append(row | {"host": rank.host, "device": rank.device_name, "file": str(result.path)})
    return rows


def _case_rows(records: Sequence[Measurement]) -> Iterator[Row]:
    main = [_medians(record, record.main) for record in records]
    work_seconds, source = _own_work(records)
    for rank in range(max(map(len, main))):
        yield {
            "suite": records[0].suite,
            "case": records[0].case,
            "rank": rank,
            "num_launches": len(records),
            "seconds_median": _median_over_launches(main, rank),
            "own_seconds_median": _median_over_launches(work_seconds, rank),
            "own_work": source if _median_over_launches(work_seconds, rank) is not None else None,
        }


def _own_work(records: Sequence[Measurement]) -> tuple[list[dict[int, float]], str | None]:
    """Rank -> seconds of its own work in each launch, and where they come from."""
    alone = [_medians(record, metrics.COMPUTE_ONLY) for record in records]
    if any(alone):
        return alone, metrics.COMPUTE_ONLY
    marked = [_span_seconds(record.main_spans()) for record in records]
    return marked, "spans" if any(marked) else None


def _medians(record: Measurement, variant: str) -> dict[int, float]:
    samples = record.variants.get(variant)
    if samples is None or is_over_ranks(record, samples):
        return {}
    return {rank: times[0] for rank, (_, times) in enumerate(rank_times(samples))}


def _span_seconds(spans: Sequence[Span]) -> dict[int, float]:
    """Rank -> seconds of a traced call that lie in a span, if spans overlap once; the median over the calls.

    Without those of communication, which hold the waiting for other ranks, wherever they lie.
    """
    calls: dict[tuple[int, int], list[tuple[int, int]]] = {}
    blocked: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for span in spans:
        interval = (span.start_ns, span.start_ns + span.duration_ns)
        calls.setdefault((span.rank, span.call), []).append(interval)
        if span.kind == COMMUNICATION:
            blocked.setdefault((span.rank, span.call), []).append(interval)
    by_rank: dict[int, list[float]] = {}
    for (rank, call), parts in calls.items():
        waits = blocked.get((rank, call))
        busy_ns = _covered_ns(parts) - (_covered_ns(waits) if waits else 0)
        by_rank.setdefault(rank, []).append(busy_ns / 1e9)
    return {rank: intervals.median(seconds) for rank, seconds in by_rank.items()}


def _covered_ns(parts: Sequence[tuple[int, int]]) -> int:
    covered, reached = 0, min(start for start, _ in parts)
    for start, end in sorted(parts):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _median_over_launches(launches: Sequence[Mapping[int, float]], rank: int) -> float | None:
    seconds = [medians[rank] for medians in launches if rank in medians]
    return intervals.median(seconds) if seconds else None


COLUMNS: tuple[Column, ...] = (
    Column("case", lambda row: show_text(row.get("name") or row["case"]), "left"),
    column("rank", "rank", show_count),
    column("host", "host", show_text, "left", weight=2),
    column("device", "device", show_text, "left", weight=3),
    column("seconds_median", "time", show_seconds),
    column("own_seconds_median", "own work", show_seconds),
    column("own_work", "from", show_text, "left", weight=1),
)
