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
from bench.measure.engine.case_parts import (
    check_outcome,
    describe_error,
    excess_error,
    finite_or_none,
    table_rows,
    work_facts,
)
from bench.measure.engine.consensus import Agreement, PhaseOutcome, Poll
from bench.measure.engine.gather import gather_samples
from bench.measure.engine.observation import observe
from bench.measure.engine.passes import torch_profile
from bench.measure.engine.passes.energy_window import measure_energy
from bench.measure.engine.passes.traced_pass import traced_pass
from bench.measure.engine.rank import RankContext
from bench.measure.engine.rank_state import RankState, changed_note
from bench.measure.engine.timing import host_launches, l2_cache
from bench.measure.engine.timing.alignment import make_alignment
from bench.measure.engine.timing.case_cost import (
    DEAR_NOTE,
    UNLIMITED,
    Allowance,
    CostProbe,
    Postponement,
    PutOff,
    main_variant_only,
)
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.measure.engine.timing.sample_report import UNLOOKED_NOTE, SampleReport, sample_report
from bench.measure.engine.timing.sampler import Sampler, Samples, Timing
from bench.measure.engine.timing.stop_rule import Limits
from bench.measure.planning.session import case_record
from bench.measure.planning.suite_contract import ContractError, to_check, to_derived, to_figures, to_tables
from bench.measure.planning.suite_loader import Suite
from bench.measure.system import energy, interference_probe
from bench.measure.system.devices import available_memory_bytes, release_cached_memory
from bench.records.lines.parts import CheckOutcome, Stop
from bench.stats import intervals
from bench.suite import Span, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.measure.engine.timing.calibration import Calibration, VisitControls
    from bench.measure.engine.watchdog import Watchdog
    from bench.measure.planning.plan import Plan
    from bench.records.lines.header import PlannedCase
    from bench.records.lines.kinds import Measurement
    from bench.records.lines.parts import Status


@dataclass(frozen=True)
class RankReport:
    """Report of one rank to rank 0 on a case that is measured, besides its samples."""

    spans: list[Span]
    call_ns: list[int]
    """[call]: durations of the traced calls."""
    medians: dict[str, float]
    """Variant -> seconds of one call."""
    figures: dict[str, Any] | None
    """Facts of the suite's own, checked with the whole line; None: it has none."""
    launch_ns: dict[str, int]
    num_late: dict[str, int]
    notes: list[str]


UNTIMED_CALLS = 3
"""Calls of a case in the untimed pass; the last one's log is kept, the earlier ones open connections."""


class CaseEnd(Exception):  # noqa: N818 - the way out of a case that has no speed, agreed by all ranks
    """Raised on all ranks alike: they agreed that the case ends without a speed."""

    def __init__(self, agreement: Agreement) -> None:
        super().__init__(agreement.reason)
        self.agreement = agreement


