"""One case on one rank, phase by phase: memory, prepare, check, measure, trace, check again, gather.

After each phase that can fail on one rank alone, all ranks vote, so that all do the same next.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from bench.core import clock as clocks
from bench.errors import Skip
from bench.measure.engine import control, emulation
from bench.measure.engine.case_json import (
    check_from_json,
    check_to_json,
    describe_error,
    excess_error,
    finite_or_none,
    table_to_json,
    work_to_json,
)
from bench.measure.engine.consensus import Agreement, PhaseOutcome, Poll
from bench.measure.engine.gather import gather_samples, slowest_samples
from bench.measure.engine.passes import torch_profile
from bench.measure.engine.passes.energy_window import measure_energy
from bench.measure.engine.passes.traced_pass import traced_pass
from bench.measure.engine.rank import RankContext
from bench.measure.engine.timing import host_launches, l2_cache
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.case_cost import (
    DEAR_NOTE,
    PUT_OFF,
    UNLIMITED,
    Allowance,
    CostProbe,
    PutOff,
    main_variant_only,
)
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.measure.engine.timing.sampler import Limits, Sampler, Samples, Timing
from bench.measure.planning.session import case_record
from bench.measure.planning.suite_loader import Suite
from bench.measure.system import energy, interference_probe
from bench.measure.system.devices import available_memory_bytes, release_cached_memory
from bench.stats import intervals
from bench.suite import Check, Observed, Span, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.measure.engine.watchdog import Watchdog
    from bench.measure.planning.plan import Plan
    from bench.records.saved_plan import PlannedCase


UNTIMED_CALLS = 3
"""Calls of a case in the untimed pass; the last one's log is kept, the earlier ones open connections."""


class CaseEnd(Exception):  # noqa: N818 - the way out of a case that has no speed, agreed by all ranks
    """Raised on all ranks alike: they agreed that the case ends without a speed."""

    def __init__(self, agreement: Agreement) -> None:
        super().__init__(agreement.reason)
        self.agreement = agreement


_STATUS = {PhaseOutcome.SKIP: "skipped", PhaseOutcome.INVALID: "invalid", PhaseOutcome.RAISED: "failed"}


