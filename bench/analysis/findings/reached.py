"""Figures that a run reached: the most informative one of each kind of work, and what it is a share of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from bench.analysis.findings.evidence import RunEvidence, best, show_value
from bench.analysis.findings.kinds import Figure
from bench.catalog.accelerators import find
from bench.core.values import as_count, show_quantity, show_size
from bench.records import metrics
from bench.records.case_names import SHORT_TYPES
from bench.records.expected.kinds import asked_of
from bench.records.expected.words import words as words_of_others
from bench.records.rows import Row

MAX_FIGURES = 9
ENOUGH_FIGURES = 6
"""Figures that are enough without further cases of the kinds of work that have no place of their own."""
MAX_TYPES = 4


def reached(evidence: RunEvidence) -> list[Figure]:
    """Figures of group `reached`, at most MAX_FIGURES; several per kind if a run has few kinds of work."""
    figures = [figure for make in _MAKERS for figure in make(evidence)]
    shown = {str(figure.case).partition("[")[0] for figure in figures}
    rest = [row for row in _best_of_each_operation(evidence) if row["case"].partition("[")[0] not in shown]
    rest = [row for row in rest if row.get(metrics.SPEEDUP) is None]  # those stand below, among parallel work
    suites = {name.partition("/")[0] for name in shown}
    rest.sort(key=lambda row: row["suite"] in suites)  # what has no figure yet first
    figures += [_headline_figure(evidence, row) for row in rest[: max(0, ENOUGH_FIGURES - len(figures))]]
    if not shown:  # only work without a place of its own: further cases of it
        cases = {figure.case for figure in figures}
        further = [row for row in evidence.measured if row["case"] not in cases and row.get(metrics.SPEEDUP) is None]
        figures += [_headline_figure(evidence, row) for row in further[: max(0, ENOUGH_FIGURES - len(figures))]]
    return [_beside_others(figure, evidence) for figure in figures[:MAX_FIGURES]]


def _beside_others(figure: Figure, evidence: RunEvidence) -> Figure:
    """A figure with the range of others for its case, if there is one; fewer sources are worth no longer line."""
    row = next((row for row in evidence.measured if row["case"] == figure.case), None)
    asked = None if row is None else asked_of(row)
    if row is None or asked is None or row["expected_low"] is None or row.get(asked.metric) != figure.value:
        return figure
    words = words_of_others(row)
    return replace(figure, of="; ".join(filter(None, [figure.of, words])))


def _matrix_products(evidence: RunEvidence) -> Iterator[Figure]:
    """The fastest product of each type, compared with the data sheet, else against the type that is fastest here."""
    rows = evidence.of_suite(metrics.CEILING_SUITE, metrics.CEILING_OP)
    types = dict.fromkeys(str(row["params"].get("dtype")) for row in rows)
    fastest = [row for dtype in types if (row := best(_of_type(rows, dtype), metrics.COMPUTE_SPEED)) is not None]
    fastest.sort(key=lambda row: -row[metrics.COMPUTE_SPEED])
    for row in fastest[:MAX_TYPES]:
        dtype = str(row["params"].get("dtype"))
        share, words = _share_of_peak(row, fastest[0], _of_type(rows, dtype))
        yield Figure(
            group="reached",
            name=f"matrix product, {SHORT_TYPES.get(dtype, dtype)}",
            text=f"{show_value(row, metrics.COMPUTE_SPEED, 'TFLOP/s')} per {evidence.device}",
            value=row[metrics.COMPUTE_SPEED],
            unit="TFLOP/s",
            share=share,
            of=words,
            case=row["case"],
        )


def _of_type(rows: Sequence[Row], dtype: str) -> list[Row]:
    return [row for row in rows if str(row["params"].get("dtype")) == dtype]


def _share_of_peak(row: Row, fastest: Row, of_type: Sequence[Row]) -> tuple[float | None, str]:
    peak_share = row.get(metrics.PEAK_SHARE)
    if peak_share is not None:
        return peak_share, f"{100 * peak_share:.0f}% of the data sheet"
    if row is fastest:
        return 1.0, f"best of {len(of_type)} shapes" if len(of_type) > 1 else "the only shape tried"
    if fastest.get(metrics.PEAK_SHARE) is not None:
        return None, ""  # the others are compared with the data sheet, and bars of two kinds mislead
    share = row[metrics.COMPUTE_SPEED] / fastest[metrics.COMPUTE_SPEED]
    dtype = str(fastest["params"].get("dtype"))
    return share, f"{100 * share:.{0 if share >= 0.0095 else 1}f}% of {SHORT_TYPES.get(dtype, dtype)}"


def _memory(evidence: RunEvidence) -> Iterator[Figure]:
    """The largest copy, which no cache holds, against the data sheet's memory, else against one rank at work alone."""
    copies = evidence.of_suite("compute", "copy")
    rows = [row for row in copies if row.get(metrics.MEMORY_BANDWIDTH) and as_count(row["params"].get("num_bytes"))]
    row = max(rows, key=lambda row: row["params"]["num_bytes"], default=None)
    if row is None:
        return
    speed, alone = row[metrics.MEMORY_BANDWIDTH], row.get("alone_membw_gb_per_s")
    limit = _memory_limit(evidence)
    share, words = None, ""
    if limit is not None:
        share, words = speed / limit, f"{100 * speed / limit:.0f}% of the data sheet's {show_quantity(limit, 'GB/s')}"
    elif alone and evidence.world_size > 1:
        share, words = speed / alone, f"{100 * speed / alone:.0f}% of one {evidence.device} alone"
    yield Figure(
        group="reached",
        name=f"memory copy, {show_size(row['params']['num_bytes'])}",
        text=f"{show_value(row, metrics.MEMORY_BANDWIDTH, 'GB/s')} per {evidence.device}",
        value=speed,
        unit="GB/s",
        share=share,
        of=words,
        case=row["case"],
    )


