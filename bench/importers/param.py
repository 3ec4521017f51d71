"""Reads what the collective benchmark of PARAM (train/comms/pt/comms.py) prints.

A row holds percentiles over the ranks of each rank's mean time. The time of a case is that of its last rank,
so `Max` is taken, and `Latency(us):p50`, on which PARAM's bandwidths rest, is kept too. Its sizes are
those of the full buffer, as bench counts them. With blocking calls (--z 1, the default) the ranks meet in a
barrier before each call, outside the timed part: `aligned`; else the calls are `streamed`. Source: comms.py
(printPreamble, reportBenchTimeColl, runColl), pytorch_dist_backend.py (get_mem_size).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.importers.reading import (
    COLLECTIVE,
    LAUNCHER_PREFIX,
    ImportedCase,
    ImportedText,
    ImportHints,
    Unread,
    collective_work,
    mean_note,
    number,
    whole,
)
from bench.records.lines.header import RankFacts
from bench.suite import Params, SuiteMetric

TOOL = "PARAM"
OPERATIONS: Mapping[str, tuple[str, Params]] = {
    "all_gather_base": ("all_gather", {}),
    "all_gather": ("all_gather", {"tensor_list": True}),
    "reduce_scatter_base": ("reduce_scatter", {}),
    "reduce_scatter": ("reduce_scatter", {"tensor_list": True}),
    "all_to_all_single": ("all_to_all", {}),
}
"""PARAM's name -> bench's, and what tells it from bench's own; its all_to_all calls torch's all_to_all_single too."""

_DTYPES = "bfloat16|float16|float32|float64|int8|int16|int32|int64|uint8|bool|half|float|double|long|int|byte"
_ALIASES = {"half": "float16", "float": "float32", "double": "float64", "long": "int64", "int": "int32"}
_TABLE = re.compile(r"COMMS-RES(?P<quant>-QUANT)?\s+(?P<heads>\S.*\(B\).*)")
_ROW = re.compile(r"COMMS-RES(?P<label>-\S+)?\s+(?P<cells>.*)")
_LABEL = re.compile(rf"-(?P<op>\w+?)-(?P<dtype>{_DTYPES})(?P<tag>\S*)")
_RANKS = re.compile(r"groupSize (\d+)")
_WORLD = re.compile(r"world_size'?: (\d+)")
_OPTION = re.compile(r"(backend|nw-stack|mode|args\.[bezf]): (\S+)")
_DEVICE_TYPES = {"nccl": "cuda", "gloo": "cpu"}


@dataclass
class _Setup:
    num_ranks: int | None = None
    world_size: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()


def looks_like(text: str) -> bool:
    return "COMMS-RES" in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text; rows of quantised and point-to-point tables are named as unread.

    Raises BenchError if the number of ranks, or the operation, is neither in the text nor in `hints`.
    """
    setup = _Setup()
    cases: list[ImportedCase] = []
    unread: list[Unread] = []
    for index, line in enumerate(text.splitlines(), 1):
        line = LAUNCHER_PREFIX.sub("", line.strip(), count=1).strip()
        table, row = _TABLE.search(line), _ROW.search(line)
        if table is not None:
            setup.columns = _columns(table["heads"])
        elif row is not None:
            reading = _reading(row["label"] or "", row["cells"].split(), setup, hints)
            cases += [reading] if reading is not None else []
            unread += [Unread.of(f"line {index}", line)] if reading is None else []
        else:
            _configure(setup, line)
    backend = setup.options.get("backend")
    num_ranks = cases[0].num_ranks if cases else 0
    rank = RankFacts(device_type=_DEVICE_TYPES.get(backend or ""))
    return ImportedText(
        tool=TOOL,
        version=None,
        format="text",
        readings=tuple(cases),
        unread=tuple(unread),
        ranks=(rank,) * num_ranks,
        settings=setup.options,
        backend=backend,
    )


def _columns(heads: str) -> list[str]:
    """`size`, then the heads of the numbers as they are; `size (B)` and `total-size (B)` are one head each."""
    return re.sub(r"(total-)?size \(B\)", "size", heads).split()


def _configure(setup: _Setup, line: str) -> None:
    if match := _RANKS.search(line):
        setup.num_ranks = whole(match[1])
    if match := _WORLD.search(line):
        setup.world_size = whole(match[1])
    if "args.z" in line:
        setup.options |= {name.removeprefix("args."): value for name, value in _OPTION.findall(line)}


def _reading(label: str, words: Sequence[str], setup: _Setup, hints: ImportHints) -> ImportedCase | None:
    """The case of a row; None if it cannot be read."""
    numbers = [number(word) for word in words]
    columns = setup.columns
    if len(numbers) == len(columns) - 1:  # commsComputeBench.py heads a column that its rows do not have
        columns = [name for name in columns if name != "nElementsPairPerRank"]
    if not {"Max", "size"} <= set(columns) or len(numbers) != len(columns) or None in numbers:
        return None
    cells = {name: float(value or 0) for name, value in zip(columns, numbers, strict=True)}
    match = _LABEL.fullmatch(label)
    name = match["op"] if match else hints.op
    if (match is None and label) or cells["Max"] <= 0 or cells["size"] < 1:
        return None
    if name is None:
        raise BenchError("the text does not say which collective it measured; add --op, such as --op all_reduce")
    num_ranks = hints.ranks(setup.num_ranks or setup.world_size, TOOL)
    op, extras = OPERATIONS.get(name, (name, {}))
    dtype = match["dtype"] if match else "float32"
    params: Params = {"op": op, "num_bytes": int(cells["size"]), "dtype": _ALIASES.get(dtype, dtype), **extras}
    params |= {"tag": match["tag"]} if match and match["tag"] else {}
    params |= {"timing": "streamed"} if setup.options.get("z", "1") == "0" else {}
    median = cells.get("Latency(us):p50")
    return ImportedCase(
        suite=COLLECTIVE,
        params=params,
        num_ranks=num_ranks,
        seconds=(cells["Max"] * 1e-6,),
        notes=(mean_note("the slowest rank's mean over its calls"),),
        work=collective_work(op, int(cells["size"]), num_ranks),
        derived={"median_rank_seconds": None if median is None else median * 1e-6},
        metrics={"median_rank_seconds": SuiteMetric("s", "lower", "Median over the ranks of the time of one call.")},
    )
