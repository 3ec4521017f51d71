"""The training step of the suite against plain torch loops outside the harness: in turn, 10 pairs each.

    python scripts/evidence/plain_step.py ["one rank" | tensor | fsdp2 ...]

Ranks are started once for each comparison. In each pair both sides take steps for a while: the suite's by the engine's
own sampler (aligned, median over samples of the maximum over ranks), the plain loop's by a clock around each step on
rank 0 (median), which is how a script of one's own is timed: if anything, it favours the plain loop.
Which side is first changes from pair to pair. The plain loops are written
here with torch's functions alone; only the model's class is shared.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

NUM_PAIRS, SIDE_SECONDS, BATCH = 10, 0.8, 4
# Name -> ranks and the case's own parameters.
COMPARISONS: dict[str, tuple[int, dict[str, Any]]] = {
    "one rank": (1, {}),
    "tensor": (2, {"tp": 2}),
    "fsdp2": (2, {"dp_mode": "shard"}),
}


def plain_step(name: str, rank: Any, tokens: Any, targets: Any) -> Callable[[], None]:
    """A training step as one writes it by hand."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor.parallel import ColwiseParallel as Columns
    from torch.distributed.tensor.parallel import (
        PrepareModuleInput,
        SequenceParallel,
        loss_parallel,
        parallelize_module,
    )
    from torch.distributed.tensor.parallel import RowwiseParallel as Rows
    from torch.nn.functional import cross_entropy

    from bench.parallelism.shapes import find_model
    from bench.workloads.model.llama import whole_model

    model = whole_model(find_model("small"), rank.generator, rank.device)
    mesh = (
        init_device_mesh("cpu", (rank.world_size,), mesh_dim_names=(f"plain_{name}",)) if name != "one rank" else None
    )
    if name == "tensor":
        split = Shard(1)
        whole = PrepareModuleInput(input_layouts=(split,), desired_input_layouts=(Replicate(),))
        plan: dict[str, Any] = {
            "embedding": Rows(input_layouts=Replicate(), output_layouts=split),
            "norm": SequenceParallel(),
            "head": Columns(input_layouts=split, output_layouts=Shard(-1), use_local_output=False),
            "layers.*.attention_norm": SequenceParallel(),
            "layers.*.mlp_norm": SequenceParallel(),
            "layers.*.attention": whole,
            "layers.*.mlp": whole,
            "layers.*.attention.out": Rows(output_layouts=split),
            "layers.*.mlp.down": Rows(output_layouts=split),
        }
        for matrix in ("attention.query", "attention.key", "attention.value", "mlp.gate", "mlp.up"):
            plan[f"layers.*.{matrix}"] = Columns()
        parallelize_module(model, mesh, plan)
        targets = DTensor.from_local(targets, mesh, [Replicate()])
    if name == "fsdp2":
        for layer in model.layers.values():
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        tokens, targets = (each.chunk(rank.world_size)[rank.index] for each in (tokens, targets))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss = cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()

    def parallel_loss() -> None:
        with loss_parallel():
            step()

    return parallel_loss if name == "tensor" else step


def on_rank(index: int, path: str, name: str) -> list[tuple[float, float]]:
    """Seconds of a step in each pair: the suite's and the plain loop's."""
    import torch
    import torch.distributed as dist

    from bench.core import clock
    from bench.measure.engine import control
    from bench.measure.engine.rank import close_groups, open_groups
    from bench.measure.engine.store import Store
    from bench.measure.engine.timing.device_clock import clock_for_work
    from bench.measure.engine.timing.sampler import Sampler
    from bench.measure.engine.timing.stop_rule import Limits
    from bench.measure.launchers.place import Place
    from bench.measure.planning.suite_loader import load
    from suites.training_step import DEFAULTS

    world_size, change = COMPARISONS[name]
    torch.set_num_threads(1)
    place = Place(index, world_size, index, world_size)
    machine = replace(place.machine("cpu", "standard", 2, 0), memory_bytes=4 << 30)
    rank = open_groups(place, machine, "gloo", Store(dist.FileStore(path, world_size)), 60.0, seed=0)
    params = {**DEFAULTS, "shape": "small", "batch": BATCH, "num_microbatches": 1, "tp": 1, "pp": 1, **change}
    work = load("training_step").prepare(params, rank)
    size = (BATCH, 129)
    tokens = torch.randint(2048, size, generator=rank.generator(99))
    plain = plain_step(name, rank, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())

    def suite_seconds() -> float:
        sampler = Sampler(rank, work, clock_for_work("cpu", "host"), "aligned", clock.monotonic_seconds)
        own = sampler.measure(Limits(0.0, SIDE_SECONDS)).nanoseconds["full"]
        return statistics.median(control.maxima(rank, own)) / 1e9

    def plain_seconds() -> float:
        for _ in range(2):
            plain()
        times: list[float] = []
        count = control.broadcast_numbers(rank, [max(3, round(SIDE_SECONDS / typical[0]))])[0]
        for _ in range(count):
            began = time.perf_counter()
            plain()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    typical = [0.1]
    typical[0] = suite_seconds()
    pairs = []
    for number in range(NUM_PAIRS):
        sides = [suite_seconds, plain_seconds]
        order = (0, 1) if number % 2 == 0 else (1, 0)
        found = {side: sides[side]() for side in order}
        pairs.append((found[0], found[1]))
    close_groups()
    return pairs


def main() -> None:
    for name in sys.argv[1:] or COMPARISONS:
        world_size, _ = COMPARISONS[name]
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(world_size, get_context("spawn")) as pool:
            path = str(Path(folder) / "store")
            jobs = [pool.submit(on_rank, index, path, name) for index in range(world_size)]
            pairs, *_ = (job.result() for job in jobs)
        ratios = [math.log(own / plain) for own, plain in pairs]
        middle, error = statistics.mean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))
        margin = 2.262 * error  # t of 9 degrees of freedom, 95%
        tokens = BATCH * 128
        own, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"{name}: suite {tokens / own:.0f} tokens/s, plain {tokens / plain:.0f} tokens/s; suite / plain time "
              f"{math.exp(middle):.3f} [{math.exp(middle - margin):.3f}, {math.exp(middle + margin):.3f}]")  # fmt: skip
        for one, other in pairs:
            print(f"    {one * 1e3:8.2f} ms  {other * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()
