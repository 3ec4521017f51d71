"""Parts of the lines of a result file: numbers, names, samples, tables, amounts of work, other work of the machine.

A value of another type, or outside its range, is refused as it is decoded; a field that a part does not have too. An
optional field that is unknown is left out of the file, and is None, empty or at its default for readers.
"""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
import numpy as np
from msgspec import Meta, Struct

from bench.suite import NAME, SUITE_NAME

if TYPE_CHECKING:
    pass

MAX_NANOSECONDS = 2**62
"""About 150 years; a larger number is none of a clock's."""
MAX_REAL = 1e100
"""Above every quantity that is measured, and small enough for its products to be finite."""

Status = Literal["ok", "invalid", "skipped", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)

Count = Annotated[int, Meta(ge=0, le=2**62)]
Integer = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Real = Integer | Annotated[float, Meta(ge=-MAX_REAL, le=MAX_REAL)]
Text = Annotated[str, Meta(max_length=100_000)]
# `$` by itself would let a newline after the name through.
Name = Annotated[str, Meta(pattern=rf"^{NAME.pattern}$(?!\n)")]
SuiteName = Annotated[str, Meta(pattern=rf"^{SUITE_NAME.pattern}$(?!\n)")]
Param = bool | Real | Text
Cell = Param | None
_Flat = Cell | list[Cell] | dict[Text, Cell]
_Nested = Cell | list[_Flat] | dict[Text, _Flat]
Fact = Cell | list[_Nested] | dict[Text, _Nested]
"""Value of an option or a setting: lists and tables of plain values, at most three deep."""


