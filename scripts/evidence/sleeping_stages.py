"""Idle time of a pipeline whose stages sleep, as the traced spans tell it, against a replay of the schedule's order.

    python scripts/evidence/sleeping_stages.py > results/evidence/sleeping_stages.txt

Four ranks on however many cores: a stage that sleeps needs none, so that its time is known beforehand (forward 20 ms,
input gradient and weight gradient together 40 ms) and what a rank waits for can be told from what the machine adds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

NUM_RANKS, NUM_MICROBATCHES, FORWARD_SECONDS, CALLS = 4, 8, 0.02, 3
SCHEDULES = ("gpipe", "1f1b", "interleaved_1f1b")


def on_rank(index: int, path: str, schedule_name: str) -> tuple[list[Any], list[int]]:
    import torch
    import torch.distributed as dist
    from torch import nn

    from bench.measure.engine.rank import Tracer, close_groups, open_groups
    from bench.measure.engine.store import Store
    from bench.measure.engine.timing.device_clock import clock_for_work
    from bench.measure.launchers.place import Place
    from bench.parallelism.pipeline.schedules import SCHEDULES as TABLE
    from bench.workloads.parallel.pipeline import PipelineStep
    from bench.workloads.trace import communication

    class Sleep(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            time.sleep(FORWARD_SECONDS)
            return x * weight

        @staticmethod
        def backward(_ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            time.sleep(2 * FORWARD_SECONDS)
            return gradient, gradient.sum().reshape(1)

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> Any:
            return Sleep.apply(x, self.weight)

    torch.set_num_threads(1)
    place = Place(index, NUM_RANKS, index, NUM_RANKS)
    rank = open_groups(
        place,
        place.machine("cpu", "standard", NUM_RANKS, 1 << 30),
        "gloo",
        Store(dist.FileStore(path, NUM_RANKS)),
        60.0,
        0,
    )
    schedule = TABLE[schedule_name]
    batch = torch.ones(NUM_MICROBATCHES, 4)
    stages = {stage: Stage() for stage in schedule.stages_of(index, NUM_RANKS)}
    step = PipelineStep(schedule, stages, rank, NUM_MICROBATCHES, lambda o, t: (o - t).square().mean(), batch, batch)
    step.run()
    tracer = Tracer(index, clock_for_work("cpu", "host"))
    for _ in range(CALLS):
        dist.barrier()
        rank.tracer = tracer
        start = tracer.clock.mark()
        with communication.record_communication(tracer, {rank.group.group_name: "pipeline"}):
            step.run()
        tracer.calls.append((start, tracer.clock.mark()))
        rank.tracer = None
        tracer.num_calls += 1
    close_groups()
    return list(tracer.spans()), tracer.call_ns()


def main() -> None:
    from bench.parallelism import step_breakdown
    from bench.parallelism.layout import Layout
    from bench.parallelism.pipeline import bubble
    from bench.parallelism.pipeline.replay import replay
    from bench.parallelism.pipeline.schedules import SCHEDULES as TABLE
    from bench.workloads.parallel.torch_schedules import operations

    for name in SCHEDULES:
        schedule = TABLE[name]
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(NUM_RANKS, get_context("spawn")) as pool:
            path = str(Path(folder) / "store")
            results = [job.result() for job in [pool.submit(on_rank, i, path, name) for i in range(NUM_RANKS)]]
        spans = [span for rank_spans, _ in results for span in rank_spans]
        call_ns = [calls for _, calls in results]
        expected = replay(operations(schedule, NUM_RANKS, NUM_MICROBATCHES)).bubble
        idle = bubble.idle_share(spans, call_ns)
        shares = step_breakdown.mean_shares(
            step_breakdown.step_parts(spans, call_ns, Layout(pp=NUM_RANKS), schedule.num_stages(NUM_RANKS))
        )
        parts = ", ".join(f"{part} {share:.2%}" for part, share in shares.items() if share)
        print(f"{name}: replay {expected:.2%}, not computing {idle:.2%}; {parts}")


if __name__ == "__main__":
    main()
