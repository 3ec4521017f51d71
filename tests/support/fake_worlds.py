"""A table of suite by world size: what one rank of each prepares and calls on fake GPUs, and why where it does not.

`python -m tests.support.fake_worlds > tests/data/fake_worlds.md` writes it again. Sizes are small and multiples of the
ranks, since neither matters here; what differs in structure (operation, implementation, type, mode) is all there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from bench.measure.planning.suite_loader import Suite, load
from bench.suite import Params
from tests.support.fake_cases import Outcome, in_child, run_case
from tests.support.fake_cuda import FakeCuda

WORLDS = (1, 2, 8, 16, 96, 4096)
SUITES = (
    "compute", "collective", "point_to_point", "transfer", "overlap", "concurrent", "tensor_parallel",
    "pipeline_parallel", "data_parallel", "context_parallel", "expert_parallel", "heterogeneous", "inference",
    "training_step", "soak", "checkpoint", "input_pipeline",
)  # fmt: skip
MEMORY_BYTES = 1 << 44
"""So much that no variant and no full check is left out for want of it."""
LOOPS = "Python loops over all of them take too long for a test"
MOST_RANKS = {
    "pipeline_parallel": (96, LOOPS),
    "heterogeneous": (2, "its many calls take too long for a test"),
    "context_parallel": (96, LOOPS),
    "expert_parallel": (96, LOOPS),
}
"""Suite -> the largest world that is tried, and why none above it."""
MOST_CASES = {8: 4}
"""Number of ranks -> how many structures of a suite are tried, in the suite's own order; 2 elsewhere."""
MOST_CHECKED_RANKS = 8
"""Checks go through the work of all ranks on one device."""
NOT_COVERED = {
    "checkpoint": "saves values, which fake tensors do not have",
    "input_pipeline": "reads files and hands over values, which fake tensors do not have",
}
NOT_FAKED = (
    ("buffer", "registered", "memory that NCCL registers"),
    ("buffer", "symmetric", "symmetric memory"),
    ("implementation", "async_tp", "symmetric memory"),
    ("implementation", "torch", "torch's own context_parallel reads values"),
    ("compile", True, "compiled code"),
    ("dtype", "float8_e4m3fn", "products in FP8"),
)
"""Parameter, value, what of it only GPUs have."""


def sizes(name: str, world_size: int) -> Params:
    """What replaces a suite's sizes."""
    width = 4 * world_size
    table: dict[str, Params] = {
        "compute": {"size": 64, "tokens": 32, "num_bytes": 4096},
        "collective": {"num_bytes": 64 * world_size},
        "point_to_point": {"num_bytes": 4096},
        "transfer": {"num_bytes": 4096},
        "overlap": {"num_bytes": 64 * world_size, "size": 64},
        "concurrent": {"num_bytes": 64 * world_size},
        "tensor_parallel": {
            "hidden": 4 * world_size, "ffn_hidden": width, "num_heads": world_size, "sequence": 2 * world_size,
        },
        "pipeline_parallel": {"hidden": 32, "num_heads": 2, "sequence": 16, "num_microbatches": 2 * world_size},
        "data_parallel": {"num_layers": 2, "sequence": 16},
        "context_parallel": {"sequence": 4 * world_size, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8},
        "expert_parallel": {"hidden": 16, "ffn_hidden": 16, "tokens_per_rank": 64},
        "heterogeneous": {"hidden": 8 * world_size, "num_heads": 2, "sequence": 16, "num_layers": 2,
                          "units": 2 * world_size},
        "inference": {"num_layers": 2, "sequence": 8, "batch": 2},
        "training_step": {"shape": "tiny", "sequence": 64, "num_layers": 0},
        "soak": {"size": 64, "num_bytes": 64 * world_size, "num_rounds": 2},
    }  # fmt: skip
    return table[name]


