"""Reads what the collective benchmark of PARAM (train/comms/pt/comms.py) prints.

A row holds percentiles over the ranks of each rank's mean time. The time of a case is that of its last rank,
so `Max` is taken, and `Latency(us):p50`, on which PARAM's bandwidths rest, is kept too. Its sizes are
those of the full buffer, as bench counts them. A call that runs during computation (mode comms-compute) or
with a second collective (--pair) is another test than one that runs alone.

With blocking calls (--z 1, the default) the ranks meet in a
barrier before each call, outside the timed part: `aligned`; else the calls are `streamed`. Source: comms.py
(printPreamble, reportBenchTimeColl, runColl), pytorch_dist_backend.py (get_mem_size).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from bench.errors import BenchError
from bench.importers.reading import (
    COLLECTIVE,
    ImportedCase,
    ImportedText,
    ImportHints,
    collective_work,
    mean_note,
    number,
    whole,
)
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Bandwidths, Contradiction, factor_contradiction
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
_WIDTHS = {
    "bool": 1, "byte": 1, "int8": 1, "uint8": 1, "bfloat16": 2, "float16": 2, "int16": 2, "float32": 4, "int32": 4,
    "float64": 8, "int64": 8,
}  # fmt: skip
"""Type -> bytes of an element."""
_DEVICE_TYPES = {"nccl": "cuda", "gloo": "cpu"}


@dataclass
class _Setup:
    num_ranks: int | None = None
    world_size: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    backends: list[str | None] = field(default_factory=list)
    """The backend of each case."""


@dataclass(frozen=True)
class _Stated:
    """Bandwidths that a row states, and the number of its case."""

    case: int
    bandwidths: Bandwidths


def looks_like(text: str) -> bool:
    return "COMMS-RES" in text


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a text; rows of quantised and point-to-point tables are named as unread.

    Raises BenchError if the number of ranks, or the operation, is neither in the text nor in `hints`.
    """
    setup = _Setup()
    cases: list[ImportedCase] = []
    ledger, stated, remarks = Ledger(), list[_Stated](), list[str]()
    for index, original in enumerate(text.splitlines(), 1):
        line = original.strip()
        table, row = _TABLE.search(line), _ROW.search(line)
        if table is not None:
            setup.columns = _columns(table["heads"])
            ledger.read(index, line, "head of a table")
        elif row is not None:
            found = _reading(row["label"] or "", row["cells"].split(), setup, hints)
            if isinstance(found, str):
                ledger.unread(index, line, found)
                continue
            cases.append(found)
            setup.backends.append(setup.options.get("backend"))
            ledger.read(index, line, "row")
            if (remark := _count_remark(row["cells"].split(), setup.columns, found)) is not None:
                remarks.append(f"line {index}: {remark}")
            stated.append(_Stated(len(cases) - 1, _bandwidths(index, row["cells"].split(), setup.columns)))
        elif _configure(setup, line):
            ledger.read(index, line, "set-up")
        elif re.fullmatch(r"#?\s*PARAM\b.*", line):
            ledger.read(index, line, "heading")
        else:
            ledger.other(index, original)
    cases, contradictions = _held_against_bandwidths(cases, stated)
    if contradictions and hints.num_ranks is not None and setup.num_ranks is None and setup.world_size is None:
        raise BenchError(f"--ranks {hints.num_ranks}: {contradictions[0].note()}")
    backends = {option for option in setup.backends if option}
    if len(backends) > 1:
        cases = [
            replace(case, params=case.params | {"backend": backend or "unknown"})
            for case, backend in zip(cases, setup.backends, strict=True)
        ]
    backend = backends.pop() if len(backends) == 1 else None
    num_ranks = cases[0].num_ranks if cases else 0
    rank = RankFacts(device_type=_DEVICE_TYPES.get(backend or ""))
    return ImportedText(
        tool=TOOL,
        version=None,
        format="text",
        readings=tuple(cases),
        ledger=ledger,
        contradictions=tuple(contradictions),
        remarks=tuple(remarks),
        ranks=(rank,) * num_ranks,
        settings=setup.options,
        backend=backend,
    )


def _columns(heads: str) -> list[str]:
    """`size`, then the heads of the numbers as they are; `size (B)` and `total-size (B)` are one head each."""
    return re.sub(r"(total-)?size \(B\)", "size", heads).split()


