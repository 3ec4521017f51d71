"""Texts for users, cut into sentences: pages, help texts of commands, docstrings and printed strings.

`python -m tests.support.english_texts FILE...` prints what the rules find in Markdown or Python files.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bench.cli import COMMANDS, cli
from tests import ROOT
from tests.support.english_rules import RULES

MAX_WORDS = {"page": 30, "heading": 30, "help": 30, "message": 40, "docstring": 40}
TOO_LONG = "too long"
ABBREVIATION = re.compile(r"(?<![-\w])(?:e\.g|i\.e|et al|vs|cf|etc|[Ss]ec|[Nn]o|[Ff]ig|[Ee]q|approx|[A-Z])\.$")
SENTENCE_END = re.compile(r"[.!?][)\"'*]*(?=\s+(?:[\"'(*]*[A-Z0-9]|--|[a-z]+\d|\w+\.md))")
CITATION = re.compile(r"\([^()]*\b(?:19|20)\d\d\b[^()]*\)|\([^()]*(?:arXiv|[\w-]+/[\w./-]+\.\w+)[^()]*\)")
"""In brackets: a paper with its year, or a file of another project. Its words do not make a sentence longer."""
EXAMPLE = re.compile(r"^ *(?:bench|import|from) ", re.M)
CODE_LIST = re.compile(r"CODE(?: \([^()]*\))?(?:(?:,| and| or|, and|, or) CODE(?: \([^()]*\))?)+")
WORD = re.compile(r"[A-Za-z][\w'-]*")


@dataclass(frozen=True)
class Sentence:
    """One sentence and where it is."""

    place: str
    kind: str
    text: str


@dataclass(frozen=True)
class Hit:
    """A habit found in a sentence."""

    sentence: Sentence
    rule: str
    found: str

    def __str__(self) -> str:
        return f"{self.sentence.place}: {self.rule}: [{self.found}] {self.sentence.text}"


def page_sentences(path: Path, text: str | None = None) -> Iterator[Sentence]:
    """Sentences of a Markdown page; code blocks, comments and addresses are left out, a table's cell is a paragraph."""
    text = path.read_text(encoding="utf-8") if text is None else text
    text = re.sub(r"<!--.*?-->", _only_newlines, text, flags=re.S)
    text = re.sub(r"^( *)(```+|~~~+).*?^ *\2", _only_newlines, text, flags=re.S | re.M)
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    for line, paragraph in _paragraphs(text):
        if not paragraph.startswith(("    ", "\t")):
            kind = "heading" if paragraph.startswith("#") else "page"
            for part in _cells(paragraph):
                yield from _sentences(f"{name}:{line}", kind, _plain(part))


def docstrings(path: Path) -> Iterator[Sentence]:
    """Sentences of the docstrings of a module and its public classes and functions, and of the texts below fields."""
    tree = ast.parse(path.read_bytes())
    for node in _public(tree):
        for statement in node.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                value = statement.value.value
                if isinstance(value, str):
                    place = f"{path.relative_to(ROOT)}:{statement.lineno}"
                    yield from prose_sentences(place, "docstring", value)


def messages(path: Path) -> Iterator[Sentence]:
    """Sentences of a Python file's other strings of three words or more: help, errors, tables, findings."""
    tree = ast.parse(path.read_bytes())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "N" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = "" if id(node) in inside | documented else node.value
        if text.count(" ") >= 2 and not re.search(r"\\[dwsb]|\(\?|[{};]\n", text):
            yield from prose_sentences(f"{path.relative_to(ROOT)}:{node.lineno}", "message", text)  # type: ignore[attr-defined]


def help_sentences() -> Iterator[Sentence]:
    """Sentences of the help texts of all commands and their options."""
    context = click.Context(cli)
    commands = {"bench": cli, **{f"bench {name}": cli.get_command(context, name) for name in COMMANDS}}
    for name, command in commands.items():
        assert command is not None
        yield from prose_sentences(name, "help", command.help or "")
        for option in command.params:
            yield from prose_sentences(f"{name} {option.opts[0]}", "help", getattr(option, "help", None) or "")
    for name, text in COMMANDS.items():
        yield from prose_sentences(f"bench {name}", "help", text)


def prose_sentences(place: str, kind: str, text: str) -> Iterator[Sentence]:
    """Sentences of plain text; of an indented list each item by itself, without the name in front."""
    for _, paragraph in _paragraphs(text.expandtabs().replace("\b", "")):
        if EXAMPLE.search(paragraph):
            continue
        for item in _items(paragraph):
            yield from _sentences(place, kind, _plain(item))


def hits(sentence: Sentence) -> Iterator[Hit]:
    """What the rules find in a sentence, and its length if that is too much."""
    for rule in RULES:
        if (match := rule.search(sentence.text)) and (sentence.kind, rule.name) != ("heading", "what as a subject"):
            yield Hit(sentence, rule.name, match[0].strip())
    num_words = len(WORD.findall(CODE_LIST.sub("CODE", sentence.text)))
    if num_words > MAX_WORDS[sentence.kind]:
        yield Hit(sentence, TOO_LONG, f"{num_words} words")


def _only_newlines(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """(line, paragraph): split at blank lines, headings, list items and rows of tables."""
    lines: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        begins = re.match(r"\s*(?:[-*+] |\d+\. |#+ |\||>)", line)
        if (begins or not line.strip()) and lines:
            yield start, "\n".join(lines)
            lines = []
        if line.strip():
            start = start if lines else number
            lines.append(line)
    if lines:
        yield start, "\n".join(lines)


def _items(paragraph: str) -> Iterator[str]:
    """Items of a list that is aligned in columns (`name   text`); other text as it is."""
    items: list[str] = []
    for line in paragraph.split("\n"):
        match = re.match(r"(?: {2,}|)\S+(?: \S+){0,5} {2,}(?=\S)", line)
        if match or not items:
            items.append(line[match.end() :] if match else line)
        else:
            items[-1] += "\n" + line
    return iter(items)


def _cells(paragraph: str) -> Iterator[str]:
    if paragraph.lstrip().startswith("|"):
        return iter(re.split(r"(?<!\\)\|", paragraph.strip().strip("|")))
    return iter([paragraph])


def _plain(text: str) -> str:
    """Text without markup: code becomes one word, a link its text."""
    text = re.sub(r"``.+?``|`[^`]+`", "CODE", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = CITATION.sub("", re.sub(r"https?://\S+", "LINK", text))
    text = re.sub(r"^\s*(?:[-*+] |\d+\. |#+ |>+ ?)", "", text)
    return " ".join(text.replace("**", "").split())


def _sentences(place: str, kind: str, text: str) -> Iterator[Sentence]:
    start = 0
    for match in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text[start : match.start() + 1]):
            yield Sentence(place, kind, text[start : match.end()].strip())
            start = match.end()
    if text[start:].strip():
        yield Sentence(place, kind, text[start:].strip())


def _public(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            waiting += [each for each in node.body if not getattr(each, "name", "").startswith("_")]


def main(files: list[str]) -> int:
    """Print what is found in the files, and how often per rule."""
    counts: Counter[str] = Counter()
    for file in files:
        path = Path(file).resolve()
        read = [docstrings, messages] if path.suffix == ".py" else [page_sentences]
        for hit in (hit for each in read for sentence in each(path) for hit in hits(sentence)):
            counts[hit.rule] += 1
            click.echo(str(hit))
    for rule, number in counts.most_common():
        click.echo(f"{number:5} {rule}")
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
