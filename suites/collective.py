"""Collectives: latency, algorithm and bus bandwidth of every operation, over sizes and types.

One call of one collective on all ranks, with tensors that stay where they are from call to call. `num_bytes`
is the payload as nccl-tests counts it: the buffer of a rank, and for all_gather, reduce_scatter, gather and
scatter the full buffer, that is n times the share of a rank. It is rounded down to a multiple of n elements (n
elements at least), so that all operations move the same payload; the result has the bytes really moved. The
root is rank 0. The operations themselves are rows of bench/workloads/comm/collectives.py.

The check fills the very tensors of the timed call with small whole numbers, different on every rank, runs the
very callable that is timed, and compares every element of the output; any difference fails.

all_reduce and reduce work in place: their inputs are restored before every sample. Within one streamed sample
the values grow, past the end of small types, which costs no time. A broadcast repeated in place moves the
same bytes again and needs no restoring.

`buffer=registered` takes memory that is registered with NCCL, `buffer=symmetric` torch's own all-reduce over
memory that every rank maps: bench/workloads/comm/buffers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.measure.system.backends import BACKENDS, resolve
from bench.parallelism.collectives import CASE_DEFAULTS
from bench.suite import ITEM_BYTES, Check, Machine, Param, Params, Presets, Work, check_choices, positive_int, skip_if
from bench.workloads.comm.buffers import KINDS, PLAIN, SYMMETRIC, Empty, allocator, skip_reason, symmetric_all_reduce
from bench.workloads.comm.collectives import OPERATIONS, ROOT, Buffers, Collective, Payload
from bench.workloads.comm.exact_check import CHECK_BYTES, early_departures, fill, largest_error, poison
from bench.workloads.comm.timed_outputs import barrier_check, timed_check

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

KIB, MIB, GIB = 2**10, 2**20, 2**30
DEFAULTS = CASE_DEFAULTS
CHOICES: dict[str, tuple[Param, ...]] = {
    "op": tuple(OPERATIONS),
    "dtype": ("float32", "bfloat16", "float16", "int32"),
    "timing": ("aligned", "streamed"),
    "async_op": (False, True),
    "graph": (False, True),
    "l2": ("warm", "cold"),
    "buffer": KINDS,
}


@dataclass(frozen=True)
class PayloadSizes:
    """Sizes of a preset in bytes. The base point is varied one factor at a time."""

    base: int
    latency: int
    """Small enough for start-up costs alone, to compare overheads."""
    every_op: tuple[int, ...]
    ladder: tuple[int, ...]
    """Sizes of all_reduce."""


def _powers(first: int, last: int, ratio: int) -> tuple[int, ...]:
    return (first, *_powers(first * ratio, last, ratio)) if first <= last else ()


SIZES = Presets(
    cpu={
        "smoke": PayloadSizes(MIB, KIB, (), (KIB, 64 * KIB, MIB)),
        "standard": PayloadSizes(MIB, KIB, (64 * MIB, KIB), _powers(KIB, 64 * MIB, 4)),
        "full": PayloadSizes(MIB, KIB, _powers(KIB, GIB, 2), _powers(KIB, GIB, 2)),
    },
    cuda={
        "smoke": PayloadSizes(64 * MIB, KIB, (), (KIB, MIB, 64 * MIB)),
        "standard": PayloadSizes(64 * MIB, KIB, (4 * GIB, KIB), _powers(KIB, 4 * GIB, 4)),
        "full": PayloadSizes(64 * MIB, KIB, _powers(KIB, 16 * GIB, 2), _powers(KIB, 16 * GIB, 2)),
    },
)


def cases(machine: Machine) -> Iterable[Params]:
    """The base point, every operation at its size, every other factor varied there, then the other sizes."""
    unique = {tuple(sorted(row.items())): row for row in _points(SIZES.at(machine), machine.device_type)}
    return unique.values()


def _points(sizes: PayloadSizes, device_type: str) -> Iterator[Params]:
    backend = resolve(device_type, None)
    base: Params = {"op": "all_reduce", "num_bytes": sizes.base}
    latency: Params = base | {"num_bytes": sizes.latency}
    moving = [name for name, row in OPERATIONS.items() if row.bus_factor]
    yield base
    yield latency
    yield base | {"num_bytes": max(sizes.ladder)}
    yield from (base | {"op": op} for op in moving)
    yield {"op": "barrier"}
    yield from (base | {"dtype": dtype} for dtype in (*backend.dtypes, "int32") if dtype != DEFAULTS["dtype"])
    for point in (base, latency):
        yield point | {"timing": "streamed"}
        yield point | {"async_op": True}
        if backend.has_graphs:
            yield point | {"graph": True}
        if device_type == "cuda":
            yield point | {"l2": "cold"}
            yield from (point | {"buffer": kind} for kind in KINDS if kind != PLAIN)
    yield from (base | {"num_bytes": num_bytes} for num_bytes in sizes.ladder)
    yield from (base | {"op": op, "num_bytes": size} for size in sizes.every_op for op in moving)


def memory(params: Params, machine: Machine) -> int:
    """Bytes of the busiest rank, the root: buffers, the copy that restores them, and scratch.

    Raises BenchError for a bad num_bytes or type.
    """
    row = _row(params)
    if not row.bus_factor or "num_bytes" not in params:
        return CHECK_BYTES
    payload = Payload(_num_elements(params, machine.world_size), machine.world_size, ROOT)
    elements = row.input(payload) + (row.output(payload) if row.output else 0)
    elements += payload.count if row.reduces_in_place else 0
    if machine.device_type == "cpu":
        elements += payload.count  # the most that gloo takes of its own: it gathers by way of a full copy
    return elements * ITEM_BYTES[str(params["dtype"])] + CHECK_BYTES


def _row(params: Params) -> Collective:
    check_choices("collective", params, {name: CHOICES[name] for name in ("op", "dtype", "buffer")})
    return OPERATIONS[str(params["op"])]


def _num_elements(params: Params, num_ranks: int) -> int:
    """Elements of the payload: a multiple of the number of ranks. Raises BenchError for a bad size."""
    return (
        max(1, positive_int("collective", params, "num_bytes") // ITEM_BYTES[str(params["dtype"])] // num_ranks)
        * num_ranks
    )


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad num_bytes or type, Skip for what has no meaning here."""
    row = _row(params)
    count = _num_elements(params, rank.world_size) if row.bus_factor and "num_bytes" in params else 0
    kind, num_bytes = str(params["buffer"]), count * ITEM_BYTES[str(params["dtype"])]
    skip_if(_skip_reason(params, rank, row))
    skip_if(skip_reason(kind, str(params["op"]), str(params["dtype"]), num_bytes, rank.world_size, rank.backend))
    payload = Payload(count, rank.world_size, rank.index)
    dtype = str(params["dtype"])
    stack = ExitStack()
    with allocator(kind, rank, stack) as empty:
        buffers = _make_buffers(row, payload, dtype, rank, empty)
    restore = partial(buffers.input.copy_, buffers.input.clone()) if row.reduces_in_place else None
    call = _bound(row, buffers, rank, bool(params["async_op"]))
    if kind == SYMMETRIC:
        call = symmetric_all_reduce(buffers.input, rank)
    run, close = _capture(call) if params["graph"] else (call, None)
    if close is not None:
        stack.callback(close)
    return Work(
        variants={"full": run},
        check=_make_check(row, payload, buffers, run, rank),
        timed_checks={"full": timed_check(row, payload, buffers) if row.bus_factor else barrier_check(rank)},
        reset=restore,
        close=stack.close,
        bytes=num_bytes if row.bus_factor else None,
        bus_factor=row.bus_factor(rank.world_size) if row.bus_factor else None,
        notes=_notes(params, row),
    )


