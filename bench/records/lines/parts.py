"""Parts of the lines of a result file: numbers, names, samples, spans, tables, the environment, the plan.

Types are of msgspec: a value outside its range, or of another type, is refused as it is decoded.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from bench.suite import NAME

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
Name = Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
Param = bool | Real | Text
Cell = Param | None
_Flat = Cell | list[Cell] | dict[Text, Cell]
_Nested = Cell | list[_Flat] | dict[Text, _Flat]
Fact = Cell | list[_Nested] | dict[Text, _Nested]
"""Value of an environment, an option or a rank's facts: lists and tables of plain values, at most three deep."""


class RankExtremes(Struct, kw_only=True):
    """Over the ranks, for each call: above 64 ranks in place of every rank's samples."""

    max: list[Real]
    min: list[Real]
    last_rank: list[Count]
    """The rank that arrived last: it waited least."""

    def __post_init__(self) -> None:
        if len({len(self.max), len(self.min), len(self.last_rank)}) > 1:
            raise ValueError("max, min and last_rank are of unlike length")


class RankQuantiles(Struct, kw_only=True):
    """Quantiles `q` of each rank's samples."""

    q: list[Annotated[float, Meta(ge=0, le=1)]]
    nanoseconds: list[list[Real]]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.q) for row in self.nanoseconds):
            raise ValueError("rank_quantiles has rows of another length than q")


class VariantSamples(Struct, kw_only=True):
    """Samples of one variant: [rank][sample] in nanoseconds, each the total of `calls` calls."""

    calls: Annotated[int, Meta(ge=1, le=2**40)]
    """Calls per sample, back to back; 1 for aligned ones."""
    nanoseconds: list[list[Annotated[int, Meta(ge=-MAX_NANOSECONDS, le=MAX_NANOSECONDS)] | float]] | UnsetType = UNSET
    """[rank][sample]: total time of the sample's calls."""
    per_iteration: RankExtremes | UnsetType = UNSET
    """Extremes in place of `nanoseconds`, above 64 ranks."""
    rank_quantiles: RankQuantiles | UnsetType = UNSET
    """Beside `per_iteration`."""

    def __post_init__(self) -> None:
        if not self.nanoseconds and self.per_iteration is UNSET:
            raise ValueError("it has no samples")
        if self.nanoseconds and not self.nanoseconds[0]:
            raise ValueError("rank 0 has no samples")
        if len({len(row) for row in self.nanoseconds or ()}) > 1:
            raise ValueError("ranks have unlike numbers of samples")


class SpanRow(Struct, array_like=True):
    """A part of a traced call on one rank; see `bench.suite.Span`."""

    rank: Count
    call: Count
    kind: Text
    """forward, backward, communication, or a suite's own kind."""
    stage: Integer | None
    microbatch: Integer | None
    start_ns: Integer
    duration_ns: Count
    axis: Text | None = None
    """Group of a communication, such as `tensor`."""
    sequence: Integer | None = None
    num_bytes: Count | None = None
    launch_ns: Integer | None = None
    """Time until the host had launched it."""


class TableRows(Struct, kw_only=True):
    """A table that a case shows besides its numbers: rows of as many plain cells as there are columns."""

    columns: list[Text]
    rows: list[list[Cell]]
    title: Text | UnsetType = UNSET
    notes: list[Text] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has not as many cells as there are columns")


class CheckOutcome(Struct, kw_only=True):
    """Largest error over the ranks, before and after the samples."""

    error: Real | None
    tolerance: Real
    scope: Text
    """`full`, or `reduced`: the same code at a size that one device can hold."""
    error_after: Real | UnsetType | None = UNSET
    """Error of the check after the samples; null: there was none."""


class WorkFacts(Struct, kw_only=True):
    """Amounts of one call; flops and tokens summed over the ranks, memory_traffic_bytes of one rank."""

    bytes: Real | UnsetType | None = UNSET
    """Payload of a collective."""
    bus_factor: Real | UnsetType | None = UNSET
    """Bus bandwidth / algorithm bandwidth."""
    memory_traffic_bytes: Real | UnsetType | None = UNSET
    flops: Real | UnsetType | None = UNSET
    """Model FLOPs of all ranks."""
    hardware_flops: Real | UnsetType | None = UNSET
    """FLOPs of all ranks with what is recomputed, if anything is."""
    flops_dtype: Text | UnsetType | None = UNSET
    tokens: Real | UnsetType | None = UNSET
    clock: Text | UnsetType | None = UNSET
    """`device` or `host`."""


class Stop(Struct, kw_only=True):
    """Reason why sampling ended; `samples` is the number that the visit took of each variant."""

    reason: Text | UnsetType = UNSET
    """precision, time or samples."""
    half_width: Real | UnsetType | None = UNSET
    """Half width of the interval of the median, as a share of it."""
    warmup_calls: Count | UnsetType | None = UNSET
    samples: Count | UnsetType | None = UNSET


class Energy(Struct, kw_only=True):
    """Joules of one call over a window of calls, or null with the reason."""

    source: Text | UnsetType | None = UNSET
    scope: Text | UnsetType | None = UNSET
    reason: Text | UnsetType | None = UNSET
    calls: Count | UnsetType | None = UNSET
    seconds: Real | UnsetType | None = UNSET
    joules: Real | UnsetType | None = UNSET
    """Joules of one call, all ranks together."""
    busy_share: Real | UnsetType | None = UNSET
    """Share of the window that is calls."""
    idle_watts: Real | UnsetType | None = UNSET
    rank_joules: list[Real | None] | UnsetType | None = UNSET


class Interference(Struct, kw_only=True):
    """Other work of the hosts and devices around the samples: a row for each host and each rank."""

    hosts: list[dict[Name, Real | Text | list[Text]]] | UnsetType = UNSET
    ranks: list[dict[Name, Real | Text | list[Text]]] | UnsetType = UNSET

    def __post_init__(self) -> None:
        for row in (*(self.hosts or ()), *(self.ranks or ())):
            for name, value in row.items():
                wanted = str if name == "host" else list if "reasons" in name else (int, float)
                if not isinstance(value, wanted):
                    raise ValueError(f"{name} is {value!r:.40}")


class Profile(Struct, kw_only=True):
    """Traces by torch's profiler, in a folder beside the result file."""

    folder: Text
    """Beside the result file."""
    files: list[Text]
    calls: Count | UnsetType = UNSET


class NcclChoiceRow(Struct, kw_only=True):
    """NCCL's choices for one collective."""

    function: Text | UnsetType | None = UNSET
    num_bytes: Count | UnsetType | None = UNSET
    algorithm: Text | UnsetType | None = UNSET
    protocol: Text | UnsetType | None = UNSET
    channels: Count | UnsetType | None = UNSET


class NcclSetupRow(Struct, kw_only=True):
    """Set-up of NCCL's first communicator."""

    version: Text | UnsetType | None = UNSET
    network: Text | UnsetType | None = UNSET
    coll_channels: Count | UnsetType | None = UNSET
    collnet_channels: Count | UnsetType | None = UNSET
    nvls_channels: Count | UnsetType | None = UNSET
    p2p_channels: Count | UnsetType | None = UNSET


class DoctorFinding(Struct, kw_only=True):
    """One thing that the doctor found."""

    level: Text
    what: Text
    value: Text | UnsetType | None = UNSET
    remedy: Text | UnsetType | None = UNSET


class DoctorReport(Struct, kw_only=True):
    """Findings about the machine before a run that judges it."""

    host: Text | None
    findings: list[DoctorFinding]