def _configure(setup: _Setup, line: str) -> bool:
    """Take up a line of the set-up. False for any other. Raises BenchError for two numbers of ranks of one group."""
    ranks, world = _RANKS.search(line), _WORLD.search(line)
    if ranks:
        setup.num_ranks = whole(ranks[1])
    if world:
        setup.world_size = whole(world[1])
    if setup.world_size is not None and (setup.num_ranks or 0) > setup.world_size:
        raise BenchError(
            f"the text says groupSize {setup.num_ranks}, more than its world_size {setup.world_size}; "
            "import the output of one run"
        )
    if "args.z" in line:
        setup.options |= {name.removeprefix("args."): value for name, value in _OPTION.findall(line)}
    return bool(ranks or world or "args.z" in line)


def _bandwidths(index: int, words: Sequence[str], columns: Sequence[str]) -> Bandwidths:
    cells = dict(zip(columns, words, strict=False))
    return Bandwidths(f"line {index}", number(cells.get("AlgBW(GB/s)")), number(cells.get("BusBW(GB/s)")))


def _held_against_bandwidths(
    cases: Sequence[ImportedCase], stated: Sequence[_Stated]
) -> tuple[list[ImportedCase], list[Contradiction]]:
    """The cases, without a bus factor if the rows of their operation have another one, and what contradicts."""
    groups: dict[tuple[str, int], list[_Stated]] = {}
    for row in stated:
        case = cases[row.case]
        groups.setdefault((str(case.params["op"]), case.num_ranks), []).append(row)
    result, contradictions = list(cases), list[Contradiction]()
    for (op, num_ranks), rows in groups.items():
        found = factor_contradiction(op, num_ranks, [row.bandwidths for row in rows]) if num_ranks > 1 else None
        if found is not None:
            contradictions.append(found)
            for row in rows:
                num_bytes = result[row.case].params["num_bytes"]
                assert isinstance(num_bytes, int)
                result[row.case] = replace(result[row.case], work=collective_work(op, num_bytes, 1))
    return result, contradictions


def _reading(label: str, words: Sequence[str], setup: _Setup, hints: ImportHints) -> ImportedCase | str:
    """The case of a row, or why it cannot be read."""
    numbers = [number(word) for word in words]
    columns = setup.columns
    if len(numbers) == len(columns) - 1:  # commsComputeBench.py heads a column that its rows do not have
        columns = [name for name in columns if name != "nElementsPairPerRank"]
    if not {"Max", "size"} <= set(columns):
        return "there is no head with a size and the slowest rank's time"
    if len(numbers) != len(columns) or None in numbers:
        return f"does not fit the head: {' '.join(columns)}"
    cells = {name: float(value or 0) for name, value in zip(columns, numbers, strict=True)}
    if (reason := _order_reason(cells)) is not None:
        return reason
    match = _LABEL.fullmatch(label)
    name = match["op"] if match else hints.op
    if match is None and label:
        return "its label does not name an operation and a type"
    if cells["Max"] <= 0 or cells["size"] < 1:
        return "has no time, or no size"
    if name is None:
        raise BenchError("the text does not say which collective it measured; add --op, such as --op all_reduce")
    num_ranks = hints.ranks(setup.num_ranks or setup.world_size, TOOL)
    op, extras = OPERATIONS.get(name, (name, {}))
    dtype = match["dtype"] if match else "float32"
    dtype = _ALIASES.get(dtype, dtype)
    params: Params = {"op": op, "num_bytes": int(cells["size"]), "dtype": dtype, **extras}
    params |= {"tag": match["tag"]} if match and match["tag"] else {}
    params |= {"timing": "streamed"} if setup.options.get("z", "1") == "0" else {}
    params |= {"mode": mode} if (mode := setup.options.get("mode", "comms")) != "comms" else {}
    params |= {"paired": True} if "nElementsPairPerRank" in cells else {}
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


def _count_remark(words: Sequence[str], columns: Sequence[str], case: ImportedCase) -> str | None:
    """A remark if size, count and type do not fit: the count is of the whole buffer, of a share, or of all shares."""
    cells = dict(zip(columns, words, strict=False))
    count, size = number(cells.get("nElementsPerRank")), number(cells.get("size"))
    width = _WIDTHS.get(str(case.params["dtype"]))
    if not count or not size or not width or "paired" in case.params:  # the size of a pair is that of both collectives
        return None
    shares = (1, case.num_ranks, 1 / case.num_ranks)
    if any(abs(size - count * width * times) <= width * case.num_ranks for times in shares):
        return None
    return f"size {size:.0f} is not count {count:.0f} x {width} bytes, nor that of a share; the size is taken"


def _order_reason(cells: Mapping[str, float]) -> str | None:
    """Why percentiles over the ranks cannot be right: they have to rise."""
    names = [name for name in ("Min", "Latency(us):p50", "p75", "p95", "Max") if name in cells]
    falling = next((pair for pair in pairwise(names) if cells[pair[0]] > cells[pair[1]] * 1.001), None)
    return None if falling is None else f"{falling[0]} is above {falling[1]}"
