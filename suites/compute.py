"""Compute: what one device can do, alone and with all ranks at once: matrix multiply and memory bandwidth.

`matmul` is [m, k] @ [k, n] of random normal numbers, different on every rank: `shape=square` with m = n = k =
`size`, and the four matrices of a transformer layer of hidden size `size` over `tokens` tokens: query, key
and value in one (`qkv`), `attention_out`, `mlp_up` and `mlp_down` with an inner size of 4 x hidden, as in
GPT-2. 2mnk FLOPs each (Narayanan et al. 2021, Efficient Large-Scale Language Model Training, appendix).

`copy` (a = b) and `triad` (a = b + s c) are the first and the last kernel of STREAM (McCalpin 1995), counted
as there: 2 and 3 x `num_bytes`, the size of one array; what the cache reads before it writes is not counted.
STREAM asks for each array to be 4 x the last-level cache; the note of each case says how large its arrays are
by that measure, and one size fits into the cache on purpose.

All ranks work at once in the case itself; then those of one local index at a time (`alone_0`, `alone_1`,
...), timed interleaved: that shows a slow device (`rank_spread`) and what ranks of a host take from each
other (`contention`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.backends import resolve
from bench.errors import BenchError
from bench.suite import Check, Machine, Observed, Param, Params, Skip, Work
from suites._product import BLOCK, NUM_SAMPLED, product_error, product_tolerance

if TYPE_CHECKING:
    import torch

    from bench.rank import RankContext

MIB, GIB = 2**20, 2**30
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MAX_ALONE = 16
"""Ranks of a host that are also timed one by one; more would take more time than they tell."""
TRIAD_SCALAR = 3.0
COLD_SIZE = 2048
"""Of the matmul that is also timed with a cold L2: its matrices, 24 MiB in 16 bits, fit into that of an A100."""
SMALLEST = sys.float_info.min
CHECK_BYTES = 6 * 8 * BLOCK

SHAPES: Mapping[str, Callable[[int, int], tuple[int, int, int]]] = {
    "square": lambda size, tokens: (size, size, size),
    "qkv": lambda hidden, tokens: (tokens, 3 * hidden, hidden),
    "attention_out": lambda hidden, tokens: (tokens, hidden, hidden),
    "mlp_up": lambda hidden, tokens: (tokens, 4 * hidden, hidden),
    "mlp_down": lambda hidden, tokens: (tokens, hidden, 4 * hidden),
}
"""Shape -> (size, tokens) -> (m, n, k)."""
LAYER_SHAPES = tuple(name for name in SHAPES if name != "square")

MACHINERY = ("suites._product",)
DEFAULTS: Params = {"dtype": "float32", "timing": "aligned", "l2": "warm"}
METRICS = {
    "alone_tflop_per_s": ("TFLOP/s", "higher"),
    "alone_membw_gb_per_s": ("GB/s", "higher"),
    "contention": ("x", "lower"),
    "rank_spread": ("x", "lower"),
}


@dataclass(frozen=True)
class Kernel:
    """What one rank runs, and what one call of it amounts to."""

    run: Callable[[], object]
    check: Callable[[], Check]
    flops: float | None = None
    traffic_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One row of the table: what it needs, what it takes, and how it is made."""

    needs: Callable[[Params], set[str]]
    """Names of its parameters besides those with defaults."""
    num_bytes: Callable[[Params], int]
    """Of all its tensors."""
    make: Callable[[Params, RankContext], Kernel]


