"""The context of a rank among its peers, and the opening and closing of its process groups.

A `RankContext` is an argument, never a global: one place reads the environment, all other code gets it as an argument.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from bench.measure.launchers.place import Place
from bench.suite import Machine, Span

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    from bench.core.clock import Clock
    from bench.measure.engine.emulation import RankSpeed
    from bench.measure.engine.store import Store


class Mark(NamedTuple):
    """A span as it is recorded; see `bench.suite.Span`."""

    call: int
    kind: str
    start: object
    end: object
    stage: int | None = None
    microbatch: int | None = None
    axis: str | None = None
    sequence: int | None = None
    num_bytes: int | None = None
    launch: object | None = None


@dataclass
class Tracer:
    """Records the spans of one rank during the traced pass."""

    rank: int
    clock: Clock
    marks: list[Mark] = field(default_factory=list)
    calls: list[tuple[object, object]] = field(default_factory=list)
    num_calls: int = 0

    def spans(self) -> list[Span]:
        """The recorded spans, relative to the start of their call; call after the clock was synchronised."""
        elapsed = self.clock.elapsed_ns
        return [
            Span(
                rank=self.rank,
                call=mark.call,
                kind=mark.kind,
                start_ns=elapsed(self.calls[mark.call][0], mark.start),
                duration_ns=elapsed(mark.start, mark.end),
                stage=mark.stage,
                microbatch=mark.microbatch,
                axis=mark.axis,
                sequence=mark.sequence,
                num_bytes=mark.num_bytes,
                launch_ns=None if mark.launch is None else elapsed(self.calls[mark.call][0], mark.launch),
            )
            for mark in self.marks
        ]

    def call_ns(self) -> list[int]:
        return [self.clock.elapsed_ns(start, end) for start, end in self.calls]


@dataclass
class RankContext:
    """One rank of a run, as suites see it."""

    place: Place
    machine: Machine
    backend: str
    device: torch.device
    group: dist.ProcessGroup
    """The group of all ranks on the backend that is measured."""
    control: dist.ProcessGroup
    """The group of all ranks on gloo, for counts, votes and gathers outside the timed parts."""
    calibration: dist.ProcessGroup
    """A further group of all ranks on the measured backend, for the harness's own kernels alone."""
    seed: int = 0
    tracer: Tracer | None = None
    pace: RankSpeed | None = None
    """Speed of this rank if `--slow` or a case slows it (see `bench.measure.engine.emulation`)."""
    timeout: timedelta | None = None
    """Time-out of every process group, later ones too; None: torch's own."""
    _groups: dict[tuple[int, ...], dist.ProcessGroup] = field(default_factory=dict)
    _meshes: dict[tuple[tuple[int, ...], tuple[str, ...]], DeviceMesh] = field(default_factory=dict)

    @property
    def index(self) -> int:
        return self.place.index

    @property
    def world_size(self) -> int:
        return self.place.world_size

    @property
    def local_index(self) -> int:
        return self.place.local_index

    @property
    def local_world_size(self) -> int:
        return self.place.local_world_size

    @contextmanager
    def span(self, kind: str, *, stage: int | None = None, microbatch: int | None = None) -> Iterator[None]:
        """Marks a part of the work. Recorded in the traced pass only."""
        tracer, pace = self.tracer, self.pace
        if tracer is None and pace is None:
            yield
            return
        if tracer is None:
            with _part(pace, kind, stage):
                yield
            return
        start = tracer.clock.mark()
        try:
            with _part(pace, kind, stage):
                yield
        finally:
            end = tracer.clock.mark()
            tracer.marks.append(Mark(tracer.num_calls, kind, start, end, stage, microbatch))

    @contextmanager
    def at_pace(self, pace: RankSpeed | None) -> Iterator[None]:
        """Run the block at another speed of this rank than the run's; None: at its full speed."""
        before = self.pace
        if before is not None:
            before.seen = True  # the parts are marked, for whichever pace
        self.pace = pace
        try:
            yield
        finally:
            self.pace = before

    def subgroup(self, ranks: Sequence[int]) -> dist.ProcessGroup:
        """The group of some ranks, made once and kept until the run ends. Every rank must ask for it, in one order."""
        import torch.distributed as dist

        key = tuple(ranks)
        if key not in self._groups:
            self._groups[key] = dist.new_group(list(key), timeout=self.timeout, backend=self.backend)
        return self._groups[key]

    def mesh(self, shape: Sequence[int], axes: Sequence[str]) -> DeviceMesh:
        """A device mesh over all ranks, in row-major order of the ranks, made once and kept until the run ends.

        Not a new one each time: torch keeps plans of DTensor by mesh, and meshes with the same ranks and names
        compare equal, so that the groups of a first one would be used for the second.
        """
        from torch.distributed.device_mesh import init_device_mesh

        key = (tuple(shape), tuple(axes))
        if key not in self._meshes:
            made = self._meshes[key] = init_device_mesh(self.device.type, key[0], mesh_dim_names=key[1])
            self._limit(made.get_group(axis) for axis in key[1])
        return self._meshes[key]

    def _limit(self, groups: Iterable[dist.ProcessGroup]) -> None:
        """Give groups that torch made itself, with its own time-out, that of the run."""
        import torch.distributed as dist

        # The backends that torch can do it for; init_device_mesh takes no time-out (torch 2.8 to 2.13).
        for group in groups:
            if self.timeout is not None and dist.get_backend(group) in ("gloo", "nccl"):
                dist.distributed_c10d._set_pg_timeout(self.timeout, group)

    def generator(self, *salt: int) -> torch.Generator:
        """A generator seeded by the run's seed and the salt: equal on all ranks unless the rank is in the salt."""
        import torch

        seed = self.seed
        for number in salt:
            seed = (seed * 1_000_003 + number + 1) % (2**63 - 1)
        return torch.Generator(device=self.device).manual_seed(seed)


