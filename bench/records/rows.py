"""Results as tidy rows: plain dicts per case for tables, pandas frames for everything else.

Four levels, each with one row per ...
    case      case of a file, over its launches: what `bench show --format json` prints
    launch    case and launch, with the same metrics of that launch alone
    rank      case, launch, variant and rank: that rank's own times, in seconds of one call
    sample    case, launch, variant, rank and sample: `seconds` of one call

Above 64 ranks a file keeps no matrix of samples: `rank` rows come from the ranks' quantiles, and `sample`
rows are the maximum over the ranks, without a rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from bench.parallelism import step_breakdown
from bench.records import interference, metrics
from bench.records.case_view import CaseView, Ceiling
from bench.records.expected import columns as expected
from bench.records.lines.parts import NcclChoice, WorkFacts
from bench.records.metrics import Metric
from bench.records.samples import launch_times
from bench.records.visits import worst_status
from bench.stats import intervals, variance_prior
from bench.suite import COMMUNICATION

if TYPE_CHECKING:
    from pathlib import Path

    from bench.records.file import Result
    from bench.records.lines.kinds import Measurement


Row = dict[str, Any]

IDENTITY = ("suite", "case", "params", "status", "reason", "num_ranks", "num_samples")
TEXT_COLUMNS = (
    *("energy_source", "energy_scope", "energy_reason"),
    *("interval", "stop_reason", "ceiling_source", "check_scope", "notes"),
    *("nccl_algorithm", "nccl_protocol"),
    *interference.TEXT_COLUMNS,
    *expected.TEXT_COLUMNS,
)


@dataclass(frozen=True)
class CaseGroup:
    """All measurements of one case that are read together, each of another launch."""

    records: tuple[Measurement, ...]
    view: CaseView

    @cached_property
    def looked_samples(self) -> int | None:
        """Timed samples whose outputs were looked at, in all launches; None if the case was not checked."""
        checks = [record.check for record in self.records if record.check is not None]
        return sum(check.timed_samples for check in checks) if checks else None

    @cached_property
    def status(self) -> str:
        """The worst of the launches; a launch that skipped the case does not spoil those that measured it."""
        return worst_status(record.status for record in self.records)

    @property
    def reason(self) -> str | None:
        """Reason why the case is not ok, with the launch if there are several."""
        lone = len(self.records) == 1
        reasons = [
            (record.reason or "no reason given") + ("" if lone else f" (launch {record.launch})")
            for record in self.records
            if record.status == self.status
        ]
        return None if self.status == "ok" else reasons[0]

    @property
    def leader(self) -> Measurement:
        """The first record with the group's status; facts that do not change between launches are read from it."""
        return next(record for record in self.records if record.status == self.status)

    @property
    def notes(self) -> list[str]:
        """The suite's footnotes, and which launches the numbers lack."""
        notes = dict.fromkeys(note for record in self.records for note in record.notes)
        lacking = [r for r in self.records if r.status == "skipped"] if self.status == "ok" else []
        return [*notes, *(f"launch {r.launch} is missing: {r.reason}" for r in lacking)]


_GROUPS: WeakKeyDictionary[Result, dict[str, CaseGroup]] = WeakKeyDictionary()
"""Groups of a lone result: made once for all callers, so that a file is merged and moderated in one pass."""


def case_groups(results: Sequence[Result]) -> dict[str, CaseGroup]:
    """Case id -> its measurements in all the results, whose launches count as launches of one run."""
    if len(results) != 1:
        return _group_cases(results)
    (result,) = results
    if result not in _GROUPS:
        _GROUPS[result] = _group_cases(results)
    return _GROUPS[result]


def _group_cases(results: Sequence[Result]) -> dict[str, CaseGroup]:
    records: dict[str, list[Measurement]] = {}
    for result in results:
        for record in result.latest():
            records.setdefault(record.case, []).append(record)
    peak = _peaks(results)
    # All views share these; they are known once all of them are there.
    ceilings: dict[str, Ceiling] = {}
    groups: dict[str, CaseGroup] = {}
    # A comparison has variances of its own, and asks for none of these.
    spreads = cache(lambda: _spreads(groups))
    groups |= {
        case: CaseGroup(tuple(rows), _view(rows, peak, ceilings, partial(_spread_of, spreads, case)))
        for case, rows in records.items()
    }
    slow_types = {dtype for result in results for dtype in result.environment.slow_types}
    ceilings |= metrics.ceilings({case: group.view for case, group in groups.items()}, slow_types)
    return groups


