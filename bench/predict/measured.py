"""Rates of this machine from results of `bench run`, in place of the catalogue's.

    compute          a multiplication's rate by its size; the bandwidth of memory; how much ranks disturb one another
    collective,      latency and bandwidth of each operation between so many ranks: t = a + b x bytes, fitted to the
    sizes
    point_to_point   in relative error (least squares of the ratio), so that small and large messages count alike
    training_step    where there is one: what a step took over what is predicted of it, on the fewest ranks; the factor
                     stands for all that the rates do not know, and holds for the work of a device, not for transfers
    samples          jitter of a rank: 1.4826 x median absolute deviation of its own times, as a share

The devices are the file's. What the files do not have comes from the catalogue, or is asked for.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench import frame, hardware
from bench.errors import BenchError
from bench.predict import calibrate
from bench.predict import hardware as devices
from bench.predict.calibrate import MeasuredStep
from bench.predict.constants import Common
from bench.predict.hardware import Device
from bench.predict.matmul import MeasuredRates
from bench.predict.network import Group, Network
from bench.result import Result, load_many

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3fn"}
MAX_JITTER = 0.5
LARGE_BYTES = 32 * 2**20
"""Memory is measured beyond the caches."""


@dataclass(frozen=True)
class Line:
    """t = latency + bytes / rate of one operation among `ranks`; `rate` is of the payload."""

    op: str
    ranks: int
    latency_seconds: float
    bytes_per_s: float
    sizes: int


@dataclass(frozen=True)
class Measured:
    """What some result files say of a machine."""

    paths: tuple[str, ...]
    device_name: str
    memory_bytes: float | None
    num_cores: int | None
    """Cores that the ranks of one host share, where the devices are cores."""
    ranks: int
    rates: Mapping[str, MeasuredRates]
    """Type -> a multiplication's rate, all ranks at once where that was measured."""
    memory_bytes_per_s: float | None
    lines: tuple[Line, ...]
    jitter_share: float | None
    steps: tuple[MeasuredStep, ...]
    storage_gb_per_s: float | None
    """What checkpoints of the `checkpoint` suite were saved at, all its ranks together."""
    launch_share: float | None
    """Standard deviation of the logarithm between launches: what another day would differ by."""


def read(paths: Sequence[str]) -> Measured:
    """Raises BenchError for unreadable files, or where none has a measured multiplication."""
    results = load_many(paths)
    rows = [row for row in frame.case_rows(results) if row["status"] == "ok" and row["seconds_median"]]
    rates = _rates(rows)
    if not rates:
        raise BenchError(
            f"--from {', '.join(map(str, paths))}: no multiplication measured there; bench run compute gives them"
        )
    described = [device for result in results for device in result.rank_devices()]
    names = {name for _, name, _ in described if name}
    if len(names) > 1:
        raise BenchError(f"--from: devices of several types: {', '.join(sorted(names))}; give files of one type")
    memories = [num_bytes for _, _, num_bytes in described if num_bytes]
    return Measured(
        paths=tuple(str(result.path) for result in results),
        device_name=next(iter(names), "unknown device"),
        memory_bytes=_memory_of_rank(results, memories),
        num_cores=_num_cores(results),
        ranks=max(row["num_ranks"] for row in rows),
        rates=rates,
        memory_bytes_per_s=_memory(rows),
        lines=tuple(_lines(rows)),
        jitter_share=_jitter(results),
        steps=tuple(calibrate.steps(rows, DTYPES)),
        storage_gb_per_s=_storage(rows),
        launch_share=_between_launches(results),
    )


def _rates(rows: Iterable[Mapping[str, Any]]) -> dict[str, MeasuredRates]:
    """Of `compute`'s multiplications; not of `tensor_parallel`, whose time has transfers in it."""
    found: defaultdict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        params = row["params"]
        if row["suite"] == "compute" and params.get("op") == "matmul" and row["tflop_per_s"]:
            rate = row["tflop_per_s"] * 1e12
            flops = rate * row["seconds_median"]
            found[str(params.get("dtype", "float32"))][flops].append(rate)
    return {
        dtype: MeasuredRates(tuple(sorted(sizes)), tuple(statistics.median(sizes[size]) for size in sorted(sizes)))
        for dtype, sizes in found.items()
    }


