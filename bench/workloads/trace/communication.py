"""Spans of the time in which a rank's host waits for communication: for the traced pass only.

Torch hands work to a backend at three places, and waits for it at two; `record_communication` wraps each while open:

    torch.ops._c10d_functional.*   what DTensor sends; waited for in its `wait_tensor`
    methods of ProcessGroup        what torch.distributed's own functions, FSDP2 and the pipeline's messages send;
                                   waited for in `Work.wait`

NCCL gives no Work for two of them. Messages of a batch are launched together, and their Work comes from
`_end_coalescing` (torch/distributed/distributed_c10d.py, batch_isend_irecv). A collective that is not asynchronous is
put on the current stream, which so waits for it (ProcessGroupNCCL.cpp, collective): its span is the call itself.

DistributedDataParallel sends and waits in C++. The end of its backward is known all the same: from the moment
at which the last gradient is there until `backward` returns there is nothing left but its last sum
(`last_gradient`). What is overlapped with computation makes no span: only what is exposed does. Each span carries
when its rank started the communication, so that waiting for the last rank and the transfer are separate.

On a GPU the host does not wait, but the stream does: marks are events on the current stream, which a wait
holds up. A side stream's wait does not count until the rank's own stream waits for that one
(bench/workloads/trace/side_streams.py). Importing this module imports torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.measure.engine.rank import Mark, RankContext, Tracer
from bench.suite import COMMUNICATION
from bench.workloads.trace.side_streams import SideStreams

_FUNCTIONAL = ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single", "broadcast")
_METHODS = (
    "allreduce",
    "all_gather_single",
    "reduce_scatter_single",
    "_allgather_base",
    "_reduce_scatter_base",
    "allgather",
    "broadcast",
    "send",
    "recv",
)
"""Methods of ProcessGroup; two collectives have other names in older versions of torch."""
_MESSAGES = ("send", "recv")


@dataclass
class _Handed:
    """Something that a rank has given to its backend."""

    axis: str
    sequence: int | None
    num_bytes: int
    launch: object
    kept: object
    """Kept, so that no other object has its address meanwhile."""


@dataclass
class _Batch:
    """Operations that a rank sends and receives in one launch."""

    num_bytes: dict[str, int] = field(default_factory=lambda: {"send": 0, "recv": 0})
    has_collectives: bool = False


def _current_stream() -> object:
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.current_stream() if is_used else None


@dataclass
class CommunicationTrace:
    """One rank's communication of one call; `axes` is group name -> axis of the mesh, others are left out."""

    tracer: Tracer
    axes: Mapping[str, str]
    sides: SideStreams[_Handed] | None = None
    """Side streams of a GPU, which wait for one another; None on a CPU."""
    _counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _handed: dict[int, _Handed] = field(default_factory=dict)
    _batches: dict[str, _Batch] = field(default_factory=dict)
    """Group name -> what is being coalesced there."""
    _stream: object = field(default_factory=lambda: _current_stream())

    def hand_over(
        self, axis: str, num_bytes: int, address: int, kept: object, launch: object, *, is_message: bool
    ) -> None:
        """Keep what was launched until it is waited for. Messages of pairs are in no common order: no number."""
        sequence = None
        if not is_message:
            sequence = self._counts[axis]
            self._counts[axis] += 1
        self._handed[address] = _Handed(axis, sequence, num_bytes, launch, kept)

    def open_batch(self, group: str) -> None:
        self._batches[group] = _Batch()

    def put_in_batch(self, group: str, name: str, num_bytes: int) -> bool:
        """Count a call of a batch that is open; False if there is none."""
        batch = self._batches.get(group)
        if batch is not None:
            batch.num_bytes["recv" if name == "recv" else "send"] += num_bytes
            batch.has_collectives |= name not in _MESSAGES
        return batch is not None

    def close_batch(self, group: str, work: object, launch: object) -> None:
        """Send what was coalesced; there is no Work if nothing was."""
        batch, axis = self._batches.pop(group, None), self.axes.get(group)
        if batch is not None and axis is not None and work is not None:
            num_bytes = max(batch.num_bytes.values())
            self.hand_over(axis, num_bytes, id(work), work, launch, is_message=not batch.has_collectives)

    def on_stream(self, axis: str, num_bytes: int, launch: object) -> None:
        """Record what the current stream itself waits for, unless it is a side stream: that overlaps."""
        if _current_stream() == self._stream:
            self.blocked(axis, self.next_sequence(axis), num_bytes, launch, launch)

    def waited(self, address: int, start: object) -> None:
        """Record that the host, or the rank's own stream, stood still for it from `start` until now."""
        handed = self._handed.pop(address, None)
        if handed is None:
            return
        handed.kept = None
        if self.sides is None or not self.sides.took(handed):
            self.stood_still(handed, start)

    def stood_still(self, handed: _Handed, start: object) -> None:
        self.blocked(handed.axis, handed.sequence, handed.num_bytes, handed.launch, start)

    def blocked(self, axis: str, sequence: int | None, num_bytes: int | None, launch: object, start: object) -> None:
        tracer = self.tracer
        tracer.marks.append(
            Mark(
                tracer.num_calls,
                COMMUNICATION,
                start,
                tracer.clock.mark(),
                axis=axis,
                sequence=sequence,
                num_bytes=num_bytes,
                launch=launch,
            )
        )

    def next_sequence(self, axis: str) -> int:
        """The next number on an axis, also of what no backend call is seen of: the last sum of DDP's backward."""
        self._counts[axis] += 1
        return self._counts[axis] - 1


