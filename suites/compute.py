"""Compute: what one device can do, alone and with all ranks at once: matrix multiply and memory bandwidth.

`matmul` is [m, k] @ [k, n] of random normal numbers, different on every rank. `shape=square` has m = n = k = `size`.
Other shapes are the four matrices of a transformer layer of hidden size `size` over `tokens` tokens: query, key
and value in one (`qkv`), `attention_out`, `mlp_up` and `mlp_down` with an inner size of 4 x hidden
(GPT-2). 2mnk FLOPs each (Narayanan et al. 2021, Efficient Large-Scale Language Model Training, appendix).
`dtype=float8_e4m3fn` multiplies in FP8 (`torch._scaled_mm`), with a bfloat16 result.

`copy` (a = b) and `triad` (a = b + s c) are the first and the last kernel of STREAM (McCalpin 1995), counted
as there: 2 and 3 x `num_bytes`, the size of one array; bytes that the cache reads before it writes are not counted.
STREAM asks for each array to be 4 x the last-level cache; the note of each case says how large its arrays are
by that measure, and one size fits into the cache on purpose.

All ranks work at once in the case itself; then those of one local index at a time (`alone_0`, `alone_1`,
...), timed interleaved: that shows a slow device (`rank_spread`) and what ranks of a host take from each
other (`contention`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap
from statistics import median
from typing import TYPE_CHECKING

from bench.measure.system.backends import resolve
from bench.suite import Machine, Observed, Param, Params, Presets, SuiteMetric, Work, check_choices, skip_if
from bench.workloads.model.float8 import DTYPE as FLOAT8
from bench.workloads.model.kernels import (
    CHECK_BYTES,
    LAYER_SHAPES,
    MATMUL_BYTES,
    OPERATIONS,
    SHAPES,
    Kernel,
    KernelOperation,
    dimensions,
)
from bench.workloads.model.product_check import NUM_SAMPLED

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

MIB, GIB = 2**20, 2**30
MAX_ALONE = 16
"""Ranks of a host that are also timed one by one; more would take more time than they tell."""
COLD_SIZE = 2048
"""Size of the matmul that is also timed with a cold L2: its matrices, 24 MiB in 16 bits, fit into that of an A100."""
DEFAULTS: Params = {"dtype": "float32", "timing": "aligned", "l2": "warm"}
METRICS = {
    "alone_tflop_per_s": SuiteMetric(
        "TFLOP/s",
        "higher",
        "Median over the ranks of the speed of one device while the other devices of its host rest.",
    ),
    "alone_membw_gb_per_s": SuiteMetric(
        "GB/s", "higher", "Median over the ranks of the memory bandwidth of one rank while the others of its host rest."
    ),
    "contention": SuiteMetric("x", "lower", "Time with all ranks at once over the time alone, median over the ranks."),
    "rank_spread": SuiteMetric("x", "lower", "Time of the slowest rank over that of the fastest, each alone."),
}
CHOICES: dict[str, tuple[Param, ...]] = {
    "op": tuple(OPERATIONS),
    "dtype": tuple(MATMUL_BYTES),
    "shape": tuple(SHAPES),
    "timing": ("aligned", "streamed"),
    "l2": ("warm", "cold"),
}


@dataclass(frozen=True)
class KernelSizes:
    """Sizes of a preset. The first of each is the base point."""

    squares: tuple[int, ...]
    hidden: tuple[int, ...]
    tokens: int
    copies: tuple[int, ...]
    """Bytes of one array."""
    triads: tuple[int, ...]
    every_dtype: bool = True
    """Every size in every type; otherwise every type at the base point alone."""


_CPU_FULL = (2 * GIB, GIB, MIB, 4 * MIB, 64 * MIB, 256 * MIB)
_CUDA_FULL = (4 * GIB, MIB, 8 * MIB, 64 * MIB, 512 * MIB, 16 * GIB)
# A host takes seconds a GiB to touch memory for the first time (3 in a virtual machine here), so arrays of
# 4 x a cache of hundreds of MiB, as STREAM asks for, are left to the preset that may take its time.
SIZES = Presets(
    cpu={
        "smoke": KernelSizes((1024, 256), (512,), 512, (64 * MIB, 4 * MIB), (4 * MIB,), every_dtype=False),
        "standard": KernelSizes(
            (1024, 256, 512), (1024,), 512, (64 * MIB, 4 * MIB), (64 * MIB, 4 * MIB), every_dtype=False
        ),
        "full": KernelSizes((1024, 128, 256, 512, 2048, 4096), (1024, 4096), 2048, _CPU_FULL, _CPU_FULL),
    },
    cuda={
        "smoke": KernelSizes((8192, 2048), (4096,), 4096, (GIB, 8 * MIB), (GIB,), every_dtype=False),
        "standard": KernelSizes((8192, 1024, 2048, 4096, 16384), (4096,), 8192, (4 * GIB, 8 * MIB), (4 * GIB, 8 * MIB)),
        "full": KernelSizes(
            (8192, 512, 1024, 2048, 4096, 16384, 32768), (4096, 8192, 16384), 8192, _CUDA_FULL, _CUDA_FULL
        ),
    },
)


def cases(machine: Machine) -> Iterable[Params]:
    """The base point in every type, memory bandwidth, the layer's shapes, then other sizes.

    A type that the machine has no instructions for is measured at the smallest size alone.
    """
    unique = {tuple(sorted(row.items())): row for row in _points(SIZES.at(machine), machine)}
    return unique.values()


def _points(sizes: KernelSizes, machine: Machine) -> Iterator[Params]:
    device_type, known = machine.device_type, resolve(machine.device_type, None).dtypes
    dtypes = tuple(dtype for dtype in known if dtype not in machine.slow_types)
    slow = tuple(dtype for dtype in known if dtype in machine.slow_types)

    def square(size: int, dtype: str) -> Params:
        return {"op": "matmul", "shape": "square", "size": size, "dtype": dtype}

    def layer(hidden: int, dtype: str, shape: str) -> Params:
        return {"op": "matmul", "shape": shape, "size": hidden, "tokens": sizes.tokens, "dtype": dtype}

    def memory_bound(op: str, num_bytes: int) -> Params:
        return {"op": op, "num_bytes": num_bytes}

    wanted = dtypes if sizes.every_dtype else dtypes[:1]
    yield from (square(sizes.squares[0], dtype) for dtype in dtypes)
    if slow:  # one small product tells how slow; the one that it is compared with stands beside it
        yield from (square(min(sizes.squares), dtype) for dtype in (*dtypes[:1], *slow))
    if device_type == "cuda":
        yield square(sizes.squares[0], FLOAT8)
    yield memory_bound("copy", sizes.copies[0])
    yield memory_bound("triad", sizes.triads[0])
    yield from starmap(layer, product(sizes.hidden, wanted, LAYER_SHAPES))
    yield from (memory_bound("copy", num_bytes) for num_bytes in sizes.copies)
    if device_type == "cuda":
        yield square(COLD_SIZE, dtypes[0]) | {"l2": "cold"}
    yield from starmap(square, product(sizes.squares, wanted))
    yield from (memory_bound("triad", num_bytes) for num_bytes in sizes.triads)


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank's tensors, and of the check's float64 blocks. Raises BenchError for a bad value."""
    row = _row(params)
    if _misfit(params, row):
        return 0
    sampled = 0
    if params["op"] == "matmul":
        sampled = 4 * 8 * NUM_SAMPLED * dimensions(params)[2]
    return row.num_bytes(params) + sampled + CHECK_BYTES


