"""The suite contract: what a suite module gives, and what it is given.

A suite is a Python module. Its first docstring line is its summary, and it defines

    cases(machine) -> Iterable[dict[str, Param]]      parameters, the most informative case first
    prepare(params, rank) -> Work                     allocate, and say what to time and how to check it

and, if it wants to,

    memory(params, machine) -> int                    bytes that a rank needs, asked before anything is allocated
    min_seconds(params) -> float                      of a case with `Work.min_seconds`: the same, known beforehand, so
                                                      that budget and time-outs have room for it
    prepare_seconds(params) -> float                  of a case that compiles, or fetches, in its preparation: seconds
                                                      that this may take on top of --timeout
    DEFAULTS: dict[str, Param]                        permanent defaults: left out of a case's identity, for ever
    CHOICES: dict[str, tuple[Param, ...]]             the values that a parameter can take
    METRICS: dict[str, SuiteMetric]                   metric -> (unit, "higher" | "lower" | "neither", a sentence on it)
    PRODUCTS_IN: str                                  the parameter that names the type of its matrix products: rows in
                                                      a type without instructions on the machine are left out
    MACHINERY: tuple[str, ...]                        further modules whose source is part of what is measured; those of
                                                      bench.workloads and bench.parallelism that it imports are anyway

A suite never times, prints, gathers or saves; torch is imported inside `prepare`, so that listing stays quick.
`bench.measure.planning.suite_loader` finds and loads suites.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from msgspec import Struct

from bench.errors import BenchError, Skip

__all__ = [
    "COMPILE_SECONDS",
    "ITEM_BYTES",
    "Case",
    "Check",
    "Machine",
    "Observed",
    "Param",
    "Params",
    "Presets",
    "Skip",
    "Span",
    "SuiteMetric",
    "Table",
    "TimedCheck",
    "Work",
    "case_id",
    "check_choices",
    "format_param",
    "is_name",
    "is_param",
    "positive_int",
    "skip_if",
    "too_small",
]

Param = bool | int | float | str
Params = dict[str, Param]
Values = TypeVar("Values")
Rows = TypeVar("Rows")

ITEM_BYTES: Mapping[str, int] = {
    "float32": 4,
    "tf32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8_e4m3fn": 1,
    "int32": 4,
}
"""Bytes of one number by the name of its type."""


@dataclass(frozen=True)
class Machine:
    """Facts of the machine that `cases` and `memory` may use; a declared machine when listing."""

    world_size: int
    device_type: str
    preset: str
    memory_bytes: int
    """Memory that one rank can have: free device memory, or its share of the host's available memory."""
    num_cores: int
    """Cores that the ranks of one host share."""
    ranks_per_host: int
    slow_types: frozenset[str] = frozenset()
    """Floating types that its devices have no instructions for: products in them take tens of times as long."""


PRESET_ORDER = ("smoke", "standard", "full")


@dataclass(frozen=True)
class Presets(Generic[Values]):
    """Table of values by type of device and preset, such as sizes or lists of cases."""

    cpu: Mapping[str, Values]
    cuda: Mapping[str, Values]

    def at(self, machine: Machine) -> Values:
        """The value of the machine's preset, or of the nearest one before it that has a value."""
        return [values for _, values in self._up_to(machine)][-1]

    def through(self: Presets[tuple[Rows, ...]], machine: Machine) -> tuple[Rows, ...]:
        """The values of the machine's preset and of those before it, joined: presets that nest."""
        return tuple(row for _, rows in self._up_to(machine) for row in rows)

    def _up_to(self, machine: Machine) -> list[tuple[str, Values]]:
        table = {"cpu": self.cpu, "cuda": self.cuda}[machine.device_type]
        presets = PRESET_ORDER[: PRESET_ORDER.index(machine.preset) + 1]
        return [(preset, table[preset]) for preset in presets if preset in table]


@dataclass(frozen=True)
class Case:
    """A frozen identity: what is measured. The numbers live elsewhere."""

    suite: str
    params: tuple[tuple[str, Param], ...]
    id: str


class Check(NamedTuple):
    """Result of a case's check on one rank: it holds if `error <= tolerance` (a NaN never does)."""

    error: float
    tolerance: float
    scope: Literal["full", "reduced"] = "full"
    """`reduced`: the same code was checked at a size that one device can hold."""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class TimedCheck:
    """Look at what timed calls leave behind, for some of the samples of a variant; both parts are untimed.

    `check` calls the case itself, and so cannot see a call that does nothing while it is timed.
    """

    arm: Callable[[], object]
    """Spoils the outputs. It is called before `reset`, on every rank."""
    look: Callable[[int], Check | tuple[float, float]]
    """Error and tolerance of the outputs, given the number of calls since `arm`; may communicate."""