def _num_bytes(arguments: tuple[Any, ...]) -> int:
    tensors: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            tensors.append(argument)
        elif isinstance(argument, list | tuple):
            tensors += [tensor for tensor in argument if isinstance(tensor, Tensor)]
    return max((tensor.numel() * tensor.element_size() for tensor in tensors), default=0)


def _group_name(argument: object) -> str | None:
    if isinstance(argument, str):
        return argument
    return argument.group_name if isinstance(argument, dist.ProcessGroup) else None


def _functional(trace: CommunicationTrace, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        launch = trace.tracer.clock.mark()
        result = call(*arguments, **named)
        names = (_group_name(argument) or "" for argument in (*arguments, *named.values()))
        axis = next((trace.axes[name] for name in names if name in trace.axes), None)
        if axis is not None and isinstance(result, Tensor):
            num_bytes = _num_bytes((*arguments, result))
            trace.hand_over(axis, num_bytes, result.data_ptr(), result, launch, is_message=False)
        return result

    return wrapped


def _wait_tensor(trace: CommunicationTrace, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
        start = trace.tracer.clock.mark()
        result = call(tensor, *arguments, **named)
        trace.waited(tensor.data_ptr(), start)
        return result

    return wrapped


def _method(trace: CommunicationTrace, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    is_message = name in _MESSAGES

    def wrapped(group: dist.ProcessGroup, *arguments: Any, **named: Any) -> Any:
        launch = trace.tracer.clock.mark()
        work = call(group, *arguments, **named)
        axis, num_bytes = trace.axes.get(group.group_name), _num_bytes(arguments)
        if trace.put_in_batch(group.group_name, name, num_bytes) or axis is None:
            return work
        if work is not None:
            trace.hand_over(axis, num_bytes, id(work), work, launch, is_message=is_message)
        elif not is_message:
            trace.on_stream(axis, num_bytes, launch)
        return work

    return wrapped


def _start_coalescing(trace: CommunicationTrace, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(group: dist.ProcessGroup, *arguments: Any, **named: Any) -> Any:
        trace.open_batch(group.group_name)
        return call(group, *arguments, **named)

    return wrapped


def _end_coalescing(trace: CommunicationTrace, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(group: dist.ProcessGroup, *arguments: Any, **named: Any) -> Any:
        launch = trace.tracer.clock.mark()
        work = call(group, *arguments, **named)
        trace.close_batch(group.group_name, work, launch)
        return work

    return wrapped


def _wait(trace: CommunicationTrace, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(work: dist.Work, *arguments: Any, **named: Any) -> Any:
        start = trace.tracer.clock.mark()
        result = call(work, *arguments, **named)
        trace.waited(id(work), start)
        return result

    return wrapped


@contextmanager
def record_communication(tracer: Tracer, axes: Mapping[str, str]) -> Iterator[CommunicationTrace]:
    """Wraps what is named above, and puts everything back in the end."""
    trace = CommunicationTrace(tracer, axes, SideStreams() if tracer.clock.name == "device" else None)
    functional = torch.ops._c10d_functional
    with ExitStack() as stack:
        for name in _FUNCTIONAL:
            _replace(stack, functional, name, _functional(trace, getattr(functional, name)))
        _replace(stack, functional, "wait_tensor", _wait_tensor(trace, functional.wait_tensor))
        for name in _METHODS:
            if hasattr(dist.ProcessGroup, name):
                _replace(stack, dist.ProcessGroup, name, _method(trace, name, getattr(dist.ProcessGroup, name)))
        for name, wrap in (("_start_coalescing", _start_coalescing), ("_end_coalescing", _end_coalescing)):
            _replace(stack, dist.ProcessGroup, name, wrap(trace, getattr(dist.ProcessGroup, name)))
        _replace(stack, dist.Work, "wait", _wait(trace, dist.Work.wait))
        if trace.sides is not None:
            streams, mark = torch.cuda.Stream, tracer.clock.mark
            _replace(stack, streams, "record_event", trace.sides.record_event(streams.record_event))
            waits = trace.sides.wait_event(streams.wait_event, mark, trace.stood_still)
            _replace(stack, streams, "wait_event", waits)
        yield trace


@contextmanager
def record_in_traced_pass(rank: RankContext, axes: Mapping[str, str]) -> Iterator[CommunicationTrace | None]:
    """`record_communication` in a rank's traced pass; nothing in calls that are timed."""
    if rank.tracer is None:
        yield None
        return
    with record_communication(rank.tracer, axes) as trace:
        yield trace


def _replace(stack: ExitStack, owner: Any, name: str, value: object) -> None:
    # What stands there, not what looking it up gives: a method written in C++ would come back as a mere function.
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)


@contextmanager
def last_gradient(trace: CommunicationTrace, module: nn.Module, axis: str, num_bytes: int) -> Iterator[None]:
    """Mark in a DDP backward the span from its last gradient to its end, in which it waits for the last sums."""
    clock = trace.tracer.clock
    moments: list[object] = [clock.mark()]

    def stamp(_: Tensor) -> None:
        moments[0] = clock.mark()

    with ExitStack() as stack:
        for parameter in module.parameters():
            handle = parameter.register_post_accumulate_grad_hook(stamp)  # type: ignore[no-untyped-call]
            stack.callback(handle.remove)
        yield
        last = moments[0]
        trace.blocked(axis, trace.next_sequence(axis), num_bytes, last, last)