def _skip_reason(params: Params, rank: RankContext, row: Collective) -> str | None:
    """The first of the reasons that holds."""
    backend, op, has_size = BACKENDS[rank.backend], params["op"], "num_bytes" in params
    reasons = (
        (rank.world_size < 2, "needs at least 2 ranks: one alone has no other rank to exchange data with"),
        (op in backend.unsupported_ops, f"backend {backend.name} has no {op}"),
        (row.bus_factor and not has_size, f"{op} needs num_bytes, the size of its payload"),
        (not row.bus_factor and has_size, f"{op} moves no data: num_bytes has no meaning for it"),
        (params["async_op"] and params["buffer"] == SYMMETRIC, f"buffer={SYMMETRIC}: its all-reduce has no async_op"),
        (params["graph"] and not backend.has_graphs, f"graph: backend {backend.name} has no CUDA graphs"),
        (params["graph"] and not row.bus_factor, f"graph: {op} waits on the host, which a graph cannot hold"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _notes(params: Params, row: Collective) -> tuple[str, ...]:
    if row.is_rooted and params["timing"] == "streamed":
        return ("rooted and streamed: calls may overlap, as a rank whose part is done goes on to the next",)
    return ()


def _make_buffers(row: Collective, payload: Payload, dtype: str, rank: RankContext, make_empty: Empty) -> Buffers:
    import torch

    empty = partial(make_empty, dtype=getattr(torch, dtype), device=rank.device)
    inputs = empty(row.input(payload))
    fill(inputs, rank)
    output = empty(row.output(payload)) if row.output else inputs
    full = max(inputs, output, key=len)
    has_parts = row.is_rooted and row.output and payload.at_root
    return Buffers(inputs, output, list(full.chunk(payload.num_ranks)) if has_parts else None)


def _bound(row: Collective, buffers: Buffers, rank: RankContext, async_op: bool) -> Callable[[], object]:
    import torch.distributed as dist

    call = partial(row.bind(dist, buffers), group=rank.group)
    if not async_op:
        return call
    start = partial(call, async_op=True)
    return lambda: start().wait()


def _capture(call: Callable[[], object]) -> tuple[Callable[[], object], Callable[[], object]]:
    """One call as a CUDA graph: its replay, and what frees it."""
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # the first calls open NCCL's connections, which a capture cannot hold
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay, graph.reset


def _make_check(
    row: Collective, payload: Payload, buffers: Buffers, run: Callable[[], object], rank: RankContext
) -> Callable[[], Check]:
    def check_barrier() -> Check:
        return Check(float(early_departures(run, rank)), 0.0)

    def check_data() -> Check:
        poison(buffers.output)
        fill(buffers.input, rank)
        run()
        return Check(largest_error(buffers.output, row.expected(payload), rank), 0.0)

    return check_data if row.bus_factor else check_barrier
