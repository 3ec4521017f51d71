"""Findings as Markdown: for a pull request's comment, a step's summary on GitHub, a report."""

from __future__ import annotations

from bench.analysis.findings.kinds import (
    MAX_REMARKS,
    Answer,
    Correctness,
    DataState,
    Figure,
    Findings,
    NextStep,
    Unmeasured,
)
from bench.analysis.findings.screen import BLOCKS
from bench.core.cell_text import code_span
from bench.core.cell_text import escape_markdown as escape


def show(findings: Findings) -> str:
    """The findings as Markdown that ends in a newline; figures are lists."""
    parts = [f"**{escape(answer.text)}**" for answer in findings.of_kind(Answer)]
    parts += [escape(findings.head)] if findings.head else []
    parts += [f"{state.quality.capitalize()} data: {escape(state.text)}" for state in findings.of_kind(DataState)]
    figures = findings.of_kind(Figure)
    for group in dict.fromkeys(figure.group for figure in figures):
        members = [figure for figure in figures if figure.group == group]
        parts.append("\n".join([f"{BLOCKS[group].title.capitalize()}:", "", *map(_figure, members)]))
    remarks = findings.remarks()[:MAX_REMARKS]
    if remarks:
        listed = [f"{n}. {escape(remark.text)}. {escape(remark.remedy)}" for n, remark in enumerate(remarks, 1)]
        parts.append("\n".join(["What stands out:", "", *listed]))
    parts += [escape(correct.text) for correct in findings.of_kind(Correctness)]
    parts += [_unmeasured(lacking) for lacking in findings.of_kind(Unmeasured)]
    steps = [f"- {escape(step.purpose)}: {code_span(step.command)}" for step in findings.of_kind(NextStep)]
    parts += ["\n".join(["Next:", "", *steps])] if steps else []
    return "\n\n".join(parts) + "\n"


def _figure(figure: Figure) -> str:
    return f"- {escape(figure.name)}: {escape(figure.text)}" + (f" ({escape(figure.of)})" if figure.of else "")


def _unmeasured(lacking: Unmeasured) -> str:
    remedy = f": {escape(lacking.remedy)}" if lacking.remedy else ""
    return f"Not measured: {lacking.num_cases}, {escape(lacking.text)}{remedy}"
