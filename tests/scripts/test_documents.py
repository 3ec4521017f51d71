"""README, pages and folder READMEs are held to the code: links, lengths, names, examples and outputs of commands."""

from __future__ import annotations

import difflib
import importlib
import re
import shlex
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from bench.cli import COMMANDS, cli
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_loader import builtin_names, load
from bench.records import metrics
from bench.records.lines.parts import Status
from bench.stats.change_test import VERDICTS
from tests import ROOT

README = ROOT / "README.md"
PAGES = sorted((ROOT / "bench" / "docs").glob("*.md"))
FOLDER_READMES = sorted(
    path for top in ("bench", "suites", "scripts", "tests", "results") for path in (ROOT / top).rglob("README.md")
)
DOCUMENTS = [README, *PAGES, *FOLDER_READMES]
GENERATED = {ROOT / "results" / "reference" / "README.md"}
"""Folder READMEs that scripts write, which are as long as their tables."""
MAX_README, MAX_PAGE, MAX_FOLDER_README = 200, 249, 60
VOLATILE = ("run", "ab", "doctor")
"""Commands whose output is of a moment and a machine."""
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(bench [^`\n]+)`(?!`)")
TYPED = re.compile(r"^ *(?:\$ |- (?:run: )?)?(?:\S*(?:torchrun|srun)\b.* )?bench +(?P<words>\S.*)$")
"""A line that a person types or a CI job runs; group `words` is what follows `bench`."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Links.


def _links(path: Path) -> Iterator[str]:
    prose = INLINE.sub("", FENCE.sub("", text_of(path)))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def _anchors(path: Path) -> set[str]:
    """Anchors that the forge gives to the headings of a document."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", FENCE.sub("", text_of(path)), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(sign for sign in plain if unicodedata.category(sign)[0] in "LN" or sign in " -_")
        anchor = kept.replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return {*found, *re.findall(r'<a (?:id|name)="([^"]+)"', text_of(path))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_relative_link_and_anchor_is_there(path: Path) -> None:
    broken = []
    for target in _links(path):
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in _anchors(place)):
            broken.append(target)
    assert not broken


def test_links_and_anchors_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `code`, and [more](x.md)\n\n[a](#b), `[no](t)`\n```\n# no\n[no](t)\n```\n## Same\n## Same\n")
    assert [*_links(page)] == ["x.md", "#b", "t"]
    assert _anchors(page) == {"a-code-and-more", "same", "same-1"}


def test_the_readme_leads_to_every_page() -> None:
    linked = {(README.parent / target.partition("#")[0]).resolve() for target in _links(README)}
    assert not [name_of(path) for path in PAGES if path not in linked]


# Lengths and heads.


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path not in GENERATED], ids=name_of)
def test_documents_are_short(path: Path) -> None:
    limit = MAX_README if path == README else MAX_PAGE if path in PAGES else MAX_FOLDER_README
    assert len(text_of(path).splitlines()) <= limit


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_document_begins_with_its_title(path: Path) -> None:
    assert re.match(r"# \S", text_of(path))


# Names.


def _words() -> set[str]:
    """Words of README and pages: names, options, and dotted or underscored words as one."""
    return {word for path in (README, *PAGES) for word in re.findall(r"-{0,2}\w[\w-]*", text_of(path))}


def _options() -> Iterator[tuple[str, list[str]]]:
    """Command and the names of an option, of all commands; hidden ones are no business of users."""
    for name, command in (("", cli), *((name, _command(name)) for name in COMMANDS)):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                yield name, [*parameter.opts]


def _command(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"bench.cli.{name}_command").command
    return command


def test_every_option_is_in_the_readme_or_a_page() -> None:
    """By one of its names, such as `-o` or `--output`."""
    words = _words()
    options = [*_options()]
    assert len(options) > 80
    missing = [f"bench {name} {'/'.join(names)}" for name, names in options if words.isdisjoint(names)]
    assert not sorted(missing)


def test_every_command_preset_suite_and_verdict_is_in_the_readme_or_a_page() -> None:
    text = "\n".join(map(text_of, (README, *PAGES)))
    names = {f"bench {command}" for command in COMMANDS}
    names |= {f"`{name}`" for name in (*builtin_names(), *VERDICTS, *get_args(Status))}
    assert not sorted(name for name in names if name not in text)
    assert not sorted(name for name in PRESETS if not re.search(rf"`{name}`|--preset {name}\b", text))


def test_every_metric_is_in_a_page() -> None:
    words = _words()
    names = {*metrics.METRICS} | {metric for suite in builtin_names() for metric in load(suite).metrics}
    assert not sorted(names - words)


def test_every_room_has_a_line_on_the_map() -> None:
    house = text_of(ROOT / "bench" / "README.md")
    folders = {path.parent.relative_to(ROOT / "bench") for path in (ROOT / "bench").rglob("*.py")} - {Path()}
    assert folders
    assert not [str(each) for each in sorted(folders) if f"`{each}/`" not in house and f"`{each.name}/`" not in house]


# Examples.


def _examples(path: Path) -> Iterator[tuple[str, bool]]:
    """Words behind `bench` of each example of a document, and whether it is one in a sentence, which may be short."""
    text = re.sub(r"<!-- output: (bench [^\n]+?) -->\n+```.*?\n```$", r"```\n\1\n```", text_of(path), flags=re.M | re.S)
    for block in FENCE.finditer(text):
        for line in block["text"].replace("\\\n", " ").splitlines():
            if block["language"] != "python" and (match := TYPED.match(line)):
                yield match["words"], False
    rest = FENCE.sub("", text)
    for line in rest.splitlines():
        if line.startswith("    ") and (match := TYPED.match(line)):
            yield match["words"], False
    for code in INLINE.findall(rest):
        yield code.removeprefix("bench "), True


def _parse(example: str, in_sentence: bool) -> None:
    """Raises click.UsageError if the command would not take these words."""
    words = shlex.split(example, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("|", "||", "&&", ";") or re.match(r"\d?>", word)]
    words = words[: min(ends, default=len(words))]
    name, *arguments = words
    group = name.startswith("-") or name not in COMMANDS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if group:
                cli.make_context("bench", words)
                assert name.startswith("-"), f"no command {name!r}"
            else:
                _command(name).make_context(name, arguments)
    except (click.MissingParameter, click.BadOptionUsage):  # a file, or the value of an option, is left out
        if not in_sentence:
            raise
    except click.exceptions.Exit:  # --help and the like
        pass


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "changelog.md"], ids=name_of)
def test_every_example_is_one_that_the_command_takes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for example, in_sentence in _examples(path):
        try:
            _parse(example, in_sentence)
        except (click.UsageError, AssertionError, ValueError) as error:
            wrong.append(f"bench {example}: {error}")
    capsys.readouterr()  # what --help printed
    assert not wrong


