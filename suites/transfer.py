"""Transfer: copies between host memory and devices, and between NUMA nodes: bandwidth, both ways at once, latency.

`host_to_device` and `device_to_host` are one direction, `both_ways` both at once, on two streams. `device_to_device`
pushes to the next GPU that the process sees; all ranks do so at once, so that each GPU sends and receives. `latency` is
`num_bytes` (8) to the device and back, until the host has them; half of it is the latency. `host_to_host` is a copy by
the rank's cores from memory of a NUMA node to memory near them, and what a machine without GPUs measures.

`memory=pinned` is host memory that the device reads by itself; pageable memory is copied by the driver first.
`node=near` is memory of the NUMA node of the GPU, or of the cores that copy; `node=far` that of the farthest other
node, with the same copy of near memory as the variant `near`. The pages are put there by mbind(2), or if that is
refused, as in containers, by a first touch on a core of the node. The kernel is asked where they are before and after
the samples, and the case has no result if any lies elsewhere. The rank's threads stay on the near node meanwhile.

All ranks copy at once in the case itself; then those of one local index at a time (`alone_0`, `alone_1`, ...).
`num_bytes` is what crosses in one direction, and bandwidth is per direction. The check compares every element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING

from bench.measure.system.host import available_host_memory_bytes
from bench.suite import (
    ITEM_BYTES,
    Machine,
    Observed,
    Params,
    Presets,
    Skip,
    SuiteMetric,
    Table,
    Work,
    check_choices,
    positive_int,
    skip_if,
)
from bench.workloads.comm.exact_check import CHECK_BYTES

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.transfers import Transfers

KIB, MIB, GIB = 2**10, 2**20, 2**30
MAX_ALONE = 16
"""Ranks of a host that are also timed one by one."""


@dataclass(frozen=True)
class CopyForm:
    """One row: an operation, its parameters and its buffers."""

    needs: frozenset[str]
    """Parameters besides `num_bytes`."""
    device_arrays: int
    host_arrays: int
    """Arrays of `num_bytes` on the device and in host memory; of a far node there are twice as many."""
    memories: tuple[str, ...] = ("pinned", "pageable")
    is_latency: bool = False


_HOST = frozenset({"memory", "node"})
FORMS: Mapping[str, CopyForm] = {
    "host_to_device": CopyForm(_HOST, 1, 1),
    "device_to_host": CopyForm(_HOST, 1, 1),
    "both_ways": CopyForm(_HOST, 2, 2, memories=("pinned",)),
    "device_to_device": CopyForm(frozenset(), 2, 0),
    "host_to_host": CopyForm(frozenset({"node"}), 0, 2),
    "latency": CopyForm(_HOST, 1, 2, is_latency=True),
}
DEFAULTS: Params = {"timing": "aligned"}
MACHINERY = ("bench.measure.system.memory.numa", "bench.measure.system.memory.page_nodes")
CHOICES = {
    "op": tuple(FORMS),
    "memory": ("pinned", "pageable"),
    "node": ("near", "far"),
    "timing": ("aligned", "streamed"),
}
METRICS = {
    "copy_gb_per_s": SuiteMetric(
        "GB/s", "higher", "Bandwidth per direction of the slowest rank while all ranks of its host copy."
    ),
    "alone_gb_per_s": SuiteMetric(
        "GB/s", "higher", "Bandwidth per direction of the median rank while the others of its host rest."
    ),
    "contention": SuiteMetric(
        "x", "lower", "Time with all ranks at once over the time alone, of the rank losing most."
    ),
    "rank_spread": SuiteMetric("x", "lower", "Time of the slowest rank over that of the fastest, each alone."),
    "far_over_near": SuiteMetric(
        "x", "lower", "Time with memory of the farthest NUMA node over the time with memory of the near one."
    ),
    "duplex_gain": SuiteMetric(
        "x",
        "higher",
        "Time of one direction after the other over the time of both at once; 2 if neither slows the other.",
    ),
    "copy_latency_seconds": SuiteMetric(
        "s", "lower", "Half of the time of a small copy to the device and back, until the host has it."
    ),
}


@dataclass(frozen=True)
class TransferSizes:
    """TransferSizes of a preset in bytes; the first is the base point."""

    num_bytes: tuple[int, ...]
    ops: tuple[str, ...]
    has_variety: bool = True
    """Pageable memory and far nodes at the base point, too."""


_LINKS = ("host_to_device", "device_to_host", "both_ways", "latency", "device_to_device")
SIZES = Presets(
    cpu={
        "smoke": TransferSizes((64 * MIB,), ("host_to_host",), has_variety=False),
        "standard": TransferSizes((64 * MIB, 4 * MIB), ("host_to_host",)),
        "full": TransferSizes((64 * MIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB), ("host_to_host",)),
    },
    cuda={
        "smoke": TransferSizes((64 * MIB,), ("host_to_device", "device_to_host"), has_variety=False),
        "standard": TransferSizes((512 * MIB,), _LINKS),
        "full": TransferSizes((512 * MIB, 64 * KIB, MIB, 16 * MIB, 128 * MIB, GIB), (*_LINKS, "host_to_host")),
    },
)
LATENCY_BYTES = 8


def cases(machine: Machine) -> Iterable[Params]:
    """Near pinned memory at the base point, other sizes, then pageable memory and far nodes at the base point."""
    rows = list(_points(SIZES.at(machine)))
    return list({tuple(sorted(row.items())): row for row in rows}.values())


def _points(sizes: TransferSizes) -> Iterator[Params]:
    base, *others = sizes.num_bytes
    plain = [op for op in sizes.ops if not FORMS[op].is_latency]
    yield from (_point(op, base) for op in sizes.ops)
    yield from (_point(op, num_bytes) for num_bytes, op in product(others, plain))
    if sizes.has_variety:
        varied = (("pageable", "near"), ("pinned", "far"), ("pageable", "far"))
        yield from (_point(op, base, *kinds) for kinds, op in product(varied, sizes.ops) if kinds[0] in _memories(op))


def _memories(op: str) -> tuple[str, ...]:
    return FORMS[op].memories


def _point(op: str, num_bytes: int, memory: str = "pinned", node: str = "near") -> Params:
    form = FORMS[op]
    given: Params = {"memory": memory, "node": node}
    size = LATENCY_BYTES if form.is_latency else num_bytes
    point: Params = {"op": op, "num_bytes": size}
    return point | {name: value for name, value in given.items() if name in form.needs}


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank's arrays, those in host memory only on a CPU, and of the check. Raises BenchError for a bad
    value."""
    form, times = _form(params), 2 if params.get("node") == "far" else 1
    arrays = form.device_arrays + (form.host_arrays if machine.device_type == "cpu" else 0)
    return times * arrays * _num_elements(params) * ITEM_BYTES["float32"] + CHECK_BYTES


