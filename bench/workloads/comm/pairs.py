"""Pairs of ranks, from the times of their rounds: a matrix, its smallest, middle and largest, and what stands out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from bench.stats import pair_outliers
from bench.stats.pair_outliers import Pair, SlowLink
from bench.suite import Observed, Table
from bench.workloads.comm.rounds import Round

MAX_RANKS = 64
"""Most ranks that are paired one by one; with more, the pairs are of hosts."""
WITHIN, ACROSS = "within a host", "across hosts"


@dataclass(frozen=True)
class Pairs:
    """The pairs of ranks, or of hosts, that each variant measures."""

    rounds: tuple[Round, ...]
    directions: tuple[str, ...]
    """The parts of a round: `there` and `back`, or both at once."""
    trips: int
    num_bytes: int
    hosts: tuple[int, ...]
    is_latency: bool

    @property
    def is_directed(self) -> bool:
        return len(self.directions) > 1

    @property
    def by_host(self) -> bool:
        return len(self.hosts) > MAX_RANKS

    @property
    def ends(self) -> str:
        return "host" if self.by_host else "rank"

    def end_of(self, rank: int) -> int:
        return self.hosts[rank] if self.by_host else rank

    def kind_of(self, pair: Pair) -> str:
        """Pairs are compared with those of their own kind."""
        same = not self.by_host and self.hosts[pair[0]] == self.hosts[pair[1]]
        return WITHIN if same else ACROSS

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the note that there are too few ranks to find outliers."""
        needed = pair_outliers.too_few_ranks(
            len({self.end_of(rank) for rank in range(len(self.hosts))}), self.is_directed
        )
        return () if needed is None else (needed.replace("rank", self.ends),)

    def width(self, pair: Pair) -> int:
        """Ranks of either end that exchange at once."""
        if not self.by_host:
            return 1
        return min(self.hosts.count(pair[0]), self.hosts.count(pair[1]))

    def gb_per_s(self, pair: Pair, seconds: float) -> float | None:
        return self.width(pair) * self.num_bytes / seconds * 1e-9 if seconds > 0 else None


def seconds_of_pairs(pairs: Pairs, observed: Observed) -> dict[Pair, float]:
    """(from, to) -> seconds of one trip; both directions at once: the pair in ascending order.

    The median of the slower rank of the two, and of two hosts that of their slowest ranks.
    """
    seconds: dict[Pair, float] = {}
    for number, one_round in enumerate(pairs.rounds):
        for part in pairs.directions:
            name = f"round_{number}_{part}" if pairs.is_directed else f"round_{number}"
            times = observed.rank_seconds[name]
            for a, b in one_round:
                ends = (pairs.end_of(a), pairs.end_of(b))
                key = (ends[1], ends[0]) if part == "back" else ends if pairs.is_directed else (min(ends), max(ends))
                seconds[key] = max(seconds.get(key, 0.0), max(times[a], times[b]) / pairs.trips)
    return seconds


def pair_metrics(pairs: Pairs, observed: Observed) -> dict[str, float | None]:
    """The suite's own metrics.

    `link_ceiling_gb_per_s`: the bandwidth that a ring through all the ranks could have. Within a host it is that of the
    median pair; across hosts that of the median pair times the ranks of a host that exchange at once. If there are
    both, it is the smaller.
    """
    seconds = seconds_of_pairs(pairs, observed)
    slow_links = None if _has_too_few(pairs, seconds) else float(len(find_slow_pairs(pairs, seconds)))
    if pairs.is_latency:
        return {
            "pair_latency_seconds": median(seconds.values()),
            "slowest_pair_latency_seconds": max(seconds.values()),
            "slow_links": slow_links,
        }
    speeds = {pair: speed for pair, value in seconds.items() if (speed := pairs.gb_per_s(pair, value)) is not None}
    return {
        "slowest_pair_gb_per_s": min(speeds.values(), default=None),
        "median_pair_gb_per_s": median(speeds.values()) if speeds else None,
        "fastest_pair_gb_per_s": max(speeds.values(), default=None),
        "direction_asymmetry": _asymmetry(seconds) if pairs.is_directed else None,
        "link_ceiling_gb_per_s": _ceiling(pairs, speeds),
        "slow_links": slow_links,
    }


