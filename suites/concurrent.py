"""Concurrent: collectives on several groups at once, as training makes them, against each group alone.

Training on a mesh of data x tensor parallel ranks runs collectives in both directions of the mesh at once: activations
within a tensor group, gradients within a data group. Their paths cross. `mesh`: tensor groups are `tensor` consecutive
ranks (of one host, if there are several), data groups the ranks of one position in them, and every rank starts both
of its collectives and waits for both (`full`). `same`: two groups of all the ranks, as where weights are gathered while
gradients are reduced; that has a meaning with 2 ranks too.

Variants, timed in turn: both axes until one of the two is done (`first_beside`, `second_beside`; the other is waited
for outside the timed part). Every group of one axis (`first`, `second`); each group by itself (`first_0`, `second_1`,
...), while all other ranks rest. The slow-down of a group is its time together with all the others over its time alone.
On an axis of more than 8 groups single ones are not timed, and alone means with its axis.

The check runs both axes at once with whole numbers and compares every element exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.measure.system.backends import resolve
from bench.suite import (
    Cell,
    Check,
    Machine,
    Observed,
    Params,
    Presets,
    Skip,
    SuiteMetric,
    Table,
    TimedCheck,
    Work,
    check_choices,
)
from bench.workloads.comm.async_collective import (
    DTYPES,
    OVERLAPPED,
    AsyncCollective,
    buffer_bytes,
    num_elements,
    prepare_collective,
)
from bench.workloads.comm.exact_check import CHECK_BYTES
from bench.workloads.comm.timed_outputs import combined_check

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

MIB = 2**20
MAX_GROUPS = 8
"""Groups of an axis that are also timed one by one."""
FIRST, SECOND = "first", "second"

DEFAULTS: Params = {"dtype": "float32", "first_op": "all_reduce", "second_op": "reduce_scatter", "timing": "aligned"}
CHOICES = {
    "op": ("mesh", "same"),
    "first_op": OVERLAPPED,
    "second_op": OVERLAPPED,
    "dtype": DTYPES,
    "timing": ("aligned",),
}
METRICS = {
    "first_slowdown": SuiteMetric(
        "x",
        "lower",
        "Time of a collective among all others over its time alone, of the first axis's group that loses most.",
    ),
    "second_slowdown": SuiteMetric(
        "x",
        "lower",
        "Time of a collective among all others over its time alone, of the second axis's group that loses most.",
    ),
    "gain_over_serial": SuiteMetric(
        "x", "higher", "Time of the two axes one after the other over the time of both at once."
    ),
}
SIZES = Presets(
    cpu={"smoke": (MIB,), "standard": (4 * MIB,), "full": (4 * MIB, 64 * 2**10, 32 * MIB)},
    cuda={"smoke": (64 * MIB,), "standard": (64 * MIB, MIB), "full": (64 * MIB, MIB, 512 * MIB)},
)


def cases(machine: Machine) -> Iterable[Params]:
    """Meshes of every shape, the most square first, then two groups of the same ranks."""
    dtype = resolve(machine.device_type, None).dtypes[0]
    for num_bytes in SIZES.at(machine):
        base: Params = {"num_bytes": num_bytes, "dtype": dtype}
        shapes = tensor_sizes(machine.world_size, machine.ranks_per_host)
        wanted = shapes if machine.preset == "full" else shapes[:1]
        yield from (base | {"op": "mesh", "tensor": tensor} for tensor in wanted)
        if machine.preset != "smoke" or not wanted:
            yield base | {"op": "same"}


def tensor_sizes(world_size: int, ranks_per_host: int) -> list[int]:
    """Sizes of a tensor group that leave at least two of them: a whole host first, then the most square mesh."""
    fitting = [size for size in range(2, world_size // 2 + 1) if world_size % size == 0]
    return sorted(fitting, key=lambda size: (size != ranks_per_host, abs(size - world_size // size), size))


def _checked(params: Params) -> str:
    """The type. Raises BenchError for a value that a parameter cannot take."""
    check_choices("concurrent", params, CHOICES)
    return str(params["dtype"])


def memory(params: Params, machine: Machine) -> int:
    """Bytes of both collectives' tensors and of the check. Raises BenchError for a bad value."""
    dtype, world_size = _checked(params), machine.world_size
    count = num_elements("concurrent", params, world_size)
    ops = [str(params[f"{axis}_op"]) for axis in (FIRST, SECOND)]
    return sum(buffer_bytes(op, count, dtype, world_size, machine.device_type) for op in ops) + CHECK_BYTES


