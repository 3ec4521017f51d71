"""The texts of `bench list`: suites, their cases for a declared machine, and a suite to start from."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from bench.core.cell_text import clean
from bench.core.table import DisplayTable, column, csv_text, json_text, render, text_column
from bench.core.terminal import PIPE_WIDTH
from bench.core.values import show_text
from bench.errors import BenchError
from bench.measure.planning.cases import choose_cases, declared_machine, limit_cases
from bench.measure.planning.presets import PRESETS, default_suites, most_cases
from bench.measure.planning.suite_loader import Suite, builtin_names, entry_point_names, load, load_all
from bench.measure.planning.visit_overhead import guess_overhead, startup_seconds
from bench.records.case_names import ONLY_OPERATION, name_cases
from bench.records.lines.header import PlannedCase
from bench.suite import Params, case_id, format_param

_SCALES = tuple(name for name, preset in PRESETS.items() if not preset.scale)
"""Presets with cases of their own."""
_COMMON_PRESETS = ("smoke", "standard")
"""Presets of which people wait for the end."""
_WIDEST_COUNT = len("14 in 1 min")
_MIN_SUMMARY = 24
MAX_HEAD_WORDS = 3
"""A longer text before a colon is not a suite's name."""
_UNUSABLE = "cannot be used"


def template() -> str:
    """The source of a complete small suite."""
    return resources.files("bench.catalog.data").joinpath("template_suite.py.txt").read_text(encoding="utf-8")


def suites(world_size: int, device_type: str, form: str, width: int = PIPE_WIDTH) -> str:
    """A row per suite: what it measures, and how many of its cases a run takes by default. In CSV and JSON also how
    many there are. A broken plugin is a row, not an end."""
    planned = {name: _default_cases(name, world_size, device_type) for name in PRESETS}
    names = dict.fromkeys([*(case.suite for cases in planned.values() for case in cases), *builtin_names()])
    rows = [_suite_row(name, planned, world_size, device_type) for name in [*names, *entry_point_names()]]
    if form == "json":
        return json_text(rows)
    if form == "csv":
        return csv_text(rows)
    text_width = width - max(len(row["suite"]) for row in rows) - len(_COMMON_PRESETS) * (_WIDEST_COUNT + 3) - 3
    columns = (
        text_column("suite"),
        *(column(preset, preset, show_text, "left") for preset in _COMMON_PRESETS),
        text_column("summary", "measures"),
    )
    shown = [
        {
            "suite": row["suite"],
            "summary": short_summary(row["suite"], row["summary"], max(_MIN_SUMMARY, text_width)),
            **{preset: _count(row, preset) for preset in _COMMON_PRESETS},
        }
        for row in rows
    ]
    title = f"Cases that `bench run` takes by default on {_ranks(world_size, device_type)}, and about how long"
    notes = _suite_notes(planned, device_type)
    if form == "table":
        notes = tuple(line for note in notes for line in textwrap.wrap(note, width, break_on_hyphens=False))
    return render([DisplayTable(title, columns, tuple(shown), notes)], form)


def _default_cases(preset: str, world_size: int, device_type: str) -> list[PlannedCase]:
    """The cases of a run that names no suite, as `planner.new_plan` chooses them, for a declared machine."""
    of_preset = PRESETS[preset]
    machine = declared_machine(world_size, device_type, of_preset.of_suites)
    chosen = choose_cases(load_all(default_suites(of_preset, world_size)), machine, {}, ())
    return limit_cases(chosen, most_cases(preset, world_size))


def case_seconds(case: PlannedCase, preset: str) -> float:
    """First guess of the planner for all visits to a case in all launches of a preset."""
    of_preset = PRESETS[preset]
    visits = of_preset.visits * guess_overhead(case.suite) + of_preset.case_seconds
    return of_preset.launches * visits + case.min_seconds


def _suite_row(
    name: str, planned: Mapping[str, Sequence[PlannedCase]], world_size: int, device_type: str
) -> dict[str, Any]:
    by_default = {preset: [case for case in cases if case.suite == name] for preset, cases in planned.items()}
    taken = {f"{preset}_by_default": len(cases) for preset, cases in by_default.items()}
    seconds = {
        f"{preset}_seconds": round(sum(case_seconds(case, preset) for case in cases), 1)
        for preset, cases in by_default.items()
    }
    try:
        suite = load(name)
        counts = {scale: len(suite.cases(declared_machine(world_size, device_type, scale))) for scale in _SCALES}
    except BenchError as error:
        return {"suite": name, **dict.fromkeys(_SCALES), **taken, **seconds, "summary": f"{_UNUSABLE}: {error}"}
    return {"suite": name, **counts, **taken, **seconds, "summary": suite.summary}


def _count(row: Mapping[str, Any], preset: str) -> str | None:
    """Number of a suite's cases that a preset takes by default and their time, such as `9 in 20 s`."""
    number = row[f"{preset}_by_default"]
    return f"{number} in {show_guess(row[f'{preset}_seconds'])}" if number else None


