"""Parts of an output that somebody would obey: a terminal, a CI runner, a browser, Markdown, a spreadsheet.

Written from the formats' documentation, without the escapes of `bench`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from html.parser import HTMLParser

from markdown_it import MarkdownIt

from tests.support.hostile import EVIL

_COLOUR = re.compile(r"\x1b\[\d+m")
_OBEYED_LINE = re.compile(r"^\s*::[A-Za-z]|^\s*section_(start|end):|^\s*(\+\+\+|---|~~~|\^\^\^) |##\w*\[", re.MULTILINE)
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe0f\uffa0"
_LIVE = re.compile(r"@\w|(?<!&)#\d|!\d|\bGH-\d|\b[a-z][a-z0-9+.-]*://|\bwww\.\w|\bmailto:\w", re.IGNORECASE)


def faults_of_terminal(text: str, may_have_colour: bool = False) -> list[str]:
    """Characters that are obeyed or not seen, and lines that a CI runner takes for commands."""
    shown = _COLOUR.sub("", text) if may_have_colour else text
    signs = {char for char in set(shown) - {"\n"} if unicodedata.category(char) in ("Cc", "Cf", "Cs")}
    signs |= set(shown) & set(_INVISIBLE)
    return [f"character {sign!r}" for sign in sorted(signs)] + [
        f"line {shown[found.start() : found.end() + 60]!r}" for found in _OBEYED_LINE.finditer(shown)
    ]


def faults_of_csv(text: str) -> list[str]:
    """Cells that a spreadsheet takes for formulas, and rows of another length than the head."""
    rows = list(csv.reader(io.StringIO(text)))
    cells = {cell for row in rows for cell in row}
    formulas = [c for c in cells if any(map(_FORMULA.match, re.split(r"[;\t]", c))) and not _NUMBER.fullmatch(c)]
    lengths = {len(row) for row in rows}
    return [f"formula {cell!r:.80}" for cell in formulas] + ([] if len(lengths) < 2 else [f"lengths {lengths}"])


_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_TOKENS = {
    "paragraph", "inline", "heading", "table", "thead", "tbody", "tr", "th", "td", "strong", "text", "softbreak",
    "ordered_list", "bullet_list", "list_item", "code_inline", "image",
}  # fmt: skip
_DETAILS = re.compile(r"<details><summary>[A-Za-z ,\n]+</summary>\s*|</details>\s*")
_IMAGE = re.compile(r"[A-Za-z0-9_.-]+_files/[a-z-]+\d*\.png")


def faults_of_markdown(text: str) -> list[str]:
    """Parts that the templates do not make: links, HTML, emphasis, code, rules, mentions."""
    found = []
    for block in _MARKDOWN.parse(text):
        for token in (block, *(block.children or ())):
            kind = token.type.removesuffix("_open").removesuffix("_close")
            if kind == "html_block" and _DETAILS.fullmatch(token.content):
                continue
            if kind not in _TOKENS or (kind == "image" and not _IMAGE.fullmatch(str(token.attrs["src"]))):
                found.append(f"{kind} {token.content!r:.80} {token.attrs}")
            if kind == "code_inline" and not token.content.startswith(("bench ", "-", "add ")):
                found.append(f"code {token.content!r:.80}")
            if kind == "text":
                found += [f"live {match[0]!r}" for match in _LIVE.finditer(token.content.replace("\u200b", "\x00"))]
    return found


_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "details", "summary", "h1",
    "h2", "h3", "p", "span", "b", "div", "figure", "figcaption", "ol", "li", "table", "thead", "tbody", "tr",
    "th", "td", "script", "svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "rect", "line",
    "image", "lineargradient", "stop", "pattern",
}  # fmt: skip
_ATTRIBUTES = re.compile(
    r"lang|charset|name|content|http-equiv|id|class|aria-[a-z]+|role|tabindex|height|width|[xy][12]?|d|rx|viewbox|version|"
    r"xmlns|xmlns:xlink|xlink:href|href|style|transform|clip-path|text-anchor|type|preserveaspectratio|patternunits|fill"
)
_OWN_ADDRESS = re.compile(r"#[A-Za-z0-9_-]+|data:image/png;base64,[\w+/=\s]+")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class _Page(HTMLParser):
    """Collects what a page has beside its own elements."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in _TAGS:
            self.faults.append(f"element {tag}")
        for name, value in attrs:
            text = value or ""
            if not _ATTRIBUTES.fullmatch(name):
                self.faults.append(f"attribute {name} of {tag}")
            if name in ("class", "style", "http-equiv") and EVIL in text:
                self.faults.append(f"{name}={text}")
            if name in ("href", "xlink:href") and not re.fullmatch(
                r"#[A-Za-z0-9_-]+|data:image/png;base64,[\w+/=\s]+", text
            ):
                self.faults.append(f"{name}={text}")
            if name == "id":
                self.ids.append(text)

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data!r:.60}")


def faults_of_html(text: str) -> list[str]:
    """Elements, attributes, addresses and ids that the template does not make."""
    page = _Page()
    page.feed(text)
    page.close()
    faults = page.faults + [f"id {each!r}" for each in page.ids if not _ID.fullmatch(each)]
    faults += [f"id {each!r} twice" for each in set(page.ids) if page.ids.count(each) > 1]
    wanted = {"script": 1, "meta": 4, "title": 1, "h1": 1, "body": 1, "main": 1}
    faults += [f"{page.counts.get(tag, 0)} {tag}" for tag, count in wanted.items() if page.counts.get(tag, 0) != count]
    return faults + [fault for fault in faults_of_terminal(text) if fault.startswith("character")]


def faults_of_xml(text: str) -> list[str]:
    """Elements or attributes with the word that hostile texts have there; raises for what is not well-formed."""
    tree = ElementTree.fromstring(text)
    names = {name for element in tree.iter() for name in (str(element.tag), *element.attrib)}
    return [f"name {name}" for name in names if EVIL in name] + [
        fault for fault in faults_of_terminal(text) if fault.startswith("character")
    ]


def faults_of_json(text: str) -> list[str]:
    """Not strict, not ASCII, or something that a runner takes for a command."""
    json.loads(text, parse_constant=lambda name: 1 / 0)
    return ([] if text.isascii() else ["not ASCII"]) + faults_of_terminal(text)


def faults_of_workflow(text: str) -> list[str]:
    """Commands other than annotations, and data that ends one early."""
    lines = [line for line in text.splitlines() if line.lstrip().startswith("::")]
    right = re.compile(r"::(error|warning|notice) title=[^:,]*::.*")
    found = [f"command {line!r:.80}" for line in lines if not right.fullmatch(line)]
    others = "\n".join(line for line in text.splitlines() if line not in lines)
    return found + faults_of_terminal(others)


CHECKS: Mapping[str, Callable[[str], list[str]]] = {
    "table": faults_of_terminal,
    "csv": lambda text: faults_of_csv(text) + faults_of_terminal(text),
    "markdown": lambda text: faults_of_markdown(text) + faults_of_terminal(text),
    "html": faults_of_html,
    "svg": faults_of_xml,
    "junit": lambda text: faults_of_xml(text) + faults_of_terminal(text),
    "json": faults_of_json,
    "github": faults_of_workflow,
}
"""Form of output -> what is wrong with a text in it."""