@dataclass(frozen=True)
class AxisGroups:
    """The groups of the two axes; each rank is in one of each."""

    groups: Mapping[str, tuple[tuple[int, ...], ...]]

    def of(self, axis: str, rank: int) -> int:
        """Index of the rank's group on an axis."""
        return next(number for number, group in enumerate(self.groups[axis]) if rank in group)


def layout(params: Params, world_size: int) -> AxisGroups:
    """Raises Skip if the ranks make no such mesh."""
    everyone = tuple(range(world_size))
    if params["op"] == "same":
        return AxisGroups({FIRST: (everyone,), SECOND: (everyone,)})
    size = params.get("tensor")
    if isinstance(size, bool) or not isinstance(size, int) or not 1 < size < world_size or world_size % size:
        fits = tensor_sizes(world_size, world_size)
        raise Skip(
            f"tensor={size}: no mesh of {world_size} ranks with at least 2 groups of at least 2 on each axis; "
            + (f"tensor is one of {', '.join(map(str, sorted(fits)))}" if fits else "it takes 4 ranks")
        )
    tensor = tuple(everyone[start : start + size] for start in range(0, world_size, size))
    data = tuple(everyone[start::size] for start in range(size))
    return AxisGroups({FIRST: tensor, SECOND: data})


@dataclass
class Pending:
    """Collectives that a timed call has left running; they are waited for before the next."""

    works: list[Any] = field(default_factory=list)

    def finish(self) -> None:
        for work in self.works:
            work.wait()
        self.works.clear()


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad value, Skip for what has no meaning here."""
    dtype = _checked(params)
    count = num_elements("concurrent", params, rank.world_size)
    if rank.world_size < 2:
        raise Skip("needs at least 2 ranks: one alone has no other rank to exchange data with")
    if params["op"] == "same" and "tensor" in params:
        raise Skip(f"tensor={params['tensor']} has no meaning for two groups of the same ranks")
    shape = layout(params, rank.world_size)
    collectives = {axis: _started(axis, params, count, dtype, shape, rank) for axis in (FIRST, SECOND)}
    pending = Pending()

    def reset() -> None:
        pending.finish()
        for collective in collectives.values():
            collective.restore()

    variants = dict(_variants(collectives, shape, pending, rank))
    return Work(
        variants=variants,
        check=partial(_check, variants["full"], collectives, pending),
        reset=reset,
        timed_checks=_timed_checks(variants, collectives, pending),
        close=pending.finish,
        derive=partial(derive, shape),
        tables=partial(tables, shape),
        notes=_notes(shape),
    )


def _notes(shape: AxisGroups) -> tuple[str, ...]:
    words = [
        f"{axis}: {len(shape.groups[axis])} group(s) of {len(shape.groups[axis][0])} ranks" for axis in shape.groups
    ]
    crowded = [axis for axis, groups in shape.groups.items() if len(groups) > MAX_GROUPS]
    return ("; ".join(words), *(f"{axis}: more than {MAX_GROUPS} groups, alone is with the axis" for axis in crowded))


def _started(
    axis: str, params: Params, count: int, dtype: str, shape: AxisGroups, rank: RankContext
) -> AsyncCollective:
    """This rank's collective on an axis; every rank opens every group, in one order."""
    everyone = tuple(range(rank.world_size))
    opened = [
        rank.group if axis == FIRST and group == everyone else rank.subgroup(group) for group in shape.groups[axis]
    ]
    number = shape.of(axis, rank.index)
    ranks = shape.groups[axis][number]
    op = str(params[f"{axis}_op"])
    return prepare_collective(op, count, dtype, ranks, rank.index, rank.device, opened[number])