def test_examples_are_found_and_judged(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `bench run --ranks 4` or `bench show --wide`.\n\n    bench list\n\n```\n$ bench list x \\\n  --ids # all\n"
        "torchrun --nproc-per-node=8 --no-python bench run\nbenchmark x\n```\n"
        "<!-- output: bench show a -->\n```\nbench b\n```\n"
    )
    found = [example for example, _ in _examples(page)]
    assert found == ["list x    --ids # all", "run", "show a", "list", "run --ranks 4", "show --wide"]
    for example, in_sentence in _examples(page):
        _parse(example, in_sentence)
    for wrong in ("run --rank", "run --ranks x", "lists", "show --wide", "show x --format html"):
        with pytest.raises((click.UsageError, AssertionError)):
            _parse(wrong, in_sentence=False)


# Outputs.


@pytest.fixture(scope="module")
def fill_outputs() -> Any:
    """The script, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("fill_outputs")


def _marked(path: Path) -> list[str]:
    return re.findall(r"^<!-- output: (.+?) -->$", text_of(path), re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "command"), [(path, command) for path in (README, *PAGES) for command in _marked(path)]
)
def test_a_shown_output_is_what_the_command_prints(fill_outputs: Any, path: Path, command: str) -> None:
    assert shlex.split(command)[1] not in VOLATILE
    blocks = [output for output in fill_outputs.outputs([path]) if output.command == command]
    assert blocks, "no fenced block below the mark"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        printed = fill_outputs.printed(command)
    for output in blocks:
        differences = "\n".join(difflib.unified_diff(output.lines, printed, "shown", "printed", lineterm="", n=1))
        assert fill_outputs.fits(output.lines, printed), f"python scripts/fill_outputs.py writes it anew\n{differences}"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("a b c d", True),
        ("a b", False),
        ("b c d", False),
        ("... b c d", True),
        ("a ... d", True),
        ("a ... c ... d", False),  # a gap stands for one line at least
        ("a ... b d", False),
        ("a ... c b ...", False),
        ("a b ...", True),
        ("...", True),
        ("a b c d a", False),
        ("a ... b c d", False),
    ],
)
def test_gaps_stand_for_lines_left_out(fill_outputs: Any, shown: str, expected: bool) -> None:
    assert fill_outputs.fits(shown.split(), ["a", "b", "c", "d"]) is expected


def test_a_block_with_gaps_keeps_the_lines_it_had_when_it_is_filled_anew(fill_outputs: Any) -> None:
    wanted = ["time 12 ms", "rate 3 GB/s"]
    lines = ["head", "time 14 ms", "", "rate 2 GB/s", "foot"]
    places = fill_outputs.most_alike(wanted, lines)
    assert [*fill_outputs._with_gaps(lines, places)] == ["...", "time 14 ms", "...", "rate 2 GB/s", "..."]


def test_a_command_that_fails_has_no_output_to_show(fill_outputs: Any) -> None:
    with pytest.raises(SystemExit, match="no-such-file"):
        fill_outputs.printed("bench show no-such-file.jsonl")
