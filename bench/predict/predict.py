"""`bench predict` from options to an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.values import digits, parse_share, show_seconds
from bench.errors import BenchError
from bench.predict import answer as answers
from bench.predict import economy
from bench.predict.answer import PredictedJob, Reliability
from bench.predict.model.layer import RECOMPUTE
from bench.predict.model.pipeline import FORMULAS
from bench.predict.progress import Report, no_report
from bench.predict.rates.constants import Constants, frozen
from bench.predict.rates.matmul import reached_share
from bench.predict.request import Assumption, Request, build_request

SPLIT_SIZES = ("tp", "pp", "dp", "cp", "ep", "microbatch", "interleave")


@dataclass(frozen=True)
class Predictions:
    """Predicted jobs, one per number of accelerators that was asked for."""

    jobs: tuple[PredictedJob, ...]
    failed: Mapping[int, str]
    """Number of accelerators -> why nothing is predicted for it."""


def predict_each(options: Mapping[str, Any], report: Report = no_report) -> Predictions:
    """A prediction per number in `gpus`, such as `24000,100000`.

    Raises BenchError if there is none for any of them.
    """
    jobs: list[PredictedJob] = []
    failed: dict[int, str] = {}
    for number in _numbers(options["gpus"]):
        try:
            jobs.append(predict({**options, "gpus": number}, report))
        except BenchError as error:
            if number is None:
                raise
            failed[number] = str(error)
    if not jobs:
        raise BenchError(next(iter(failed.values())))
    return Predictions(tuple(jobs), failed)


def _numbers(text: str | None) -> list[int | None]:
    if text is None:
        return [None]
    parts = [part.strip() for part in str(text).split(",")]
    if not all(map(digits, parts)):
        raise BenchError(f"--gpus {text}: a whole number of at least 1, or several to compare: 24000,100000")
    return list(dict.fromkeys(map(int, parts)))


def predict(options: Mapping[str, Any], report: Report = no_report) -> PredictedJob:
    """Raises BenchError for options that contradict each other or are unknown, and for a job that fits nowhere."""
    constants = frozen()
    _refuse(options)
    make: answers.MakePredictor
    if options["sources"]:
        from bench.predict import from_results

        request, make, options = from_results.build_request(options, constants)
    else:
        request = build_request(options, constants.common)
        jitter = parse_share("--jitter", options["jitter"]) if options["jitter"] else None
        make = answers.predictor_maker(constants, request.stack, jitter)
        request.assumptions += _constants_assumptions(constants, request, jitter)
    answer = PredictedJob(request)
    if request.mixed:
        answer.fleet = answers.predict_fleet(request, make, report)
    else:
        answer.search_result = answers.search_strategies(request, make, max(1, options["top"]), report)
    if options["sweep"]:
        answer.sweep = answers.predict_scaling(request, make, answers.parse_sweep(options["sweep"]), report)
    fill_in_costs(answer, options)
    return answer


def fill_in_costs(answer: PredictedJob, options: Mapping[str, Any]) -> None:
    """Failures, power and money of an answer, with their assumptions."""
    assumptions = answer.request.assumptions
    answer.reliability = economy.reliability_of(options, answer.request, assumptions)
    if answer.reliability.goodput <= 0.0:
        raise BenchError(_never_done(answer.request.devices, answer.reliability))
    answer.tokens = economy.tokens_of_run(options, assumptions)
    answer.power_watts, answer.joules_per_token = economy.energy(answer, assumptions)
    answer.options = economy.pay(options, answer, assumptions)
    answer.assumptions = assumptions


def _never_done(devices: int, reliability: Reliability) -> str:
    failures = reliability.failures
    return (
        f"{devices:,} devices fail every {show_seconds(failures.mtbf_seconds)}, and a restart takes "
        f"{show_seconds(failures.restart_seconds)}: the run never ends; take fewer devices, or a longer --mtbf or "
        "shorter --restart and --checkpoint-interval"
    )


def _constants_assumptions(constants: Constants, request: Request, jitter: float | None) -> list[Assumption]:
    stack, precision = request.stack, request.job.precision
    chosen = constants.stack(stack)
    fitted = f"predict_constants.json ({constants.made})"
    common = constants.common
    notes = [
        Assumption("software", f"{stack}: {chosen.description}", fitted),
        *(
            Assumption(
                f"matrix products, {member.device.name}",
                f"{100 * reached_share(member.device, common, precision):.0f}% of the best rate of one alone, less for "
                "small ones",
                fitted,
            )
            for member in request.members
        ),
        Assumption("links inside a domain", f"{100 * common.inside_share:.0f}% of their rate", fitted),
        Assumption("NICs", f"{100 * common.across_share:.0f}% of their rate", fitted),
        Assumption("memory", f"{100 * common.memory_share:.0f}% of its bandwidth", fitted),
        Assumption(
            "interval",
            f"standard deviation of {100 * constants.error_share:.0f}%",
            "error on published runs that were not fitted",
        ),
    ]
    share = common.jitter_share if jitter is None else jitter
    notes.append(
        Assumption("jitter of a rank", f"{100 * share:.2g}% of a step", "given" if jitter is not None else fitted)
    )
    return notes


def _refuse(options: Mapping[str, Any]) -> None:
    for name in ("gpus", "batch", "sequence", "top", "domain_size", *SPLIT_SIZES):
        if options[name] is not None and options[name] < 1:
            raise BenchError(f"--{name.replace('_', '-')} {options[name]}: has to be at least 1")
    for name in ("nic_gbit", "link_gb_per_s", "memory_gb", "storage_gb_per_s", "tokens", "waiting"):
        if options[name] is not None and not (0 < options[name] < math.inf):
            raise BenchError(f"--{name.replace('_', '-')} {options[name]:g}: has to be above 0, and finite")
    for name, known in (("recompute", RECOMPUTE), ("schedule", FORMULAS)):
        if options[name] is not None and options[name] not in known:
            raise BenchError(f"--{name} {options[name]}: there are: {', '.join(known)}")
    if not 0.0 < options["device_share"] <= 1.0:
        raise BenchError(f"--device-share {options['device_share']:g}: above 0, and at most 1")
    if options["preemptions"] < 0:
        raise BenchError(f"--preemptions {options['preemptions']:g}: cannot be below 0")
