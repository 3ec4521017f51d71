"""`bench compare`: results side by side, with a verdict for every case."""

from __future__ import annotations

from typing import Any

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import comparing
from bench.core.garbage import without_collecting
from bench.errors import BenchError

_COMMON = (
    "by", "among", "fail_slower", "metrics", "where", "everything", "wide", "form",
)  # fmt: skip


@click.command(name="compare", cls=HelpedCommand, page="comparing", common=_COMMON)
@click.argument("base")
@click.argument("news", nargs=-1, metavar="[NEW]...")
@click.option("--by", metavar="PARAM", help="Compare the values of a parameter within BASE, such as implementation.")
@click.option(
    "--among",
    type=click.Choice(["host", "rank"]),
    help="BASE holds many equals, such as a file of each node: find the ones that stand out.",
)
@click.option("--outlier", metavar="SHARE", help="With --among: how far from its siblings one has to be [default: 5%].")
@comparing
def command(
    base: str, news: tuple[str, ...], by: str | None, among: str | None, outlier: str | None, **options: Any
) -> int:
    """Compare NEW results with BASE: the answer first, by how much in which work, then the cases with their verdicts.

    Each is a file, a folder of launches, or a glob in quotes. A change is new over base: at 1.88x NEW takes 1.88 times
    as long. `same`: its 95% interval lies within the threshold. `slower`, `faster`: the interval excludes no change,
    with false discoveries controlled over the cases of a pair of sides. `unclear`: neither, with the launches and
    minutes that would settle it. With one launch per side there is no error bar and no verdict.

    \b
    Examples:
      bench compare results/base.jsonl results/new.jsonl
      bench compare old/ new/ --fail-slower 5% --format junit
      bench compare a100.jsonl h100.jsonl gb200.jsonl --metric tokens_per_s --all
      bench compare run.jsonl --by implementation --where suite=tensor_parallel
      bench compare fleet/ --among host --outlier 5%
      bench compare old/ new/ --format json | jq '.rows[] | [.case, .change]'
    """
    from bench.analysis.comparison_output.presentation import CompareOptions, present, present_outliers
    from bench.records.file import load_many

    chosen = CompareOptions(**options)
    if among is None and outlier is not None:
        raise BenchError(f"--outlier {outlier}: it goes with --among host or --among rank")
    if among is not None:
        if by is not None:
            raise BenchError(f"--among {among} with --by {by}: leave one of them out")
        return present_outliers(load_many([base, *news]), among, outlier, chosen)
    with without_collecting():
        return present(load_many(base), [load_many(new) for new in news], chosen, by)