class Record(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all that a line holds."""


Numbers = np.ndarray
"""[rank][sample], or [sample], whole numbers where all are: arrays, since a list of a million numbers takes four times
the memory, and each reader would make an array of it."""


def decode_numbers(kind: type, value: Any) -> Any:
    """Hook of decoders: an array of a list of numbers, or of a list of lists of equal length.

    Raises ValueError for anything else, and for a number outside its range.
    """
    assert kind is Numbers
    is_matrix = isinstance(value, list) and value != [] and isinstance(value[0], list)
    if is_matrix and any(not isinstance(row, list) or len(row) != len(value[0]) for row in value):
        raise ValueError("ranks have unlike numbers of samples")
    try:
        msgspec.convert(value, _MATRIX if is_matrix else _VECTOR)
    except msgspec.ValidationError:  # of rare files: an importer's, or a median of quantiles
        try:
            msgspec.convert(value, _REAL_MATRIX if is_matrix else _REAL_VECTOR)
        except msgspec.ValidationError as error:  # its place is within the list; a decoder knows the field
            raise ValueError(str(error).partition(" - at ")[0]) from error
        return np.asarray(value, dtype=float)
    rows = [array.array("q", row) for row in value] if is_matrix else array.array("q", value)
    numbers = np.asarray(rows, dtype=np.int64)
    # Up to two seconds, as almost all are, half the memory holds them; differences of such numbers fit too.
    is_small = numbers.size > 0 and numbers.min() >= 0 and numbers.max() < 2**31
    return numbers.astype(np.int32) if is_small else numbers


_Nanoseconds = Annotated[int, Meta(ge=-MAX_NANOSECONDS, le=MAX_NANOSECONDS)]
_VECTOR, _MATRIX = list[_Nanoseconds], list[list[_Nanoseconds]]
_REAL_VECTOR, _REAL_MATRIX = list[Real], list[list[Real]]


def encode_numbers(value: Any) -> Any:
    """Hook of encoders: arrays and numbers of numpy. Raises TypeError for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not part of a line")


class RankExtremes(Record):
    """Over the ranks, for each call: above 64 ranks in place of every rank's samples."""

    max: Numbers
    min: Numbers
    last_rank: list[Count]
    """The rank that arrived last: it waited least."""

    def __post_init__(self) -> None:
        if {self.max.ndim, self.min.ndim} != {1} or len({len(self.max), len(self.min), len(self.last_rank)}) > 1:
            raise ValueError("max, min and last_rank differ in length")


class RankQuantiles(Record):
    """Quantiles `q` of each rank's samples."""

    q: list[Annotated[float, Meta(ge=0, le=1)]]
    nanoseconds: Numbers
    """[rank][quantile]"""

    def __post_init__(self) -> None:
        if self.nanoseconds.size and (self.nanoseconds.ndim != 2 or self.nanoseconds.shape[1] != len(self.q)):
            raise ValueError("rank_quantiles has rows of another length than q")


class VariantSamples(Record, eq=False):
    """Samples of one variant: [rank][sample] in nanoseconds, each the total of `calls` calls."""

    calls: Annotated[int, Meta(ge=1, le=2**40)]
    """Calls per sample, back to back; 1 for aligned ones."""
    nanoseconds: Numbers | None = None
    """[rank][sample]: total time of the sample's calls."""
    per_iteration: RankExtremes | None = None
    """Extremes in place of `nanoseconds`, above 64 ranks."""
    rank_quantiles: RankQuantiles | None = None
    """Together with `per_iteration`."""

    def __post_init__(self) -> None:
        if self.nanoseconds is None and self.per_iteration is None:
            raise ValueError("it has no samples")
        if self.nanoseconds is not None and (self.nanoseconds.ndim != 2 or not self.nanoseconds.size):
            raise ValueError("rank 0 has no samples")


class TableRows(Record):
    """A table that a case shows besides its numbers: rows of as many plain cells as there are columns."""

    columns: list[Text]
    rows: list[list[Cell]]
    title: Text = ""
    notes: list[Text] = []

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has not as many cells as there are columns")


class CheckOutcome(Record):
    """Largest error over the ranks, before and after the samples."""

    error: Real | None
    tolerance: Real
    scope: Text
    """`full`, or `reduced`: the same code at a size that one device can hold."""
    error_after: Real | None = None
    """Error of the check after the samples; null: there was none."""
    timed_samples: Count = 0
    """Samples of the case whose outputs were spoilt before and looked at after, outside the timed part."""
    error_timed: Real | None = None
    """Largest error of these looks; null: there was none, or the error was not a number."""


class WorkFacts(Record):
    """Amounts of one call; flops and tokens summed over the ranks, memory_traffic_bytes of one rank."""

    bytes: Real | None = None
    """Payload of a collective."""
    bus_factor: Real | None = None
    """Bus bandwidth / algorithm bandwidth."""
    memory_traffic_bytes: Real | None = None
    flops: Real | None = None
    """Model FLOPs of all ranks."""
    hardware_flops: Real | None = None
    """FLOPs of all ranks with what is recomputed, if anything is."""
    flops_dtype: Text | None = None
    tokens: Real | None = None
    clock: Text | None = None
    """`device` or `host`."""


class Stop(Record):
    """Reason why sampling ended; `samples` is the number that the visit took of each variant."""

    reason: Text | None = None
    """precision, time or samples."""
    half_width: Real | None = None
    """Half width of the interval of the median, as a share of it."""
    warmup_calls: Count | None = None
    samples: Count | None = None


class Energy(Record):
    """Joules of one call over a window of calls, or null with the reason."""

    source: Text | None = None
    scope: Text | None = None
    reason: Text | None = None
    calls: Count | None = None
    seconds: Real | None = None
    joules: Real | None = None
    """Joules of one call, all ranks together."""
    busy_share: Real | None = None
    """Share of the window that is calls."""
    idle_watts: Real | None = None
    rank_joules: list[Real | None] = []
    """Joules of one call of each rank; up to 64 ranks."""


class HostInterference(Record):
    """Other work of one host during the samples, as shares of the time of the cores that the ranks may use."""

    host: Text | None = None
    steal_share: Real | None = None
    """Share that the hypervisor gave to others."""
    busy_share: Real | None = None
    other_load_share: Real | None = None
    """Share that other processes used."""
    other_load_noise_share: Real | None = None
    """Share that the kernel's coarse counting may report wrongly."""
    thermal_events: Count | None = None


class RankInterference(Record):
    """Other work around one rank during the samples, and its GPU before, at and after work."""

    rank: Count | None = None
    num_ranks: Count | None = None
    """Number of the ranks of which the row has the worst, above 64 ranks, in place of `rank`."""
    seconds: Real | None = None
    """Length of the phase."""
    cpu_seconds: Real | None = None
    run_delay_share: Real | None = None
    """Longest wait of a thread for a core, as a share of the phase."""
    involuntary_switches: Count | None = None
    quota_throttled_periods: Count | None = None
    quota_throttled_seconds: Real | None = None
    frequency_before_hz: Real | None = None
    frequency_after_hz: Real | None = None
    gpu_sm_clock_before_hz: Real | None = None
    gpu_sm_clock_at_work_hz: Real | None = None
    gpu_sm_clock_after_hz: Real | None = None
    gpu_memory_clock_before_hz: Real | None = None
    gpu_memory_clock_at_work_hz: Real | None = None
    gpu_memory_clock_after_hz: Real | None = None
    gpu_temperature_before_celsius: Real | None = None
    gpu_temperature_at_work_celsius: Real | None = None
    gpu_temperature_after_celsius: Real | None = None
    gpu_power_before_watts: Real | None = None
    gpu_power_at_work_watts: Real | None = None
    gpu_power_after_watts: Real | None = None
    gpu_clock_reasons_before: list[Text] | None = None
    gpu_clock_reasons_at_work: list[Text] | None = None
    gpu_clock_reasons_after: list[Text] | None = None


class Interference(Record):
    """Other work of the hosts and devices around the samples: a row for each host and each rank."""

    hosts: list[HostInterference] = []
    ranks: list[RankInterference] = []


class Profile(Record):
    """Traces by torch's profiler, in a folder next to the result file."""

    folder: Text
    """Next to the result file."""
    files: list[Text]
    calls: Count | None = None


class NcclChoice(Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """NCCL's choices for one collective."""

    function: Text | None = None
    """NCCL's name of the call, such as `AllReduce`."""
    num_bytes: Count | None = None
    """Bytes as NCCL counts them: a rank's own count, so for an all-gather its share and not the full buffer."""
    algorithm: Text | None = None
    """`Ring`, `Tree`, `CollnetDirect`, `CollnetChain`, `NVLS`, `NVLSTree`, `PAT`; of a symmetric kernel its name."""
    protocol: Text | None = None
    """`LL`, `LL128` or `Simple`; null for a symmetric kernel, which has none."""
    channels: Count | None = None


class NcclSetup(Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Set-up of NCCL's first communicator."""

    version: Text | None = None
    network: Text | None = None
    """`IB`, `Socket`, or a plugin's name: what would be used between hosts."""
    coll_channels: Count | None = None
    """The most channels that a collective can use."""
    collnet_channels: Count | None = None
    nvls_channels: Count | None = None
    p2p_channels: Count | None = None


Level = Literal["ok", "warn", "fail"]
Action = Literal["", "isolate", "reset", "reboot", "watch"]
"""Step after a finding about hardware: take the node out of use until it is repaired, reset the device, reboot the
host, or go on and look again."""


class Finding(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing about a machine or a result that its user should know."""

    level: Level
    what: Text
    value: Text = ""
    remedy: Text = ""
    """Advice; empty if nothing is wrong."""
    action: Action = ""
    """Empty: nothing is wrong, or it is a set-up that the user changes."""

    def line(self) -> str:
        """`ok: what: value`, `warn: what: value; remedy`, or `fail: what: value; reset: remedy`."""
        return f"{self.level}: {self.what}: {self.value}" + (f"; {self.advice}" if self.advice else "")

    @property
    def advice(self) -> str:
        """The action and the remedy, such as `reset: drain the node and reset the GPU`."""
        return ": ".join(filter(None, (self.action, self.remedy)))


class DoctorReport(Record):
    """Findings about the machine before a run that judges it."""

    host: Text | None
    findings: list[Finding]
