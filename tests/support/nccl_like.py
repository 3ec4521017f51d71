"""A torch.distributed backend `nccl_like` for CPU tensors: gloo's results with NCCL's manners.

gloo completes in the call or in `wait()`, and tells a rank that its peer is gone. NCCL enqueues, and tells nobody. What
follows, and which function of torch (2.8 to 2.13; in torch/csrc/distributed/c10d where it is C++) says so, stands
beside each piece. It replaces methods of `dist.ProcessGroup` and `dist.Work`: a group is of torch's own class then, as
on NCCL, and whatever wraps those methods finds it. "The device" is one thread, the *stream*: current stream and NCCL's
own in one. `synchronise` stands for `torch.cuda.synchronize()`, `read` for `float(tensor)` and copies to the host.

Not covered:
- computation on the device: tensors are on the CPU, and whoever reads or changes one has to `synchronise` before;
- more than one stream: what overlaps on a GPU, or deadlocks between communicators, does not here;
- what C++ calls by itself (DistributedDataParallel, `torch.ops._c10d_functional`, so DTensor): that is gloo's still;
- eager connection, communicator splits, graph capture, registered and symmetric memory, sub-millisecond timing;
- NCCL's own time-out (`TORCH_NCCL_ASYNC_ERROR_HANDLING`), which ends the process: here a wait has no end;
- `wait(timeout)`, which blocks the host on NCCL, and torch's futures of a Work.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

NAME = "nccl_like"
COLLECTIVES = (
    "allreduce", "allreduce_coalesced", "broadcast", "reduce", "allgather", "_allgather_base", "all_gather_single",
    "gather", "scatter", "reduce_scatter", "_reduce_scatter_base", "reduce_scatter_single", "alltoall",
    "alltoall_base", "all_to_all_single", "barrier",
)  # fmt: skip
_plain: dict[str, Any] = {}
"""Name -> what torch has there itself."""
_batches: dict[Any, list[tuple[str, list[torch.Tensor], int, int]]] = {}
"""Group -> the messages since `_start_coalescing`."""


class Stream:
    """Does what is put on it, one after the other, on a thread of its own.

    Kernels on a CUDA stream run in the order of their launch, and a collective whose peer does not come spins
    (ProcessGroupNCCL.cpp, collective: `fn(..., ncclStream)` only launches). So an error of gloo, such as a closed
    connection, is not an error here: what is behind it waits for ever.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self.last = threading.Event()
        self.last.set()
        self.given_up = threading.Event()
        threading.Thread(target=self._work, name="nccl-like-stream", daemon=True).start()

    def put(self, job: Callable[[], None]) -> threading.Event:
        self.last = done = threading.Event()
        self._jobs.put((job, done))
        return done

    def _work(self) -> None:
        with suppress(RuntimeError):
            while True:
                job, done = self._jobs.get()
                job()
                done.set()

    def synchronise(self) -> None:
        """Block the host until all is done: for ever, if a peer is missing."""
        while not self.last.wait(0.02) and not self.given_up.is_set():
            pass


_stream = Stream()
synchronise = _stream.synchronise


def read(tensor: torch.Tensor) -> float:
    """The one value of a tensor, once it is there; where it waits, no frame is torch's."""
    synchronise()
    return float(tensor)


class StreamWork(dist.Work):
    """What a launched operation gives; its `wait` is `dist.Work.wait`, replaced below."""

    def __init__(self, calls: Sequence[Callable[[], Any]], is_barrier: bool = False) -> None:
        super().__init__()
        self.is_barrier = is_barrier
        self.done = _stream.put(partial(_finish, calls))

    def is_completed(self) -> bool:
        return self.done.is_set()


def _finish(calls: Sequence[Callable[[], Any]]) -> None:
    """Launch all, then wait for all: a batch has no order among its pairs."""
    for work in [call() for call in calls]:
        if work is not None:
            _plain["wait"](work)


def _collective(name: str, group: Any, *arguments: Any, **named: Any) -> StreamWork | None:
    """Returns at once; without a Work where the caller did not ask to be asynchronous, for the kernel is then on the
    current stream (ProcessGroupNCCL.cpp, collective: `return asyncOp ? work : nullptr`; barrier always has one)."""
    work = StreamWork([partial(_plain[name], group, *arguments, **named)], is_barrier=name == "barrier")
    options = [*arguments, *named.values()][-1]
    return work if work.is_barrier or getattr(options, "asyncOp", True) else None


