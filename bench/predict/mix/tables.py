"""Tables of a mixed cluster: every workload, split each way, and the uses of its kinds; a pair of tables per suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.core.table import Column, DisplayTable, column, text_column
from bench.core.values import show_number, show_percent
from bench.predict.mix.cluster import SHOWN, WITHIN_CHANCE, MixedCluster, Row, training_rows, use_rows
from bench.predict.mix.sources import CATALOGUE
from bench.records.case_names import name_cases

NOTES = (
    "even: all ranks have equal shares and wait for the slowest. balanced: the best whole numbers of units per rank, "
    "by search. bound: the sum of the speeds. Losses: 1 - rate / sum of each kind alone.",
    "split by data: any whole microbatches per rank; tensor: heads, 8 per rank if equal; pipeline: layers, 4 per "
    "stage.",
    "alone: each kind by itself at its own best configuration; the mixed plans run at one that every kind was measured "
    "at.",
)


def suite_of(workload: str) -> str:
    """Suite of a workload, or the workload by catalogue."""
    return workload if workload == CATALOGUE else workload.partition("/")[0]


class WorkloadNames:
    """Short names of workloads; the number of ranks is given if one case was measured on several."""

    def __init__(self, workloads: Iterable[str]) -> None:
        self._ids = {workload: workload.rpartition(" on ")[0] or workload for workload in workloads}
        self._cases = name_cases(self._ids.values())
        self._twice = len(set(self._ids.values())) < len(self._ids)

    def across(self, workload: str) -> str:
        """Name in a list of several suites."""
        return self._name(workload, self._cases.across(self._ids[workload]))

    def within(self, workload: str) -> str:
        """Name in a table of its suite alone."""
        return self._name(workload, self._cases.within(self._ids[workload]))

    def _name(self, workload: str, name: str) -> str:
        if workload == CATALOGUE:
            return "peak in bf16"
        ranks = f" on {workload.rpartition(' on ')[2]}" if self._twice else ""
        return " ".join(name.split()) + ranks

    def shared(self, suite: str) -> tuple[str, ...]:
        """Parameters that all cases of an operation share, a line per list of them."""
        return () if suite == CATALOGUE else tuple(self._cases.shared.get(suite, ()))


def tables(cluster: MixedCluster) -> list[DisplayTable]:
    """Losses per suite, then uses per suite; how to read them is printed once, below the losses."""
    rows, uses = training_rows(cluster), use_rows(cluster)
    names = WorkloadNames(dict.fromkeys(str(row["workload"]) for row in rows))
    losses = [_training_table(cluster, suite, part, names) for suite, part in _by_suite(rows)]
    explained = DisplayTable("", (), (), _notes(cluster))
    served = [_uses_table(cluster, suite, part, names) for suite, part in _by_suite(uses)]
    return [*losses, explained, *served]


def _by_suite(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for suite in dict.fromkeys(suite_of(row["workload"]) for row in rows):
        yield suite, [row for row in rows if suite_of(row["workload"]) == suite]


def _notes(cluster: MixedCluster) -> tuple[str, ...]:
    if cluster.model_error is None:
        return NOTES
    return (*NOTES, f"model's error on {cluster.measured}: at most {show_percent(cluster.model_error)}%")


def _unit(cluster: MixedCluster) -> str:
    return "TFLOP/s" if cluster.by_catalogue else "tokens/s"


def _title(suite: str) -> str:
    return "peaks of data sheets" if suite == CATALOGUE else suite.replace("_", " ")


def _training_table(cluster: MixedCluster, suite: str, rows: Sequence[Row], names: WorkloadNames) -> DisplayTable:
    """A row per workload and parallelism."""
    columns: list[Column] = [
        column("workload", "work", lambda value: names.within(str(value)), align="left"),
        text_column("parallelism", "split by"),
        Column("even %", _even_loss),
        column("balanced_penalty", "balanced %", show_percent),
        text_column("balanced_units", "best split"),
    ]
    rates = (("sum_alone", "sum alone"), ("even", "even"), ("balanced", "balanced"), ("bound", "bound"))
    columns += [column(key, head, show_number, weight=1) for key, head in rates]
    columns += [column(f"alone_{kind.name}", f"{kind.name} alone", show_number, weight=2) for kind in cluster.kinds]
    columns += [
        column(name, name.replace("_", " "), show_number, weight=3)
        for name in dict.fromkeys(name for row in rows for name in row if "_usd_" in name)
    ]
    title = f"Lost in lockstep: {_title(suite)}; rates in {_unit(cluster)}"
    return DisplayTable(title, tuple(columns), tuple(rows), (*names.shared(suite), *_verdicts(rows)))


def _even_loss(row: Mapping[str, Any]) -> str:
    """The loss, roughly if it may be chance, and none if the model is off by more."""
    loss = show_percent(row["even_penalty"])
    return f"~{loss}" if row["verdict"] == WITHIN_CHANCE else loss if row["verdict"] == SHOWN else "-"


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """Meaning of `~` and `-`, if they are in the table."""
    marks = {verdict: "~" if verdict == WITHIN_CHANCE else "-" for verdict in dict.fromkeys(r["verdict"] for r in rows)}
    return [f"{mark} {verdict}" for verdict, mark in marks.items() if verdict != SHOWN]


def _uses_table(cluster: MixedCluster, suite: str, rows: Sequence[Row], names: WorkloadNames) -> DisplayTable:
    """A row per workload and kind that trains, with the kinds that serve meanwhile."""
    columns: tuple[Column, ...] = (
        column("workload", "work", lambda value: names.within(str(value)), align="left"),
        text_column("train_on", "trained on"),
        column("training", "trained", show_number),
    )
    served = list(dict.fromkeys(str(row["served"]) for row in rows if row["served"]))
    if served:  # a column of nothing takes no room
        columns += (text_column("serve_on", "served by"), column("serving", "served", show_number))
    notes = [f"served: {WorkloadNames([each]).across(each)}" for each in served]
    title = f"Uses of each kind: {_title(suite)}; {_unit(cluster)}"
    return DisplayTable(title, columns, tuple(rows), tuple(notes))
