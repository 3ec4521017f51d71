"""How long the what-if simulator takes for one step of 1,024 ranks with 64 microbatches: graph and run.

16 stages x 64 replicas, 1F1B: every computation and every message is an operation (both ends of a message meet), every
stage's gradients meet across the replicas. Prints the number of operations and the seconds of building and running.
"""

from __future__ import annotations

import time

import numpy as np

from bench.analysis.explain.what_if import Operations
from bench.parallelism.pipeline.orders import one_f_one_b

NUM_STAGES, NUM_REPLICAS, NUM_MICROBATCHES = 16, 64, 64


def pipeline() -> tuple[list[tuple[int, int]], list[int], list[list[int]], list[bool]]:
    """One replica: waits, stage of each operation, meetings of two ends, and which operations are messages."""
    waits: list[tuple[int, int]] = []
    stages: list[int] = []
    meetings: list[list[int]] = []
    messages: list[bool] = []
    at: dict[tuple[str, int, int], int] = {}

    def add(stage: int, is_message: bool) -> int:
        stages.append(stage)
        messages.append(is_message)
        return len(stages) - 1

    last: list[int] = []
    for stage in range(NUM_STAGES):
        before = None
        for _, microbatch, kind, _ in one_f_one_b(stage, NUM_STAGES, NUM_MICROBATCHES):
            own = at[kind, stage, microbatch] = add(stage, False)
            if before is not None:
                waits.append((before, own))
            before = own
        assert before is not None
        last.append(before)
    for (kind, stage, microbatch), own in list(at.items()):
        other = at.get((kind, stage + (-1 if kind == "forward" else 1), microbatch))
        if other is not None:
            send, receive = add(stages[other], True), add(stage, True)
            waits += [(other, send), (receive, own)]
            meetings.append([send, receive])
    for stage in range(NUM_STAGES):
        waits.append((last[stage], add(stage, True)))
    return waits, stages, meetings, messages


def job() -> Operations:
    waits, stages, meetings, messages = pipeline()
    size, spread = len(stages), np.arange(NUM_REPLICAS)
    before, after = (np.asarray(column)[:, None] * NUM_REPLICAS + spread for column in zip(*waits, strict=True))
    group = np.full((size, NUM_REPLICAS), -1, dtype=np.int64)
    for number, members in enumerate(meetings):
        group[members] = number * NUM_REPLICAS + spread
    for stage in range(NUM_STAGES):
        group[size - NUM_STAGES + stage] = len(meetings) * NUM_REPLICAS + stage
    random = np.random.default_rng(1)
    is_message = np.repeat(np.asarray(messages), NUM_REPLICAS)
    seconds = np.where(is_message, 1e-4, 1e-2) * random.uniform(0.9, 1.1, size * NUM_REPLICAS)
    return Operations(
        seconds=seconds[:, None],
        kind=is_message.astype(np.int64),
        kinds=("compute", "message"),
        communicates=is_message,
        places={"stage": np.repeat(np.asarray(stages), NUM_REPLICAS)},
        before=before.reshape(-1),
        after=after.reshape(-1),
        group=group.reshape(-1),
    )


def main() -> None:
    operations = job()
    began = time.perf_counter()
    depth = operations.graph.depth
    built = time.perf_counter()
    step = operations.run(operations.seconds)[0]
    done = time.perf_counter()
    print(
        f"{NUM_STAGES * NUM_REPLICAS} ranks, {NUM_MICROBATCHES} microbatches, {operations.num_operations:,} operations "
        f"in {depth} levels: graph {built - began:.2f} s, one run {done - built:.2f} s (step {step:.3f} s)"
    )


if __name__ == "__main__":
    main()
