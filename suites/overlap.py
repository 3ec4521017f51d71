"""Overlap: compute and a collective at the same time, against each alone: what is hidden, and what it costs.

Training hides communication behind compute: the gradients of one layer are reduced while the next is differentiated,
and weights are gathered ahead. Both want the same things, though: cores, memory bandwidth, a GPU's multiprocessors. The
case itself (`full`) starts a collective, multiplies matrices and waits for the collective; `compute_alone` and
`communication_alone` are the two by themselves, timed in turn with it. The collective runs in gloo's own thread, or on
the stream of its NCCL group.

`hidden_share` is (compute alone + communication alone - both) / communication alone: 1 if the collective costs no
time at all, 0 if one might as well do one after the other, below 0 if they disturb each other. No more can
be hidden than there is compute to hide it behind (`hideable_share`), so sizes matter: several are measured, and
`communication_over_compute` says which is longer. `compute_slowdown` is the time of the multiplications during the
collective, from the spans of traced calls, over their time alone: median over the ranks.

The check is of both: the product in float64 (bench/workloads/model/product_check.py), the collective exactly. A wrong
element of the collective is off by at least 1, which no product may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from bench.measure.system.backends import resolve
from bench.suite import (
    ITEM_BYTES,
    Check,
    Machine,
    Observed,
    Params,
    Presets,
    Skip,
    SuiteMetric,
    Work,
    check_choices,
    positive_int,
)
from bench.workloads.comm.async_collective import (
    DTYPES,
    OVERLAPPED,
    AsyncCollective,
    buffer_bytes,
    num_elements,
    prepare_collective,
)
from bench.workloads.comm.exact_check import CHECK_BYTES
from bench.workloads.comm.timed_outputs import combined_check
from bench.workloads.model.product_check import product_error, product_tolerance

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import BufferLooks

MIB, GIB = 2**20, 2**30
TRACED_CALLS = 12
COMPUTE, COMMUNICATION = "compute_alone", "communication_alone"
SPAN = "compute"

DEFAULTS: Params = {"dtype": "float32", "timing": "aligned"}
CHOICES = {"op": OVERLAPPED, "dtype": DTYPES, "timing": ("aligned",)}
METRICS = {
    "hidden_share": SuiteMetric(
        "share",
        "higher",
        "Share of the communication that costs no time: (compute alone + communication alone - both at once) "
        "/ communication alone.",
    ),
    "hideable_share": SuiteMetric(
        "share",
        "neither",
        "Largest share of the communication that could be hidden: compute / communication, at most 1.",
    ),
    "compute_slowdown": SuiteMetric(
        "x", "lower", "Time of the computation during the collective over its time alone, median over the ranks."
    ),
    "communication_over_compute": SuiteMetric(
        "x", "neither", "Time of the communication alone over that of the computation alone."
    ),
}


@dataclass(frozen=True)
class OverlapSizes:
    """Sizes of a preset; the first of each is the base point, at which both take about as long."""

    sizes: tuple[int, ...]
    """Rows and columns of the matrices."""
    num_bytes: tuple[int, ...]
    ops: tuple[str, ...] = OVERLAPPED[:1]


# On two cores of the machine of the reference run a product of 1,024 takes 17 ms, an all-reduce of 16 MiB about that.
# For GPUs by arithmetic: 8,192 in 16 bits at 600 TFLOP/s 1.8 ms, 256 MiB among 8 at 300 GB/s of bus bandwidth 1.6 ms.
SIZES = Presets(
    cpu={
        "smoke": OverlapSizes((1024,), (16 * MIB,)),
        "standard": OverlapSizes((1024,), (16 * MIB, 4 * MIB)),
        "full": OverlapSizes((1024, 512, 2048), (16 * MIB, MIB, 4 * MIB, 64 * MIB), OVERLAPPED),
    },
    cuda={
        "smoke": OverlapSizes((8192,), (256 * MIB,)),
        "standard": OverlapSizes((8192,), (256 * MIB, 16 * MIB, GIB), OVERLAPPED[:3]),
        "full": OverlapSizes((8192, 2048, 4096, 16384), (256 * MIB, 16 * MIB, 64 * MIB, GIB, 4 * GIB), OVERLAPPED),
    },
)


def cases(machine: Machine) -> Iterable[Params]:
    """The base point, then every other size of the collective, operation and size of the matrices there."""
    of_preset = SIZES.at(machine)
    dtype = resolve(machine.device_type, None).dtypes[0]
    base: Params = {
        "op": of_preset.ops[0],
        "size": of_preset.sizes[0],
        "num_bytes": of_preset.num_bytes[0],
        "dtype": dtype,
    }
    yield base
    yield from (base | {"num_bytes": num_bytes} for num_bytes in of_preset.num_bytes[1:])
    yield from (base | {"op": op} for op in of_preset.ops[1:])
    yield from (base | {"size": size} for size in of_preset.sizes[1:])


def _checked(params: Params) -> tuple[str, str, int]:
    """(operation, type, size). Raises BenchError for a value that a parameter cannot take."""
    check_choices("overlap", params, CHOICES)
    return str(params["op"]), str(params["dtype"]), positive_int("overlap", params, "size")


def memory(params: Params, machine: Machine) -> int:
    """Bytes of the matrices, the collective's tensors and the check. Raises BenchError for a bad value."""
    op, dtype, size = _checked(params)
    count = num_elements("overlap", params, machine.world_size)
    buffers = buffer_bytes(op, count, dtype, machine.world_size, machine.device_type)
    return 4 * size * size * ITEM_BYTES[dtype] + buffers + CHECK_BYTES


