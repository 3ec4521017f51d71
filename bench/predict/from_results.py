"""`bench predict --from FILE...`: an answer from measured rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core.values import parse_share, show_number, show_seconds
from bench.parallelism.layout import Job
from bench.predict import request as requests
from bench.predict.calibration import measured_rates, step_factors
from bench.predict.calibration.measured_rates import Measured
from bench.predict.calibration.network_lines import MeasuredNetwork
from bench.predict.calibration.overheads import fit_overheads
from bench.predict.model.fleet import FleetPart
from bench.predict.model.overheads import WAYS, Overheads
from bench.predict.model.step import Predictor
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import Constants
from bench.predict.rates.device import Device
from bench.predict.request import Assumption, Request

MAX_RANKS = 2**30
"""More ranks than any file has: rates of the most that were measured."""


@dataclass(frozen=True)
class RateShares:
    """Shares of the measured rates."""

    work: float
    """Share of the rates of computation and memory."""
    core: float
    """Share of a core or device that a rank has."""
    transfers: float
    slowdown: BySize | None = None
    """Factor on the work of training steps, by the tokens of a microbatch over tensor ranks."""
    overheads: Overheads = field(default_factory=Overheads)


class MeasuredPredictors:
    """Predictors of jobs on the files' devices, by the files' rates and the overheads of their training steps.

    Calling it makes one; it is a `MakePredictor`.
    """

    def __init__(
        self,
        measured: Measured,
        device: Device,
        options: Mapping[str, Any],
        constants: Constants,
        jitter: float | None,
    ) -> None:
        self.measured, self.device, self.jitter = measured, device, jitter
        self.constants, self.stack = constants, options["stack"]
        self.dtype = measured_rates.DTYPES[options["precision"]]
        steps = [step for step in measured.steps if step.job.precision == options["precision"]]
        self.slowdown = step_factors.factors(
            steps, lambda step, slowdown: self._predictor_of_step(step, slowdown).predict(step.strategy)
        )
        self.overheads = fit_overheads(
            steps,
            lambda step: self._predictor_of_step(step, self.slowdown).predict(step.strategy),
            lambda step: self._predictor_of_step(step).rank_work(step.strategy),
        )
        share = options["device_share"]
        # Transfers within a host take the same cores as the work; those between hosts are of links, whoever has the
        # cores.
        transfers = share if measured.num_hosts == 1 else 1.0
        self.shares = RateShares(share, share, transfers, self.slowdown, self.overheads.on(share))

    def __call__(self, device: Device, job: Job) -> Predictor:
        return self._predictor(device, job, MAX_RANKS, self.shares, self.jitter)

    def _predictor_of_step(self, step: step_factors.MeasuredStep, slowdown: BySize | None = None) -> Predictor:
        """Its ranks had a device each, and a measured median has its own waiting in it."""
        return self._predictor(self.device, step.job, step.ranks, RateShares(1.0, 1.0, 1.0, slowdown), 0.0)

    def _predictor(self, device: Device, job: Job, ranks: int, shares: RateShares, jitter: float | None) -> Predictor:
        rates, memory = self.measured.at(ranks, self.dtype)
        # The device's is that of the most ranks at once, or the catalogue's if none was measured.
        most = self.measured.memory_bytes_per_s
        pressure = 1.0 if memory is None or most is None else memory / most
        device = replace(device, memory_bytes_per_s=device.memory_bytes_per_s * shares.work * pressure)
        network = MeasuredNetwork(device, self.constants.common, self.measured.lines, shares.transfers)
        return Predictor(
            job,
            device,
            self.constants,
            self.stack,
            rates.times(shares.work),
            network,
            jitter,
            shares.overheads,
            shares.core,
            shares.slowdown,
        )


def build_request(
    options: Mapping[str, Any], constants: Constants
) -> tuple[Request, MeasuredPredictors, Mapping[str, Any]]:
    """The request on the files' devices, what predicts on them, and the options with what was measured.

    Raises BenchError for files that cannot be read, or lack what a prediction needs.
    """
    measured = measured_rates.read(options["sources"])
    request, predictors = request_on(measured, options, constants)
    return request, predictors, fill_in_storage(measured, options)


def request_on(
    measured: Measured, options: Mapping[str, Any], constants: Constants
) -> tuple[Request, MeasuredPredictors]:
    device = measured_rates.device(measured, options["precision"], options, constants.common)
    jitter = parse_share("--jitter", options["jitter"]) if options["jitter"] else measured.jitter_share
    constants = replace(constants, error_share=math.hypot(constants.error_share, measured.launch_share or 0.0))
    if not device.overlaps:
        constants = _without_host(constants, options["stack"])
    job, assumptions = requests.job_of(options)
    predictors = MeasuredPredictors(measured, device, options, constants, jitter)
    assumptions += _rate_assumptions(measured, options["precision"], jitter)
    assumptions += [Assumption(device.name, note, "files") for note in device.notes]
    assumptions += _step_assumptions(predictors)
    members = (FleetPart(device, options["gpus"] or measured.ranks),)
    return Request(job, members, requests.fixed_of(options), options["stack"], assumptions), predictors


def _step_assumptions(predictors: MeasuredPredictors) -> list[Assumption]:
    files = ", ".join(predictors.measured.paths)
    units = {way.name: way.unit for way in WAYS}
    assumptions = [
        Assumption(f"measured: {name} parallel", f"{show_seconds(seconds)} more {units[name]}", files)
        for name, seconds in predictors.overheads.seconds_of.items()
    ]
    if predictors.slowdown is not None:
        assumptions.append(Assumption("measured: training_step", _range(predictors.slowdown), files))
    return assumptions


def _without_host(constants: Constants, stack: str) -> Constants:
    """Constants for ranks that compute on cores: no separate host launches kernels."""
    changed = replace(constants.stack(stack), kernel_seconds=0.0, step_seconds=0.0)
    return replace(constants, stacks={**constants.stacks, stack: changed})


def _range(slowdown: BySize) -> str:
    low, high = (show_number(pick(slowdown.values)) for pick in (min, max))
    text = f"{low} x" if low == high else f"{low} to {high} x"
    by_size = "" if len(slowdown.sizes) == 1 else ", by the size of the microbatch"
    return f"{text} the work that the rates alone say{by_size}"


def _rate_assumptions(measured: Measured, precision: str, jitter: float | None) -> list[Assumption]:
    files = ", ".join(measured.paths)
    rates = measured.rates[measured_rates.DTYPES[precision]]
    low, high = min(rates.values), max(rates.values)
    shown = f"{show_number(low / 1e12)} to {show_number(high / 1e12)} TFLOP/s {precision}, by size"
    notes = [Assumption("measured: matrix products", f"{shown}, {len(rates.sizes)} sizes", files)]
    if measured.memory_bytes_per_s is not None:
        notes.append(Assumption("measured: memory", f"{show_number(measured.memory_bytes_per_s / 1e9)} GB/s", files))
    for line in measured.lines:
        text = f"{show_number(line.latency_seconds * 1e6)} us + bytes / {show_number(line.bytes_per_s / 1e9)} GB/s"
        notes.append(Assumption(f"measured: {line.op} of {line.ranks} ranks", f"{text}, {line.sizes} sizes", files))
    if jitter is not None:
        text = f"{100 * jitter:.2g}% of a step"
        text += "" if measured.is_step_jitter else ": as if a step varied as one call does, an upper estimate"
        notes.append(Assumption("jitter of a rank", text, files))
    if measured.launch_share is not None:
        notes.append(
            Assumption("measured: between launches", f"standard deviation {100 * measured.launch_share:.2g}%", files)
        )
    return notes


def fill_in_storage(measured: Measured, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the storage that was measured, if none is given."""
    if measured.storage_gb_per_s is None or options["storage_gb_per_s"] is not None:
        return options
    return {**options, "storage_gb_per_s": measured.storage_gb_per_s, "storage_source": ", ".join(measured.paths)}
