"""Output of a comparison for a build on GitHub: annotations on stdout, and the step's summary.

Formats: "Workflow commands for GitHub Actions" and "Adding a job summary" in GitHub's documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.compare.comparison_tables import show_change, show_interval
from bench.analysis.compare.gate import Ruling
from bench.core.cell_text import clean
from bench.core.jsonl import cannot_write

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.records.rows import Row

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file that the step's summary is appended to."""
MAX_ANNOTATIONS = 10
"""Annotations of each kind that GitHub shows in a step."""


def workflow_commands(comparison: Comparison, ruling: Ruling | None) -> str:
    """One line per annotation: an error for each case that fails the gate, a warning for the others that are slower."""
    failing = [] if ruling is None else list(ruling.failing)
    slower = [row for row in comparison.cases if row["verdict"] == "slower" and row not in failing]
    lines = [_line("error", row) for row in failing[:MAX_ANNOTATIONS]]
    lines += [_line("warning", row) for row in slower[:MAX_ANNOTATIONS]]
    counts = ", ".join(f"{number} {name}" for name, number in comparison.counts().items()) or "no case"
    lines.append(f"::notice title=bench::{_data(counts)}")
    return "\n".join(lines) + "\n"


def _line(kind: str, row: Row) -> str:
    text = f"{row['metric']} {show_change(row['change'])} ({show_interval(row)}) on {row['name']}"
    title = _data(row["case"]).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{_data(text)}"


def _data(text: str) -> str:
    return clean(text).replace("%", "%25")


def append_summary(path: Path, markdown: str) -> None:
    """Append to the step's summary. Raises BenchError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(markdown)
    except OSError as error:
        raise cannot_write(path, error) from error