def device_is_busy(device: torch.device) -> bool:
    """Return True if a rank's device has unfinished work; for a thread, while another may wait for the device.

    A wait inside `float(tensor)`, `.item()`, `.tolist()` or a copy shows in no Python frame; on its stream it does.
    """
    if device.type == "cpu":
        return False
    import torch

    try:
        return not torch.cuda.default_stream(device).query()
    except RuntimeError:  # the device has failed: nobody waits for it any more
        return False


def _part(pace: RankSpeed | None, kind: str, stage: int | None) -> AbstractContextManager[None]:
    return nullcontext() if pace is None else pace.part(kind, stage)


def take_device(place: Place, device_type: str) -> torch.device:
    """The device that the launcher gave this rank, made the current one."""
    import torch

    if device_type == "cpu":
        return torch.device("cpu")
    # One visible device: the launcher (Slurm, Kubernetes) has already narrowed them down to this rank's own.
    named = place.local_index if place.device_index is None else place.device_index
    device = torch.device(device_type, named if torch.cuda.device_count() > 1 else 0)
    torch.cuda.set_device(device)
    return device


def open_groups(
    place: Place, machine: Machine, backend: str, store: Store, timeout_seconds: float, seed: int
) -> RankContext:
    """Join the process groups of a run through a store, on the device that the launcher gave this rank."""
    import torch.distributed as dist

    device = take_device(place, machine.device_type)
    timeout = timedelta(seconds=timeout_seconds)
    dist.init_process_group(
        backend,
        store=store.raw,
        rank=place.index,
        world_size=place.world_size,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )
    world = dist.group.WORLD
    assert world is not None
    control = dist.new_group(backend="gloo", timeout=timeout)
    calibration = dist.new_group(backend=backend, timeout=timeout)
    return RankContext(
        place=place,
        machine=machine,
        backend=backend,
        device=device,
        group=world,
        control=control,
        calibration=calibration,
        seed=seed,
        timeout=timeout,
    )


def close_groups() -> None:
    """Leave the process groups after all ranks are done."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def leave_groups(rank: RankContext) -> None:
    """Leave the process groups of a broken case, so that peers that wait in one fail at once.

    gloo closes its connections only when the last reference to a group is gone (tried on torch 2.13: neither destroy
    nor abort nor shutdown frees a waiting peer while one is left). So the caller holds no Work of the case any more.
    """
    rank._groups.clear()
    rank._meshes.clear()
    del rank.group, rank.control, rank.calibration
    close_groups()
    gc.collect()


def abort_groups() -> None:
    """Give up the process groups of a broken case, and what they still have to do: no peer is waited for.

    To leave them in order would wait for all that was launched (ProcessGroupNCCL::shutdown flushes it first).
    """
    import torch.distributed as dist

    if dist.is_initialized():
        dist.distributed_c10d._abort_process_group()
