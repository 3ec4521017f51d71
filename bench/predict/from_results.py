"""`bench predict --from FILE...`: an answer from measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core.values import parse_share, show_number, show_seconds
from bench.predict import request as requests
from bench.predict.answer import MakePredictor
from bench.predict.calibration import measured_rates as measuring
from bench.predict.calibration import overheads, step_factors
from bench.predict.calibration.measured_rates import Measured
from bench.predict.calibration.network_lines import MeasuredNetwork
from bench.predict.calibration.overheads import Overheads
from bench.predict.model.fleet import FleetPart
from bench.predict.model.job import Job
from bench.predict.model.step import Predictor
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import Constants
from bench.predict.rates.device import Device
from bench.predict.request import Assumption, Request

MOST = 2**30
"""More ranks than any file has: the rates of the most that were measured."""


@dataclass(frozen=True)
class RateShares:
    """Shares of the measured rates."""

    work: float
    """Of computation and memory."""
    core: float
    """Of a core or device that a rank has."""
    transfers: float
    slowdown: BySize | None = None
    """Of work in training steps, by the tokens of a microbatch over tensor ranks."""
    overheads: Overheads = field(default_factory=Overheads)


def understood(found: Measured, options: Mapping[str, Any], constants: Constants) -> tuple[Request, MakePredictor]:
    """The request on the files' devices, and what predicts on them."""
    device = measuring.device(found, options["precision"], options, constants.common)
    jitter = parse_share("--jitter", options["jitter"]) if options["jitter"] else found.jitter_share
    constants = replace(constants, error_share=math.hypot(constants.error_share, found.launch_share or 0.0))
    if not device.overlaps:
        constants = _without_host(constants, options["stack"])
    job, notes = requests.job_of(options)
    request = Request(
        job, (FleetPart(device, options["gpus"] or found.ranks),), requests.fixed_of(options), options["stack"], notes
    )
    request.assumptions += _notes(found, options["precision"], jitter) + [
        Assumption(device.name, n, "files") for n in device.notes
    ]
    dtype = measuring.DTYPES[options["precision"]]
    own_steps = [step for step in found.steps if step.job.precision == options["precision"]]

    def made(device: Device, job: Job, ranks: int, pace: RateShares, jitter: float | None) -> Predictor:
        rates, memory = found.at(ranks, dtype)
        # The device's is that of the most ranks at once, or the catalogue's where none was measured.
        pressure = 1.0 if memory is None or found.memory_bytes_per_s is None else memory / found.memory_bytes_per_s
        device = replace(device, memory_bytes_per_s=device.memory_bytes_per_s * pace.work * pressure)
        network = MeasuredNetwork(device, constants.common, found.lines, pace.transfers)
        return Predictor(
            job,
            device,
            constants,
            options["stack"],
            rates.times(pace.work),
            network,
            jitter,
            pace.overheads,
            pace.core,
            pace.slowdown,
        )

    def alone(step: step_factors.MeasuredStep, slowdown: BySize | None = None) -> Predictor:
        # Its ranks had a device each, and a measured median has its own waiting in it.
        return made(device, step.job, step.ranks, RateShares(1.0, 1.0, 1.0, slowdown), 0.0)

    slowdown = step_factors.factors(own_steps, lambda step, factor: alone(step, factor).predict(step.split))
    ways = overheads.fitted(
        own_steps,
        lambda step: alone(step, slowdown).predict(step.split),
        lambda step: alone(step).rank_work(step.split),
    )
    request.assumptions += _ways(ways, found)
    if slowdown is not None:
        request.assumptions.append(Assumption("measured: training_step", _range(slowdown), ", ".join(found.paths)))
    share = options["device_share"]
    # Transfers within a host take the same cores as the work; those between hosts are of links, whoever has the cores.
    transfers = share if found.num_hosts == 1 else 1.0
    pace = RateShares(share, share, transfers, slowdown, ways.on(share))

    def make(device: Device, job: Job) -> Predictor:
        return made(device, job, MOST, pace, jitter)

    return request, make


def _ways(ways: Overheads, found: Measured) -> list[Assumption]:
    units = {way.name: way.unit for way in overheads.WAYS}
    return [
        Assumption(f"measured: {name} parallel", f"{show_seconds(seconds)} more {units[name]}", ", ".join(found.paths))
        for name, seconds in ways.seconds_of.items()
    ]


def _without_host(constants: Constants, stack: str) -> Constants:
    """Where ranks compute on cores there is no host beside them that launches kernels."""
    own = replace(constants.stack(stack), kernel_seconds=0.0, step_seconds=0.0)
    return replace(constants, stacks={**constants.stacks, stack: own})


def _range(slowdown: BySize) -> str:
    low, high = (show_number(pick(slowdown.values)) for pick in (min, max))
    text = f"{low} x" if low == high else f"{low} to {high} x"
    by_size = "" if len(slowdown.sizes) == 1 else ", by the size of the microbatch"
    return f"{text} the work that the rates alone say{by_size}"


def _notes(found: Measured, precision: str, jitter: float | None) -> list[Assumption]:
    files = ", ".join(found.paths)
    rates = found.rates[measuring.DTYPES[precision]]
    low, high = min(rates.values), max(rates.values)
    shown = f"{show_number(low / 1e12)} to {show_number(high / 1e12)} TFLOP/s {precision}, by size"
    notes = [Assumption("measured: matrix products", f"{shown}, {len(rates.sizes)} sizes", files)]
    if found.memory_bytes_per_s is not None:
        notes.append(Assumption("measured: memory", f"{show_number(found.memory_bytes_per_s / 1e9)} GB/s", files))
    for line in found.lines:
        text = f"{show_number(line.latency_seconds * 1e6)} us + bytes / {show_number(line.bytes_per_s / 1e9)} GB/s"
        notes.append(Assumption(f"measured: {line.op} of {line.ranks} ranks", f"{text}, {line.sizes} sizes", files))
    if jitter is not None:
        text = f"{100 * jitter:.2g}% of a step"
        text += "" if found.is_step_jitter else ": as if a step varied as one call does, an upper estimate"
        notes.append(Assumption("jitter of a rank", text, files))
    if found.launch_share is not None:
        notes.append(
            Assumption("measured: between launches", f"standard deviation {100 * found.launch_share:.2g}%", files)
        )
    return notes


def understood_files(
    options: Mapping[str, Any], constants: Constants
) -> tuple[Request, MakePredictor, Mapping[str, Any]]:
    """The request, what predicts a split of it, and the options with what was measured.

    Raises BenchError for files that cannot be read, or lack what a prediction needs.
    """
    found = measuring.read(options["sources"])
    request, make = understood(found, options, constants)
    return request, make, storage(found, options)


def storage(found: Measured, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the storage that was measured, where none is given."""
    if found.storage_gb_per_s is None or options["storage_gb_per_s"] is not None:
        return options
    return {**options, "storage_gb_per_s": found.storage_gb_per_s, "storage_source": ", ".join(found.paths)}
