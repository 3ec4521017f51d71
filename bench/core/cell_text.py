r"""Text that others wrote, as each form of output shows it: it stays text, and nothing in it is obeyed.

One function for each form; `FORMS` has them all. Each begins with `clean`, which leaves no character that a terminal
obeys, hides or reorders (controls, escapes, bidi marks, signs without width), and no beginning that a CI runner takes
for a command. Then HTML, Markdown and formulas of a spreadsheet are escaped, each in its own form.

Sources: "Workflow commands" (GitHub), "Logging commands" (Azure Pipelines), "Service messages" (TeamCity), "Custom
collapsible sections" (GitLab), "Managing log output" (Buildkite), GitHub Flavored Markdown, OWASP on CSV injection.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping

_BLANKS = re.compile(r"[\t\n\r\v\f\x85\u2028\u2029]+")
_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn")
_HIDDEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
"""Letters and marks that are shown as nothing (Unicode's default ignorable code points, and Braille's blank)."""
_IS_HIDDEN = re.compile(f"[{_HIDDEN}]")
_COMMAND = re.compile(r"##(?=\w*\[)")
"""Beginning of a command of Azure Pipelines, TeamCity or older GitHub, anywhere in a line: `##vso[`, `##[`."""
_LINE_COMMAND = r"(?=::[A-Za-z]|section_(?:start|end):|travis_\w+:|(?:---|\+\+\+|~~~|\^\^\^) )"
"""Beginning of a command at the start of a line: GitHub `::error::`, GitLab, Travis, Buildkite."""
_START = re.compile(r"(\s*)" + _LINE_COMMAND)
_COLOUR = r"\x1b\[(?:0|1|2|31|32|33)m"
"""The styles of `bench.core.styles`."""
_COLOURS = re.compile(f"({_COLOUR})")
_LINE_START = re.compile(rf"^((?:[^\S\n]|{_COLOUR})*){_LINE_COMMAND}", re.MULTILINE)
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u061c\ufeff"
    rf"\ud800-\udfff\U000e0000-\U000e007f{_HIDDEN}]"
)


def clean(text: str) -> str:
    """The text with control and format characters as visible escapes, and every white space as one blank.

    A beginning that a CI runner takes for a command gets a backslash. To clean a text twice changes nothing more.
    """
    if not text.isprintable() or (not text.isascii() and _IS_HIDDEN.search(text)):
        text = "".join(_visible(char) for char in _BLANKS.sub(" ", text))
    if "##" in text:
        text = _COMMAND.sub(r"#\\#", text)
    return _START.sub(r"\1\\", text, count=1) if text[:1] in _STARTS and _START.match(text) else text


_STARTS = frozenset(" :st-+~^\xa0\u1680\u202f\u205f\u3000") | {chr(code) for code in range(0x2000, 0x200B)}


def _visible(char: str) -> str:
    if unicodedata.category(char) in _CATEGORIES or _IS_HIDDEN.match(char):
        return _escape(char)
    return char


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def width(text: str) -> int:
    """Cells of a terminal: wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def guard(text: str) -> str:
    """Whole lines for a terminal or a log, as the last wall: no control character but our colours, no command.

    Lines may have been wrapped since their texts were cleaned, so that a word in the middle begins one.
    """
    parts = _COLOURS.split(text)
    text = "".join(part if index % 2 else escape_controls(part) for index, part in enumerate(parts))
    return _LINE_START.sub(r"\1\\", _COMMAND.sub(r"#\\#", text))


def escape_controls(text: str) -> str:
    """Text of several lines without any other control or format character: the wall of a whole file."""
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def encodable(text: str, encoding: str | None) -> str:
    """The text with what an encoding lacks as visible escapes; None, as of a stream in memory: it takes all."""
    if encoding is None:
        return text
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except (LookupError, UnicodeError):
        return text.encode("ascii", "backslashreplace").decode("ascii")


