"""The traced pass on a GPU, on streams whose work takes known times: a span is what holds the computation up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from bench.core.clock import Clock
from bench.measure.engine.passes import traced_pass
from bench.measure.engine.rank import Tracer
from bench.measure.engine.timing.alignment import Alignment
from bench.suite import COMMUNICATION, Span, Work
from bench.workloads.trace.communication import CommunicationTrace, record_communication
from tests.support.plans import lone_rank


@dataclass
class Event:
    at: int = -1


@dataclass
class Stream:
    """Work follows work; `done_at` is when all that was enqueued is done."""

    cuda_stream: int
    done_at: int = 0

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.at = self.done_at
        return event

    def wait_event(self, event: Event) -> None:
        self.done_at = max(self.done_at, event.at)

    def wait_stream(self, stream: Stream) -> None:
        self.wait_event(stream.record_event())


@dataclass
class Device:
    """Two streams, of which one is current, and a clock of events that counts how often it is waited for."""

    own: Stream = field(default_factory=lambda: Stream(0))
    side: Stream = field(default_factory=lambda: Stream(7))
    num_synchronised: int = 0
    is_busy: bool = True

    def __post_init__(self) -> None:
        self.current = self.own

    def works(self, duration: int) -> None:
        self.current.done_at += duration

    def _synchronise(self) -> None:
        self.is_busy = False
        self.num_synchronised += 1

    def clock(self) -> Clock:
        return Clock(
            "device",
            lambda: self.current.done_at,
            lambda start, end: end - start,
            self._synchronise,
            lambda mark: not self.is_busy,
        )

    def collective(self, trace: CommunicationTrace, duration: int, address: int) -> Event:
        """As FSDP2 does: launched and waited for on the side stream, then an event for the other stream."""
        self.current = self.side
        launch = trace.tracer.clock.mark()
        trace.hand_over("data", 64, address, object(), launch, is_message=False)
        start = trace.tracer.clock.mark()
        self.works(duration)
        trace.waited(address, start)
        self.current = self.own
        return self.side.record_event()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    fake = Device()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: fake.current)
    return fake


def recorded(tracer: Tracer) -> list[Span]:
    tracer.calls.append((0, 0))
    return tracer.spans()


def test_a_side_stream_s_wait_is_hidden_until_the_own_stream_waits_for_it(device: Device) -> None:
    tracer = Tracer(0, device.clock())
    with record_communication(tracer, {}) as trace:
        first = device.collective(trace, 25, 1)
        device.works(10)
        assert tracer.marks == []
        device.own.wait_event(first)
        device.own.wait_event(first)  # done: no second standing still
        device.works(10)
        device.side.done_at = 30
        hidden = device.collective(trace, 5, 2)  # from 30 to 35, while the own stream works from 35 to 45
        device.works(10)
        device.own.wait_event(hidden)
        device.own.wait_event(Event(at=99))  # of no communication, such as a copy
    spans = recorded(tracer)
    assert [(s.kind, s.start_ns, s.duration_ns, s.launch_ns, s.sequence, s.num_bytes, s.axis) for s in spans] == [
        (COMMUNICATION, 10, 15, 0, 0, 64, "data"),
        (COMMUNICATION, 45, 0, 30, 1, 64, "data"),
    ]


def test_waiting_for_a_whole_stream_is_the_same(device: Device) -> None:
    tracer = Tracer(0, device.clock())
    with record_communication(tracer, {}) as trace:
        device.collective(trace, 25, 1)
        device.side.wait_stream(device.own)  # the other way round: nobody stands still
        device.own.wait_stream(device.side)
    assert [(span.start_ns, span.duration_ns) for span in recorded(tracer)] == [(0, 25)]
    assert Stream.wait_event.__qualname__ == "Stream.wait_event"  # put back


def test_what_the_own_stream_waits_for_at_once_is_a_span_at_once(device: Device) -> None:
    tracer = Tracer(0, device.clock())
    with record_communication(tracer, {}) as trace:
        trace.hand_over("tensor", 8, 1, object(), tracer.clock.mark(), is_message=False)
        start = tracer.clock.mark()
        device.works(4)
        trace.waited(1, start)
    assert [(span.axis, span.duration_ns) for span in recorded(tracer)] == [("tensor", 4)]


@pytest.mark.parametrize("times_the_case", ["host", "device"])
def test_spans_on_a_gpu_are_of_its_own_clock_whatever_times_the_case(
    device: Device, times_the_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def for_work(device_type: str, kind: str) -> Clock:
        assert device_type == "cuda"
        assert kind == "device", "a host's clock waits for the device at every mark"
        return device.clock()

    monkeypatch.setattr(traced_pass, "clock_for_work", for_work)
    monkeypatch.setattr(traced_pass, "make_alignment", lambda rank, clock: Alignment(lambda: None))
    rank: Any = lone_rank()
    rank.device = torch.device("cuda", 0)

    def step() -> None:
        for _ in range(2):
            with rank.span("forward"):
                device.works(3)
        device.works(1)

    work = Work(variants={"full": step}, check=lambda: (0.0, 0.0), clock=times_the_case, traced_calls=3)
    looks: list[bool] = []
    spans, call_ns = traced_pass.traced_pass(rank, work, lambda is_busy: looks.append(is_busy()))
    assert [span.duration_ns for span in spans] == [3] * 6
    assert call_ns == [7, 7, 7]
    assert device.num_synchronised == 1
    assert looks == [True]  # once, before the device is waited for
