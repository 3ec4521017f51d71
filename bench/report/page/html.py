"""A report as one self-contained HTML page: no network, opens from a disk, light and dark, on a phone and on paper.

All text comes from result files that anybody may have written: Jinja2 escapes it, and a content security policy lets
no script run but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from bench import __version__
from bench.core.cell_text import clean
from bench.report.plots.style import DARK, LIGHT, as_svg

if TYPE_CHECKING:
    from markupsafe import Markup

    from bench.core.table import Column, DisplayTable
    from bench.report.page.section import Content

LONG_TABLE = 30
"""Rows above which a table scrolls by itself."""


def page(content: Content, kind: str) -> str:
    """The whole page; `kind` says what of, such as `report of 2 runs`."""
    from jinja2 import Environment
    from markupsafe import Markup

    templates = Environment(autoescape=True, trim_blocks=False, keep_trailing_newline=True)
    templates.filters["clean"] = clean
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.from_string(_part("page.html.jinja")).render(
        content=content,
        kind=kind,
        version=__version__,
        # Our own files, and drawings whose texts matplotlib has escaped.
        style=Markup(_style()),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        drawn={plot.name: Markup(as_svg(plot.figure, plot.name)) for plot in content.plots()},
        as_table=table_html,
    )


def _part(name: str) -> str:
    return resources.files("bench.report.page").joinpath(name).read_text("utf-8")


def _style() -> str:
    series = {
        "SERIES_LIGHT": "".join(f";--s{n}:{colour}" for n, colour in enumerate(LIGHT)),
        "SERIES_DARK": "".join(f";--s{n}:{colour}" for n, colour in enumerate(DARK)),
    }
    text = _part("page.css")
    for index, colours in series.items():
        text = text.replace(f"\n{index}", colours)
    return text


def table_html(table: DisplayTable) -> Markup:
    """A table with its footnotes. Cells are left open, as HTML allows: ten thousand rows then stay small."""
    from markupsafe import Markup, escape

    parts = [f"<h3>{escape(clean(table.title))}</h3>"] if table.title else []
    if table.rows:
        classes = [_class(column) for column in table.columns]
        heads = "".join(
            f"<th{kind}>{escape(clean(column.head))}" for kind, column in zip(classes, table.columns, strict=True)
        )
        lines = [
            "<tr>"
            + "".join(
                f"<td{kind}>{escape(clean(column.show(row)))}"
                for kind, column in zip(classes, table.columns, strict=True)
            )
            for row in table.rows
        ]
        long = " long" if len(table.rows) > LONG_TABLE else ""
        parts.append(
            f'<div class="scroll{long}" tabindex="0"><table><thead><tr>{heads}</thead><tbody>'
            + "\n".join(lines)
            + "</tbody></table></div>"
        )
    parts += [f'<p class="note">{escape(clean(note))}</p>' for note in table.footnotes]
    return Markup("\n".join(parts))


def _class(column: Column) -> str:
    if column.align == "right":
        return " class=n"
    return " class=w" if column.head in ("case", "meaning", "reason") else ""
