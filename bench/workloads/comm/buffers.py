"""Memory of a collective's tensors: plain, registered with NCCL, or symmetric.

`registered`: tensors from a pool of NCCL's own allocator (ncclMemAlloc), registered with the group's communicator
(ncclCommRegister), so that NCCL need not copy through buffers of its own: NCCL user guide, "User Buffer Registration";
torch's `torch.cuda.MemPool` and `register_mem_pool`. `symmetric`: tensors from `torch.distributed._symmetric_memory`,
mapped into every rank's address space, and torch's own all-reduce over them in place of NCCL's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.errors import Skip

if TYPE_CHECKING:
    import torch

    from bench.measure.engine.rank import RankContext

PLAIN, REGISTERED, SYMMETRIC = "plain", "registered", "symmetric"
KINDS = (PLAIN, REGISTERED, SYMMETRIC)
SYMMETRIC_OP = "all_reduce"
SYMMETRIC_DTYPES = ("float32", "bfloat16")
"""Types for which torch has kernels over symmetric memory (CUDASymmetricMemoryOps.cu)."""
ALIGNMENT_BYTES = 16
"""Each rank's share of a two-shot all-reduce has to be a multiple of it (the same file)."""
Empty = Callable[..., "torch.Tensor"]


def skip_reason(kind: str, op: str, dtype: str, num_bytes: int, num_ranks: int, backend: str) -> str | None:
    """Return the reason for which a kind of memory has no meaning for a case; None if it has one."""
    if kind == PLAIN:
        return None
    reasons = (
        (backend != "nccl", f"buffer={kind}: needs NCCL, and the backend is {backend}"),
        (not num_bytes, f"buffer={kind}: {op} moves no data"),
        (kind == SYMMETRIC and op != SYMMETRIC_OP, f"buffer={kind}: torch has it for {SYMMETRIC_OP}, not for {op}"),
        (
            kind == SYMMETRIC and dtype not in SYMMETRIC_DTYPES,
            f"buffer={kind}: torch has it for {', '.join(SYMMETRIC_DTYPES)}, not for {dtype}",
        ),
        (
            kind == SYMMETRIC and num_bytes % (ALIGNMENT_BYTES * num_ranks) != 0,
            f"buffer={kind}: {num_bytes} bytes over {num_ranks} ranks are not a multiple of {ALIGNMENT_BYTES} each",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)


@contextmanager
def allocator(kind: str, rank: RankContext, stack: ExitStack) -> Iterator[Empty]:
    """`torch.empty` of a kind of memory; the steps that undo it at the end go onto the stack. Every rank calls it.

    Raises Skip if the devices cannot reach each other's memory.
    """
    import torch

    if kind == REGISTERED:
        backend: Any = rank.group._get_backend(rank.device)
        pool = torch.cuda.MemPool(_nccl_allocator(backend))
        with torch.cuda.use_mem_pool(pool):
            yield torch.empty
        backend.register_mem_pool(pool)
        stack.callback(backend.deregister_mem_pool, pool)
    elif kind == SYMMETRIC:
        yield partial(_symmetric, rank)
    else:
        yield torch.empty


def _nccl_allocator(backend: Any) -> Any:
    """NCCL's own allocator, whose memory can be registered.

    Raises Skip without one: torch gives none for devices without multicast, such as a single GPU passed through to a
    virtual machine, and says then that this NCCL has none.
    """
    try:
        return backend.mem_allocator
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise Skip(f"buffer={REGISTERED}: NCCL's allocator is not available here: {reason}") from error


def _symmetric(rank: RankContext, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    import torch
    import torch.distributed._symmetric_memory as symmetric_memory

    tensor = symmetric_memory.empty(count, dtype=dtype, device=device)
    try:
        symmetric_memory.rendezvous(tensor, rank.group)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise Skip(f"buffer={SYMMETRIC}: the devices cannot map each other's memory: {reason}") from error
    return tensor


def symmetric_all_reduce(tensor: torch.Tensor, rank: RankContext) -> Callable[[], object]:
    """torch's two-shot all-reduce (a reduce-scatter and an all-gather of peers' memory) in place."""
    import torch

    return partial(torch.ops.symm_mem.two_shot_all_reduce_, tensor, "sum", rank.group.group_name)
