"""The two lengths of help: what most people use on one screen, and every option."""

from __future__ import annotations

import click
import pytest

from bench.cli import COMMANDS, call, cli
from bench.cli.run_command import given_options
from bench.errors import BenchError

MAX_LINES = 40


def visible_options(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return {word for option in options for word in option.opts}


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, *words: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    assert call([*words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    lines = help_of(capsys, monkeypatch, width, name, "--help")
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 80
    shown = {word.strip(",") for line in lines for word in line.split()}
    left_out = visible_options(name) - shown
    assert (lines[-1] == f"All options: bench {name} --help-all") == bool(left_out)


@pytest.mark.parametrize("name", COMMANDS)
def test_all_help_has_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lines = help_of(capsys, monkeypatch, 80, name, "--help-all")
    assert visible_options(name) <= {word.strip(",") for line in lines for word in line.split()}
    assert "All options" not in lines[-1]


@pytest.mark.parametrize("name", ["run", "predict", "ab", "compare"])
def test_the_names_of_common_options_exist(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    common = getattr(command, "common", None)
    assert common
    assert common <= {param.name for param in command.params}


def test_words_that_are_only_looked_at_cannot_print_help() -> None:
    with pytest.raises(BenchError, match="--help-all"):
        given_options(["--help-all"])