def _memory_limit(evidence: RunEvidence) -> float | None:
    """GB/s of the catalogue if all ranks have the same accelerator and it is known."""
    rows = [
        find(rank.device_name, rank.memory_bytes) if rank.device_name and rank.device_type == "cuda" else None
        for rank in evidence.result.environment.ranks
    ]
    speeds = {row.memory_tb_per_s for row in rows if row is not None}
    if None in rows or len(speeds) != 1:
        return None
    (speed,) = speeds
    return None if speed is None else 1e3 * speed


def _links(evidence: RunEvidence) -> Iterator[Figure]:
    """The median pair of ranks, and the slowest if there are several pairs."""
    row = best(evidence.of_suite(metrics.LINK_SUITE), "median_pair_gb_per_s")
    if row is None:
        return
    median, slowest = row["median_pair_gb_per_s"], row.get("slowest_pair_gb_per_s")
    several = evidence.world_size > 2 and slowest is not None
    yield Figure(
        group="reached",
        name="link of the median pair" if several else "link between the two ranks",
        text=show_value(row, "median_pair_gb_per_s", "GB/s"),
        value=median,
        unit="GB/s",
        share=slowest / median if several else None,
        of=f"slowest pair: {show_quantity(slowest, 'GB/s')}" if several else "the only pair",
        case=row["case"],
    )


