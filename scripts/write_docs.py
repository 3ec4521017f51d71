"""Write the pages that follow from the code: the metrics, and the format of a result file with its JSON Schema.

python scripts/write_docs.py            # writes metrics.md, result_file.md and result_file.schema.json in bench/docs
python scripts/write_docs.py --check    # exit 1 if they are not what the code says
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure.planning.suite_loader import builtin_names, load
from bench.records import file, metrics
from bench.records.lines import decoding, header, kinds, parts
from bench.suite import Span

DOCS = Path(__file__).resolve().parent.parent / "bench" / "docs"
HEAD = """# The result file

Written by `scripts/write_docs.py` from `bench/records/lines`; do not edit it.

{text}

`Text` is a string, `Name` one of letters, digits and `_ . + : -`; `Count` a whole number from 0, `Real` a number of at
most 1e100; `Param` a truth value, a number or a text, `Cell` the same or null; `Fact` a cell, or a list or table of
them; `Pair` two texts: a unit and a direction; `SuiteMetric` the same, and a sentence on the metric; `Numbers` an array
of numbers, or of rows of them of equal length. A field of the tables below that is marked `optional` may be left out.
`null` means unknown. Numbers are finite.
[result_file.schema.json](result_file.schema.json) is the same as a JSON Schema of one line.
"""

METRICS_HEAD = """# The metrics

Written by `scripts/write_docs.py` from the table in `bench/records/metrics.py` and from the METRICS of the suites; do
not edit it.

A metric has the same name in CSV, JSON, frames and `bench compare --metric`. Where tables show it, they do so under its
head. GB are 10⁹ bytes, MiB 2²⁰; a share is of 1. A value that is not known is missing: null in JSON, `-` in tables,
never 0.

- **Intervals.** One launch: by order statistics of its samples, within the launch. Several: t on the logarithms of the
  launch medians, whose variance is taken to be no less than the suite's cases suggest (8 or more; Smyth's prior, as in
  `compare`), with 0.4 of it added for what runs differ by (measured): three launches that happen to agree make no
  case sure. The column `interval` says which.
- **Bandwidths.** The payload of all-gather, reduce-scatter, gather and scatter is the full buffer. The bus factor is
  2(n-1)/n of all-reduce; (n-1)/n of all-gather, reduce-scatter, all-to-all, gather and scatter; 1 of broadcast and
  reduce (nccl-tests, doc/PERFORMANCE.md).
- **FLOPs.** Formulas: `bench/parallelism/flops.py`; attention counts in full (PaLM, appendix B), not halved for
  causality. Peaks, with sources: `bench/catalog/data/accelerators.csv`; without a peak (every CPU)
  there is no MFU.
- **Ceilings.** A node that is slow throughout looks fine against its own ceiling: read `mfu` as well.
"""
METRICS_COLUMNS = "| metric | unit | better | head | over ranks | meaning |\n| --- | --- | --- | --- | --- | --- |"
SUITE_COLUMNS = "| metric | unit | better | meaning |\n| --- | --- | --- | --- |"


def pages() -> dict[str, str]:
    """File name -> text."""
    schema = msgspec.json.schema(kinds.Line, schema_hook=_numbers_schema)
    schema["$comment"] = "Schema of one line of a result file of bench. Written by scripts/write_docs.py."
    return {
        "metrics.md": "\n".join(_metrics_page()).rstrip() + "\n",
        "result_file.md": "\n".join(_page()).rstrip() + "\n",
        "result_file.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
    }


def _metrics_page() -> Iterator[str]:
    yield f"{METRICS_HEAD}\n## Of every suite\n\n{METRICS_COLUMNS}"
    for row in metrics.METRICS.values():
        head = row.head if row.weight is not None else ""
        yield _row(f"`{row.name}`", row.unit, row.better, head, row.over_ranks, row.meaning)
    for name in builtin_names():
        suite = load(name)
        own = {key: row for key, row in suite.metrics.items() if key not in metrics.METRICS}
        if own:
            yield f"\n## `{name}`\n\n{suite.summary}\n\n{SUITE_COLUMNS}"
            yield from (_row(f"`{key}`", *row) for key, row in own.items())


def _row(name: str, *cells: str) -> str:
    return "| " + " | ".join([name, *(cell.replace("|", "\\|") for cell in cells)]) + " |"


def _numbers_schema(kind: type) -> dict[str, Any]:
    """Schema of an array of samples: numbers, or rows of numbers."""
    assert kind is parts.Numbers
    row = {"type": "array", "items": {"type": "number"}}
    return {"anyOf": [row, {"type": "array", "items": row}]}


def _page() -> Iterator[str]:
    yield HEAD.format(text=inspect.getdoc(file))
    yield "## Lines\n"
    for kind, struct in decoding.KINDS.items():
        yield from _section(f"`{kind}`", struct)
    yield "## Parts of lines\n"
    for module in (header, parts):
        structs = [
            part for part in vars(module).values() if isinstance(part, type) and issubclass(part, msgspec.Struct)
        ]
        for struct in structs:
            if struct.__module__ == module.__name__ and struct is not parts.Record:
                yield from _section(struct.__name__, struct)
    yield from _section(Span.__name__, Span)


def _section(title: str, struct: type[msgspec.Struct]) -> Iterator[str]:
    yield f"### {title}\n\n{inspect.cleandoc(struct.__doc__ or '')}\n"
    if struct.__struct_config__.array_like:
        yield "An array of these values, in this order; those at the end that are optional may be left out.\n"
    yield "| field | holds | meaning |\n| --- | --- | --- |"
    meanings = _meanings(struct)
    fields = msgspec.structs.fields(struct)
    # An array has a place for every field before the last that has to be there.
    num_fixed = max(n for n, f in enumerate(fields, 1) if f.required) if struct.__struct_config__.array_like else 0
    for number, field in enumerate(fields):
        mark = "" if field.required or number < num_fixed else " (optional)"
        yield f"| `{field.name}`{mark} | {_cell(meanings[field.name][0])} | {meanings[field.name][1]} |"
    yield ""


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
    text = text.replace("None", "null").replace("|", "\\|")
    return f"`{text}`".replace("\\|", "|").replace("|", "\\|")


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
