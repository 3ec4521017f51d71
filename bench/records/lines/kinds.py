"""Lines of a result file as typed structures: each field is checked down to its leaves as a line is decoded.

A field that is left out of a line is UNSET; null means unknown. Unknown fields are dropped, and named by
`bench.records.lines.decoding`. Numbers are finite and small enough to be computed with; names are of a safe alphabet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from bench.records.lines.header import Environment, Pair, PlanRow
from bench.records.lines.parts import (
    CheckOutcome,
    Count,
    DoctorReport,
    Energy,
    Fact,
    Interference,
    Name,
    NcclChoiceRow,
    NcclSetupRow,
    Param,
    Profile,
    Real,
    SpanRow,
    Status,
    Stop,
    TableRows,
    Text,
    VariantSamples,
    WorkFacts,
)


class Header(Struct, kw_only=True, tag="header", tag_field="kind"):
    """First line: which machine, and what was planned."""

    schema: Annotated[int, Meta(ge=1)]
    """Number of the schema, now 1."""
    label: Text
    """Name that the user gave, or the host's."""
    architecture: Text
    """Name of the machine's devices, such as `8 x NVIDIA H100 80GB HBM3`."""
    environment: Environment
    plan: PlanRow
    run_id: Text | UnsetType = UNSET
    """Random; the same in all files of a run."""
    started: Text | UnsetType | None = UNSET
    """ISO 8601 in UTC, as all times."""
    command: list[Text] | UnsetType = UNSET
    """Words of the command."""
    doctor: DoctorReport | UnsetType = UNSET
    """Findings about the machine, of a run that ends in a verdict on it."""


class Measurement(Struct, kw_only=True, tag="measurement", tag_field="kind"):
    """One visit to a case in one launch."""

    launch: Count
    """Number of the launch, from 0."""
    suite: Name
    case: Text
    """Id: suite, operation, and parameters that differ from their permanent defaults."""
    params: dict[Text, Param | None]
    """All parameters of the case."""
    status: Status
    """`invalid`: the check failed; `reason` says why a case is not ok."""
    num_ranks: Annotated[int, Meta(ge=0, le=2**20)]
    variants: dict[Name, VariantSamples]
    """Samples by variant; the first is the case itself, its metrics are derived from the others."""
    check: CheckOutcome | None
    work: WorkFacts | None
    stop: Stop | None
    derived: dict[Name, Real | None] | None
    """The suite's own metrics; null: unknown."""
    metrics: dict[Name, Pair] | None
    """Unit and direction (higher, lower, neither) of each of `derived`."""
    notes: list[Text] | None
    """Footnotes of the suite."""
    visit: Count | UnsetType = UNSET
    """Number of the visit to the case within the launch, from 0; a file without it has one."""
    reason: Text | UnsetType | None = UNSET
    """Reason why the case is not ok."""
    started: Text | UnsetType | None = UNSET
    seconds: Real | UnsetType | None = UNSET
    """Time that the visit took, all phases together."""
    spans: list[SpanRow] | UnsetType | None = UNSET
    """Parts of the traced calls of every rank."""
    traced_call_ns: list[list[Count]] | UnsetType | None = UNSET
    """[rank][call]: durations of the traced calls in nanoseconds."""
    traced_variants: list[Name] | UnsetType | None = UNSET
    """Variant of each traced call, if others than the first are traced."""
    per_rank: list[dict[Name, Fact]] | UnsetType | None = UNSET
    """Further facts of every rank, as the suite names them."""
    tables: dict[Text, TableRows] | UnsetType | None = UNSET
    """Tables that the case shows besides its numbers."""
    disturbance: Interference | UnsetType | None = UNSET
    """Other work of the machine; left out if it could not be read."""
    energy: Energy | UnsetType | None = UNSET
    launch_ns: dict[Name, list[Real | None]] | UnsetType = UNSET
    """Variant -> [rank]: time in which the host launches one call; by a device's clock only."""
    num_late: dict[Name, list[Count]] | UnsetType = UNSET
    """Variant -> [rank]: samples that may hold launches of the host; by a device's clock only."""
    profile: Profile | UnsetType | None = UNSET
    """Traces by torch's profiler, if they were asked for."""

    def __post_init__(self) -> None:
        if self.status == "ok" and not self.variants:
            raise ValueError("a case that is ok has at least one variant")
        calls = {len(row) for row in self.traced_call_ns or ()}
        if len(calls) > 1:
            raise ValueError("traced_call_ns has rows of unlike length")
        if self.traced_call_ns:
            self._check_spans(len(self.traced_call_ns), calls.pop())

    def _check_spans(self, num_ranks: int, num_calls: int) -> None:
        for span in self.spans or ():
            if span.rank >= num_ranks or span.call >= num_calls:
                raise ValueError(f"a span is of rank {span.rank}, call {span.call}, which traced_call_ns lacks")


class Choices(Struct, kw_only=True, tag="choices", tag_field="kind"):
    """Choices of the communication library for one call of a case."""

    case: Text
    nccl: list[NcclChoiceRow]
    """Empty if the library said nothing. The later line of a case holds."""
    setup: NcclSetupRow | UnsetType | None = UNSET


class Resume(Struct, kw_only=True, tag="resume", tag_field="kind"):
    """The run was taken up again from here."""

    environment: Environment
    started: Text | UnsetType | None = UNSET
    command: list[Text] | UnsetType = UNSET


class Joined(Struct, kw_only=True, tag="ranks", tag_field="kind"):
    """Ranks that met later than the header was written: what the header's environment could not say yet."""

    environment: Environment
    started: Text | UnsetType | None = UNSET


class End(Struct, kw_only=True, tag="end", tag_field="kind"):
    """Last line: how the run ended."""

    status: Literal["complete", "interrupted", "failed", "budget"]
    """`interrupted`: by a signal; `budget`: its time was over."""
    exit_code: Annotated[int, Meta(ge=0, le=255)]
    """Exit code of the command; torchrun turns it into 1."""
    ended: Text | UnsetType | None = UNSET


Line = Header | Measurement | Choices | Resume | Joined | End

__all__ = ["Choices", "End", "Header", "Joined", "Line", "Measurement", "Resume"]