def _all_reduce(evidence: RunEvidence) -> Iterator[Figure]:
    """Bus bandwidth of the largest all-reduce against the link, and latency of the smallest next to a barrier's."""
    rows = [row for row in evidence.of_suite("collective", "all_reduce") if as_count(row["params"].get("num_bytes"))]
    rows = [row for row in rows if _is_plain(row)] or rows
    if not rows:
        return
    sizes = sorted({row["params"]["num_bytes"] for row in rows})
    large = best([row for row in rows if row["params"]["num_bytes"] == sizes[-1]], metrics.BUS_BANDWIDTH)
    if large is not None:
        percent = large.get(metrics.CEILING_PERCENT)
        yield Figure(
            group="reached",
            name=f"all-reduce, {show_size(sizes[-1])}",
            text=f"{show_value(large, metrics.BUS_BANDWIDTH, 'GB/s')} bus",
            value=large[metrics.BUS_BANDWIDTH],
            unit="GB/s",
            share=None if percent is None else percent / 100,
            of="" if percent is None else f"{percent:.0f}% of the link",
            case=large["case"],
        )
    if len(sizes) < 2:
        return
    small = best([row for row in rows if row["params"]["num_bytes"] == sizes[0]], metrics.TIME)
    barrier = best(evidence.of_suite("collective", "barrier"), metrics.TIME)
    assert small is not None
    yield Figure(
        group="reached",
        name=f"all-reduce, {show_size(sizes[0])}",
        text=show_value(small, metrics.TIME, "s"),
        value=small[metrics.TIME],
        unit="s",
        of="" if barrier is None else f"a barrier takes {show_value(barrier, metrics.TIME, 's')}",
        case=small["case"],
    )


def _is_plain(row: Row) -> bool:
    """True for a call as most programs make it: in float32, waited for, one at a time."""
    params = row["params"]
    return (
        params.get("dtype") in (None, "float32")
        and not params.get("async_op")
        and params.get("timing") in (None, "aligned")
    )


def _steps(evidence: RunEvidence) -> Iterator[Figure]:
    """The fastest training step against the peak, and the fastest decoding."""
    for suite, op, name in (("training_step", None, "training step"), ("inference", "decode", "decode")):
        row = best(evidence.of_suite(suite, op), metrics.TOKEN_SPEED)
        if row is None:
            continue
        model = row["params"].get("shape") or row["params"].get("model")
        share, words = _step_share(row) if suite == "training_step" else (None, "")
        yield Figure(
            group="reached",
            name=f"{name}, {model} model" if model else name,
            text=show_value(row, metrics.TOKEN_SPEED, "tokens/s"),
            value=row[metrics.TOKEN_SPEED],
            unit="tokens/s",
            share=share,
            of=words,
            case=row["case"],
        )


def _step_share(row: Row) -> tuple[float | None, str]:
    utilization, percent = row.get(metrics.PEAK_SHARE), row.get(metrics.CEILING_PERCENT)
    if utilization is not None:
        return utilization, f"MFU {100 * utilization:.1f}%"
    dtype = str(row["params"].get("dtype"))
    words = f"{percent or 0:.0f}% of the {SHORT_TYPES.get(dtype, dtype)} product"
    return (None, "") if percent is None else (percent / 100, words)


_MAKERS: tuple[Callable[[RunEvidence], Iterator[Figure]], ...] = (
    _matrix_products, _memory, _links, _all_reduce, _steps,
)  # fmt: skip
"""Kinds of work in the order in which people read them; a new kind is a row."""


def _best_of_each_operation(evidence: RunEvidence) -> list[Row]:
    """For each suite and operation the case with the best headline metric, in the order of the file."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in evidence.measured:
        groups.setdefault((row["suite"], str(row["params"].get("op"))), []).append(row)
    chosen = []
    for rows in groups.values():
        metric = metrics.headline(rows[0])
        top = best(rows, metric.name if metric else metrics.TIME)
        chosen.append(top or rows[0])
    return chosen


def _headline_figure(evidence: RunEvidence, row: Row) -> Figure:
    """A case by the most informative metric besides its time."""
    metric = metrics.headline(row) or metrics.METRICS[metrics.TIME]
    time = "" if metric.name == metrics.TIME else f"in {show_value(row, metrics.TIME, 's')}"
    per_device = f" per {evidence.device}" if metric.name == metrics.COMPUTE_SPEED else ""
    return Figure(
        group="reached",
        name=evidence.names.across(row["case"]),
        text=show_value(row, metric.name, metric.unit) + per_device,
        value=row[metric.name],
        unit=metric.unit,
        of=time,
        case=row["case"],
    )
