"""A table of what a run that names nothing plans on 1 to 512 GPUs: cases, skips with reasons, trained layers, time.

`python -m tests.support.planning_table > tests/data/planning.md` writes it again. It asks the product's own planning; a
skip is what `memory` or `prepare` says before anything is allocated.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory as symmetric_memory

from bench.measure.engine import control
from bench.measure.engine.rank import Place, RankContext
from bench.measure.planning.budget_fit import estimate_seconds
from bench.measure.planning.options import RunOptions
from bench.measure.planning.plan import Plan
from bench.measure.planning.planner import new_plan
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_loader import load
from bench.measure.system.memory import numa
from bench.parallelism.layout import Layout, layout_of
from bench.parallelism.shapes import find_model
from bench.records.lines.header import PlannedCase
from bench.suite import Machine, Skip
from bench.workloads.model import transfers
from bench.workloads.storage import scratch_dir
from bench.workloads.trace import peak_memory
from bench.workloads.training import step_memory
from suites import training_step, transfer

GPUS = (1, 2, 8, 16, 64, 512)
MEMORY_GB = (80, 141, 192)
FREE_SHARE = 0.97
"""Of a card's memory: its context takes the rest (78 of 80 GiB on an H100)."""
RANKS_PER_HOST = 8


class Reached(Exception):  # noqa: N818 - nothing went wrong
    """`prepare` has come to where it allocates, and so would not skip."""


@dataclass
class Rank:
    """What suites may ask before they allocate."""

    machine: Machine
    place: Place
    backend: str = "nccl"
    device: torch.device = field(default_factory=lambda: torch.device("cuda", 0))

    @property
    def world_size(self) -> int:
        return self.place.world_size

    @property
    def index(self) -> int:
        return self.place.index

    def __getattr__(self, name: str) -> Any:
        raise Reached(name)


def _reached(*_args: Any, **_rest: Any) -> Any:
    raise Reached


def _compilable_anywhere(layout: Layout, device_type: str) -> None:
    """Without asking for a compiler, which the machine has that makes the table, or not."""
    if layout.tp > 1:
        ASKED(layout, device_type)


ASKED = training_step._compilable


def planned(gpus: int, memory_bytes: int, preset: str) -> tuple[Plan, Rank]:
    place = Place(0, gpus, 0, min(gpus, RANKS_PER_HOST), num_hosts=-(-gpus // RANKS_PER_HOST))
    with (
        patch("bench.measure.system.devices.planned_memory_bytes", lambda *_: memory_bytes),
        patch("bench.measure.system.host.usable_cores", lambda: 64),
    ):
        plan = new_plan(RunOptions(preset=preset), "cuda", place, None)
    machine = place.machine("cuda", PRESETS[preset].of_suites, 64, memory_bytes)
    return plan, Rank(machine, place)


REPLACED: tuple[tuple[Any, str, Any], ...] = (
    # What would allocate.
    (dist, "new_group", _reached),
    (torch, "empty", _reached),
    (symmetric_memory, "empty", _reached),
    (peak_memory, "PeakMemory", _reached),
    (control, "maxima", _reached),
    (scratch_dir, "require_room", _reached),
    (transfers, "HostBuffer", _reached),
    # What depends on the machine that makes the table.
    (torch.cuda, "get_device_capability", lambda _device: (9, 0)),
    (training_step, "_compilable", _compilable_anywhere),
    (transfer, "available_host_memory_bytes", lambda: 2**41),
    (transfers, "gpu_addresses", lambda _device: (None, None)),
    (numa, "topology", lambda: numa.Topology({0: frozenset({0})})),
)


def skip_reason(case: PlannedCase, rank: Rank) -> str | None:
    """Why the case would be skipped; None if it would be measured."""
    suite, asked = load(case.suite), cast("RankContext", rank)
    needed = suite.memory_bytes(dict(case.params), rank.machine)
    if needed is not None and needed > rank.machine.memory_bytes:
        return f"{case.suite}: needs more memory than a rank has"
    with ExitStack() as stack:
        for target, name, value in REPLACED:
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch.object(torch.cuda, "device_count", lambda: rank.machine.ranks_per_host))
        try:
            suite.prepare(dict(case.params), asked)
        except Skip as skip:
            return f"{case.suite}: {skip}"
        except Reached:
            return None
    raise AssertionError(f"{case.id}: prepare() allocated nothing")


def trained_layers(case: PlannedCase, machine: Machine) -> str:
    """Such as `8b 32/32 shard compile`: shape, layers of how many, and how they are split."""
    params = case.params
    layout = layout_of(machine.world_size, int(params["tp"]), int(params["pp"]))
    assert isinstance(layout, Layout)
    try:
        layers = str(step_memory.num_layers_that_fit(dict(params), layout, machine))
    except Skip:
        layers = "none"
    words = [str(params["shape"]).removeprefix("llama3-"), f"{layers}/{find_model(str(params['shape'])).num_layers}"]
    words += [f"{name}={params[name]}" for name in ("tp", "pp") if params[name] != 1]
    words += [str(params["dp_mode"])] * (layout.dp > 1)
    words += [name for name in ("recompute", "compile") if params[name]]
    return " ".join(words + ([str(params["dtype"])] if params["dtype"] != "bfloat16" else []))


def _row(gpus: int, gigabytes: int, preset: str, notes: dict[str, int]) -> str:
    plan, rank = planned(gpus, int(gigabytes * 1e9 * FREE_SHARE), preset)
    reasons = Counter(
        notes.setdefault(_general(reason), len(notes) + 1)
        for case in plan.cases
        if (reason := skip_reason(case, rank)) is not None
    )
    skips = ", ".join(f"{count} x ({number})" for number, count in sorted(reasons.items()))
    trained = [trained_layers(case, rank.machine) for case in plan.cases if case.suite == "training_step"]
    minutes = estimate_seconds(plan) / 60
    cells = (gpus, gigabytes, len(plan.cases), len(plan.left_out), sum(reasons.values()))
    return f"| {' | '.join(map(str, cells))} | {skips} | {'; '.join(trained)} | {minutes:.1f} |"


def _general(reason: str) -> str:
    """Numbers differ by world size; the reason is the same."""
    return re.sub(r"\d+(\.\d+)?", "N", reason)


def table() -> str:
    """Markdown, one part a preset."""
    notes: dict[str, int] = {}
    free = f"Memory in decimal GB a card, of which {FREE_SHARE:.0%} are free. Skips by reason, whose texts are below."
    lines = ["# What a run without further options plans on GPUs", "", free]
    for preset in PRESETS:
        lines += ["", f"## {preset}", "", "| GPUs | GB | cases | left out | skipped | why | trained layers | minutes |"]
        lines += ["| ---: | ---: | ---: | ---: | ---: | --- | --- | ---: |"]
        lines += [_row(gpus, gigabytes, preset, notes) for gpus in GPUS for gigabytes in MEMORY_GB]
    lines += ["", "## Reasons", "", *(f"{number}. {reason}" for reason, number in notes.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
