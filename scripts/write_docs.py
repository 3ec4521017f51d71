"""Write the pages that follow from code and data: metrics, the format of a result file, and what is normal.

python scripts/write_docs.py            # writes them into bench/docs, and the JSON Schema of a result file beside them
python scripts/write_docs.py --check    # exit 1 if they are not what code and data say
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import normal_page

from bench.measure.planning.suite_loader import builtin_names, load
from bench.records import file, metrics
from bench.records.lines import decoding, header, kinds, parts
from bench.suite import Span

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "bench" / "docs"
HEAD = """# The result file

Which lines does a result file have, and which fields has a line? Written by `scripts/write_docs.py` from
`bench/records/lines`; do not edit it.

{text}

This page has the fields of the lines. [result_fields.md](result_fields.md) has those of their parts, and
[result_file.schema.json](result_file.schema.json) has all of them as a JSON Schema of one line.

The file is text, so that any tool reads it. In Python, `bench.load` gives the same as pandas frames; in a shell,
`bench show FILE --format json` gives the metrics of each case ([metrics.md](metrics.md)). The last line of
`results/gpu/h100/h100-steps.jsonl`:

```
{end}
```

`Text` is a string. `Name` is a string of letters, digits and `_ . + : -`. `SuiteName` is a string of at most 100 ASCII
letters, digits and `_ . -`, the first neither `.` nor `-`. `Count` is a whole number from 0. `Real` is
a number of at most 1e100. `Param` is a truth value, a number or a text. `Cell` is the same or null. `Fact` is a cell,
or a list or table of them. `Pair` is two texts: a unit and a direction. `SuiteMetric` is the same and a sentence on the
metric. `Numbers` is an array of numbers, or of rows of them of equal length. A field that is marked `optional` may be
left out. `null` means unknown. Numbers are finite.
"""
FIELDS_HEAD = """# The parts of a result file's lines

Which fields have the types that [result_file.md](result_file.md) names? Written by `scripts/write_docs.py` from
`bench/records/lines`; do not edit it.

Fields of one type whose names say all share a row. Types such as `Text` and `Count` are explained in
[result_file.md](result_file.md).

| field | holds | meaning |
| --- | --- | --- |"""
EXAMPLE = ROOT / "results" / "gpu" / "h100" / "h100-steps.jsonl"

METRICS_HEAD = """# The metrics

What does each metric mean, in which unit, and is more of it better? Written by `scripts/write_docs.py` from the table
in `bench/records/metrics.py` and from the METRICS of the suites; do not edit it.

A metric has the same name in CSV, JSON, frames and `bench compare --metric`. Tables show it under its head. GB are 10⁹
bytes, MiB 2²⁰; a share is of 1. A value that is not known is missing: null in JSON, `-` in tables, never 0.

<!-- output: {command} -->
```
{example}
```

- **Intervals.** The column `interval` says which of two kinds a row has. One launch: an interval within the launch, by
  order statistics of its samples. Several launches: a t interval on the logarithms of the launch medians. Three
  launches can agree by luck. So their variance is taken to be no less than the suite's other cases suggest (from 8
  cases on; Smyth's prior, as in `compare`). 0.4 of it is added for the measured difference between runs.
- **Bandwidths.** The payload of all-gather, reduce-scatter, gather and scatter is the full buffer. The bus factor is
  2(n-1)/n of all-reduce; (n-1)/n of all-gather, reduce-scatter, all-to-all, gather and scatter; 1 of broadcast and
  reduce (nccl-tests, doc/PERFORMANCE.md).
- **FLOPs.** Formulas: `bench/parallelism/flops.py`; attention counts in full (PaLM, appendix B), not halved for
  causality. Peaks, with sources: `bench/catalog/data/accelerators.csv`; without a peak (every CPU)
  there is no MFU.
