"""The check of a training step: loss and gradient norm of its first steps against those of one device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.parallelism.layout import Layout, MicrobatchedJob
from bench.suite import Check

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.parallelism.shapes import ModelShape
    from bench.workloads.training.parallelize import Treatment

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
"""Relative, of loss and gradient norm. Two orders of summation differ by 1e-7 to 1e-6 in float32; bfloat16 rounds to
4e-3, over which a mean over all tokens and a norm over all weights average."""


def full_check(step: Any, job: MicrobatchedJob, layout: Layout, rank: RankContext) -> Any:
    expected = one_device(job, layout, step.treatment, rank)
    return lambda: compare_steps(step, expected)


def reduced_check(job: MicrobatchedJob, layout: Layout, treatment: Treatment, rank: RankContext) -> Any:
    from bench.workloads.training.training_step import TrainingStep

    small = replace(job, shape=_reduced(job, layout))
    step, expected = TrainingStep(small, layout, treatment, rank), one_device(small, layout, treatment, rank)
    return lambda: compare_steps(step, expected)._replace(scope="reduced")


def _reduced(job: MicrobatchedJob, layout: Layout) -> ModelShape:
    """Return a shape with the same heads and one layer per stage, small enough for any device."""
    shape = job.shape
    return replace(
        shape,
        vocabulary=64 * layout.tp,
        hidden=16 * shape.num_heads,
        head_dim=16,
        ffn_hidden=32 * layout.tp,
        num_layers=job.num_stages(layout),
        sequence=16 * layout.tp,
    )


def one_device(
    job: MicrobatchedJob, layout: Layout, treatment: Treatment, rank: RankContext
) -> list[tuple[float, float]]:
    """Loss and gradient norm of the first steps on one device in float32: on rank 0, which tells the others."""
    import torch
    import torch.distributed as dist

    from bench.workloads.training.training_step import NUM_BATCHES, TrainingStep, first_steps, one_device_job

    results = torch.zeros(NUM_BATCHES, 2, dtype=torch.float64)
    if rank.index == 0:
        plain = replace(treatment, dtype="float32", recompute=False, compile=False)
        alone = TrainingStep(one_device_job(job, layout), Layout(), plain, rank)
        results = torch.tensor(first_steps(alone), dtype=torch.float64)
    if rank.world_size > 1:
        dist.broadcast(results, src=0, group=rank.control)
    return [(float(loss), float(norm)) for loss, norm in results]


def compare_steps(step: Any, expected: list[tuple[float, float]]) -> Check:
    from bench.workloads.training.training_step import first_steps

    results = first_steps(step)
    pairs = [
        pair
        for actual, reference in zip(results, expected, strict=True)
        for pair in zip(actual, reference, strict=True)
    ]
    errors = [abs(actual - reference) / abs(reference) for actual, reference in pairs]
    worst = next((error for error in errors if error != error), max(errors))  # a NaN is the worst
    return Check(worst, TOLERANCE[step.treatment.dtype])
