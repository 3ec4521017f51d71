"""The texts of `bench list`: suites, their cases for a declared machine, and a suite to start from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from bench.core.table import DisplayTable, csv_text, json_text, render, text_column
from bench.errors import BenchError
from bench.measure.planning.cases import declared_machine
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_loader import builtin_names, entry_point_names, load, load_all
from bench.suite import format_param

_SCALES = tuple(name for name, preset in PRESETS.items() if not preset.scale)
"""Presets with cases of their own."""


def template() -> str:
    """The source of a complete small suite."""
    return resources.files("bench.catalog.data").joinpath("template_suite.py.txt").read_text(encoding="utf-8")


def suites(world_size: int, device_type: str, form: str, width: int | None = None) -> str:
    """A row a suite: what it measures, and how many cases each preset has. A broken plugin is a row, not an end."""
    rows = [_suite_row(name, world_size, device_type) for name in [*builtin_names(), *entry_point_names()]]
    return _render(f"Suites, with their cases on {world_size} {device_type} rank(s)", rows, form, width)


def _suite_row(name: str, world_size: int, device_type: str) -> dict[str, Any]:
    try:
        suite = load(name)
        counts = {name: len(suite.cases(declared_machine(world_size, device_type, name))) for name in _SCALES}
    except BenchError as error:
        return {"suite": name, **dict.fromkeys(_SCALES), "summary": f"cannot be used: {error}"}
    return {"suite": name, **counts, "summary": suite.summary}


def cases(
    references: Sequence[str], preset: str, world_size: int, device_type: str, form: str, width: int | None = None
) -> str:
    """A row per case: its id, and in other formats than a table all its parameters."""
    machine = declared_machine(world_size, device_type, PRESETS[preset].of_suites)
    rows: list[dict[str, Any]] = []
    for suite in load_all(references):
        for params in suite.cases(machine):
            case = suite.case(params)
            shown = params if form == "json" else ", ".join(f"{k}={format_param(v)}" for k, v in sorted(params.items()))
            # A table is for the eye: the id has what tells the case from others.
            rows.append({"case": case.id} if form == "table" else {"case": case.id, "parameters": shown})
    return _render(f"Cases of preset {preset} on {world_size} {device_type} rank(s)", rows, form, width)


def _render(title: str, rows: Sequence[dict[str, Any]], form: str, width: int | None) -> str:
    if form == "json":
        return json_text(rows)
    if form == "csv":
        return csv_text(rows)
    columns = tuple(map(text_column, rows[0])) if rows else ()
    return render([DisplayTable(title, columns, tuple(rows))], form, width=width)
