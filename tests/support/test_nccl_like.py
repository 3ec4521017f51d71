"""The fake of NCCL does what its docstrings say of NCCL; tests of the product build on that."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from bench.measure.engine.rank import RankContext
from tests.support import nccl_like
from tests.support.ranks import on_ranks


def _manners(rank: RankContext) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    heard: dict[str, Any] = {}
    other = 1 - rank.index
    gate = threading.Event()
    nccl_like._stream.put(lambda: gate.wait() and None)  # the device is held up until the gate opens
    number = torch.full((1,), rank.index + 1.0)
    twice = torch.full((1,), 10.0 * (rank.index + 1))
    work = dist.all_reduce(number, group=rank.group, async_op=True)
    assert work is not None
    work.wait()
    heard["sync work"] = rank.group.allreduce([twice], _sync_options())
    heard["returned at once"] = (float(number), float(twice), work.is_completed(), nccl_like.is_busy())
    gate.set()
    heard["in the end"] = (
        nccl_like.read(number),
        nccl_like.read(twice),
        work.is_completed(),
        nccl_like.is_busy(),
    )

    mine, theirs = torch.full((2,), float(rank.index)), torch.full((2,), -1.0)
    pairs = [dist.P2POp(dist.isend, mine, other, rank.group), dist.P2POp(dist.irecv, theirs, other, rank.group)]
    works = dist.batch_isend_irecv(pairs)
    heard["batch"] = (len(works), works[0].wait(), nccl_like.read(theirs[0]))
    dist.batch_isend_irecv([dist.P2POp(dist.isend, mine, rank.index), dist.P2POp(dist.irecv, theirs, rank.index)])
    heard["self in a batch"] = nccl_like.read(theirs[0])
    try:
        dist.isend(mine, rank.index)
    except RuntimeError as error:
        heard["self alone"] = str(error)
    single = dist.isend(mine, other) if rank.index == 0 else dist.irecv(theirs, other)
    assert single is not None
    single.wait()
    heard["single"] = nccl_like.read(theirs[0])
    dist.barrier(rank.group)
    heard["a barrier blocks the host"] = not nccl_like.is_busy()
    return heard


def _sync_options() -> Any:
    import torch.distributed as dist

    options = vars(dist.distributed_c10d)["AllreduceOptions"]()
    options.asyncOp = False
    return options


@pytest.fixture(scope="module")
def heard() -> list[dict[str, Any]]:
    return on_ranks(2, _manners, backend=nccl_like.NAME)


def test_calls_return_before_anything_is_done_and_a_wait_does_not_block(heard: list[dict[str, Any]]) -> None:
    assert heard[0]["returned at once"] == (1.0, 10.0, False, True)
    assert heard[1]["returned at once"] == (2.0, 20.0, False, True)
    assert [each["in the end"] for each in heard] == [(3.0, 30.0, True, False)] * 2


def test_what_is_not_asynchronous_gives_no_work(heard: list[dict[str, Any]]) -> None:
    assert [each["sync work"] for each in heard] == [None, None]


def test_a_batch_is_one_work_and_single_messages_have_one_each(heard: list[dict[str, Any]]) -> None:
    assert [each["batch"] for each in heard] == [(1, True, 1.0), (1, True, 0.0)]
    assert [each["single"] for each in heard] == [0.0, 0.0]  # rank 0's own from its batch, and what rank 1 received


def test_a_rank_sends_to_itself_in_a_batch_only(heard: list[dict[str, Any]]) -> None:
    assert [each["self in a batch"] for each in heard] == [0.0, 1.0]
    assert [each["self alone"] for each in heard] == [f"send of rank {n} to itself outside a batch" for n in (0, 1)]


def test_a_barrier_alone_blocks_the_host(heard: list[dict[str, Any]]) -> None:
    assert [each["a barrier blocks the host"] for each in heard] == [True, True]


def _desert(rank: RankContext) -> dict[str, Any]:
    """Rank 1 never comes, and then is gone; rank 0 waits for it, on the device and in destroying its groups."""
    import torch
    import torch.distributed as dist

    from bench.measure.engine.rank import abort_groups, leave_groups

    if rank.index == 1:
        dist.barrier(rank.control)
        leave_groups(rank)
        return {}
    dist.all_reduce(torch.ones(1), group=rank.group)
    dist.barrier(rank.control)
    heard = {"busy": nccl_like.is_busy()}
    leaving = threading.Thread(target=nccl_like.synchronise, daemon=True)
    leaving.start()
    leaving.join(1.0)
    destroying = threading.Thread(target=dist.distributed_c10d.destroy_process_group, daemon=True)
    destroying.start()
    destroying.join(1.0)
    heard["waits"] = leaving.is_alive() and destroying.is_alive() and nccl_like.is_busy()
    abort_groups()
    leaving.join(60.0)
    destroying.join(60.0)
    heard["set free by abort"] = not (leaving.is_alive() or destroying.is_alive())
    return heard


def test_a_peer_that_is_gone_is_waited_for_until_the_group_is_aborted() -> None:
    assert on_ranks(2, _desert, backend=nccl_like.NAME)[0] == {"busy": True, "waits": True, "set free by abort": True}