def _memory(rows: Iterable[Mapping[str, Any]]) -> float | None:
    speeds = [
        row["membw_gb_per_s"] * 1e9
        for row in rows
        if row["suite"] == "compute" and row["membw_gb_per_s"] and row["params"].get("num_bytes", 0) >= LARGE_BYTES
    ]
    return statistics.median(speeds) if speeds else None


def _storage(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Of synchronous saves that are synced to the storage."""
    saves = [row for row in rows if row["suite"] == "checkpoint" and row["params"].get("op") == "save"]
    speeds = [row.get("storage_gb_per_s") for row in saves if row["params"].get("fsync", True)]
    known = [float(speed) for speed in speeds if speed]
    return statistics.median(known) if known else None


def _memory_of_rank(results: Sequence[Result], memories: Sequence[int]) -> float | None:
    """A GPU's own; of a host's memory a rank's share."""
    if not memories:
        return None
    ranks = results[0].environment.get("ranks") or []
    shared = max(1, len(ranks)) if any(rank.get("device_type") == "cpu" for rank in ranks) else 1
    return float(min(memories)) / shared


def _lines(rows: Sequence[Mapping[str, Any]]) -> Iterable[Line]:
    points: defaultdict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        params = row["params"]
        size = params.get("num_bytes")
        plain = params.get("timing", "aligned") == "aligned" and not params.get("async_op", False)
        plain &= params.get("dtype", "float32") == "float32" and row["suite"] == "collective"
        if plain and isinstance(size, int):
            points[str(params.get("op")), row["num_ranks"]][size].append(row["seconds_median"])
    yield from _pairs(rows)
    for (op, ranks), sizes in points.items():
        if len(sizes) >= 2 and ranks > 1:
            yield fitted_line(op, ranks, {size: statistics.median(times) for size, times in sizes.items()})


def _pairs(rows: Sequence[Mapping[str, Any]]) -> Iterable[Line]:
    """A message between two ranks, by the `point_to_point` suite's own latency and bandwidth of the median pair."""
    own = [row for row in rows if row["suite"] == "point_to_point"]
    latencies = [row["pair_latency_seconds"] for row in own if row.get("pair_latency_seconds")]
    speeds = [row["median_pair_gb_per_s"] * 1e9 for row in own if row.get("median_pair_gb_per_s")]
    if latencies and speeds:
        ranks = max(row["num_ranks"] for row in own)
        yield Line("send", ranks, min(latencies), max(speeds), len(speeds))


def fitted_line(op: str, ranks: int, seconds: Mapping[int, float]) -> Line:
    """Least squares of (a + b n - t) / t; a latency or slope below 0 is noise, and the other is fitted alone."""
    sizes = np.array(sorted(seconds), dtype=float)
    times = np.array([seconds[int(size)] for size in sizes])
    matrix = np.stack([1.0 / times, sizes / times], axis=1)
    (latency, slope), *_ = np.linalg.lstsq(matrix, np.ones(len(sizes)), rcond=None)
    if latency <= 0.0:
        column = sizes / times
        latency, slope = 0.0, float(column.sum() / (column**2).sum())
    if slope <= 0.0:
        latency, slope = float(np.median(times)), 1e-15
    return Line(op, ranks, float(latency), 1.0 / float(slope), len(sizes))


def _jitter(results: Iterable[Result]) -> float | None:
    """Of one rank's own multiplications, the median over cases and ranks."""
    shares = []
    for result in results:
        for record in result.latest():
            if record["suite"] != "compute" or record["status"] != "ok":
                continue
            main: dict[str, Any] = next(iter(record["variants"].values()), {})
            for samples in main.get("nanoseconds") or []:
                if len(samples) >= 10:
                    middle = statistics.median(samples)
                    shares.append(1.4826 * statistics.median(abs(each - middle) for each in samples) / middle)
    return min(MAX_JITTER, statistics.median(shares)) if shares else None


def _between_launches(results: Iterable[Result]) -> float | None:
    spreads = []
    for result in results:
        for group in frame.groups([result]).values():
            medians = group.view.medians
            if len(medians) > 1:
                spreads.append(float(np.std(np.log(medians), ddof=1)))
    return statistics.median(spreads) if spreads else None


def _num_cores(results: Iterable[Result]) -> int | None:
    """Of the host with fewest, where ranks run on cores."""
    counts = []
    for result in results:
        hosts = result.environment.get("hosts") or {}
        counts += [int(host["usable_cores"]) for host in hosts.values() if host.get("usable_cores")]
    return min(counts) if counts else None


def device(found: Measured, precision: str, options: Mapping[str, Any], common: Common) -> Device:
    """The files' device. Of a known accelerator the catalogue's peaks and links stay, for MFU and for what is not
    measured.

    Raises BenchError where the files have no multiplication of the precision.
    """
    rates = found.rates.get(DTYPES[precision])
    if rates is None:
        have = ", ".join(name for name, dtype in DTYPES.items() if dtype in found.rates)
        raise BenchError(f"--precision {precision}: the files have multiplications in {have}; take one of them")
    best = max(rates.flops_per_s) * options["device_share"]
    known = hardware.find(found.device_name, None if found.memory_bytes is None else int(found.memory_bytes))
    latencies = (common.inside_latency_seconds, common.across_latency_seconds)
    if known is not None:
        base = devices.find(known.name, options["nic_gbit"], options["domain_size"], latencies, options["memory_gb"])
        return replace(base, notes=(*base.notes, f"rates measured in {', '.join(found.paths)}"))
    if found.memory_bytes_per_s is None:
        raise BenchError(
            f"--from: no copy or triad of {LARGE_BYTES // 2**20} MiB measured there; bench run compute gives them"
        )
    nic = options["nic_gbit"]
    memory = options["memory_gb"] * 1e9 if options["memory_gb"] else found.memory_bytes
    return Device(
        name=found.device_name,
        bf16_flops_per_s=best,
        fp8_flops_per_s=None,
        reached_bf16_flops_per_s=best,
        memory_bytes=memory,
        # The share that is reached is taken off again: this is what was reached.
        memory_bytes_per_s=found.memory_bytes_per_s / common.memory_share,
        domain_size=options["domain_size"] or found.ranks,
        inside=None,
        across=None if nic is None else devices.Level(nic * 1e9 / 8, common.across_latency_seconds, "given"),
        power_watts=None,
        nominal_watts=None,
        notes=("peak not known: MFU is against the best measured multiplication",),
        fp32_flops_per_s=best if precision == "fp32" else None,
    )


class MeasuredNetwork(Network):
    """Inside a domain by the fitted lines, each operation by its own; across domains as the catalogue's or given.

    Among another number of ranks than measured the bytes cost as bus bandwidth says (nccl-tests, doc/PERFORMANCE.md),
    and the latency grows with the steps of a ring.
    """

    def __init__(self, device: Device, common: Common, lines: Sequence[Line], share: float = 1.0) -> None:
        """`share`: of a core that a rank has; on cores transfers take the same ones as the work."""
        super().__init__(device, common)
        self._lines: dict[str, Line] = {}
        for line in sorted(lines, key=lambda line: line.ranks):
            latency, rate = line.latency_seconds / share, line.bytes_per_s * share
            # Of several numbers of ranks the largest stays.
            self._lines[line.op] = replace(line, latency_seconds=latency, bytes_per_s=rate)

    def all_reduce_seconds(self, num_bytes: float, group: Group) -> float:
        own = self._of("all_reduce", num_bytes, group)
        return super().all_reduce_seconds(num_bytes, group) if own is None else own

    def gather_seconds(self, num_bytes: float, group: Group) -> float:
        found = [self._of(op, num_bytes, group) for op in ("all_gather", "reduce_scatter")]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known) / len(known) if known else super().gather_seconds(num_bytes, group)

    def all_to_all_seconds(self, num_bytes: float, group: Group) -> float:
        own = self._of("all_to_all", num_bytes, group)
        return super().all_to_all_seconds(num_bytes, group) if own is None else own

    def send_seconds(self, num_bytes: float, crosses: bool) -> float:
        line = next((self._lines[op] for op in ("send", "broadcast") if op in self._lines), None)
        if crosses or line is None:
            return super().send_seconds(num_bytes, crosses)
        return line.latency_seconds + num_bytes / line.bytes_per_s

    def _inside(self) -> float:
        line = self._lines.get("all_reduce")
        if self.inside_bytes_per_s is None and line is not None:
            return line.bytes_per_s * 2.0 * (line.ranks - 1) / line.ranks
        return super()._inside()

    def _of(self, op: str, num_bytes: float, group: Group) -> float | None:
        line = self._lines.get(op)
        if line is None or group.domains > 1:
            return None
        if group.size == 1:
            return 0.0
        share = ((group.size - 1) / group.size) / ((line.ranks - 1) / line.ranks)
        return line.latency_seconds * (group.size - 1) / (line.ranks - 1) + num_bytes / line.bytes_per_s * share
