"""Known slow-downs: pieces of the other suites, each also made slower by a known share of its own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.measure.engine.rank import RankContext
from bench.measure.engine.timing.case_cost import main_variant_only
from bench.measure.planning.suite_loader import load
from bench.suite import Machine, Params, Work

PIECES: dict[str, tuple[str, dict[str, str | int]]] = {
    "matmul_512": ("compute", {"op": "matmul", "shape": "square", "size": 512}),
    "mlp": ("tensor_parallel", {"op": "mlp", "batch": 1, "sequence": 256, "hidden": 256, "ffn_hidden": 1024}),
    "all_reduce_1KiB": ("collective", {"op": "all_reduce", "num_bytes": 1024}),
    "all_reduce_16MiB": ("collective", {"op": "all_reduce", "num_bytes": 16777216}),
}
"""Operation -> the suite that it is taken from, and its parameters there; the others have their defaults."""
UNCHANGED: dict[str, tuple[str, dict[str, str | int]]] = {
    "copy_4MiB": ("compute", {"op": "copy", "num_bytes": 4194304}),
    "one_way_4MiB": ("point_to_point", {"op": "one_way", "num_bytes": 4194304}),
    "attention": ("tensor_parallel", {"op": "attention", "batch": 1, "sequence": 128, "hidden": 256, "num_heads": 4}),
    "reduce_scatter_4MiB": ("collective", {"op": "reduce_scatter", "num_bytes": 4194304}),
    "ddp": ("data_parallel", {"op": "ddp", "model": "tiny", "num_layers": 4, "sequence": 64, "bucket_mb": 4}),
}
"""Further kinds of work, which are never slower: what launches have in common is learnt from them too."""
SLOWER_PERCENT = (0, 3, 5, 10, 20)
DEFAULTS = {"slower_percent": 0}
CHOICES = {"op": (*PIECES, *UNCHANGED), "slower_percent": SLOWER_PERCENT}


def cases(machine: Machine) -> Iterator[Params]:
    for op in PIECES:
        for percent in SLOWER_PERCENT:
            yield {"op": op, "slower_percent": percent}
    for op in UNCHANGED:
        yield {"op": op, "slower_percent": 0}


def prepare(params: Params, rank: RankContext) -> Work:
    name, own = (PIECES | UNCHANGED)[str(params["op"])]
    suite = load(name)
    work = suite.prepare(suite.defaults | own, rank)
    alone = main_variant_only(work)
    ((full, run),) = alone.variants.items()
    return replace(alone, variants={full: slowed(run, int(params["slower_percent"]))})


def slowed(run: Callable[[], object], percent: int) -> Callable[[], object]:
    """The same work, followed by a busy loop of so many percent of what it took, on every rank, in the timed part."""
    if not percent:
        return run

    def slower() -> None:
        began = time.perf_counter_ns()
        run()
        ended = time.perf_counter_ns()
        until = ended + (ended - began) * percent // 100
        while time.perf_counter_ns() < until:
            pass

    return slower
