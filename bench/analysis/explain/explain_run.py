"""`bench explain FILE`: from the sum of the peaks to what each traced case achieved; which rank and link are slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.explain import suspects
from bench.analysis.explain.waterfall import Waterfall, waterfall
from bench.core.table import DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.values import show_number, show_seconds
from bench.errors import BenchError
from bench.records import metrics
from bench.records.file import load
from bench.records.lines.kinds import Measurement
from bench.records.rows import CaseGroup, case_groups
from bench.records.samples import is_over_ranks, rank_times

NOTES = (
    "Each part is what the step loses to it when the causes are taken away from the bottom of the table up, each on "
    "top of those below; alone: only this one taken away. Effects do not simply add.",
    "Share: of what the peak could do in the measured time. From re-running the traced calls as a graph of operations; "
    "the residual is what that does not explain.",
)


def text(path: Path, output: str, colour: bool) -> str:
    """The explanation in a format, ready to print. Raises BenchError if the file has nothing to explain."""
    result = load(path)
    groups = case_groups([result])
    explained, unexplained = waterfalls(groups)
    sentences = suspects.sentences([record for group in groups.values() for record in group.records])
    if not explained and not sentences:
        raise BenchError(f"{result.path}: nothing to explain: {'; '.join(unexplained) or 'no case is ok'}")
    rows = [row for part in explained for row in _rows(part)]
    if output == "json":
        return json_text(
            {"file": str(result.path), "suspects": sentences, "waterfall": rows, "not_explained": unexplained}
        )
    if output == "csv":
        return csv_text(rows)
    head = DisplayTable(f"{result.path}: {result.architecture}", (), (), (*sentences, *unexplained))
    # What holds for all tables is said once, below the last.
    return render([head, *(_table(part, NOTES if part is explained[-1] else ()) for part in explained)], output, colour)


def waterfalls(groups: dict[str, CaseGroup]) -> tuple[list[Waterfall], list[str]]:
    """Waterfall of every case with traced calls of computation, and why others have none."""
    explained: list[Waterfall] = []
    reasons: dict[str, list[str]] = {}
    devices = _device_speeds(groups)
    for case, group in groups.items():
        if group.status != "ok":
            continue
        record = _ok_records(group)[0]
        if not record.spans or not group.view.work.flops or not group.view.seconds:
            continue
        peak, source = _peak(group, record, devices)
        if peak is None:
            reasons.setdefault(source, []).append(case)
            continue
        explained.append(waterfall(record, group.view.seconds, peak, source, _speeds(record, devices)))
    return explained, [f"{_name_cases(cases)}: no waterfall: {reason}" for reason, cases in reasons.items()]


def _ok_records(group: CaseGroup) -> list[Measurement]:
    """Records that are ok of a case that is: a launch may have been skipped for want of time."""
    return [record for record in group.records if record.status == "ok"]


def _name_cases(cases: Sequence[str]) -> str:
    if len(cases) == 1:
        return cases[0]
    suites = sorted({case.partition("/")[0] for case in cases})
    return f"{len(cases)} cases of {', '.join(suites)}"


def _peak(group: CaseGroup, record: Measurement, devices: dict[str, list[float]]) -> tuple[float | None, str]:
    """Sum over the ranks of peak FLOP/s, and from where."""
    dtype = str(group.view.work.flops_dtype)
    catalogue = group.view.peak_flops(dtype)
    if catalogue:
        return catalogue, f"catalogue peaks ({dtype})"
    speeds = devices.get(dtype)
    if speeds and len(speeds) == record.num_ranks:
        return sum(speeds), f"measured ceiling (compute suite, {dtype})"
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


def _rows(steps: Waterfall) -> list[dict[str, Any]]:
    """Peak, the parts, and what was achieved; TFLOP/s of all ranks after each, share of the measured time."""
    seconds = steps.peak_seconds
    rows = [_row(steps, "sum of the devices' peaks", seconds, None, seconds, steps.peak_source)]
    for part in steps.parts:
        seconds += part.seconds or 0.0
        rows.append(_row(steps, part.name, part.seconds, part.alone_seconds, seconds, part.how))
    rows.append(_row(steps, "achieved", None, None, steps.measured_seconds, "median of the samples"))
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
        "tflop_per_s_left": steps.flops / so_far * 1e-12,
        "percent_of_peak_left": 100 * steps.peak_seconds / so_far,
        "how": how,
    }


def _table(steps: Waterfall, notes: tuple[str, ...]) -> DisplayTable:
    columns = (
        text_column("part", "from peak to achieved"),
        column("seconds", "time", show_seconds),
        column("share", "share of step %", lambda value: "-" if value is None else f"{100 * value:.1f}"),
        column("alone_seconds", "alone", show_seconds),
        column("tflop_per_s_left", "TFLOP/s left", show_number),
        column("percent_of_peak_left", "% of peak left", lambda value: f"{value:.1f}"),
        text_column("how", "how it was found"),
    )
    return DisplayTable(f"{steps.case}, {steps.num_ranks} ranks", columns, tuple(_rows(steps)), notes)