def show_guess(seconds: float) -> str:
    """A guessed time in seconds, minutes or hours, whichever has few digits."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


def short_summary(suite: str, summary: str, width: int) -> str:
    """What a suite measures, without its name in front; cut at the width, behind a clause if that keeps most of it."""
    text = clean(summary).rstrip(".")
    head, colon, rest = text.partition(": ")
    if colon and len(head.split()) <= MAX_HEAD_WORDS and not summary.startswith(_UNUSABLE):
        text = rest[:1].upper() + rest[1:]
    if len(text) <= width:
        return text
    clause = max((index for index, sign in enumerate(text[: width + 1]) if sign in ",:;"), default=0)
    return (
        text[:clause]
        if 2 * clause >= width
        else textwrap.shorten(text, width, placeholder=" ...", break_on_hyphens=False)
    )


def _suite_notes(planned: Mapping[str, Sequence[PlannedCase]], device_type: str) -> tuple[str, ...]:
    """Lengths of whole runs, the other presets, and what to type next."""
    lengths = {preset: show_guess(_run_seconds(preset, cases, device_type)) for preset, cases in planned.items()}
    longest_node = show_guess(
        (PRESETS["node"].budget_on(device_type) or 0.0) + sum(case.min_seconds for case in planned["node"])
    )
    node = ", ".join(dict.fromkeys(case.suite for case in planned["node"]))
    return (
        f"Whole runs, starts included: smoke about {lengths['smoke']}, standard about {lengths['standard']}; preset "
        f"full up to {lengths['full']} ({len(planned['full'])} cases); preset node at most {longest_node} ({node}).",
        "Times are guesses until a run knows the machine: a slow one takes fewer samples, or skips the last cases.",
        "A suite without a number runs if it is named: bench run NAME. Its cases: bench list NAME.",
    )


def _run_seconds(preset: str, cases: Sequence[PlannedCase], device_type: str) -> float:
    of_preset = PRESETS[preset]
    seconds = of_preset.launches * startup_seconds(device_type) + sum(case_seconds(case, preset) for case in cases)
    budget = of_preset.budget_on(device_type)
    return seconds if budget is None else min(seconds, budget + sum(case.min_seconds for case in cases))


def cases(
    references: Sequence[str],
    preset: str,
    world_size: int,
    device_type: str,
    form: str,
    ids: bool = False,
    width: int = PIPE_WIDTH,
) -> str:
    """A row per case: its short name and its id, if the width has room for both; with `ids` the ids alone.

    In CSV and JSON its id and its parameters.
    """
    machine = declared_machine(world_size, device_type, PRESETS[preset].of_suites)
    listed = [
        (suite, params, suite.case(params).id) for suite in load_all(references) for params in suite.cases(machine)
    ]
    if form == "json":
        return json_text([{"case": case, "parameters": params} for _, params, case in listed])
    if form == "csv":
        return csv_text([{"case": case, "parameters": _parameters(params)} for _, params, case in listed])
    if ids:
        return "".join(f"{clean(case)}\n" for _, _, case in listed)
    names = name_cases(case for _, _, case in listed)
    rows = [{"name": names.across(case), "id": case} for _, _, case in listed]
    fits = form != "table" or all(max(len(row["name"]) for row in rows) + 3 + len(row["id"]) <= width for row in rows)
    columns = (text_column("name", "case"), *([text_column("id", "id, for --case")] if fits else []))
    notes = _shared_notes(listed)
    if not fits:
        notes += (f"Ids, for --case: bench list {' '.join(references)} --ids",)
    if form == "table":
        notes = tuple(line for note in notes for line in textwrap.wrap(note, width, subsequent_indent="  "))
    title = f"Cases of preset {preset} on {_ranks(world_size, device_type)}"
    return render([DisplayTable(title, columns, tuple(rows), notes)], form)


def _ranks(world_size: int, device_type: str) -> str:
    return f"{world_size} {device_type} rank{'s' if world_size > 1 else ''}"


def _parameters(params: Params) -> str:
    return ", ".join(f"{name}={format_param(value)}" for name, value in sorted(params.items()))


def _shared_notes(listed: Sequence[tuple[Suite, Params, str]]) -> tuple[str, ...]:
    """Parameters that all cases of an operation share, those at a suite's defaults too, which no id has."""
    shared = name_cases(case_id(suite.name, params, {}) for suite, params, _ in listed).shared
    return tuple(_shared_note(suite, line) for suite, lines in shared.items() for line in lines)


def _shared_note(suite: str, line: str) -> str:
    """`All of matmul: ...`; a suite's lone operation, and all operations of a suite, go by the suite's name."""
    operations, colon, pairs = line.partition(":")
    return f"All of {suite if operations in ('all', ONLY_OPERATION) else operations}{colon}{pairs}"
