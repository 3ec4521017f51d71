"""An answer as a page: the same tables and plots in one self-contained HTML file, drawn apart from any measurement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.jsonl import cannot_write
from bench.errors import BenchError
from bench.predict import plots, tables
from bench.predict.tables import LABEL
from bench.report.page.section import Content, Section
from bench.report.plots.source import Plot

if TYPE_CHECKING:
    from bench.predict.answer import Answer

CAPTIONS = {
    "scaling": "Tokens a second and accelerator against the fewest. Weak: the batch grows with them; strong: it stays.",
    "parts": "Where the time of a step goes as accelerators grow in number and the batch stays.",
    "cost": "Each mark is a way to pay. Pareto: no other is both cheaper and sooner.",
    "break_even": "What an hour in use costs, owned, over how much of the time it is used; the level line is rent.",
    "goodput": "Share of the time that makes progress, over the interval between checkpoints.",
}


def content(answer: Answer) -> Content:
    """Two sections: what is predicted, and its drawings. What all rests on is the last table."""
    said = ("Nothing here was measured: every number is predicted, from what the last table names.",)
    drawn = tuple(_drawn(answer))
    sections = [Section("prediction", f"The prediction ({LABEL})", said, tuple(tables.all_tables(answer)))]
    if drawn:
        sections.append(Section("plots", f"Plots ({LABEL})", (), (), drawn))
    fleet = " + ".join(f"{member.devices:,} x {member.device.name}" for member in answer.request.members)
    return Content(f"{answer.request.job.shape.name} on {fleet}, {LABEL}", tuple(sections))


def _drawn(answer: Answer) -> Iterator[Plot]:
    from bench.report.plots.style import drawing

    with drawing():
        for name, (draw, has) in plots.PLOTS.items():
            if has(answer):
                figure = draw(answer)
                title = figure.axes[0].get_title()
                figure.axes[0].set_title("")
                yield Plot(f"predicted-{name}", "plots", title, f"{CAPTIONS[name]} {LABEL.capitalize()}.", figure)


def save(answer: Answer, path: Path) -> None:
    """Write the page. Raises BenchError for another ending than .html, and for what is there or cannot be written."""
    from bench.report.page.html import page

    if path.suffix != ".html":
        raise BenchError(f"-o {path}: the name has to end in .html; --format csv or json prints the rows")
    if path.exists():
        raise BenchError(f"{str(path)!r} exists; saving never overwrites: give another name")
    text = page(content(answer), LABEL)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error
