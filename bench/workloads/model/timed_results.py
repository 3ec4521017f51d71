"""Looks at what timed calls of a model left: results that a call returns, or that a step leaves in its parameters.

Both are spoilt before, compared with a sketch of a call that the check before the samples has made, and dropped.
Importing this module imports torch: suites import it inside `prepare`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from bench.suite import Check, TimedCheck
from bench.workloads.model.output_sketch import MISSING, OutputSketch, Shape, spoil, spoil_free_memory


def nothing() -> None:
    return None


SPOT_DISTANCE = 1025
"""Elements between two spots of a large buffer: a page of float32."""


class KeptResults:
    """A call whose results are kept in the samples that are looked at, and dropped at once in all others.

    `before` spoils what the call writes and what stays from call to call, `left` gives what it leaves besides its
    results. `fresh` are the shapes of further tensors that it allocates, such as what it receives. `compares=False`:
    the numbers are undefined, and all that is asked is whether the results are there. `is_fresh=False`: some results
    stay from call to call, and are not written by all.
    """

    def __init__(
        self,
        call: Callable[[], Sequence[Tensor] | Tensor],
        *,
        before: Callable[[], object] = nothing,
        fresh: Iterable[Shape] = (),
        left: Callable[[], Sequence[Tensor]] = lambda: (),
        compares: bool = True,
        is_fresh: bool = True,
    ) -> None:
        self.call, self.before, self.fresh, self.left = call, before, tuple(fresh), left
        self.compares, self.is_fresh = compares, is_fresh
        self.sketch: OutputSketch | None = None
        self.is_armed = False
        self.results: list[Tensor] | None = None

    def __call__(self) -> None:
        if not self.is_armed:
            self.call()
            return
        self.results = None
        self.results = _listed(self.call())

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def learn(self, results: Sequence[Tensor] | Tensor) -> None:
        """Take the results of a call that is compared with its reference as what timed calls have to give."""
        self.sketch = OutputSketch([*_listed(results), *self.left()])

    def learn_once(self) -> None:
        """Make a call of its own to learn from, outside the samples; nothing if there was one."""
        if self.sketch is None:
            self.before()
            self.learn(self.call())

    def arm(self) -> None:
        assert self.sketch is not None, "a check comes first"
        self.is_armed = True
        self.before()
        spoil_free_memory(self.sketch.shapes, self.fresh)

    def look(self, calls: int) -> Check:
        assert self.sketch is not None
        results, self.results, self.is_armed = self.results, None, False
        if results is None:
            return Check(MISSING, self.sketch.tolerance)
        found = [*results, *self.left()]
        undefined = Check(0.0 if self.sketch.fits(found) else MISSING, self.sketch.tolerance)
        check = self.sketch.check(found) if self.compares else undefined
        if self.is_fresh:
            spoil(results)  # a call that returned them again would be seen at the next look
        return check


class StepResults(NamedTuple):
    """Outputs of a step as they are now; None for one that is not there."""

    fixed: Sequence[Tensor | None] = ()
    """Outputs that every call replaces, such as losses."""
    summed: Sequence[Tensor | None] = ()
    """Outputs that every call adds to, such as gradients."""


class StepLooks:
    """Looks at a step that leaves gradients, losses and outputs behind it.

    `clear` removes them; `before` and `fresh` are those of KeptResults.
    """

    def __init__(
        self,
        run: Callable[[], object],
        results: Callable[[], StepResults],
        clear: Callable[[], object],
        *,
        before: Callable[[], object] = nothing,
        fresh: Iterable[Shape] = (),
    ) -> None:
        self.run, self.results, self.clear, self.before, self.fresh = run, results, clear, before, tuple(fresh)
        self.sketch: OutputSketch | None = None

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def learn(self) -> None:
        """Take what a checked call has left as what timed calls have to leave."""
        found = self.results()
        tensors = [tensor for tensor in (*found.fixed, *found.summed) if tensor is not None]
        assert len(tensors) == len(found.fixed) + len(found.summed), "a checked call leaves all of its outputs"
        self.sketch = OutputSketch(tensors)

    def learn_once(self) -> None:
        """Make a call of its own to learn from, outside the samples; nothing if there was one."""
        if self.sketch is None:
            self.clear()
            self.run()
            self.learn()
            self.clear()

    def arm(self) -> None:
        assert self.sketch is not None, "a check comes first"
        found = self.results()
        spoil([*found.fixed, *found.summed])
        self.clear()
        self.before()
        spoil_free_memory(self.sketch.shapes, self.fresh)

    def look(self, calls: int) -> Check:
        assert self.sketch is not None
        found = self.results()
        factors = [1.0] * len(found.fixed) + [float(calls)] * len(found.summed)
        return self.sketch.check([*found.fixed, *found.summed], factors)


class BufferLooks:
    """Looks at a call that writes all of some buffers, each time the same; `tolerance` is that of the sketch.

    A kernel that is bound by memory would take as long as a look at all that it writes. So only the elements that are
    compared are spoilt: 1,024 of each buffer, and one of 1,025 if that is more.
    """

    def __init__(self, *buffers: Tensor, tolerance: float | None = None) -> None:
        self.spots = [_spots(buffer) for buffer in buffers]
        self.tolerance = tolerance
        self.sketch: OutputSketch | None = None

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def learn(self) -> None:
        """Take what a checked call has written as what timed calls have to write."""
        self.sketch = OutputSketch(self.spots, self.tolerance, most=sys.maxsize)

    def arm(self) -> None:
        spoil(self.spots)

    def look(self, calls: int) -> Check:
        """Error of the spots; not a number if one of them is still spoilt."""
        assert self.sketch is not None, "a check comes first"
        return self.sketch.check(self.spots)


def _spots(buffer: Tensor) -> Tensor:
    """Elements at an odd distance, so that they do not all lie in one column of a matrix."""
    return buffer.view(-1)[:: min(SPOT_DISTANCE, buffer.numel() // SPOT_DISTANCE | 1)]


class Learns(Protocol):
    """Looks that a check has to prepare."""

    def learn_once(self) -> None: ...


def checked_with(calls: Iterable[Learns], check: Callable[[], Check]) -> Callable[[], Check]:
    """A check that, the first time, also takes down what calls leave that it does not compare itself."""

    def check_and_learn() -> Check:
        for call in calls:
            call.learn_once()
        return check()

    return check_and_learn


def _listed(results: Sequence[Tensor] | Tensor) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results)
