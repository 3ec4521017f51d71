"""Environment and plan in a result file's header: the machine, and what was to be measured on it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from bench.records.lines.parts import Cell, Count, Fact, Integer, Name, Param, Real, Record, SuiteName, Text
from bench.suite import SuiteMetric

Pair = tuple[Text, Text]
"""Unit and direction of a metric."""


class UnreadRow(Record):
    """A row of another tool's file that could not be read."""

    where: Text
    text: Text


class ImportedFrom(Record):
    """Origin of a result that was made of another tool's file."""

    tool: Text
    version: Text | None = None
    format: Text | None = None
    file: Text | None = None
    sha256: Text | None = None
    unread: list[UnreadRow] = []
    taken_off: list[Text] = []
    """Marks and prefixes that were taken off its text, each with its number of lines."""
    contradictions: list[Text] = []
    """Statements of the file that cannot both be right."""
    remarks: list[Text] = []
    """Further things that a reader should know."""
    unknown_lines: list[Count] = []
    """Numbers of lines that are neither data nor known not to be; the first ones."""


class RankFacts(Record):
    """One rank and its device."""

    rank: Count | None = None
    host: Text | None = None
    host_index: Count | None = None
    local_index: Count | None = None
    device_type: Text | None = None
    """`cpu` or `cuda`; cuda is AMD's name for its devices too."""
    device_name: Text | None = None
    """Name by the driver, or the processor's model."""
    memory_bytes: Count | None = None
    driver: Text | None = None
    uuid: Text | None = None
    pci_bus_id: Text | None = None
    numa_node: Integer | None = None
    mig: bool | None = None
    """True for a part of a device (NVIDIA's MIG)."""
    visible_devices: Count | None = None
    present_devices: Count | None = None
    """Devices that the kernel shows, visible to torch or not."""
    num_threads: Count | None = None
    """Threads of torch's CPU kernels."""
    num_interop_threads: Count | None = None
    omp_num_threads: Text | None = None
    cpu_affinity: list[Count] | None = None
    """Cores that the process is bound to."""
    emulated_speed: Real | None = None
    """Share of its speed at which the rank computed, if that was emulated."""
    emulated_link_speed: Real | None = None


class HostFacts(Record):
    """One host: processor, memory, operating system, the GPUs that its kernel shows."""

    hostname: Text | None = None
    cpu_model: Text | None = None
    cpu_architecture: Text | None = None
    logical_cores: Count | None = None
    physical_cores: Count | None = None
    sockets: Count | None = None
    numa_nodes: Count | None = None
    usable_cores: Count | None = None
    """Cores that the process could keep busy, within its affinity and CPU quota."""
    cpu_quota_cores: Real | None = None
    cpu_governor: Text | None = None
    cpu_max_frequency_hz: Real | None = None
    cpu_frequency_hz: Real | None = None
    memory_bytes: Count | None = None
    memory_available_bytes: Count | None = None
    memory_limit_bytes: Count | None = None
    shm_bytes: Count | None = None
    shm_free_bytes: Count | None = None
    os: Text | None = None
    kernel: Text | None = None
    virtualised: bool | None = None
    load_averages: list[Real] | None = None
    """Over 1, 5 and 15 minutes."""
    present_gpus: Count | None = None
    gpu_driver: Text | None = None


class Environment(Record):
    """Description of the machine: each rank's device, each host, versions, settings, variables that change speed."""

    architecture: Text | None = None
    ranks: list[RankFacts] = []
    hosts: dict[Text, HostFacts] = {}
    """Host name -> its facts."""
    versions: dict[Text, Cell] = {}
    settings: dict[Text, Cell | list[Text]] = {}
    """Switches of torch that change speed; `slow_types`: those that the devices have no instructions for."""
    variables: dict[Text, Cell] = {}
    """Named variables that change speed, never the whole environment."""
    commit: Text | None = None
    imported_from: ImportedFrom | None = None
    """Origin of another tool's result."""

    def __post_init__(self) -> None:
        if not isinstance(self.settings.get("slow_types", []), list):
            raise ValueError("settings.slow_types is not a list of names of types")

    @property
    def slow_types(self) -> frozenset[str]:
        """Types that the devices have no instructions for; empty in files that do not say."""
        slow = self.settings.get("slow_types")
        return frozenset(slow) if isinstance(slow, list) else frozenset()


class PlannedCase(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A case that a run sets out to measure."""

    suite: SuiteName
    id: Text
    params: dict[Text, Param]
    min_seconds: Real = 0.0
    """Least time of sampling, whatever the preset says; in each launch, on the first visit."""
    prepare_seconds: Real = 0.0
    """Time that its preparation may take beyond the time-out, at each visit."""


class SuiteFacts(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Facts of a suite that the result file keeps, so that a comparison of different code can say so."""

    name: SuiteName
    reference: Text = ""
    summary: Text = ""
    metrics: dict[Name, SuiteMetric] = {}
    """The suite's own metrics; files before version 0.2.0 have no sentence on each."""
    digest: Text | None = None
    """SHA-256 of the code that the suite runs; null: unknown, as of another tool's file."""
    sha256: Text | None = None
    """Digest of files before version 0.2.0; it counts as unknown."""


Speed = Annotated[list[Real], Meta(min_length=2, max_length=2)]


class PlanRow(Record):
    """All that decided what was measured, and how; of another tool's file what is known."""

    preset: Text | None = None
    suites: list[SuiteFacts] = []
    cases: list[PlannedCase] = []
    left_out: list[PlannedCase] = []
    """Cases that did not fit the budget."""
    world_size: Count | None = None
    device_type: Text | None = None
    backend: Text | None = None
    launches: Count | None = None
    case_seconds: Real | None = None
    budget_seconds: Real | None = None
    timeout_seconds: Real | None = None
    precision: Real | None = None
    seed: int | None = None
    threads_per_rank: Count | None = None
    label: Text | None = None
    visits: Count = 1
    """Visits of a launch to a case, each for an equal share of its samples."""
    slow: list[Speed] = []
    """[rank, share of its speed], emulated."""
    slow_links: list[Speed] = []
    """[rank, share of its links' speed], emulated."""
    options: dict[Text, Fact] = {}
    """Options of the command, as given."""
