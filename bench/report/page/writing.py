"""Saves a report under one or more names; the ending of each says in which form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.compare.sides import are_launches_of_one_run
from bench.core.jsonl import cannot_write, exists
from bench.core.values import counted
from bench.errors import BenchError
from bench.records.file import Result, load_many
from bench.report import export

if TYPE_CHECKING:
    from bench.report.page.section import Content


class Report:
    """The report of some runs, built once however many forms are asked for."""

    def __init__(self, runs: Sequence[Sequence[Result]]) -> None:
        self.runs = runs

    @cached_property
    def content(self) -> Content:
        from bench.report.page.content import build

        return build(self.runs)

    def html(self, path: Path) -> dict[Path, bytes]:
        from bench.report.page.html import page

        count = len(self.runs)
        return {path: page(self.content, f"report of {counted(count, 'saved run')}").encode()}

    def markdown(self, path: Path) -> dict[Path, bytes]:
        from bench.report.page.markdown import markdown
        from bench.report.plots.style import as_png

        folder = path.with_name(f"{path.stem}_files")
        files = {folder / f"{plot.name}.png": as_png(plot.figure) for plot in self.content.plots()}
        return {path: markdown(self.content, folder.name).encode()} | files

    def folder(self, path: Path) -> dict[Path, bytes]:
        """Every plot as PNG and SVG. Raises BenchError if the results have nothing to draw."""
        from bench.report.plots.style import as_png, as_svg

        files: dict[Path, bytes] = {}
        for plot in self.content.plots():
            files[path / f"{plot.name}.png"] = as_png(plot.figure)
            files[path / f"{plot.name}.svg"] = as_svg(plot.figure, plot.name, on_page=False).encode()
        if not files:
            raise BenchError(f"-o {path}: nothing in these results can be drawn; -o report.html has the tables")
        return files


FORMS: dict[str, Callable[[Report, Path], dict[Path, bytes]]] = {".html": Report.html, ".md": Report.markdown}
PLAIN = (".csv", ".json", ".parquet")
"""The plain rows, as `bench show FILE -o` writes them."""


def runs(paths: Sequence[str]) -> list[list[Result]]:
    """The runs of files, folders and globs: a folder whose files are launches of one run is one run, else each file.

    Raises BenchError as `bench.records.file.load_many` does.
    """
    result_groups: list[list[Result]] = []
    for path in paths:
        results = load_many([path])
        together = Path(path).is_dir() and all(are_launches_of_one_run(results[0], other) for other in results[1:])
        result_groups += [results] if together else [[result] for result in results]
    return result_groups


def write(runs: Sequence[Sequence[Result]], outputs: Sequence[Path]) -> list[Path]:
    """Save under every name; returns what was written, the file that a reader opens first of each.

    A name without an ending is a folder of plots. Raises BenchError for an ending that there is not and for what is
    there already, before anything is written, and for what cannot be written.
    """
    report = Report(runs)
    endings = (*FORMS, *PLAIN)
    for path in outputs:
        if path.suffix and path.suffix not in endings:
            raise BenchError(f"-o {path}: the name has to end in {', '.join(endings)}, or be a folder for the plots")
        if exists(path) and not path.is_dir():
            raise BenchError(f"{str(path)!r} exists; saving never overwrites: give another name")
    for path in outputs:
        if path.suffix in PLAIN:
            export.write([result for results in runs for result in results], path)
        else:
            _save(FORMS.get(path.suffix, Report.folder)(report, path))
    return list(outputs)


def _save(files: dict[Path, bytes]) -> None:
    there = [path for path in files if exists(path)]
    if there:
        raise BenchError(f"{str(there[0])!r} exists; saving never overwrites: give another name")
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                stream.write(data)
        except OSError as error:
            raise cannot_write(path, error) from error
