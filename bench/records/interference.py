"""Interference with a case: the worst of its launches, as plain columns of its row.

Clocks are the streaming multiprocessors' on NVIDIA GPUs, else the CPU cores'. Unknown is None; `drift` is 0 and
`modes` 1 if samples enough show none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from bench.records.lines.parts import HostInterference, Interference, RankInterference
from bench.stats import drift

if TYPE_CHECKING:
    from bench.records.rows import CaseGroup

Row = dict[str, Any]

LARGE_STEAL_SHARE = 0.02
LARGE_OTHER_SHARE = 0.05
"""Share of the CPU time, beyond the noise of the kernel's coarse counting of a short phase, that disturbs a case."""
LARGE_QUOTA_SHARE = 0.01
"""Share of the phase for which a CPU quota held a rank's processes back: above, the case was throttled."""
TEXT_COLUMNS = ("throttle_reasons",)
HARMLESS_REASONS = frozenset({"clocks set by an application", "sync boost", "display clocks"})
"""Clock reasons of a GPU at its set speed; with any other it is slower."""
Kind = TypeVar("Kind", HostInterference, RankInterference)


def columns(group: CaseGroup) -> Row:
    """A case's disturbances: shares of time (0 to 1), hertz, seconds; what its launches tell of the samples."""
    disturbances = [record.disturbance for record in group.records if record.disturbance is not None]
    hosts = [row for disturbance in disturbances for row in disturbance.hosts]
    ranks = [row for disturbance in disturbances for row in disturbance.ranks]
    reasons = _reasons(hosts, ranks)
    before_hz, after_hz = _clocks(ranks)
    return {
        "steal_share": worst(HostInterference, hosts).steal_share,
        **_other_load(hosts),
        "run_delay_share": worst(RankInterference, ranks).run_delay_share,
        "throttled": None if reasons is None else bool(reasons),
        "throttle_reasons": reasons,
        "clock_before_hz": before_hz,
        "clock_after_hz": after_hz,
        **_stability(group),
    }


def _other_load(hosts: Sequence[HostInterference]) -> Row:
    """Load by others on the host where it is farthest above its noise."""
    loads = [(row.other_load_share, row.other_load_noise_share) for row in hosts if row.other_load_share is not None]
    load, noise = max(loads, key=lambda pair: pair[0] - (pair[1] or 0), default=(None, None))
    return {"other_load_share": load, "other_load_noise_share": noise}


def _reasons(hosts: Sequence[HostInterference], ranks: Sequence[RankInterference]) -> list[str] | None:
    """Causes that held clocks or processes back; None if none could be read."""
    is_known = any(row.thermal_events is not None for row in hosts)
    causes: dict[str, None] = {"CPU too hot": None} if any(row.thermal_events for row in hosts) else {}
    for row in ranks:
        # A GPU that is read after its work may be idle already, at work it is not: both count.
        readings = [seen for seen in (row.gpu_clock_reasons_at_work, row.gpu_clock_reasons_after) if seen is not None]
        is_known |= bool(readings) or row.quota_throttled_seconds is not None
        causes |= dict.fromkeys(
            f"GPU {reason}" for seen in readings for reason in seen if reason not in HARMLESS_REASONS
        )
        if (row.quota_throttled_seconds or 0) > LARGE_QUOTA_SHARE * (row.seconds or 0):
            causes["CPU quota"] = None
    return list(causes) if is_known else None


def _clocks(ranks: Sequence[RankInterference]) -> tuple[float | None, float | None]:
    """Clock before and after, in hertz, of the rank whose clock fell most.

    The first pair that is known counts; a GPU that is read after its work may be idle already.
    """
    candidates = (
        [(row.gpu_sm_clock_before_hz, row.gpu_sm_clock_at_work_hz) for row in ranks],
        [(row.gpu_sm_clock_before_hz, row.gpu_sm_clock_after_hz) for row in ranks],
        [(row.frequency_before_hz, row.frequency_after_hz) for row in ranks],
    )
    for pairs in candidates:
        known = [(before, after) for before, after in pairs if before and after]
        if known:
            return min(known, key=lambda pair: pair[1] / pair[0])
    return None, None


def _stability(group: CaseGroup) -> Row:
    main = group.view.main
    launches = [launch.slowest[main] for launch in group.view.launches if main in launch.slowest]
    enough = [samples for samples in launches if samples.size >= drift.MIN_SAMPLES]
    drifts = [change.change for samples in enough if (change := drift.drift(samples))]
    modes = [pair for samples in enough if (pair := drift.modes(samples))]
    clearest = max(modes, key=lambda pair: pair.slow_seconds / pair.fast_seconds, default=None)
    return {
        "drift": max(drifts, key=abs, default=0.0) if enough else None,
        "modes": (2 if modes else 1) if enough else None,
        "fast_mode_seconds": clearest.fast_seconds if clearest else None,
        "slow_mode_seconds": clearest.slow_seconds if clearest else None,
        "slow_mode_share": clearest.slow_share if clearest else None,
    }


def clock_fall(row: Mapping[str, Any]) -> float | None:
    """The share by which the clock fell during the case; None if unknown."""
    before, after = row.get("clock_before_hz"), row.get("clock_after_hz")
    return 1 - after / before if before and after else None


def large_steal(row: Mapping[str, Any]) -> float | None:
    """Share of the CPU time that the hypervisor took, if it is large enough to disturb a case."""
    share = row.get("steal_share")
    return float(share) if share is not None and share > LARGE_STEAL_SHARE else None


def large_other_load(row: Mapping[str, Any]) -> float | None:
    """Share of the CPU time that other programs used, if it is beyond noise and large enough to disturb a case."""
    share = row.get("other_load_share")
    noise = row.get("other_load_noise_share") or 0.0
    return float(share) if share is not None and share > LARGE_OTHER_SHARE + noise else None


def merged(disturbances: Iterable[Interference | None]) -> Interference | None:
    """Several visits to one case as one: the worst of each, host by host and rank by rank. None of no known one."""
    known = [disturbance for disturbance in disturbances if disturbance is not None]
    if not known:
        return None
    hosts: dict[str | None, list[HostInterference]] = {}
    ranks: dict[int | None, list[RankInterference]] = {}
    for disturbance in known:
        for host in disturbance.hosts:
            hosts.setdefault(host.host, []).append(host)
        for rank in disturbance.ranks:
            ranks.setdefault(rank.rank, []).append(rank)
    return Interference(
        hosts=[worst(HostInterference, rows) for rows in hosts.values()],
        ranks=[worst(RankInterference, rows) for rows in ranks.values()],
    )


_LEAST = (
    "frequency_after_hz",
    *(f"gpu_{part}_clock_{when}_hz" for part in ("sm", "memory") for when in ("at_work", "after")),
)


def worst(kind: type[Kind], rows: Sequence[Kind]) -> Kind:
    """One row of the worst of each field: the lowest clock at work or after, every reason, the first text, else the
    highest."""
    if not rows:  # of thousands of cases that were not watched
        return kind()
    fields: Row = {}
    for name in kind.__struct_fields__:
        known: list[Any] = [value for row in rows if (value := getattr(row, name)) is not None]
        if not known:
            continue
        if isinstance(known[0], list):
            fields[name] = list(dict.fromkeys(item for value in known for item in value))
        elif isinstance(known[0], str):
            fields[name] = known[0]
        else:
            fields[name] = min(known) if name in _LEAST else max(known)
    return kind(**fields)
