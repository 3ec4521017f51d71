"""Top of a report: its title is the answer, below it the findings, and the changes that the chart shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.compare.change_text import brief_factor, brief_interval, clause
from bench.analysis.findings.evidence import RunEvidence
from bench.analysis.findings.kinds import Answer, DataState, Figure, Findings
from bench.analysis.findings.of_comparison import comparison_findings, figures_of, side_name, works_of
from bench.analysis.findings.of_run import run_findings
from bench.core.table import DisplayTable, text_column
from bench.core.values import counted, show_quantity
from bench.records import environments, metrics
from bench.report.page.change_chart import ChartedChange
from bench.report.page.section import Lead
from bench.report.plots.source import Plot, Source

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.analysis.compare.work_changes import WorkChange
    from bench.records.rows import Row
VERDICTS = {
    "slower": "slower",
    "faster": "faster",
    "same": "no difference",
    "unclear": "no difference shown",
    None: "some slower, some faster",
}
"""Verdict on a kind of work -> the words beside its mark."""
MAX_SUITES = 2
"""Suites of which a title about one run has a figure."""


class Peak(NamedTuple):
    """The best that a run reached of one kind."""

    what: str
    suite: str
    op: str | None
    metric: str


PEAKS = (
    Peak("fastest matrix product", "compute", "matmul", metrics.COMPUTE_SPEED),
    Peak("largest share of the catalogue's peak", "compute", "matmul", metrics.PEAK_SHARE),
    Peak("highest memory bandwidth", "compute", None, metrics.MEMORY_BANDWIDTH),
    Peak("highest all-reduce bus bandwidth", "collective", "all_reduce", metrics.BUS_BANDWIDTH),
    Peak("shortest all-reduce", "collective", "all_reduce", metrics.TIME),
    Peak("fastest pair of ranks", "point_to_point", None, metrics.ALGORITHM_BANDWIDTH),
    Peak("fastest tensor-parallel block", "tensor_parallel", None, metrics.COMPUTE_SPEED),
    Peak("fastest pipeline", "pipeline_parallel", None, metrics.TOKEN_SPEED),
    Peak("fastest training step", "training_step", None, metrics.TOKEN_SPEED),
    Peak("fastest generation", "inference", None, metrics.TOKEN_SPEED),
)
"""A suite's most telling figures; a new suite may add a row."""


def lead(source: Source, plot: Plot | None) -> tuple[str, Lead]:
    """Title of a report, and its top. `plot` stands beside the bars of one run."""
    if source.comparison is not None:
        return _of_comparison(source.comparison)
    if len(source.series) > 1:
        names = ", ".join(f"{run.name} ({run.result.architecture})" for run in source.series)
        state = DataState("useless", "no case was measured in all of them, so nothing is compared")
        return f"{len(source.series)} runs without a common case: {names}", Lead(Findings("", (state,)))
    results = source.series[0].results
    findings = run_findings(*results)
    return _run_title(findings, RunEvidence(results[0], results[1:])), Lead(findings, plot=plot)


def _of_comparison(comparison: Comparison) -> tuple[str, Lead]:
    findings = comparison_findings(comparison)
    titles = [_joint_title(comparison)] if _joint_title(comparison) else _titles(comparison, findings)
    changes = [change for new in comparison.sides[1:] for change in _changes(comparison, new)]
    order = list(dict.fromkeys(change.work for change in changes))
    changes.sort(key=lambda change: order.index(change.work))
    machines = tuple(side.name for side in comparison.sides)
    return ". ".join(titles), Lead(findings, machines, tuple(changes))


def _joint_title(comparison: Comparison) -> str:
    """`plain is fastest in training: slow rank takes 1.9x as long (1.5x to 2.4x), shaped link 1.6x (...)`.

    Empty unless the most telling kind of work is the same for all new sides and changed on all of them.
    """
    leading = [(new, _leading(works_of(comparison, new))) for new in comparison.sides[1:]]
    works = {work.work for _, work in leading if work is not None}
    if any(work is None for _, work in leading) or len(works) != 1:
        return ""
    parts = [
        f"{side_name(new)} {brief_factor(1 + work.mean.change)} ({brief_interval(work.mean)})"
        for new, work in leading
        if work is not None and work.mean is not None
    ]
    base, words = side_name(comparison.sides[0]), works.pop().words
    parts[0] = parts[0].replace(f"{side_name(comparison.sides[1])} ", f"{side_name(comparison.sides[1])} takes ", 1)
    parts[0] = parts[0].replace("x (", f"x as long{'' if _all_slower(leading) else f' as {base}'} (", 1)
    start = f"{base} is fastest in {words}" if _all_slower(leading) else f"In {words}"
    return f"{start}: {', '.join(parts)}"


