"""A report as Markdown, with its plots as PNG files in a folder next to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.analysis.findings import markdown as findings_markdown
from bench.analysis.findings.kinds import Answer
from bench.core.cell_text import escape_markdown, escape_markdown_label
from bench.core.table import render

if TYPE_CHECKING:
    from bench.analysis.findings.kinds import Findings
    from bench.report.page.section import Content, Section


def markdown(content: Content, folder: str) -> str:
    """The text; `folder` is where its plots lie, relative to it."""
    lines = [f"# {escape_markdown(content.title)}", ""]
    if content.emulated:
        lines += [f"**Emulated:** {escape_markdown(', '.join(content.emulated))} was slowed on purpose.", ""]
    if content.lead is not None:
        lines += [findings_markdown.show(_beside_title(content.title, content.lead.findings))]
    for section in content.sections:
        lines += _section(section, folder, 2)
    return "\n".join(lines).rstrip() + "\n"


def _beside_title(title: str, findings: Findings) -> Findings:
    """The findings without an answer that the title has word for word."""
    items = tuple(item for item in findings.items if not (isinstance(item, Answer) and item.text in title))
    return replace(findings, items=items)


def _section(section: Section, folder: str, level: int) -> list[str]:
    lines = [f"{'#' * level} {escape_markdown(section.title)}", ""]
    lines += [line for sentence in section.sentences for line in (escape_markdown(sentence), "")]
    for plot in section.plots:
        image = f"![{escape_markdown_label(plot.title)}](<{folder}/{plot.name}.png>)"
        lines += [
            f"{'#' * (level + 1)} {escape_markdown(plot.title)}",
            "",
            image,
            "",
            escape_markdown(plot.caption),
            "",
        ]
    lines += [render(section.tables, "markdown")] if section.tables else []
    return lines + [line for part in section.parts for line in _section(part, folder, level + 1)]