def _message(name: str, group: Any, tensors: list[torch.Tensor], peer: int, tag: int) -> StreamWork | None:
    """In a batch only noted, without a Work (ProcessGroupNCCL.cpp, pointToPoint: `coalescing_state_`).

    Alone it cannot go to its own rank: torch/distributed/distributed_c10d.py refuses that for send and recv, and leaves
    it for isend and irecv to NCCL, which sends to itself only together with the receive.
    """
    if group in _batches:
        _batches[group].append((name, tensors, peer, tag))
        return None
    if peer == group.rank():
        raise RuntimeError(f"{name} of rank {peer} to itself outside a batch")
    return StreamWork([partial(_plain[name], group, tensors, peer, tag)])


def _start_coalescing(group: Any, device: torch.device) -> None:
    """distributed_c10d.py, _coalescing_manager; ProcessGroupNCCL.cpp, startCoalescing."""
    _batches[group] = []


def _end_coalescing(group: Any, device: torch.device) -> StreamWork | None:
    """One launch of the whole batch, and its only Work; None for an empty one (ProcessGroupNCCL.cpp, endCoalescing)."""
    noted, own = _batches.pop(group), group.rank()
    if not noted:
        return None
    sent, received = ([call[1][0] for call in noted if call[0] == name and call[2] == own] for name in ("send", "recv"))
    calls: list[Callable[[], Any]] = [partial(_plain[name], group, *call) for name, *call in noted if call[1] != own]
    return StreamWork([partial(_copy, out, into) for out, into in zip(sent, received, strict=True)] + calls)


def _copy(source: torch.Tensor, into: torch.Tensor) -> None:
    into.detach().copy_(source)


def _wait(work: Any, *arguments: Any) -> bool:
    """The *stream* waits, the host does not, but for a barrier (ProcessGroupNCCL.cpp, WorkNCCL::wait, synchronize,
    synchronizeStream): on a single stream there is nothing to do."""
    if not isinstance(work, StreamWork):
        return bool(_plain["wait"](work, *arguments))
    if work.is_barrier:
        synchronise()
    return True


def _shutdown(group: Any) -> None:
    """To destroy a group flushes what was launched (ProcessGroupNCCL.cpp, shutdown: finalize and waitReady)."""
    synchronise()
    _plain["shutdown"](group)


def _abort(group: Any) -> None:
    """What was launched is given up (ProcessGroupNCCL.cpp, abort: "terminate all NCCL kernels immediately")."""
    _stream.given_up.set()


def _get_backend(group: Any, device: torch.device) -> Any:
    """A backend that coalesces (ProcessGroupNCCL.hpp, supportsCoalescing): batch_isend_irecv asks for that alone."""
    return SimpleNamespace(supports_coalescing=True)


def _for_our_groups(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(group: Any, *arguments: Any, **named: Any) -> Any:
        entry = dist.distributed_c10d._world.pg_map.get(group)
        is_ours = entry is not None and entry[0] == NAME
        return (method if is_ours else _plain[name])(group, *arguments, **named)

    return call


def is_busy() -> bool:
    """Whether the stream has work that is not done."""
    return not _stream.last.is_set()


def install() -> None:
    """Make `nccl_like` a backend of torch and of bench in this process; groups of other backends stay as they are."""
    if _plain:
        return
    from bench.measure.engine import worker
    from bench.measure.system.backends import BACKENDS, Backend

    methods: dict[str, Any] = {name: partial(_collective, name) for name in COLLECTIVES}
    methods |= {name: partial(_message, name) for name in ("send", "recv")}
    methods |= {"_start_coalescing": _start_coalescing, "_end_coalescing": _end_coalescing}
    methods |= {"shutdown": _shutdown, "abort": _abort, "_get_backend": _get_backend}
    for name in [name for name in methods if hasattr(dist.ProcessGroup, name)]:
        _plain[name] = getattr(dist.ProcessGroup, name)
        setattr(dist.ProcessGroup, name, _for_our_groups(name, methods[name]))
    _plain["wait"], dist.Work.wait = dist.Work.wait, _wait
    dist.Backend.register_backend(NAME, dist.ProcessGroupGloo, devices=["cpu"])
    BACKENDS[NAME] = Backend(NAME, "cpu", ("float32",), frozenset(), has_graphs=False, frees_peers=False)
    worker.device_is_busy = lambda device: is_busy()
