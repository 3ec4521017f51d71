"""A mixed cluster in a format: findings, and all tables if they are asked for."""

from __future__ import annotations

from bench.analysis.findings import markdown, screen
from bench.core.table import csv_text, json_text, render
from bench.predict.mix.cluster import MixedCluster, kind_rows, training_rows, use_rows
from bench.predict.mix.findings import make_findings
from bench.predict.mix.tables import tables


def show(
    cluster: MixedCluster, form: str, width: int, colour: bool, with_tables: bool = False, is_wide: bool = False
) -> str:
    """Text that ends in a newline; `is_wide`: tables with all their columns, whatever the width."""
    if form == "csv":
        return csv_text(training_rows(cluster))
    findings = make_findings(cluster)
    if form == "json":
        return json_text(
            {
                "rows": training_rows(cluster),
                "findings": findings.to_json(),
                "kinds": kind_rows(cluster),
                "uses": use_rows(cluster),
            }
        )
    first = markdown.show(findings) if form == "markdown" else screen.show(findings, width, colour)
    if not with_tables:
        return first
    return f"{first}\n{render(tables(cluster), form, colour, None if is_wide else width)}"
