"""Cases from a row of nccl-tests, as its text and its JSON have it.

nccl-tests prints means: the time of `iterations` calls back to back (each of `aggregated` grouped ones) over
their number, averaged over the processes unless -a says otherwise (src/common.cu). The size column is the
larger of the send and the receive buffer, which is the payload as bench counts it. In-place rows get the
parameter `in_place`; a setting that bench has no name for (another reduction or root, blocking calls, ...) becomes a
parameter of its own if it is not nccl-tests' default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError
from bench.importers.reading import COLLECTIVE, ImportedCase, collective_work, mean_note, works_in_place
from bench.records.lines.parts import CheckOutcome, Status
from bench.suite import Params, SuiteMetric

TOOL = "nccl-tests"
OPERATIONS = {
    "alltoall": "all_to_all",
    "alltoallv": "all_to_all_v",
    "sendrecv": "send_recv",
}
"""nccl-tests' name (of the program, without `_perf`) -> bench's, if they differ."""
DTYPES = {
    "char": "int8",
    "int": "int32",
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}
"""nccl-tests' name -> torch's, if they differ; `char` and `int` are of its first versions, `fp8_...` of rccl-tests."""
AVERAGES = {
    "0": "of its first process",
    "1": "averaged over its processes",
    "2": "the least of its processes",
    "3": "the greatest of its processes",
}
"""Value of -a -> whose time it is."""
MAX_DELTAS = {"float16": 1e-2, "bfloat16": 1e-2, "float32": 1e-5, "float64": 1e-12}
"""Largest deviation that old versions, which print `error`, let pass (DeltaMaxValue in their src/common.cu)."""

OPTIONS = {
    "t": "nthreads", "g": "ngpus", "b": "minbytes", "e": "maxbytes", "i": "stepbytes", "f": "stepfactor",
    "n": "iters", "w": "warmup_iters", "m": "agg_iters", "N": "run_cycles", "o": "op", "d": "datatype",
    "r": "root", "c": "check", "p": "parallel_init", "z": "blocking", "u": "unalign", "y": "stream_null",
    "G": "cudagraph", "C": "report_cputime", "a": "average", "R": "local_register", "x": "cta_policy",
    "D": "device_implementation", "V": "device_cta_count", "I": "per_iter_timing", "K": "per_iter_skip",
    "S": "report_timestamps", "M": "memory_report",
}  # fmt: skip
"""Options of nccl-tests that are kept, by letter; the file that it writes (-J) is a path and is not."""

EXTRA_COLUMNS = {
    "i_min": ("iteration_min_seconds", 1e-6, SuiteMetric("s", "lower", "Time of the fastest call.")),
    "i_max": ("iteration_max_seconds", 1e-6, SuiteMetric("s", "lower", "Time of the slowest call.")),
    "i_p99": ("iteration_p99_seconds", 1e-6, SuiteMetric("s", "lower", "Time that 99% of the calls stay below.")),
    "i_cv%": (
        "iteration_variation",
        1e-2,
        SuiteMetric("share", "lower", "Standard deviation of the calls' times over their mean."),
    ),
    "#bitdiff": (
        "bitwise_differences",
        1.0,
        SuiteMetric("bits", "lower", "Bits in which results of the same call differ."),
    ),
}
"""Column of -I and of the check of repeatability -> metric, factor, what it is."""
STATED = {
    "stated_algbw_gb_per_s": SuiteMetric("GB/s", "higher", "Algorithm bandwidth as nccl-tests printed it."),
    "stated_busbw_gb_per_s": SuiteMetric("GB/s", "higher", "Bus bandwidth as nccl-tests printed it."),
}
"""Bandwidths of the file itself, if its times are not those of the collective."""


@dataclass
class NcclTestsSetup:
    """Set-up that a run of nccl-tests states before its rows."""

    op: str | None = None
    num_ranks: int | None = None
    iterations: int | None = None
    aggregated: int = 1
    graph: int = 0
    unalign: int = 0
    groups: int = 1
    is_blocking: bool = False
    ranks_per_process: int | None = None
    marks_errors: bool = False
    """True for rccl-tests before its `#wrong`: an asterisk marks a deviation that counts as wrong."""
    average: str = "1"
    """Value of -a: whose time is printed."""
    fits_factor: bool = True
    """False if the bandwidths of the rows contradict the operation and the number of ranks: then there is none."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    step_factor: int | None = None
    step_bytes: int | None = None

    def requested_bytes(self, num_bytes: int) -> int:
        """The size that was asked for: nccl-tests prints it rounded down to 16 bytes per rank, at most.

        Case ids carry what was asked for; the rounding depends on the number of ranks (setupArgs in
        src/common.cu, and the operations' GetCollByteCount).
        """
        slack = 16 * (self.num_ranks or 1) if num_bytes else 0
        size = self._size_from(num_bytes)
        return size if size is not None and size < num_bytes + slack else num_bytes

    def size_after(self, num_bytes: int) -> int | None:
        """The size asked for that follows one; None if there is none, or the set-up does not say it."""
        factor, step = self.step_factor or 1, self.step_bytes or 0
        last = self.requested_bytes(num_bytes)
        after = last * factor if factor > 1 else last + step
        return after if last < after <= (self.max_bytes or 0) else None

    def _size_from(self, least: int) -> int | None:
        """The first size asked for that is no smaller."""
        size, factor, step = self.min_bytes or 0, self.step_factor or 1, self.step_bytes or 0
        if size < 1:
            return None
        if factor > 1:
            while size < least:
                size *= factor
        elif step > 0 and size < least:
            size += -((size - least) // step) * step
        return size if least <= size <= (self.max_bytes or size) else None


@dataclass(frozen=True, kw_only=True)
class Body:
    """One half of a row: out-of-place or in-place."""

    microseconds: float | None
    is_cpu_time: bool = False
    """-C: how long the host took to enqueue the calls, which is not a time of the collective."""
    algbw: float | None = None
    busbw: float | None = None
    wrong: float | None = None
    """Wrong elements; None if nothing was checked or the number is unknown."""
    delta: float | None = None
    """Largest deviation, which old versions print."""
    is_marked: bool = False
    """True for an asterisk, with which rccl-tests marks a wrong result."""
    extras: Mapping[str, float | None] = field(default_factory=dict)
    """Values of those of EXTRA_COLUMNS that there are."""
    samples_us: Sequence[Sequence[float]] = ()
    """[process][iteration] microseconds, which -I adds to the JSON."""


@dataclass(frozen=True, kw_only=True)
class Row:
    num_bytes: int
    count: int | None = None
    """Elements that the row says; of one rank's share in all_gather and the like."""
    dtype: str
    redop: str | None
    root: int | None
    halves: Mapping[bool, Body]
    """True for in place -> the half."""
    started: str | None = None
    line: int = 0
    """Number of its line; 0 in JSON."""


def operation(program: str) -> str:
    """Bench's name of what a program such as `./build/all_reduce_perf` measures."""
    name = program.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".exe").removesuffix("_mpi").removesuffix("_perf")
    return OPERATIONS.get(name, name)