@dataclass(frozen=True)
class RandomProduct:
    """c = a @ b of random normal numbers, different on each rank."""

    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    run: Callable[[], object]
    looks: BufferLooks

    def error(self, rank: RankContext) -> float:
        return product_error(self.a, self.b, self.c, rank.generator(rank.index, 1))

    def tolerance(self, rank: RankContext) -> float:
        return product_tolerance(len(self.b), self.a.dtype, rank.device)


def _product(size: int, dtype: str, rank: RankContext) -> RandomProduct:
    import torch

    from bench.workloads.model.timed_results import BufferLooks

    generator = rank.generator(rank.index)
    normal = partial(torch.randn, device=rank.device, dtype=getattr(torch, dtype), generator=generator)
    a, b = normal(size, size), normal(size, size)
    c = torch.empty_like(a)
    return RandomProduct(a, b, c, partial(torch.matmul, a, b, out=c), BufferLooks(c))


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad value, Skip for one rank alone."""
    op, dtype, size = _checked(params)
    count = num_elements("overlap", params, rank.world_size)
    if rank.world_size < 2:
        raise Skip("needs at least 2 ranks: one alone has no communication to hide")
    collective = prepare_collective(op, count, dtype, range(rank.world_size), rank.index, rank.device, rank.group)
    product = _product(size, dtype, rank)

    def both() -> None:
        pending = collective.start()
        with rank.span(SPAN):
            product.run()
        pending.wait()

    return Work(
        variants={"full": both, COMPUTE: product.run, COMMUNICATION: collective.run},
        check=partial(_check, both, collective, product, rank),
        reset=collective.restore,
        timed_checks={
            "full": combined_check(product.looks.timed_check, collective.timed_check),
            COMPUTE: product.looks.timed_check,
            COMMUNICATION: collective.timed_check,
        },
        flops=2.0 * size**3 * rank.world_size,
        flops_dtype=dtype,
        traced_calls=TRACED_CALLS,
        derive=derive,
    )


def _check(both: Callable[[], object], collective: AsyncCollective, product: RandomProduct, rank: RankContext) -> Check:
    collective.arm()
    product.c.fill_(float("nan"))
    both()
    product.looks.learn()
    return Check(product.error(rank) + collective.error(), product.tolerance(rank))


def derive(observed: Observed) -> dict[str, float | None]:
    """The suite's own metrics, from the medians of the variants and the traced spans."""
    both, compute, communication = (observed.seconds[name] for name in ("full", COMPUTE, COMMUNICATION))
    if compute <= 0 or communication <= 0:
        return {}
    beside: dict[int, list[float]] = {}
    for span in observed.spans:
        beside.setdefault(span.rank, []).append(span.duration_ns / 1e9)
    alone = observed.rank_seconds[COMPUTE]
    slowdowns = [median(times) / alone[rank] for rank, times in beside.items() if alone[rank] > 0]
    return {
        "hidden_share": (compute + communication - both) / communication,
        "hideable_share": min(1.0, compute / communication),
        "compute_slowdown": median(slowdowns) if slowdowns else None,
        "communication_over_compute": communication / compute,
    }
