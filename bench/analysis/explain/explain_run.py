"""Explanation of a result file: from the sum of the peaks to what each traced case achieved, as rows and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.explain import suspects
from bench.analysis.explain.waterfall import RESIDUAL, Part, Waterfall, waterfall
from bench.core.table import DisplayTable, column, text_column
from bench.core.values import MISSING, counted, first_few, show_percent, show_seconds
from bench.errors import BenchError
from bench.records import metrics
from bench.records.case_names import CaseNames, name_cases
from bench.records.file import load
from bench.records.lines.kinds import Measurement
from bench.records.rows import CaseGroup, case_groups
from bench.records.samples import is_over_ranks, rank_times

NOTES = (
    "Each part is what the step loses to it when the causes are taken away from the bottom of the table up, each on "
    "top of those below; alone: only this one taken away. Effects do not simply add.",
    "From the traced call whose time is nearest to the case's, run again as a graph of operations. One that took "
    "longer is scaled to the case's time; if it took less, the residual is the rest.",
)
ACHIEVED = "achieved"


@dataclass(frozen=True)
class Explanation:
    """Waterfalls of a file's traced cases, and the measurements that show slow ranks and links."""

    path: Path
    architecture: str
    waterfalls: tuple[Waterfall, ...]
    not_explained: Mapping[str, Sequence[str]]
    """Reason -> traced cases that have no waterfall for it."""
    records: tuple[Measurement, ...]
    """One for each case and launch."""

    @cached_property
    def names(self) -> CaseNames:
        """Short names of the cases with a waterfall."""
        return name_cases(fall.case for fall in self.waterfalls)

    @cached_property
    def suspects(self) -> list[suspects.Suspect]:
        """Ranks and links that are accused."""
        return suspects.suspects(self.records)

    def chosen(self, filters: Iterable[str]) -> list[Waterfall]:
        """Waterfalls whose case has one of the texts in its id or short name; all for an empty text.

        Raises BenchError for a text that no case has, and if there is no waterfall at all.
        """
        if not self.waterfalls:
            reasons = "; ".join(self.not_explained) or "no case has traced calls of computation"
            raise BenchError(f"{self.path}: no waterfall: {reasons}")
        named = {fall.case: f"{fall.case} {self.names.across(fall.case)}".casefold() for fall in self.waterfalls}
        for text in filters:
            if not any(text.casefold() in name for name in named.values()):
                known = first_few([self.names.across(case) for case in named], 5)
                raise BenchError(f"--waterfall {text}: no such case with a waterfall; there are: {known}")
        texts = [text.casefold() for text in filters]
        return [fall for fall in self.waterfalls if any(text in named[fall.case] for text in texts)]


def explain(path: Path) -> Explanation:
    """The explanation of a result file. Raises BenchError if it has no case to explain."""
    result = load(path)
    groups = case_groups([result])
    found, reasons = waterfalls(groups)
    records = tuple(record for group in groups.values() for record in group.records if record.status == "ok")
    if not records:
        raise BenchError(f"{result.path}: nothing to explain: no case is ok")
    if not found and not reasons and all(record.num_ranks == 1 for record in records):
        raise BenchError(
            f"{result.path}: nothing to explain: no case has traced calls, and there is one rank; "
            "`bench run training_step` traces some"
        )
    return Explanation(result.path, result.architecture, tuple(found), reasons, records)


def waterfalls(groups: dict[str, CaseGroup]) -> tuple[list[Waterfall], dict[str, list[str]]]:
    """Waterfall of every case with traced calls of computation; and reason -> cases that have none."""
    explained: list[Waterfall] = []
    reasons: dict[str, list[str]] = {}
    devices = _device_speeds(groups)
    for case, group in groups.items():
        if group.status != "ok":
            continue
        records = [record for record in _ok_records(group) if record.spans]
        if not records or not group.view.work.flops or not group.view.seconds:
            continue
        peak, source = _peak(group, records[0], devices)
        if peak is None:
            reasons.setdefault(source, []).append(case)
            continue
        explained.append(waterfall(records, group.view.seconds, peak, source, _speeds(records[0], devices)))
    return explained, reasons


def _ok_records(group: CaseGroup) -> list[Measurement]:
    """Records that are ok of a case that is: a launch may have been skipped because no time was left."""
    return [record for record in group.records if record.status == "ok"]


def _peak(group: CaseGroup, record: Measurement, devices: dict[str, list[float]]) -> tuple[float | None, str]:
    """Sum over the ranks of peak FLOP/s, and from where."""
    dtype = str(group.view.work.flops_dtype)
    catalogue = group.view.peak_flops(dtype)
    if catalogue:
        return catalogue, f"catalogue peaks ({dtype})"
    speeds = devices.get(dtype)
    if speeds and len(speeds) == record.num_ranks:
        return sum(speeds), f"the fastest product measured (compute suite, {dtype})"
    return None, f"no catalogue peak, and no compute/matmul in {dtype} in this file"


