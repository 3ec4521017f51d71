"""Makes one measurement of the visits to a case within a launch. Pure: records in, records out.

A run takes each case up several times in a launch, and each visit is a line of the result file. A reader gets them
merged, as if the samples had been taken in one go; `visit_samples` says where one visit ends and the next begins. Noise
comes in spells, during which the hypervisor or other processes have the cores: visits in such a spell stay in the file
and do not count where the launch has a calmer one, and the launch makes a further visit where it has time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

WORST_FIRST = ("invalid", "failed", "ok", "skipped")
"""A visit that skipped the case does not spoil those that measured it."""
STOLEN_SHARE = 0.05
"""Share of the CPU time above which a visit says more of the hypervisor than of the machine."""
FOREIGN_SHARE = 0.05
"""Share of the CPU time that other processes used, beyond what the kernel's coarse counting can make of nothing."""
LONG_SECONDS = 15.0
"""A visit that takes so long, as those of a soak do, outlasts spells: what it met belongs to it."""


def worst_status(statuses: Iterable[str]) -> str:
    """Status of a case whose records have these statuses, at least one."""
    distinct = set(statuses)
    return next(status for status in WORST_FIRST if status in distinct)


_ITERATION_KEYS = ("max", "min", "last_rank")


@dataclass(frozen=True)
class _Visits:
    """The visits to one case in one launch, in their order."""

    all: Sequence[Record]
    lead: Record
    """The first with the worst status: it says what became of the case."""
    sampled: Sequence[Record]
    """Visits that are ok, with samples of one kind, and undisturbed if there is such a one."""
    unlike: Sequence[Record]
    """Visits that are ok with samples of another kind, such as another number of calls in each."""
    num_disturbed: int
    """Number of visits left out since others had the machine's time, and a calmer visit is there."""

    @property
    def first(self) -> Record:
        return self.sampled[0] if self.sampled else self.lead


def merge_launches(records: Iterable[Record]) -> list[Record]:
    """One record a case and launch, in the order first written; of each visit the last record holds."""
    held: dict[tuple[str, int], dict[int, Record]] = {}
    for record in records:
        held.setdefault((record["case"], record["launch"]), {})[record.get("visit", 0)] = record
    return [merge([visits[number] for number in sorted(visits)]) for visits in held.values()]


def merge(visits: Sequence[Record]) -> Record:
    """One record of the visits, given in their order, at least one; a field without a rule is as in the leading one.

    Has `visit_samples`, the number of samples of each of the visits, in place of `visit`.
    """
    if len(visits) == 1:  # most files have thousands of these
        alone = dict(visits[0])
        alone.pop("visit", None)
        count = num_samples(alone)
        if alone.get("stop"):  # older files do not say how many
            alone["stop"] = alone["stop"] | {"samples": count}
        alone["visit_samples"] = [count]
        return alone
    status = worst_status(visit["status"] for visit in visits)
    worst = next(visit for visit in visits if visit["status"] == status)
    usable = [visit for visit in visits if visit["status"] == "ok" and visit["variants"]]
    alike = [visit for visit in usable if _kind(visit) == _kind(usable[0])]
    unlike = [visit for visit in usable if _kind(visit) != _kind(usable[0])]
    calm = [visit for visit in alike if not is_disturbed(visit)]
    view = _Visits(visits, worst, calm or alike, unlike, len(alike) - len(calm) if calm else 0)
    whole = {name: value for name, value in worst.items() if name != "visit"}
    whole |= {name: rule(view) for name, rule in _RULES.items()}
    counts = {id(visit): num_samples(visit) for visit in view.sampled}
    return whole | {"visit_samples": [counts.get(id(visit), 0) for visit in visits]}


def was_left_out(record: Mapping[str, Any]) -> bool:
    """True if a measurement line says that a case had no time, in the words of any version."""
    return record["status"] == "skipped" and str(record["reason"]).startswith("budget")


def is_disturbed(record: Record) -> bool:
    """True if the hypervisor or other processes had much of a host's CPU time during a visit, as far as is known.

    The rule looks at who had the cores, never at the samples, so that it favours neither fast nor slow ones.
    """
    seen = record.get("disturbance") or {}
    if max((rank.get("seconds") or 0.0 for rank in seen.get("ranks") or []), default=0.0) > LONG_SECONDS:
        return False
    return any(
        (host.get("steal_share") or 0.0) > STOLEN_SHARE
        or (host.get("other_load_share") or 0.0) > FOREIGN_SHARE + (host.get("other_load_noise_share") or 0.0)
        for host in seen.get("hosts") or []
    )


def num_samples(record: Record) -> int:
    """Number of samples of each variant of a record."""
    variant: Record = next(iter(record["variants"].values()), {})
    rows = variant["nanoseconds"] if "nanoseconds" in variant else [variant.get("per_iteration", {}).get("max", [])]
    return len(rows[0]) if rows else 0