def _spread_of(spreads: Callable[[], Mapping[str, tuple[float, float]]], case: str) -> tuple[float, float] | None:
    return spreads().get(case)


def _spreads(groups: Mapping[str, CaseGroup]) -> dict[str, tuple[float, float]]:
    """Case -> the variance between its launches, raised towards those of the suite's cases, and degrees of freedom."""
    several = {case: group for case, group in groups.items() if len(group.view.launches) > 1}
    logs = [[math.log(value) for value in group.view.medians if value > 0] for group in several.values()]
    kinds = [group.leader.suite for group in several.values()]
    degrees = [max(0, len(values) - 1) for values in logs]
    variances = [
        intervals.centre_and_squares(values)[1] / free if free else math.nan
        for values, free in zip(logs, degrees, strict=True)
    ]
    raised = (column.tolist() for column in variance_prior.moderate_by_kind(kinds, variances, degrees))
    return {case: (variance, free) for case, variance, free in zip(several, *raised, strict=True) if free > 0}


def launch_groups(result: Result) -> list[CaseGroup]:
    """Every case and launch of a file as a group of its own, compared with the whole file's ceilings."""
    return [alone for group in case_groups([result]).values() for alone in per_launch(group)]


def per_launch(group: CaseGroup) -> list[CaseGroup]:
    """Every launch of a case as a group of its own, compared with the same ceilings and peaks."""
    view = group.view
    shared = (view.peak_flops, view.ceilings, view.spread)
    return [CaseGroup((record,), _view([record], *shared)) for record in group.records]


def _view(
    records: Sequence[Measurement],
    peak: Callable[[str], float | None],
    ceilings: Mapping[str, Ceiling],
    spread: Callable[[], tuple[float, float] | None],
) -> CaseView:
    status = worst_status(record.status for record in records)
    measured = [r for r in records if r.status == status == "ok" and r.variants]
    derived: dict[str, tuple[float, ...]] = {}
    for record in measured:
        for name, value in (record.derived | _step_shares(record)).items():
            if value is not None:
                derived[name] = (*derived.get(name, ()), float(value))
    return CaseView(
        main=measured[0].main if measured else "",
        num_ranks=max(1, records[0].num_ranks),
        launches=tuple(launch_times(record) for record in measured),
        work=(measured[0].work if measured else None) or WorkFacts(),
        derived=derived,
        ceilings=ceilings,
        energies=tuple(record.energy for record in measured if record.energy is not None),
        busy_share=_busy_share(measured),
        peak_flops=peak,
        spread=spread,
    )


def _step_shares(record: Measurement) -> dict[str, float]:
    """Shares of a training step's parts from the table of its ranks, so that they add up in files of any version."""
    table = record.tables.get(step_breakdown.TABLE)
    shares = {} if table is None else step_breakdown.table_shares(table.columns, table.rows)
    return {
        name: shares[part] for part, name in step_breakdown.SHARES.items() if part in shares and name in record.derived
    }


def _busy_share(records: Sequence[Measurement]) -> float | None:
    """Share of the traced calls in which the ranks did marked work; None without spans, or if they overlap."""
    shares = []
    for record in records:
        total = sum(sum(row) for row in record.traced_call_ns)
        if record.spans and total:
            shares.append(sum(span.duration_ns for span in record.spans if span.kind != COMMUNICATION) / total)
    plausible = [share for share in shares if share <= 1.0]
    return sum(plausible) / len(plausible) if plausible and len(plausible) == len(shares) else None


def _peaks(results: Sequence[Result]) -> Callable[[str], float | None]:
    """Type -> sum over the ranks of the peak dense FLOP/s; None if one device's is not known."""
    ranks = results[0].environment.ranks if results else []

    @cache
    def peak(dtype: str) -> float | None:
        from bench.catalog.accelerators import peak_flops

        peaks = [
            rank.device_name and peak_flops(rank.device_name, dtype, memory_bytes=rank.memory_bytes) for rank in ranks
        ]
        return sum(float(flops) for flops in peaks if flops) if peaks and all(peaks) else None

    return peak


def case_rows(results: Iterable[Result]) -> list[Row]:
    """One plain object per case and file, unknown values None: identity, metrics, then how it was measured."""
    return [row for result in results for row in run_rows([result], case_groups([result]))]


_ROWS: WeakKeyDictionary[Result, list[Row]] = WeakKeyDictionary()
"""Rows of a lone result: made once for all callers, which must not change them."""