@dataclass
class CaseRun:
    """One visit to one case on one rank."""

    rank: RankContext
    plan: Plan
    case: PlannedCase
    suite: Suite
    launch: int
    poll: Poll
    watchdog: Watchdog
    host: str
    visit: int = 0
    calls: dict[str, int] | None = None
    """Variant -> calls in a sample: those of an earlier visit if there was one, set by `record`."""
    idle: energy.Idle = field(default_factory=energy.Idle)
    """Power of this rank's device without work, measured at the first case whose energy is."""
    allowance: Allowance = UNLIMITED
    trace_path: Path | None = None
    """File for this rank's trace by torch's profiler; None: none is asked for."""

    def record(self, limits: Limits) -> tuple[dict[str, Any], bool]:
        """The case's measurement line (complete on rank 0), and whether this generation can go on.

        Its status is PUT_OFF, with the `dear_seconds` of another turn, if it would take more than the allowance.
        Raises Broken where the ranks cannot meet any more.
        """
        started, began = clocks.stamp(), clocks.monotonic_seconds()
        cost_probe, sound = CostProbe(self.rank, self.allowance), True
        fields: dict[str, Any] = {}
        try:
            status, reason = self._phases(limits, fields, cost_probe)
        except CaseEnd as end:
            status, reason, sound = _STATUS[end.agreement.verdict], end.agreement.reason, end.agreement.sound
        except PutOff as off:
            status, reason, fields = PUT_OFF, None, {"dear_seconds": off.seconds}
        finally:
            self.rank.tracer = None
        fields["seconds"] = clocks.monotonic_seconds() - began
        return case_record(self.plan, self.case, self.launch, status, reason, started, self.visit, **fields), sound

    def call_untimed(self, read_log: Callable[[], str]) -> tuple[tuple[str, str] | None, bool]:
        """Prepare the case and call it a few times without timing; `read_log` gives what was logged since last asked.

        Returns what preparing it and its last call have logged, None where it could not be called, and whether this
        generation can go on. Raises Broken where the ranks cannot meet any more.
        """
        clock = clock_for_work(self.rank.device.type, "host")
        read_log()
        try:
            with self._prepare() as work:
                prepared = read_log()
                with self._voting("untimed calls"):
                    for _ in range(UNTIMED_CALLS):
                        if work.reset is not None:
                            work.reset()
                        read_log()  # of a first call also what it says while it opens connections
                        next(iter(work.variants.values()))()
                        clock.synchronise()
                    called = read_log()
        except CaseEnd as end:
            return None, end.agreement.sound
        return (prepared, called), True

    def _phases(self, limits: Limits, fields: dict[str, Any], cost_probe: CostProbe) -> tuple[str, str | None]:
        with self._prepare() as work:
            fields["work"] = work_to_json(work)
            fields["notes"] = [*work.notes, *emulation.notes(self.plan)]
            self._measure(work, limits, fields, cost_probe)
        return "ok", None

    @contextmanager
    def _prepare(self) -> Iterator[Work]:
        """The case's work; closed in the end, unless the ranks no longer meet."""
        with self._voting("memory"):
            self._ask_memory()
        self.watchdog.allow(self.case.prepare_seconds)
        with self._voting("prepare"):
            if self.rank.pace is not None:
                self.rank.pace.link_seen = False  # what another case marked says nothing of this one
            flush = l2_cache.make_flush(self.case.params, self.rank.device)
            work = l2_cache.flush_before_samples(self.suite.prepare(dict(self.case.params), self.rank), flush)
            work = emulation.slow_down(work, self.rank.pace)
        try:
            yield work
        except (CaseEnd, PutOff) as end:
            if isinstance(end, PutOff) or end.agreement.sound:
                self._close(work)
            raise
        self._close(work)

    def _close(self, work: Work) -> None:
        if work.close is not None:
            with self._voting("close"):
                work.close()

    def _measure(self, work: Work, limits: Limits, fields: dict[str, Any], cost_probe: CostProbe) -> None:
        timing = cast("Timing", self.case.params.get("timing", "aligned"))
        clock = clock_for_work(self.rank.device.type, work.clock)
        cost_probe.begin_check()
        self._check(work, "check before", fields)
        if self.allowance.is_dear:
            work = main_variant_only(work)
            fields["notes"].append(DEAR_NOTE)
        with self._voting("price"):
            dear = cost_probe.dear_seconds(work, clock, timing)
        if dear is not None:
            raise PutOff(dear)
        limits = cost_probe.limit(limits)
        if self.plan.slow_links:
            with self._voting("emulation"):
                emulation.refuse_unmarked_links(work, self.rank.pace)
        if work.min_seconds is not None and self.visit == 0:
            limits = limits.extended(work.min_seconds)
            self.watchdog.allow(work.min_seconds)
        with interference_probe.watch_machine(self.rank.device, self.host) as watch:
            with self._voting("measure"):
                calls = dict.fromkeys(work.variants, 2) if self.allowance.is_dear else self.calls
                sampler = Sampler(self.rank, work, clock, timing, clocks.monotonic_seconds, calls, watch.look)
                samples = sampler.measure(limits)
                watch.end()
            self.calls = samples.calls
            with self._voting("trace"):
                spans, call_ns = traced_pass(self.rank, work, watch.look)
        if work.check_after:
            self._check(work, "check after", fields)
        joules = None if self.visit or self.allowance.is_dear else self._energy(work, clock, samples, limits)
        with self._voting("gather"):
            fields |= gather_samples(self.rank, samples)
            if joules is not None:
                fields |= energy.combine(control.gather_json(self.rank, joules))
                fields["notes"] += energy.energy_notes(fields)
            fields |= interference_probe.combine(control.gather_json(self.rank, watch.row()))
            fields["stop"] = {
                "reason": samples.stop_reason,
                "half_width": samples.half_width,
                "warmup_calls": samples.warmup_rounds,
                "samples": samples.num_rounds,
            }
            self._gather_rest(work, samples, fields, spans, call_ns)
        self._profile(work, fields)

    def _profile(self, work: Work, fields: dict[str, Any]) -> None:
        """Write the profiler's trace, after everything is measured: the profiler slows the case, and stays loaded."""
        if self.trace_path is None:
            return
        align = make_alignment(self.rank, clock_for_work(self.rank.device.type, "host"))
        with self._voting("profile"):
            torch_profile.write_trace(work, self.rank, align, self.trace_path)
            names = control.gather_json(self.rank, self.trace_path.name)
        if names is not None:
            fields["profile"] = torch_profile.profile_record(names, self.trace_path.parent)

    def _ask_memory(self) -> None:
        """Agree on the memory that every rank can have, by which suites decide alike. Raise Skip if it is too small."""
        release_cached_memory(self.rank.device)
        available = available_memory_bytes(self.rank.device, self.rank.local_world_size)
        least = -control.maxima(self.rank, [-available])[0]
        machine = self.rank.machine = replace(self.rank.machine, memory_bytes=least)
        needed = self.suite.memory_bytes(dict(self.case.params), machine)
        if needed is not None and needed > machine.memory_bytes:
            raise Skip(f"needs {needed / 2**30:.2f} GiB a rank, and {least / 2**30:.2f} GiB are free on some rank")

    def _check(self, work: Work, phase: str, fields: dict[str, Any]) -> None:
        """Run the case's check on all ranks; the worst rank's error decides, and is kept either way."""
        with self._voting(phase):
            check = Check(*work.check())
        with self._voting(f"{phase}, compared"):
            checks = [check_from_json(row) for row in control.all_gather_json(self.rank, check_to_json(check))]
        worst = max(checks, key=excess_error)
        error = finite_or_none(worst.error)
        if "check" in fields:
            fields["check"]["error_after"] = error
        else:
            fields["check"] = {
                "error": error,
                "tolerance": worst.tolerance,
                "scope": worst.scope,
                "error_after": None,
            }
        if not worst.passed:
            rank = checks.index(worst)
            text = "not a number" if error is None else f"{error:.3g}"
            reason = f"{phase}: error {text} on rank {rank} is above the tolerance {worst.tolerance:.3g}"
            raise CaseEnd(Agreement(PhaseOutcome.INVALID, reason, sound=True))

    def _energy(self, work: Work, clock: clocks.Clock, samples: Samples, limits: Limits) -> energy.Row:
        with self._voting("energy"):
            return measure_energy(self.rank, work, clock, samples, limits, self.idle, self.watchdog.allow)

    def _gather_rest(
        self, work: Work, samples: Samples, fields: dict[str, Any], spans: list[Span], call_ns: list[int]
    ) -> None:
        medians = {
            name: intervals.median(totals) / samples.calls[name] / 1e9 for name, totals in samples.nanoseconds.items()
        }
        figures = None if work.per_rank is None else dict(work.per_rank())
        rows = control.gather_json(
            self.rank,
            {
                "spans": [span.to_row() for span in spans],
                "calls": call_ns,
                "medians": medians,
                "own": figures,
                "launch_ns": samples.launch_ns,
                "num_late": samples.num_late,
                "host": host_launches.launch_notes(samples),
            },
        )
        if rows is None:
            return
        fields["spans"] = [span for row in rows for span in row["spans"]]
        fields["traced_call_ns"] = [row["calls"] for row in rows]
        if work.traced_variants:
            fields["traced_variants"] = [name for name in work.traced_variants for _ in range(work.traced_calls)]
        fields["notes"] += dict.fromkeys(note for row in rows for note in row["host"])
        for field_name, own_counts in (("launch_ns", samples.launch_ns), ("num_late", samples.num_late)):
            if own_counts:
                fields[field_name] = {name: [row[field_name][name] for row in rows] for name in own_counts}
        fields["per_rank"] = [] if figures is None else [row["own"] for row in rows]
        observed = self._observed(samples, fields, [row["medians"] for row in rows])
        if work.derive is not None:
            fields["derived"] = {k: finite_or_none(v) for k, v in work.derive(observed).items()}
        if work.tables is not None:
            fields["tables"] = {name: table_to_json(table) for name, table in work.tables(observed).items()}

    def _observed(self, samples: Samples, fields: dict[str, Any], medians: list[dict[str, float]]) -> Observed:
        return Observed(
            world_size=self.rank.world_size,
            num_cores=self.rank.machine.num_cores,
            device_type=self.rank.device.type,
            seconds={
                name: intervals.median(slowest_samples(fields["variants"][name])) / calls / 1e9
                for name, calls in samples.calls.items()
            },
            rank_seconds={name: tuple(row[name] for row in medians) for name in samples.calls},
            spans=tuple(map(Span.from_row, fields["spans"])),
            traced_call_ns=tuple(tuple(row) for row in fields["traced_call_ns"]),
            traced_variants=tuple(fields.get("traced_variants", ())),
            per_rank=tuple(fields["per_rank"]),
            samples={
                name: tuple(ns / calls / 1e9 for ns in slowest_samples(fields["variants"][name]))
                for name, calls in samples.calls.items()
            },
            rank_samples={
                name: tuple(tuple(ns / calls / 1e9 for ns in row) for row in fields["variants"][name]["nanoseconds"])
                for name, calls in samples.calls.items()
                if "nanoseconds" in fields["variants"][name]
            },
        )

    @contextmanager
    def _voting(self, phase: str) -> Iterator[None]:
        """Run a phase, then vote on it; leaves through CaseEnd where any rank skipped or raised."""
        self.watchdog.enter(phase)
        verdict, reason = PhaseOutcome.OK, None
        try:
            yield
        except Skip as skip:
            verdict, reason = PhaseOutcome.SKIP, str(skip) or "the suite gave no reason"
        except Exception as error:  # noqa: BLE001 - a case that raises is recorded as failed, and the run goes on
            verdict, reason = (
                PhaseOutcome.RAISED,
                f"rank {self.rank.index} ({self.host}), {phase}: {describe_error(error)}",
            )
        agreement = self.poll.agree(phase, verdict, reason)
        if agreement.verdict is not PhaseOutcome.OK:
            raise CaseEnd(agreement)
