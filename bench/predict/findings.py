"""Findings of predicted jobs: time and money in one line per job, then what each is made of, and what stands out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.analysis.findings.kinds import Answer, DataState, Figure, Findings, Item, NextStep
from bench.core.values import show_number, show_seconds
from bench.predict.answer import PredictedJob, SweepPoint
from bench.predict.model.fleet import FleetPrediction
from bench.predict.model.prediction import NOT_MODELLED
from bench.predict.predict import Predictions
from bench.predict.remarks import headroom, remarks
from bench.predict.search import describe
from bench.predict.wording import (
    answer_of,
    name_fleet,
    show_count,
    show_duration,
    show_percent,
    show_period,
    show_range,
    show_usd,
)

MAX_SIZES = 3
"""Sizes of a sweep that are shown; `--all` has all of them."""
MAX_JOBS = 2
"""Jobs whose figures are shown; of more, only the answers and the times are."""


def make_findings(predictions: Predictions) -> Findings:
    """All findings of all jobs."""
    jobs = predictions.jobs
    items: list[Item] = [Answer(f"{name_fleet(job)}: {answer_of(job)}{_condition(job)}") for job in jobs]
    items += [Answer(_failed(number, reason)) for number, reason in predictions.failed.items()]
    items.append(_state(jobs[0]))
    for quantity in (_run, _mfu, _memory, _failures, _fleet, _split):
        items += [
            figure for job in jobs if _is_shown(quantity, job, jobs) for figure in quantity(job, _label(job, jobs))
        ]
    if len(jobs) == 1:
        items += _costs(jobs[0])
    items += [figure for job in jobs for figure in _scaling(job)]
    items += [*remarks(jobs), *_next(jobs)]
    return Findings(_head(jobs[0]), tuple(items))


def _failed(number: int, reason: str) -> str:
    """The reason why nothing is predicted, with the number of devices if it does not say it."""
    return reason if f" {number:,} " in reason else f"{number:,} devices: {reason}"


def _condition(job: PredictedJob) -> str:
    """Parts that the answer lacks if there is no price."""
    if job.options:
        return ""
    if job.request.mixed:
        even, balanced = (prediction.tokens_per_s for prediction in job.fleet)
        gain = f"; balanced shares are {show_percent(balanced / even - 1)} faster than even ones"
        return (gain if balanced > even else "; even shares are as fast as any") + "; no price of a mixed fleet"
    return "; no price is known: --price USD"


def _head(job: PredictedJob) -> str:
    request = job.request
    shape = request.job.shape
    devices = " + ".join(member.device.name for member in request.members)
    is_measured = any(assumption.what.startswith("measured: ") for assumption in request.assumptions)
    rates = " by its measured rates" if is_measured else ""
    return (
        f"Predicted, not measured: {shape.name} ({show_count(shape.num_parameters)} parameters) on {devices}{rates}, "
        f"{show_count(job.tokens)} tokens, steps of {request.job.global_batch:,} x {request.job.sequence:,}, "
        f"{request.job.precision}, {request.stack}"
    )


def _state(job: PredictedJob) -> DataState:
    factor = math.exp(1.96 * job.error_share)
    return DataState(
        "rough",
        f"a step may take {show_percent(1 - 1 / factor)} less to {show_percent(factor - 1)} more (95%, the error on "
        f"published runs that nothing was fitted to); {len(NOT_MODELLED)} effects are not modelled",
    )


def _label(job: PredictedJob, jobs: Sequence[PredictedJob]) -> str:
    return "" if len(jobs) == 1 else f", {job.request.devices:,}"


def _is_shown(quantity: object, job: PredictedJob, jobs: Sequence[PredictedJob]) -> bool:
    """True for quantities that the screen has room for."""
    if quantity is _run:
        return True
    return len(jobs) <= MAX_JOBS and (quantity is not _split or (len(jobs) == 1 and not job.sweep))


def _run(job: PredictedJob, label: str) -> Iterator[Figure]:
    factor = math.exp(1.96 * job.error_share)
    low, high = job.run_seconds / factor, job.run_seconds * factor
    step = job.request.job.tokens / job.tokens_per_s
    yield Figure(
        group="run",
        name=f"time{label}",
        text=show_duration(job.run_seconds),
        value=job.run_seconds,
        unit="s",
        low=low,
        high=high,
        of=f"{show_range(low, high)} by the 95% interval of the step; {show_seconds(step)} per step",
    )


def _mfu(job: PredictedJob, label: str) -> Iterator[Figure]:
    if job.search_result is None:
        return
    best = job.search_result.best[0]
    reached, peak = best.model_flops_per_device_s, best.device.flops_per_s(job.request.job.precision)
    yield Figure(
        group="run",
        name=f"MFU{label}",
        text=show_percent(best.mfu),
        value=best.mfu,
        unit="share",
        share=best.mfu,
        of=f"{_tflops(reached)} of {_tflops(peak)} TFLOP/s; {show_count(job.tokens_per_s)} tokens/s",
    )


def _tflops(flops_per_s: float) -> str:
    return show_number(flops_per_s / 1e12)


def _memory(job: PredictedJob, label: str) -> Iterator[Figure]:
    """Memory of the fullest device of each type."""
    predictions = [job.search_result.best[0]] if job.search_result is not None else []
    predictions += [part.prediction for part in _best_fleet(job).parts] if job.fleet else []
    for best in predictions:
        device = f", {best.device.name.partition('-')[0]}" if job.fleet else ""
        left = headroom(best)
        held = best.memory.total / 1e9
        yield Figure(
            group="run",
            name=f"memory{label}{device}",
            text=f"{held:.1f} GB" if left is None else f"{held:.1f} of {(best.device.memory_bytes or 0) / 1e9:.0f} GB",
            value=best.memory.total,
            unit="B",
            share=None if left is None else 1.0 - left,
            of="the device's memory is not known" if left is None else _left(left),
        )


def _left(left: float) -> str:
    return f"{show_percent(left)} left" + (", tight" if left < 0.1 else "")


def _failures(job: PredictedJob, label: str) -> Iterator[Figure]:
    if job.reliability is None:
        return
    lost = 1.0 - job.reliability.goodput
    failures = job.reliability.failures
    yield Figure(
        group="run",
        name=f"failures{label}",
        text=f"{show_percent(lost)} lost",
        value=lost,
        unit="share",
        share=lost,
        of=f"every {show_period(failures.mtbf_seconds)}; a checkpoint every "
        f"{show_period(job.reliability.interval_seconds)}",
    )


def _best_fleet(job: PredictedJob) -> FleetPrediction:
    return max(job.fleet, key=lambda fleet: fleet.tokens_per_s)


def _fleet(job: PredictedJob, label: str) -> Iterator[Figure]:
    """Waiting of each type of a mixed fleet, with even shares."""
    if not job.fleet:
        return
    even, best = job.fleet[0], _best_fleet(job)
    for part, balanced in zip(even.parts, best.parts, strict=True):
        waits = 1.0 - part.prediction.step_seconds / even.step_seconds
        name = part.member.device.name.partition("-")[0]
        rest = 1.0 - balanced.prediction.step_seconds / best.step_seconds
        yield Figure(
            group="run",
            name=f"{name} waits{label}",
            text=show_percent(waits),
            value=waits,
            unit="share",
            share=waits,
            of=f"with even shares; {best.mode}: {show_percent(rest)} with {balanced.microbatches} microbatches each",
        )


def _split(job: PredictedJob, label: str) -> Iterator[Figure]:
    if job.search_result is not None:
        found = job.search_result
        idle = job.request.devices - job.strategy.world_size
        text = f"best of {found.tried:,}" if found.tried > 1 else "as given"
        of = describe(job.strategy) + (f"; {idle:,} devices idle" if idle else "")
        yield Figure(group="run", name=f"split{label}", text=text, of=of)


def _costs(job: PredictedJob) -> Iterator[Figure]:
    for option in job.options:
        of = f"{show_number(option.usd_per_device_hour)} USD per device-hour"
        of += f", {show_number(option.cost.usd_per_million_tokens)} USD per million tokens"
        if option.capital_usd is not None:
            of += f"; {show_usd(option.capital_usd)} to buy"
            even = option.break_even_utilisation
            of += f"; cheaper than rent above {show_percent(even)} use" if even is not None else "; never below rent"
        usd = option.cost.run_usd
        yield Figure(group="cost", name=option.name, text=show_usd(usd), value=usd, unit="USD", of=of)
    if job.power_watts is not None and job.joules_per_token is not None:
        yield Figure(
            group="cost",
            name="power",
            text=_power(job.power_watts),
            value=job.power_watts,
            unit="W",
            of=f"{show_number(job.joules_per_token)} J per token, by the catalogue",
        )


def _power(watts: float) -> str:
    return f"{show_number(watts / 1e6, 2)} MW" if watts >= 1e6 else f"{show_number(watts / 1e3, 2)} kW"


def _scaling(job: PredictedJob) -> Iterator[Figure]:
    """Efficiency of some sizes of a sweep, strong scaling first."""
    strong, weak = ({p.devices: p for p in job.sweep if p.scaling == kind} for kind in ("strong", "weak"))
    for devices in _spread(sorted({*strong, *weak})):
        shown = strong.get(devices) or weak[devices]
        others = [weak[devices]] if devices in strong and devices in weak else []
        yield Figure(
            group="scaling",
            name=f"{devices:,}",
            text=_efficiency(shown),
            value=shown.efficiency,
            unit="share",
            share=shown.efficiency,
            of="; ".join([f"{show_seconds(shown.prediction.step_seconds)} per step", *map(_efficiency, others)]),
        )


def _efficiency(point: SweepPoint) -> str:
    return f"{point.scaling} {show_percent(point.efficiency)}"


def _spread(sizes: Sequence[int]) -> list[int]:
    """The first, the last and some between."""
    if len(sizes) <= MAX_SIZES:
        return list(sizes)
    return [sizes[round(place * (len(sizes) - 1) / (MAX_SIZES - 1))] for place in range(MAX_SIZES)]


def _next(jobs: Sequence[PredictedJob]) -> Iterator[NextStep]:
    yield NextStep(purpose="tables, assumptions, sources", command="--all")
    yield NextStep(purpose="page with plots", command="-o NAME.html")
    if not any(job.own for job in jobs) and not any(job.request.mixed for job in jobs):
        yield NextStep(purpose="buying", command="--own")
    if len(jobs) == 1 and not jobs[0].request.mixed and not jobs[0].sweep:
        yield NextStep(purpose="another size", command=f"--gpus {jobs[0].request.devices},NUMBER")