def version_text(code: int) -> str | None:
    """`2.18.3` of 21803, and of 2708 `2.7.8`: NCCL_VERSION changed with 2.9 (nccl.h)."""
    if code <= 0:
        return None
    major = 10_000 if code >= 10_000 else 1_000
    return f"{code // major}.{code % major // 100}.{code % 100}"


def readings(row: Row, setup: NcclTestsSetup) -> Iterator[ImportedCase]:
    """The cases of a row. Raises BenchError if the operation or the number of ranks is not known."""
    if setup.op is None:
        raise BenchError("the text does not say which collective it measured; add --op, such as --op all_reduce")
    assert setup.num_ranks
    for in_place, body in row.halves.items():
        yield _reading(row, in_place, body, setup, setup.op, setup.num_ranks)


def _reading(row: Row, in_place: bool, body: Body, setup: NcclTestsSetup, op: str, num_ranks: int) -> ImportedCase:
    dtype = DTYPES.get(row.dtype, row.dtype)
    check = _check(body, dtype, num_ranks - 1 if setup.marks_errors else 1)
    status, reason = _status(row, body, check)
    seconds = () if status != "ok" or body.microseconds is None else (body.microseconds * 1e-6,)
    derived, metrics = _derived(body)
    return ImportedCase(
        suite=COLLECTIVE,
        params=_params(row, in_place, setup, op, dtype) | ({"time": "cpu"} if body.is_cpu_time else {}),
        num_ranks=num_ranks,
        seconds=seconds,
        status=status,
        reason=reason,
        notes=_notes(body, in_place, setup, op),
        check=check,
        # Bandwidths would follow from the host's time to enqueue.
        work=collective_work(op, None if body.is_cpu_time else row.num_bytes, num_ranks if setup.fits_factor else 1),
        derived=derived,
        metrics=metrics,
        variants={"each_iteration": [[us * 1e-6 for us in times] for times in body.samples_us]}
        if body.samples_us
        else {},
        started=row.started,
    )