def _all_slower(leading: Sequence[tuple[Side, WorkChange | None]]) -> bool:
    return all(work is not None and work.verdict == "slower" for _, work in leading)


def _leading(works: Sequence[WorkChange]) -> WorkChange | None:
    """The most telling kind of work, if its mean is shown to have changed and no other kind went the other way."""
    verdicts = {work.verdict for work in works}
    first = works[0] if works else None
    shown = first is not None and first.mean is not None and first.verdict in ("slower", "faster")
    return first if shown and not ({"slower", "faster"} <= verdicts or None in verdicts) else None


def _titles(comparison: Comparison, findings: Findings) -> list[str]:
    """A sentence per new side: its first figure where that is all that decides, else its whole answer."""
    titles = []
    for new, answer in zip(comparison.sides[1:], findings.of_kind(Answer), strict=True):
        work = _leading(works_of(comparison, new))
        titles.append(answer.text)
        if work is not None and work.mean is not None:
            words = clause(side_name(new), side_name(comparison.sides[0]), 1 + work.mean.change, work.metric)
            titles[-1] = f"{words} in {work.work.words} ({brief_interval(work.mean)})"
    return titles


def _changes(comparison: Comparison, new: Side) -> Iterator[ChartedChange]:
    figures = figures_of(comparison, new)
    for work, figure in zip(works_of(comparison, new), figures, strict=True):
        verdict = VERDICTS[work.verdict] if figure.low is not None or figure.value is None else "no error bar"
        yield ChartedChange(
            work=work.work.words,
            machine=new.name,
            ratio=figure.value,
            low=figure.low,
            high=figure.high,
            text=figure.text,
            verdict=verdict,
            brief=_brief(work, figure),
            note=figure.of,
        )


def _brief(work: WorkChange, figure: Figure) -> str:
    if work.mean is not None:
        return brief_interval(work.mean) or ""
    return "" if figure.value is None else f"largest: {figure.of.partition(', ')[0]}"


def _run_title(findings: Findings, evidence: RunEvidence) -> str:
    """`2 x Xeon core: 145 GFLOP/s per core, all-reduce, 64 MiB 1.15 GB/s bus, pipeline parallel 1.5x one core`."""
    answers = [answer.text for answer in findings.of_kind(Answer)]
    figures = findings.of_kind(Figure)
    first_of_suites: dict[str, Figure] = {}
    for figure in figures:
        if figure.group == "reached":
            first_of_suites.setdefault(str(figure.case).partition("/")[0], figure)
    words = [
        figure.text if suite == metrics.CEILING_SUITE else f"{figure.name.replace(',', '')} {figure.text}"
        for suite, figure in list(first_of_suites.items())[:MAX_SUITES]
    ]
    parallel = [f for f in figures if f.group == "parallelism" and f.value is not None]
    if parallel:
        fastest = max(parallel, key=lambda figure: figure.value or 0.0)
        words.append(f"{fastest.name} {show_quantity(fastest.value, 'x', 2)} one {evidence.device} at best")
    architecture = evidence.result.architecture
    if environments.emulation_label(evidence.result.environment.ranks) and "emulated" not in architecture:
        architecture += " (emulated)"
    return ". ".join([*answers, f"{architecture}: {', '.join(words) or 'nothing was measured'}"])


def reached_table(source: Source) -> DisplayTable:
    """The best of each kind on every run."""
    rows: list[dict[str, Any]] = []
    for peak in PEAKS:
        row: dict[str, Any] = {"what": peak.what}
        for run in source.series:
            best = _best(run.suite_rows(peak.suite, peak.op), peak)
            unit = metrics.METRICS[peak.metric].unit
            row[run.name] = None if best is None else show_quantity(best[peak.metric], unit)
        if any(row[run.name] for run in source.series):
            rows.append(row)
    columns = (text_column("what", "reached"), *(text_column(run.name) for run in source.series))
    return DisplayTable("The best of each kind", columns, tuple(rows))


def _best(rows: list[Row], peak: Peak) -> Row | None:
    candidates = [row for row in rows if row.get(peak.metric)]
    if not candidates:
        return None
    sign = -1 if metrics.METRICS[peak.metric].better == "lower" else 1
    return max(candidates, key=lambda row: sign * row[peak.metric])


def counted_cases(source: Source) -> str:
    """`43 cases`, over all runs."""
    return counted(len({row["case"] for run in source.series for row in run.rows}), "case")
