"""Rates of this machine from results of `bench run`, in place of the catalogue's.

    compute          a multiplication's rate by its size, and the bandwidth of memory, by how many ranks work at once
    collective,      latency and bandwidth of each operation between this many ranks: t = a + b x bytes, fitted to the
    sizes
    point_to_point   in relative error (least squares of the ratio), so that small and large messages count alike
    training_step    if there is one: the time of a step over its predicted time, on the fewest ranks, by the
                     size of its microbatch. The factor stands for all that the rates do not know, and holds for the
                     work of a device, not for transfers. `overheads` has the time that each way of splitting adds
    jitter           of a rank: standard deviation of its own computation between traced steps (training_step), else
                     1.4826 x median absolute deviation of its multiplications, as a share

The devices are the file's. Facts that the files do not have come from the catalogue, or are asked for.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.analysis.explain import timeline
from bench.catalog import accelerators
from bench.core.values import as_count
from bench.errors import BenchError
from bench.predict.calibration import step_factors
from bench.predict.calibration.network_lines import Line, lines_of
from bench.predict.calibration.step_factors import MeasuredStep
from bench.predict.rates import device as devices
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import Common
from bench.predict.rates.device import Device
from bench.records.file import Result, load_many
from bench.records.metrics import COMPUTE_SPEED, MEMORY_BANDWIDTH, TIME
from bench.records.rows import case_groups, case_rows
from bench.suite import Span

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3fn"}
MAX_JITTER = 0.5
MIN_STEPS = 4
LARGE_BYTES = 32 * 2**20
"""Memory is measured beyond the caches."""


@dataclass(frozen=True)
class MeasuredWork:
    """Rates of a device while this many ranks work at once: ranks of a host share its memory, caches and power."""

    rates: Mapping[str, BySize]
    """Type -> FLOP/s of multiplications by their FLOPs."""
    memory_bytes_per_s: float | None


@dataclass(frozen=True)
class Measured:
    """Facts about a machine from some result files."""

    paths: tuple[str, ...]
    device_name: str
    memory_bytes: float | None
    num_cores: int | None
    """Cores that the ranks of one host share, if the devices are cores."""
    on_cores: bool
    """The ranks compute on the host's cores."""
    num_hosts: int
    ranks: int
    work: Mapping[int, MeasuredWork]
    """Number of ranks of a run -> rates."""
    lines: tuple[Line, ...]
    jitter_share: float | None
    steps: tuple[MeasuredStep, ...]
    storage_gb_per_s: float | None
    """Speed of saving in the `checkpoint` suite, all its ranks together."""
    launch_share: float | None
    """Standard deviation of the logarithm between launches: what another day would differ by."""
    is_step_jitter: bool = False
    """The jitter is of whole steps' computation; else of single multiplications."""

    @property
    def rates(self) -> Mapping[str, BySize]:
        """Type -> rates with the most ranks at once that the type was measured with."""
        return {dtype: rates for ranks in sorted(self.work) for dtype, rates in self.work[ranks].rates.items()}

    @property
    def memory_bytes_per_s(self) -> float | None:
        known = [self.work[ranks].memory_bytes_per_s for ranks in sorted(self.work)]
        return next((rate for rate in reversed(known) if rate is not None), None)

    def at(self, ranks: int, dtype: str) -> tuple[BySize, float | None]:
        """Products and memory with this many ranks at once; of no others, if that was not measured."""
        able = [number for number, work in self.work.items() if dtype in work.rates]
        number = max((n for n in able if n <= ranks), default=min(able))
        memory = self.work[number].memory_bytes_per_s
        return self.work[number].rates[dtype], self.memory_bytes_per_s if memory is None else memory


