"""The table of collectives: how each is called, what it takes and gives, and what its output must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.parallelism.collectives import BUS_FACTORS
from bench.workloads.comm.exact_check import Segment

if TYPE_CHECKING:
    import torch

ROOT = 0


@dataclass(frozen=True)
class Payload:
    """Number of elements of a collective, and the rank whose view this is."""

    count: int
    num_ranks: int
    index: int

    @property
    def share(self) -> int:
        return self.count // self.num_ranks

    @property
    def at_root(self) -> bool:
        return self.index == ROOT

    @property
    def everyone(self) -> tuple[int, ...]:
        return tuple(range(self.num_ranks))

    def of_each(self, start: int) -> list[Segment]:
        """A share of every rank's input, from element `start` of it."""
        return [Segment((source,), start, self.share) for source in self.everyone]


@dataclass(frozen=True)
class Buffers:
    """Tensors of one rank; `output` is `input` if the operation works in place."""

    input: torch.Tensor
    output: torch.Tensor
    parts: list[torch.Tensor] | None
    """Views of the full buffer at the root of gather and scatter, one per rank."""


@dataclass(frozen=True)
class Collective:
    """One row: a collective, and what must be known of it to run it, check it and read its time."""

    bind: Callable[[Any, Buffers], Callable[..., Any]]
    """(torch.distributed, buffers) -> the collective with its tensors bound, so that a timed call looks
    nothing up."""
    input: Callable[[Payload], int]
    """Elements of a rank's input."""
    output: Callable[[Payload], int] | None
    """Elements of a rank's output; None: works in place."""
    expected: Callable[[Payload], Sequence[Segment]]
    """Segments that the rank's output must have, in order; none if it is undefined."""
    bus_factor: Callable[[int], float] | None
    """Bus bandwidth / algorithm bandwidth, by the number of ranks; None: moves no data."""
    reduces_in_place: bool = False
    """True: the result replaces an input, which must be restored before the next sample."""
    is_rooted: bool = False


def _either(dist: Any, new_name: str, old_name: str) -> Any:
    """torch renamed two collectives, and warns at every call under the old name."""
    return getattr(dist, new_name, None) or getattr(dist, old_name)


OPERATIONS: Mapping[str, Collective] = {
    "all_reduce": Collective(
        lambda dist, b: partial(dist.all_reduce, b.input),
        input=lambda p: p.count,
        output=None,
        expected=lambda p: [Segment(p.everyone, 0, p.count)],
        bus_factor=BUS_FACTORS["all_reduce"].at,
        reduces_in_place=True,
    ),
    "all_gather": Collective(
        lambda dist, b: partial(_either(dist, "all_gather_single", "all_gather_into_tensor"), b.output, b.input),
        input=lambda p: p.share,
        output=lambda p: p.count,
        expected=lambda p: p.of_each(0),
        bus_factor=BUS_FACTORS["all_gather"].at,
    ),
    "reduce_scatter": Collective(
        lambda dist, b: partial(_either(dist, "reduce_scatter_single", "reduce_scatter_tensor"), b.output, b.input),
        input=lambda p: p.count,
        output=lambda p: p.share,
        expected=lambda p: [Segment(p.everyone, p.index * p.share, p.share)],
        bus_factor=BUS_FACTORS["reduce_scatter"].at,
    ),
    "all_to_all": Collective(
        lambda dist, b: partial(dist.all_to_all_single, b.output, b.input),
        input=lambda p: p.count,
        output=lambda p: p.count,
        expected=lambda p: p.of_each(p.index * p.share),
        bus_factor=BUS_FACTORS["all_to_all"].at,
    ),
    "broadcast": Collective(
        lambda dist, b: partial(dist.broadcast, b.input, src=ROOT),
        input=lambda p: p.count,
        output=None,
        expected=lambda p: [Segment((ROOT,), 0, p.count)],
        bus_factor=BUS_FACTORS["broadcast"].at,
        is_rooted=True,
    ),
    "reduce": Collective(
        lambda dist, b: partial(dist.reduce, b.input, dst=ROOT),
        input=lambda p: p.count,
        output=None,
        expected=lambda p: [Segment(p.everyone, 0, p.count)] if p.at_root else [],
        bus_factor=BUS_FACTORS["reduce"].at,
        reduces_in_place=True,
        is_rooted=True,
    ),
    "gather": Collective(
        lambda dist, b: partial(dist.gather, b.input, b.parts, dst=ROOT),
        input=lambda p: p.share,
        output=lambda p: p.count if p.at_root else 0,
        expected=lambda p: p.of_each(0) if p.at_root else [],
        bus_factor=BUS_FACTORS["gather"].at,
        is_rooted=True,
    ),
    "scatter": Collective(
        lambda dist, b: partial(dist.scatter, b.output, b.parts, src=ROOT),
        input=lambda p: p.count if p.at_root else 0,
        output=lambda p: p.share,
        expected=lambda p: [Segment((ROOT,), p.index * p.share, p.share)],
        bus_factor=BUS_FACTORS["scatter"].at,
        is_rooted=True,
    ),
    "barrier": Collective(
        lambda dist, b: dist.barrier,
        input=lambda p: 0,
        output=None,
        expected=lambda p: [],
        bus_factor=None,
    ),
}
