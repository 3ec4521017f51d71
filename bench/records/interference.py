"""Interference with a case: the worst of its launches, as plain columns of its row.

Clocks are the streaming multiprocessors' on NVIDIA GPUs, else the CPU cores'. Unknown is None; `drift` is 0 and
`modes` 1 if samples enough show none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.stats import drift

if TYPE_CHECKING:
    from bench.records.rows import CaseGroup

Row = dict[str, Any]

LARGE_QUOTA_SHARE = 0.01
"""Share of the phase for which a CPU quota held a rank's processes back: above, the case was throttled."""
TEXT_COLUMNS = ("throttle_reasons",)
HARMLESS_REASONS = frozenset({"clocks set by an application", "sync boost", "display clocks"})
"""Clock reasons of a GPU at its set speed; with any other it is slower."""
_CLOCKS = (
    ("gpu_sm_clock_before_hz", "gpu_sm_clock_at_work_hz"),
    ("gpu_sm_clock_before_hz", "gpu_sm_clock_after_hz"),
    ("frequency_before_hz", "frequency_after_hz"),
)
"""The first pair that is known counts; a GPU that is read after its work may be idle already."""
_REASONS = ("gpu_clock_reasons_at_work", "gpu_clock_reasons_after")


def columns(group: CaseGroup) -> Row:
    """A case's disturbances: shares of time (0 to 1), hertz, seconds; what its launches tell of the samples."""
    disturbances = [record["disturbance"] for record in group.records if record.get("disturbance")]
    hosts = [row for disturbance in disturbances for row in disturbance.get("hosts") or []]
    ranks = [row for disturbance in disturbances for row in disturbance.get("ranks") or []]
    worst_host, worst_rank = worst(hosts), worst(ranks)
    reasons = _reasons(hosts, ranks)
    before_hz, after_hz = _clocks(ranks)
    return {
        "steal_share": worst_host.get("steal_share"),
        **_other_load(hosts),
        "run_delay_share": worst_rank.get("run_delay_share"),
        "throttled": None if reasons is None else bool(reasons),
        "throttle_reasons": reasons,
        "clock_before_hz": before_hz,
        "clock_after_hz": after_hz,
        **_stability(group),
    }


def _other_load(hosts: Sequence[Row]) -> Row:
    """Load by others on the host where it is farthest above its noise."""
    known = [row for row in hosts if row.get("other_load_share") is not None]
    row = max(known, key=lambda row: row["other_load_share"] - (row.get("other_load_noise_share") or 0), default={})
    return {name: row.get(name) for name in ("other_load_share", "other_load_noise_share")}


def _reasons(hosts: Sequence[Row], ranks: Sequence[Row]) -> list[str] | None:
    """Causes that held clocks or processes back; None if none could be read."""
    is_known = False
    causes: dict[str, None] = {}
    for row in hosts:
        is_known |= row.get("thermal_events") is not None
        if row.get("thermal_events"):
            causes["CPU too hot"] = None
    for row in ranks:
        reasons = [row[name] for name in _REASONS if row.get(name) is not None]
        held_seconds = row.get("quota_throttled_seconds")
        is_known |= bool(reasons) or held_seconds is not None
        causes |= dict.fromkeys(
            f"GPU {reason}" for seen in reasons for reason in seen if reason not in HARMLESS_REASONS
        )
        if (held_seconds or 0) > LARGE_QUOTA_SHARE * row.get("seconds", 0):
            causes["CPU quota"] = None
    return list(causes) if is_known else None


def _clocks(ranks: Sequence[Row]) -> tuple[int | None, int | None]:
    """Clock before and after, in hertz, of the rank whose clock fell most."""
    for before, after in _CLOCKS:
        pairs = [(row[before], row[after]) for row in ranks if row.get(before) and row.get(after)]
        if pairs:
            return min(pairs, key=lambda pair: pair[1] / pair[0])
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


def merge(disturbances: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Several visits to one case as one: the worst of each, host by host and rank by rank. None of no known one."""
    known = [disturbance for disturbance in disturbances if disturbance]
    if not known:
        return None

    def by(part: str, key: str) -> list[Row]:
        rows: dict[Any, list[Row]] = {}
        for disturbance in known:
            for row in disturbance.get(part) or []:
                rows.setdefault(row.get(key), []).append(row)
        return [worst(of_one) for of_one in rows.values()]

    return {"hosts": by("hosts", "host"), "ranks": by("ranks", "rank")}


_LEAST = (
    "frequency_after_hz",
    *(f"gpu_{part}_clock_{when}_hz" for part in ("sm", "memory") for when in ("at_work", "after")),
)


def worst(rows: Sequence[Row]) -> Row:
    """One row of the worst of each key: the lowest clock at work or after, every reason, the first text, else the
    highest."""
    row_of_worst: Row = {}
    for row in rows:
        for key, value in row.items():
            if value is None:
                continue
            held: Any = row_of_worst.get(key, value)
            if isinstance(value, list):
                row_of_worst[key] = list(dict.fromkeys([*held, *value]))
            elif isinstance(value, str):
                row_of_worst[key] = held
            else:
                row_of_worst[key] = min(held, value) if key in _LEAST else max(held, value)
    return row_of_worst
