"""Reads what all_reduce_bench.py of the ML Engineering book prints: a table of payloads, or one payload.

The program averages the bandwidths of its trials over all ranks; the time of a case is the payload over that mean. With
--profile_stability each row is one trial of one payload, and is a sample. Calls that are queued one after the other are
`timing=streamed`; one call after a barrier, as older versions time it, is `aligned`. Its tensors are float32, and with
--sym-mem registered with NCCL as a symmetric window (`buffer=registered`, `window=symmetric`).

Source: stas00/ml-engineering, network/benchmarks/all_reduce_bench.py. A page with the table alone lacks the ranks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.errors import BenchError
from bench.importers.reading import (
    COLLECTIVE,
    ImportedCase,
    ImportedText,
    ImportHints,
    collective_work,
    launches_of_repeats,
    mean_note,
    number,
    whole,
)
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Bandwidths, Contradiction, factor_contradiction
from bench.records.lines.header import RankFacts
from bench.suite import Params

TOOL = "all_reduce_bench"
OP = "all_reduce"
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "GB": 10**9, "iB": 1, "B": 1}
_AMOUNT = r"(?P<amount>\d+(?:\.\d+)?)(?P<unit>[KMGT]?i?B)"
_TITLE = re.compile(r"The average bandwidth of all_reduce over (?P<ranks>\d+) ranks \((?P<trials>[^)]*)\)")
_ONE = re.compile(
    rf"The average bandwidth of all_reduce with a {_AMOUNT} payload \((?P<trials>\d+ trials), (?P<ranks>\d+) ranks\)"
)
_PROFILE = re.compile(rf"The {_AMOUNT} payload bandwidth of all_reduce over (?P<ranks>\d+) ranks \((?P<trials>[^)]*)\)")
_HEAD = re.compile(r"\|?\s*payload\s*\|?\s*busbw\s*\|?\s*algbw\s*\|?\s*$")
_PROFILE_HEAD = re.compile(r"\|?\s*busbw\s*\|?\s*algbw\s*\|?\s*$")
_ROW = re.compile(rf"\|?\s*{_AMOUNT}\s*\|?\s*(?P<busbw>\S+?)GBps\s*\|?\s*(?P<algbw>\S+?)GBps\s*\|?\s*$")
_TRIAL = re.compile(r"\|?\s*(?P<busbw>[\d.]+)GBps\s*\|?\s*(?P<algbw>[\d.]+)GBps\s*\|?\s*$")
_RATE = re.compile(r"(?P<name>algbw|busbw):\s*(?P<value>\S+)\s+GBps(?:\s+\(\S+\s*Gbps\))?\s*$")
_SOFTWARE = re.compile(r"-?\s*software: (?P<versions>.*\btorch=.*)")
_HARDWARE = re.compile(r"-?\s*hardware: .*?name='(?P<name>[^']+)'")
_NOISE = (
    ("progress", re.compile(r"\d+[KMGT]?i?B?\s*:\s*\d+\s*$|\d+\s*$")),
    ("legend", re.compile(r"Legend: 1KiB|1GBps = |Elapsed time:|Environment:\s*$")),
    ("plot", re.compile(r"\*\*\* Plotting results|!!! Can't generate plot")),
    ("rule", re.compile(r"[\s|:-]+$")),
)


@dataclass
class _Run:
    """The run that the lines below a title belong to."""

    num_ranks: int | None = None
    trials: str = ""
    payload: int | None = None
    """Bytes, if the title has them."""
    busbw: float | None = None
    """Bandwidth whose partner is still to come."""
    algbw: float | None = None
    samples: list[float] = field(default_factory=list)


@dataclass
class _Text:
    hints: ImportHints
    ledger: Ledger = field(default_factory=Ledger)
    run: _Run = field(default_factory=_Run)
    cases: list[ImportedCase] = field(default_factory=list)
    bandwidths: list[Bandwidths] = field(default_factory=list)
    """Of each case, in their order."""
    versions: dict[str, str] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)


def looks_like(text: str) -> bool:
    titles = (_TITLE, _ONE, _PROFILE)
    return any(title.search(text) for title in titles) or any(map(_HEAD.match, text.splitlines()))


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text. Raises BenchError if neither the text nor the user says the number of ranks."""
    parsed = _Text(hints)
    for index, original in enumerate(text.splitlines(), 1):
        _take_up(parsed, index, original)
    _end_profile(parsed)
    cases, contradictions = _held_against_bandwidths(parsed)
    if len(parsed.devices) > 1:
        raise BenchError(
            f"the text names several devices: {', '.join(sorted(parsed.devices))}; import one run at a time"
        )
    name = next(iter(parsed.devices), None)
    is_cuda = name is None or "GAUDI" not in name.upper()
    rank = RankFacts(device_type="cuda" if is_cuda else None, device_name=name)
    return ImportedText(
        tool=TOOL,
        version=None,
        format="text",
        readings=launches_of_repeats(cases),
        ledger=parsed.ledger,
        contradictions=tuple(contradictions),
        ranks=(rank,) * max((case.num_ranks for case in cases), default=0),
        versions=parsed.versions,
        backend="nccl" if is_cuda else None,
    )