- **Ceilings.** A node that is slow throughout looks fine against its own ceiling: read `mfu` as well.
"""
EXAMPLE_OF_METRICS = [
    "compare",
    *(f"results/gpu/{kind}/{kind}-steps.jsonl" for kind in ("h100", "h200")),
    "--metric",
    "mfu",
]
METRICS_COLUMNS = "| metric | unit | better | head | over ranks | meaning |\n| --- | --- | --- | --- | --- | --- |"
SUITE_COLUMNS = "| metric | unit | better | meaning |\n| --- | --- | --- | --- |"


def pages() -> dict[str, str]:
    """File name -> text."""
    schema = msgspec.json.schema(kinds.Line, schema_hook=_numbers_schema)
    schema["$comment"] = "Schema of one line of a result file of bench. Written by scripts/write_docs.py."
    for struct in (*decoding.KINDS.values(), *_parts()):
        for name, (_, meaning) in _meanings(struct).items():
            if meaning and struct.__name__ in schema["$defs"] and not struct.__struct_config__.array_like:
                schema["$defs"][struct.__name__]["properties"][name]["description"] = meaning
    return {
        "metrics.md": "\n".join(_metrics_page()).rstrip() + "\n",
        "normal.md": normal_page.page(),
        "result_fields.md": "\n".join(_fields_page()).rstrip() + "\n",
        "result_file.md": "\n".join(_page()).rstrip() + "\n",
        "result_file.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
    }


def _metrics_page() -> Iterator[str]:
    lines = normal_page.output_lines(EXAMPLE_OF_METRICS)
    example = "\n".join(
        ["...", *lines[next(n for n, line in enumerate(lines) if line.startswith("CHANGE")) :][:4], "..."]
    )
    head = METRICS_HEAD.format(command=" ".join(["bench", *EXAMPLE_OF_METRICS]), example=example)
    yield f"{head}\n## Of every suite\n\n{METRICS_COLUMNS}"
    for row in metrics.METRICS.values():
        head = row.head if row.weight is not None else ""
        yield _row(f"`{row.name}`", row.unit, row.better, head, row.over_ranks, row.meaning)
    for name in builtin_names():
        suite = load(name)
        own = {key: row for key, row in suite.metrics.items() if key not in metrics.METRICS}
        if own:
            yield f"\n## `{name}`\n{suite.summary}\n\n{SUITE_COLUMNS}"
            yield from (_row(f"`{key}`", *row) for key, row in own.items())


def _row(name: str, *cells: str) -> str:
    return "| " + " | ".join([name, *(cell.replace("|", "\\|") for cell in cells)]) + " |"


def _numbers_schema(kind: type) -> dict[str, Any]:
    """Schema of an array of samples: numbers, or rows of numbers."""
    assert kind is parts.Numbers
    row = {"type": "array", "items": {"type": "number"}}
    return {"anyOf": [row, {"type": "array", "items": row}]}


def _page() -> Iterator[str]:
    (*_, end) = EXAMPLE.read_text(encoding="utf-8").splitlines()
    yield HEAD.format(text=inspect.getdoc(file), end=end)
    for kind, struct in decoding.KINDS.items():
        yield f"## `{kind}`\n\n{inspect.cleandoc(struct.__doc__ or '')}\n"
        yield "| field | holds | meaning |\n| --- | --- | --- |"
        yield from (_row(", ".join(names), _cell(kind), meaning) for names, kind, meaning in _fields(struct))
        yield ""


def _fields_page() -> Iterator[str]:
    yield FIELDS_HEAD
    for struct in sorted(_parts(), key=lambda part: part.__name__):
        text = " ".join(inspect.cleandoc(struct.__doc__ or "").split())
        if struct.__struct_config__.array_like:
            text += " An array of these values, in this order; those at the end that are optional may be left out."
        yield _row(f"**{struct.__name__}**", "", text)
        yield from (_row(", ".join(names), _cell(kind), meaning) for names, kind, meaning in _fields(struct, True))


def _parts() -> Iterator[type[msgspec.Struct]]:
    """The structures that lines are made of."""
    for module in (header, parts):
        for part in vars(module).values():
            is_part = isinstance(part, type) and issubclass(part, msgspec.Struct) and part is not parts.Record
            if is_part and part.__module__ == module.__name__:
                yield part
    yield Span


def _fields(struct: type[msgspec.Struct], is_short: bool = False) -> list[tuple[list[str], str, str]]:
    """Names, annotation and meaning of each field; `is_short`: fields of one type without a meaning together."""
    meanings, rows = _meanings(struct), list[tuple[list[str], str, str]]()
    fields = msgspec.structs.fields(struct)
    is_array = struct.__struct_config__.array_like
    # An array has a place for every field before the last that has to be there.
    num_fixed = max(n for n, f in enumerate(fields, 1) if f.required) if is_array else 0
    for number, field in enumerate(fields):
        kind, meaning = meanings[field.name]
        name = f"`{field.name}`" + ("" if field.required or number < num_fixed else " (optional)")
        # The order of an array's values matters, so that only neighbours may share a row.
        alike = [row for row in (rows[-1:] if is_array else rows) if row[1:] == (kind, "")]
        if is_short and not meaning and alike and alike[0][0][0].endswith("(optional)") == name.endswith("(optional)"):
            alike[0][0].append(name)
        else:
            rows.append(([name], kind, meaning))
    return rows


def _meanings(struct: type[msgspec.Struct]) -> dict[str, tuple[str, str]]:
    """Field -> its annotation as it stands in the source, and its docstring."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(node, ast.ClassDef)
    found: dict[str, tuple[str, str]] = {}
    for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text: Any = getattr(getattr(after, "value", None), "value", "") if isinstance(after, ast.Expr) else ""
            found[statement.target.id] = (ast.unparse(statement.annotation), text)
    return found


def _cell(annotation: str) -> str:
    """An annotation for readers: limits are left out."""
    text = re.sub(r"Annotated\[(.*?), Meta\(.*?\)\]", r"\1", annotation)
    return f"`{text.replace('None', 'null')}`"


def main() -> int:
    """Write the pages, or hold them against the code."""
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if "--check" in sys.argv[1:]:
            stale += [] if path.exists() and path.read_text(encoding="utf-8") == text else [name]
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: not what the code says; run python scripts/write_docs.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
