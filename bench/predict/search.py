"""The fastest splits of a job over this many devices, of all that fit into memory.

Every combination of tensor, pipeline and context parallelism, experts, microbatch, interleaving and ZeRO is tried; of
recomputation the least that fits, since more only takes longer. Counts that do not divide are allowed, with their
cost: devices that are left over idle, and replicas wait for the one with most microbatches.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.errors import BenchError
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.progress import Report, no_report

MICROBATCHES = (1, 2, 3, 4, 6, 8, 16)
COARSE_MICROBATCHES = (1, 2, 4, 8)
RECOMPUTE_ORDER = ("none", "selective", "full")
SHORTEST_CONTEXT = 1024
"""Tokens of a sequence that a context-parallel rank keeps at least."""
MAX_STAGE_WASTE = 1.34
"""Layers of the fullest stage over the mean: more uneven pipelines are never the fastest."""

REPORTED_TRIES = 256
"""Tries from one report of progress to the next."""
MAX_DOUBLINGS = 10
"""How far a job that fits nowhere looks for a number of devices that it fits on."""


@dataclass(frozen=True)
class Fixed:
    """Sizes that are given; None is searched."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    cp: int | None = None
    ep: int | None = None
    microbatch: int | None = None
    interleave: int | None = None
    schedule: str | None = None
    recompute: str | None = None
    zero: int | None = None


@dataclass(frozen=True)
class SearchResult:
    best: tuple[Prediction, ...]
    tried: int
    fitting: int


def search(
    predictor: Predictor,
    devices: int,
    fixed: Fixed | None = None,
    keep: int = 10,
    coarse: bool = False,
    report: Report = no_report,
) -> SearchResult:
    """`coarse`: even pipelines, microbatches of powers of two and few interleavings only.

    Raises BenchError if no split fits, with the leanest that was tried."""
    heap: list[tuple[float, int, TrainingStrategy]] = []
    tried = fitting = 0
    leanest: tuple[float, TrainingStrategy] | None = None
    capacity = predictor.device.memory_bytes
    tries = list(_candidates(predictor, devices, fixed or Fixed(), coarse))
    for number, candidates in enumerate(tries):
        if number % REPORTED_TRIES == 0:
            report(f"trying splits of {devices:,} devices: {number:,} of {len(tries):,}")
        for strategy in candidates:
            tried += 1
            counts = predictor.holdings.stage_layers(strategy)
            held = predictor.holdings.memory(strategy, counts).total
            if leanest is None or held < leanest[0]:
                leanest = held, strategy
            if capacity is not None and held > capacity:
                continue
            fitting += 1
            seconds = predictor.seconds(strategy, counts)
            entry = (-seconds, -tried, strategy)
            heapq.heappush(heap, entry) if len(heap) < keep else heapq.heappushpop(heap, entry)
            break
    if not heap:
        raise _nothing_fits(predictor, devices, None if coarse else fixed or Fixed(), leanest, tried)
    ordered = [strategy for _, _, strategy in sorted(heap, key=lambda entry: -entry[0])]
    return SearchResult(tuple(predictor.predict(strategy, devices) for strategy in ordered), tried, fitting)


def _nothing_fits(
    predictor: Predictor,
    devices: int,
    fixed: Fixed | None,
    leanest: tuple[float, TrainingStrategy] | None,
    tried: int,
) -> BenchError:
    """The error of a job that fits nowhere; with `fixed` it says on how many devices the job fits."""
    if leanest is None:
        return BenchError(f"no split of {devices} devices with the sizes given; leave some of them to the search")
    needed, strategy = leanest
    enough = None if fixed is None else _enough_devices(predictor, devices, fixed)
    advice = f"it fits on {enough:,} devices" if enough else "take devices with more memory, or leave all sizes open"
    return BenchError(
        f"{predictor.job.shape.name} on {devices:,} {predictor.device.name}: no split fits into "
        f"{(predictor.device.memory_bytes or 0) / 1e9:.0f} GB; the leanest of {tried:,}, {describe(strategy)}, needs "
        f"{needed / 1e9:.0f} GB; {advice}"
    )


def _enough_devices(predictor: Predictor, devices: int, fixed: Fixed) -> int | None:
    """The first number of devices that fits, by doubling; None if none of MAX_DOUBLINGS does."""
    capacity = predictor.device.memory_bytes or 0.0
    for doubling in range(1, MAX_DOUBLINGS + 1):
        number = devices << doubling
        for candidates in _candidates(predictor, number, replace(fixed, dp=None), coarse=True):
            if any(predictor.holdings.memory(strategy).total <= capacity for strategy in candidates):
                return number
    return None


