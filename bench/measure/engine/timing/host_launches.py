"""The host's time to launch a sample on a device, learnt in warm-up, and the notes if it is too long.

On a device's clock a call that the host launches more slowly than the device works is timed as if only the device took
time, as far as the filler of `bench.measure.engine.timing.alignment` reaches. Training, whose host is seldom so far
ahead, is then slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.measure.engine.timing.alignment import GUESSED_HOST_SECONDS, MAX_FILL_SECONDS
from bench.stats import intervals

if TYPE_CHECKING:
    from bench.measure.engine.timing.sampler import Samples

HOST_BOUND = (
    "host-bound: the host takes longer to launch a call than the device to do it, which training feels wherever the "
    "host is not ahead (torch.compile and CUDA graphs save launches)"
)
LAUNCHES_TIMED = f"the host takes over {MAX_FILL_SECONDS * 1e3:g} ms to launch a sample: its time holds launches"
MATTERING_SHARE = 0.02
"""Share of a sample's time below which its launches spoil nothing, whenever the device waits for them."""
MAX_LATE_SHARE = 0.05
"""Share of samples that may hold launches without moving the median."""


class HostLaunches:
    """The host's time to enqueue one variant's sample, and the number of samples that it was late for.

    The host of a virtual machine takes now and then several times as long as at best (seen on an H100: a median of 30
    us for a product of 8 us). So each sample is asked whether its device had come to the start before the host had
    enqueued the end: then the device may have waited within it, and the filler grows until that is rare.
    """

    def __init__(self) -> None:
        self.num_late = 0
        """Late samples since the warm-up."""
        self._guess = GUESSED_HOST_SECONDS
        self._factor = 1.0
        self._late_now = 0
        self._seen: list[tuple[float, float]] = []

    @property
    def sample_seconds(self) -> float:
        """Host's time for a sample and its alignment, with room for a slow host: so long the device is kept
        busy."""
        least = min((whole for whole, _ in self._seen), default=self._guess)
        return min(least * self._factor, MAX_FILL_SECONDS)

    def learn(self, began: float, aligned: float, ended: float) -> None:
        """Take in the times of one sample: the shortest counts, since a first call is cold, and later ones are now and
        then interrupted."""
        self._seen.append((ended - began, ended - aligned))

    def note_late(self, is_late: bool) -> None:
        """Take in whether the device had come to a sample's start when the host had enqueued its end."""
        if len(self._seen) > 1:  # the first was filled for by a guess
            self._late_now += is_late

    def end_block(self, totals_ns: Sequence[int], calls: int) -> None:
        """Judge a block's late samples by the time that they took; grow the filler if they are many."""
        late, self._late_now = self._late_now, 0
        if self.call_ns(0.0, calls) * calls <= MATTERING_SHARE * intervals.median(totals_ns):
            return
        self.num_late += late
        if late > MAX_LATE_SHARE * len(totals_ns):
            self._factor = min(2 * self._factor, MAX_FILL_SECONDS / GUESSED_HOST_SECONDS)

    def begin_counting(self) -> None:
        """The warm-up is over: samples count from now on."""
        self.num_late = 0

    def forget(self, calls: int) -> None:
        """Begin again with samples of this many calls, in place of one."""
        self._guess = self.sample_seconds * calls
        self._seen.clear()

    def call_ns(self, marks_seconds: float, calls: int) -> int:
        """Nanoseconds of one call, without the two marks around its sample."""
        least = min((sample for _, sample in self._seen), default=0.0)
        return round(max(0.0, least - marks_seconds) * 1e9 / calls)


def launch_notes(samples: Samples) -> list[str]:
    """Return the notes on a case, by its first variant, if the host does not keep up with a rank's device.

    Empty on a CPU, and if the host's clock times the case: the launches are then part of it by intent.
    """
    main, totals = next(iter(samples.nanoseconds.items()))
    launch_ns, calls = samples.launch_ns.get(main, 0), samples.calls[main]
    lines = [HOST_BOUND] if launch_ns > intervals.median(totals) / calls else []
    if launch_ns * calls > MAX_FILL_SECONDS * 1e9:
        return [*lines, LAUNCHES_TIMED]
    late_share = samples.num_late.get(main, 0) / len(totals)
    if late_share > MAX_LATE_SHARE:
        lines.append(f"{late_share:.0%} of the samples may hold launches of the host: the median is an upper bound")
    return lines
