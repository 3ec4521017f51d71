"""Graph of what waits for what in a step of Megatron-like training, rebuilt from the order of one recorded step.

Traces have operations but no graph (see `bench.analysis.explain.straggler_trace`). It follows from how such training
works, and is rebuilt from the first data-parallel rank in the first step, whose order the others share:

    compute            one after another on its worker
    receive            after the computation before the one that needs it; that one after it
    send               after the computation whose result it carries; meets the receive of the neighbour stage
    four streams       sends and receives of either direction, each in order; the first ones of the backward pass are
                       not posted before the second to last forward ahead of the first backward
    all-gather         of a chunk's parameters, before its first forward; meets the other data-parallel ranks
    reduce-scatter     of its gradients; in a stream with the all-gathers; overlapped with the backward if gradients
                       are also reduced separately, else after the embedding's
    at the end         garbage collection, layer norms' and embedding's gradients (first and last stage meet), [the
                       reduce-scatters, or the separate all-reduce,] clipping of the gradients (all meet), optimizer
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import BenchError

Row = dict[str, Any]
"""A recorded operation, by column."""
FORWARD, BACKWARD = "forward-compute", "backward-compute"
COMPUTE = (FORWARD, BACKWARD)
# Type -> the way of the message, what it belongs to, and how far the neighbour is.
MESSAGES = {
    "forward-send": ("send", FORWARD, +1),
    "forward-recv": ("recv", FORWARD, -1),
    "backward-send": ("send", BACKWARD, -1),
    "backward-recv": ("recv", BACKWARD, +1),
}
PEER = {
    "forward-send": "forward-recv",
    "forward-recv": "forward-send",
    "backward-send": "backward-recv",
    "backward-recv": "backward-send",
}
ALL_GATHER, REDUCE_SCATTER, SEPARATE = "params-all-gather", "grads-reduce-scatter", "separate-grads-all-reduce"
GC, LAYER_NORM, EMBEDDING = "gc", "layernorm-grads-all-reduce", "embedding-grads-all-reduce"
CLIP, OPTIMIZER = "optimizer-clip-main-grad", "optimizer"
COMMUNICATION = (*MESSAGES, ALL_GATHER, REDUCE_SCATTER, SEPARATE, LAYER_NORM, EMBEDDING, CLIP)
KINDS = (*COMPUTE, GC, OPTIMIZER, *COMMUNICATION)
ACROSS_REPLICAS = (ALL_GATHER, REDUCE_SCATTER, SEPARATE)
CLOCK_SECONDS = 5e-5
"""Starts and ends that differ by less are equal: clocks of two hosts."""


class OperationKey(NamedTuple):
    """An operation of the template: one worker of each stage stands for all of them."""

    kind: str
    number: int
    stage: int


@dataclass
class Template:
    """Order and meetings of the operations in one step of one pipeline."""

    waits: list[tuple[OperationKey, OperationKey]] = field(default_factory=list)
    """(before, after)"""
    meetings: list[list[OperationKey]] = field(default_factory=list)

    def chain(self, keys: Sequence[OperationKey]) -> None:
        self.waits += pairwise(keys)

    def keys(self) -> Iterator[OperationKey]:
        """All operations, some of them more than once."""
        for pair in self.waits:
            yield from pair
        for meeting in self.meetings:
            yield from meeting


def rebuild(path: Path, first: Sequence[Row]) -> Template:
    """The template of one step of one data-parallel rank. Raises BenchError if the step is not whole."""
    template = Template()
    num_stages = 1 + max(int(row["stage"]) for row in first)
    ordered = sorted(first, key=lambda row: (row["start_ts"], row["seq_id"], row["optype"]))
    messages: dict[OperationKey, OperationKey] = {}
    for stage in range(num_stages):
        rows = [row for row in ordered if int(row["stage"]) == stage]
        compute = [row for row in rows if row["optype"] in COMPUTE]
        if not compute:
            raise BenchError(f"{path}: stage {stage} computes nothing in the first step; the trace is not whole")
        template.chain([_key(row) for row in compute])
        messages |= _stage_messages(path, template, rows, compute, num_stages)
        _parameters(template, rows, compute)
        _end_of_step(template, rows, compute, num_stages)
    _meet(path, template, messages)
    return template


def _key(row: Row) -> OperationKey:
    return OperationKey(str(row["optype"]), int(row["seq_id"]), int(row["stage"]))


def _stage_messages(
    path: Path, template: Template, rows: list[Row], compute: list[Row], num_stages: int
) -> dict[OperationKey, OperationKey]:
    """The waits of a stage's messages; returns each message that is sent at all -> the one that it meets."""
    peers: dict[OperationKey, OperationKey] = {}
    last_chunk = max(int(row["gmc"]) for row in compute)
    for kind, (way, computed, step) in MESSAGES.items():
        messages = [row for row in rows if row["optype"] == kind]
        template.chain([_key(row) for row in messages])
        parts = sorted((row for row in compute if row["optype"] == computed), key=lambda row: row["seq_id"])
        used = _launched_messages(messages, parts, way)
        # Where the first receive of the pipeline was never posted, the others belong to the parts after it.
        skipped = 1 if way == "recv" and len(used) == len(parts) - 1 else 0
        if len(used) + skipped > len(parts):
            raise BenchError(
                f"{path}: {len(used)} of {kind} for {len(parts)} of {computed} on stage {messages[0]['stage']}"
            )
        met = 0
        for row, part in zip(used, parts[skipped:], strict=False):
            _add_message(template, _key(row), _key(part), way)
            stage = int(row["stage"])
            chunk = int(part["gmc"]) + step
            if num_stages > 1 and chunk >= 0 and not _beyond(chunk, last_chunk, stage, num_stages):
                # The peer numbers its own messages that go somewhere; `_meet` looks that number up.
                peers[OperationKey(f"{kind}#{met}", int(row["seq_id"]), stage)] = OperationKey(
                    f"{PEER[kind]}#{met}", -1, (stage + step) % num_stages
                )
                met += 1
    _first_backward(template, rows, compute)
    return peers


