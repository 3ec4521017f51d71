"""Results of a soak: the slow-down of the work from its beginning to its end, and the devices' clocks and power.

Pure functions of samples in their order and of the series of `bench.workloads.trace.device_series`. The time axis is
the number of calls: the ranks make each call together, so that it is one axis for all of them, whatever their clocks
say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.measure.system import nvml
from bench.stats import distributions, intervals
from bench.suite import Cell, Table
from bench.workloads.trace.device_series import COLUMNS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PARTS = 5
"""The last fifth of the samples is compared with the first: long enough to be steady, and still cold and hot."""
BLOCKS = 10
"""Blocks of neighbouring samples in each of the two fifths; their medians are compared."""
MIN_BLOCKS = 3
MAX_ROWS = 24
"""Rows of the table over time."""
HARMFUL = nvml.LIMITING - {"power cap"}
"""A GPU under load runs into its power cap by design; what else limits it says that power or cooling do not suffice."""


@dataclass(frozen=True)
class Change:
    """Last fifth over first fifth, minus 1: above 0 it became slower."""

    share: float
    low: float
    """95% interval."""
    high: float


def compute_change(samples: ArrayLike) -> Change | None:
    """Change of a call's time from the first fifth of the samples to the last; None for fewer than 15 samples.

    Both fifths are cut into (at most) 10 blocks of neighbours, since neighbours are alike, and the logarithms of the
    blocks' medians are compared: Welch's t (Biometrika 34, 1947). Spells of noise longer than a block (2.4 s of a soak
    of two minutes) make the interval too narrow.
    """
    values = np.asarray(samples, dtype=float)
    fifth = values.size // PARTS
    if fifth < MIN_BLOCKS or values.min() <= 0:
        return None
    first, last = (_log_blocks(part, min(BLOCKS, fifth)) for part in (values[:fifth], values[-fifth:]))
    distance = float(last.mean() - first.mean())
    errors = [float(part.var(ddof=1)) / part.size for part in (first, last)]
    total = sum(errors)
    if total == 0:
        return Change(math.expm1(distance), math.expm1(distance), math.expm1(distance))
    free = total**2 / sum(error**2 / (part.size - 1) for error, part in zip(errors, (first, last), strict=True))
    half = distributions.t_quantile(0.5 + intervals.CONFIDENCE / 2, free) * math.sqrt(total)
    return Change(math.expm1(distance), math.expm1(distance - half), math.expm1(distance + half))


def _log_blocks(values: np.ndarray[tuple[int], np.dtype[np.float64]], count: int) -> np.ndarray[Any, Any]:
    return np.log([intervals.median(block) for block in np.array_split(values, count)])


@dataclass(frozen=True)
class RankSeries:
    """One rank's readings during the timed calls."""

    seconds: tuple[float, ...]
    """Seconds since about the first timed call."""
    sample: tuple[float, ...]
    """Position of each reading among the samples: 0 at the first, the number of samples at the end."""
    columns: Mapping[str, tuple[Any, ...]]

    def values(self, name: str, begin: float, end: float) -> list[Any]:
        """The known values of the readings that lie within a stretch of the samples."""
        pairs = zip(self.sample, self.columns[name], strict=True)
        return [value for sample, value in pairs if begin <= sample <= end and value is not None]


def align_series(rows: Sequence[Sequence[Any]], num_samples: int, calls_in_sample: int, calls: int) -> RankSeries:
    """Rows of a series of devices laid next to the samples, the last ones of all `calls` of the work."""
    by_name = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    first = calls - num_samples * calls_in_sample
    sample = [(count - first) / calls_in_sample for count in by_name["calls"]]
    kept = [index for index, at in enumerate(sample) if 0 <= at < num_samples]
    begin = float(np.interp(0, sample, by_name["at_seconds"]))
    return RankSeries(
        seconds=tuple(by_name["at_seconds"][i] - begin for i in kept),
        sample=tuple(sample[i] for i in kept),
        columns={name: tuple(column[i] for i in kept) for name, column in by_name.items()},
    )


