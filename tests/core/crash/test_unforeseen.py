"""An unforeseen error: its line, and the file with its traceback."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core import exit_codes
from bench.core.crash import unforeseen
from bench.core.crash.unforeseen import (
    UnforeseenError,
    UnforeseenTold,
    code_of,
    complain,
    is_of_machine,
    without_secrets,
)
from bench.errors import BenchError

SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(unforeseen.PRINT_VARIABLE, raising=False)
    monkeypatch.setenv("MY_TOKEN", SECRET)
    return tmp_path


def caught(error: BaseException) -> BaseException:
    """The error with a traceback, which goes through a line of this file."""
    try:
        raise error
    except BaseException as same:  # noqa: BLE001 - whatever it is
        return same


class Mute(Exception):  # noqa: N818 - its name is not the point
    def __str__(self) -> str:
        raise ValueError


def test_the_line_says_what_and_where_and_the_file_is_its_owner_s(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = os.umask(0)
    try:
        assert complain(caught(KeyError("seeded"))) == 70
        assert complain(caught(KeyError("seeded"))) == 70
    finally:
        os.umask(old)
    out, errors = capsys.readouterr()
    files = sorted(folder.iterdir())
    assert len(files) == 2  # none is overwritten
    head = "bench: error: KeyError: 'seeded'; a mistake in bench itself, please report it; traceback: "
    assert out == ""
    assert sorted(errors.splitlines()) == [f"{head}{file}" for file in files]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().splitlines()[-1] == "KeyError: 'seeded'"
        assert "test_unforeseen.py" in file.read_text()


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ValueError("two\nlines \x1b[31m"), "ValueError: two lines \\x1b[31m; "),
        (Mute(), "Mute: (it cannot say why); "),
        (ValueError(), "ValueError; "),
        (RecursionError("deep"), "RecursionError: deep; a mistake in bench itself"),
        (MemoryError(), "MemoryError; the memory did not suffice"),
        (SystemExit(1), "SystemExit: 1; "),
        (BaseExceptionGroup("two", [KeyError(1), SystemExit(1)]), "BaseExceptionGroup: two (2 sub-exceptions); "),
        (ValueError("x" * 10_000), "x" * 200),
        (UnicodeEncodeError("ascii", "\ud800", 0, 1, "no"), "UnicodeEncodeError: 'ascii' codec"),
        (ValueError("\ud800"), "ValueError: \\ud800; "),
    ],
)
def test_any_error_is_one_line(error: BaseException, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(caught(error)) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: error: ")
    assert what in line
    assert len(line) < 700


def test_a_folder_that_takes_no_file_has_the_traceback_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))
    assert complain(caught(KeyError("seeded"))) == 70
    *traceback, line = capsys.readouterr().err.splitlines()
    assert traceback[-1] == "KeyError: 'seeded'"
    assert line.endswith("its traceback is above, since no file could be written (No such file or directory)")


def test_a_full_disk_leaves_no_half_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fdopen", lambda handle, *_, **__: open("/dev/full", "w"))  # noqa: PTH123, SIM115
    assert complain(caught(KeyError("seeded"))) == 70
    assert "no file could be written (No space left on device)" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_the_variable_prints_it_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(unforeseen.PRINT_VARIABLE, "1")
    complain(caught(KeyError("seeded")))
    errors = capsys.readouterr().err
    assert errors.count("Traceback (most recent call last)") == 1
    assert errors.splitlines()[-1].startswith("bench: error: KeyError: 'seeded'; ")


def test_no_secret_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complain(caught(ValueError(f"GET http://bob:pw0@host/?token=abc {SECRET} hf_defghijklmnop Bearer 0123456789")))
    (file,) = folder.iterdir()
    for text in (file.read_text(), capsys.readouterr().err):
        assert not [secret for secret in ("pw0", "abc", SECRET, "hf_defghijklmnop", "0123456789") if secret in text]
        assert "http://(masked)@host/?token=(masked)" in text
    assert not [name for name in os.environ if len(name) > 8 and f"{name}=" in file.read_text()]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://u:p@h/db", "postgres://(masked)@h/db"),
        ("https://h/p", "https://h/p"),
        ("password = 'open'", "password = '(masked)'"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: (masked)"),
        ("the key is of-a-variable", "the key is (masked)"),
        ("num_tokens: 4096 per rank", "num_tokens: 4096 per rank"),
        ("/home/me/work", "/home/me/work"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    assert (
        without_secrets(
            text, {"PWD": "/home/me/work", "OLDPWD": "/home/me/work", "SHORT_KEY": "h", "MY_TOKEN": "of-a-variable"}
        )
        == masked
    )


@pytest.mark.parametrize("text", ["y", "token", "a://", "token=", "Bearer ", "sk-", "' "])
def test_a_long_traceback_is_cut(text: str, folder: Path) -> None:
    complain(caught(ValueError(text * 200_000)))
    (file,) = folder.iterdir()
    assert file.stat().st_size < 201_000
    assert ("characters are left out" in file.read_text()) == (file.stat().st_size >= 200_000)


def test_told_once_it_goes_the_way_of_all_errors() -> None:
    with pytest.raises(UnforeseenError) as told, UnforeseenTold(LookupError):
        raise TypeError("seeded")
    assert code_of(told.value, 3) == code_of(f"rank 1 on vm: {told.value}", 3) == exit_codes.UNFORESEEN
    assert complain(told.value) == 70
    assert code_of("rank 1 on vm: cannot open", 3) == code_of(None, 3) == code_of(BenchError("x"), 3) == 3
    for kept in (BenchError("own"), KeyError("kept"), KeyboardInterrupt()):
        with pytest.raises(type(kept)), UnforeseenTold(LookupError):
            raise kept


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp"), True),
        (ConnectionResetError("gone"), True),
        (RuntimeError("dictionary changed size during iteration"), False),
        (RecursionError("maximum recursion depth exceeded"), False),
        (KeyError("connection"), False),
        (type("DistError", (RuntimeError,), {"__module__": "torch.distributed"})("anything"), True),
    ],
)
def test_what_a_machine_did_is_no_mistake_of_bench(error: BaseException, expected: bool) -> None:
    assert is_of_machine(error) is expected


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = threading.excepthook
    monkeypatch.setattr(unforeseen, "_thread_errors", [])
    unforeseen.watch_threads()
    yield
    threading.excepthook = before


@pytest.mark.usefixtures("_watched")
def test_a_thread_of_bench_that_dies_leaves_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("seeded")

    assert unforeseen.final_code(0) == 0
    thread = threading.Thread(target=fail, name="bench-watchdog")
    thread.start()
    thread.join()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: error: thread bench-watchdog: KeyError: 'seeded'; a mistake in bench itself")
    assert [unforeseen.final_code(code) for code in (0, 1, 2, 3, 130)] == [70, 1, 2, 3, 130]


@pytest.mark.usefixtures("_watched")
def test_a_thread_of_another_is_not_bench_s_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=lambda: 1 // 0, name="loader")
    thread.start()
    thread.join()
    assert "Traceback" in capsys.readouterr().err
    assert unforeseen.final_code(0) == 0