def describe(strategy: TrainingStrategy) -> str:
    """Text of one line, without the axes that are not used."""
    sizes = {"tp": strategy.tp, "pp": strategy.pp, "dp": strategy.dp, "cp": strategy.cp, "ep": strategy.ep}
    shown = [f"{name} {size}" for name, size in sizes.items() if size > 1] or ["one device"]
    shown.append(f"microbatch {strategy.microbatch}")
    if strategy.pp > 1:
        shown.append(strategy.schedule + (f" x{strategy.interleave}" if strategy.interleave > 1 else ""))
    return ", ".join([*shown, f"recompute {strategy.recompute}", f"ZeRO {strategy.zero}"])


def _candidates(predictor: Predictor, devices: int, fixed: Fixed, coarse: bool) -> Iterator[list[TrainingStrategy]]:
    """Lists of splits that differ in recomputation only, least first."""
    job, shape = predictor.job, predictor.job.shape
    zeros = [fixed.zero] if fixed.zero is not None else sorted({predictor.stack.zero, 1, 3})
    again = [fixed.recompute] if fixed.recompute is not None else _recompute(predictor)
    sizes = (
        [fixed.microbatch] if fixed.microbatch is not None else list(COARSE_MICROBATCHES if coarse else MICROBATCHES)
    )
    for tp in [fixed.tp] if fixed.tp else _powers(min(predictor.network.domain_size, shape.num_heads, devices)):
        if shape.num_heads % tp:
            continue
        for cp in [fixed.cp] if fixed.cp else _powers(max(1, job.sequence // SHORTEST_CONTEXT)):
            for pp in [fixed.pp] if fixed.pp else _depths(shape.num_layers, coarse):
                replicas = fixed.dp or devices // (tp * cp * pp)
                if replicas < 1 or tp * cp * pp * replicas > devices:
                    continue
                for microbatch in sizes:
                    dp = replicas if fixed.dp else min(replicas, max(1, job.global_batch // microbatch))
                    strategy = TrainingStrategy(tp, pp, dp, cp, 1, microbatch)
                    for interleave, schedule in _turns(strategy, shape.num_layers, fixed, coarse):
                        for ep in _experts(strategy, shape.num_experts, fixed.ep):
                            for zero in zeros:
                                # Parameters that every microbatch gathers again and a pipeline do not go together.
                                if zero >= 3 and pp > 1 and fixed.zero is None:
                                    continue
                                base = replace(strategy, ep=ep, interleave=interleave, schedule=schedule, zero=zero)
                                yield [replace(base, recompute=name) for name in again]


def _recompute(predictor: Predictor) -> list[str]:
    """A fused attention keeps no scores, so that its core need not be computed again."""
    fused = predictor.stack.attention != "unfused"
    return [name for name in RECOMPUTE_ORDER if not (fused and name == "selective")]


def _powers(limit: int) -> list[int]:
    return [2**n for n in range(limit.bit_length()) if 2**n <= limit]


def _depths(layers: int, coarse: bool) -> list[int]:
    """Pipeline depths to try; in a coarse search divisors of the layers, and of two more, as if both ends had one
    less."""
    depths = [pp for pp in range(1, layers + 1) if -(-layers // pp) * pp <= MAX_STAGE_WASTE * layers]
    return [pp for pp in depths if not coarse or not layers % pp or not (layers + 2) % pp]


def _turns(strategy: TrainingStrategy, layers: int, fixed: Fixed, coarse: bool) -> Iterator[tuple[int, str]]:
    if fixed.schedule is not None and fixed.schedule != "interleaved":
        yield 1, fixed.schedule
        return
    if strategy.pp == 1:
        yield 1, "1f1b"
        return
    per_rank = layers // strategy.pp
    choices = [fixed.interleave] if fixed.interleave else [v for v in range(1, per_rank + 1) if per_rank % v == 0]
    if coarse and len(choices) > 3:
        choices = [choices[0], *choices[-2:]]
    for interleave in choices:
        if interleave > 1 or fixed.schedule != "interleaved":
            yield interleave, "interleaved" if interleave > 1 else "1f1b"


def _experts(strategy: TrainingStrategy, experts: int, fixed: int | None) -> list[int]:
    if fixed is not None:
        return [fixed] if fixed == 1 or (experts % fixed == 0 and strategy.stage_ranks % fixed == 0) else []
    if experts == 1:
        return [1]
    return [ep for ep in _powers(experts) if experts % ep == 0 and strategy.stage_ranks % ep == 0] or [1]
