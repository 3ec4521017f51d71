"""Request for a prediction: job, devices and fixed sizes, from options; every assumption that was filled in is
noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.core.values import digits
from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.parallelism.shapes import ModelShape, find_model, models, shape_of_sizes
from bench.predict.model.fleet import FleetPart
from bench.predict.rates import device as hardware
from bench.predict.rates.constants import Common
from bench.predict.rates.device import Device, Level
from bench.predict.search import Fixed

TOKENS_A_BATCH = 16 * 2**20
"""Tokens of a step if no batch is given: as Llama 3 405B was trained (arXiv 2407.21783, section 3.4.1)."""
SHAPE_OPTIONS = ("layers", "hidden", "heads", "vocab")
SIZES = ("tp", "pp", "dp", "cp", "ep", "microbatch", "interleave", "schedule", "recompute", "zero")


@dataclass(frozen=True)
class Assumption:
    """One line of the assumptions of a prediction."""

    what: str
    value: str
    source: str

    def row(self) -> dict[str, str]:
        return {"assumption": self.what, "value": self.value, "source": self.source}


@dataclass
class Request:
    """Job, devices and fixed sizes to predict."""

    job: Job
    members: tuple[FleetPart, ...]
    fixed: Fixed
    stack: str
    assumptions: list[Assumption] = field(default_factory=list)

    @property
    def devices(self) -> int:
        return sum(member.devices for member in self.members)

    @property
    def mixed(self) -> bool:
        return len(self.members) > 1


def build_request(options: Mapping[str, Any], common: Common) -> Request:
    """Raises BenchError for options that are unknown, contradictory or missing, with what to give."""
    job, notes = job_of(options)
    members = _members(options, common)
    for member in members:
        notes += _device_notes(member, job)
    return Request(job, members, fixed_of(options), options["stack"], notes)


def job_of(options: Mapping[str, Any]) -> tuple[Job, list[Assumption]]:
    """The job, and the assumptions that fill it in."""
    shape = _shape(options)
    notes = [Assumption("model", _model_text(shape), shape.source)]
    sequence = options["sequence"] or shape.sequence
    batch = options["batch"] or max(1, TOKENS_A_BATCH // sequence)
    if not options["batch"]:
        notes.append(Assumption("global batch", f"{batch:,} sequences", "not given: 16 Mi tokens, as Llama 3 405B"))
    return Job(replace(shape, sequence=sequence), batch, options["precision"]), notes


def fixed_of(options: Mapping[str, Any]) -> Fixed:
    return Fixed(**{name: options[name] for name in SIZES})


def _shape(options: Mapping[str, Any]) -> ModelShape:
    given = {name: options[name] for name in SHAPE_OPTIONS if options[name] is not None}
    name = options["model"]
    if name is not None:
        if given:
            raise BenchError(f"--model {name} and --{next(iter(given))}: a model by its name, or by its numbers")
        return find_model(name)
    missing = [f"--{name}" for name in SHAPE_OPTIONS if name not in given]
    if missing:
        raise BenchError(f"no model: give --model NAME ({', '.join(models())}), or {', '.join(missing)}")
    return shape_of_sizes(
        given["layers"],
        given["hidden"],
        given["heads"],
        given["vocab"],
        options["kv_heads"],
        options["ffn_hidden"],
        options["gated"],
        options["experts"] or 1,
        options["active_experts"] or 1,
    )


def _model_text(shape: ModelShape) -> str:
    size = f"{shape.num_parameters / 1e9:,.3g} billion parameters"
    if shape.is_mixture:
        size += f", {shape.active_parameters / 1e9:,.3g} active"
    return f"{shape.name}: {shape.num_layers} layers x {shape.hidden}, {size}"


def _members(options: Mapping[str, Any], common: Common) -> tuple[FleetPart, ...]:
    text, gpus = options["accelerator"], options["gpus"]
    latencies = (common.inside_latency_seconds, common.across_latency_seconds)

    def device(name: str) -> Device:
        base = hardware.find(
            name,
            nic_gbit=options["nic_gbit"],
            domain_size=options["domain_size"],
            latencies=latencies,
            memory_gb=options["memory_gb"],
        )
        link = options["link_gb_per_s"]
        return base if link is None else replace(base, inside=Level(link * 1e9, latencies[0], "given"))

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise BenchError(
            f"--accelerator {text!r}: a name, or NAME=COUNT,NAME=COUNT; there are: {', '.join(hardware.names())}"
        )
    if "=" not in text:
        if len(parts) > 1:
            raise BenchError(f"--accelerator {text}: say how many of each: {parts[0]}=COUNT,{parts[1]}=COUNT")
        if gpus is None:
            raise BenchError(f"how many {text}? Give --gpus NUMBER")
        return (FleetPart(device(text), gpus),)
    counts = [part.partition("=") for part in parts]
    members = tuple(FleetPart(device(name), _count(name, number)) for name, _, number in counts)
    total = sum(member.devices for member in members)
    if gpus is not None and gpus != total:
        raise BenchError(f"--gpus {gpus}: the accelerators are {total} together; leave it out")
    return members


def _count(name: str, text: str) -> int:
    if not digits(text.strip()):
        raise BenchError(f"--accelerator {name}={text}: a whole number of at least 1 after the =")
    return int(text)


def _device_notes(member: FleetPart, job: Job) -> list[Assumption]:
    device = member.device
    peak = device.flops_per_s(job.precision) / 1e12
    notes = [Assumption(f"{device.name}", f"{peak:,.0f} TFLOP/s {job.precision}, dense", "catalogue")]
    for name, level in (("inside a domain", device.inside), ("across domains", device.across)):
        if level is not None:
            size = f" of {device.domain_size}" if name == "inside a domain" else ""
            notes.append(
                Assumption(f"{device.name}, {name}{size}", f"{level.bytes_per_s / 1e9:,.4g} GB/s one way", level.source)
            )
    return notes + [Assumption(device.name, note, "catalogue") for note in device.notes]