def _take_up(parsed: _Text, index: int, original: str) -> None:
    line = original.strip()
    title = _TITLE.search(line) or _ONE.search(line) or _PROFILE.search(line)
    if title is not None:
        _begin(parsed, title)
        parsed.ledger.read(index, line, "title")
    elif _HEAD.match(line) or _PROFILE_HEAD.match(line):
        parsed.ledger.read(index, line, "head of the table")
    elif (row := _ROW.match(line)) is not None:
        size = _bytes(row["amount"], row["unit"])
        _add(parsed, index, line, size, number(row["busbw"]), number(row["algbw"]))
    elif (trial := _TRIAL.match(line)) is not None:
        _add_trial(parsed, index, line, trial)
    elif (rate := _RATE.match(line)) is not None:
        _add_rate(parsed, index, line, rate)
    elif (software := _SOFTWARE.match(line)) is not None:
        found = re.findall(r"(torch|cuda|nccl)=(\([\d, ]+\)|[^,\s`]+)", software["versions"])
        parsed.versions |= {name: value.strip("()").replace(", ", ".") for name, value in found if value != "None"}
        parsed.ledger.read(index, line, "versions")
    elif (hardware := _HARDWARE.match(line)) is not None:
        parsed.devices.add(hardware["name"])
        parsed.ledger.read(index, line, "device")
    elif (why := next((why for why, pattern in _NOISE if line and pattern.match(line)), None)) is not None:
        parsed.ledger.skip(index, line, why)
    else:
        parsed.ledger.other(index, original)


def _begin(parsed: _Text, title: re.Match[str]) -> None:
    _end_profile(parsed)
    parts = title.groupdict()
    payload = _bytes(parts["amount"], parts["unit"]) if parts.get("amount") else None
    parsed.run = _Run(whole(parts["ranks"]), parts["trials"], payload)


def _bytes(amount: str, unit: str) -> int | None:
    """The size in bytes; None for a number of no whole bytes, and an unknown unit."""
    value = number(amount)
    size = None if value is None or unit not in UNITS else value * UNITS[unit]
    if size is None or not 0 < size < 2**60:
        return None
    return round(size) if unit == "GB" else int(size)  # of a part of a GiB the program cuts off a part of a byte


def _seconds(size: int | None, algbw: float | None) -> float | None:
    """The time of a payload at a bandwidth in GB/s; None for one that has no time, such as 0 or 1e300."""
    if size is None or algbw is None or algbw <= 0:
        return None
    seconds = size / (algbw * 1e9)
    return seconds if seconds > 0 else None


def _add(parsed: _Text, index: int, line: str, size: int | None, busbw: float | None, algbw: float | None) -> None:
    """Add a case of one payload, or name why its row cannot be read."""
    seconds = _seconds(size, algbw)
    if size is None or algbw is None or busbw is None or seconds is None:
        parsed.ledger.unread(index, line, "has no size, or no bandwidth above its last digit")
        return
    parsed.ledger.read(index, line, "row")
    note = mean_note("the payload over the mean bandwidth of the trials and ranks")
    _append(parsed, index, size, (seconds,), (note,), Bandwidths(f"line {index}", algbw, busbw))


