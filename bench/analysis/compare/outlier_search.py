"""Outliers among many peers, such as the nodes of a fleet or the ranks of a job, and what all of them share.

Peers are members of one architecture. Each is compared with its siblings by `bench.stats.outliers`, the cases that only
some have are listed, and what differs between the members is named with those that have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.analysis.compare import gate, selection, sides
from bench.analysis.compare.gate import Ruling
from bench.analysis.compare.peer_group import BY_TIME, SOURCES, Peer, PeerMetric, peer_cases
from bench.core.values import first_few, show_share
from bench.errors import BenchError
from bench.records import metrics
from bench.records.environments import RANK_FIELDS
from bench.records.rows import Row
from bench.stats import outliers
from bench.stats.robust_score import MIN_SIBLINGS

if TYPE_CHECKING:
    from bench.analysis.compare.peer_group import PeerKey
    from bench.records.file import Result

_OWN_FIELDS = frozenset({"label", "host.hostname", "rank.cpu_affinity", "rank.visible_devices"})
"""Fields that name a member, and are not differences."""


@dataclass(frozen=True)
class OutlierSearch:
    """Result of a search for outliers among members."""

    by: str
    members: tuple[str, ...]
    outlier: float
    """The share of the siblings' median from which on a distance matters."""
    metric: str
    unit: str
    num_cases: int
    """Number of cases that at least two members measured."""
    num_launches: tuple[int, int]
    """The fewest and the most that a member has of a case."""
    shared: Row
    differences: tuple[Row, ...]
    """{"field", "values": [{"value", "members": [names]}, the most common first]}."""
    rows: tuple[Row, ...]
    """One a member and case that stands out, the slow ones first: member, suite, case, variant, metric, value,
    siblings_median, siblings_low, siblings_high, num_siblings, ratio (value / siblings_median), p_value, adjusted_p,
    verdict (slower | faster), slowdown (ratio - 1, and 1 / ratio - 1 if more is better)."""
    unclear: tuple[Row, ...]
    """Rows as far from the siblings, but chance may explain it, or too little is known; fields as in `outliers`."""
    undecided: frozenset[PeerKey]
    """Cases in which not every member could be judged."""
    partial: tuple[Row, ...]
    """{"suite", "case", "variant", "num_members", "lacking": [{"member", "status"}]} of cases that only some have."""

    def standing_out(self) -> dict[str, Counter[str]]:
        """Member -> verdict -> number of cases, those slower in most cases first."""
        counts: dict[str, Counter[str]] = {}
        for row in self.rows:
            counts.setdefault(row["member"], Counter())[row["verdict"]] += 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]["slower"]))

    def summary(self) -> str:
        """The last line, such as `1 of 64 hosts stands out: node07 (slower in 28 of 30 cases)`."""
        standing = self.standing_out()
        stand = "stands" if len(standing) == 1 else "stand"
        line = f"{len(standing)} of {len(self.members)} {self.by}s {stand} out"
        texts = [
            f"{member} ({_verdict_counts(counts)} of {self.num_cases} cases)" for member, counts in standing.items()
        ]
        return f"{line}: {first_few(texts, more=', {} more')}" if standing else line


def _verdict_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{verdict} in {counts[verdict]}" for verdict in ("slower", "faster") if counts[verdict])


def search_outliers(
    results: Sequence[Result],
    by: str,
    outlier: float = outliers.OUTLIER,
    allow_unlike: bool = False,
    chosen: PeerMetric = BY_TIME,
) -> OutlierSearch:
    """Compare every host, or every rank, of the results with the others (`by`: `host` or `rank`).

    Raises BenchError for a single member, for members of different architectures (unless `allow_unlike`), and for files
    of one member that are not launches of one run. Also if no two members have a case in common, and for a metric or
    cases that no member has.
    """
    if by not in SOURCES:
        raise BenchError(f"--among {by}: there are {', '.join(SOURCES)}")
    selection.refuse_none([record for result in results for record in result.measurements], chosen.where)
    members = SOURCES[by](results, allow_unlike, chosen)
    if len(members) < 2:
        remedy = {"host": "the files of several hosts, or take --among rank", "rank": "a file of several ranks"}[by]
        raise BenchError(f"--among {by}: there is one {by}, {members[0].name}; name {remedy}")
    if not allow_unlike:
        _refuse_unlike(by, members)
    return judge(members, by, outlier, metric=selection.metric(chosen.metric, results))


def _refuse_unlike(by: str, members: Sequence[Peer]) -> None:
    kinds: dict[str, list[str]] = {}
    for member in members:
        kinds.setdefault(member.architecture, []).append(member.name)
    if len(kinds) > 1:
        text = "; ".join(f"{kind}: {name_few(names)}" for kind, names in kinds.items())
        raise BenchError(
            f"{by}s of different architectures are not comparable: {text}; name those of one, or --allow-unlike"
        )


