"""Estimates of memory over counts on fake GPUs: `python -m tests.support.fake_memory [SUITE...]` prints a row per case.

The case is prepared with just the memory that its estimate asks for, as if there is no more: without the variant on
one device, and with a reduced check.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from bench.measure.planning.suite_loader import load
from bench.parallelism.layout import Layout
from bench.suite import Params
from bench.workloads.training import step_memory
from tests.support.fake_cases import Outcome, in_child, run_case
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_worlds import blank

SMALL_BYTES = 64 << 20
"""An estimate may be this much off: it is of the kernels' own workspace and of checks, and decides nothing."""
LIMITS = (0.8, 1.5)
COUNTED = (
    ("compute", "smoke", 8, 0, 12),
    ("collective", "smoke", 8, 0, 9),
    ("point_to_point", "smoke", 8, 0, 1),
    ("transfer", "smoke", 8, 0, 2),
    ("overlap", "standard", 8, 0, 5),
    ("concurrent", "standard", 8, 0, 2),
    ("soak", "standard", 2, 0, 1),
    ("tensor_parallel", "standard", 8, 0, 15),
    ("tensor_parallel", "standard", 2, 0, 6),
    ("context_parallel", "standard", 8, 0, 7),
    ("expert_parallel", "standard", 8, 0, 5),
    ("expert_parallel", "smoke", 2, 0, 1),
    ("pipeline_parallel", "smoke", 8, 0, 1),
    ("inference", "smoke", 8, 0, 1),
    ("data_parallel", "smoke", 8, 0, 1),
)
"""Suite, preset, ranks, whose view, how many of the first cases."""
ENOUGH_BYTES = 1 << 44


def rows(*suites: str) -> Iterator[tuple[str, int, int, int, str | None]]:
    """Case, ranks, bytes by the estimate, bytes as counted, and the error where it could not be counted."""
    for name, preset, world_size, index, most in COUNTED:
        if suites and name not in suites:
            continue
        suite, machine = load(name), FakeCuda(index, world_size, preset, memory_bytes=ENOUGH_BYTES).machine
        known = [row for row in suite.cases(machine) if blank(name, row, world_size) is None]
        for params in known[:most]:
            case = suite.case(params)
            needed = suite.memory_bytes(dict(case.params), machine) or 0
            outcome = in_child(partial(run_case, name, params, index, world_size, needed, True))
            yield case.id, world_size, needed, outcome.peak_bytes, outcome.error or outcome.skipped


TRAINED = (({}, 4), ({"recompute": True}, 8))
"""Change of the first case on one GPU, and how many layers. Not shares of fully_shard: fakes do not see what it frees.
(On an H100 the case with all 16 layers took 41.6 GB, and 37.1 by the estimate.)"""


def training_rows() -> Iterator[tuple[str, int, int, int, str | None]]:
    """The same of training steps, whose own `memory` is that of the fewest layers."""
    suite, machine = load("training_step"), FakeCuda(0, 1, "standard", memory_bytes=79 << 30).machine
    first = suite.defaults | suite.cases(machine)[0]
    for change, num_layers in TRAINED:
        params = first | change
        needed = step_memory.bytes_needed(
            step_memory.make_job(params, num_layers), Layout(), params, machine.device_type
        )
        outcome = in_child(partial(_trained, params, num_layers))
        yield suite.case(params).id, 1, needed, outcome.peak_bytes, outcome.error


def _trained(params: Params, num_layers: int) -> Outcome:
    from bench.workloads.training.parallelize import Treatment
    from bench.workloads.training.training_step import TrainingStep

    fake = FakeCuda(0, 1, "standard", memory_bytes=79 << 30)
    treatment = Treatment(str(params["dtype"]), str(params["dp_mode"]), bool(params["recompute"]), compile=False)
    with fake as rank:
        job = step_memory.make_job(params, num_layers)
        step = TrainingStep(job, Layout(), treatment, rank, is_restorable=False)
        for _ in range(2):
            step.run()
        return Outcome(peak_bytes=fake.tensors.peak)


if __name__ == "__main__":
    suites = sys.argv[1:]
    for case, ranks, needed, counted, error in (*rows(*suites), *(() if suites else training_rows())):
        sys.stdout.write(f"{needed / max(1, counted):.2f}\t{needed}\t{counted}\t{ranks}\t{case}\t{error or ''}\n")
