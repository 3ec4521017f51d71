"""Soak: all devices busy for minutes with matrix products and collectives in turn, and how the speed holds.

A case of a second never heats a machine: clocks, power limits and cooling show after minutes only. One call is
`num_rounds` times a matrix product [size, size] @ [size, size] on every rank, a reduce-scatter and an all-gather of
`num_bytes` (what sequence parallelism and sharded data parallelism send); calls go on for `seconds`. `compute_only`,
timed in turn with it, is the products alone: in it no rank waits for another, so that it shows which device became
slower.

Meanwhile a thread on each rank reads, once a second, clocks, temperature, power and the reasons for low clocks (NVIDIA
GPUs), and the CPU's frequency and load. `slowdown` is the time of a call in the last fifth of the soak over that in the
first, minus 1, with its 95% interval (`slowdown_low`, `slowdown_high`); two tables show its course and each device.
Checked before and after: the product in float64, the sums exactly. Before each sample, untimed, a seeded product, an
attention and a sum of whole numbers are computed once more. Their bits are compared with those of the first time and of
other ranks with like devices. Silent corruption ends the case, with the rank, the repeat and the operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.core.values import counted
from bench.errors import BenchError
from bench.stats.intervals import excluded_share
from bench.suite import (
    ITEM_BYTES,
    Check,
    Machine,
    Observed,
    Params,
    Presets,
    SuiteMetric,
    Table,
    TimedCheck,
    Work,
    positive_int,
)
from bench.workloads.comm.exact_check import CHECK_BYTES, Segment, fill, largest_error, poison
from bench.workloads.comm.timed_outputs import combined_check
from bench.workloads.model.product_check import BLOCK, NUM_SAMPLED, product_error, product_tolerance

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.bit_repeats import BitRepeats
    from bench.workloads.trace.soak import DeviceSoak

MIB = 2**20
SECONDS = 120
MOST_REPEATED_SIZE = {"cpu": 256, "cuda": 2048}
"""Device type -> size of the product whose bits are compared: a few percent of a call, and all of a device."""

DEFAULTS: Params = {"dtype": "float32", "seconds": SECONDS}
CHOICES = {"dtype": ("float32", "bfloat16", "float16")}
METRICS = {
    "slowdown": SuiteMetric(
        "share", "lower", "Time of a call in the last fifth of the soak over that in the first, minus 1."
    ),
    "slowdown_low": SuiteMetric(
        "share",
        "neither",
        "Lower end of the 95% interval of the slowdown, by Welch's t on the logarithms of block medians.",
    ),
    "slowdown_high": SuiteMetric(
        "share",
        "neither",
        "Upper end of the 95% interval of the slowdown, by Welch's t on the logarithms of block medians.",
    ),
    "hottest_celsius": SuiteMetric("C", "lower", "Highest temperature of any device."),
    "clock_fall": SuiteMetric(
        "share", "lower", "Share by which the clock of the worst device fell from the first fifth to the last."
    ),
    "throttled_share": SuiteMetric(
        "share", "lower", "Share of the readings in which something other than the power cap held clocks down."
    ),
    "power_watts": SuiteMetric("W", "neither", "Mean power of all devices together."),
    "compared_bits": SuiteMetric(
        "bits", "higher", "Bits that were compared with those of the first time, on all ranks."
    ),
    "excluded_corruption": SuiteMetric(
        "share",
        "lower",
        "Share of repeats of the seeded operations above which silent corruption is excluded at 95%, on all ranks.",
    ),
}
# A call of 50 to 100 ms: the alignment between calls then weighs little, and there are a thousand of them.
_CPU: Params = {"size": 1024, "num_rounds": 3, "num_bytes": MIB}
_CUDA: Params = {"size": 8192, "num_rounds": 32, "num_bytes": 64 * MIB, "dtype": "bfloat16"}
# 15 seconds heat nothing; they show that it runs.
BASE = Presets(
    cpu={"smoke": _CPU | {"seconds": 15}, "standard": _CPU},
    cuda={"smoke": _CUDA | {"seconds": 15}, "standard": _CUDA},
)


def cases(machine: Machine) -> Iterator[Params]:
    """One case; the preset smoke cuts it short."""
    yield BASE.at(machine)


def min_seconds(params: Params) -> float:
    """Seconds for which a case is sampled, whatever the preset says."""
    value = params["seconds"]
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise BenchError(f"soak: seconds={value!r}; give a number above 0")
    return float(value)


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank's matrices, of its buffers, and of what the check needs."""
    size = _positive(params, "size")
    elements = 4 * size * size + 3 * _num_elements(params, machine.world_size)
    return elements * ITEM_BYTES[str(params["dtype"])] + 4 * 8 * NUM_SAMPLED * size + 6 * 8 * BLOCK + CHECK_BYTES