def _params(row: Row, in_place: bool, setup: NcclTestsSetup, op: str, dtype: str) -> Params:
    extras: tuple[tuple[str, Any, bool], ...] = (
        ("graph", True, setup.graph > 0),
        ("in_place", True, in_place),
        ("redop", row.redop, row.redop not in (None, "sum", "none")),
        ("root", row.root, (row.root or 0) > 0),
        ("aggregated", setup.aggregated, setup.aggregated > 1),
        ("blocking", True, setup.is_blocking),
        ("unalign", setup.unalign, setup.unalign > 0),
        ("groups", setup.groups, setup.groups > 1),
    )
    params: Params = {"op": op, "num_bytes": setup.requested_bytes(row.num_bytes), "dtype": dtype, "timing": "streamed"}
    return params | {name: value for name, value, holds in extras if holds}


def _check(body: Body, dtype: str, scale: int) -> CheckOutcome | None:
    """The outcome; `scale` is that of rccl-tests, whose tolerance grows with the number of ranks."""
    tolerance = MAX_DELTAS.get(dtype, 0.0) * max(scale, 1)
    error, tolerance = (body.wrong, 0.0) if body.wrong is not None else (body.delta, tolerance)
    return None if error is None else CheckOutcome(error=error, tolerance=tolerance, scope="full")


def _status(row: Row, body: Body, check: CheckOutcome | None) -> tuple[Status, str | None]:
    if check is not None and (body.is_marked or (check.error or 0.0) > check.tolerance):
        what = "wrong elements" if body.wrong is not None else "largest deviation"
        return "invalid", f"{TOOL} found the result wrong ({what}: {check.error:g})"
    if row.num_bytes < 1:
        return "skipped", "moves no data: the size asked for is below one element a rank"
    if body.microseconds is None or body.microseconds <= 0:
        return "failed", f"{TOOL} printed no time"
    return "ok", None


def _notes(body: Body, in_place: bool, setup: NcclTestsSetup, op: str) -> tuple[str, ...]:
    calls = None if setup.iterations is None else setup.iterations * setup.aggregated * max(1, setup.graph)
    of = "a mean over its calls" if calls is None else f"a mean over {calls:,} calls"
    notes = [mean_note(f"{of} of {TOOL}, {AVERAGES.get(setup.average, AVERAGES['1'])}")]
    if not in_place and works_in_place(op):
        notes.append(f"out of place, as {TOOL} does it first; bench's own {op} works in place")
    if body.is_cpu_time:
        notes.append("-C: the time that the host takes to enqueue a call, not that of the collective")
    return tuple(notes)


def _derived(body: Body) -> tuple[dict[str, float | None], dict[str, SuiteMetric]]:
    derived: dict[str, float | None] = {}
    metrics: dict[str, SuiteMetric] = {}
    for column, value in body.extras.items():
        name, factor, metrics[name] = EXTRA_COLUMNS[column]
        derived[name] = None if value is None else value * factor
    if body.is_cpu_time:
        derived |= zip(STATED, (body.algbw, body.busbw), strict=True)
        metrics |= STATED
    return derived, metrics
