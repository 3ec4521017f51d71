"""`bench run --against`: earlier results to compare a run with, found before it starts and shown when it is over.

If they are those of at least four other nodes of the same architecture, the question is whether this node is as fast
as its siblings; otherwise it is what has changed since an earlier run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.column_fit import wrap
from bench.core.styles import style
from bench.core.terminal import output_width
from bench.errors import BenchError
from bench.records.file import load_many
from bench.records.last_result import named_file

if TYPE_CHECKING:
    from bench.analysis.compare.outlier_search import OutlierSearch
    from bench.analysis.compare.peer_group import Peer
    from bench.records.file import Result


def earlier_results(against: Path, own: Path) -> list[Result]:
    """Results that `against` names (a file, a folder, a glob), without the run's own file, which may lie among them.

    Raises BenchError if there is none, or one cannot be read.
    """
    named = named_file(against, but=own)
    results = [result for result in load_many(named) if result.path.resolve() != own.resolve()]
    if not results:
        raise BenchError(f"--against {against}: no other result than this run's is there; name one")
    return results


def refuse_incomparable(against: Path, own: Path, cases: Iterable[str]) -> None:
    """Check that a comparison can be made. Raises BenchError if the earlier results have none of the run's cases."""
    there = {record.case for result in earlier_results(against, own) for record in result.measurements}
    if not there & set(cases):
        raise BenchError(
            f"--against {against}: none of its {len(there)} cases will be measured; name a result of the same suites, "
            "or measure what it has with --like FILE"
        )


def compare_with_earlier(against: Path, result: Result, colour: bool) -> str:
    """Comparison of a finished run with the earlier ones, or why there is none; the exit code stays."""
    try:
        earlier = earlier_results(against, result.path)
        members = _with_siblings(result, earlier)
        return _compare_with_siblings(members, colour) if members else _compare_newest(result, earlier, colour)
    except BenchError as error:  # the run ended before a case that both have, or the other file is gone by now
        return f"--against {against}: {error}\n"


def _with_siblings(result: Result, earlier: Sequence[Result]) -> list[Peer]:
    """This node first, then the others of its architecture; empty if these are too few to be its siblings."""
    from bench.analysis.compare.peer_group import host_name, hosts
    from bench.stats.robust_score import MIN_SIBLINGS

    host_names = set(result.hosts())
    others = [
        other
        for other in earlier
        if other.architecture == result.architecture
        and host_name(other) != host_name(result)
        and not host_names & set(other.hosts())
        and _have_common_case(result, other)
    ]
    peers = hosts(others, allow_unlike=True)
    return [*hosts([result]), *peers] if len(peers) >= MIN_SIBLINGS else []


def _have_common_case(one: Result, two: Result) -> bool:
    return bool({record.case for record in one.measurements} & {record.case for record in two.measurements})


def _compare_with_siblings(members: Sequence[Peer], colour: bool) -> str:
    """One line that says it, then the cases in which this node stands out."""
    from bench.analysis.compare.outlier_search import judge
    from bench.analysis.comparison_output.outlier_tables import outlier_table
    from bench.core.table import DisplayTable, render

    name = members[0].name
    search = judge(members, "host", only=[name])
    table = outlier_table(search)
    title = f"{name} compared with {len(members) - 1} siblings"
    shown = DisplayTable(title, table.columns, table.rows, table.footnotes)
    width = output_width(sys.stdout)
    answer = [style(line, "bold", colour) for line in wrap(f"{name} is {siblings_line(search)}", width)]
    return "\n".join(answer) + "\n\n" + render([shown], "table", colour, width)


def siblings_line(search: OutlierSearch) -> str:
    """`as fast as its 63 siblings in 30 cases`, or in which cases not; of a single judged member."""
    from bench.analysis.compare.outlier_search import name_few

    num_siblings = len(search.members) - 1
    slower, faster = ([str(row["case"]) for row in search.rows if row["verdict"] == v] for v in ("slower", "faster"))
    others = [f"faster in {len(faster)}"] if faster else []
    others += [f"unclear in {len(search.unclear)}"] if search.unclear else []
    more = f" ({', '.join(others)})" if others else ""
    if slower:
        where = f"{len(slower)} of {search.num_cases} cases{more}: {name_few(slower)}"
        return f"slower than its {num_siblings} siblings in {where}"
    if others:
        as_fast = search.num_cases - len(faster) - len(search.unclear)
        return f"as fast as its {num_siblings} siblings in {as_fast} of {search.num_cases} cases{more}"
    return f"as fast as its {num_siblings} siblings in {search.num_cases} cases"


def _compare_newest(result: Result, earlier: Sequence[Result], colour: bool) -> str:
    """Comparison with the newest earlier run that has a case in common, all its files included."""
    from bench.analysis.compare.comparison import compare
    from bench.analysis.compare.sides import are_launches_of_one_run
    from bench.analysis.comparison_output import comparison_screen

    ordered = sorted(earlier, key=lambda other: other.header.started or "", reverse=True)
    newest = next((other for other in ordered if _have_common_case(result, other)), ordered[0])
    base = [other for other in ordered if other is newest or are_launches_of_one_run(newest, other)]
    on = comparison_screen.Screen(width=output_width(sys.stdout), colour=colour)
    text = comparison_screen.show_beside(compare(base, [[result]]), on)
    left_out = len(ordered) - len(base)
    if left_out:
        text += f"Compared with the newest, {newest.path.name}; {left_out} other file(s) are not of that run.\n"
    return text
