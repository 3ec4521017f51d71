"""Makes one measurement of the visits to a case within a launch. Pure: records in, records out.

A run takes each case up several times in a launch, and each visit is a line of the result file. A reader gets them
merged, as if the samples had been taken in one go. Noise comes in spells, during which the hypervisor or other
processes have the cores. Visits in such a spell stay in the file and do not count if the launch has a calmer one,
and the launch makes a further visit if it has time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bench.records import samples
from bench.records.interference import merged
from bench.records.lines.parts import CheckOutcome, Interference, RankExtremes, Real, Stop, VariantSamples

if TYPE_CHECKING:
    from bench.records.lines.kinds import Measurement

WORST_FIRST = ("invalid", "failed", "ok", "skipped")
"""A visit that skipped the case does not spoil those that measured it."""
STOLEN_SHARE = 0.05
"""Share of the CPU time above which a visit says more of the hypervisor than of the machine."""
FOREIGN_SHARE = 0.05
"""Share of the CPU time that other processes used, beyond the error of the kernel's coarse counting."""
LONG_SECONDS = 15.0
"""A visit that takes so long, as those of a soak do, outlasts spells: what it met belongs to it."""


def worst_status(statuses: Iterable[str]) -> str:
    """Status of a case whose records have these statuses, at least one."""
    distinct = set(statuses)
    if len(distinct) == 1:
        return distinct.pop()
    return next(status for status in WORST_FIRST if status in distinct)


@dataclass(frozen=True)
class _Visits:
    """The visits to one case in one launch, in their order."""

    all: Sequence[Measurement]
    lead: Measurement
    """The first with the worst status: it says what became of the case."""
    sampled: Sequence[Measurement]
    """Visits that are ok, with samples of one kind, and undisturbed if there is such a one."""
    unlike: Sequence[Measurement]
    """Visits that are ok with samples of another kind, such as another number of calls in each."""
    num_disturbed: int
    """Number of visits left out since others had the machine's time, and a calmer visit is there."""

    @property
    def first(self) -> Measurement:
        return self.sampled[0] if self.sampled else self.lead


def merge_launches(records: Iterable[Measurement]) -> list[Measurement]:
    """One record a case and launch, in the order first written; of each visit the last record holds."""
    held: dict[tuple[str, int], dict[int, Measurement]] = {}
    for record in records:
        held.setdefault((record.case, record.launch), {})[record.visit] = record
    return [merge([visits[number] for number in sorted(visits)]) for visits in held.values()]


def merge(visits: Sequence[Measurement]) -> Measurement:
    """One record of the visits, given in their order, at least one; a field without a rule is as in the leading one."""
    if len(visits) == 1:  # most files have thousands of these
        (alone,) = visits
        if alone.stop is None or alone.stop.samples is not None:
            return alone
        stop = msgspec.structs.replace(alone.stop, samples=num_samples(alone))  # older files do not say how many
        return msgspec.structs.replace(alone, stop=stop)
    status = worst_status(visit.status for visit in visits)
    worst = next(visit for visit in visits if visit.status == status)
    usable = [visit for visit in visits if visit.status == "ok" and visit.variants]
    alike = [visit for visit in usable if _kind(visit) == _kind(usable[0])]
    unlike = [visit for visit in usable if _kind(visit) != _kind(usable[0])]
    calm = [visit for visit in alike if not is_disturbed(visit)]
    view = _Visits(visits, worst, calm or alike, unlike, len(alike) - len(calm) if calm else 0)
    first = view.first
    return msgspec.structs.replace(
        worst,
        visit=0,
        started=visits[0].started,
        seconds=_sum(visit.seconds for visit in visits),
        energy=visits[0].energy,
        variants=_variants(view),
        controls=_controls(view),
        work=first.work,
        spans=first.spans,
        traced_call_ns=first.traced_call_ns,
        traced_variants=first.traced_variants,
        per_rank=first.per_rank,
        tables=first.tables,
        derived=_derived(view),
        check=_check(view),
        stop=_stop(view),
        disturbance=_disturbance(view),
        notes=_notes(view),
    )


def was_left_out(record: Measurement) -> bool:
    """True if a measurement line says that a case had no time, in the words of any version."""
    return record.status == "skipped" and (record.reason or "").startswith("budget")


def is_disturbed(record: Measurement) -> bool:
    """True if the hypervisor or other processes had much of a host's CPU time during a visit, as far as is known.

    The rule looks at who had the cores, never at the samples, so that it favours neither fast nor slow ones.
    """
    seen = record.disturbance
    if seen is None or max((rank.seconds or 0.0 for rank in seen.ranks), default=0.0) > LONG_SECONDS:
        return False
    return any(
        (host.steal_share or 0.0) > STOLEN_SHARE
        or (host.other_load_share or 0.0) > FOREIGN_SHARE + (host.other_load_noise_share or 0.0)
        for host in seen.hosts
    )