def _whole(params: Params, name: str) -> int:
    value = params[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BenchError(f"compute: {name}={value!r}; give a whole number of at least 1")
    return value


def _dimensions(params: Params) -> tuple[int, int, int]:
    tokens = _whole(params, "tokens") if "tokens" in params else 0
    return SHAPES[str(params["shape"])](_whole(params, "size"), tokens)


def _matmul(params: Params, rank: RankContext) -> Kernel:
    import torch

    m, n, k = _dimensions(params)
    dtype = getattr(torch, str(params["dtype"]))
    generator = rank.generator(rank.index)
    normal = partial(torch.randn, device=rank.device, dtype=dtype, generator=generator)
    a, b = normal(m, k), normal(k, n)
    c = torch.empty(m, n, device=rank.device, dtype=dtype)
    run = partial(torch.matmul, a, b, out=c)

    def check() -> Check:
        c.fill_(torch.nan)
        run()
        return Check(product_error(a, b, c, generator), product_tolerance(k, dtype, rank.device))

    return Kernel(run, check, flops=2.0 * m * n * k)


def _num_elements(params: Params) -> int:
    return max(1, _whole(params, "num_bytes") // ITEM_BYTES[str(params["dtype"])])


def _copy(params: Params, rank: RankContext) -> Kernel:
    import torch

    target, source = _arrays(2, params, rank)

    def check() -> Check:
        target.fill_(torch.nan)
        run()
        return Check(_blockwise_error((target, source), lambda a, b: (a - b).abs()), 0.0)

    run = partial(target.copy_, source)
    return Kernel(run, check, traffic_bytes=2 * source.nbytes, notes=_cache_notes(source.nbytes, rank))


def _triad(params: Params, rank: RankContext) -> Kernel:
    """Checked against float64, relative to |b| + |s c|: a product and a sum round by half an epsilon each."""
    import torch

    a, b, c = _arrays(3, params, rank)

    def error(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        b64, scaled = b.double(), TRIAD_SCALAR * c.double()
        return (a.double() - (b64 + scaled)).abs() / (b64.abs() + scaled.abs()).clamp_min(SMALLEST)

    def check() -> Check:
        a.fill_(torch.nan)
        run()
        return Check(_blockwise_error((a, b, c), error), torch.finfo(a.dtype).eps)

    run = partial(torch.add, b, c, alpha=TRIAD_SCALAR, out=a)
    return Kernel(run, check, traffic_bytes=3 * a.nbytes, notes=_cache_notes(a.nbytes, rank))


def _arrays(count: int, params: Params, rank: RankContext) -> list[torch.Tensor]:
    """Random normal numbers that repeat, since drawing each takes longer than measuring them."""
    import torch

    generator, dtype = rank.generator(rank.index), getattr(torch, str(params["dtype"]))
    size = _num_elements(params)
    arrays = [torch.empty(size, device=rank.device, dtype=dtype) for _ in range(count)]
    for array in arrays:
        numbers = torch.randn(min(size, BLOCK), device=rank.device, dtype=dtype, generator=generator)
        for block in torch.split(array, BLOCK):
            block.copy_(numbers[: len(block)])
    return arrays


def _blockwise_error(arrays: Sequence[torch.Tensor], error: Callable[..., torch.Tensor]) -> float:
    """The largest of the elements' errors; NaN where one is NaN."""
    import torch

    blocks = zip(*(torch.split(array, BLOCK) for array in arrays), strict=True)
    return float(torch.stack([error(*block).max() for block in blocks]).max())


def _cache_notes(array_bytes: int, rank: RankContext) -> tuple[str, ...]:
    cache_bytes = _last_level_cache_bytes(rank)
    if not cache_bytes:
        return ()
    ratio = array_bytes / cache_bytes
    return (
        f"each array: {array_bytes / MIB:.4g} MiB, {ratio:.2g} x the last-level cache "
        f"({cache_bytes / MIB:.4g} MiB)"
        + ("; below STREAM's 4 x, so a cache may serve part of it" if ratio < 4 else ""),
    )


def _last_level_cache_bytes(rank: RankContext) -> int | None:
    """Of the device, or of the first core as Linux tells it; None where unknown."""
    if rank.device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(rank.device).L2_cache_size) or None
    caches = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    texts = [path.read_text().strip() for path in caches]
    sizes = [int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]] for text in texts if text[-1:] in ("K", "M")]
    return max(sizes, default=None)


OPERATIONS: Mapping[str, Operation] = {
    "matmul": Operation(
        needs=lambda p: {"shape", "size"} | ({"tokens"} if p.get("shape") in LAYER_SHAPES else set()),
        num_bytes=lambda p: _matmul_elements(*_dimensions(p)) * ITEM_BYTES[str(p["dtype"])],
        make=_matmul,
    ),
    "copy": Operation(lambda _: {"num_bytes"}, lambda p: 2 * _whole(p, "num_bytes"), _copy),
    "triad": Operation(lambda _: {"num_bytes"}, lambda p: 3 * _whole(p, "num_bytes"), _triad),
}
CHOICES: dict[str, tuple[Param, ...]] = {
    "op": tuple(OPERATIONS),
    "dtype": tuple(ITEM_BYTES),
    "shape": tuple(SHAPES),
    "timing": ("aligned", "streamed"),
    "l2": ("warm", "cold"),
}


def _matmul_elements(m: int, n: int, k: int) -> int:
    return m * k + k * n + m * n + k * n  # once more for the second factor, which oneDNN rearranges


@dataclass(frozen=True)
class Scale:
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
SCALES: Mapping[tuple[str, str], Scale] = {
    ("cpu", "smoke"): Scale((1024, 256), (512,), 512, (64 * MIB, 4 * MIB), (4 * MIB,), every_dtype=False),
    ("cpu", "standard"): Scale(
        (1024, 256, 512), (1024,), 512, (64 * MIB, 4 * MIB), (64 * MIB, 4 * MIB), every_dtype=False
    ),
    ("cpu", "full"): Scale((1024, 128, 256, 512, 2048, 4096), (1024, 4096), 2048, _CPU_FULL, _CPU_FULL),
    ("cuda", "smoke"): Scale((8192, 2048), (4096,), 4096, (GIB, 8 * MIB), (GIB,), every_dtype=False),
    ("cuda", "standard"): Scale((8192, 1024, 2048, 4096, 16384), (4096,), 8192, (4 * GIB, 8 * MIB), (4 * GIB, 8 * MIB)),
    ("cuda", "full"): Scale(
        (8192, 512, 1024, 2048, 4096, 16384, 32768), (4096, 8192, 16384), 8192, _CUDA_FULL, _CUDA_FULL
    ),
}