def read(paths: Sequence[str]) -> Measured:
    """Raises BenchError for unreadable files, or if none has a measured multiplication."""
    results = load_many(paths)
    rows = [row for row in case_rows(results) if row["status"] == "ok" and row[TIME]]
    work = _work(rows)
    if not any(rates_of_run.rates for rates_of_run in work.values()):
        raise BenchError(
            f"--from {', '.join(map(str, paths))}: no multiplication measured there; bench run compute gives them"
        )
    ranks = [rank for result in results for rank in result.environment.ranks]
    names = {rank.device_name for rank in ranks if rank.device_name}
    if len(names) > 1:
        raise BenchError(f"--from: devices of several types: {', '.join(sorted(names))}; give files of one type")
    steps = _step_jitter(results)
    memories = [rank.memory_bytes for rank in ranks if rank.memory_bytes]
    return Measured(
        paths=tuple(str(result.path) for result in results),
        device_name=next(iter(names), "unknown device"),
        memory_bytes=_memory_of_rank(results, memories),
        num_cores=_num_cores(results),
        on_cores=any(_on_cores(result) for result in results),
        num_hosts=max(len(result.environment.hosts) or 1 for result in results),
        ranks=max(row["num_ranks"] for row in rows),
        work=work,
        lines=tuple(lines_of(rows)),
        jitter_share=_jitter(results) if steps is None else steps,
        is_step_jitter=steps is not None,
        steps=tuple(step_factors.steps(rows, DTYPES, _own_shares(results))),
        storage_gb_per_s=_storage(rows),
        launch_share=_between_launches(results),
    )


def _work(rows: Sequence[Mapping[str, Any]]) -> dict[int, MeasuredWork]:
    by_ranks: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["suite"] == "compute":
            by_ranks[row["num_ranks"]].append(row)
    return {
        ranks: MeasuredWork(_rates(rows_of_runs), _memory(rows_of_runs)) for ranks, rows_of_runs in by_ranks.items()
    }


def _rates(rows: Iterable[Mapping[str, Any]]) -> dict[str, BySize]:
    """Rates of `compute`'s multiplications; not of `tensor_parallel`, whose time has transfers in it."""
    rates: defaultdict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        params = row["params"]
        if row["suite"] == "compute" and params.get("op") == "matmul" and row[COMPUTE_SPEED]:
            rate = row[COMPUTE_SPEED] * 1e12
            flops = rate * row[TIME]
            rates[str(params.get("dtype", "float32"))][flops].append(rate)
    return {
        dtype: BySize(tuple(sorted(sizes)), tuple(statistics.median(sizes[size]) for size in sorted(sizes)))
        for dtype, sizes in rates.items()
    }


def _memory(rows: Iterable[Mapping[str, Any]]) -> float | None:
    speeds = [
        row[MEMORY_BANDWIDTH] * 1e9
        for row in rows
        if row["suite"] == "compute"
        and row[MEMORY_BANDWIDTH]
        and (as_count(row["params"].get("num_bytes")) or 0) >= LARGE_BYTES
    ]
    return statistics.median(speeds) if speeds else None


