"""The standard streams in processes of their own, whose caller closed them or gave them a full device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

HEAD = """
import os, sys
from bench.core.process import standard_streams
standard_streams.prepare()
"""
FULL = Path("/dev/full")


def run(text: str, redirection: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, HEAD + text]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_and_a_full_stderr_take_everything(redirection: str, tmp_path: Path) -> None:
    done = run(
        "print('out'); print('err', file=sys.stderr, flush=True)\n"
        f"own = open({str(tmp_path / 'own')!r}, 'w')\nassert own.fileno() > 2\nos.write(1, b'')\nos.write(2, b'')\n"
        if "full" not in redirection
        else "print('out'); print('err', file=sys.stderr, flush=True)",
        redirection,
    )
    assert done.returncode == 0
    assert done.stdout == ("" if ">&-" in redirection.replace("2>&-", "") else "out\n")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_stdout_is_told_once_and_the_exit_is_quiet() -> None:
    done = run(
        "for n in range(3):\n"
        "    try:\n"
        "        print('x' * 10_000, flush=True)\n"
        "        print('dropped', file=sys.stderr)\n"
        "    except standard_streams.CannotPrintError as error:\n"
        "        print(error, file=sys.stderr)\n",
        ">/dev/full",
    )
    assert done.returncode == 0
    first, *others = done.stderr.splitlines()
    assert first.startswith("cannot write the output: No space left on device; send it")
    assert others == ["dropped", "dropped"]


def test_a_reader_that_is_gone_is_a_broken_pipe_once() -> None:
    read, write = os.pipe()
    os.close(read)
    text = HEAD + (
        "try:\n    print('x', flush=True)\nexcept BrokenPipeError:\n    print('gone', file=sys.stderr)\nprint('more')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "gone\n")


def test_the_encoding_and_the_descriptor_stay() -> None:
    done = run("print(sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.isatty(), sys.stderr.errors)", "")
    assert done.stdout.lower() == "utf-8 1 false backslashreplace\n"
