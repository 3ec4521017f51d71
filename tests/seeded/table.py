"""The table of seeded faults, each with the cases that have to find it.

`python -m tests.seeded.table [NAME...]` runs each fault, all by default, and prints the table with the verdicts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from subprocess import CompletedProcess

from tests.seeded import clock_faults as clock
from tests.seeded import communication_faults as communication
from tests.seeded import compute_faults as compute
from tests.seeded import parallel_faults as parallel
from tests.seeded import storage_faults as storage
from tests.seeded.fault import (
    CHECK,
    CHECK_ON_1,
    CLOCK,
    CLOCK_ON_1,
    EITHER,
    LEFT,
    LEFT_ON_1,
    SHORTCUT,
    Fault,
)
from tests.seeded.injection import When, environment
from tests.support.command import BENCH, environ

BUDGET = "2m"


def _collective(op: str, *further: str) -> str:
    shown = ",".join(sorted((*further, "num_bytes=65536"))) if op != "barrier" else ""
    return f"collective/{op}[{shown}]" if shown else f"collective/{op}"


ALL_REDUCE, ALL_GATHER, ALL_TO_ALL = map(_collective, ("all_reduce", "all_gather", "all_to_all"))
REDUCE_SCATTER, BROADCAST, REDUCE = map(_collective, ("reduce_scatter", "broadcast", "reduce"))
GATHER, SCATTER, BARRIER = map(_collective, ("gather", "scatter", "barrier"))
LARGE = "collective/all_to_all[num_bytes=1048576]"
ASYNC, STREAMED = _collective("all_reduce", "async_op=true"), _collective("all_reduce", "timing=streamed")
BFLOAT16 = _collective("all_reduce", "dtype=bfloat16")
MATMUL, COPY = "compute/matmul[shape=square,size=256]", "compute/copy[num_bytes=4194304]"
TRIAD = "compute/triad[num_bytes=4194304]"
TRANSFER = "transfer/host_to_host[node=near,num_bytes=4194304]"
MESSAGE = "point_to_point/one_way[num_bytes=65536]"
OVERLAP = "overlap/all_reduce[num_bytes=1048576,size=256]"
CONCURRENT = "concurrent/same[num_bytes=65536]"
TENSOR = "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,sequence=256]"
DTENSOR = "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,implementation=dtensor,sequence=256]"
PIPELINE = "pipeline_parallel/1f1b[hidden=64,num_heads=4,num_microbatches=4,sequence=32]"
GPIPE = "pipeline_parallel/gpipe[hidden=64,num_heads=4,num_microbatches=4,sequence=32]"
DDP = "data_parallel/ddp[bucket_mb=4,model=tiny,num_layers=1,sequence=16]"
FSDP = "data_parallel/fsdp[layers_per_group=1,model=tiny,num_layers=2,reshard_after_forward=true,sequence=16]"
RING = "context_parallel/ring[head_dim=64,num_heads=8,num_kv_heads=2,sequence=1024]"
EXPERTS = "expert_parallel/moe[ffn_hidden=512,hidden=256,imbalance=0.25,num_experts=8,tokens_per_rank=256,top_k=2]"
LOAD, SAVE = "checkpoint/load[num_bytes=4194304]", "checkpoint/async_save[num_bytes=4194304]"
SAMPLES = "input_pipeline/samples[batch_size=4,num_batches=4,sample_bytes=16384]"
DECODE = "inference/decode[batch=1,model=tiny,num_layers=4,parallel=tensor,sequence=64]"
UNEQUAL = "heterogeneous/data[hidden=64,num_heads=4,num_layers=1,sequence=64,units=6]"
STEP = "training_step/run[batch=8,num_microbatches=1,pp=1,shape=tiny,tp=1]"

ROWS = (
    # Of the clock.
    Fault("clock at half speed", "clock", clock.at_speed(0.5), {ALL_REDUCE: CLOCK, MATMUL: CLOCK, SAMPLES: CLOCK},
          is_at_start=True),
    Fault("clock at double speed", "clock", clock.at_speed(2.0), {ALL_REDUCE: CLOCK, MATMUL: CLOCK, SAMPLES: CLOCK},
          is_at_start=True),
    Fault("clock 2% too fast on rank 1", "clock", clock.at_speed(1.02), {BARRIER: CLOCK_ON_1, MATMUL: CLOCK_ON_1},
          When(ranks=(1,)), is_at_start=True),
    Fault("clock 5 ms too low at every 41st reading", "clock", clock.one_wrong_reading(-5 * clock.MILLISECOND),
          {BARRIER: CLOCK, MATMUL: CLOCK}, When(every=41), is_at_start=True),
    Fault("clock put back by 5 ms at every 41st reading", "clock", clock.stepping(-5 * clock.MILLISECOND),
          {BARRIER: CLOCK, MATMUL: CLOCK}, When(every=41), is_at_start=True),
    Fault("clock put forward by 5 ms at every 41st reading", "clock", clock.stepping(5 * clock.MILLISECOND),
          {BARRIER: CLOCK, MATMUL: CLOCK}, When(every=41), is_at_start=True),
    Fault("clock that stands still", "clock", clock.stopped, {BARRIER: CLOCK, MATMUL: CLOCK}, is_at_start=True),
    Fault("clock that ticks every 16 ms", "clock", clock.coarse(16 * clock.MILLISECOND),
          {BARRIER: CLOCK, MATMUL: CLOCK}, is_at_start=True),
    Fault("CPU time of the thread for time", "clock", clock.of_the_thread, {BARRIER: CLOCK, SAMPLES: CLOCK},
          is_at_start=True),
    Fault("clock that loses half of each sample, and makes up for it", "clock", clock.slow_within_samples,
          {BARRIER: CLOCK, MATMUL: CLOCK}, is_at_start=True),
    Fault("CLOCK_MONOTONIC_RAW at half speed", "clock", clock.raw_at_half_speed, {BARRIER: CLOCK, MATMUL: CLOCK},
          is_at_start=True),
    # Of communication.
    Fault("NaN in one element of an all-gather", "communication",
          communication.changes("all_gather_into_tensor", communication.nan_in_one), {ALL_GATHER: "not a number"}),
    Fault("last element of a reduce-scatter wrong on rank 1", "communication",
          communication.changes("reduce_scatter_tensor", communication.last_wrong), {REDUCE_SCATTER: CHECK_ON_1},
          When(ranks=(1,))),
    Fault("last element of a message wrong on rank 1", "communication",
          communication.messages_that(lambda tensor: communication.last_wrong(tensor)), {MESSAGE: CHECK_ON_1},
          When(ranks=(1,))),
    Fault("all-reduce not done when its wait returns", "communication", communication.not_waited_for,
          {ASYNC: EITHER, ALL_REDUCE: ""}),
    Fault("barrier does nothing", "communication", communication.does_nothing("barrier"), {BARRIER: CHECK}),
    Fault("every fifth timed broadcast wrong on rank 1", "communication",
          communication.changes("broadcast", communication.last_wrong), {BROADCAST: LEFT_ON_1},
          When(ranks=(1,), only_timed=True, every=5)),
    Fault("all-to-all does nothing while input and output are as it left them", "communication",
          communication.remembers_inputs, {LARGE: SHORTCUT}, precision="0.5%"),
    Fault("all-reduce wrong in bfloat16 only", "communication", communication.LAST_WRONG_IN_BFLOAT16,
          {BFLOAT16: CHECK, ALL_REDUCE: ""}),
    Fault("reduce takes the maximum", "communication", communication.maximum_instead_of_sum, {REDUCE: CHECK}),
    Fault("gather loses the part of rank 1", "communication",
          communication.changes("gather", communication.part_of_rank_1_lost), {GATHER: CHECK}),
    Fault("all-gather in the wrong order", "communication",
          communication.changes("all_gather_into_tensor", communication.parts_swapped), {ALL_GATHER: CHECK}),
    Fault("scatter writes half of what it should on rank 1", "communication",
          communication.changes("scatter", communication.second_half_spoilt), {SCATTER: CHECK_ON_1}, When(ranks=(1,))),
    Fault("all-gather does nothing while it is timed", "communication",
          communication.does_nothing("all_gather_into_tensor"), {ALL_GATHER: LEFT}, When(only_timed=True)),
    Fault("all-reduce does nothing while it is timed", "communication", communication.does_nothing("all_reduce"),
          {ALL_REDUCE: LEFT, STREAMED: LEFT}, When(only_timed=True)),
    Fault("every second all-reduce does nothing while it is timed", "communication",
          communication.does_nothing("all_reduce"), {STREAMED: LEFT}, When(only_timed=True, every=2)),
    Fault("barrier does nothing while it is timed", "communication", communication.does_nothing("barrier"),
          {BARRIER: LEFT}, When(only_timed=True)),
    Fault("broadcast does nothing from the 20th timed call on", "communication",
          communication.does_nothing("broadcast"), {BROADCAST: LEFT_ON_1}, When(only_timed=True, first=20)),
    Fault("reduce-scatter leaves its output alone while it is timed, on rank 1", "communication",
          communication.output_not_written("reduce_scatter_tensor"), {REDUCE_SCATTER: LEFT_ON_1},
          When(ranks=(1,), only_timed=True)),
    Fault("last element of every third timed all-to-all wrong", "communication",
          communication.changes("all_to_all_single", communication.last_wrong), {ALL_TO_ALL: LEFT},
          When(only_timed=True, every=3)),
    Fault("reduce-scatter wrong beside another collective", "communication", communication.wrong_only_beside_others,
          {CONCURRENT: EITHER, REDUCE_SCATTER: ""}),
    Fault("message does not arrive while it is timed, on rank 1", "communication", communication.messages_not_written,
          {MESSAGE: LEFT_ON_1}, When(ranks=(1,), only_timed=True)),
    Fault("collective beside another does nothing while it is timed", "communication",
          communication.does_nothing("reduce_scatter_tensor"), {CONCURRENT: LEFT}, When(only_timed=True)),
    Fault("all-reduce beside a product does nothing while it is timed", "communication",
          communication.does_nothing("all_reduce"), {OVERLAP: LEFT}, When(only_timed=True)),
    # Of kernels, their inputs and the optimizer.
    Fault("float32 products in bfloat16", "kernel", compute.product_in_bfloat16, {MATMUL: CHECK}),
    Fault("product that keeps its output while its inputs are the same", "kernel", compute.product_of_before,
          {MATMUL: EITHER}),
    Fault("product not taken while it is timed", "kernel", compute.product_not_taken, {MATMUL: LEFT},
          When(only_timed=True)),
    Fault("every third timed product not taken on rank 1", "kernel", compute.product_not_taken, {MATMUL: LEFT_ON_1},
          When(ranks=(1,), only_timed=True, every=3)),
    Fault("copy of half the elements while it is timed", "kernel", compute.copy_of_a_half, {COPY: LEFT, TRANSFER: LEFT},
          When(only_timed=True)),
    Fault("scaled sum without its factor while it is timed", "kernel", compute.triad_without_its_sum, {TRIAD: LEFT},
          When(only_timed=True)),
    Fault("copy of half the elements", "kernel", compute.copy_of_a_half, {COPY: CHECK, TRANSFER: CHECK}),
    Fault("scaled sum without its factor, on rank 1", "kernel", compute.triad_without_its_sum, {TRIAD: CHECK_ON_1},
          When(ranks=(1,))),
    Fault("zeros for random numbers on rank 1", "inputs", compute.zeros_for_random_numbers,
          {MATMUL: CHECK_ON_1, COPY: CHECK_ON_1}, When(ranks=(1,))),
    Fault("gradient of a shard 1% too large on rank 1", "gradient", compute.shard_gradient_scaled, {TENSOR: CHECK_ON_1},
          When(ranks=(1,))),
    Fault("AdamW does nothing on rank 1", "optimizer", compute.optimizer_does_nothing, {STEP: CHECK}, When(ranks=(1,))),
    Fault("gradients are not cleared before a step", "optimizer", compute.gradients_kept, {STEP: CHECK}),
    Fault("loss of half the tokens on rank 1", "loss", compute.loss_of_half_the_tokens, {STEP: CHECK},
          When(ranks=(1,))),
    Fault("attention without the newest key", "attention", compute.without_the_last_key, {DECODE: CHECK}),
    Fault("gradient of a shard 1% too large while it is timed", "gradient", compute.shard_gradient_scaled,
          {TENSOR: LEFT}, When(only_timed=True)),
    Fault("AdamW does nothing while it is timed", "optimizer", compute.optimizer_does_nothing, {STEP: LEFT},
          When(only_timed=True)),
    Fault("loss of half the tokens while it is timed, on rank 1", "loss", compute.loss_of_half_the_tokens,
          {STEP: LEFT}, When(ranks=(1,), only_timed=True)),
    Fault("attention without the newest key while it is timed", "attention", compute.without_the_last_key,
          {DECODE: LEFT}, When(only_timed=True)),
    Fault("gradients of unequal shares are not summed while it is timed", "heterogeneous",
          communication.does_nothing("all_reduce"), {UNEQUAL: LEFT}, When(only_timed=True)),
    # Of torch's parallel libraries.
    Fault("DTensor without its all-reduce while it is timed", "DTensor", parallel.dtensor_without_all_reduce,
          {DTENSOR: LEFT}, When(only_timed=True)),
    Fault("DDP sums in place of the mean while it is timed", "DDP", parallel.ddp_sums, {DDP: LEFT},
          When(only_timed=True)),
    Fault("stale all-gathers while they are timed", "FSDP2", parallel.stale_all_gather, {FSDP: LEFT},
          When(only_timed=True)),
    Fault("microbatches 0 and 1 swapped while they are timed", "pipeline", parallel.microbatches_swapped,
          {PIPELINE: LEFT}, When(only_timed=True)),
    Fault("arrivals of the ring moved by one while it is timed", "context parallel",
          communication.messages_that(communication.rolled), {RING: LEFT}, When(only_timed=True)),
    Fault("last row for an expert is zero while it is timed", "expert parallel",
          communication.changes("all_to_all_single", communication.last_row_zero), {EXPERTS: LEFT},
          When(only_timed=True)),
    Fault("DTensor without its all-reduce", "DTensor", parallel.dtensor_without_all_reduce, {DTENSOR: CHECK}),
    Fault("DDP sums in place of the mean", "DDP", parallel.ddp_sums, {DDP: CHECK}),
    Fault("stale all-gathers after the first two", "FSDP2", parallel.stale_all_gather, {FSDP: CHECK}, When(first=2)),
    Fault("microbatches 0 and 1 swapped", "pipeline", parallel.microbatches_swapped, {PIPELINE: CHECK, GPIPE: CHECK}),
    Fault("stage sends what it sent before", "pipeline", parallel.stage_sends_the_last_output,
          {PIPELINE: CHECK}, When(ranks=(0,))),
    Fault("arrivals of the ring moved by one", "context parallel", communication.messages_that(communication.rolled),
          {RING: CHECK}),
    Fault("last row for an expert is zero", "expert parallel",
          communication.changes("all_to_all_single", communication.last_row_zero), {EXPERTS: CHECK}),
    # Of storage.
    Fault("one bit of a loaded state flipped", "checkpoint", storage.bit_flipped, {LOAD: CHECK}),
    Fault("load does nothing on rank 1", "checkpoint", storage.loads_nothing, {LOAD: CHECK_ON_1}, When(ranks=(1,))),
    Fault("saves write the first state", "checkpoint", storage.saves_the_first_state, {SAVE: EITHER}),
    Fault("load does nothing while it is timed", "checkpoint", storage.loads_nothing, {LOAD: LEFT},
          When(only_timed=True)),
    Fault("one bit of a loaded state flipped while it is timed", "checkpoint", storage.bit_flipped, {LOAD: LEFT},
          When(only_timed=True)),
    Fault("a batch twice, another not at all", "input pipeline", storage.batch_twice, {SAMPLES: CHECK}),
    Fault("epoch ends after a batch while it is timed", "input pipeline", storage.short_epoch,
          {SAMPLES: f"{LEFT}|{CLOCK}"},
          When(only_timed=True)),
    Fault("rank 1 reads the share of rank 0", "input pipeline", storage.share_of_rank_0, {SAMPLES: CHECK},
          When(ranks=(1,))),
    Fault("last byte of a file wrong", "input pipeline", storage.last_byte_lost, {SAMPLES: CHECK}),
    Fault("sleeps of half their length", "input pipeline", clock.sleeping(0.5), {SAMPLES: CLOCK}, is_at_start=True),
    Fault("sleeps that end at once on rank 1", "input pipeline", clock.sleeping(0.0), {SAMPLES: CLOCK_ON_1},
          When(ranks=(1,)), is_at_start=True),
)  # fmt: skip
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in ROWS}
CASES = tuple(dict.fromkeys(case for fault in ROWS for case in fault.cases))


def at(*places: str) -> list[Fault]:
    """The faults of some places."""
    return [fault for fault in ROWS if fault.place in places]


def run(fault: Fault | None, cases: Iterable[str], folder: Path, budget: str = BUDGET) -> CompletedProcess[str]:
    """Run the real command on two ranks with a fault, or without one."""
    named = [word for case in cases for word in ("--case", case)]
    limits = ("--precision", fault.precision if fault else "10%", "--budget", budget, "--timeout", "60s")
    return subprocess.run(
        [*BENCH, "run", "--preset", "smoke", "--ranks", "2", *limits, "-o", str(folder), *named],
        capture_output=True,
        text=True,
        timeout=400,
        env=environ(**environment(fault.name if fault else "")),
    )


def found(folder: Path) -> dict[str, tuple[str, str]]:
    """Case -> its worst status and the reason, over all visits in the folder's only file."""
    worst: dict[str, tuple[str, str]] = {}
    for line in (json.loads(text) for path in folder.glob("*.jsonl") for text in path.read_text().splitlines()):
        if line["kind"] == "measurement" and worst.get(line["case"], ("ok", ""))[0] == "ok":
            worst[line["case"]] = line["status"], line.get("reason") or ""
    return worst


def main(names: Iterable[str]) -> None:
    write = sys.stdout.write
    write("# Faults put into runs of two ranks, and what the runs said\n\n")
    write("| fault | place | case | verdict | reason |\n| --- | --- | --- | --- | --- |\n")
    tried = [FAULTS[name] for name in names] or list(ROWS)
    num_found = sum(_tried(fault) for fault in tried)
    write(f"\n{num_found} of {len(tried)} faults were found, each in all of its cases.\n")


def _tried(fault: Fault) -> bool:
    """Run a fault, print its rows, and say if it was found in all of its cases."""
    with tempfile.TemporaryDirectory() as folder:
        done = run(fault, fault.cases, Path(folder))
        verdicts = found(Path(folder))
    for case in fault.cases:
        status, reason = verdicts.get(case, ("not measured", done.stderr.strip()[-300:]))
        sys.stdout.write(f"| {fault.name} | {fault.place} | `{case}` | {status} | {' '.join(reason.split())} |\n")
    sys.stdout.flush()
    wrong = fault.judge(verdicts)
    if wrong:
        sys.stderr.write(f"{fault.name}: {wrong}\n")
    return not wrong


if __name__ == "__main__":
    main(sys.argv[1:])