def _storage(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Speed of synchronous saves that are synced to the storage, in GB/s."""
    saves = [row for row in rows if row["suite"] == "checkpoint" and row["params"].get("op") == "save"]
    speeds = [row.get("storage_gb_per_s") for row in saves if row["params"].get("fsync", True)]
    known = [float(speed) for speed in speeds if speed]
    return statistics.median(known) if known else None


def _memory_of_rank(results: Sequence[Result], memories: Sequence[int]) -> float | None:
    """A GPU's own; of a host's memory a rank's share."""
    if not memories:
        return None
    shared = max(1, len(results[0].environment.ranks)) if _on_cores(results[0]) else 1
    return float(min(memories)) / shared


def _on_cores(result: Result) -> bool:
    return any(rank.device_type == "cpu" for rank in result.environment.ranks)


def _jitter(results: Iterable[Result]) -> float | None:
    """Jitter of one rank's own multiplications, the median over cases and ranks."""
    shares = []
    for result in results:
        for record in result.latest():
            if record.suite != "compute" or record.status != "ok":
                continue
            matrix = record.variants[record.main].nanoseconds
            for samples in matrix if matrix is not None and matrix.shape[1] >= 10 else ():
                middle = float(np.median(samples))
                shares.append(1.4826 * float(np.median(np.abs(samples - middle))) / middle)
    return min(MAX_JITTER, statistics.median(shares)) if shares else None


def _traced_steps(
    results: Iterable[Result], sorts: Collection[str]
) -> Iterator[tuple[int, str, list[list[int]], list[list[int]]]]:
    """Ranks, case, and of each rank's traced calls the nanoseconds of pieces of `sorts` and of the whole call."""
    for result in results:
        for record in result.latest():
            if record.suite == step_factors.SUITE and record.status == "ok" and record.spans:
                spans: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
                for span in record.spans:
                    spans[span.rank, span.call].append(span)
                wholes = record.traced_call_ns
                spent = [
                    [_spent_ns(spans[rank, call], rank, whole, sorts) for call, whole in enumerate(calls)]
                    for rank, calls in enumerate(wholes)
                ]
                yield len(wholes), record.case, spent, wholes


def _step_jitter(results: Iterable[Result]) -> float | None:
    """Jitter of the ranks' own computation between traced calls of training steps; None without any."""
    ranks = [calls for _, _, spent, _ in _traced_steps(results, (timeline.COMPUTE,)) for calls in spent]
    shares = [float(np.std(np.log(calls), ddof=1)) for calls in ranks if len(calls) >= MIN_STEPS and min(calls) > 0]
    return min(MAX_JITTER, statistics.median(shares)) if shares else None


def _own_shares(results: Iterable[Result]) -> dict[tuple[int, str], float]:
    """(ranks, case) -> the busiest rank's own work as a share of a call, the median over calls and launches: what is
    computed, and what lies in no span, which is the host's own.
    """
    shares_of_case: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for ranks, case, spent, wholes in _traced_steps(results, (timeline.COMPUTE, timeline.HOST)):
        shares = [[o / w for o, w in zip(*pair, strict=True)] for pair in zip(spent, wholes, strict=True)]
        if all(shares):
            shares_of_case[ranks, case].append(max(map(statistics.median, shares)))
    return {key: statistics.median(shares) for key, shares in shares_of_case.items()}


def _spent_ns(spans: Sequence[Span], rank: int, call_ns: int, sorts: Collection[str]) -> int:
    """`spans` are those of one call on the rank."""
    pieces = timeline.pieces_of(spans, rank, call_ns)
    return sum(piece.end - piece.start for piece in pieces if piece.sort in sorts)


def _between_launches(results: Iterable[Result]) -> float | None:
    spreads = []
    for result in results:
        for group in case_groups([result]).values():
            medians = group.view.medians
            if len(medians) > 1:
                spreads.append(float(np.std(np.log(medians), ddof=1)))
    return statistics.median(spreads) if spreads else None


def _num_cores(results: Iterable[Result]) -> int | None:
    """Usable cores of the host that has the fewest; None if the files do not say."""
    counts = []
    for result in results:
        counts += [host.usable_cores for host in result.environment.hosts.values() if host.usable_cores]
    return min(counts) if counts else None


def device(measured: Measured, precision: str, options: Mapping[str, Any], common: Common) -> Device:
    """The files' device. Of a known accelerator the catalogue's peaks and links stay, for MFU and for what is not
    measured.

    Raises BenchError if the files have no multiplication of the precision.
    """
    rates = measured.rates.get(DTYPES.get(precision, precision))
    if rates is None:
        have = ", ".join(name for name, dtype in DTYPES.items() if dtype in measured.rates)
        raise BenchError(f"--precision {precision}: the files have multiplications in {have}; take one of them")
    best = max(rates.values) * options["device_share"]
    known = accelerators.find(
        measured.device_name, None if measured.memory_bytes is None else int(measured.memory_bytes)
    )
    latencies = (common.inside_latency_seconds, common.across_latency_seconds)
    if known is not None and known.has_rates:
        base = devices.find(known.name, options["nic_gbit"], options["domain_size"], latencies, options["memory_gb"])
        return replace(base, notes=(*base.notes, f"rates measured in {', '.join(measured.paths)}"))
    if measured.memory_bytes_per_s is None:
        raise BenchError(
            f"--from: no copy or triad of {LARGE_BYTES // 2**20} MiB measured there; bench run compute gives them"
        )
    nic = options["nic_gbit"]
    memory = options["memory_gb"] * 1e9 if options["memory_gb"] else measured.memory_bytes
    return Device(
        name=measured.device_name,
        bf16_flops_per_s=best,
        fp8_flops_per_s=None,
        reached_bf16_flops_per_s=best,
        memory_bytes=memory,
        # The share that is reached is taken off again: this is what was reached.
        memory_bytes_per_s=measured.memory_bytes_per_s / common.memory_share,
        domain_size=options["domain_size"] or measured.ranks,
        inside=None,
        across=None if nic is None else devices.Level(nic * 1e9 / 8, common.across_latency_seconds, "given"),
        power_watts=None,
        nominal_watts=None,
        notes=("peak not known: MFU is against the best measured multiplication",),
        fp32_flops_per_s=best if precision == "fp32" else None,
        overlaps=not measured.on_cores,
    )
