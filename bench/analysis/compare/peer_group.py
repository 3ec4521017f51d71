"""Peers from results: what each host, or each rank, measured in every case, as `bench.stats.outliers` takes it.

A host is judged by the time of its cases. A rank is not: in work that synchronises, the time of a rank does not tell
the slow one from those that wait for it, so ranks are compared with each other by work that each does on its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.analysis.compare import selection, sides
from bench.errors import BenchError
from bench.records import metrics, samples
from bench.records.environments import REMOVED
from bench.records.rows import case_groups
from bench.stats import intervals
from bench.stats.outliers import CaseMembers, MemberLaunches

if TYPE_CHECKING:
    from bench.records.file import Result
    from bench.records.lines.kinds import Measurement
    from bench.records.lines.parts import VariantSamples


OWN_WORK = (metrics.COMPUTE_ONLY, metrics.ONE_DEVICE)
"""Variants in which every rank works by itself, all at the same time."""
ALONE = "alone"
"""Variants `alone_0`, `alone_1`, ...: in each some ranks work and the others return at once."""
OWN_SUITE = metrics.CEILING_SUITE
"""The suite in which no rank waits for another in the case itself."""
_SIGMAS = NormalDist().inv_cdf(0.5 + intervals.CONFIDENCE / 2)


class PeerKey(NamedTuple):
    suite: str
    case: str
    variant: str | None
    """Variant; None for the case itself."""


@dataclass(frozen=True)
class PeerMetric:
    """Metric and cases by which peers are compared with each other."""

    metric: str = metrics.TIME
    where: selection.Where = field(default_factory=dict)
    """The cases; empty: all."""


BY_TIME = PeerMetric()


@dataclass(frozen=True)
class Peer:
    """One peer: a host or a rank."""

    name: str
    architecture: str
    results: tuple[Result, ...]
    """Whose launches count as its own; of ranks, those of all."""
    rank: int | None
    launches: Mapping[PeerKey, MemberLaunches]
    status: Mapping[PeerKey, str]
    """Also of the cases in which it measured nothing."""


def hosts(results: Sequence[Result], allow_unlike: bool = False, chosen: PeerMetric = BY_TIME) -> list[Peer]:
    """A member per host: its files are its launches. The file of a job on several hosts makes one member of them all.

    Raises BenchError if the files of a host are not launches of one run, unless `allow_unlike`, and for a metric
    that no file has.
    """
    files: dict[str, list[Result]] = {}
    for result in results:
        files.setdefault(host_name(result), []).append(result)
    if not allow_unlike:
        for host_results in files.values():
            sides.refuse_unlike(host_results)
    metric = selection.metric(chosen.metric, results)
    return [_host(name, tuple(host_results), metric, chosen.where) for name, host_results in files.items()]


def host_name(result: Result) -> str:
    """Names of a result's hosts; of a published copy, which hides them, and of a file without any, the file's name."""
    names = result.hosts()
    hidden = any(host.hostname == REMOVED for host in result.environment.hosts.values())
    return ", ".join(names) if names and not hidden else result.path.name


def _host(name: str, results: tuple[Result, ...], metric: metrics.Metric, where: selection.Where) -> Peer:
    launches, status = {}, {}
    for case, group in case_groups(results).items():
        if not selection.fits(group.leader, where):
            continue
        key = PeerKey(group.leader.suite, case, None)
        status[key] = group.status
        values = list(selection.values(group, metric).values())
        if values:
            # Of a rate, a constant over the time, the logarithm is as uncertain as that of the time.
            launches[key] = MemberLaunches(
                np.log(values), log_standard_error(group.view.interval) if len(values) == 1 else None
            )
    return Peer(name, results[0].architecture, results, None, launches, status)


def log_standard_error(interval: intervals.Interval | None) -> float | None:
    """The standard error of a logarithm, from the 95% interval of what it is the logarithm of."""
    if interval is None or interval.low <= 0:
        return None
    return math.log(interval.high / interval.low) / (2 * _SIGMAS)


def ranks(results: Sequence[Result], allow_unlike: bool = False, chosen: PeerMetric = BY_TIME) -> list[Peer]:
    """A member per rank of one file, or of several that are launches of one run, by its own work.

    Raises BenchError if the files are not launches of one run (other numbers of ranks always, the rest unless
    `allow_unlike`), where they have no work that a rank does on its own, and for any other metric than time.
    """
    if chosen.metric != metrics.TIME:
        raise BenchError(
            f"--among rank with --metric {chosen.metric}: ranks are compared with each other by the time of their own "
            f"work, {metrics.TIME}; of the same work, rates have the inverse ratio"
        )
    if not allow_unlike:
        sides.refuse_unlike(results)
    devices = results[0].environment.ranks
    for other in results[1:]:
        if (num_ranks := len(other.environment.ranks)) != len(devices):
            raise BenchError(
                f"--among rank: {results[0].path} has {len(devices)} ranks, {other.path} {num_ranks}; "
                "name launches of one run"
            )
    times, status = _rank_launches(results, len(devices), chosen.where)
    if not any(times):
        raise BenchError(
            "--among rank: no case has work that a rank does on its own (variants compute_only, one_device or alone_0, "
            "...); if ranks wait for each other, times do not name the slow one: measure with `bench run compute`"
        )
    return [
        Peer(
            name=f"rank {rank}" + (f" ({device.host})" if device.host else ""),
            architecture=device.device_name or "unknown device",
            results=tuple(results),
            rank=rank,
            launches=_join_launches(times[rank]),
            status={key: state if state != "ok" or key in times[rank] else "missing" for key, state in status.items()},
        )
        for rank, device in enumerate(devices)
    ]


class _Time(NamedTuple):
    log: float
    within: float | None


def _rank_launches(
    results: Sequence[Result], num_ranks: int, where: selection.Where
) -> tuple[list[dict[PeerKey, list[_Time]]], dict[PeerKey, str]]:
    """[rank] times of its own work in each launch, and the status of each such work."""
    times: list[dict[PeerKey, list[_Time]]] = [{} for _ in range(num_ranks)]
    status: dict[PeerKey, str] = {}
    for result in results:
        for record in result.latest():
            if not selection.fits(record, where):
                continue
            for variant, row in own_work(record):
                key = PeerKey(record.suite, record.case, variant)
                status[key] = "ok"
                for rank, time in enumerate(row[:num_ranks]):
                    if time is not None:
                        times[rank].setdefault(key, []).append(time)
    return times, status


def _join_launches(times: Mapping[PeerKey, Sequence[_Time]]) -> dict[PeerKey, MemberLaunches]:
    return {
        key: MemberLaunches(np.array([time.log for time in row]), row[0].within if len(row) == 1 else None)
        for key, row in times.items()
    }


def own_work(record: Measurement) -> Iterator[tuple[str, list[_Time | None]]]:
    """(variant, [rank]) of the work in one measurement that each rank does on its own."""
    if record.status != "ok" or not record.variants:
        return
    variants = record.variants
    for name in OWN_WORK:
        if name in variants:
            yield name, _rank_times(variants[name])
    alone = [_rank_times(variant) for name, variant in variants.items() if name.startswith(f"{ALONE}_")]
    if alone:
        # A rank works in one of these and rests in the others: its longest is the one in which it worked.
        yield ALONE, [_longest(times) for times in zip(*alone, strict=False)]
    elif record.suite == OWN_SUITE:
        yield record.main, _rank_times(variants[record.main])


def _longest(times: Sequence[_Time | None]) -> _Time | None:
    return max((time for time in times if time is not None), key=lambda time: time.log, default=None)


def _rank_times(variant: VariantSamples) -> list[_Time | None]:
    """[rank], of one call in seconds; None for a rank without a sample above 0."""
    scale = 1e9 * variant.calls
    if variant.nanoseconds is not None:
        return [_rank_time(row / scale) for row in variant.nanoseconds]
    middles = samples.rank_quantiles(variant, (0.5,))
    if middles is None:
        return []
    return [_Time(math.log(value), None) if value > 0 else None for value in (middles[:, 0] / scale).tolist()]


def _rank_time(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> _Time | None:
    middle = intervals.median(seconds) if seconds.size else 0.0
    return _Time(math.log(middle), log_standard_error(intervals.median_interval(seconds))) if middle > 0 else None


def peer_cases(members: Sequence[Peer], lower_is_better: bool = True) -> dict[PeerKey, CaseMembers]:
    """The cases that at least two of the members measured, each with those that did."""
    by_case: dict[PeerKey, dict[str, MemberLaunches]] = {}
    for member in members:
        for key, launches in member.launches.items():
            by_case.setdefault(key, {})[member.name] = launches
    return {
        key: CaseMembers(launches, f"{key.suite}/{key.variant}", lower_is_better)
        for key, launches in by_case.items()
        if len(launches) > 1
    }


SOURCES = {"host": hosts, "rank": ranks}