def _variants(
    collectives: Mapping[str, AsyncCollective], shape: AxisGroups, pending: Pending, rank: RankContext
) -> Iterator[tuple[str, Callable[[], object]]]:
    def both() -> None:
        works = [collective.start() for collective in collectives.values()]
        for work in works:
            work.wait()

    def until(axis: str) -> None:
        works = {name: collective.start() for name, collective in collectives.items()}
        works.pop(axis).wait()
        pending.works += works.values()

    yield "full", both
    for axis, collective in collectives.items():
        yield f"{axis}_beside", partial(until, axis)
        yield axis, collective.run
        if 1 < len(shape.groups[axis]) <= MAX_GROUPS:
            for number in range(len(shape.groups[axis])):
                yield f"{axis}_{number}", collective.run if shape.of(axis, rank.index) == number else _rest


def _rest() -> None:
    return None


def _timed_checks(
    variants: Mapping[str, Callable[[], object]], collectives: Mapping[str, AsyncCollective], pending: Pending
) -> dict[str, TimedCheck]:
    """A look for each variant in which this rank does not rest, at what it waits for."""

    def of(name: str) -> TimedCheck:
        waited = [row.timed_check for axis, row in collectives.items() if name == "full" or name.startswith(axis)]
        check = combined_check(*waited)

        def arm() -> None:
            pending.finish()
            check.arm()

        return TimedCheck(arm, check.look)

    return {name: of(name) for name, run in variants.items() if run is not _rest}


def _check(both: Callable[[], object], collectives: Mapping[str, AsyncCollective], pending: Pending) -> Check:
    pending.finish()
    for collective in collectives.values():
        collective.arm()
    both()
    return Check(sum(collective.error() for collective in collectives.values()), 0.0)


@dataclass(frozen=True)
class GroupTimes:
    """Seconds of one group: by itself, with the others of its axis, and with all; each that of its slowest rank."""

    axis: str
    ranks: tuple[int, ...]
    alone: float
    with_axis: float
    beside: float

    @property
    def slowdown(self) -> float | None:
        return self.beside / self.alone if self.alone > 0 else None


def group_times(shape: AxisGroups, observed: Observed) -> list[GroupTimes]:
    times = []
    for axis, groups in shape.groups.items():
        for number, ranks in enumerate(groups):

            def slowest(variant: str, ranks: tuple[int, ...] = ranks) -> float:
                return max(observed.rank_seconds[variant][rank] for rank in ranks)

            single = f"{axis}_{number}"
            alone = slowest(single if single in observed.rank_seconds else axis)
            times.append(GroupTimes(axis, ranks, alone, slowest(axis), slowest(f"{axis}_beside")))
    return times


def derive(shape: AxisGroups, observed: Observed) -> dict[str, float | None]:
    """`..._slowdown`: of the group of the axis that loses most. `gain_over_serial`: one axis after the other / both."""
    times = group_times(shape, observed)
    figures: dict[str, float | None] = {}
    for axis in shape.groups:
        known = [group.slowdown for group in times if group.axis == axis and group.slowdown is not None]
        figures[f"{axis}_slowdown"] = max(known, default=None)
    both = observed.seconds["full"]
    figures["gain_over_serial"] = sum(observed.seconds[axis] for axis in shape.groups) / both if both > 0 else None
    return figures


def tables(shape: AxisGroups, observed: Observed) -> dict[str, Table]:
    """One row per group."""
    rows: list[tuple[Cell, ...]] = [
        (group.axis, _listed(group.ranks), group.alone, group.with_axis, group.beside, group.slowdown)
        for group in group_times(shape, observed)
    ]
    heads = ("axis", "ranks", "alone seconds", "with its axis seconds", "with all seconds", "slow-down x")
    return {"groups": Table(heads, tuple(rows), title="each group alone and together with the others")}


def _listed(ranks: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return shown if len(ranks) <= 8 else f"{shown}, ... ({len(ranks)})"