def cases(machine: Machine) -> Iterable[Params]:
    """The base point in every type, memory bandwidth, the layer's shapes, then other sizes."""
    scale = SCALES[(machine.device_type, machine.preset)]
    unique = {tuple(sorted(row.items())): row for row in _points(scale, machine.device_type)}
    return unique.values()


def _points(scale: Scale, device_type: str) -> Iterator[Params]:
    dtypes = resolve(device_type, None).dtypes

    def square(size: int, dtype: str) -> Params:
        return {"op": "matmul", "shape": "square", "size": size, "dtype": dtype}

    def layer(hidden: int, dtype: str, shape: str) -> Params:
        return {"op": "matmul", "shape": shape, "size": hidden, "tokens": scale.tokens, "dtype": dtype}

    def memory_bound(op: str, num_bytes: int) -> Params:
        return {"op": op, "num_bytes": num_bytes}

    wanted = dtypes if scale.every_dtype else dtypes[:1]
    yield from (square(scale.squares[0], dtype) for dtype in dtypes)
    yield memory_bound("copy", scale.copies[0])
    yield memory_bound("triad", scale.triads[0])
    yield from starmap(layer, product(scale.hidden, wanted, LAYER_SHAPES))
    yield from (memory_bound("copy", num_bytes) for num_bytes in scale.copies)
    if device_type == "cuda":
        yield square(COLD_SIZE, dtypes[0]) | {"l2": "cold"}
    yield from starmap(square, product(scale.squares, wanted))
    yield from (memory_bound("triad", num_bytes) for num_bytes in scale.triads)


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank's tensors, and of the check's float64 blocks. Raises BenchError for a bad value."""
    row = _row(params)
    if _misfit(params, row):
        return 0
    sampled = 0
    if params["op"] == "matmul":
        sampled = 4 * 8 * NUM_SAMPLED * _dimensions(params)[2]
    return row.num_bytes(params) + sampled + CHECK_BYTES


def _row(params: Params) -> Operation:
    for name, choices in CHOICES.items():
        if name in params and params[name] not in choices:
            allowed = ", ".join(map(str, choices))
            raise BenchError(f"compute: {name}={params[name]}; it is one of {allowed}")
    return OPERATIONS[str(params["op"])]


def _misfit(params: Params, row: Operation) -> str | None:
    """Why these parameters do not belong to the operation; settings that vary it can bring them together."""
    needed, given = row.needs(params), set(params) - {"op", *DEFAULTS}
    if needed - given:
        return f"{params['op']} needs {', '.join(sorted(needed - given))}"
    if given - needed:
        return f"{', '.join(sorted(given - needed))} has no meaning for this {params['op']}"
    return None


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a value that a parameter cannot take, Skip where two do not fit together."""
    row = _row(params)
    misfit = _misfit(params, row)
    if misfit:
        raise Skip(misfit)
    kernel = row.make(params, rank)
    num_local = min(rank.world_size, rank.machine.ranks_per_host)
    alone = _alone(kernel.run, num_local, rank) if 1 < num_local <= MAX_ALONE else {}
    crowded = f"ranks were not timed alone: {num_local} on a host, and at most {MAX_ALONE} are"
    return Work(
        variants={"full": kernel.run} | alone,
        check=kernel.check,
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
    with all ranks at once / time alone, of the rank that loses most; none where a rank has its host to
    itself. `rank_spread`: time alone of the slowest rank / that of the fastest.
    """
    together = observed.rank_seconds["full"]
    variants = [times for name, times in observed.rank_seconds.items() if name != "full"]
    # A rank works in one of these and rests in the others, so that its longest is the one in which it worked.
    alone = together if has_own_host else tuple(max(times) for times in zip(*variants, strict=True))
    if not alone or min(alone) <= 0:  # not timed alone, or too short for the clock
        return {}
    losses = [at_once / by_itself for at_once, by_itself in zip(together, alone, strict=True)]
    found: dict[str, float | None] = {
        "contention": None if has_own_host else max(losses),
        "rank_spread": max(alone) / min(alone) if len(alone) > 1 else None,
    }
    if kernel.flops:
        found["alone_tflop_per_s"] = median(kernel.flops / seconds for seconds in alone) / 1e12
    if kernel.traffic_bytes:
        found["alone_membw_gb_per_s"] = median(kernel.traffic_bytes / seconds for seconds in alone) / 1e9
    return found