def time_table(samples: Sequence[float], ranks: Sequence[RankSeries]) -> Table:
    """The soak in at most 24 stretches: speed, and of all devices the hottest, the slowest clock and the power."""
    rows = min(MAX_ROWS, len(samples), len(ranks[0].sample)) if ranks else 0
    edges = [round(row * len(samples) / rows) for row in range(rows + 1)] if rows else []
    start = intervals.median(samples[: max(1, len(samples) // PARTS)]) if samples else None
    stretches = [_stretch(samples, ranks, begin, end, start) for begin, end in pairwise(edges)]
    return _without_unknown(
        Table(
            title="Over time",
            columns=tuple(_STRETCH),
            rows=tuple(stretches),
            notes=(f"slower by: against the first {1 / PARTS:.0%} of the samples",),
        )
    )


_STRETCH = (
    "until s",
    "call ms",
    "slower by %",
    "hottest C",
    "hottest rank",
    "lowest SM clock MHz",
    "power W, all",
    "CPU clock MHz",
    "CPU busy %",
    "CPU stolen %",
    "clocks held down by",
)


def _stretch(
    samples: Sequence[float], ranks: Sequence[RankSeries], begin: int, end: int, start: float | None
) -> tuple[Cell, ...]:
    middle = intervals.median(samples[begin:end])
    temperatures = _reduce_by_rank(ranks, "temperature_celsius", begin, end, max)
    hottest = max(temperatures, key=lambda rank: temperatures[rank], default=None)
    powers = _reduce_by_rank(ranks, "power_watts", begin, end, _mean)
    clocks = _reduce_by_rank(ranks, "sm_clock_hz", begin, end, min).values()
    frequencies = _reduce_by_rank(ranks, "cpu_frequency_hz", begin, end, min).values()
    reasons = {text for each in ranks for row in each.values("clock_reasons", begin, end) for text in row}
    return (
        round(float(np.interp(end, ranks[0].sample, ranks[0].seconds)), 1),
        _rounded(middle * 1e3, 4),
        _rounded((middle / start - 1) * 100, 3) if start else None,
        None if hottest is None else temperatures[hottest],
        hottest,
        round(min(clocks) / 1e6) if clocks else None,
        round(sum(powers.values())) if len(powers) == len(ranks) else None,
        round(min(frequencies) / 1e6) if frequencies else None,
        _percent(_reduce_by_rank(ranks, "busy_share", begin, end, _mean).values()),
        _percent(_reduce_by_rank(ranks, "steal_share", begin, end, _mean).values()),
        ", ".join(sorted(reasons)) or None,
    )


def _reduce_by_rank(
    ranks: Sequence[RankSeries], name: str, begin: float, end: float, reduce: Callable[[list[Any]], Any]
) -> dict[int, Any]:
    """Rank -> its readings in a stretch as one number; ranks without a known one are left out."""
    by_rank = {rank: rank_series.values(name, begin, end) for rank, rank_series in enumerate(ranks)}
    return {rank: reduce(values) for rank, values in by_rank.items() if values}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(shares: Iterable[float]) -> float | None:
    values = list(shares)
    return round(100 * _mean(values), 1) if values else None


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _without_unknown(table: Table) -> Table:
    kept = [index for index in range(len(table.columns)) if any(row[index] is not None for row in table.rows)]
    return Table(
        title=table.title,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        notes=table.notes,
    )


@dataclass(frozen=True)
class DeviceSoak:
    """One rank's device during the soak; None if unknown."""

    rank: int
    own_change: Change | None
    """Change of the time of work that the rank does by itself."""
    hottest_celsius: float | None
    hottest_at_seconds: float | None
    clock_first_hz: float | None
    """Median of the first fifth."""
    clock_last_hz: float | None
    power_watts: float | None
    """Mean."""
    throttled_share: float | None
    """Share of the readings with a harmful reason for low clocks."""
    reasons: tuple[str, ...]
    """All reasons that were seen."""

    @property
    def clock_fall(self) -> float | None:
        has_clocks = self.clock_first_hz and self.clock_last_hz
        return 1 - self.clock_last_hz / self.clock_first_hz if has_clocks else None  # type: ignore[operator]


def summarize_device(
    rank: int, readings: RankSeries, num_samples: int, own_samples: Sequence[float] = ()
) -> DeviceSoak:
    """One rank's device over all its samples."""
    whole, fifth = (0.0, math.inf), num_samples / PARTS
    clock = next((n for n in ("sm_clock_hz", "cpu_frequency_hz") if readings.values(n, *whole)), None)
    first, last = (
        intervals.median(values) if clock and (values := readings.values(clock, *stretch)) else None
        for stretch in ((0, fifth), (num_samples - fifth, math.inf))
    )
    temperatures = [
        (celsius, seconds)
        for celsius, seconds in zip(readings.columns["temperature_celsius"], readings.seconds, strict=True)
        if celsius is not None
    ]
    hottest = max(temperatures, key=lambda pair: pair[0], default=(None, None))
    powers, reasons = readings.values("power_watts", *whole), readings.values("clock_reasons", *whole)
    return DeviceSoak(
        rank=rank,
        own_change=compute_change(own_samples) if len(own_samples) else None,
        hottest_celsius=hottest[0],
        hottest_at_seconds=hottest[1],
        clock_first_hz=first,
        clock_last_hz=last,
        power_watts=_mean(powers) if powers else None,
        throttled_share=_mean([bool(HARMFUL.intersection(row)) for row in reasons]) if reasons else None,
        reasons=tuple(sorted({text for row in reasons for text in row})),
    )


_DEVICE: dict[str, Callable[[DeviceSoak], Cell]] = {
    "rank": lambda d: d.rank,
    "own work slower by %": lambda d: None if d.own_change is None else round(100 * d.own_change.share, 1),
    "hottest C": lambda d: d.hottest_celsius,
    "at s": lambda d: None if d.hottest_at_seconds is None else round(d.hottest_at_seconds),
    "clock at first MHz": lambda d: None if d.clock_first_hz is None else round(d.clock_first_hz / 1e6),
    "clock at last MHz": lambda d: None if d.clock_last_hz is None else round(d.clock_last_hz / 1e6),
    "power W": lambda d: None if d.power_watts is None else round(d.power_watts),
    "throttled %": lambda d: None if d.throttled_share is None else round(100 * d.throttled_share, 1),
    "clocks held down by": lambda d: ", ".join(d.reasons) or None,
}


def devices_table(devices: Sequence[DeviceSoak]) -> Table:
    """A row per rank."""
    rows = tuple(tuple(cell(device) for cell in _DEVICE.values()) for device in devices)
    return _without_unknown(Table(title="Devices", columns=tuple(_DEVICE), rows=rows))


def soak_metrics(samples: Sequence[float], devices: Sequence[DeviceSoak]) -> dict[str, float | None]:
    """The suite's own metrics; of the devices the worst."""
    slowdown = compute_change(samples)
    powers = [device.power_watts for device in devices]
    return {
        "slowdown": slowdown.share if slowdown else None,
        "slowdown_low": slowdown.low if slowdown else None,
        "slowdown_high": slowdown.high if slowdown else None,
        "hottest_celsius": _worst(device.hottest_celsius for device in devices),
        "clock_fall": _worst(device.clock_fall for device in devices),
        "throttled_share": _worst(device.throttled_share for device in devices),
        "power_watts": sum(p for p in powers if p is not None) if powers and None not in powers else None,
    }


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
