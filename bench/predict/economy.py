"""Reliability and ways to pay, from options about failures and prices; every assumption is noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.values import digits, parse_seconds
from bench.errors import BenchError
from bench.predict.answer import Option, PredictedJob, Reliability, reliability, with_preemptions
from bench.predict.cost import failures, prices
from bench.predict.request import Assumption, Request

RESTART_SECONDS = 600.0
STORAGE_GB_PER_S_A_DEVICE = 2000 / 16384
"""Llama 3's storage: 2 TB/s sustained for 16,384 devices (arXiv 2407.21783, section 3.3.1)."""
NODE_WATTS_SHARE = 10.2 / (8 * 0.7)
"""A device's share of its node over its own power, at most: a DGX H100 takes up to 10.2 kW with eight devices of 700 W
(NVIDIA DGX H100 datasheet). Used for other nodes too."""
PUE = 1.25
PRETRAINING_TOKENS = 15e12


def reliability_of(options: Mapping[str, Any], request: Request, notes: list[Assumption]) -> Reliability:
    """Raises BenchError for times and sizes that cannot be."""
    devices = request.devices
    per_device = failures.DEVICE_MTBF_SECONDS
    source = "Llama 3: 16,384 H100, 54 days, 419 unexpected interruptions (arXiv 2407.21783, section 3.3.4)"
    if options["mtbf"] is not None:
        per_device, source = parse_seconds("--mtbf", options["mtbf"]), "given"
        if options["mtbf_per"] == "node":
            per_device *= request.members[0].device.domain_size
    notes.append(
        Assumption("mean time between failures of a device", f"{per_device / 86400 / 365.25:.3g} years", source)
    )
    seconds = _checkpoint_seconds(options, request, notes)
    restart = parse_seconds("--restart", options["restart"]) if options["restart"] else RESTART_SECONDS
    notes.append(Assumption("restart", f"{restart:.0f} s", "given" if options["restart"] else "an assumption"))
    domains = tuple(map(_domain, options["failure_domain"]))
    for domain in domains:
        text = f"{domain.devices:,} devices, {domain.mtbf_seconds / 86400:.3g} days between losses"
        notes.append(Assumption(f"failure domain {domain.name}", text, "given"))
    job_failures = failures.failures_of_job(devices, per_device, seconds, restart, domains)
    interval = (
        parse_seconds("--checkpoint-interval", options["checkpoint_interval"])
        if options["checkpoint_interval"]
        else None
    )
    return reliability(job_failures, interval)


def _checkpoint_seconds(options: Mapping[str, Any], request: Request, notes: list[Assumption]) -> float:
    if options["checkpoint_seconds"] is not None:
        seconds = parse_seconds("--checkpoint-seconds", options["checkpoint_seconds"])
        notes.append(Assumption("checkpoint", f"{seconds:.3g} s", options.get("checkpoint_source") or "given"))
        return seconds
    num_bytes = failures.checkpoint_bytes(request.job.shape.num_parameters)
    rate = options["storage_gb_per_s"] or STORAGE_GB_PER_S_A_DEVICE * request.devices
    source = (
        options.get("storage_source", "given")
        if options["storage_gb_per_s"]
        else f"{STORAGE_GB_PER_S_A_DEVICE:.3g} GB/s per device, as Llama 3's (arXiv 2407.21783, section 3.3.1)"
    )
    notes.append(
        Assumption(
            "checkpoint", f"{num_bytes / 1e9:,.0f} GB: 14 bytes a parameter", "weights in 16 bits, Adam's states"
        )
    )
    notes.append(Assumption("storage", f"{rate:,.0f} GB/s", source))
    return max(1.0, num_bytes / (rate * 1e9))


def _domain(text: str) -> failures.Domain:
    """`feed=512:8760h`, or `feed=512:8760h:2h` with its own restart."""
    name, _, rest = text.partition("=")
    parts = rest.split(":")
    if not name or len(parts) not in (2, 3) or not digits(parts[0]):
        raise BenchError(
            f"--failure-domain {text}: NAME=DEVICES:TIME, or NAME=DEVICES:TIME:RESTART, such as feed=512:8760h:2h"
        )
    restart = parse_seconds("--failure-domain", parts[2]) if len(parts) == 3 else None
    return failures.Domain(name, int(parts[0]), parse_seconds("--failure-domain", parts[1]), restart)


def tokens_of_run(options: Mapping[str, Any], notes: list[Assumption]) -> float:
    if options["tokens"]:
        return float(options["tokens"])
    source = "not given: as Llama 3 (arXiv 2407.21783, section 1)"
    notes.append(Assumption("tokens of a run", f"{PRETRAINING_TOKENS:.3g}", source))
    return PRETRAINING_TOKENS


def pay(options: Mapping[str, Any], answer: PredictedJob, notes: list[Assumption]) -> tuple[Option, ...]:
    """Every way to pay that was asked for; without any, the cheapest on-demand rent of the price file, where it has
    one."""
    request, path = answer.request, options["prices"]
    if request.mixed:
        notes.append(Assumption("money", "not reckoned for a mixed fleet", "ask for each type by itself"))
        return ()
    rows = prices.prices(Path(path) if path else None)
    device = request.members[0].device
    tokens = answer.tokens
    ways: list[Option] = []
    for name, usd, source in _rents(options, rows, device.name):
        ways.append(_option(name, usd, source, options, answer, tokens))
    ways += _spots(options, rows, answer, tokens, notes)
    if options["own"] is not None:
        ways.append(_owned(options, rows, answer, tokens, notes, ways))
    return tuple(ways)


