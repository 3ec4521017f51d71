"""Makes one machine behave as a mixed one: chosen ranks compute, or communicate, at a share of their speed.

A rank at speed s waits, after each part of its own work, for (1/s - 1) times what that part took. On a CPU a part has
taken the CPU-seconds of the thread that ran it: wall time would also count what other processes took from the core,
and slow the rank by up to a third too much. On CUDA the wait is a kernel on the same stream (`torch.cuda._sleep`), as
long as the part took when it was last known to be done, so that the host never waits for it.

A part is a span that a suite marks (`rank.span`), of the outermost ones those that are not communication; if a call
has no span at all, and the work is computation, the whole call. Communication waits *before* each message or
collective, so that the peers wait too, as they do at a slow link. The wait goes by what the last one of its kind took.
On a CPU that is the CPU-seconds of the whole process, whose threads do the copying, on CUDA the shortest time seen,
which has the least waiting for peers in it.

A waiting rank leaves its core to others: an emulation is only right if no more ranks are busy than there are cores.
All of it is an emulation, and is called so in the result file, the architecture's name and the notes of every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bench.core import clock
from bench.errors import Skip
from bench.records.environments import emulation_label
from bench.records.lines.header import RankFacts
from bench.suite import COMMUNICATION

if TYPE_CHECKING:
    import torch

    from bench.measure.planning.plan import Plan
    from bench.suite import Work


class EmulatedSpeeds(NamedTuple):
    """Shares of its speed at which a rank works, as the environment records them; None: at its full speed."""

    emulated_speed: float | None
    emulated_link_speed: float | None


def planned_speeds(plan: Plan, rank: int) -> EmulatedSpeeds:
    """Return the speeds that the environment records for a rank."""
    return _reduced_speeds(dict(plan.slow).get(rank, 1.0), dict(plan.slow_links).get(rank, 1.0))


def rank_speeds(speed: RankSpeed | None) -> EmulatedSpeeds:
    """Return the speeds to record for a rank, from the object that slows it."""
    return _reduced_speeds(1.0, 1.0) if speed is None else _reduced_speeds(speed.compute_speed, speed.link_speed)


def _reduced_speeds(compute_speed: float, link_speed: float) -> EmulatedSpeeds:
    return EmulatedSpeeds(*(speed if speed < 1.0 else None for speed in (compute_speed, link_speed)))


def notes(plan: Plan) -> list[str]:
    """The footnote of every case of a run with an emulation."""
    ranks = [RankFacts(rank=rank, **planned_speeds(plan, rank)._asdict()) for rank in range(plan.world_size)]
    text = emulation_label(ranks).strip(" ()")
    return [f"{text} of its speed"] if text else []


class RankSpeed(Protocol):
    """The speed at which one rank works."""

    seen: bool
    """Set by every marked part: a call that marks none is one part as a whole."""
    link_seen: bool
    """Set by every marked communication."""
    compute_speed: float
    link_speed: float

    def part(self, kind: str, stage: int | None = None) -> Any: ...


@dataclass
class CpuSpeed:
    """Slows a rank on a CPU by waits that follow CPU-seconds. The clocks are arguments, for tests."""

    compute_speed: float = 1.0
    link_speed: float = 1.0
    thread_seconds: Callable[[], float] = clock.thread_cpu_seconds
    process_seconds: Callable[[], float] = clock.process_cpu_seconds
    wait: Callable[[float], None] = clock.wait_seconds
    seen: bool = False
    link_seen: bool = False
    _depth: int = 0
    _elsewhere: float = 0.0
    """CPU-seconds of this thread in communication since the outermost part began."""
    _last: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, kind: str, stage: int | None = None) -> Iterator[None]:
        if kind == COMMUNICATION:
            with self._communication(kind):
                yield
        elif self._depth:
            yield
        else:
            with self._computation():
                yield

    @contextmanager
    def _computation(self) -> Iterator[None]:
        self.seen = True
        self._depth, self._elsewhere = 1, 0.0
        began = self.thread_seconds()
        try:
            yield
        finally:
            self._depth = 0
            seconds = self.thread_seconds() - began - self._elsewhere
            if self.compute_speed < 1.0:
                self.wait(seconds * (1.0 / self.compute_speed - 1.0))

    @contextmanager
    def _communication(self, kind: str) -> Iterator[None]:
        self.seen = self.link_seen = True
        if self.link_speed < 1.0:
            self.wait(self._last.get(kind, 0.0) * (1.0 / self.link_speed - 1.0))
        thread_began, process_began = self.thread_seconds(), self.process_seconds()
        try:
            yield
        finally:
            self._elsewhere += self.thread_seconds() - thread_began
            self._last[kind] = self.process_seconds() - process_began


WARM_SECONDS = 0.3
"""Length of the work before a GPU's clock is measured: an idle GPU runs at a fifth of its speed or less."""
CALIBRATION_CYCLES = 20_000_000
"""Cycles of one calibration, about 10 ms at 2 GHz."""
MAX_CALIBRATIONS = 20
CALIBRATIONS_AGREE = 0.02
"""Two in a row that differ by no more are of a settled clock."""


