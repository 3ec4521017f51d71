"""`bench predict --from FILE...`: an answer from measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bench.parse import parse_share
from bench.predict import calibrate, overheads
from bench.predict import measured as measuring
from bench.predict import request as requests
from bench.predict.answer import Answer, MakePredictor
from bench.predict.constants import Constants
from bench.predict.fleet import Member
from bench.predict.hardware import Device
from bench.predict.job import Job, Prediction
from bench.predict.matmul import MeasuredRates
from bench.predict.measured import Measured
from bench.predict.measured_network import MeasuredNetwork
from bench.predict.overheads import Overheads
from bench.predict.request import Assumption, Request
from bench.predict.step import Predictor
from bench.table import show_number, show_seconds

MOST = 2**30
"""More ranks than any file has: the rates of the most that were measured."""


@dataclass(frozen=True)
class Pace:
    """Shares of the measured rates."""

    work: float
    """Of computation and memory."""
    core: float
    """Of a core or device that a rank has."""
    transfers: float
    overheads: Overheads = field(default_factory=Overheads)


def understood(found: Measured, options: Mapping[str, Any], constants: Constants) -> tuple[Request, MakePredictor]:
    """The request on the files' devices, and what predicts on them."""
    device = measuring.device(found, options["precision"], options, constants.common)
    jitter = parse_share("--jitter", options["jitter"]) if options["jitter"] else found.jitter_share
    constants = replace(constants, error_share=math.hypot(constants.error_share, found.launch_share or 0.0))
    job, notes = requests.job_of(options)
    request = Request(
        job, (Member(device, options["gpus"] or found.ranks),), requests.fixed_of(options), options["stack"], notes
    )
    request.assumptions += _notes(found, options["precision"], jitter) + [
        Assumption(device.name, n, "files") for n in device.notes
    ]
    dtype = measuring.DTYPES[options["precision"]]
    own_steps = [step for step in found.steps if step.job.precision == options["precision"]]

    def made(device: Device, job: Job, ranks: int, pace: Pace, jitter: float | None) -> Predictor:
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
            _shared(rates, pace.work),
            network,
            jitter,
            pace.overheads,
            pace.core,
        )

    def alone(step: calibrate.MeasuredStep, factor: float = 1.0) -> Prediction:
        # Its ranks had a device each, and a measured median has its own waiting in it.
        return made(device, step.job, step.ranks, Pace(1.0 / factor, 1.0, 1.0), 0.0).predict(step.split)

    factor = calibrate.factor(own_steps, alone)
    ways = overheads.fitted(own_steps, partial(alone, factor=factor or 1.0))
    request.assumptions += _ways(ways, found)
    if factor is not None:
        text = f"{show_number(factor)} x the work that the rates alone say"
        request.assumptions.append(Assumption("measured: training_step", text, ", ".join(found.paths)))
    share = options["device_share"]
    # Transfers within a host take the same cores as the work; those between hosts are of links, whoever has the cores.
    transfers = share if found.num_hosts == 1 else 1.0
    pace = Pace(share / (factor or 1.0), share, transfers, ways.on(transfers))

    def make(device: Device, job: Job) -> Predictor:
        return made(device, job, MOST, pace, jitter)

    return request, make


def _ways(ways: Overheads, found: Measured) -> list[Assumption]:
    units = {way.name: way.unit for way in overheads.WAYS}
    return [
        Assumption(f"measured: {name} parallel", f"{show_seconds(seconds)} more {units[name]}", ", ".join(found.paths))
        for name, seconds in ways.seconds_of.items()
    ]


def _shared(rates: MeasuredRates, share: float) -> MeasuredRates:
    return MeasuredRates(rates.flops, tuple(rate * share for rate in rates.flops_per_s))


def _notes(found: Measured, precision: str, jitter: float | None) -> list[Assumption]:
    files = ", ".join(found.paths)
    rates = found.rates[measuring.DTYPES[precision]]
    low, high = min(rates.flops_per_s), max(rates.flops_per_s)
    shown = f"{show_number(low / 1e12)} to {show_number(high / 1e12)} TFLOP/s {precision}, by size"
    notes = [Assumption("measured: matrix products", f"{shown}, {len(rates.flops)} sizes", files)]
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


def answered(options: Mapping[str, Any], constants: Constants) -> Answer:
    """Raises BenchError for files that cannot be read, or lack what a prediction needs."""
    from bench.predict.run import completed

    found = measuring.read(options["sources"])
    request, make = understood(found, options, constants)
    return completed(Answer(request), make, storage(found, options))


def storage(found: Measured, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the storage that was measured, where none is given."""
    if found.storage_gb_per_s is None or options["storage_gb_per_s"] is not None:
        return options
    return {**options, "storage_gb_per_s": found.storage_gb_per_s, "storage_source": ", ".join(found.paths)}
