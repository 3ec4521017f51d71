"""However a suite's module or function ends, it is one line, which names the file's own place."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.measure.planning.suite_loader import load
from tests.support.plugins import install_package
from tests.support.ranks import cpu_machine


def _write(path: Path, source: str) -> str:
    path.write_text(source)
    return str(path)


STRANGE_ENDS = {
    "skipped": ("import pytest\npytest.skip('not here', allow_module_level=True)", "Skipped: not here"),
    "base": ("class Own(BaseException): ...\nraise Own('why')", "Own: why"),
    "exit_1": ("raise SystemExit(1)", "SystemExit: 1"),
    "exit_0": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "exit_none": ("import sys; sys.exit()", "SystemExit: "),
    "ctrl_c": ("raise KeyboardInterrupt('mine')", "KeyboardInterrupt: mine"),
    "os_exit": ("import os; os._exit(1)", r"SystemExit: os._exit\(1\)"),
    "generator": ("raise GeneratorExit", "GeneratorExit: "),
    "memory": ("raise MemoryError", "MemoryError: "),
    "recursion": ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    "group": ("raise BaseExceptionGroup('two', [SystemExit(1), KeyError(2)])", r"BaseExceptionGroup: two \(2 sub"),
    "mute": ("class Mute(Exception):\n def __str__(self): 1 / 0\nraise Mute", "Mute: .its text cannot be read."),
    "null": ("\0", "SyntaxError: source code string cannot contain null bytes"),
    "indented": ("  def f(): ...", "IndentationError: unexpected indent"),
    "unknown_codec": ("# coding: klingon", "SyntaxError: .*unknown encoding|SyntaxError: encoding problem"),
    "attributes": ("def __getattr__(name): raise SystemExit(1)", "SystemExit: 1"),
    "long": ("raise ValueError('x' * 100_000)", r"ValueError: x{300}\.\.\. "),
}


@pytest.mark.parametrize("name", STRANGE_ENDS)
@pytest.mark.parametrize("is_plugin", [False, True])
def test_a_module_may_end_as_it_likes(
    name: str, is_plugin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, said = STRANGE_ENDS[name]
    reference = _write(tmp_path / f"strange_{name}.py", source)
    if is_plugin:
        install_package(tmp_path, "strangers", {name: Path(reference).stem})
        reference = name
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BenchError, match=said):
        load(reference)


@pytest.mark.parametrize("ends", ["raise KeyboardInterrupt", "import os; os._exit(1)", "raise SystemExit(1)"])
def test_cases_may_end_as_they_like(ends: str, tmp_path: Path) -> None:
    source = f"def cases(machine):\n    {ends}\ndef prepare(params, rank): ...\n"
    mine = load(_write(tmp_path / "mine.py", source))
    with pytest.raises(BenchError, match=r"suite mine: cases\(\) raised .*; fix the file"):
        mine.cases(cpu_machine(2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_module_is_imported_is_the_users(number: signal.Signals, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise SystemExit(143)

    previous = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        source = f"import os, signal\nos.kill(os.getpid(), signal.{number.name})\n"
        with pytest.raises(SystemExit, match="143"):
            load(_write(tmp_path / "mine.py", source))
        assert signal.getsignal(number) is stop
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