def num_samples(record: Measurement) -> int:
    """Number of samples of each variant of a record."""
    return samples.num_samples(record.variants[record.main]) if record.variants else 0


def _kind(record: Measurement) -> list[tuple[Any, ...]]:
    """Properties that samples must share to be put together: variants, calls in a sample, form, number of ranks."""
    return [
        (name, variant.calls, variant.nanoseconds is None, len(samples.sample_matrix(variant)))
        for name, variant in record.variants.items()
    ]


def _variants(view: _Visits) -> dict[str, VariantSamples]:
    if len(view.sampled) < 2:
        return view.first.variants
    names = view.first.variants
    return {name: _join_samples([visit.variants[name] for visit in view.sampled]) for name in names}


def _controls(view: _Visits) -> dict[str, VariantSamples]:
    """The harness's own kernels beside the visits that count."""
    rows = [visit.controls for visit in view.sampled]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _join_samples([row[name] for row in rows if name in row]) for name in names}


def _join_samples(parts: Sequence[VariantSamples]) -> VariantSamples:
    """Samples one after the other, in the order of the visits.

    The ranks' quantiles above 64 ranks cannot be computed again without the samples: each is the median of the visits'
    own.
    """
    first = parts[0]
    matrices = [part.nanoseconds for part in parts if part.nanoseconds is not None]
    if matrices:
        return msgspec.structs.replace(first, nanoseconds=np.concatenate(matrices, axis=1))
    extremes = [part.per_iteration for part in parts if part.per_iteration is not None]
    joined = RankExtremes(
        max=np.concatenate([part.max for part in extremes]),
        min=np.concatenate([part.min for part in extremes]),
        last_rank=[rank for part in extremes for rank in part.last_rank],
    )
    tables = [part.rank_quantiles for part in parts if part.rank_quantiles is not None]
    quantiles = first.rank_quantiles
    if quantiles is not None and len({table.nanoseconds.shape for table in tables}) == 1:
        middle = np.median([table.nanoseconds for table in tables], axis=0).round().astype(np.int64)
        quantiles = msgspec.structs.replace(quantiles, nanoseconds=middle)
    return msgspec.structs.replace(first, per_iteration=joined, rank_quantiles=quantiles)


def _derived(view: _Visits) -> dict[str, Real | None]:
    """Median of the known values, by name."""
    rows = [visit.derived for visit in view.sampled] or [view.first.derived]
    values = {
        name: [value for row in rows if (value := row.get(name)) is not None]
        for name in dict.fromkeys(n for r in rows for n in r)
    }
    return {name: statistics.median(known) if known else None for name, known in values.items()}


def _check(view: _Visits) -> CheckOutcome | None:
    """The leading visit's where it is the one that failed its check, else the largest errors."""
    checks = [visit.check for visit in view.all if visit.check is not None]
    if view.lead.status != "ok" or not checks:
        return view.lead.check
    worst = max(checks, key=lambda check: check.error or 0.0)
    return msgspec.structs.replace(
        worst,
        error_after=_maximum(check.error_after for check in checks),
        timed_samples=sum(check.timed_samples for check in checks),
        error_timed=_maximum(check.error_timed for check in checks),
    )


def _stop(view: _Visits) -> Stop | None:
    """The last visit's reason, the widest interval, and the sums of warm-up calls and samples."""
    stops = [visit.stop for visit in view.sampled if visit.stop is not None]
    if not stops:
        return view.lead.stop
    calls = [stop.warmup_calls for stop in stops if stop.warmup_calls is not None]
    return msgspec.structs.replace(
        stops[-1],
        half_width=_maximum(stop.half_width for stop in stops),
        warmup_calls=sum(calls) if calls else None,
        samples=sum(num_samples(visit) for visit in view.sampled),
    )


def _notes(view: _Visits) -> list[str]:
    """Every visit's, once, and what was not merged."""
    notes = dict.fromkeys(note for visit in view.all for note in visit.notes)
    if view.num_disturbed:
        notes[
            f"visits while the hypervisor or other processes had over {STOLEN_SHARE:.0%} of the CPU time do not count, "
            "calmer ones do"
        ] = None
    left_out = sum(num_samples(visit) for visit in view.unlike)
    if left_out:
        numbers = ", ".join(str(visit.visit) for visit in view.unlike)
        launch = f"launch {view.lead.launch}"
        notes[f"{launch}: {left_out} samples of visit {numbers} are left out: unlike calls in each"] = None
    return list(notes)


def _disturbance(view: _Visits) -> Interference | None:
    """The worst of what disturbed the visits whose samples count."""
    if len(view.sampled) < 2:
        return view.first.disturbance
    return merged(visit.disturbance for visit in view.sampled)


def _maximum(values: Iterable[Real | None]) -> Real | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Iterable[Real | None]) -> Real | None:
    """Sum of the known values; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