def _form(params: Params) -> CopyForm:
    check_choices("transfer", params, CHOICES)
    return FORMS[str(params["op"])]


def _num_elements(params: Params) -> int:
    return max(1, positive_int("transfer", params, "num_bytes") // ITEM_BYTES["float32"])


def _misfit(params: Params, form: CopyForm, device_type: str) -> str | None:
    """Reason why these parameters do not belong together, or not on this kind of device."""
    op, given = params["op"], set(params) - {"op", "num_bytes", *DEFAULTS}
    if form.device_arrays and device_type == "cpu":
        return f"{op} needs a GPU; host_to_host is the copy that a CPU makes"
    if given - form.needs:
        return f"{', '.join(sorted(given - form.needs))} has no meaning for {op}"
    if form.needs - given:
        return f"{op} needs a value for {', '.join(sorted(form.needs - given))}"
    if params.get("memory", "pinned") not in form.memories:
        return f"{op} needs memory=pinned: the driver copies pageable memory one direction after the other"
    return None


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a value that a parameter cannot take, Skip for what has no meaning here."""
    form, num_elements = _form(params), _num_elements(params)
    skip_if(_misfit(params, form, rank.device.type))
    _require_devices(params, form)
    num_bytes = num_elements * ITEM_BYTES["float32"]
    far = params.get("node") == "far"
    _require_host_memory(form.host_arrays * num_bytes * (2 if far else 1), rank)
    transfers = _transfers(params, num_elements, rank)
    num_local = min(rank.world_size, rank.machine.ranks_per_host)
    full = transfers.copies["full"].run
    alone = _alone(full, num_local, rank) if 1 < num_local <= MAX_ALONE else {}
    looks = {name: transfers.timed_check(name) for name in transfers.copies}
    looks |= {name: looks["full"] for name, run in alone.items() if run is full}
    return Work(
        communicates=False,
        variants={name: copy.run for name, copy in transfers.copies.items()} | alone,
        check=transfers.check,
        timed_checks=looks,
        clock="host" if form.is_latency else "device",
        close=transfers.close,
        per_rank=transfers.facts,
        derive=partial(derive, form, num_bytes),
        tables=tables,
        notes=transfers.notes(),
    )


def _require_devices(params: Params, form: CopyForm) -> None:
    if "memory" in form.needs or not form.device_arrays:
        return
    import torch

    if torch.cuda.device_count() < 2:
        raise Skip("this process sees 1 GPU: a copy between GPUs needs 2; compute/copy measures one within a GPU")


def _require_host_memory(num_bytes: int, rank: RankContext) -> None:
    """Raises Skip if the arrays of all ranks do not fit into the host's memory."""
    free = available_host_memory_bytes() // rank.machine.ranks_per_host
    if num_bytes > free:
        raise Skip(f"needs {num_bytes / GIB:.1f} GiB of host memory per rank, and {free / GIB:.1f} GiB are free")


def _transfers(params: Params, num_elements: int, rank: RankContext) -> Transfers:
    from bench.workloads.model.transfers import CopyBuffers, Transfers, find_places

    is_pinned = params.get("memory") == "pinned"
    buffers = CopyBuffers(num_elements, is_pinned, find_places(rank), rank)
    return Transfers(str(params["op"]), str(params.get("node", "near")), buffers)


def _alone(run: Callable[[], object], num_local: int, rank: RankContext) -> dict[str, Callable[[], object]]:
    """A variant for each local index, in which the ranks of that index copy and the others return at once."""

    def rest() -> None:
        return None

    return {f"alone_{i}": run if i == rank.local_index else rest for i in range(num_local)}


def derive(form: CopyForm, num_bytes: int, observed: Observed) -> dict[str, float | None]:
    """The suite's metrics; those of variants that were not timed are left out."""
    seconds = observed.seconds
    full = seconds["full"]
    if full <= 0:  # too short for the clock
        return {}
    if form.is_latency:
        figures: dict[str, float | None] = {"copy_latency_seconds": full / 2}
    else:
        figures = {"copy_gb_per_s": num_bytes / full / 1e9}
    if seconds.get("near"):
        figures["far_over_near"] = full / seconds["near"]
    if {"to_device", "to_host"} <= seconds.keys():
        figures["duplex_gain"] = (seconds["to_device"] + seconds["to_host"]) / full
    return figures | _of_ranks(form, num_bytes, observed)


def _of_ranks(form: CopyForm, num_bytes: int, observed: Observed) -> dict[str, float | None]:
    together = observed.rank_seconds["full"]
    variants = [times for name, times in observed.rank_seconds.items() if name.startswith("alone_")]
    # A rank copies in one of these and rests in the others, so that its longest is the one in which it copied.
    alone = tuple(max(times) for times in zip(*variants, strict=True))
    if not alone or min(alone) <= 0:
        return {}
    losses = [at_once / by_itself for at_once, by_itself in zip(together, alone, strict=True)]
    figures: dict[str, float | None] = {"contention": max(losses), "rank_spread": max(alone) / min(alone)}
    if not form.is_latency:
        figures["alone_gb_per_s"] = median(num_bytes / seconds for seconds in alone) / 1e9
    return figures


def tables(observed: Observed) -> dict[str, Table]:
    """Where the host memory of every rank is, as the kernel says; none on a host with one node."""
    columns = ("rank", "near node", "asked for node", "pages found", "placed by")
    rows = tuple(
        (index, facts["near_node"], buffer["node"], _found(buffer["pages"]), buffer["placed_by"])
        for index, facts in enumerate(observed.per_rank)
        for buffer in facts["buffers"]
    )
    if len({row[2] for row in rows}) < 2:
        return {}
    return {"placement": Table(columns, rows, title="NUMA node of host memory")}


def _found(pages: Mapping[str, int]) -> str:
    return ", ".join(f"{count} on node {node}" for node, count in pages.items()) or "not told"