def keep_busy(device: torch.device, seconds: float) -> None:
    """Matrix products for so long, after which a GPU's clocks are those of work."""
    import torch

    square = torch.ones(4096, 4096, device=device, dtype=torch.bfloat16)
    ends = clock.monotonic_seconds() + seconds
    while clock.monotonic_seconds() < ends:
        for _ in range(10):
            torch.mm(square, square)
        torch.cuda.synchronize(device)


def settle(measure: Callable[[], float]) -> float:
    """The last of two measurements in a row that agree within 2%; of at most 20 the last, whether it agrees or not."""
    last = measure()
    for _ in range(MAX_CALIBRATIONS - 1):
        before, last = last, measure()
        if abs(last - before) <= CALIBRATIONS_AGREE * before:
            break
    return last


LEAST_TIMED_CYCLES = 200_000
"""Shortest wait that is timed, about 0.1 ms: the events themselves take more than a percent of a shorter one."""


@dataclass
class CudaSpeed:
    """Slows a rank on a GPU by a waiting kernel on the current stream, as long as the part took when last known.

    The kernel counts cycles of a clock that falls by a fifth at the power cap (2.0 to 1.6 GHz on an H100), so each wait
    is timed, and the next ones are as many cycles as the clock had then.
    """

    device: torch.device
    compute_speed: float = 1.0
    link_speed: float = 1.0
    seen: bool = False
    link_seen: bool = False
    _cycles_per_second: float = field(init=False)
    _pending: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _timed_wait: tuple[int, Any, Any] | None = None
    """Cycles of a wait that has not been read yet, and the events around it."""
    _seconds: dict[str, float] = field(default_factory=dict)
    _depth: int = 0

    def __post_init__(self) -> None:
        keep_busy(self.device, WARM_SECONDS)
        self._cycles_per_second = settle(self._calibration)

    def _calibration(self) -> float:
        """Cycles per second of the device's clock, as it is now."""
        start, end = self._event(), self._event()
        self._sleep(1000)
        start.record()
        self._sleep(CALIBRATION_CYCLES)
        end.record()
        end.synchronize()
        return CALIBRATION_CYCLES / (float(start.elapsed_time(end)) / 1e3)

    def _event(self) -> Any:
        import torch

        return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def _sleep(self, cycles: int) -> None:
        import torch

        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]

    @contextmanager
    def part(self, kind: str, stage: int | None = None) -> Iterator[None]:
        is_link = kind == COMMUNICATION
        self.seen, self.link_seen = True, self.link_seen or is_link
        speed = self.link_speed if is_link else self.compute_speed
        if speed >= 1.0 or (self._depth and not is_link):
            yield
            return
        key = f"{kind} {stage}"
        self._learn(key, is_link)
        if is_link:
            self._delay(key, speed)
        self._depth += not is_link
        start, end = self._event(), self._event()
        start.record()
        try:
            yield
        finally:
            self._depth -= not is_link
            end.record()
            self._pending.setdefault(key, (start, end))
            if key not in self._seconds:  # only the first of its kind, which is a warm-up, is waited for
                end.synchronize()
                self._learn(key, is_link)
            if not is_link:
                self._delay(key, speed)

    def _learn(self, key: str, is_link: bool) -> None:
        pair = self._pending.get(key)
        if pair is None or not pair[1].query():
            return
        seconds = pair[0].elapsed_time(pair[1]) / 1e3
        shortest = self._seconds.get(key)
        self._seconds[key] = min(seconds, shortest) if is_link and shortest is not None else seconds
        del self._pending[key]

    def _delay(self, key: str, speed: float) -> None:
        self._learn_clock()
        cycles = round(self._seconds.get(key, 0.0) * (1.0 / speed - 1.0) * self._cycles_per_second)
        if self._timed_wait is not None or cycles < LEAST_TIMED_CYCLES:
            self._sleep(cycles)
            return
        start, end = self._event(), self._event()
        start.record()
        self._sleep(cycles)
        end.record()
        self._timed_wait = (cycles, start, end)

    def _learn_clock(self) -> None:
        """Take the device's clock from the last timed wait, once it is over."""
        if self._timed_wait is None or not self._timed_wait[2].query():
            return
        cycles, start, end = self._timed_wait
        self._cycles_per_second = cycles / (float(start.elapsed_time(end)) / 1e3)
        self._timed_wait = None