class SuiteMetric(NamedTuple):
    """Row of a suite's METRICS; a plain tuple will do."""

    unit: str
    better: str
    """`higher`, `lower` or `neither`."""
    meaning: str = ""
    """One sentence that begins with a noun, such as `Time of the case over that of one device.`; it may be missing."""


COMPILE_SECONDS = 240.0
"""Allowance in `prepare_seconds` of what torch.compile compiles: room for all ranks of a node at once with cold caches.
It is an allowance for time-outs, no measurement."""

COMMUNICATION = "communication"
"""Kind of a span in which a rank's host waits for communication; it may lie within another span."""


class Span(Struct, array_like=True, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A traced part of one call of the work on one rank; in the result file an array of its fields in this order."""

    rank: int
    call: int
    kind: str
    """forward, backward, communication, or a suite's own kind."""
    stage: int | None = None
    microbatch: int | None = None
    start_ns: int
    duration_ns: int
    axis: str | None = None
    """Axis of the mesh that communication is along, such as `tensor`."""
    sequence: int | None = None
    """Number of the collective on its group within the call: equal on all its ranks."""
    num_bytes: int | None = None
    """Size of the tensor that this rank sends or receives, the larger of the two."""
    launch_ns: int | None = None
    """Time at which this rank started the communication; until the last rank has, the others wait for it."""


Cell = int | float | str | bool | None


@dataclass(frozen=True)
class Table:
    """Table of a case besides its numbers: a matrix of pairs, time by part, a series over time."""

    columns: tuple[str, ...]
    """Heads, each with its unit, such as `GB/s`."""
    rows: tuple[tuple[Cell, ...], ...]
    """One cell a column; None if a value is not known."""
    title: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "every row has one cell a column"


@dataclass(frozen=True)
class Observed:
    """Input of a case's `derive`, on rank 0, when all is measured: every rank's samples and spans."""

    world_size: int
    num_cores: int
    """Cores that the ranks of one host share."""
    device_type: str
    seconds: Mapping[str, float]
    """Variant -> median over samples of the maximum over ranks, of one call."""
    rank_seconds: Mapping[str, tuple[float, ...]]
    """Variant -> each rank's own median, of one call."""
    spans: tuple[Span, ...]
    """Spans of the traced pass; times are relative to the start of their call."""
    traced_call_ns: tuple[tuple[int, ...], ...]
    """[rank][call]: duration of each traced call."""
    traced_variants: tuple[str, ...] = ()
    """[call]: the variant that was called."""
    per_rank: tuple[Mapping[str, Any], ...] = ()
    """Facts that each rank's `Work.per_rank` returned; empty for a work without it."""
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Variant -> seconds of one call, the maximum over the ranks, in the order taken."""
    rank_samples: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Variant -> [rank][sample] in seconds of one call; empty above 64 ranks, of which not every sample is kept."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Callables to time, their check, and the amount of work in one call.

    `variants` maps names to callables; the first is the case itself. The others are what its metrics are derived from
    (`compute_only`, `one_device`, ...): the engine times all of them interleaved, so that ratios compare like with
    like. A variant that has nothing to do on a rank returns at once there.
    """

    variants: Mapping[str, Callable[[], object]]
    check: Callable[[], Check | tuple[float, float]]
    """Runs on every rank; may communicate."""
    clock: Literal["device", "host"] = "device"
    """`host`: time between device synchronisations, for work that the host drives (steps, loaders, checkpoints)."""
    reset: Callable[[], object] | None = None
    """Restores the inputs before every sample, untimed."""
    timed_checks: Mapping[str, TimedCheck] = field(default_factory=dict)
    """Variant -> how to look at what its timed calls left. Without one of the first variant a note says so."""
    least_seconds: Mapping[str, float] = field(default_factory=dict)
    """Variant -> seconds that one call takes at least, since its parts sleep so long; less is a wrong clock."""
    close: Callable[[], object] | None = None
    bytes: int | None = None
    """Payload of one call of a collective (for all-gather, reduce-scatter, gather, scatter: the full buffer)."""
    bus_factor: float | None = None
    """Bus bandwidth / algorithm bandwidth; None if there is none (barrier, one rank)."""
    memory_traffic_bytes: int | None = None
    """Bytes that one rank reads and writes of its own memory in one call."""
    flops: float | None = None
    """Model FLOPs of one call, summed over the ranks."""
    hardware_flops: float | None = None
    """Model FLOPs and what is recomputed, summed over the ranks; None if nothing is."""
    flops_dtype: str | None = None
    """Type whose peak and ceiling the FLOPs are compared with, such as `bfloat16`."""
    tokens: int | None = None
    """Tokens that one call processes, summed over the ranks."""
    communicates: bool = True
    """True if a call sends anything between ranks; such a work is refused under `--slow-link`, unless it marks it."""
    check_after: bool = True
    """False only if a second check after the timed part has no meaning."""
    traced_calls: int = 0
    """Calls of the separate traced pass, whose spans `derive` and `bench explain` read; 0: none."""
    traced_variants: tuple[str, ...] = ()
    """Variants that the traced pass calls, one after the other, each so often; empty: the first only."""
    derive: Callable[[Observed], Mapping[str, float | None]] | None = None
    """Further metrics, on rank 0; each is named in the suite's METRICS."""
    per_rank: Callable[[], Mapping[str, Any]] | None = None
    """Further facts of each rank as plain JSON values, asked after the timed part (peak memory, a series of clocks)."""
    tables: Callable[[Observed], Mapping[str, Table]] | None = None
    """Tables by name, on rank 0, when all is measured; kept in the record and shown below the suite's own table."""
    min_seconds: float | None = None
    """Sampling goes on for at least so long, on the first visit, whatever precision and budget say; for what must
    heat the machine or fill a counter."""
    notes: tuple[str, ...] = ()
    """Footnotes of the row: what a reader must know to read the number rightly."""


def case_id(suite: str, params: Mapping[str, Param], defaults: Mapping[str, Param]) -> str:
    """The stable text id: parameters at their permanent defaults are left out, the rest in alphabetical order.

    `collective/all_reduce[num_bytes=1048576,timing=streamed]`; a case without an operation is called `run`.
    """
    shown = [
        f"{name}={format_param(value)}"
        for name, value in sorted(params.items())
        if name != "op" and not (name in defaults and _same(value, defaults[name]))
    ]
    head = f"{suite}/{params.get('op', 'run')}"
    return f"{head}[{','.join(shown)}]" if shown else head


def _same(value: Param, default: Param) -> bool:
    # True == 1 in Python, but `x=true` and `x=1` are different parameters.
    return isinstance(value, bool) == isinstance(default, bool) and value == default


def check_choices(suite: str, params: Mapping[str, Param], choices: Mapping[str, tuple[Param, ...]]) -> None:
    """Raises BenchError for a value that is not among its parameter's choices."""
    for name, allowed in choices.items():
        if name in params and params[name] not in allowed:
            raise BenchError(f"{suite}: {name}={params[name]}; it is one of {', '.join(map(str, allowed))}")


def positive_int(suite: str, params: Mapping[str, Param], name: str, least: int = 1) -> int:
    """A parameter that is a whole number of at least `least`. Raises BenchError for any other value."""
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BenchError(f"{suite}: {name}={value!r}; give a whole number of at least {least}")
    return value


def too_small(params: Mapping[str, Param], *names: str, least: int = 1) -> str | None:
    """Reason why the first of the parameters that is below `least` cannot be; None if none is, or it is absent."""
    small = next((name for name in names if name in params and int(params[name]) < least), None)
    return None if small is None else f"{small}={params[small]} is less than {least}"


def skip_if(reason: str | None) -> None:
    """Raises Skip with a reason, if there is one."""
    if reason:
        raise Skip(reason)


NAME = re.compile(r"[\w.+:-]{1,200}")
"""Pattern of names of variants and metrics: nothing that a terminal, a page or a path takes for its own."""
SUITE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""Pattern of names of suites, which ids of cases begin with."""


def is_name(value: object) -> bool:
    """True for a name that a result file can hold."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def is_suite_name(value: object) -> bool:
    """True for a name of a suite that a result file can hold."""
    return isinstance(value, str) and SUITE_NAME.fullmatch(value) is not None


def is_param(value: object) -> bool:
    """True for a value that a parameter can have; JSON has no NaN and no infinity."""
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def format_param(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
