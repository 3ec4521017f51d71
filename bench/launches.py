"""How long the host takes to launch a sample on a device, as learnt in warm-up; and the notes where it is too long.

On a device's clock a call that the host launches more slowly than the device works is timed as the device's alone, as
far as the filler of `bench.alignment` reaches: training, whose host is seldom so far ahead, is then slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import statistics
from bench.alignment import GUESSED_HOST_SECONDS, MAX_FILL_SECONDS

if TYPE_CHECKING:
    from bench.measure import Samples

HOST_BOUND = (
    "host-bound: the host takes longer to launch a call than the device to do it, which training feels wherever the "
    "host is not ahead (torch.compile and CUDA graphs save launches)"
)
LAUNCHES_TIMED = f"the host takes over {MAX_FILL_SECONDS * 1e3:g} ms to launch a sample: its time holds launches"


class Launches:
    """What the host takes to enqueue one variant's sample."""

    def __init__(self) -> None:
        self.sample_seconds = GUESSED_HOST_SECONDS
        """With the alignment before it: so long the device has to be kept busy."""
        self._seen: list[tuple[float, float]] = []

    def learn(self, began: float, aligned: float, ended: float) -> None:
        """Take in the times of one sample: the shortest counts, since a first call is cold, and later ones are now and
        then interrupted."""
        self._seen.append((ended - began, ended - aligned))
        self.sample_seconds = min(whole for whole, _ in self._seen)

    def forget(self, calls: int) -> None:
        """Begin anew with samples of so many calls, in place of one."""
        self.sample_seconds *= calls
        self._seen.clear()

    def call_ns(self, marks_seconds: float, calls: int) -> int:
        """Nanoseconds of one call, without the two marks around its sample."""
        least = min((sample for _, sample in self._seen), default=0.0)
        return round(max(0.0, least - marks_seconds) * 1e9 / calls)


def notes(samples: Samples) -> list[str]:
    """What is to be said of the case itself, its first variant, where the host does not keep up with a rank's device.

    Empty on a CPU, and where the host's clock times the case: the launches are then part of it by intent.
    """
    main, totals = next(iter(samples.nanoseconds.items()))
    launch_ns, calls = samples.launch_ns.get(main, 0), samples.calls[main]
    found = [HOST_BOUND] if launch_ns > statistics.median(totals) / calls else []
    return found + ([LAUNCHES_TIMED] if launch_ns * calls > MAX_FILL_SECONDS * 1e9 else [])