def _beyond(chunk: int, last_chunk_here: int, stage: int, num_stages: int) -> bool:
    """True if a chunk comes after the model's last one; a stage's last is as many before it as stages follow."""
    return chunk > last_chunk_here + (num_stages - 1 - stage)


def _launched_messages(messages: list[Row], parts: list[Row], way: str) -> list[Row]:
    """Messages that took place: no receive after the last computation began, no send before the first one ended."""
    if way == "recv":
        last = max(row["start_ts"] for row in parts)
        return [row for row in messages if row["start_ts"] <= last + CLOCK_SECONDS]
    first = min(row["start_ts"] + row["duration"] for row in parts)
    return [row for row in messages if row["start_ts"] + row["duration"] >= first - CLOCK_SECONDS]


def _add_message(template: Template, message: OperationKey, part: OperationKey, way: str) -> None:
    if way == "send":
        template.waits.append((part, message))
        return
    template.waits.append((message, part))
    if part.number:
        template.waits.append((part._replace(number=part.number - 1), message))


def _first_backward(template: Template, rows: list[Row], compute: list[Row]) -> None:
    at = next((i for i, row in enumerate(compute) if row["optype"] == BACKWARD), 0)
    if at < 2:
        return
    for kind in ("backward-send", "backward-recv"):
        first = next((row for row in rows if row["optype"] == kind and row["seq_id"] == 0), None)
        if first is not None:
            template.waits.append((_key(compute[at - 2]), _key(first)))


def _parameters(template: Template, rows: list[Row], compute: list[Row]) -> None:
    """All-gathers before a chunk's first forward, reduce-scatters after its last backward if these overlap."""
    template.chain([_key(row) for row in rows if row["optype"] in (ALL_GATHER, REDUCE_SCATTER)])
    gathers = {
        int(r["mc"]): r for r in sorted(_rows_of_kind(rows, ALL_GATHER), key=lambda r: r["seq_id"])
    }  # the last of a chunk
    for chunk, row in gathers.items():
        users = [r for r in _rows_of_kind(compute, FORWARD) if int(r["mc"]) == chunk]
        if users:
            template.waits.append((_key(row), _key(min(users, key=lambda r: r["start_ts"]))))
    if not _rows_of_kind(rows, SEPARATE):
        return
    scatters: dict[int, Row] = {}
    for row in sorted(_rows_of_kind(rows, REDUCE_SCATTER), key=lambda r: r["seq_id"]):
        scatters.setdefault(int(row["mc"]), row)  # the first of a chunk
    for chunk, row in scatters.items():
        sources = [r for r in _rows_of_kind(compute, BACKWARD) if int(r["mc"]) == chunk]
        if sources:
            template.waits.append((_key(max(sources, key=lambda r: r["start_ts"] + r["duration"])), _key(row)))


def _rows_of_kind(rows: Iterable[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["optype"] == kind]


def _end_of_step(template: Template, rows: list[Row], compute: list[Row], num_stages: int) -> None:
    last = _key(max(compute, key=lambda row: row["start_ts"] + row["duration"]))
    scatters = [_key(row) for row in sorted(_rows_of_kind(rows, REDUCE_SCATTER), key=lambda r: r["seq_id"])]
    overlaps = bool(_rows_of_kind(rows, SEPARATE))
    between = [SEPARATE] if overlaps else []
    head = [_key(row) for kind in (GC, LAYER_NORM, EMBEDDING) for row in _rows_of_kind(rows, kind)]
    middle = [_key(row) for kind in between for row in _rows_of_kind(rows, kind)] if overlaps else scatters
    tail = [_key(row) for kind in (CLIP, OPTIMIZER) for row in _rows_of_kind(rows, kind)]
    template.chain([last, *head, *middle, *tail])
    after_backward = [*head[1:], *middle, *tail]
    if overlaps and scatters and after_backward:
        template.waits.append((scatters[-1], after_backward[0]))
    stage = last.stage
    template.meetings += [[key] for kind in ACROSS_REPLICAS for key in map(_key, _rows_of_kind(rows, kind))]
    # Found again by `_meet`: the first and the last stage share the embedding, and all stages clip together.
    if stage in (0, num_stages - 1):
        template.meetings += [[_key(row)] for row in _rows_of_kind(rows, EMBEDDING)]
    template.meetings += [[_key(row)] for row in _rows_of_kind(rows, CLIP)]


def _meet(path: Path, template: Template, messages: dict[OperationKey, OperationKey]) -> None:
    """Pair the messages; put the embedding's and the clipping's members together."""
    together: defaultdict[str, list[OperationKey]] = defaultdict(list)
    apart = []
    for (key,) in template.meetings:
        if key.kind in (EMBEDDING, CLIP):
            together[key.kind].append(key)
        else:
            apart.append([key])
    template.meetings = apart + list(together.values())
    numbered = {(key.kind, key.stage): key.number for key in messages}
    for key, peer in messages.items():
        number = numbered.get((peer.kind, peer.stage))
        kind = key.kind.partition("#")[0]
        if number is None:
            raise BenchError(
                f"{path}: {kind} {key.number} of stage {key.stage} has no peer on stage {peer.stage}; the first step "
                "is not whole"
            )
        if MESSAGES[kind][0] == "send":
            other = OperationKey(peer.kind.partition("#")[0], number, peer.stage)
            template.meetings.append([OperationKey(kind, key.number, key.stage), other])
