"""The clock of a device: events on its stream; and which clock a Work is timed by."""

from __future__ import annotations

from bench.core.clock import Clock, cpu_clock, device_clock, synchronised_host_clock


def cuda_event_clock() -> Clock:
    """CUDA (or HIP) events on the current stream; resolution about 0.5 microseconds (CUDA runtime API, events)."""
    import torch

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def elapsed_ns(start: torch.cuda.Event, end: torch.cuda.Event) -> int:
        return round(float(start.elapsed_time(end)) * 1e6)

    def reached(event: torch.cuda.Event) -> bool:
        return bool(event.query())  # type: ignore[no-untyped-call]

    return device_clock(mark, elapsed_ns, torch.cuda.synchronize, reached)


def clock_for_work(device_type: str, kind: str) -> Clock:
    """The clock for a Work on a device: `kind` is the Work's own choice, `device` or `host`."""
    if device_type == "cpu":
        return cpu_clock()
    import torch

    return cuda_event_clock() if kind == "device" else synchronised_host_clock(torch.cuda.synchronize)