_STATUS: dict[PhaseOutcome, Status] = {
    PhaseOutcome.SKIP: "skipped",
    PhaseOutcome.INVALID: "invalid",
    PhaseOutcome.RAISED: "failed",
    PhaseOutcome.CONTRACT: "failed",
}


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
    calibration: Calibration | None = None
    """The harness's own kernels, sampled with the case; None: they are not."""
    trace_path: Path | None = None
    """File for this rank's trace by torch's profiler; None: none is asked for."""
    breaks_contract: bool = False
    """True after `record` if the suite's other cases would fail for the same reason."""

    def record(self, limits: Limits) -> tuple[Measurement | Postponement, bool]:
        """The case's measurement line (complete on rank 0), and whether this generation can go on.

        A postponement in its place if the case would take more than the allowance. Raises Broken if the ranks cannot
        meet any more.
        """
        started, began = clocks.stamp(), clocks.monotonic_seconds()
        state = RankState()
        controls = None if self.calibration is None else self.calibration.begin_visit()
        cost_probe, sound = CostProbe(self.rank, self.allowance), True
        record = case_record(self.plan, self.case, self.launch, "failed", None, started, self.visit)
        try:
            self._phases(limits, record, cost_probe, controls)
            record.status = "ok"
        except CaseEnd as end:
            record.status, record.reason = _STATUS[end.agreement.verdict], end.agreement.reason
            sound = end.agreement.sound
            self.breaks_contract = end.agreement.verdict is PhaseOutcome.CONTRACT
        except PutOff as off:
            return Postponement(off.seconds), sound
        finally:
            self.rank.tracer = None
            changed = state.restore()
        record.notes += [changed_note(changed)] if changed else []
        record.seconds = clocks.monotonic_seconds() - began
        return record, sound

    def call_untimed(self, read_log: Callable[[], str]) -> tuple[tuple[str, str] | None, bool]:
        """Prepare the case and call it a few times without timing; `read_log` gives what was logged since last asked.

        Returns what preparing it and its last call have logged, None if it could not be called, and whether this
        generation can go on. Raises Broken if the ranks cannot meet any more.
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

    def _phases(
        self, limits: Limits, record: Measurement, cost_probe: CostProbe, controls: VisitControls | None
    ) -> None:
        with self._prepare() as work:
            record.work = work_facts(work)
            record.notes = [*work.notes, *emulation.notes(self.plan)]
            self._measure(work, limits, record, cost_probe, controls)

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

    def _measure(
        self,
        work: Work,
        limits: Limits,
        record: Measurement,
        cost_probe: CostProbe,
        controls: VisitControls | None,
    ) -> None:
        timing = cast("Timing", self.case.params.get("timing", "aligned"))
        clock = clock_for_work(self.rank.device.type, work.clock)
        cost_probe.begin_check()
        self._check(work, "check before", record)
        if self.allowance.is_dear:
            work = main_variant_only(work)
            record.notes.append(DEAR_NOTE)
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
                if controls is not None:
                    controls.sample(0.5)
                sampler = Sampler(self.rank, work, clock, timing, clocks.monotonic_seconds, calls, watch.look)
                samples = sampler.measure(limits)
                watch.end()
                if controls is not None:
                    controls.sample()
            self.calls = samples.calls
            self._judge_samples(work, samples, record)
            with self._voting("trace"):
                spans, call_ns = traced_pass(self.rank, work, watch.look)
        if work.check_after:
            self._check(work, "check after", record)
        joules = None if self.visit or self.allowance.is_dear else self._energy(work, clock, samples, limits)
        with self._voting("gather"):
            record.variants = gather_samples(self.rank, samples.nanoseconds, samples.calls)
            if controls is not None and any(controls.nanoseconds.values()):
                record.controls = gather_samples(self.rank, controls.nanoseconds, {})
            if joules is not None:
                record.energy = energy.combine(control.gather(self.rank, joules, energy.RankEnergy))
                record.notes += energy.energy_notes(record.energy)
            intervals_seen = control.gather(self.rank, watch.interval(), interference_probe.RankInterval)
            record.disturbance = interference_probe.combine(intervals_seen)
            record.stop = Stop(
                reason=samples.stop_reason,
                half_width=samples.half_width,
                warmup_calls=samples.warmup_rounds,
                samples=samples.num_rounds,
            )
            self._gather_rest(work, samples, record, spans, call_ns)
        self._profile(work, record)

    def _profile(self, work: Work, record: Measurement) -> None:
        """Write the profiler's trace, after everything is measured: the profiler slows the case, and stays loaded."""
        if self.trace_path is None:
            return
        align = make_alignment(self.rank, clock_for_work(self.rank.device.type, "host"))
        with self._voting("profile"):
            torch_profile.write_trace(work, self.rank, align, self.trace_path)
            names = control.gather_json(self.rank, self.trace_path.name)
        if names is not None:
            record.profile = torch_profile.profile_record(names, self.trace_path.parent)

    def _ask_memory(self) -> None:
        """Agree on the memory that every rank can have, by which suites decide alike. Raise Skip if it is too small."""
        release_cached_memory(self.rank.device)
        available = available_memory_bytes(self.rank.device, self.rank.local_world_size)
        least = -control.maxima(self.rank, [-available])[0]
        machine = self.rank.machine = replace(self.rank.machine, memory_bytes=least)
        needed = self.suite.memory_bytes(dict(self.case.params), machine)
        if needed is not None and needed > machine.memory_bytes:
            raise Skip(f"needs {needed / 2**30:.2f} GiB per rank, and {least / 2**30:.2f} GiB are free on some rank")

    def _check(self, work: Work, phase: str, record: Measurement) -> None:
        """Run the case's check on all ranks; the worst rank's error decides, and is kept either way."""
        with self._voting(phase):
            check = to_check(work.check, work.check())
        with self._voting(f"{phase}, compared"):
            checks = control.all_gather(self.rank, check_outcome(check), CheckOutcome)
        worst = max(checks, key=excess_error)
        if record.check is None:
            record.check = worst
        else:
            record.check.error_after = worst.error
        if excess_error(worst) <= 0:
            return
        text = "not a number" if worst.error is None else f"{worst.error:.3g}"
        self._end_invalid(
            f"{phase}: error {text} on rank {checks.index(worst)} is above the tolerance {worst.tolerance:.3g}"
        )

    def _judge_samples(self, work: Work, samples: Samples, record: Measurement) -> None:
        """End the case as invalid if any rank's clock is wrong, or if a timed call left anything wrong."""
        main = next(iter(work.variants))
        if main not in work.timed_checks:
            record.notes.append(UNLOOKED_NOTE)
        with self._voting("samples, compared"):
            reports = control.all_gather(self.rank, sample_report(samples, main), SampleReport)
        check = record.check
        assert check is not None, "the check before the samples was kept"
        looked = [report for report in reports if report.error is not None or report.num_looked]
        check.timed_samples = min((report.num_looked for report in looked), default=0)
        worst = max(reports, key=SampleReport.excess)
        check.error_timed = worst.error if looked else None
        for rank, report in enumerate(reports):
            if report.clock_trouble:
                self._end_invalid(f"clock of rank {rank}: {report.clock_trouble}")
        if worst.excess() > 0:
            text = "not a number" if worst.error is None else f"{worst.error:.3g}"
            self._end_invalid(
                f"a timed call left error {text} on rank {reports.index(worst)}, above the tolerance "
                f"{worst.tolerance:.3g} ({worst.at})"
            )
        for rank, report in enumerate(reports):
            if report.shortcut:
                self._end_invalid(f"rank {rank}: {report.shortcut}")

    def _end_invalid(self, reason: str) -> None:
        raise CaseEnd(Agreement(PhaseOutcome.INVALID, reason, sound=True))

    def _energy(self, work: Work, clock: clocks.Clock, samples: Samples, limits: Limits) -> energy.RankEnergy:
        with self._voting("energy"):
            return measure_energy(self.rank, work, clock, samples, limits, self.idle, self.watchdog.allow)

    def _gather_rest(
        self, work: Work, samples: Samples, record: Measurement, spans: list[Span], call_ns: list[int]
    ) -> None:
        medians = {
            name: intervals.median(totals) / samples.calls[name] / 1e9 for name, totals in samples.nanoseconds.items()
        }
        figures = None if work.per_rank is None else to_figures(work.per_rank, work.per_rank())
        own = RankReport(
            spans, call_ns, medians, figures, samples.launch_ns, samples.num_late, host_launches.launch_notes(samples)
        )
        reports = control.gather(self.rank, own, RankReport)
        if reports is None:
            return
        record.spans = [span for report in reports for span in report.spans]
        record.traced_call_ns = [report.call_ns for report in reports]
        if work.traced_variants:
            record.traced_variants = [name for name in work.traced_variants for _ in range(work.traced_calls)]
        record.notes += dict.fromkeys(note for report in reports for note in report.notes)
        record.launch_ns = {name: [report.launch_ns[name] for report in reports] for name in samples.launch_ns}
        record.num_late = {name: [report.num_late[name] for report in reports] for name in samples.num_late}
        record.per_rank = [report.figures for report in reports if report.figures is not None]
        observed = observe(self.rank, samples, record, [report.medians for report in reports])
        if work.derive is not None:
            derived = to_derived(work.derive, work.derive(observed), self.suite.metrics)
            record.derived = {name: finite_or_none(value) for name, value in derived.items()}
        if work.tables is not None:
            tables = to_tables(work.tables, work.tables(observed))
            record.tables = {name: table_rows(table) for name, table in tables.items()}

    @contextmanager
    def _voting(self, phase: str) -> Iterator[None]:
        """Run a phase, then vote on it; leaves through CaseEnd if any rank skipped or raised."""
        self.watchdog.enter(phase)
        verdict, reason = PhaseOutcome.OK, None
        try:
            yield
        except Skip as skip:
            verdict, reason = PhaseOutcome.SKIP, str(skip) or "the suite gave no reason"
        except ContractError as error:
            verdict, reason = PhaseOutcome.CONTRACT, str(error)
        except BaseException as error:  # noqa: BLE001 - whatever a case raises, it is failed, and the run goes on
            verdict, reason = (
                PhaseOutcome.RAISED,
                f"rank {self.rank.index} ({self.host}), {phase}: {describe_error(error)}",
            )
        agreement = self.poll.agree(phase, verdict, reason)
        if agreement.verdict is not PhaseOutcome.OK:
            raise CaseEnd(agreement)
