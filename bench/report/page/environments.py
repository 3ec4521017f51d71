"""The environments in full, side by side; differences come first, the rest is folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.analysis.compare.comparison_tables import value_column
from bench.analysis.compare.sides import facts
from bench.core.table import DisplayTable, text_column
from bench.core.values import counted
from bench.records.environments import HOST_FIELDS, RANK_FIELDS
from bench.report.page.section import Section

if TYPE_CHECKING:
    from bench.records.file import Result


def environments(results: Sequence[Result], names: Sequence[str]) -> Section:
    fields_by_run = [dict(_fields(result)) for result in results]
    rows = []
    for field in dict.fromkeys(name for run_fields in fields_by_run for name in run_fields):
        values = [run_fields.get(field) for run_fields in fields_by_run]
        if any(value is not None for value in values):
            differs = any(value != values[0] for value in values)
            rows.append({"field": field, "values": values, "differs": differs})
    columns = (text_column("field"), *(value_column(index, name) for index, name in enumerate(names)))
    differing = tuple(row for row in rows if row["differs"])
    same = tuple(row for row in rows if not row["differs"])
    if len(names) < 2:
        return Section(KEY, "Environment", (), (DisplayTable("", columns, same),), is_printed=False)
    title = f"The same in all, {counted(len(same), 'field')}"
    shared = DisplayTable("", (columns[0], value_column(0, "value in all")), same)
    rest = Section("environment-same", title, (), (shared,))
    text = f"{counted(len(differing), 'field')} differ{'s' if len(differing) == 1 else ''}."
    table = DisplayTable("", columns, differing)
    return Section(KEY, "Environments", (text,), (table,), parts=(rest,), is_printed=False)


KEY = "environment"


def _fields(result: Result) -> Iterator[tuple[str, Any]]:
    """(field, value) of a run and its environment; of hosts and ranks one if all agree, else each with its count."""
    yield from facts(result).items()
    environment = result.environment
    hosts = list(environment.hosts.values())
    yield "hosts", len(hosts) or None
    for prefix, records, fields in (
        ("host", hosts, HOST_FIELDS),
        ("rank", environment.ranks, RANK_FIELDS),
    ):
        for field in fields:
            yield f"{prefix}.{field}", _common([getattr(record, field) for record in records])
    yield from ((f"settings.{name}", value) for name, value in sorted(environment.settings.items()))
    yield from ((f"variables.{name}", value) for name, value in sorted(environment.variables.items()))


def _common(values: Sequence[Any]) -> Any:
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    if len(counts) < 2:
        return values[0] if values else None
    return ", ".join(f"{number} x {value}" for value, number in counts.items())