def structures(suite: Suite, world_size: int) -> Iterator[Params]:
    """A case of each structure, in the order of the standard preset, and on 8 ranks of the full one."""
    preset = "full" if world_size == 8 else "standard"
    machine = replace(FakeCuda(0, world_size, preset).machine, memory_bytes=MEMORY_BYTES)
    small, seen = sizes(suite.name, world_size), set()
    for row in suite.cases(machine):
        params = row | {key: value for key, value in small.items() if key in row}
        if suite.name == "training_step":
            stages = 1 if row["pp"] == 1 else int(row["pp"])
            params |= {"num_layers": stages, "num_microbatches": stages, "shape": "llama3-1b"}
            params["batch"] = stages * (world_size // int(row["tp"]) // int(row["pp"]))
        key = tuple(sorted(params.items()))
        if key not in seen:
            seen.add(key)
            yield params


def views(world_size: int, is_first: bool) -> list[int]:
    """The ranks that are tried: of a suite's first case on 8 ranks the first, a middle and the last, else the last."""
    return [0, 4, 7] if world_size == 8 and is_first else [world_size - 1]


def blank(name: str, params: Params, world_size: int) -> str | None:
    """Why a case is not tried here; None if it is."""
    if name in NOT_COVERED:
        return NOT_COVERED[name]
    most, why = MOST_RANKS.get(name, (world_size, ""))
    if world_size > most:
        return f"not tried above {most} ranks: {why}"
    for parameter, value, what in NOT_FAKED:
        if params.get(parameter) == value:
            return f"{parameter}={str(value).lower()}: {what}, which only real GPUs have"
    return None


def tried(name: str, params: Params, world_size: int, is_first: bool) -> Outcome:
    """The worst of what became of the case on the ranks that are tried."""
    found, checks = Outcome(), world_size <= MOST_CHECKED_RANKS
    memory_bytes = MEMORY_BYTES if checks else 0
    for index in views(world_size, is_first):
        found = in_child(partial(run_case, name, params, index, world_size, memory_bytes, checks))
        if found.error or found.skipped:
            break
    return found


def table(worlds: tuple[int, ...] = WORLDS, suites: tuple[str, ...] = SUITES) -> str:
    """Markdown: how many of the structures ran, and why the others did not."""
    reasons: dict[str, int] = {}
    lines = ["| suite | " + " | ".join(map(str, worlds)) + " |", "| --- |" + " ---: |" * len(worlds)]
    for name in suites:
        lines.append(f"| {name} | " + " | ".join(_cell(name, world, reasons) for world in worlds) + " |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    head = [
        "# What one rank prepares and calls on fake GPUs, by number of ranks",
        "",
        "Cases of different structure that ran, of how many; the numbers in brackets say why others did not.",
        "",
    ]
    return "\n".join([*head, *lines, "", *notes]) + "\n"


def _cell(name: str, world_size: int, reasons: dict[str, int]) -> str:
    most = MOST_CASES.get(world_size, 2)
    rows = [{}] if name in NOT_COVERED else list(islice(structures(load(name), world_size), most))
    done, why = 0, set()
    for params in rows:
        reason = blank(name, params, world_size)
        if reason is None:
            outcome = tried(name, params, world_size, params is rows[0])
            reason = outcome.skipped or (outcome.error and f"**{load(name).case(params).id}: {outcome.error}**")
        if reason is None:
            done += 1
        else:
            why.add(reasons.setdefault(reason, len(reasons) + 1))
    if name in NOT_COVERED:
        return f"({', '.join(map(str, sorted(why)))})"
    return f"{done} of {len(rows)}" + (f" ({', '.join(map(str, sorted(why)))})" if why else "")


if __name__ == "__main__":
    worlds = tuple(map(int, sys.argv[1].split(","))) if len(sys.argv) > 1 else WORLDS
    sys.stdout.write(table(worlds, tuple(sys.argv[2].split(",")) if len(sys.argv) > 2 else SUITES))
