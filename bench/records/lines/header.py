"""The environment and the plan in a result file's header.

Their fields are open, since what changes speed grows: a name is kept whoever wrote it. Those that readers compute with
have a type of their own.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from bench.records.lines.parts import Cell, Count, Fact, Name, Param, Real, Text

Pair = Annotated[list[Text], Meta(min_length=2, max_length=2)]
"""Unit and direction of a metric."""
MetricTexts = Annotated[list[Text], Meta(min_length=2, max_length=3)]
"""Unit and direction of a suite's own metric, and a sentence on it; files before version 0.2.0 lack the sentence."""
DeviceFacts = dict[Text, Fact]
"""Facts of a rank's device, or of a host."""


class UnreadRow(Struct, kw_only=True):
    """A row of another tool's file that could not be read."""

    where: Text
    text: Text


class ImportedFrom(Struct, kw_only=True):
    """Origin of a result that was made of another tool's file."""

    tool: Text
    version: Text | UnsetType | None = UNSET
    format: Text | UnsetType | None = UNSET
    file: Text | UnsetType | None = UNSET
    sha256: Text | UnsetType | None = UNSET
    unread: list[UnreadRow] | UnsetType | None = UNSET


class Environment(Struct, kw_only=True):
    """Description of the machine: each rank's device, each host, versions, settings, variables that change speed."""

    architecture: Text | UnsetType | None = UNSET
    ranks: list[DeviceFacts] | UnsetType = UNSET
    hosts: dict[Text, DeviceFacts] | UnsetType = UNSET
    versions: dict[Text, Cell] | UnsetType = UNSET
    settings: dict[Text, Fact] | UnsetType = UNSET
    variables: dict[Text, Cell] | UnsetType = UNSET
    """Named variables that change speed, never the whole environment."""
    commit: Text | UnsetType | None = UNSET
    imported_from: ImportedFrom | UnsetType | None = UNSET
    """Origin of another tool's result."""

    def __post_init__(self) -> None:
        for rank in self.ranks or ():
            for name in ("host", "device_name", "device_type"):
                _expect(rank, name, str)
            for name in ("memory_bytes", "rank", "host_index", "local_index", "num_threads"):
                _expect(rank, name, int)
            for name in ("emulated_speed", "emulated_link_speed"):
                _expect(rank, name, (int, float))
        for host in (self.hosts or {}).values():
            for name in ("logical_cores", "usable_cores", "physical_cores", "memory_bytes", "present_gpus"):
                _expect(host, name, int)
            for name in ("cpu_model", "hostname"):
                _expect(host, name, str)
        slow_types = (self.settings or {}).get("slow_types")
        if slow_types is not None and not _are_texts(slow_types):
            raise ValueError("settings.slow_types is no list of names of types")


def _expect(facts: DeviceFacts, name: str, kind: type | tuple[type, ...]) -> None:
    value: Any = facts.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r:.40}")


def _are_texts(value: Fact) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class PlannedCaseRow(Struct, kw_only=True):
    """A case that the run set out to measure."""

    id: Text
    suite: Name | UnsetType = UNSET
    params: dict[Text, Param | None] | UnsetType = UNSET
    min_seconds: Real | UnsetType = UNSET
    prepare_seconds: Real | UnsetType = UNSET


class SuiteRow(Struct, kw_only=True):
    """A suite whose cases were measured."""

    name: Name
    reference: Text | UnsetType | None = UNSET
    summary: Text | UnsetType | None = UNSET
    metrics: dict[Name, MetricTexts] | UnsetType = UNSET
    """The suite's own metrics."""
    digest: Text | UnsetType | None = UNSET
    """SHA-256 of the code that the suite runs; null: unknown."""
    sha256: Text | UnsetType | None = UNSET
    """Digest of files before version 0.2.0; it counts as unknown."""


class PlanRow(Struct, kw_only=True):
    """All that decided what was measured, and how; of another tool's file what is known."""

    preset: Text | UnsetType | None = UNSET
    suites: list[SuiteRow] | UnsetType = UNSET
    cases: list[PlannedCaseRow] | UnsetType = UNSET
    left_out: list[PlannedCaseRow] | UnsetType = UNSET
    """Cases that did not fit the budget."""
    world_size: Count | UnsetType | None = UNSET
    device_type: Text | UnsetType | None = UNSET
    backend: Text | UnsetType | None = UNSET
    launches: Count | UnsetType | None = UNSET
    case_seconds: Real | UnsetType | None = UNSET
    budget_seconds: Real | UnsetType | None = UNSET
    timeout_seconds: Real | UnsetType | None = UNSET
    precision: Real | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    threads_per_rank: Count | UnsetType | None = UNSET
    label: Text | UnsetType | None = UNSET
    visits: Count | UnsetType | None = UNSET
    slow: list[Annotated[list[Real], Meta(min_length=2, max_length=2)]] | UnsetType | None = UNSET
    """[rank, share of its speed], emulated."""
    slow_links: list[Annotated[list[Real], Meta(min_length=2, max_length=2)]] | UnsetType | None = UNSET
    """[rank, share of its links' speed], emulated."""
    options: dict[Text, Fact] | UnsetType = UNSET
    """Options of the command, as given."""
