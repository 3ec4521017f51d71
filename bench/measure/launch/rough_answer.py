"""What the first of several launches has found: one line a kind of work, to read while the others are under way."""

from __future__ import annotations

from bench.core.cell_text import clean
from bench.measure.launch.headline import headline
from bench.records.file import Record, Result

MOST_KINDS = 11


def lines(result: Result) -> list[str]:
    """A head that says how rough it is, and the most telling measured case of each suite, in the plan's order."""
    found: dict[str, Record] = {}
    for record in result.latest():
        if record["status"] == "ok":
            found.setdefault(record["suite"], record)
    if not found:
        return []
    shown = list(found.values())[:MOST_KINDS]
    names = [clean(str(record["case"]).partition("[")[0]) for record in shown]
    width = max(map(len, names))
    head = f"Rough, from launch 1 of {result.plan['launches']}, without error bars (they take several launches):"
    listed = [f"  {name:{width}}  {headline(record)}" for name, record in zip(names, shown, strict=True)]
    further = len(found) - len(shown)
    return [head, *listed, *([f"  and {further} further kinds of work, in the tables at the end"] if further else [])]
