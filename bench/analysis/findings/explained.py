"""An explanation in each format: findings for people, tables on request, rows and findings for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.explain import explain_run, explain_trace, straggler_trace
from bench.analysis.findings import markdown, of_explanation, of_trace, screen
from bench.analysis.findings.kinds import Findings
from bench.core.table import DisplayTable, csv_text, json_text, render
from bench.errors import BenchError

MAX_LINES = 30
TRACE_SUFFIX = ".parquet"


@dataclass(frozen=True)
class ExplainRequest:
    """What to show of an explanation."""

    output: str
    """Format."""
    waterfalls: tuple[str, ...] = ()
    """Texts in the ids or short names of the cases whose tables to print; an empty text: all of them."""
    everything: bool = False
    """All cases, however many lines."""
    width: int = 100
    colour: bool = False


def text(path: Path, request: ExplainRequest) -> str:
    """The explanation of a result file or a trace, ready to print. Raises BenchError."""
    return _trace_text(path, request) if path.suffix == TRACE_SUFFIX else _run_text(path, request)


def _run_text(path: Path, request: ExplainRequest) -> str:
    explanation = explain_run.explain(path)
    chosen = explanation.chosen(request.waterfalls) if request.waterfalls else list(explanation.waterfalls)
    if request.output == "csv":
        return csv_text(explain_run.rows(chosen))
    if request.output == "json":
        reasons = [{"reason": reason, "cases": list(cases)} for reason, cases in explanation.not_explained.items()]
        return _json(
            {"file": str(explanation.path)},
            explain_run.rows(chosen),
            of_explanation.findings(explanation),
            {"not_explained": reasons},
        )
    if request.waterfalls:
        return _tables(explain_run.tables(explanation, chosen), request)
    if request.output == "markdown":
        return markdown.show(of_explanation.findings(explanation))
    for most in range(len(explanation.waterfalls), -1, -1):
        lines = screen.lines(of_explanation.findings(explanation, most), request.width, request.colour)
        if request.everything or len(lines) <= MAX_LINES:
            break
    return "\n".join(lines) + "\n"


def _trace_text(path: Path, request: ExplainRequest) -> str:
    if request.waterfalls:
        raise BenchError("--waterfall: a trace has none; `--all` prints the tables of its ranks, stages and kinds")
    trace = straggler_trace.load(path)
    facts = explain_trace.explain(trace)
    found = of_trace.findings(path, facts)
    if request.output == "csv":
        return csv_text(explain_trace.rows(facts))
    if request.output == "json":
        return _json({"file": str(path), **facts}, explain_trace.rows(facts), found)
    if request.everything:
        return _tables(explain_trace.tables(path, trace, facts), request)
    if request.output == "markdown":
        return markdown.show(found)
    return screen.show(found, request.width, request.colour)


def _json(
    head: dict[str, Any], rows: Sequence[dict[str, Any]], found: Findings, tail: dict[str, Any] | None = None
) -> str:
    return json_text({**head, "rows": rows, "findings": found.to_json(), **(tail or {})})


def _tables(tables: Sequence[DisplayTable], request: ExplainRequest) -> str:
    return render(tables, request.output, request.colour, request.width)
