"""A comparison for programs: one JSON object, or the cases as CSV; both have all cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.analysis.compare.comparison_tables import sorted_rows
from bench.analysis.findings.of_comparison import comparison_findings
from bench.core.table import csv_text, json_text
from bench.stats import change_test

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison


def show_csv(comparison: Comparison, sort: str = "verdict") -> str:
    return csv_text(sorted_rows(comparison, sort))


def show_json(comparison: Comparison, sort: str = "verdict", gate: str | None = None) -> str:
    """The object of `as_object`, and the gate's line; null if no gate was asked for."""
    return json_text(as_object(comparison, sort) | {"gate": gate})


def as_object(comparison: Comparison, sort: str = "verdict") -> dict[str, Any]:
    """Object with a row per case, metric and new side, the findings, and all that they came from."""
    counts = comparison.counts()
    return {
        "rows": sorted_rows(comparison, sort),
        "findings": comparison_findings(comparison).to_json(),
        "names": [side.name for side in comparison.sides],
        "paired": comparison.paired,
        "threshold": comparison.threshold,
        "shared": comparison.shared,
        "differences": list(comparison.differences),
        "only_base": list(comparison.only_base),
        "only_new": list(comparison.only_new),
        "not_ok": list(comparison.not_ok),
        "wholes": [
            {"name": whole.name, "num_cases": whole.num_cases, **vars(whole.judged)} for whole in comparison.wholes
        ],
        "controls": [{"name": one.name, "control": one.control, **vars(one.judged)} for one in comparison.controls],
        "counts": {name: counts[name] for name in change_test.VERDICTS},
    }
