"""Remarks on predicted jobs, each with a way to act on it: tight memory, failures, the largest loss of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.analysis.findings.kinds import Remark
from bench.predict.answer import PredictedJob
from bench.predict.cost.failures import Failures
from bench.predict.model.prediction import Prediction
from bench.predict.search import describe
from bench.predict.wording import name_fleet, show_percent, show_period

LEAST_HEADROOM = 0.1
"""Share of a device's memory below which what is left is tight: predicted memory is off by some percent."""
WORTH_ACTING = 0.1
"""Share of the time from which a loss is mentioned."""
QUICKER_RESTART = 0.2
"""Share of the restart's time that is tried as a remedy."""


class Loss(NamedTuple):
    """A part of a step that is not a computation."""

    words: str
    remedy: str


LOSSES: Mapping[str, Loss] = {
    "host_seconds": Loss("waiting for the host to launch kernels", "larger microbatches leave it less to do"),
    "tensor_seconds": Loss("transfers of tensor parallelism that nothing hides", "try a smaller --tp if memory allows"),
    "context_seconds": Loss("transfers of context parallelism that nothing hides", "try a smaller --cp"),
    "expert_seconds": Loss("transfers between experts that nothing hides", "try a smaller --ep, or faster NICs"),
    "pipeline_seconds": Loss("transfers between pipeline stages", "try fewer stages: a smaller --pp or --interleave"),
    "idle_seconds": Loss("waiting in the pipeline's bubble", "a larger --batch has more microbatches to fill it"),
    "data_seconds": Loss("transfers of gradients that nothing hides", "a larger --batch or faster NICs shrink them"),
    "optimizer_seconds": Loss("the optimizer", "try --zero 1 or more replicas"),
    "straggler_seconds": Loss("waiting for the slowest rank", "find the cause: bench run, bench explain"),
}
"""Part of a step -> how it is said, and what helps."""


def headroom(prediction: Prediction) -> float | None:
    """Share of a device's memory that is left; None if its memory is not known."""
    capacity = prediction.device.memory_bytes
    return None if capacity is None else 1.0 - prediction.memory.total / capacity


def remarks(jobs: Sequence[PredictedJob]) -> Iterator[Remark]:
    """At most one remark of a sort, about the job where it is worst."""
    for sort in (_tight_memory, _failures, _largest_loss):
        found = [remark for job in jobs for remark in sort(job, f" on {name_fleet(job)}" if len(jobs) > 1 else "")]
        if found:
            yield max(found, key=lambda remark: remark.weight)


def _tight_memory(job: PredictedJob, where: str) -> Iterator[Remark]:
    if job.search_result is None:
        return
    best, *others = job.search_result.best
    left = headroom(best)
    if left is None or left >= LEAST_HEADROOM:
        return
    held, capacity = best.memory.total / 1e9, (best.device.memory_bytes or 0.0) / 1e9
    yield Remark(
        text=f"Memory{where} is tight: {held:.1f} of {capacity:.0f} GB, {show_percent(left)} left",
        remedy=_roomier(best, others),
        weight=1.0 + LEAST_HEADROOM - left,
    )


def _roomier(best: Prediction, others: Sequence[Prediction]) -> str:
    """The fastest other split with more room, and what it costs."""
    for other in others:
        left = headroom(other)
        if left is not None and left >= LEAST_HEADROOM:
            longer = show_percent(other.step_seconds / best.step_seconds - 1.0)
            return f"the split {describe(other.strategy)} leaves {show_percent(left)} and takes {longer} longer"
    return "Take more devices, --recompute full, or a smaller --microbatch; --top 50 --all has more splits"


def _failures(job: PredictedJob, where: str) -> Iterator[Remark]:
    if job.reliability is None or 1.0 - job.reliability.goodput < WORTH_ACTING:
        return
    lost, failures = 1.0 - job.reliability.goodput, job.reliability.failures
    seconds = failures.restart_seconds * QUICKER_RESTART
    quicker = Failures(failures.mtbf_seconds, failures.checkpoint_seconds, seconds)
    period, lost_then = show_period(failures.mtbf_seconds), 1.0 - quicker.goodput(quicker.best_seconds)
    yield Remark(
        text=f"{show_percent(lost)} of the time{where} is lost to failures, one every {period}",
        remedy=f"a restart in {show_period(seconds)}, not {show_period(failures.restart_seconds)}, would lose "
        f"{show_percent(lost_then)}: try --restart {seconds:.0f}s",
        weight=1.0 / job.reliability.goodput,
    )


def _largest_loss(job: PredictedJob, where: str) -> Iterator[Remark]:
    if job.search_result is None:
        return
    best = job.search_result.best[0]
    name = max(LOSSES, key=lambda part: best.parts[part])
    share = best.parts[name] / best.step_seconds
    if share >= WORTH_ACTING:
        loss = LOSSES[name]
        text = f"{show_percent(share)} of a step{where} is {loss.words}"
        yield Remark(text=text, remedy=loss.remedy, weight=1.0 / (1.0 - share))
