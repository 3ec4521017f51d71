"""Lines of a result file as typed structures: each field is checked down to its leaves as a line is decoded.

Null means unknown. Numbers are finite and small enough to be computed with; names are of a safe alphabet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from bench.records.lines.header import Environment, Pair, PlanRow
from bench.records.lines.parts import (
    CheckOutcome,
    Count,
    DoctorReport,
    Energy,
    Fact,
    Interference,
    Name,
    NcclChoice,
    NcclSetup,
    Param,
    Profile,
    Real,
    Record,
    Status,
    Stop,
    SuiteName,
    TableRows,
    Text,
    VariantSamples,
    WorkFacts,
)
from bench.suite import Span

MAX_SPAN_NS = 2**62


class Header(Record, tag="header", tag_field="kind"):
    """First line: which machine, and what was planned."""

    schema: Annotated[int, Meta(ge=1)]
    """Number of the schema, now 1."""
    label: Text
    """Name that the user gave, or the host's."""
    architecture: Text
    """Name of the machine's devices, such as `8 x NVIDIA H100 80GB HBM3`."""
    environment: Environment
    plan: PlanRow
    run_id: Text = ""
    """Random; the same in all files of a run."""
    started: Text | None = None
    """ISO 8601 in UTC, as all times."""
    command: list[Text] = []
    """Words of the command."""
    doctor: DoctorReport | None = None
    """Findings about the machine, of a run that ends in a verdict on it."""


class Measurement(Record, tag="measurement", tag_field="kind"):
    """One visit to a case in one launch."""

    launch: Count
    """Number of the launch, from 0."""
    suite: SuiteName
    case: Text
    """Id: suite, operation, and parameters that differ from their permanent defaults."""
    params: dict[Text, Param]
    """All parameters of the case."""
    status: Status
    """`invalid`: the check failed; `reason` says why a case is not ok."""
    num_ranks: Annotated[int, Meta(ge=0, le=2**20)]
    variants: dict[Name, VariantSamples]
    """Samples by variant; the first is the case itself, its metrics are derived from the others."""
    check: CheckOutcome | None
    work: WorkFacts | None
    stop: Stop | None
    derived: dict[Name, Real | None]
    """The suite's own metrics; null: unknown."""
    metrics: dict[Name, Pair]
    """Unit and direction (higher, lower, neither) of each of `derived`."""
    notes: list[Text]
    """Footnotes of the suite."""
    visit: Count = 0
    """Number of the visit to the case within the launch, from 0; a file without it has one."""
    reason: Text | None = None
    """Reason why the case is not ok."""
    started: Text | None = None
    seconds: Real | None = None
    """Time that the visit took, all phases together."""
    spans: list[Span] = []
    """Parts of the traced calls of every rank."""
    traced_call_ns: list[list[Count]] = []
    """[rank][call]: durations of the traced calls in nanoseconds."""
    traced_variants: list[Name] = []
    """Variant of each traced call, if others than the first are traced."""
    per_rank: list[dict[Name, Fact]] = []
    """Further facts of every rank, as the suite names them."""
    tables: dict[Text, TableRows] = {}
    """Tables that the case shows besides its numbers."""
    disturbance: Interference | None = None
    """Other work of the machine; left out if it could not be read."""
    energy: Energy | None = None
    controls: dict[Name, VariantSamples] = {}
    """Samples of the harness's own kernels, taken with the visit's: `compute`, `copy`, `exchange`."""
    launch_ns: dict[Name, list[Real | None]] = {}
    """Variant -> [rank]: time in which the host launches one call; by a device's clock only."""
    num_late: dict[Name, list[Count]] = {}
    """Variant -> [rank]: samples that may hold launches of the host; by a device's clock only."""
    profile: Profile | None = None
    """Traces by torch's profiler, if they were asked for."""

    def __post_init__(self) -> None:
        if self.status == "ok" and not (self.variants and self.num_ranks):
            raise ValueError("a case that is ok has at least one variant and one rank")
        calls = {len(row) for row in self.traced_call_ns}
        if len(calls) > 1:
            raise ValueError("traced_call_ns has rows of different lengths")
        num_calls = calls.pop() if calls else 0
        if self.traced_variants and len(self.traced_variants) != num_calls:
            raise ValueError(f"traced_variants has {len(self.traced_variants)} names, of {num_calls} traced calls")
        self._check_spans(len(self.traced_call_ns), num_calls)

    def _check_spans(self, num_ranks: int, num_calls: int) -> None:
        for span in self.spans:
            if not (0 <= span.rank < num_ranks and 0 <= span.call < num_calls):
                raise ValueError(f"a span is of rank {span.rank}, call {span.call}, which traced_call_ns lacks")
            if abs(span.start_ns) > MAX_SPAN_NS or not 0 <= span.duration_ns <= MAX_SPAN_NS:
                raise ValueError(f"a span starts at {span.start_ns} ns and lasts {span.duration_ns} ns")

    @property
    def main(self) -> str:
        """Name of the variant that is the case itself; empty if nothing was sampled."""
        return next(iter(self.variants), "")

    def main_spans(self) -> list[Span]:
        """The spans of the case itself, also if the traced pass called other variants too."""
        names = self.traced_variants
        return [span for span in self.spans if not names or names[span.call] == self.main]


class Choices(Record, tag="choices", tag_field="kind"):
    """Choices of the communication library for one call of a case."""

    case: Text
    nccl: list[NcclChoice]
    """Empty if the library said nothing. The later line of a case holds."""
    setup: NcclSetup | None = None


class Resume(Record, tag="resume", tag_field="kind"):
    """The run was taken up again from here."""

    environment: Environment
    started: Text | None = None
    command: list[Text] = []


class Joined(Record, tag="ranks", tag_field="kind"):
    """The ranks of a joined run have met: facts that its header, which is written before, could not have."""

    environment: Environment
    """Its fields replace those of the header."""
    started: Text | None = None
    plan: PlanRow | None = None
    """The plan, if the places of the ranks changed it; null: that of the header."""
    doctor: DoctorReport | None = None
    """The doctor's findings, if those on other hosts were not known before."""


EndStatus = Literal["complete", "interrupted", "failed", "budget"]


class End(Record, tag="end", tag_field="kind"):
    """Last line: how the run ended."""

    status: EndStatus
    """`interrupted`: by a signal; `budget`: its time was over."""
    exit_code: Annotated[int, Meta(ge=0, le=255)]
    """Exit code of the command; torchrun turns it into 1."""
    ended: Text | None = None
    reason: Text = ""
    """Cause of a run that failed before its cases were done, or whose first file was lost; else empty."""


Line = Header | Measurement | Choices | Resume | Joined | End
