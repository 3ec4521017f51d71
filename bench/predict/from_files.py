"""`bench predict --from FILE...`: an answer from measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.parse import parse_share
from bench.predict import measured as measuring
from bench.predict import request as requests
from bench.predict.answer import Answer, MakePredictor
from bench.predict.constants import Constants
from bench.predict.fleet import Member
from bench.predict.hardware import Device
from bench.predict.matmul import MeasuredRates
from bench.predict.measured import Measured, MeasuredNetwork
from bench.predict.request import Assumption, Request
from bench.predict.step import Job, Predictor
from bench.table import show_number


def understood(options: Mapping[str, Any], constants: Constants) -> tuple[Request, MakePredictor]:
    """The request on the files' devices, and what predicts on them."""
    found = measuring.read(options["sources"])
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
    rates = _shared(found.rates[measuring.DTYPES[options["precision"]]], options["device_share"])

    def make(device: Device, job: Job) -> Predictor:
        network = MeasuredNetwork(device, constants.common, found.lines)
        return Predictor(job, device, constants, options["stack"], rates, network, jitter)

    return request, make


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
        text = f"{100 * jitter:.2g}% of a step: as if a step varied as one call does, an upper estimate"
        notes.append(Assumption("jitter of a rank", text, files))
    if found.launch_share is not None:
        notes.append(
            Assumption("measured: between launches", f"standard deviation {100 * found.launch_share:.2g}%", files)
        )
    return notes


def answered(options: Mapping[str, Any], constants: Constants) -> Answer:
    """Raises BenchError for files that cannot be read, or lack what a prediction needs."""
    from bench.predict.run import completed

    request, make = understood(options, constants)
    return completed(Answer(request), make, options)
