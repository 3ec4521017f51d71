"""Speed of a cluster of mixed accelerators, from the speed of each kind alone: even and balanced plans, the bound.

Training in lockstep takes the minimum of speeds, independent replicas take their sum. Of n_k accelerators of kind k,
each at s_k a second on the same workload:

    even       (sum of n_k) x min(s_k): all have the same share, and wait for the slowest
    balanced   the best whole-number plan: a rank of kind k gets u_k units (microbatches, blocks of columns, layers)
               of each round, and a round takes max(u_k / s_k); found by search, under what each memory holds
    bound      sum of n_k x s_k: units of any size
    alone      n_k x its own best: the fastest configuration (batch, recomputation) that this kind was measured at

The even plan runs at a configuration that *every* kind was measured at, so the smallest memory caps it, while each kind
alone takes its own best; more memory is then an advantage also if peak compute is equal. A speed is not one number
a device: it depends on the tensor-parallel degree, the sequence length and more, so it is looked up workload by
workload, and is missing if it was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.catalog.accelerators import Accelerator
from bench.errors import BenchError
from bench.parallelism import work_split
from bench.records.metrics import TIME, TIME_HIGH, TIME_LOW, TOKEN_SPEED

CONFIGURATION = frozenset(
    {
        "batch", "global_batch", "microbatch_size", "num_microbatches", "microbatches", "units", "recompute",
        "recomputation", "compile", "schedule", "dp_mode",
    }
)  # fmt: skip
"""Parameters that a kind may choose for itself, since they change speed and memory but not what is trained."""
MAX_UNITS = 16
"""Most units that a rank gets a round; finer splits are beyond what a batch can be cut into."""
EVEN_SHARE = {"data": None, "tensor": 8, "pipeline": 4}
"""Parallelism -> units of a rank if all have equally many: heads (of Llama-3 8B's 32, at a tensor degree of 4),
layers (of its 32, in 8 stages). Their sum over a group's ranks is fixed; of microbatches each may have any number."""
MAX_GROUP = 512
"""Ranks of a group that a plan is searched for; larger clusters repeat it."""
SERVING = frozenset({"inference", "decode", "prefill"})
"""Suites whose work is independent replicas."""


@dataclass(frozen=True)
class Speed:
    """Speed of one accelerator on one workload, in units per second; low and high are a 95% interval, or None."""

    value: float
    low: float | None = None
    high: float | None = None
    configuration: str = ""


@dataclass(frozen=True)
class DeviceKind:
    """Accelerators of one kind. `speeds`: workload -> configuration -> speed, as measured (or by catalogue)."""

    name: str
    count: int
    speeds: Mapping[str, Mapping[str, Speed]]
    memory_gb: float | None = None
    num_ranks: Mapping[str, int] | None = None
    """Workload -> ranks that it was measured on; None: by catalogue."""
    usd_per_hour: float | None = None
    accelerator: Accelerator | None = None
    """Row of the catalogue, if the speeds are its peaks."""
    is_emulated: bool = False
    """Something was slowed on purpose in the measurement."""

    def best(self, workload: str) -> Speed | None:
        speeds = self.speeds.get(workload, {})
        return max(speeds.values(), key=lambda speed: speed.value, default=None)


@dataclass(frozen=True)
class HeterogeneousPlan:
    """One way of training on all kinds together; rates in units a second of the whole cluster."""

    rate: float
    low: float | None
    high: float | None
    units: str
    """Units of each kind's rank per round, such as `2 : 2 : 5`, or `4-5` if ranks of a kind differ."""


@dataclass(frozen=True)
class Mixed:
    """A workload on the mixed cluster; None if one of the kinds was not measured on it."""

    workload: str
    parallelism: str
    configuration: str | None
    even: HeterogeneousPlan | None
    balanced: HeterogeneousPlan | None
    bound: float | None
    alone: tuple[Speed | None, ...]
    """Each kind's own best, of one accelerator."""

    @property
    def missing(self) -> bool:
        return any(speed is None for speed in self.alone)


def mixed(
    kinds: Sequence[DeviceKind], workload: str, most: Sequence[int] | None = None, parallelism: str = "data"
) -> Mixed:
    """`most` caps the units of each kind's ranks, such as by memory."""
    alone = tuple(kind.best(workload) for kind in kinds)
    speeds_of_kinds = [kind.speeds.get(workload, {}) for kind in kinds]
    common = sorted(set(speeds_of_kinds[0]).intersection(*speeds_of_kinds[1:]))
    # Of the configurations that all kinds can hold, the one that is fastest in lockstep.
    chosen = max(common, key=lambda name: min(speeds[name].value for speeds in speeds_of_kinds), default=None)
    if chosen is None:
        return Mixed(workload, parallelism, None, None, None, None, alone)
    counts = [kind.count for kind in kinds]
    speeds = [speeds[chosen] for speeds in speeds_of_kinds]
    even = _plan(counts, speeds, (1,) * len(kinds))
    units = EVEN_SHARE[parallelism]
    balanced: HeterogeneousPlan | None
    if units is None:
        balanced = _plan(counts, speeds, best_units(counts, [speed.value for speed in speeds], most))
    else:
        balanced = _dealt(counts, speeds, units, most)
    bound = sum(count * speed.value for count, speed in zip(counts, speeds, strict=True))
    return Mixed(workload, parallelism, chosen, even, balanced, bound, alone)


def rate(counts: Sequence[int], speeds: Sequence[float], units: Sequence[int]) -> float:
    """Units a second of the cluster when a round gives each kind this many, and all wait for the last."""
    total = sum(count * share for count, share in zip(counts, units, strict=True))
    return total / max(share / speed for share, speed in zip(units, speeds, strict=True))


def best_units(counts: Sequence[int], speeds: Sequence[float], most: Sequence[int] | None = None) -> tuple[int, ...]:
    """The best whole numbers of units a rank of each kind, at least 1 and at most MAX_UNITS or `most`.

    Every round's length is that of one kind's units: with it given, the others get as many as fit. So all rounds worth
    looking at are tried, and the plan is the best there is; of several best ones that with the shortest round. Raises
    BenchError if there is none.
    """
    caps = [MAX_UNITS] * len(speeds) if most is None else [min(MAX_UNITS, cap) for cap in most]
    best: tuple[float, tuple[int, ...]] | None = None
    lengths = sorted({share / speed for speed, cap in zip(speeds, caps, strict=True) for share in range(1, cap + 1)})
    for length in lengths:
        units = tuple(
            min(cap, math.floor(length * speed * (1 + 1e-12))) for speed, cap in zip(speeds, caps, strict=True)
        )
        if min(units) < 1:
            continue
        speed_of_all = rate(counts, speeds, units)
        if best is None or speed_of_all > best[0] * (1 + 1e-9):
            best = (speed_of_all, units)
    if best is None:
        raise BenchError(
            f"no whole shares of work fit all kinds: their speeds are {min(speeds):.3g} to {max(speeds):.3g}; "
            "mix kinds that are nearer to each other"
        )
    return best[1]


def _plan(counts: Sequence[int], speeds: Sequence[Speed], units: tuple[int, ...]) -> HeterogeneousPlan:
    def at(values: Iterable[float | None]) -> float | None:
        known = list(values)
        return None if None in known else rate(counts, [float(v) for v in known if v is not None], units)

    value = at(speed.value for speed in speeds)
    assert value is not None
    return HeterogeneousPlan(value, at(s.low for s in speeds), at(s.high for s in speeds), " : ".join(map(str, units)))


def _dealt(
    counts: Sequence[int], speeds: Sequence[Speed], units_per_rank: int, most: Sequence[int] | None
) -> HeterogeneousPlan | None:
    """`units_per_rank` x ranks units of a group dealt out to its ranks; None if the memories do not hold them."""
    group = _group(counts)
    kind_of = [kind for kind, count in enumerate(group) for _ in range(count)]
    caps = None if most is None else [most[kind] for kind in kind_of]
    num_units = units_per_rank * len(kind_of)
    if caps is not None and sum(caps) < num_units:
        return None
    shares = work_split.balanced(num_units, [speeds[kind].value for kind in kind_of], caps)
    groups = sum(counts) / len(kind_of)

    def at(values: Sequence[float | None]) -> float | None:
        if None in values:
            return None
        seconds = max(share / float(values[kind] or 0) for share, kind in zip(shares, kind_of, strict=True))
        return groups * num_units / seconds

    value = at([speed.value for speed in speeds])
    assert value is not None
    units_of_kinds = [
        sorted({share for share, k in zip(shares, kind_of, strict=True) if k == kind}) for kind in range(len(group))
    ]
    units = " : ".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in units_of_kinds)
    return HeterogeneousPlan(value, at([speed.low for speed in speeds]), at([speed.high for speed in speeds]), units)


