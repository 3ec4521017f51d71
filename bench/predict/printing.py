"""Predictions in a format: findings, and all tables if they are asked for."""

from __future__ import annotations

from bench.analysis.findings import markdown, screen
from bench.core.table import csv_text, json_text, render
from bench.predict.findings import make_findings
from bench.predict.model.prediction import NOT_MODELLED
from bench.predict.predict import Predictions
from bench.predict.tables import LABEL, all_tables, as_json


def show(
    predictions: Predictions,
    form: str,
    width: int,
    colour: bool,
    with_tables: bool = False,
    is_wide: bool = False,
) -> str:
    """Text that ends in a newline; `is_wide`: tables with all their columns, whatever the width."""
    tables = [table for job in predictions.jobs for table in all_tables(job)]
    if form == "csv":
        return csv_text([row for table in tables for row in table.rows])
    findings = make_findings(predictions)
    if form == "json":
        return json_text(
            {
                "status": LABEL,
                "rows": [as_json(job) for job in predictions.jobs],
                "findings": findings.to_json(),
                "failed": [{"devices": number, "reason": text} for number, text in predictions.failed.items()],
                "not_modelled": list(NOT_MODELLED),
            }
        )
    first = markdown.show(findings) if form == "markdown" else screen.show(findings, width, colour)
    if not with_tables:
        return first
    return f"{first}\n{render(tables, form, colour, None if is_wide else width)}"
