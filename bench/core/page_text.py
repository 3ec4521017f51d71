"""A page of documentation as a terminal shows it: wrapped, with tables in columns, and links as commands and paths.

Pages use a small part of Markdown: headings, paragraphs, lists, tables, fenced code, links, bold and comments. Code is
never wrapped, since people copy it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

from bench.core.cell_text import width as cell_width
from bench.core.column_fit import wrap
from bench.core.styles import style
from bench.core.table import DisplayTable, render, text_column

CODE_INDENT = "    "
_FENCED = re.compile(r"^( *```.*?^ *```)$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^ *<!--.*?-->[ \t]*\n?", re.MULTILINE | re.DOTALL)
_CODE_OR_LINK = re.compile(r"(?P<code>`[^`]*`)|!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_LIST_MARK = re.compile(r"\s*(?:[-*]|\d+\.) ")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def page_text(markdown: str, topics: Collection[str], width: int, colour: bool = False) -> str:
    """The page in lines of at most `width`, except code. A link to one of the topics names its command."""
    blocks: list[str] = []
    for index, part in enumerate(_FENCED.split(markdown)):
        if index % 2:
            blocks.append(_code(part, width))
        else:
            blocks += _prose(_COMMENT.sub("", part), topics, width, colour)
    return "\n\n".join(blocks) + "\n"


def title(markdown: str) -> str:
    """The text of the page's first heading."""
    found = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    return found[1] if found else ""


def _code(fenced: str, width: int) -> str:
    lines = fenced.splitlines()[1:-1]
    has_room = max(map(cell_width, lines), default=0) + len(CODE_INDENT) <= width
    return "\n".join((CODE_INDENT + line if has_room else line).rstrip() for line in lines)


def _prose(text: str, topics: Collection[str], width: int, colour: bool) -> list[str]:
    """Blocks of what lies between two pieces of code; the items of a list are one block."""
    return [
        _table(lines, topics, width, colour) if lines[0].startswith("|") else _paragraphs(lines, topics, width, colour)
        for block in re.split(r"\n\s*\n", text.strip("\n"))
        if (lines := block.splitlines())
    ]


def _paragraphs(lines: list[str], topics: Collection[str], width: int, colour: bool) -> str:
    """A heading, a paragraph or the items of a list, wrapped; further lines of an item are indented as its text is."""
    joined: list[str] = []
    for line in lines:
        starts_anew = not joined or line.startswith("#") or joined[-1].startswith("#") or _LIST_MARK.match(line)
        if starts_anew:
            joined.append(line)
        else:
            joined[-1] += " " + line.strip()
    shown: list[str] = []
    for line in joined:
        mark = _LIST_MARK.match(line)
        indent = len(mark[0]) if mark else 0
        wrapped = wrap(_inline(line[indent:], topics), width - indent)
        wrapped = [line[:indent] + wrapped[0], *(" " * indent + more for more in wrapped[1:])]
        shown += [style(text, "bold" if line.startswith("#") else None, colour) for text in wrapped]
    return "\n".join(shown)


def _table(lines: list[str], topics: Collection[str], width: int, colour: bool) -> str:
    """The table in columns, or a list of its rows if the columns are wider than `width` or take twice the lines."""
    heads, _, *rows = [[_cell(cell, topics) for cell in _CELL_BORDER.split(line.strip().strip("|"))] for line in lines]
    columns = tuple(text_column(str(index), head) for index, head in enumerate(heads))
    cells = tuple({str(index): cell for index, cell in enumerate(row)} for row in rows)
    table = DisplayTable("", columns, cells)
    listed = [line for row in rows for line in _listed(heads, row, width)]
    plain = render([table], "table", False, width).splitlines()
    if len(plain) > 2 * len(listed) or max(map(cell_width, plain)) > width:
        return "\n".join(listed)
    return render([table], "table", colour, width).rstrip("\n")


def _listed(heads: list[str], row: list[str], width: int) -> list[str]:
    """A row as an item of a list: its first cell, then the others that are not empty, each behind its head."""
    parts = [f"{head}: {cell}" if head else cell for head, cell in zip(heads[1:], row[1:], strict=True) if cell]
    text = f"{row[0]}: {'; '.join(parts)}"
    first, *more = wrap(text, width - 2)
    return [f"- {first}", *(f"  {line}" for line in more)]


def _cell(text: str, topics: Collection[str]) -> str:
    return _inline(text.strip().replace("\\|", "|").replace("<br>", "; "), topics)


def _inline(text: str, topics: Collection[str]) -> str:
    """The text with links written out, and without the marks of bold type."""
    linked = _CODE_OR_LINK.sub(lambda found: found["code"] or _link(found["text"], found["target"], topics), text)
    return re.sub(r"\*\*(.+?)\*\*", r"\1", linked)


def _link(text: str, target: str, topics: Collection[str]) -> str:
    path = target.partition("#")[0]
    if not path:
        return text
    topic = path.removesuffix(".md")
    if topic in topics:
        command = f"bench help {topic}"
        return f"`{command}`" if text in (path, topic) else f"{text} (`{command}`)"
    where = target if "://" in target else posixpath.normpath(f"bench/docs/{path}")
    return text if text.strip("`").endswith(where) else f"{text} ({where})"
