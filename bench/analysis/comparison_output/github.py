"""Output of a comparison for a build on GitHub: annotations on stdout, and the step's summary.

Formats: "Workflow commands for GitHub Actions" and "Adding a job summary" in GitHub's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.compare.change_text import told
from bench.analysis.compare.work_changes import change_size
from bench.core import exit_codes
from bench.core.cell_text import escape_workflow, escape_workflow_property
from bench.core.jsonl import cannot_write

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.gate import Ruling
    from bench.records.rows import Row

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file that the step's summary is appended to."""
MAX_ANNOTATIONS = 10
"""Annotations of each kind that GitHub shows in a step."""


def workflow_commands(comparison: Comparison, ruling: Ruling | None) -> str:
    """One line per annotation, the largest changes first, and a notice that counts what is not among them.

    An error for each case that fails the gate, a warning for the others that are slower.
    """
    failing = [] if ruling is None else _by_size(ruling.failing)
    slower = _by_size(row for row in comparison.cases if row["verdict"] == "slower" and row not in failing)
    lines = [_line("error", row, comparison) for row in failing[:MAX_ANNOTATIONS]]
    lines += [_line("warning", row, comparison) for row in slower[:MAX_ANNOTATIONS]]
    if ruling is not None and ruling.exit_code == exit_codes.USAGE:  # a red step without an error says nothing
        lines.append(f"::error title=bench::{escape_workflow(ruling.line)}")
    counts = ", ".join(f"{number} {name}" for name, number in comparison.counts().items()) or "no case"
    left_out = max(0, len(failing) - MAX_ANNOTATIONS) + max(0, len(slower) - MAX_ANNOTATIONS)
    more = f"; {left_out} more slower cases have no annotation" if left_out else ""
    lines.append(f"::notice title=bench::{escape_workflow(counts + more)}")
    return "\n".join(lines) + "\n"


def _by_size(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -change_size(row["change"]))


def _line(kind: str, row: Row, comparison: Comparison) -> str:
    text = f"{told(row)} on {row['name']}"
    title = escape_workflow_property(comparison.name_of(row["case"]))
    return f"::{kind} title={title}::{escape_workflow(text)}"


def append_summary(path: Path, markdown: str) -> None:
    """Append to the step's summary. Raises BenchError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(markdown)
    except OSError as error:
        raise cannot_write(path, error) from error
