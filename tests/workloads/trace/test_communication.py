"""Spans of communication: each thing that a rank sends has one, whichever way torch hands it to the backend.

Fake only, as gloo neither coalesces nor leaves the host before the work is done: a batch of messages is one span, with
the bytes of the batch; a collective without a Work has a span all the same; and the messages of a pipeline's schedule
have spans, as torch 2.12 and newer send them (alone, where all of a batch go one way) and as older torch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.measure.engine.rank import RankContext
from bench.suite import COMMUNICATION
from tests.support import nccl_like
from tests.support.ranks import on_ranks

BACKENDS = ("gloo", nccl_like.NAME)


def _ways(rank: RankContext, names: list[str]) -> dict[str, Any]:
    import torch.distributed.pipelining  # before anything is wrapped  # noqa: F401

    return {name: _spans(rank, name) for name in names}


def _spans(rank: RankContext, name: str) -> list[tuple[int | None, int | None]]:
    """(number, bytes) of each span of one way to communicate."""
    from bench.measure.engine.rank import Tracer
    from bench.measure.engine.timing.device_clock import clock_for_work
    from bench.workloads.trace.communication import record_communication

    tracer = Tracer(rank.index, clock_for_work("cpu", "host"))
    with record_communication(tracer, {rank.group.group_name: "pair"}):
        WAYS[name](rank)
    if rank.backend == nccl_like.NAME:
        nccl_like.synchronise()
    assert {mark.kind for mark in tracer.marks} <= {COMMUNICATION}
    return [(mark.sequence, mark.num_bytes) for mark in tracer.marks]


def _messages(rank: RankContext) -> list[Any]:
    """Rank 0 sends 3 numbers and takes 5, rank 1 the other way round."""
    import torch
    import torch.distributed as dist

    sizes = (3, 5) if rank.index == 0 else (5, 3)
    own, other = torch.ones(sizes[0]), 1 - rank.index
    return [dist.P2POp(dist.isend, own, other), dist.P2POp(dist.irecv, torch.empty(sizes[1]), other)]


def _batch(rank: RankContext) -> None:
    import torch.distributed as dist

    for work in dist.batch_isend_irecv(_messages(rank)):
        work.wait()


def _single(rank: RankContext) -> None:
    messages = _messages(rank) if rank.index == 0 else reversed(_messages(rank))
    for work in [message.op(message.tensor, message.peer) for message in messages]:
        work.wait()


def _collectives(rank: RankContext) -> None:
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.ones(4))
    work = dist.all_reduce(torch.ones(6), async_op=True)
    assert work is not None
    work.wait()
    dist.broadcast(torch.ones(8), src=0)


def _elsewhere(rank: RankContext) -> None:
    """A group whose axis nobody asked for."""
    import torch
    import torch.distributed as dist

    group = rank.subgroup([0, 1])
    dist.all_reduce(torch.ones(4), group=group)
    message = dist.isend if rank.index == 0 else dist.irecv
    for work in dist.batch_isend_irecv([dist.P2POp(message, torch.ones(3), 1 - rank.index, group)]):
        work.wait()


def _schedule(rank: RankContext, batch_p2p: Callable[[list[Any]], list[Any]]) -> None:
    """1F1B of three microbatches on two ranks: warm-up, two swaps of an activation for a gradient, cool-down."""
    import torch
    import torch.distributed as dist

    def message(op: Callable[..., Any]) -> Any:
        return dist.P2POp(op, torch.ones(7), 1 - rank.index)

    first, last = (dist.isend, dist.irecv) if rank.index == 0 else (dist.irecv, dist.isend)
    for ops in ([first], [last, first], [last, first], [last]):
        for work in batch_p2p([message(op) for op in ops]):
            work.wait()


def _schedule_now(rank: RankContext) -> None:
    from torch.distributed.pipelining import schedules

    _schedule(rank, schedules._batch_p2p)


def _schedule_batched(rank: RankContext) -> None:
    import torch.distributed as dist

    _schedule(rank, dist.batch_isend_irecv)


WAYS = {
    "batch": _batch, "single": _single, "collectives": _collectives, "elsewhere": _elsewhere,
    "schedule": _schedule_now, "schedule before 2.12": _schedule_batched,
}  # fmt: skip


@pytest.fixture(scope="module", params=BACKENDS)
def spans(request: pytest.FixtureRequest) -> tuple[str, list[dict[str, Any]]]:
    return request.param, on_ranks(2, _ways, list(WAYS), backend=request.param)


def test_a_batch_has_one_span_for_each_work(spans: tuple[str, list[dict[str, Any]]]) -> None:
    backend, ranks = spans
    expected = [[(None, 20)]] * 2 if backend == nccl_like.NAME else [[(None, 12), (None, 20)], [(None, 20), (None, 12)]]
    assert [each["batch"] for each in ranks] == expected


def test_each_single_message_has_a_span(spans: tuple[str, list[dict[str, Any]]]) -> None:
    assert [each["single"] for each in spans[1]] == [[(None, 12), (None, 20)]] * 2


def test_collectives_have_a_span_with_a_work_or_without(spans: tuple[str, list[dict[str, Any]]]) -> None:
    assert [each["collectives"] for each in spans[1]] == [[(0, 16), (1, 24), (2, 32)]] * 2


def test_what_no_axis_names_has_no_span(spans: tuple[str, list[dict[str, Any]]]) -> None:
    assert [each["elsewhere"] for each in spans[1]] == [[], []]


@pytest.mark.parametrize("way", ["schedule", "schedule before 2.12"])
def test_messages_of_a_schedule_have_spans_either_way(spans: tuple[str, list[dict[str, Any]]], way: str) -> None:
    backend, ranks = spans
    num_spans = 4 if backend == nccl_like.NAME else 6  # on NCCL a swap is one
    assert [each[way] for each in ranks] == [[(None, 28)] * num_spans] * 2