def run_rows(results: Sequence[Result], groups: Mapping[str, CaseGroup]) -> list[Row]:
    """Rows of one run, whose launches may lie in several files, from its groups; a row's file is the first."""
    is_whole = len(results) == 1 and groups is _GROUPS.get(results[0])
    if is_whole and results[0] in _ROWS:
        return list(_ROWS[results[0]])
    rows = _make_rows(results, groups)
    if is_whole:
        _ROWS[results[0]] = rows
    return list(rows)


def _make_rows(results: Sequence[Result], groups: Mapping[str, CaseGroup]) -> list[Row]:
    choices = {record.case: record.nccl for result in results for record in result.choices}
    source = origin(results[0])
    rows = [
        group_row(group) | interference.columns(group) | nccl_columns(choices.get(case))
        for case, group in groups.items()
    ]
    return [row | expected.columns(results[0], row) | source for row in rows]


def group_row(group: CaseGroup) -> Row:
    """The row of a case, without where it came from."""
    lead, view = group.leader, group.view
    op, check, stop, energy = lead.params.get("op"), lead.check, lead.stop, lead.energy
    suite_metrics = {name: view.suite_metric(name) for name in lead.metrics if name not in metrics.METRICS}
    row: Row = {
        "suite": lead.suite,
        "case": lead.case,
        "params": ({"op": op} if op is not None else {}) | lead.params,
        "status": group.status,
        "reason": group.reason,
        "num_ranks": lead.num_ranks,
        "num_samples": int(view.all_seconds.size),
    }
    assert tuple(row) == IDENTITY
    values = metrics.values(view)
    ceiling = view.ceiling if values[metrics.CEILING_PERCENT] is not None else None
    return row | values | suite_metrics | {
        "energy_source": energy and energy.source,
        "energy_scope": energy and energy.scope,
        "energy_reason": energy and energy.reason,
        "interval": view.interval_kind,
        "num_launches": len(view.launches),
        "stop_reason": stop and stop.reason,
        "half_width": stop and stop.half_width,
        "ceiling_source": ceiling.case if ceiling else None,
        "check_error": check and check.error,
        "check_tolerance": check and check.tolerance,
        "check_scope": check and check.scope,
        "looked_samples": group.looked_samples,
        "excluded_fault_share": intervals.excluded_share(group.looked_samples) if group.looked_samples else None,
        "notes": group.notes,
    }  # fmt: skip


def nccl_columns(nccl: Sequence[NcclChoice] | None) -> dict[str, Any]:
    """Algorithm, protocol and channels that NCCL chose for a case; several of one call are joined by `+`.

    `nccl_channels` is None if they differ.
    """
    chosen = nccl or []
    counts = {choice.channels for choice in chosen}
    return {
        "nccl_algorithm": _join_names(choice.algorithm for choice in chosen),
        "nccl_protocol": _join_names(choice.protocol for choice in chosen),
        "nccl_channels": next(iter(counts)) if len(counts) == 1 else None,
    }


def _join_names(names: Iterable[str | None]) -> str | None:
    return "+".join(dict.fromkeys(name for name in names if name)) or None


def nccl_words(row: Mapping[str, Any]) -> str | None:
    """A row's columns of NCCL in a few words, such as `Ring LL128 x8`."""
    channels = row.get("nccl_channels")
    words = [row.get("nccl_algorithm"), row.get("nccl_protocol"), None if channels is None else f"x{channels}"]
    return " ".join(word for word in words if word) or None


def origin(result: Result) -> Row:
    """Columns that say where a row came from."""
    return {
        "host": ", ".join(result.hosts()) or None,
        "architecture": result.architecture,
        "label": result.label,
        "file": str(result.path),
    }


def own_metrics(results: Sequence[Result]) -> dict[str, Metric]:
    """The suites' own metrics in these results, by name; their meanings are in the plans alone."""
    texts = {name: row for result in results for record in result.measurements for name, row in record.metrics.items()}
    meanings = {
        name: row.meaning
        for result in results
        for suite in result.plan.suites
        for name, row in suite.metrics.items()
        if row.meaning
    }
    return {name: metrics.suite_metric(name, row[0], row[1], meanings.get(name, "")) for name, row in texts.items()}


def profile_lines(measurements: Iterable[Measurement], result: Path) -> list[str]:
    """Lines for the reader that say where the traces of a file are, and how many."""
    folders: dict[str, int] = {}
    for measurement in measurements:
        profile = measurement.profile
        if profile is not None:
            folders[profile.folder] = folders.get(profile.folder, 0) + len(profile.files)
    return [f"profiles: {result.parent / name} ({count} traces, a file per rank)" for name, count in folders.items()]