def judge(
    members: Sequence[Peer],
    by: str,
    outlier: float = outliers.OUTLIER,
    only: Collection[str] | None = None,
    metric: metrics.Metric | None = None,
) -> OutlierSearch:
    """Hold the members, or `only` those named, against their siblings, by their time unless another metric is named.

    Raises BenchError for no common case.
    """
    metric = metric or selection.metric(metrics.TIME, ())
    cases = peer_cases(members, metric.better == "lower")
    if only is not None:
        cases = {key: case for key, case in cases.items() if set(only) & set(case.members)}
    if not cases:
        what = "measured the same case" if metric.name == metrics.TIME else f"{metric.name} of the same case"
        raise BenchError(f"no two {by}s have {what}; measure the same with `bench run --like FILE`")
    members_of_case = outliers.judge(list(cases.values()), outlier, only)
    judged = [
        (key, result_of_member) for key, row in zip(cases, members_of_case, strict=True) for result_of_member in row
    ]
    rows = [(key, _row(key, result_of_member, metric)) for key, result_of_member in judged]
    beyond = [row for _, row in rows if row["verdict"] in ("slower", "faster")]
    counts = Counter(row["member"] for row in beyond if row["verdict"] == "slower")
    beyond.sort(key=lambda row: (row["verdict"] != "slower", -counts[row["member"]], row["member"], -row["slowdown"]))
    results = [member.results[0] for member in members]
    sizes = [result_of_member.logs.size for case in cases.values() for result_of_member in case.members.values()]
    return OutlierSearch(
        by=by,
        members=tuple(member.name for member in members),
        outlier=outlier,
        metric=metric.name,
        unit=metric.unit,
        num_cases=len(cases),
        num_launches=(min(sizes), max(sizes)),
        shared=sides.common_facts(results),
        differences=tuple(_differing_fields(members)),
        rows=tuple(beyond),
        unclear=tuple(row for _, row in rows if row["verdict"] == "unclear"),
        undecided=frozenset(key for key, result_of_member in judged if result_of_member.p_value is None),
        partial=tuple(_partial_cases(members)),
    )


def _row(key: PeerKey, judged: outliers.JudgedMember, metric: metrics.Metric) -> Row:
    return {
        "member": judged.member,
        **key._asdict(),
        "metric": metric.name,
        "unit": metric.unit,
        "value": judged.value,
        "siblings_median": judged.centre,
        "siblings_low": judged.low,
        "siblings_high": judged.high,
        "num_siblings": judged.num_siblings,
        "ratio": judged.ratio,
        "slowdown": (judged.ratio if metric.better == "lower" else 1 / judged.ratio) - 1,
        "p_value": judged.p_value,
        "adjusted_p": judged.adjusted_p,
        "verdict": judged.verdict,
    }


def _differing_fields(members: Sequence[Peer]) -> list[Row]:
    """Every field that is not the same for all, with who has which value."""
    if members[0].rank is None:
        fields = sides.field_values([member.results[0] for member in members])
    else:
        fields = _rank_fields(members)
    rows = []
    for name, values in fields.items():
        holders: dict[str, list[str]] = {}
        kept: dict[str, Any] = {}
        for member, value in zip(members, values, strict=True):
            holders.setdefault(repr(value), []).append(member.name)
            kept[repr(value)] = value
        if len(holders) > 1 and name not in _OWN_FIELDS:
            common = sorted(holders, key=lambda text: -len(holders[text]))
            rows.append({"field": name, "values": [{"value": kept[t], "members": holders[t]} for t in common]})
    return rows


def _rank_fields(members: Sequence[Peer]) -> dict[str, list[Any]]:
    ranks = members[0].results[0].environment.ranks
    return {f"rank.{name}": [getattr(rank, name) for rank in ranks] for name in RANK_FIELDS}


def _partial_cases(members: Sequence[Peer]) -> list[Row]:
    rows = []
    for key in dict.fromkeys(key for member in members for key in member.status):
        lacking = [
            {"member": member.name, "status": member.status.get(key, "missing")}
            for member in members
            if key not in member.launches
        ]
        if lacking:
            rows.append({**key._asdict(), "num_members": len(members) - len(lacking), "lacking": lacking})
    return rows


def name_few(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    return first_few(names, more=" and {} more")


def rule(search: OutlierSearch, fail_slower: float, min_decided: float = 0.0) -> Ruling:
    """The gate: failed if a member that stands out is slower than its siblings' median by more than `fail_slower`.

    A case is decided if every member could be judged, and none that is slower by this much is unclear.
    """
    failing = [row for row in search.rows if row["verdict"] == "slower" and row["slowdown"] > fail_slower]
    decided_slower = {_case(row) for row in failing}
    unsure = {_case(row) for row in search.unclear if row["slowdown"] > fail_slower}
    decided = search.num_cases - len((unsure | {tuple(key) for key in search.undecided}) - decided_slower)
    slow = name_few(list(dict.fromkeys(str(row["member"]) for row in failing)))
    limit = show_share(fail_slower)
    why = [f"{slow} slower than the siblings by more than {limit}"] if failing else []
    passed = f"nothing slower than the siblings by more than {limit} in {decided} of {search.num_cases} cases"
    needs = f"too few: it needs at least {MIN_SIBLINGS + 1} {search.by}s, or several launches of each"
    return gate.ruling(decided, search.num_cases, why, passed, needs, min_decided, failing)


def _case(row: Row) -> tuple[str, str, str | None]:
    return row["suite"], row["case"], row["variant"]
