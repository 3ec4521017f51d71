"""Top of a report: its title is the answer, below it the findings, and the changes that the chart shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.compare.change_text import brief_factor, brief_interval, clause
from bench.analysis.findings.comparison_remarks import whole_figure
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
    from bench.stats.change_test import Verdict
VERDICTS = {
    "slower": "slower",
    "faster": "faster",
    "same": "same",
    "unclear": "no difference shown",
    None: "some slower, some faster",
}
"""Verdict on a kind of work -> the words next to its mark."""
MAX_SUITES = 2
"""Suites of which a title about one run has a figure."""
TELLING_SUITES = ("compute", "collective", "training_step")
"""Suites whose figures a title takes first."""
MAX_RUNS = 4
"""Runs that a title names if they are not compared."""


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
    Peak("fastest generation", "inference", "decode", metrics.TOKEN_SPEED),
)
"""A suite's most informative figures; a new suite may add a row."""


def lead(source: Source, plot: Plot | None) -> tuple[str, Lead]:
    """Title of a report, and its top. `plot` is next to the bars of one run."""
    if source.comparison is not None:
        return _of_comparison(source.comparison)
    evidence = [RunEvidence(run.results[0], run.results[1:]) for run in source.series]
    found = [run_findings(*run.results) for run in source.series]
    if len(found) == 1:
        return _run_title(found[0], evidence[0]), Lead(found[0], plot=plot)
    state = DataState("useless", f"nothing is compared: {source.no_comparison}")
    runs = [
        f"{run.name}: {_run_words(findings, one)}"
        for run, findings, one in zip(source.series, found, evidence, strict=True)
    ]
    title = f"{len(runs)} runs, not compared. {'; '.join(runs[:MAX_RUNS])}"
    return f"{title}; and {len(runs) - MAX_RUNS} more" if len(runs) > MAX_RUNS else title, Lead(Findings("", (state,)))


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

    Empty unless the most informative kind of work is the same for all new sides and changed on all of them.
    """
    leading = [(new, _leading(works_of(comparison, new))) for new in comparison.sides[1:]]
    works = {work.work for _, work in leading if work is not None}
    if any(work is None for _, work in leading) or len(works) != 1:
        return ""
    parts = [
        (side_name(new), brief_factor(1 + work.mean.change), brief_interval(work.mean))
        for new, work in leading
        if work is not None and work.mean is not None
    ]
    base, words = side_name(comparison.sides[0]), works.pop().words
    verdicts = {work.verdict for _, work in leading if work is not None}
    start, than = f"In {words}", f" as {base}"
    if len(verdicts) == 1:
        degree = _DEGREES[next(iter(verdicts))][len(leading) > 1]
        start, than = f"{base} is {degree} in {words}", ""
    (name, factor, interval), *others = parts
    if verdicts == {"faster"} and not others:
        return f"{name} is faster in {words}: it takes {factor} as long as {base} ({interval})"
    texts = [f"{name} takes {factor} as long{than} ({interval})", *(f"{n} {f} ({i})" for n, f, i in others)]
    return f"{start}: {', '.join(texts)}"


_DEGREES: Mapping[Verdict | None, tuple[str, str]] = {"slower": ("faster", "fastest"), "faster": ("slower", "slowest")}
"""Verdict on all new sides -> what the base is, compared with one of them and with several."""


def _leading(works: Sequence[WorkChange]) -> WorkChange | None:
    """The most informative kind of work, if its mean is shown to have changed and no other kind went the other way."""
    verdicts = {work.verdict for work in works}
    first = works[0] if works else None
    shown = first is not None and first.mean is not None and first.verdict in ("slower", "faster")
    return first if shown and not ({"slower", "faster"} <= verdicts or None in verdicts) else None


def _titles(comparison: Comparison, findings: Findings) -> list[str]:
    """A sentence per new side: its first figure if that is all that decides, else its whole answer."""
    titles = []
    base = side_name(comparison.sides[0])
    for new, answer in zip(comparison.sides[1:], findings.of_kind(Answer), strict=True):
        works, name = works_of(comparison, new), side_name(new)
        work = _leading(works)
        figures: dict[Verdict | None, Figure] = {}
        for one, figure in zip(works, figures_of(comparison, new), strict=True):
            figures.setdefault(one.verdict, figure)
        if work is not None and work.mean is not None:
            words = clause(name, base, 1 + work.mean.change, work.metric)
            titles.append(f"{words} in {work.work.words} ({brief_interval(work.mean)})")
        elif "slower" in figures and "faster" in figures:
            parts = ", ".join(_with_interval(figures[verdict]) for verdict in ("faster", "slower"))
            titles.append(f"{name} against {base} depends on the work: {parts} as long")
        else:
            titles.append(answer.text)
    return titles


def _with_interval(figure: Figure) -> str:
    """`compute 0.58x (0.52x to 0.65x)`; of swept sizes with the case that the figure is of."""
    return f"{figure.name} {figure.text} ({figure.of.partition(', ')[0]})"


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
            interval=_interval(figure),
            of=_of(work, figure),
            is_largest=work.mean is None and figure.value is not None,
        )
    whole = comparison.whole(new.name)
    for figure in whole_figure(comparison, new) if whole is not None else []:
        yield ChartedChange(
            work=figure.name,
            machine=new.name,
            ratio=figure.value,
            low=figure.low,
            high=figure.high,
            text=figure.text,
            verdict=VERDICTS[whole.judged.verdict] if whole and figure.low is not None else "no error bar",
            interval=_interval(figure),
            of=figure.of.rpartition(", ")[2],
            is_largest=False,
        )


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{brief_factor(figure.low)} to {brief_factor(figure.high)}"


def _of(work: WorkChange, figure: Figure) -> str:
    """The figure's words without its interval and verdict, which have columns of their own."""
    if work.mean is None:
        return figure.of if figure.value is not None else counted(len(work.cases), "case")
    return f"mean of {len(work.cases)} cases" if len(work.cases) > 1 else ""


def _run_title(findings: Findings, evidence: RunEvidence) -> str:
    """`2 x Xeon core: 145 GFLOP/s per core, all-reduce, 64 MiB 1.15 GB/s bus, pipeline parallel 1.5x one core`."""
    answers = [answer.text for answer in findings.of_kind(Answer)]
    architecture = evidence.result.architecture
    if environments.emulation_label(evidence.result.environment.ranks) and "emulated" not in architecture:
        architecture += " (emulated)"
    return ". ".join([*answers, f"{architecture}: {_run_words(findings, evidence)}"])


def _run_words(findings: Findings, evidence: RunEvidence) -> str:
    """Figures of the most informative suites, and of the parallel work that gains most."""
    figures = findings.of_kind(Figure)
    by_suite: dict[str, Figure] = {}
    for figure in figures:
        if figure.group == "reached":
            by_suite.setdefault(str(figure.case).partition("/")[0], figure)
    order = [*(suite for suite in TELLING_SUITES if suite in by_suite), *by_suite]
    words = [
        by_suite[suite].text if suite == metrics.CEILING_SUITE else _named(by_suite[suite])
        for suite in list(dict.fromkeys(order))[:MAX_SUITES]
    ]
    parallel = [figure for figure in figures if figure.group == "parallelism" and figure.value is not None]
    if parallel:
        fastest = max(parallel, key=lambda figure: figure.value or 0.0)
        words.append(f"{fastest.name} {show_quantity(fastest.value, 'x', 2)} one {evidence.device} at best")
    return ", ".join(words) or "nothing was measured"


def _named(figure: Figure) -> str:
    return f"{figure.name.replace(',', '')} {figure.text}"


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
