"""A plan made by hand, and a rank that is alone in the world, for tests of what uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from bench.measure.engine.rank import RankContext
from bench.measure.launchers.place import Place
from bench.measure.planning.plan import Plan
from bench.records.lines.header import PlannedCase, SuiteFacts
from bench.suite import SuiteMetric
from tests.support.ranks import cpu_machine


def plain_plan() -> dict[str, Any]:
    """Plain values of a plan in a header."""
    fields: dict[str, Any] = msgspec.to_builtins(a_plan().row())
    return fields


def a_plan(num_cases: int = 8, **changes: Any) -> Plan:
    """Cases `sum/run[size=1]` and on; `changes` replace fields."""
    plan = Plan(
        preset="standard",
        suites=(
            SuiteFacts(
                "sum", "./sum.py", "Sums.", {"speed": SuiteMetric("GB/s", "higher", "Speed of the sum.")}, "ab" * 32
            ),
        ),
        cases=tuple(
            PlannedCase("sum", f"sum/run[size={n}]", {"size": n, "exact": True}) for n in range(1, num_cases + 1)
        ),
        left_out=(PlannedCase("sum", "sum/run[size=99]", {"size": 99, "exact": False}),),
        world_size=2,
        device_type="cpu",
        backend="gloo",
        launches=3,
        case_seconds=2.0,
        budget_seconds=None,
        timeout_seconds=60.0,
        precision=0.02,
        seed=7,
        threads_per_rank=1,
        label="run",
        options={"preset": "standard", "suites": ["./sum.py"]},
    )
    return replace(plan, **changes)


def lone_rank(index: int = 0, world_size: int = 1) -> RankContext:
    """A rank without process groups, which a world of one never asks for."""
    import torch

    groups: Any = None
    return RankContext(
        place=Place(index, world_size, index, world_size),
        machine=cpu_machine(world_size),
        backend="gloo",
        device=torch.device("cpu"),
        group=groups,
        control=groups,
        calibration=groups,
    )