def _has_too_few(pairs: Pairs, seconds: Mapping[Pair, float]) -> bool:
    return bool(pairs.notes) or min(seconds.values()) <= 0


def _asymmetry(seconds: Mapping[Pair, float]) -> float | None:
    """The largest of any pair, slower direction / faster direction."""
    both = [(seconds[a, b], seconds[b, a]) for a, b in seconds if a < b]
    return max(max(pair) / min(pair) for pair in both) if min(map(min, both)) > 0 else None


def _ceiling(pairs: Pairs, speeds: Mapping[Pair, float]) -> float | None:
    ranks_of_a_host = 1 if pairs.by_host else max(pairs.hosts.count(host) for host in pairs.hosts)
    per_kind: dict[str, list[float]] = {}
    for pair, speed in speeds.items():
        per_kind.setdefault(pairs.kind_of(pair), []).append(speed)
    factors = {WITHIN: 1, ACROSS: ranks_of_a_host}
    return min((factors[kind] * median(values) for kind, values in per_kind.items()), default=None)


def find_slow_pairs(pairs: Pairs, seconds: Mapping[Pair, float]) -> list[SlowLink]:
    """Return the slow outliers among each kind of pair."""
    if min(seconds.values()) <= 0:
        return []
    kinds: dict[str, dict[Pair, float]] = {}
    for pair, value in seconds.items():
        kinds.setdefault(pairs.kind_of(pair), {})[pair] = value
    return [outlier for of_kind in kinds.values() for outlier in pair_outliers.slow_links(of_kind, pairs.is_directed)]


def pair_tables(pairs: Pairs, observed: Observed) -> dict[str, Table]:
    """Return the outliers, if there are any, then the matrices of seconds and GB/s, senders down, receivers across."""
    seconds = seconds_of_pairs(pairs, observed)
    outliers = find_slow_pairs(pairs, seconds)
    named = {"stands_out": _names(pairs, outliers)} if outliers else {}
    if not pairs.is_latency:
        named["pairs_gb_per_s"] = _matrix(pairs, "GB/s", lambda p: pairs.gb_per_s(p, seconds[p]), seconds)
    named["pairs_seconds"] = _matrix(pairs, "seconds", lambda p: seconds[p], seconds)
    return named


def _matrix(pairs: Pairs, unit: str, value: Callable[[Pair], float | None], values: Mapping[Pair, float]) -> Table:
    ends = sorted({end for pair in values for end in pair})

    def cell(row: int, column: int) -> float | None:
        pair = (row, column) if pairs.is_directed else (min(row, column), max(row, column))
        return value(pair) if pair in values else None

    way = "row sends to column" if pairs.is_directed else "both directions"
    rows = tuple((row, *(cell(row, column) for column in ends)) for row in ends)
    heads = tuple(f"{unit} {end}" for end in ends)
    return Table((pairs.ends, *heads), rows, title=f"{pairs.ends}s, {unit}, {way}")


_WORDS: Mapping[str, str] = {
    "rank": "{end} {0}: each of its pairs",
    "sender": "{end} {0} as sender: to every other",
    "receiver": "{end} {0} as receiver: from every other",
}


def _names(pairs: Pairs, outliers: list[SlowLink]) -> Table:
    arrow = "to" if pairs.is_directed else "and"

    def words(outlier: SlowLink) -> str:
        text = _WORDS.get(outlier.role, f"{{end}} {{0}} {arrow} {{1}}")
        return text.format(*outlier.ranks, end=pairs.ends)

    rows = tuple(
        (words(outlier), outlier.seconds, outlier.others_seconds, outlier.ratio, outlier.num_others, outlier.adjusted_p)
        for outlier in outliers
    )
    return Table(
        ("slow link", "seconds", "seconds of the others", "times as long", "other pairs", "adjusted p"),
        rows,
        title="what stands out",
        notes=("Medians, in this launch; in several the count of slow links is the median of the launches.",),
    )