def _append(
    parsed: _Text, index: int, size: int, seconds: tuple[float, ...], notes: tuple[str, ...], stated: Bandwidths
) -> None:
    num_ranks = parsed.hints.ranks(parsed.run.num_ranks, TOOL)
    cut = ("imported: the text may have rounded the payload down",) if size & (size - 1) and size % 1000 else ()
    parsed.cases.append(
        ImportedCase(
            suite=COLLECTIVE,
            params={"op": OP, "num_bytes": size, **_variant(parsed.run.trials)},
            num_ranks=num_ranks,
            seconds=seconds,
            notes=notes + cut,
            work=collective_work(OP, size, num_ranks),
        )
    )
    parsed.bandwidths.append(stated)


def _variant(trials: str) -> Params:
    params: Params = {"timing": "streamed"} if "queued" in trials else {}
    return params | ({"buffer": "registered", "window": "symmetric"} if "symmetric memory" in trials else {})


def _add_trial(parsed: _Text, index: int, line: str, trial: re.Match[str]) -> None:
    algbw, size = number(trial["algbw"]), parsed.run.payload
    seconds = _seconds(size, algbw)
    if size is None or algbw is None or seconds is None:
        parsed.ledger.unread(index, line, "its payload is not stated, or it has no bandwidth")
        return
    if not parsed.run.samples:
        _append(parsed, index, size, (), (), Bandwidths(f"line {index}", algbw, number(trial["busbw"])))
    parsed.run.samples.append(seconds)
    parsed.ledger.read(index, line, "trial")


def _end_profile(parsed: _Text) -> None:
    """Give the samples of a payload to its case."""
    if parsed.run.samples:
        note = "imported: each sample is one trial, a mean over the ranks"
        parsed.cases[-1] = replace(parsed.cases[-1], seconds=tuple(parsed.run.samples), notes=(note,))
        parsed.run.samples = []


def _add_rate(parsed: _Text, index: int, line: str, rate: re.Match[str]) -> None:
    """Take up one of the two bandwidths of a payload; the second one completes the case."""
    value = number(rate["value"])
    if value is None or parsed.run.payload is None:
        parsed.ledger.unread(index, line, "has no bandwidth, or its payload is not stated")
        return
    parsed.ledger.read(index, line, rate["name"])
    if rate["name"] == "algbw":
        parsed.run.algbw = value
    else:
        parsed.run.busbw = value
    if parsed.run.algbw is not None and parsed.run.busbw is not None:
        _add(parsed, index, line, parsed.run.payload, parsed.run.busbw, parsed.run.algbw)
        parsed.run.algbw = parsed.run.busbw = None


def _held_against_bandwidths(parsed: _Text) -> tuple[Sequence[ImportedCase], list[Contradiction]]:
    """The cases, without a bus factor if their two bandwidths have another ratio.

    Raises BenchError if it was the user who said the number of ranks.
    """
    result, contradictions = list(parsed.cases), list[Contradiction]()
    for num_ranks in dict.fromkeys(case.num_ranks for case in parsed.cases):
        rows = [at for at, case in enumerate(parsed.cases) if case.num_ranks == num_ranks]
        found = factor_contradiction(OP, num_ranks, [parsed.bandwidths[at] for at in rows]) if num_ranks > 1 else None
        if found is None:
            continue
        contradictions.append(found)
        for at in rows:
            size = result[at].params["num_bytes"]
            assert isinstance(size, int)
            result[at] = replace(result[at], work=collective_work(OP, size, 1))
    if contradictions and parsed.hints.num_ranks is not None and parsed.run.num_ranks is None:
        raise BenchError(f"--ranks {parsed.hints.num_ranks}: {contradictions[0].note()}")
    return result, contradictions