def make_rank_speed(device: torch.device, compute_speed: float = 1.0, link_speed: float = 1.0) -> RankSpeed:
    """Make the object that slows a rank on a device."""
    if device.type == "cpu":
        return CpuSpeed(compute_speed, link_speed)
    return CudaSpeed(device, compute_speed, link_speed)


def planned_rank_speed(plan: Plan, rank: int, device: torch.device) -> RankSpeed | None:
    """Make the speed of a rank by the plan; None if it is not slowed."""
    compute_speed, link_speed = planned_speeds(plan, rank)
    if compute_speed is None and link_speed is None:
        return None
    return make_rank_speed(device, compute_speed or 1.0, link_speed or 1.0)


def slow_down(work: Work, speed: RankSpeed | None) -> Work:
    """Return the work at a rank's speed: a call that marks no part of itself is one part as a whole."""
    if speed is None:
        return work
    moves_data = _moves_data(work)
    computes = work.flops is not None or work.memory_traffic_bytes is not None
    if not moves_data and not computes:
        return work
    kind = COMMUNICATION if moves_data else "call"
    return replace(work, variants={name: _slow_call(run, speed, kind) for name, run in work.variants.items()})


def _moves_data(work: Work) -> bool:
    """Return True if a call is one transfer, slowed as a whole."""
    return work.bus_factor is not None or work.bytes is not None


def _slow_call(run: Callable[[], object], speed: RankSpeed, kind: str) -> Callable[[], object]:
    if kind == COMMUNICATION:

        def communicate() -> None:
            with speed.part(kind):
                run()

        return communicate
    probe = _Probe(speed)

    def compute() -> None:
        probe.call(run)

    return compute


@dataclass
class _Probe:
    """Finds out, call by call, whether the work marks its own parts."""

    own: RankSpeed
    marks_parts: bool | None = None

    def call(self, run: Callable[[], object]) -> None:
        if self.marks_parts is None:
            self.own.seen = False
            run()
            self.marks_parts = self.own.seen
        elif self.marks_parts:
            run()
        else:
            with self.own.part("call"):
                run()


def refuse_unmarked_links(work: Work, speed: RankSpeed | None) -> None:
    """Raise Skip if this rank's link is to be slow and the work, called before, did not mark its messages."""
    is_slow = speed is not None and speed.link_speed < 1.0 and not speed.link_seen
    if is_slow and work.communicates and not _moves_data(work):
        raise Skip(
            "--slow-link: this case does not mark its communication, so that none of it can be slowed; a link that is "
            "slow for every case takes shaped ones (scripts/lab)"
        )