def escape_html(text: str) -> str:
    """The text for HTML and SVG, within an element or a quoted attribute."""
    return html.escape(clean(text))


def escape_xml(text: str) -> str:
    """The text for a program that writes XML itself: no character that XML has no place for."""
    return clean(text)


_SIGNS = r"[\\|`*<>$]|(?<=\S)~|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?\w+;)|!(?=\[)|(?<=\])\("
_MARKS = re.compile(_SIGNS + r"|(?<=\])\[|^\[(?=[^\]]*\]:)")
_MARKS_OF_LABEL = re.compile(_SIGNS + r"|[\[\]]")
_LINKS = re.compile(
    r"(?P<scheme>(?<=\w):)(?=//)|(?P<mail>\b(?:mailto|xmpp|tel):)|(?P<host>\bwww)(?=\.)"
    r"|(?P<name>@)(?=\\?\w|\Z)|(?P<issue>[#!])(?=\d)|(?P<short>\bGH-)(?=\d)",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    r"(?P<before>\d{0,9})(?P<mark>#{1,6}(?=\s|$)|[-+](?=\s|$)|[.)](?=\s|$)|(?:-\s*){3,}$|-+\s*$|=+\s*$)"
)
_NO_LINK = "&#8203;"
"""A space without width: GitHub and GitLab look for names and numbers in what Markdown has become, where a backslash is
gone, so that only a character between helps."""


def escape_markdown(text: str, is_cell: bool = False) -> str:
    """The text as Markdown that shows it as it is: no cell ends early, no link, mention, image, emphasis or HTML.

    Outside a table's cell it does not become a heading, a list, a rule or a block of code either.
    """
    text = _MARKS.sub(r"\\\g<0>", clean(text).strip())
    if not is_cell and (block := _BLOCK.match(text)) and (block["mark"][0] in ".)") == bool(block["before"]):
        text = f"{block['before']}\\{text[len(block['before']) :]}"
    return _LINKS.sub(rf"\g<0>{_NO_LINK}", text)


def escape_markdown_label(text: str) -> str:
    """The text between the brackets of a link or an image of our own."""
    return _LINKS.sub(rf"\g<0>{_NO_LINK}", _MARKS_OF_LABEL.sub(r"\\\g<0>", clean(text).strip()))


def code_span(text: str) -> str:
    """The text as Markdown's code, which is copied as it is; a run of backticks in it ends nothing."""
    text = clean(text)
    fence = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


_FORMULA = re.compile(r"(^|[;\t|])(\s*)(?=[=+\-@＝＋－＠])")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?%?", re.ASCII)


def escape_csv(text: str) -> str:
    """The text of a cell, which no spreadsheet takes for a formula: an apostrophe comes before; a number stays.

    A semicolon ends a cell too for programs of many countries.
    """
    shown = clean(text)
    return shown if _NUMBER.fullmatch(shown) else _FORMULA.sub(r"\1\2'", shown)


def escape_json(text: str) -> str:
    """An encoder's JSON in ASCII, so that no terminal and no CI runner obeys it; its value is the same."""
    return text.replace("\x7f", "\\u007f").replace("##", "#\\u0023")


def escape_workflow(text: str) -> str:
    """The text within a workflow command of GitHub, which ends at a line's end and reads `%` as an escape."""
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_workflow_property(text: str) -> str:
    """The text of a property of a workflow command of GitHub."""
    return escape_workflow(text).replace(":", "%3A").replace(",", "%2C")


FORMS: Mapping[str, Callable[[str], str]] = {
    "terminal": clean,
    "html": escape_html,
    "svg": escape_html,
    "xml": escape_xml,
    "markdown": escape_markdown,
    "markdown label": escape_markdown_label,
    "markdown code": code_span,
    "csv": escape_csv,
    "workflow": escape_workflow,
    "workflow property": escape_workflow_property,
}
"""Form of output -> its escape for one text; JSON is escaped as a whole, by its encoder and `escape_json`."""
