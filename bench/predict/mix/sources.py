"""Kinds of accelerators of a mix, from `FILE=COUNT`, `NAME=FILE=COUNT` and names of the catalogue with a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.catalog.accelerators import Accelerator, find
from bench.core.jsonl import exists
from bench.core.values import digits
from bench.errors import BenchError
from bench.predict.mix.plans import DeviceKind, Speed, speeds_of
from bench.records.environments import emulation_label
from bench.records.file import load_many
from bench.records.last_result import SUFFIXES, is_last
from bench.records.rows import case_rows

CATALOGUE = "catalogue peak, bfloat16, TFLOP/s"
"""Workload of kinds that are known by the catalogue alone."""
USAGE = "FILE=COUNT, NAME=FILE=COUNT, or NAME=COUNT with a name of the catalogue; a count is 1 or more"


@dataclass(frozen=True)
class MixPart:
    """One argument of `bench mix`."""

    text: str
    name: str | None
    """Name that the user gave; None: the file's, the folder's or the catalogue's."""
    source: str
    count: int
    accelerator: Accelerator | None
    """Row of the catalogue; None if the source is a result."""


def read_kinds(texts: Sequence[str], prices: Sequence[str]) -> list[DeviceKind]:
    """The kinds: all measured, or all by the catalogue.

    Raises BenchError for fewer than two, two of one name, files without tokens, and files together with catalogue
    names.
    """
    parts = [_part(text) for text in texts]
    names = _names(parts)
    if len(parts) < 2:
        raise BenchError(f"{' '.join(texts)}: a mix takes two or more different kinds, such as a.jsonl=16 b.jsonl=48")
    if len({part.accelerator is None for part in parts}) > 1:
        raise BenchError(
            f"{' '.join(texts)}: a result has speeds of training, a name of the catalogue has peaks of a data sheet, "
            "and the two cannot be mixed; give results of all kinds, or names of all"
        )
    by_name = _prices(prices, names)
    return [
        replace(_kind(part), name=name, usd_per_hour=by_name.get(name)) for part, name in zip(parts, names, strict=True)
    ]


def _part(text: str) -> MixPart:
    rest, _, count = text.rpartition("=")
    number = digits(count)
    if not rest or not number:
        raise BenchError(f"{text}: {USAGE}")
    name, equals, source = rest.partition("=")
    if not equals or _is_result(rest):  # a path may have an equals sign of its own
        return MixPart(text, None, rest, number, _accelerator(rest))
    if not name or not source:
        raise BenchError(f"{text}: {USAGE}")
    return MixPart(text, name, source, number, _accelerator(source))


def _is_result(source: str) -> bool:
    return exists(Path(source)) or is_last(Path(source)) or bool(set("*?[") & set(source))


def _accelerator(source: str) -> Accelerator | None:
    """None for a result. Raises BenchError if the source is neither that nor in the catalogue with its peak."""
    if _is_result(source):
        return None
    row = find(source)
    if row is None:
        raise BenchError(
            f"{source}: no such file, and no accelerator of the catalogue (bench/catalog/data/accelerators.csv)"
        )
    if row.bf16_dense_tflop_per_s is None:
        raise BenchError(f"{source}: the catalogue has no bfloat16 peak of it; measure it, and give the result")
    return row


def _names(parts: Sequence[MixPart]) -> list[str]:
    """Name of each kind: as given, else the catalogue's or the file's, and the folder's if files are alike.

    Raises BenchError for kinds that are still called alike.
    """
    short = [part.name or _own_name(part) for part in parts]
    names = [
        name if part.name or short.count(name) == 1 else _folder_name(part)
        for part, name in zip(parts, short, strict=True)
    ]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        alike = " ".join(part.text for part, name in zip(parts, names, strict=True) if name == twice)
        raise BenchError(f"{alike}: two kinds are called {twice!r}; name them: a={parts[0].text} b={parts[-1].text}")
    return names


def _own_name(part: MixPart) -> str:
    if part.accelerator is not None:
        return part.accelerator.name
    name = Path(part.source).name
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name) or part.source


def _folder_name(part: MixPart) -> str:
    return Path(part.source).resolve().parent.name if part.accelerator is None else _own_name(part)


def _kind(part: MixPart) -> DeviceKind:
    if part.accelerator is not None:
        speeds = {CATALOGUE: {"peak": Speed(part.accelerator.bf16_dense_tflop_per_s or 0.0)}}
        memory_gb = part.accelerator.memory_gb
        return DeviceKind(part.source, part.count, speeds, memory_gb, accelerator=part.accelerator)
    results = load_many([part.source])
    speeds_measured, num_ranks = speeds_of(case_rows(results))
    if not speeds_measured:
        raise BenchError(f"{part.source}: no case that is ok counts tokens; measure training (bench list) on each kind")
    ranks = [rank for result in results for rank in result.environment.ranks]
    memory = [rank.memory_bytes for rank in ranks if rank.memory_bytes]
    return DeviceKind(
        part.source,
        part.count,
        speeds_measured,
        min(memory) / 1e9 if memory else None,
        num_ranks,
        is_emulated=bool(emulation_label(ranks)),
    )


def _prices(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    prices = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        matching = [full_name for full_name in names if full_name == name or full_name.startswith(name)] if name else []
        matching = [name] if name in names else matching
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if len(matching) != 1 or not 0 < value < 1e6:
            raise BenchError(f"--price {text}: NAME=USD_PER_HOUR of one accelerator; names: {', '.join(names)}")
        prices[matching[0]] = value
    return prices