_positive = partial(positive_int, "soak")


def _num_elements(params: Params, num_ranks: int) -> int:
    """Elements of a rank's full buffer: a multiple of the number of ranks."""
    return max(1, _positive(params, "num_bytes") // ITEM_BYTES[str(params["dtype"])] // num_ranks) * num_ranks


@dataclass
class Load:
    """Work of one rank, and how often it was called."""

    once: Callable[[], None]
    compute: Callable[[], None]
    check: Callable[[], Check]
    timed_checks: dict[str, TimedCheck]
    repeats: BitRepeats
    calls: int = 0

    def run(self) -> None:
        self.calls += 1
        self.once()


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a value that a parameter cannot take."""
    from bench.workloads.trace.device_series import DeviceSeries

    seconds, rounds = min_seconds(params), _positive(params, "num_rounds")
    load = _load(params, rank, rounds)
    watch = DeviceSeries(rank.device, lambda: load.calls)
    watch.start()
    alone = rank.world_size == 1
    variants = {"full": load.run} | ({} if alone else {"compute_only": load.compute})
    return Work(
        variants=variants,
        check=load.check,
        timed_checks={name: load.timed_checks[name] for name in variants},
        reset=load.repeats.repeat,
        close=watch.stop,
        flops=2.0 * _positive(params, "size") ** 3 * rounds * rank.world_size,
        flops_dtype=str(params["dtype"]),
        min_seconds=seconds,
        per_rank=lambda: {"series": watch.stop(), "calls": load.calls, "bits": _bits_facts(load.repeats)},
        derive=derive,
        tables=tables,
        notes=("one rank: no collective, matrix products alone",) if alone else (),
    )


def _load(params: Params, rank: RankContext, rounds: int) -> Load:
    import torch

    from bench.workloads.model.bit_repeats import BitRepeats, refuse_unlike_ranks, seeded_operations
    from bench.workloads.model.timed_results import BufferLooks

    dtype, size = getattr(torch, str(params["dtype"])), _positive(params, "size")
    generator = rank.generator(rank.index)
    normal = partial(torch.randn, device=rank.device, dtype=dtype, generator=generator)
    a, b = normal(size, size), normal(size, size)
    product = torch.empty_like(a)
    multiply = partial(torch.matmul, a, b, out=product)
    count = _num_elements(params, rank.world_size)
    full = normal(count)
    share, gathered = torch.empty_like(full[: count // rank.world_size]), torch.empty_like(full)
    reduce_scatter, all_gather = _collectives(full, share, gathered, rank)
    repeats = BitRepeats(
        seeded_operations(
            rank, min(size, MOST_REPEATED_SIZE[rank.device.type]), min(_positive(params, "num_bytes"), MIB)
        )
    )
    of_products, of_collectives = BufferLooks(product), BufferLooks(*([share, gathered] if rank.world_size > 1 else []))

    def once() -> None:
        for _ in range(rounds):
            multiply()
            reduce_scatter()
            all_gather()

    def compute() -> None:
        for _ in range(rounds):
            multiply()

    def check() -> Check:
        if repeats.repeats == 0:
            repeats.learn()
            refuse_unlike_ranks(rank, repeats, _device_name(rank))
        repeats.read()
        if repeats.num_corrupted:
            raise BenchError(_corruption_text(repeats, _device_name(rank)))
        product.fill_(torch.nan)
        poison(gathered)
        fill(full, rank)
        once()
        of_products.learn()
        of_product = product_error(a, b, product, generator) / product_tolerance(size, dtype, rank.device)
        everyone = tuple(range(rank.world_size))
        of_sums = largest_error(gathered, [Segment(everyone, 0, count)], rank) if rank.world_size > 1 else 0.0
        full.normal_(generator=generator)  # data changes a GPU's power: the soak has it as training has
        reduce_scatter()
        all_gather()
        of_collectives.learn()
        return Check(_worst(of_product, 0.0 if of_sums == 0 else 1 + of_sums), 1.0)

    looks = {
        "full": combined_check(of_products.timed_check, of_collectives.timed_check),
        "compute_only": of_products.timed_check,
    }
    return Load(once, compute, check, looks, repeats)


def _device_name(rank: RankContext) -> str:
    """Device and software on which the same bits have to come out."""
    import torch

    if rank.device.type == "cpu":
        return f"cpu with {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name(rank.device)}, torch {torch.__version__}"


def _corruption_text(repeats: BitRepeats, device: str) -> str:
    first = repeats.corruptions[0]
    more = f"; {repeats.num_corrupted} corrupted repeats in all" if repeats.num_corrupted > 1 else ""
    return (
        f"silent corruption on {device}: the {first.operation} of repeat {first.repeat} of {repeats.repeats} has other "
        f"bits than the first in {counted(first.num_elements, 'number')}{more}; take the device out of service"
    )


def _bits_facts(repeats: BitRepeats) -> dict[str, Any]:
    return {"repeats": repeats.repeats, "bits": repeats.bits_per_repeat, "operations": repeats.compared}


def _worst(*errors: float) -> float:
    """The largest error, in units of what is tolerated; a NaN stays one."""
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def _collectives(full: Any, share: Any, gathered: Any, rank: RankContext) -> list[Callable[[], object]]:
    """Reduce-scatter and all-gather: neither writes over its input, so that nothing need be restored."""
    import torch.distributed as dist

    from bench.workloads.comm.collectives import OPERATIONS, Buffers

    if rank.world_size == 1:
        return [lambda: None] * 2
    tensors = {"reduce_scatter": Buffers(full, share, None), "all_gather": Buffers(share, gathered, None)}
    return [partial(OPERATIONS[op].bind(dist, buffers), group=rank.group) for op, buffers in tensors.items()]


def derive(observed: Observed) -> dict[str, float | None]:
    """See `bench.workloads.trace.soak.soak_metrics`; and how much the repeats of seeded operations exclude."""
    from bench.workloads.trace.soak import soak_metrics

    found = [facts["bits"] for facts in observed.per_rank]
    repeats = sum(int(one["repeats"]) * len(one["operations"]) for one in found)
    bits = sum(int(one["repeats"]) * int(one["bits"]) for one in found)
    compared: dict[str, float | None] = {
        "compared_bits": float(bits) or None,
        "excluded_corruption": excluded_share(repeats) if repeats else None,
    }
    return soak_metrics(observed.samples["full"], _devices(observed)) | compared


def tables(observed: Observed) -> dict[str, Table]:
    """The course of the soak, and each device."""
    from bench.workloads.trace.soak import devices_table, time_table

    return {
        "over_time": time_table(observed.samples["full"], _series(observed)),
        "devices": devices_table(_devices(observed)),
    }


def _series(observed: Observed) -> list[Any]:
    from bench.workloads.trace.soak import align_series

    count = len(observed.samples["full"])
    return [align_series(facts["series"], count, 1, facts["calls"]) for facts in observed.per_rank]


def _devices(observed: Observed) -> list[DeviceSoak]:
    from bench.workloads.trace.soak import summarize_device

    count = len(observed.samples["full"])
    alone = observed.rank_samples.get("compute_only", ())
    return [
        summarize_device(rank, readings, count, alone[rank] if rank < len(alone) else ())
        for rank, readings in enumerate(_series(observed))
    ]
