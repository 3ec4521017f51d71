"""One launch of a side of `bench ab`: a child process with the side's interpreter and variables, and this source."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from bench.core import exit_codes
from bench.core.crash.unforeseen import UnforeseenError
from bench.core.process import stop_signals
from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.launch import bootstrap
from bench.run.ab.ab_sides import Setting

NEEDED = ("click", "numpy", "psutil", "torch")
"""Packages that `bench run` imports; a side's interpreter has to have them."""
PROBE_SECONDS = 60.0
TIDY_SECONDS = 20.0
"""Time that an interrupted launch has to end its ranks and close its file."""

# The working directory is taken off sys.path by hand, since interpreters that are too old do not know -P.
_PROBE = """
import sys
sys.path[:] = [path for path in sys.path if path]
import json
from importlib import metadata, util
torch = metadata.version("torch") if util.find_spec("torch") else None
missing = [name for name in sys.argv[1:] if util.find_spec(name) is None]
print(json.dumps({"version": list(sys.version_info[:3]), "missing": missing, "torch": torch}))
"""
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class LaunchEnd:
    """End of a launch."""

    code: int
    """Exit code; below 0: killed by that signal."""
    last_words: str
    file: str = ""
    """Path of the result file that it wrote, as it says; empty if it does not."""


def probe(side: Setting) -> str:
    """The versions of a side's interpreter. Raises BenchError if it cannot run `bench`."""
    command = [side.python, "-c", _PROBE, *NEEDED]
    flag = f"side {side.name}, {side.python}"
    try:
        done = subprocess.run(
            command, env=_environ(side), capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        facts = json.loads(done.stdout.strip().rpartition("\n")[2] or "null")
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise BenchError(f"{flag}: cannot be started as a Python interpreter ({error}); name another") from error
    if not isinstance(facts, Mapping):
        raise BenchError(f"{flag}: is not a working Python interpreter ({_last_line(done.stderr)}); name another")
    version = ".".join(map(str, facts["version"]))
    if tuple(facts["version"]) < _OLDEST_PYTHON:
        raise BenchError(f"{flag}: Python {version}; bench needs {'.'.join(map(str, _OLDEST_PYTHON))} or newer")
    if facts["missing"]:
        names = " ".join(facts["missing"])
        raise BenchError(f"{flag}: lacks {names}; install with {side.python} -m pip install {names}")
    return f"Python {version}, torch {facts['torch']}"


def start(
    side: Setting, words: Sequence[str], variables: Mapping[str, str] | None = None, descriptors: Collection[int] = ()
) -> LaunchEnd:
    """A launch in a process of its own; a signal is passed on to it, and it has time to end its ranks in order."""
    with _child(side, words, variables or {}, descriptors) as child:
        return child.wait()


def ask(both: Sequence[tuple[Setting, Sequence[str]]]) -> list[str]:
    """The last line that `bench` says to some words on each side; the sides are asked at the same time.

    Raises BenchError if one cannot answer.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_child(side, words)) for side, words in both]
        ends = [child.wait() for child in children]
        for (side, _), ended in zip(both, ends, strict=True):
            refuse_stopped(ended)
            if ended.code:
                raise failure(f"side {side.name}", ended)
        return [_last_words(child.out) for child in children]


def refuse_stopped(ended: LaunchEnd) -> None:
    """Raises Stopped for a launch that a signal ended, as if it had come to this process."""
    if ended.code - 128 in stop_signals.SIGNALS:
        raise stop_signals.Stopped(ended.code - 128)


def failure(where: str, ended: LaunchEnd) -> BenchError:
    """Error of a launch that has no result; an unforeseen one ends `bench ab` with the same code."""
    text = f"{where}: {reason(ended)}"
    return UnforeseenError(text) if ended.code == exit_codes.UNFORESEEN else BenchError(text)


def reason(ended: LaunchEnd) -> str:
    """Reason why a launch failed, in its own last words if it gave any."""
    words = ended.last_words.removeprefix("bench: error: ")
    if ended.code in (exit_codes.USAGE, exit_codes.UNFORESEEN) and words:
        return words
    how = f"killed by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    return f"the run ended early ({how}): {words or 'it said nothing'}"


@dataclass(frozen=True)
class _ChildProcess:
    """`bench` with some words, as a side calls it."""

    process: subprocess.Popen[bytes]
    out: IO[str]
    log: IO[str]

    def wait(self) -> LaunchEnd:
        return LaunchEnd(self.process.wait(), _last_words(self.log), _last_words(self.out))


@contextmanager
def _child(
    side: Setting, words: Sequence[str], variables: Mapping[str, str] | None = None, descriptors: Collection[int] = ()
) -> Iterator[_ChildProcess]:
    """Child process that ends with the block."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            bootstrap.command(side.python, "bench.cli.ab_child:main", str(os.getpid()), *words, root=side.bench_root),
            cwd=side.folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            env=_environ(side) | dict(variables or {}),
            pass_fds=tuple(descriptors),
            start_new_session=True,  # Ctrl-C goes to this process alone
        )
        try:
            yield _ChildProcess(process, out, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(stop_signals.heard_signal())
    try:
        process.wait(TIDY_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its ranks die with it
        process.wait()


def _environ(side: Setting) -> dict[str, str]:
    return {**environment_variables(), **dict(side.variables)}


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    return _last_line(log.read())


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