def _kind(record: Record) -> list[tuple[Any, ...]]:
    """Properties that samples must share to be put together: variants, calls in a sample, form, number of ranks."""
    return [
        (name, variant["calls"], "nanoseconds" in variant, len(variant.get("nanoseconds", ())))
        for name, variant in record["variants"].items()
    ]


def _variants(view: _Visits) -> Record:
    if len(view.sampled) < 2:
        whole: Record = view.first["variants"]
        return whole
    names = view.first["variants"]
    return {name: _join_samples([visit["variants"][name] for visit in view.sampled]) for name in names}


def _join_samples(parts: Sequence[Record]) -> Record:
    """Samples one after the other, in the order of the visits.

    The ranks' quantiles above 64 ranks cannot be had anew without the samples: each is the median of the visits' own.
    """
    if "nanoseconds" in parts[0]:
        rows = zip(*(part["nanoseconds"] for part in parts), strict=True)
        return parts[0] | {"nanoseconds": [[ns for samples in rank for ns in samples] for rank in rows]}
    iterations = {key: [n for part in parts for n in part["per_iteration"][key]] for key in _ITERATION_KEYS}
    joined = parts[0] | {"per_iteration": iterations}
    tables = [part["rank_quantiles"]["nanoseconds"] for part in parts if "rank_quantiles" in part]
    if tables:
        ranks = [
            [round(statistics.median(values)) for values in zip(*quantiles, strict=True)]
            for quantiles in zip(*tables, strict=True)
        ]
        joined["rank_quantiles"] = parts[0]["rank_quantiles"] | {"nanoseconds": ranks}
    return joined


def _derived(view: _Visits) -> Record:
    """Median of the known values, by name."""
    rows = [visit.get("derived") or {} for visit in view.sampled] or [view.first.get("derived") or {}]
    values = {
        name: [row[name] for row in rows if row.get(name) is not None]
        for name in dict.fromkeys(n for r in rows for n in r)
    }
    return {name: statistics.median(known) if known else None for name, known in values.items()}


def _check(view: _Visits) -> Record | None:
    """The leading visit's where it is the one that failed its check, else the largest errors."""
    checks: list[Record] = [visit["check"] for visit in view.all if visit.get("check")]
    if view.lead["status"] != "ok" or not checks:
        return view.lead.get("check")
    worst = max(checks, key=lambda check: check["error"] or 0.0)
    return worst | {
        "error_after": max((c["error_after"] for c in checks if c.get("error_after") is not None), default=None)
    }


def _stop(view: _Visits) -> Record | None:
    """The last visit's reason, the widest interval, and the sums of warm-up calls and samples."""
    stops: list[Record] = [visit["stop"] for visit in view.sampled if visit.get("stop")]
    if not stops:
        return view.lead.get("stop")
    return stops[-1] | {
        "half_width": max((s["half_width"] for s in stops if s.get("half_width") is not None), default=None),
        "warmup_calls": _sum(stop.get("warmup_calls") for stop in stops),
        "samples": sum(num_samples(visit) for visit in view.sampled),
    }


def _notes(view: _Visits) -> list[str]:
    """Every visit's, once, and what was not merged."""
    notes = dict.fromkeys(str(note) for visit in view.all for note in visit.get("notes") or [])
    if view.num_disturbed:
        notes[
            f"visits while the hypervisor or other processes had over {STOLEN_SHARE:.0%} of the CPU time do not count, "
            "calmer ones do"
        ] = None
    left_out = sum(num_samples(visit) for visit in view.unlike)
    if left_out:
        numbers = ", ".join(str(visit.get("visit", 0)) for visit in view.unlike)
        launch = f"launch {view.lead['launch']}"
        notes[f"{launch}: {left_out} samples of visit {numbers} are left out: unlike calls in each"] = None
    return list(notes)


def _disturbance(view: _Visits) -> Record | None:
    """The worst of what disturbed the visits whose samples count."""
    if len(view.sampled) < 2:
        return view.first.get("disturbance")
    from bench.records.interference import merge as merged_disturbances

    return merged_disturbances(visit.get("disturbance") for visit in view.sampled)


def _sum(values: Iterable[Any]) -> Any:
    """Sum of the known values; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


_RULES: dict[str, Callable[[_Visits], Any]] = {
    "started": lambda view: view.all[0].get("started"),
    "variants": _variants,
    "work": lambda view: view.first.get("work"),
    "derived": _derived,
    "check": _check,
    "stop": _stop,
    "disturbance": _disturbance,
    "energy": lambda view: view.all[0].get("energy"),
    "spans": lambda view: view.first.get("spans") or [],
    "traced_call_ns": lambda view: view.first.get("traced_call_ns") or [],
    "per_rank": lambda view: view.first.get("per_rank") or [],
    "tables": lambda view: view.first.get("tables") or {},
    "notes": _notes,
    "seconds": lambda view: _sum(visit.get("seconds") for visit in view.all),
}
"""Field -> its value of all visits. Status and reason are those of the leading one."""
