"""Checks of time: the clock of a case is compared with a second one, and with times that are known.

The clock of a case is `time.perf_counter_ns`, or a device's events. The second clock is CLOCK_MONOTONIC_RAW, which the
kernel keeps without the corrections that the first one gets (clock_gettime(2)). A case is invalid if

- a sample is negative,
- the samples of a block sum to more than the block took,
- the two clocks differ by more than 1% and their resolution, over a block,
- a sample is longer than the time between two readings of the second clock around it, or half of them are shorter: a
  rank may be interrupted between a reading and its sample, but not in half of them,
- a device's events and the host's clock differ by more than that around a stream that is full,
- a call took less than the time that its parts wait, as far as the suite says so (`Work.least_seconds`).

All of it is read outside the timed part, on every rank for itself; the ranks compare afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.clock import Clock

MOST_DIFFERENCE = 0.01
"""Share by which two clocks may differ. The kernel steers the first one by up to 0.05% (adjtimex(2)). A program that
sets a clock right which is far off may change its tick by several percent for minutes: times are wrong by that then."""
EDGE_NS = 5_000
"""Time between the readings of the two clocks around one sample, and their resolution."""
GAP_NS, FEWEST_GAPS = 20_000, 5
"""Time that may lie between half of the samples and the readings around them, besides that of reading; and the number
of samples below which half of them say nothing."""
DEVICE_EDGE_NS = 100_000
"""Time between a device's event and the host's knowledge of it, as long as nothing interrupts the host."""
FILLED_SECONDS, FILLED_ATTEMPTS = 0.02, 3
"""Length of the filled stream, of which its edges are 1%; and how often it is tried to get narrow edges."""
READINGS = 5
"""Readings of both clocks at one edge; the one with the least time between them counts."""
NARROW_NS = 1_000


@dataclass(frozen=True)
class Reading:
    """One moment by both clocks, and the time for which they were read."""

    mark: Any
    witness_ns: int
    width_ns: int


@dataclass
class TimeCheck:
    """Compares the samples of a case on one rank with the second clock; `trouble` is the first thing that is wrong."""

    clock: Clock
    least_ns: Mapping[str, float] = field(default_factory=dict)
    """Variant -> nanoseconds that one call takes at least."""
    trouble: str = ""
    _began: Reading | None = None
    _outer: list[tuple[int, int]] = field(default_factory=list)
    _excess_gaps: list[float] = field(default_factory=list)
    """For each sample, how much longer than allowed the time around it is than the sample."""

    @property
    def witness(self) -> Callable[[], int] | None:
        return self.clock.witness

    def begin_block(self) -> None:
        self._outer.clear()
        self._began = None if self.witness is None else self._read(self.witness)

    def around(self, sample: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        """Take a sample between two readings of the second clock, if the first one is a host's too."""
        if self.witness is None or self.clock.name != "host":
            return sample()
        before = self.witness()
        marks = sample()
        self._outer.append((before, self.witness()))
        return marks

    def end_block(self, samples: Sequence[int]) -> None:
        """Check a block's samples, all its variants together, in the order taken; the device has come to an end."""
        ended = None if self.witness is None else self._read(self.witness)
        negative = min(samples, default=0)
        if negative < 0:
            self._note(f"a sample took {_milliseconds(negative)}: the clock went backwards")
        if self._began is None or ended is None:
            return
        self._compare_block(self._began, ended, sum(samples))
        self._compare_samples(samples, GAP_NS + 4 * max(self._began.width_ns, ended.width_ns))

    def _compare_block(self, began: Reading, ended: Reading, total_ns: int) -> None:
        whole = ended.witness_ns - began.witness_ns
        edge = began.width_ns + ended.width_ns + EDGE_NS
        if total_ns > whole * (1 + MOST_DIFFERENCE) + edge:
            took = f"the block that holds them took {_milliseconds(whole)}"
            self._note(f"samples sum to {_milliseconds(total_ns)}, and {took} by CLOCK_MONOTONIC_RAW")
        if self.clock.name == "host":
            self._compare(self.clock.elapsed_ns(began.mark, ended.mark), whole, edge, "a block")

    def _compare_samples(self, samples: Sequence[int], gap_ns: int) -> None:
        """A sample lies within its two readings; it may be shorter, since a rank can be interrupted between them."""
        for sample, (before, after) in zip(samples, self._outer, strict=False):
            outer = after - before
            self._excess_gaps.append(outer * (1 - MOST_DIFFERENCE) - sample - gap_ns)
            if sample > outer * (1 + MOST_DIFFERENCE) + EDGE_NS:
                self._note(
                    f"a sample took {_milliseconds(sample)} by the clock of the case, and at most "
                    f"{_milliseconds(outer)} by CLOCK_MONOTONIC_RAW"
                )

    def check_gaps(self) -> None:
        """Compare the samples with the time around them, in which half of them cannot have been interrupted."""
        if len(self._excess_gaps) >= FEWEST_GAPS and median(self._excess_gaps) > 0:
            lost = _milliseconds(median(self._excess_gaps))
            self._note(
                f"half of the samples are shorter by the clock of the case than by CLOCK_MONOTONIC_RAW, by {lost} more "
                "than the readings take"
            )

    def check_least(self, variant: str, samples: Sequence[int], calls: int) -> None:
        """Compare samples with the time that the variant's calls wait, which no clock can shorten."""
        least = self.least_ns.get(variant)
        if least is None or not samples:
            return
        shortest = min(samples) / calls
        if shortest < least * (1 - MOST_DIFFERENCE):
            waits = f"its parts wait {_milliseconds(least)}"
            self._note(f"a call of {variant} took {_milliseconds(shortest)} by the clock, and {waits}")

    def check_device(self, fill: Callable[[], object]) -> None:
        """Compare a device's events with the host's clock around a stream that `fill` keeps full for 20 ms.

        The host asks again and again if the device has come to an event, so that it knows a time before it and one
        after. An interruption only moves these apart, and it is tried again.
        """
        if self.witness is None or self.clock.name == "host":
            return
        for _ in range(FILLED_ATTEMPTS):
            device, least, most = self._filled(fill, self.witness)
            if not _agree(device, max(least, min(device, most)), DEVICE_EDGE_NS):
                self._compare(device, max(least, min(device, most)), DEVICE_EDGE_NS, "a full stream")
                return
            if _agree(least, most, DEVICE_EDGE_NS):
                return

    def _filled(self, fill: Callable[[], object], witness: Callable[[], int]) -> tuple[int, int, int]:
        """Nanoseconds of a filled stream: by the device's events, and at least and at most by the host's clock."""
        self.clock.synchronise()
        fill()  # while it lasts, the host enqueues the rest
        before_start, start = witness(), self.clock.mark()
        fill()
        before_end, end = witness(), self.clock.mark()
        started, ended = self._reached(start, before_start, witness), self._reached(end, before_end, witness)
        self.clock.synchronise()
        return self.clock.elapsed_ns(start, end), ended[0] - started[1], ended[1] - started[0]

    def _reached(self, mark: Any, before: int, witness: Callable[[], int]) -> tuple[int, int]:
        """Times between which the device comes to a mark; it had not yet at `before`."""
        while True:
            asked = witness()
            if self.clock.reached(mark):
                return before, witness()
            before = asked

    def _compare(self, own_ns: int, witness_ns: int, edge_ns: int, of: str) -> None:
        if not _agree(own_ns, witness_ns, edge_ns):
            own = "events" if self.clock.name == "device" else "the clock of the case"
            self._note(
                f"{of} took {_milliseconds(own_ns)} by {own}, and {_milliseconds(witness_ns)} by CLOCK_MONOTONIC_RAW"
            )

    def _read(self, witness: Callable[[], int]) -> Reading:
        best: Reading | None = None
        for _ in range(READINGS):
            before, mark, after = witness(), self.clock.mark(), witness()
            if best is None or after - before < best.width_ns:
                best = Reading(mark, (before + after) // 2, after - before)
            if best.width_ns <= NARROW_NS:
                break
        assert best is not None
        return best

    def _note(self, text: str) -> None:
        self.trouble = self.trouble or text


def _agree(own_ns: int, witness_ns: int, edge_ns: int) -> bool:
    return abs(own_ns - witness_ns) <= MOST_DIFFERENCE * max(abs(own_ns), witness_ns) + edge_ns


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.4g} ms"