def _rents(options: Mapping[str, Any], rows: list[prices.DevicePrice], device: str) -> list[tuple[str, float, str]]:
    rents = [("rent", _named_price("--price", text, device), "given") for text in options["price"]]
    row = prices.cheapest(rows, device, "on_demand")
    if not rents and row is not None:
        rents.append(("rent", row.usd, row.text))
    return rents


def _named_price(option: str, text: str, device: str) -> float:
    """`H100=2.5`, or `2.5` alone."""
    name, equals, value = text.rpartition("=")
    if equals and not device.lower().startswith(name.strip().lower()):
        raise BenchError(f"{option} {text}: the accelerator is {device}")
    try:
        usd = float(value)
    except ValueError:
        usd = 0.0
    if not usd > 0.0:
        raise BenchError(f"{option} {text}: NAME=USD_PER_HOUR, such as H100=2.95")
    return usd


def _spots(
    options: Mapping[str, Any],
    rows: list[prices.DevicePrice],
    answer: PredictedJob,
    tokens: float,
    notes: list[Assumption],
) -> list[Option]:
    if options["spot"] is None:
        return []
    device = answer.request.members[0].device
    row = prices.cheapest(rows, device.name, "spot")
    if options["spot"] != "file":
        usd, source = _named_price("--spot", options["spot"], device.name), "given"
    elif row is None:
        raise BenchError(f"--spot: no spot price of {device.name} in the price file; give --spot NAME=USD_PER_HOUR")
    else:
        usd, source = row.usd, row.text
    rate = options["preemptions"]
    notes.append(
        Assumption("preemptions of a spot node", f"{rate:g} a day", "given" if rate else "none given: as on demand")
    )
    base = answer.reliability
    if base is None or rate <= 0.0:
        return [_option("spot", usd, source, options, answer, tokens)]
    failing = with_preemptions(base.failures, answer.request.devices, device.domain_size, rate)
    return [_option("spot", usd, source, options, answer, tokens, reliability(failing, None))]


def _owned(
    options: Mapping[str, Any],
    rows: list[prices.DevicePrice],
    answer: PredictedJob,
    tokens: float,
    notes: list[Assumption],
    rents: list[Option],
) -> Option:
    device = answer.request.members[0].device
    price = prices.cheapest(rows, device.name, "purchase")
    kw = None if device.power_watts is None else device.power_watts * NODE_WATTS_SHARE / 1000.0
    terms = answer.own = prices.parse_own(options["own"], None if price is None else price.usd, kw)
    source = price.text if price is not None and terms.purchase_usd == price.usd else "given"
    for name, shown in (
        ("purchase", f"{terms.purchase_usd:,.0f} USD per device"), ("installation factor", f"{terms.installation:g}"),
        ("years", f"{terms.years:g}"), ("residual", f"{100 * terms.residual:g}%"),
        ("power", f"{terms.kw:.3g} kW a device with its share of the node"), ("PUE", f"{terms.pue:g}"),
        ("energy", f"{terms.usd_per_kwh:g} USD/kWh"),
        ("operations", f"{100 * terms.operations:g}% of the investment a year"),
        ("utilisation", f"{100 * terms.utilisation:g}%"),
    ):  # fmt: skip
        given = name.split()[0] in options["own"] or (name == "energy" and "usd_per_kwh" in options["own"])
        where = source if name == "purchase" else "given" if given else "an assumption: --own changes it"
        notes.append(Assumption(f"owning, {name}", shown, where))
    # Spot may end at any time: owning is compared with what can be relied on, if that was priced.
    firm = [rent.usd_per_device_hour for rent in rents if rent.name == "rent"]
    cheapest = min(firm or [rent.usd_per_device_hour for rent in rents], default=None)
    even = None if cheapest is None else terms.break_even_utilisation(cheapest)
    owned = _option("own", terms.usd_per_hour(), source, options, answer, tokens, None, even)
    return replace(owned, capital_usd=answer.request.devices * terms.capital_usd)


def _option(
    name: str,
    usd: float,
    source: str,
    options: Mapping[str, Any],
    answer: PredictedJob,
    tokens: float,
    reliable: Reliability | None = None,
    break_even: float | None = None,
) -> Option:
    job = answer.request.job
    reliability_of_way = reliable or answer.reliability
    cost = prices.RunCost(
        answer.request.devices,
        usd,
        answer.tokens_per_s,
        1.0 if reliability_of_way is None else reliability_of_way.goodput,
        job.shape.step_flops_per_token(),
        tokens,
        options["waiting"] or 0.0,
    )
    return Option(name, usd, cost, reliability_of_way, source, break_even)


def energy(answer: PredictedJob, notes: list[Assumption]) -> tuple[float | None, float | None]:
    """Watts of all devices and joules of a token, by the catalogue's power times PUE; None if it is not known."""
    total = 0.0
    for member in answer.request.members:
        if member.device.power_watts is None:
            notes.append(Assumption("power", f"{member.device.name}: not in the catalogue", "unknown stays unknown"))
            return None, None
        total += member.devices * member.device.power_watts * NODE_WATTS_SHARE * PUE
    text = (
        f"catalogue's device power x {NODE_WATTS_SHARE:.3g} (share of the node: DGX H100, 10.2 kW at most) x PUE {PUE}"
    )
    notes.append(Assumption("power", f"{total / 1e6:.3g} MW", text))
    return total, total / answer.tokens_per_s
