"""A report as one self-contained HTML page: no network, opens from a disk, light and dark, on a phone and on paper.

All text comes from result files that anyone may have written. It is cleaned and escaped as it is put into the page, ids
are of our own words and numbers, and as a second wall a content security policy lets no script run but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import __version__
from bench.analysis.findings.kinds import MAX_REMARKS, Correctness, DataState, Figure, Remark, Unmeasured
from bench.analysis.findings.screen import BLOCKS
from bench.core.cell_text import clean, escape_html
from bench.core.values import MISSING
from bench.report.page.change_chart import ChangeChart, lay_out, signed
from bench.report.plots.style import DARK, LIGHT, as_svg

if TYPE_CHECKING:
    from markupsafe import Markup

    from bench.analysis.findings.kinds import Findings
    from bench.core.table import Column, DisplayTable
    from bench.report.page.section import Content, Lead, Section
    from bench.report.plots.source import Plot

LONG_TABLE = 30
"""Rows above which a table scrolls by itself."""
MAX_BARS = 3


class StatePart(NamedTuple):
    """A piece of the line on the state of the data."""

    text: str
    is_warning: bool = False


class ShownLead(NamedTuple):
    """Top of a page as its template takes it."""

    state: tuple[StatePart, ...]
    chart: ChangeChart | None
    bars: tuple[Figure, ...]
    blocks: tuple[tuple[str, str, tuple[Figure, ...]], ...]
    """Title of a line, the common reference of its figures if there is one, and the figures."""
    remarks_title: str
    remarks: tuple[Remark, ...]
    plot: Plot | None

    @property
    def says_emulated(self) -> bool:
        """True if a remark says that something is emulated: once is enough."""
        return any("emulated" in remark.text for remark in self.remarks)


def page(content: Content, kind: str) -> str:
    """The whole page; `kind` says what of, such as `report of 2 runs`."""
    from jinja2 import Environment
    from markupsafe import Markup

    templates = Environment(autoescape=True, trim_blocks=False, keep_trailing_newline=True, finalize=_cleaned)
    templates.filters |= {"sentence": _sentence, "signed": signed, "percent": _percent}
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    plots = [plot for plot in content.plots() if content.is_on_page(plot)]
    shown = None if content.lead is None else _shown(content.lead)
    return templates.from_string(_part("lead.html.jinja") + _part("page.html.jinja")).render(
        content=content,
        lead=shown,
        sections=[section for section in content.sections if _has_body(section, content)],
        beside=shown.plot.name if shown and shown.plot else None,
        kind=kind,
        version=__version__,
        # Our own files, and drawings whose texts matplotlib has escaped.
        style=Markup(_style()),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        drawn={plot.name: Markup(as_svg(plot.figure, plot.name)) for plot in plots},
        as_table=table_html,
    )


def _cleaned(value: Any) -> Any:
    """What an expression of the template puts into the page: Jinja2 escapes it after that, unless it is markup."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _has_body(section: Section, content: Content) -> bool:
    plots = [plot for plot in section.plots if content.is_on_page(plot)]
    return bool(section.sentences or section.tables or section.parts or plots)


def _shown(lead: Lead) -> ShownLead:
    findings = lead.findings
    figures = [figure for figure in findings.of_kind(Figure) if not (lead.changes and figure.group == "change")]
    bars = [figure for figure in figures if figure.share is not None][:MAX_BARS]
    rest = [figure for figure in figures if figure not in bars]
    groups = {figure.group: tuple(f for f in rest if f.group == figure.group) for figure in rest}
    return ShownLead(
        state=tuple(_state(findings, brief=bool(lead.changes))),
        chart=lay_out(lead.changes, lead.machines) if lead.changes else None,
        bars=tuple(bars),
        blocks=tuple((_title(group, bool(bars)), _common_of(members), members) for group, members in groups.items()),
        remarks_title="Why" if lead.changes else "What stands out",
        remarks=tuple(findings.remarks()[:MAX_REMARKS]),
        plot=lead.plot,
    )


def _common_of(figures: Sequence[Figure]) -> str:
    first = figures[0].of
    return first if len(figures) > 1 and all(figure.of == first for figure in figures) else ""


def _title(group: str, has_bars: bool) -> str:
    title = BLOCKS[group].title.capitalize()
    title = "Also reached" if group == "reached" and has_bars else title
    return title if title.endswith("?") else f"{title}:"


def _state(findings: Findings, brief: bool) -> Iterator[StatePart]:
    """Pieces of the line on the data; `brief`: of good data no more than how much there is."""
    if findings.head and not brief:
        yield StatePart(findings.head)
    for state in findings.of_kind(DataState):
        is_good = state.quality == "good"
        text = state.text.partition("; ")[0] if brief and is_good else state.text
        yield StatePart(f"{state.quality.capitalize()} data: {text}", not is_good)
    for correct in findings.of_kind(Correctness):
        word = "Wrong" if correct.num_wrong else "Correct"
        yield StatePart(f"{word}: {correct.text}", bool(correct.num_wrong))
    lacking = findings.of_kind(Unmeasured)
    if lacking:
        further = sum(reason.num_cases for reason in lacking[1:])
        more = f", and {further} for other reasons" if further else ""
        yield StatePart(f"Not measured: {lacking[0].num_cases}, {lacking[0].text}{more}")


def _sentence(text: str) -> str:
    """Text that ends in a full stop, unless it is none."""
    text = text.strip()
    return text if not text or text.endswith((".", "?", "!", ":")) else f"{text}."


def _percent(share: float) -> str:
    return f"{100 * max(0.0, min(1.0, share)):.1f}"


def _part(name: str) -> str:
    return resources.files("bench.report.page").joinpath(name).read_text("utf-8")


def _style() -> str:
    series = {
        "SERIES_LIGHT": "".join(f";--s{n}:{colour}" for n, colour in enumerate(LIGHT)),
        "SERIES_DARK": "".join(f";--s{n}:{colour}" for n, colour in enumerate(DARK)),
        "SERIES_CLASSES": "\n".join(f".c{n}{{--c:var(--s{n})}}" for n in range(len(LIGHT))),
    }
    text = _part("page.css")
    for index, colours in series.items():
        text = text.replace(f"\n{index}", colours)
    return text


def table_html(table: DisplayTable) -> Markup:
    """A table with its footnotes. Cells are left open, as HTML allows: ten thousand rows then stay small."""
    from markupsafe import Markup

    parts = [f'<p class="title">{escape_html(table.title)}</p>'] if table.title else []
    if table.rows:
        heads = "".join(f"<th{_class(column)}>{escape_html(column.head) or '&nbsp;'}" for column in table.columns)
        lines = ["<tr>" + "".join(_cell(column, row) for column in table.columns) for row in table.rows]
        long = " long" if len(table.rows) > LONG_TABLE else ""
        parts.append(
            f'<div class="scroll{long}" tabindex="0"><table><thead><tr>{heads}</thead><tbody>'
            + "\n".join(lines)
            + "</tbody></table></div>"
        )
    parts += [f'<p class="note">{escape_html(note)}</p>' for note in table.footnotes]
    return Markup("\n".join(parts))


def _cell(column: Column, row: Any) -> str:
    """A cell; one without a value is marked, so that a card of a row leaves it out."""
    text = column.show(row)
    return f"<td{' class=x' if text == MISSING else _class(column)}>{escape_html(text)}"


def _class(column: Column) -> str:
    if column.align == "right":
        return " class=n"
    return " class=w" if column.head in ("case", "meaning", "reason") else ""
