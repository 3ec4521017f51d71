"""A report as Markdown, with its plots as PNG files in a folder beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.core.table import escape_markdown, render

if TYPE_CHECKING:
    from bench.report.page.section import Content


def markdown(content: Content, folder: str) -> str:
    """The text; `folder` is where its plots lie, relative to it."""
    lines = [f"# {escape_markdown(content.title)}", ""]
    if content.emulated:
        lines += [f"**Emulated:** {escape_markdown(', '.join(content.emulated))} was slowed on purpose.", ""]
    for section in content.sections:
        lines += [f"## {escape_markdown(section.title)}", ""]
        lines += [line for sentence in section.sentences for line in (escape_markdown(sentence), "")]
        for plot in section.plots:
            title = escape_markdown(plot.title).replace("]", r"\]")
            lines += [
                f"### {title}",
                "",
                f"![{title}](<{folder}/{plot.name}.png>)",
                "",
                escape_markdown(plot.caption),
                "",
            ]
        if section.tables:
            lines += [render(section.tables, "markdown")]
    return "\n".join(lines).rstrip() + "\n"
