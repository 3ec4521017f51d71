"""What disturbed a case, on reading: the worst of its launches, as plain columns of its row.

Clocks are the streaming multiprocessors' on NVIDIA GPUs, else the CPU cores'. Unknown is None; `drift` is 0 and
`modes` 1 where samples enough show none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench import disturbance, nvidia, stability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.frame import Group

Row = dict[str, Any]

LARGE_QUOTA_SHARE = 0.01
"""Of the phase, for which a CPU quota held a rank's processes back: above, the case was throttled."""
TEXT_COLUMNS = ("throttle_reasons",)
_CLOCKS = (
    ("gpu_sm_clock_before_hz", "gpu_sm_clock_at_work_hz"),
    ("gpu_sm_clock_before_hz", "gpu_sm_clock_after_hz"),
    ("frequency_before_hz", "frequency_after_hz"),
)
"""The first pair that is known counts; a GPU that is read after its work may be idle already."""
_REASONS = ("gpu_clock_reasons_at_work", "gpu_clock_reasons_after")


def columns(group: Group) -> Row:
    """A case's disturbances: shares of time (0 to 1), hertz, seconds; what its launches tell of the samples."""
    found = [record["disturbance"] for record in group.records if record.get("disturbance")]
    hosts = [row for each in found for row in each.get("hosts") or []]
    ranks = [row for each in found for row in each.get("ranks") or []]
    worst_host, worst_rank = disturbance.worst(hosts), disturbance.worst(ranks)
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
        **_stability(list(_samples(group))),
    }


def _other_load(hosts: Sequence[Row]) -> Row:
    """Of the host where it is farthest above its noise."""
    known = [row for row in hosts if row.get("other_load_share") is not None]
    row = max(known, key=lambda row: row["other_load_share"] - (row.get("other_load_noise_share") or 0), default={})
    return {name: row.get(name) for name in ("other_load_share", "other_load_noise_share")}


def _reasons(hosts: Sequence[Row], ranks: Sequence[Row]) -> list[str] | None:
    """What held clocks or processes back; empty: nothing; None: nobody could tell."""
    known = False
    found: dict[str, None] = {}
    for row in hosts:
        known |= row.get("thermal_events") is not None
        if row.get("thermal_events"):
            found["CPU too hot"] = None
    for row in ranks:
        reasons = [row[name] for name in _REASONS if row.get(name) is not None]
        held_seconds = row.get("quota_throttled_seconds")
        known |= bool(reasons) or held_seconds is not None
        found |= dict.fromkeys(f"GPU {each}" for seen in reasons for each in seen if each in nvidia.LIMITING)
        if (held_seconds or 0) > LARGE_QUOTA_SHARE * row.get("seconds", 0):
            found["CPU quota"] = None
    return list(found) if known else None


def _clocks(ranks: Sequence[Row]) -> tuple[int | None, int | None]:
    """Before and after, of the rank whose clock fell most."""
    for before, after in _CLOCKS:
        pairs = [(row[before], row[after]) for row in ranks if row.get(before) and row.get(after)]
        if pairs:
            return min(pairs, key=lambda pair: pair[1] / pair[0])
    return None, None


def _samples(group: Group) -> Iterator[NDArray[Any]]:
    for launch in group.view.launches:
        if group.view.main in launch.slowest:
            yield launch.slowest[group.view.main]


def _stability(launches: Sequence[NDArray[Any]]) -> Row:
    enough = [samples for samples in launches if samples.size >= stability.MIN_SAMPLES]
    drifts = [found.change for samples in enough if (found := stability.drift(samples))]
    modes = [pair for samples in enough if (pair := stability.modes(samples))]
    clearest = max(modes, key=lambda pair: pair.slow_seconds / pair.fast_seconds, default=None)
    return {
        "drift": max(drifts, key=abs, default=0.0) if enough else None,
        "modes": (2 if modes else 1) if enough else None,
        "fast_mode_seconds": clearest.fast_seconds if clearest else None,
        "slow_mode_seconds": clearest.slow_seconds if clearest else None,
        "slow_mode_share": clearest.slow_share if clearest else None,
    }


def clock_fall(row: Mapping[str, Any]) -> float | None:
    """The share by which the clock fell during the case; None where unknown."""
    before, after = row.get("clock_before_hz"), row.get("clock_after_hz")
    return 1 - after / before if before and after else None
