"""Predictions as a page: the answer in the title, its picture, then tables and plots, in one self-contained HTML file.

The page says once, above its title, that all of it is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.findings.kinds import DataState, Figure, Findings
from bench.core.jsonl import cannot_write, exists
from bench.core.table import Column, DisplayTable, text_column
from bench.errors import BenchError
from bench.predict import plots, tables
from bench.predict.findings import make_findings
from bench.predict.tables import LABEL
from bench.predict.wording import answer_of, name_fleet
from bench.report.page.section import Content, Section
from bench.report.plots.source import Plot

if TYPE_CHECKING:
    from bench.predict.answer import PredictedJob
    from bench.predict.predict import Predictions

ANSWER_CAPTION = (
    "Time of the whole run, failures included, and what it costs; an owned run bears its share of the purchase."
)
CAPTIONS = {
    "scaling": "Tokens per second and accelerator against the fewest. Weak: the batch grows along; strong: it stays.",
    "parts": "Time of a step by part, as accelerators grow in number and the batch stays.",
    "cost": "Each mark is a way to pay. Pareto: no other is both cheaper and sooner.",
    "break_even": "Cost of an hour in use, owned, over the share of the time that it is used; the level line is rent.",
    "goodput": "Share of the time that makes progress, over the interval between checkpoints.",
}


def content(predictions: Predictions) -> Content:
    """The run with its picture and findings, then plots and tables of each job. Assumptions are the last table."""
    from bench.report.plots.style import drawing

    jobs, findings = predictions.jobs, make_findings(predictions)
    with drawing():
        bars = plots.time_and_money(jobs)
    picture = Plot("predicted-answer", "run", "Time and money", ANSWER_CAPTION, bars)
    sections = [Section("run", "The run", tuple(_sentences(findings)), (_figures(findings),), (picture,))]
    for number, job in enumerate(jobs):
        name = f", {name_fleet(job)}" if len(jobs) > 1 else ""
        key = str(number) if number else ""
        drawn = tuple(_drawn(job, key))
        if drawn:
            sections.append(Section(f"plots{key}", f"Plots{name}", (), (), drawn))
        sections.append(Section(f"tables{key}", f"All figures{name}", (), tuple(tables.all_tables(job)), folded=True))
    return Content(_title(jobs), tuple(sections))


def _title(jobs: tuple[PredictedJob, ...]) -> str:
    model = jobs[0].request.job.shape.name
    if len(jobs) == 1:
        return f"{answer_of(jobs[0])}: {model} on {name_fleet(jobs[0])}"
    return f"{model}: " + "; ".join(f"on {name_fleet(job)} {answer_of(job)}" for job in jobs)


def _sentences(findings: Findings) -> Iterator[str]:
    """Job, state of the figures and remarks; the label is above the title."""
    yield findings.head.partition(": ")[2]
    for state in findings.of_kind(DataState):
        yield f"{state.text[0].upper()}{state.text[1:]}."
    for remark in findings.remarks():
        yield f"{remark.text}. {remark.remedy[0].upper()}{remark.remedy[1:]}."


def _figures(findings: Findings) -> DisplayTable:
    rows = tuple({"name": figure.name, "text": figure.text, "of": figure.of} for figure in findings.of_kind(Figure))
    value = Column("value", lambda row: str(row["text"]), "right")
    return DisplayTable("", (text_column("name", ""), value, text_column("of", "")), rows)


def _drawn(answer: PredictedJob, key: str) -> Iterator[Plot]:
    from bench.report.plots.style import drawing

    with drawing():
        for name, (draw, has) in plots.PLOTS.items():
            if has(answer):
                figure = draw(answer)
                title = figure.axes[0].get_title()
                figure.axes[0].set_title("")
                yield Plot(f"predicted-{name}{key}", f"plots{key}", title, CAPTIONS[name], figure)


def save(predictions: Predictions, path: Path) -> None:
    """Write the page. Raises BenchError for another ending than .html, and for what is there or cannot be written."""
    from bench.report.page.html import page

    if path.suffix != ".html":
        raise BenchError(f"-o {path}: the name has to end in .html; --format csv or json prints the rows")
    if exists(path):
        raise BenchError(f"{str(path)!r} exists; saving never overwrites: give another name")
    text = page(content(predictions), LABEL)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error
