"""Looks at what timed collectives leave: outputs that are spoilt before a sample, and compared at some places after it.

A look is cheap, since it comes between samples: it asks whether any element is still spoilt, and compares up to 4,096
elements, spread over the output, with what they have to be. The checks before and after the samples compare all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from bench.suite import Check, TimedCheck
from bench.workloads.comm.collectives import Buffers, Collective, Payload
from bench.workloads.comm.exact_check import PERIOD, POISON, Segment, pattern_at, poison

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext

NUM_PLACES = 4096
GROWN_TOLERANCE = 0.25
"""Relative error of a sum that was summed again up to 31 times, in a type of few digits; one call too few halves it."""


def timed_check(row: Collective, payload: Payload, buffers: Buffers) -> TimedCheck:
    """The look at a collective's timed calls on one rank, whose inputs hold the rank's own test data."""
    expected = row.expected(payload)
    spots = cache(partial(_Spots, row, payload, buffers, expected))
    if row.reduces_in_place:
        # What restores the input before the sample spoils the output too: it is another number there.
        return TimedCheck(arm=_nothing, look=lambda calls: spots().summed_error(calls))
    is_source = row.output is None and payload.at_root
    return TimedCheck(
        arm=_nothing if is_source or not expected else partial(poison, buffers.output),
        look=lambda calls: spots().error() if expected else Check(0.0, 0.0),
    )


def barrier_check(rank: RankContext) -> TimedCheck:
    """The look at timed barriers, which leave no data: the group counts what it was given.

    `_get_sequence_number_for_group` is torch's own count of a group's collectives, on gloo and on NCCL.
    """
    before, group = [0], cast("Any", rank.group)

    def count() -> int:
        return int(group._get_sequence_number_for_group())

    def arm() -> None:
        before[0] = count()

    def look(calls: int) -> Check:
        # One more is the alignment of the ranks before the sample.
        missing = before[0] + calls + 1 - count()
        return Check(float(max(0, missing)), 0.0)

    return TimedCheck(arm, look)


def received_check(output: torch.Tensor, source: int, num_ranks: int) -> TimedCheck:
    """The look at a timed message: the output has to hold the test data of the rank `source`."""
    expected = [Segment((source,), 0, len(output))]
    spots = cache(partial(_Places, output, expected, num_ranks))
    return TimedCheck(arm=partial(poison, output), look=lambda calls: spots().error())


def combined_check(*checks: TimedCheck) -> TimedCheck:
    """The look at several outputs of one call: all are spoilt, and the worst counts."""

    def arm() -> None:
        for check in checks:
            check.arm()

    def look(calls: int) -> Check:
        found = [Check(*check.look(calls)) for check in checks]
        return max(found, key=lambda check: math.inf if math.isnan(check.error) else check.error - check.tolerance)

    return TimedCheck(arm, look)


class _Places:
    """Places of an output, and the whole numbers that have to be there."""

    def __init__(self, output: torch.Tensor, expected: Sequence[Segment], num_ranks: int) -> None:
        import torch

        length = len(output)
        self.output, self.num_ranks = output, num_ranks
        self.is_defined = bool(expected)
        count = min(NUM_PLACES, length)
        self.places = torch.linspace(0, length - 1, count, dtype=torch.float64, device=output.device).round().long()
        self.expected = _expected_at(expected, self.places, num_ranks) if expected else self.places[:0]

    def error(self) -> Check:
        """Largest difference at the places; at least 1 if an element is still spoilt."""
        found = self.output[self.places].double()
        worst = (found - self.expected.double()).abs().max()
        spoilt = (self.output == POISON).any()
        return Check(max(float(worst), float(spoilt)), 0.0)


class _Spots(_Places):
    """Places of a collective's output, which may be the sum of its input in place."""

    def __init__(self, row: Collective, payload: Payload, buffers: Buffers, expected: Sequence[Segment]) -> None:
        super().__init__(buffers.output, expected, payload.num_ranks)
        self.is_rooted = row.is_rooted
        self.own = pattern_at((payload.index,), payload.num_ranks, self.places % PERIOD)
        self.differs = self.expected != self.own if expected else self.places[:0].bool()

    def summed_error(self, calls: int) -> Check:
        """Error of a sum in place after so many calls, of which each sums what the last one left."""
        if not self.is_defined or not bool(self.differs.any()):
            return Check(0.0, 0.0)
        if calls == 1:
            return Check(float((self.output[self.places].double() - self.expected.double()).abs().max()), 0.0)
        if (
            self.is_rooted
        ):  # the other ranks' inputs are undefined after a call: it is seen that the root's are replaced
            kept = self.output[self.places].double() == self.own.double()
            return Check(float(kept[self.differs].double().mean()), 0.5)
        return self._grown_error(calls)

    def _grown_error(self, calls: int) -> Check:
        """Relative error of a sum over n ranks that was summed again: n times as much with every further call."""
        import torch

        found = self.output[self.places]
        if found.dtype == torch.int32:  # wraps around
            wanted = (self.expected * pow(self.num_ranks, calls - 1, 2**32) + 2**31) % 2**32 - 2**31
            return Check(float((found.long() - wanted).abs().max()), 0.0)
        largest = torch.finfo(found.dtype).max
        wanted = (self.expected.double() * float(self.num_ranks) ** (calls - 1)).clamp(-largest, largest)
        # A type of few digits runs over: infinity is as good as its largest number.
        seen = found.double().clamp(-largest, largest)
        return Check(float(((seen - wanted).abs() / wanted.abs().clamp_min(1.0)).max()), GROWN_TOLERANCE)


def _expected_at(segments: Sequence[Segment], places: torch.Tensor, num_ranks: int) -> torch.Tensor:
    """[place] int64: the sum of the sources' test data at each place of the output that the segments cover in order."""
    import torch

    parts, begin = [], 0
    for segment in segments:
        inside = places[(places >= begin) & (places < begin + segment.length)] - begin
        parts.append(pattern_at(segment.sources, num_ranks, (inside + segment.start) % PERIOD))
        begin += segment.length
    return torch.cat(parts)


def _nothing() -> None:
    return None
