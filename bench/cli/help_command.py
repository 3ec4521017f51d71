"""`bench help`: the pages of documentation, which are part of the package."""

from __future__ import annotations

import difflib
import importlib.resources
import shutil
import sys

import click

from bench.cli.help import HelpedCommand
from bench.cli.options import colour
from bench.core.page_text import page_text, title
from bench.core.terminal import echo, output_width
from bench.errors import BenchError

READING_ORDER = (
    "running", "reading", "comparing", "glossary", "suites", "clusters", "ci", "reports", "explaining", "normal",
    "mixed_or_uniform", "predicting", "own_suites", "own_formats", "metrics", "result_file", "result_fields",
    "versions", "changelog", "limits",
)  # fmt: skip
"""Pages in the order in which they are listed; a page that is not named here comes after these."""


@click.command(name="help", cls=HelpedCommand)
@click.argument("topic", nargs=-1, metavar="[TOPIC]")
@click.pass_context
def command(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Show a page of the documentation, or list the pages.

    On a terminal a page that does not fit is shown by the pager (PAGER, else less). The name of a command shows its
    --help.

    \b
    Examples:
      bench help
      bench help running
      bench help comparing | grep unclear
      bench help compare
    """
    name = "_".join(topic).lower().replace("-", "_").removesuffix(".md")
    pages = read_pages()
    if not name:
        echo(_listing(pages), nl=False)
    elif name in pages:
        _show(page_text(pages[name], pages, output_width(sys.stdout), colour()))
    else:
        _show_help_of_command(ctx, name, list(pages))


def read_pages() -> dict[str, str]:
    """Name of a page -> its Markdown, in reading order."""
    folder = importlib.resources.files("bench") / "docs"
    pages = {
        file.name.removesuffix(".md"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".md")
    }
    rest = sorted(set(pages) - set(READING_ORDER))
    return {name: pages[name] for name in (*READING_ORDER, *rest) if name in pages}


def _listing(pages: dict[str, str]) -> str:
    room = max(map(len, pages))
    lines = [f"  {name:{room}}   {title(text)}" for name, text in pages.items()]
    return "\n".join(["Pages, shown by `bench help TOPIC`:", *lines, ""])


def _show(text: str) -> None:
    is_long = text.count("\n") >= shutil.get_terminal_size().lines
    if sys.stdout.isatty() and is_long:
        click.echo_via_pager(text.rstrip("\n"))  # it adds one
    else:
        echo(text, nl=False, color=colour())


def _show_help_of_command(ctx: click.Context, name: str, pages: list[str]) -> None:
    group = ctx.parent.command if ctx.parent else None
    found = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    if found is None:
        close = difflib.get_close_matches(name, pages, 1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise BenchError(f"bench help {name}: there is no such page. {hint}Pages: {', '.join(pages)}")
    echo(found.get_help(click.Context(found, info_name=name, parent=ctx.parent)), color=colour())