def _group(counts: Sequence[int]) -> list[int]:
    """Ranks of each kind in the smallest group that is mixed as the whole, at least one, at most MAX_GROUP in all."""
    common = math.gcd(*counts)
    scale = max(1.0, sum(counts) / common / MAX_GROUP)
    return [max(1, round(count / common / scale)) for count in counts]


def speeds_of(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, dict[str, Speed]], dict[str, int]]:
    """Rows of `bench.records.rows.case_rows` to workload -> configuration -> tokens a second of one device, and the
    ranks.

    Only cases that are ok and count tokens; a workload is a case without what CONFIGURATION names, on this many ranks.
    """
    speeds: dict[str, dict[str, Speed]] = {}
    ranks: dict[str, int] = {}
    for row in rows:
        if row["status"] != "ok" or not row.get(TOKEN_SPEED):
            continue
        workload, configuration = identity(row)
        per_rank = row[TOKEN_SPEED] / row["num_ranks"]
        tokens = per_rank * row[TIME]
        low, high = (tokens / row[name] if row.get(name) else None for name in (TIME_HIGH, TIME_LOW))
        speeds.setdefault(workload, {})[configuration] = Speed(per_rank, low, high, configuration)
        ranks[workload] = row["num_ranks"]
    return speeds, ranks


def identity(row: Mapping[str, Any]) -> tuple[str, str]:
    """(workload, configuration) of a case."""
    params = {name: value for name, value in sorted(row["params"].items()) if name != "op"}
    if row.get("trained_layers"):  # of a model that is cut to the memory, what was really trained
        params["num_layers"] = int(row["trained_layers"])
    fixed = ",".join(f"{name}={value}" for name, value in params.items() if name not in CONFIGURATION)
    free = ",".join(f"{name}={value}" for name, value in params.items() if name in CONFIGURATION)
    head = f"{row['suite']}/{row['params'].get('op', 'run')}"
    return f"{head}[{fixed}] on {row['num_ranks']} ranks", free or "as measured"