def _device_speeds(groups: dict[str, CaseGroup]) -> dict[str, list[float]]:
    """Type -> FLOP/s of each rank, of the matrix multiplication in which they sustained the most together."""
    best: dict[str, list[float]] = {}
    for case, group in groups.items():
        if case.partition("[")[0] != f"{metrics.CEILING_SUITE}/{metrics.CEILING_OP}" or group.status != "ok":
            continue
        speeds = _rank_flops(_ok_records(group))
        dtype = str(group.view.work.flops_dtype)
        if speeds and sum(speeds) > sum(best.get(dtype, [])):
            best[dtype] = speeds
    return best


def _rank_flops(records: Sequence[Measurement]) -> list[float]:
    """FLOP/s of each rank: its share of the work over its own median time; the median of the launches."""
    launches = []
    for record in records:
        variant = record.variants[record.main]
        if record.work is None or not record.work.flops or is_over_ranks(record, variant):
            return []
        rank_flops = record.work.flops / record.num_ranks
        medians = [times[0] for _, times in rank_times(variant)]
        if not all(medians):
            return []
        launches.append([rank_flops / seconds for seconds in medians])
    return [float(value) for value in np.median(np.asarray(launches), axis=0)] if launches else []


def _speeds(record: Measurement, devices: dict[str, list[float]]) -> list[float] | None:
    """Speed of each rank's device, by the case itself, else by the compute suite; None: not measured."""
    speeds = [facts.get("speed") for facts in record.per_rank]
    measured = [float(speed) for speed in speeds if isinstance(speed, int | float)]
    if measured and len(measured) == len(speeds):
        return measured
    device_speeds = devices.get(str(record.work and record.work.flops_dtype))
    return device_speeds if device_speeds and len(device_speeds) == record.num_ranks else None


def rows(falls: Iterable[Waterfall]) -> list[dict[str, Any]]:
    """A plain object for each part of each case."""
    return [row for fall in falls for row in _rows(fall)]


def _rows(steps: Waterfall) -> list[dict[str, Any]]:
    """Peak, the parts, and what was achieved; TFLOP/s of all ranks after each, share of the measured time."""
    seconds = steps.peak_seconds
    rows = [_row(steps, "sum of the devices' peaks", seconds, None, seconds, steps.peak_source)]
    for part in steps.parts:
        seconds += part.seconds or 0.0
        rows.append(_row(steps, part.name, part.seconds, part.alone_seconds, seconds, part.how))
    rows.append(_row(steps, ACHIEVED, None, None, steps.measured_seconds, "median of the samples"))
    return rows


def _row(
    steps: Waterfall, name: str, seconds: float | None, alone: float | None, so_far: float, how: str
) -> dict[str, Any]:
    return {
        "case": steps.case,
        "part": name,
        "seconds": seconds,
        "share": None if seconds is None else seconds / steps.measured_seconds,
        "alone_seconds": alone,
        "seconds_so_far": so_far,
        "tflop_per_s_left": steps.flops / so_far * 1e-12 if so_far > 0 else None,
        "percent_of_peak_left": 100 * steps.peak_seconds / so_far if so_far > 0 else None,
        "how": how,
    }


def tables(explanation: Explanation, falls: Sequence[Waterfall]) -> list[DisplayTable]:
    """A table of each case; how the parts were found is printed once, below the last."""
    found = [part for fall in falls for part in fall.parts if part.seconds is not None and part.name != RESIDUAL]
    hows = {part.name: part.how for part in found}
    suites = dict.fromkeys(fall.case.partition("/")[0] for fall in falls)
    shared = [line for suite in suites for line in explanation.names.shared.get(suite, ())]
    notes = (*shared, *NOTES, *(f"{name}: {how}" for name, how in hows.items()))
    return [_table(fall, explanation.names.across(fall.case), notes if fall is falls[-1] else ()) for fall in falls]


def _table(fall: Waterfall, name: str, notes: tuple[str, ...]) -> DisplayTable:
    columns = (
        text_column("part", "from peak to achieved"),
        column("seconds", "time", show_seconds),
        column("share", "share %", show_percent),
        column("alone_seconds", "alone", show_seconds),
        column("percent_of_peak_left", "peak left %", lambda value: MISSING if value is None else f"{value:.1f}"),
    )
    whole = {"seconds": fall.measured_seconds, "share": 1.0}
    shown = [row | whole if row["part"] == ACHIEVED else row for row in _rows(fall)]
    lacking = [_lack(part) for part in fall.parts if part.seconds is None]
    return DisplayTable(
        f"{name}, {counted(fall.num_ranks, 'rank')}: {show_seconds(fall.measured_seconds)}",
        columns,
        tuple(row for row in shown if row["seconds"] is not None),
        (*lacking, *notes),
    )


def _lack(part: Part) -> str:
    return f"{part.name}: {part.how}"