def _row(params: Params) -> KernelOperation:
    check_choices("compute", params, CHOICES)
    return OPERATIONS[str(params["op"])]


def _misfit(params: Params, row: KernelOperation) -> str | None:
    """Reason why these parameters do not belong to the operation; settings that vary it can bring them together."""
    needed, given = row.needs(params), set(params) - {"op", *DEFAULTS}
    if params["dtype"] == FLOAT8 and params["op"] != "matmul":
        return f"{params['dtype']} is for matmul alone"
    if needed - given:
        return f"{params['op']} needs {', '.join(sorted(needed - given))}"
    if given - needed:
        return f"{', '.join(sorted(given - needed))} has no meaning for this {params['op']}"
    return None


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a value that a parameter cannot take, Skip if two do not fit together."""
    row = _row(params)
    skip_if(_misfit(params, row))
    kernel = row.make(params, rank)
    num_local = min(rank.world_size, rank.machine.ranks_per_host)
    alone = _alone(kernel.run, num_local, rank) if 1 < num_local <= MAX_ALONE else {}
    variants = {"full": kernel.run} | alone
    crowded = f"ranks were not timed alone: {num_local} on a host, and at most {MAX_ALONE} are"
    return Work(
        communicates=False,
        variants=variants,
        check=kernel.check,
        # Ranks that rest in a variant have nothing to look at.
        timed_checks={name: kernel.timed_check for name, run in variants.items() if run is kernel.run},
        flops=None if kernel.flops is None else kernel.flops * rank.world_size,
        flops_dtype=str(params["dtype"]) if kernel.flops else None,
        memory_traffic_bytes=kernel.traffic_bytes,
        derive=partial(derive, kernel, num_local == 1),
        notes=kernel.notes + ((crowded,) if num_local > MAX_ALONE else ()),
    )


def _alone(run: Callable[[], object], num_local: int, rank: RankContext) -> dict[str, Callable[[], object]]:
    """A variant for each local index, in which the ranks of that index work and the others return at once."""

    def rest() -> None:
        return None

    return {f"alone_{i}": run if i == rank.local_index else rest for i in range(num_local)}


def derive(kernel: Kernel, has_own_host: bool, observed: Observed) -> dict[str, float | None]:
    """The suite's own metrics from each rank's median times.

    `alone_...`: median over the ranks of what each does while the others of its host rest. `contention`: time
    with all ranks at once / time alone, of the rank that loses most; none if a rank has its host to
    itself. `rank_spread`: time alone of the slowest rank / that of the fastest.
    """
    together = observed.rank_seconds["full"]
    variants = [times for name, times in observed.rank_seconds.items() if name != "full"]
    # A rank works in one of these and rests in the others, so that its longest is the one in which it worked.
    alone = together if has_own_host else tuple(max(times) for times in zip(*variants, strict=True))
    if not alone or min(alone) <= 0:  # not timed alone, or too short for the clock
        return {}
    losses = [at_once / by_itself for at_once, by_itself in zip(together, alone, strict=True)]
    figures: dict[str, float | None] = {
        "contention": None if has_own_host else max(losses),
        "rank_spread": max(alone) / min(alone) if len(alone) > 1 else None,
    }
    if kernel.flops:
        figures["alone_tflop_per_s"] = median(kernel.flops / seconds for seconds in alone) / 1e12
    if kernel.traffic_bytes:
        figures["alone_membw_gb_per_s"] = median(kernel.traffic_bytes / seconds for seconds in alone) / 1e9
    return figures
