"""Answer to a request, a predicted job: splits, scaling, failures and money, as plain data for tables and plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from bench.core.values import digits
from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.predict.cost import failures as failing
from bench.predict.cost import prices
from bench.predict.model import fleet as fleets
from bench.predict.model.fleet import FleetPrediction
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.progress import Report, no_report
from bench.predict.rates.constants import Constants
from bench.predict.rates.device import Device
from bench.predict.request import Assumption, Request
from bench.predict.search import SearchResult, search

MakePredictor = Callable[[Device, Job], Predictor]


@dataclass(frozen=True)
class SweepPoint:
    """A job on this many devices: `weak` keeps the batch per device, `strong` the whole batch."""

    scaling: str
    devices: int
    prediction: Prediction
    efficiency: float
    """Tokens per second and device, over those of the smallest number of devices that fits."""


@dataclass(frozen=True)
class Reliability:
    """Goodput of a run under failures."""

    failures: failing.Failures
    interval_seconds: float
    goodput: float
    young_goodput: float


@dataclass(frozen=True)
class Option:
    """One way to pay."""

    name: str
    usd_per_device_hour: float
    cost: prices.RunCost
    reliability: Reliability | None
    source: str
    break_even_utilisation: float | None = None
    """Utilisation above which owning is cheaper than the cheapest rent that was priced."""
    capital_usd: float | None = None
    """Price of buying all devices with all around them; None: nothing is bought."""


@dataclass
class PredictedJob:
    request: Request
    search_result: SearchResult | None = None
    fleet: tuple[FleetPrediction, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()
    reliability: Reliability | None = None
    options: tuple[Option, ...] = ()
    own: prices.Own | None = None
    """Assumptions of owning, if it was asked for."""
    power_watts: float | None = None
    """Power of all devices with their share of the hall, by the catalogue; None if the catalogue has no figure."""
    joules_per_token: float | None = None
    tokens: float = 0.0
    """Tokens of the run."""
    assumptions: list[Assumption] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        if self.fleet:
            return max(prediction.tokens_per_s for prediction in self.fleet)
        assert self.search_result is not None
        return self.search_result.best[0].tokens_per_s

    @property
    def run_seconds(self) -> float:
        """Time of the whole run, failures included."""
        return self.tokens / (self.tokens_per_s * (1.0 if self.reliability is None else self.reliability.goodput))

    @property
    def error_share(self) -> float:
        """Standard deviation of the logarithm of a predicted step's error."""
        if self.search_result is not None:
            return self.search_result.best[0].error_share
        return self.fleet[0].parts[0].prediction.error_share

    @property
    def strategy(self) -> TrainingStrategy:
        if self.fleet:
            return self.fleet[0].strategy
        assert self.search_result is not None
        return self.search_result.best[0].strategy


def predictor_maker(constants: Constants, stack: str, jitter_share: float | None = None) -> MakePredictor:
    def make(device: Device, job: Job) -> Predictor:
        return Predictor(job, device, constants, stack, jitter_share=jitter_share)

    return make


def search_strategies(request: Request, make: MakePredictor, keep: int, report: Report = no_report) -> SearchResult:
    """Best strategies on one kind of device. Raises BenchError if none fits."""
    member = request.members[0]
    return search(make(member.device, request.job), member.devices, request.fixed, keep, report=report)


def predict_fleet(request: Request, make: MakePredictor, report: Report = no_report) -> tuple[FleetPrediction, ...]:
    """Even and balanced fleets, each with the best of the strategies that are best on one of the types.

    Raises BenchError if no split fits all types.
    """
    candidates: dict[TrainingStrategy, None] = {}
    problems: list[str] = []
    for member in request.members:
        # A type's share of the batch, so that the search sees about as many microbatches a replica.
        share = max(1, round(request.job.global_batch * member.devices / request.devices))
        job = replace(request.job, global_batch=share)
        try:
            result = search(make(member.device, job), member.devices, request.fixed, 20, report=report)
        except BenchError as error:
            problems.append(str(error))
            continue
        candidates |= dict.fromkeys(prediction.strategy for prediction in result.best)
    best: list[FleetPrediction] = []
    for mode in fleets.MODES:
        tried = list(_fleet_predictions(make, request, candidates, mode))
        if not tried:
            raise BenchError("no split fits all types of the fleet; " + "; ".join(problems or ["take more devices"]))
        best.append(min(tried, key=lambda prediction: prediction.step_seconds))
    return tuple(best)


def _fleet_predictions(
    make: MakePredictor, request: Request, candidates: Iterable[TrainingStrategy], mode: str
) -> Iterable[FleetPrediction]:
    for strategy in candidates:
        try:
            prediction = fleets.predict(make, request.job, request.members, strategy, mode)
        except BenchError:
            continue
        if prediction.fits:
            yield prediction


def parse_sweep(text: str) -> list[int]:
    """`gpus=8..100000`: doublings from the first, and the last. Raises BenchError."""
    name, _, span = text.partition("=")
    low, dots, high = span.partition("..")
    if name != "gpus" or not dots or not 1 <= (digits(low) or 0) <= (digits(high) or 0):
        raise BenchError(f"--sweep {text}: gpus=FIRST..LAST, such as gpus=8..100000")
    counts, number = [], int(low)
    while number < int(high):
        counts.append(number)
        number *= 2
    return [*counts, int(high)]


def predict_scaling(
    request: Request, make: MakePredictor, counts: list[int], report: Report = no_report
) -> tuple[SweepPoint, ...]:
    """Weak scaling from the job's batch on the request's devices, and strong scaling; sizes that do not fit are left
    out.

    Raises BenchError if none fits.
    """
    device = request.members[0].device
    reference = request.devices if not request.mixed else request.members[0].devices
    points: list[SweepPoint] = []
    problem = "no size"
    for scaling in ("weak", "strong"):
        base: float | None = None
        for number in counts:
            batch = request.job.global_batch
            if scaling == "weak":
                batch = max(1, round(batch * number / reference))
            job = replace(request.job, global_batch=batch)
            fixed = replace(request.fixed, dp=None)
            try:
                best = search(make(device, job), number, fixed, 1, coarse=True, report=report).best[0]
            except BenchError as error:
                problem = str(error)
                continue
            rate = best.tokens_per_s / number
            base = rate if base is None else base
            points.append(SweepPoint(scaling, number, best, rate / base))
    if not points:
        raise BenchError(f"--sweep: nothing fits: {problem}")
    return tuple(points)


def reliability(failures: failing.Failures, interval_seconds: float | None) -> Reliability:
    chosen = failures.best_seconds if interval_seconds is None else interval_seconds
    return Reliability(failures, chosen, failures.goodput(chosen), failures.goodput(failures.young_seconds))


def with_preemptions(
    failures: failing.Failures, devices: int, devices_a_node: int, per_node_day: float
) -> failing.Failures:
    """A preempted node stops the job as a failed one does."""
    rate = 1.0 / failures.mtbf_seconds + devices / devices_a_node * per_node_day / 86400.0
    return failing.Failures(1.0 / rate, failures.checkpoint_seconds, failures.restart_seconds)
