"""Signals in processes of their own: the first ends the work, the others do not disturb the tidying up."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests import ROOT

HEAD = """
import os, signal, sys
from bench.core.process import stop_signals
from bench.core.process.stop_signals import Stopped, deferred
def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
stop_signals.listen()
"""
RAISED = """
try:
    send(NUMBER)
    print("not reached")
except KeyboardInterrupt as error:
    send(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGINT)
    print(type(error).__name__, error, stop_signals.handle())
"""
DEFERRED = """
try:
    with deferred():
        with deferred():
            send(NUMBER)
        print("inner")
    print("not reached")
except Stopped:
    with deferred():
        print("tidied", stop_signals.handle())
    stop_signals.check()
    print("end")
"""
CHECKED = """
try:
    with deferred():
        send(NUMBER)
        print("before")
        stop_signals.check()
        print("not reached")
except Stopped as error:
    print("heard", error.number == NUMBER)
"""
SWALLOWED = """
try:
    send(NUMBER)
except BaseException:
    pass  # a library does so
try:
    stop_signals.check()
except Stopped:
    print("again")
"""
ERROR = """
try:
    with deferred():
        send(NUMBER)
        raise ValueError("its own")
except ValueError as error:
    print(error)
"""
OVER = """
stop_signals.ignore()
send(NUMBER, NUMBER)
print("still here")
"""
SCRIPTS = {
    "raised": (RAISED, "Stopped SIGNAME CODE"),
    "deferred": (DEFERRED, "inner\ntidied CODE\nend"),
    "checked": (CHECKED, "before\nheard True"),
    "swallowed": (SWALLOWED, "again"),
    "error": (ERROR, "its own"),
    "over": (OVER, "still here"),
}


def run(text: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", HEAD + text]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_first_signal_counts(name: str, number: signal.Signals) -> None:
    text, said = SCRIPTS[name]
    done = run(text.replace("NUMBER", f"signal.{number.name}"))
    assert done.stderr == ""
    assert done.stdout.strip() == said.replace("SIGNAME", number.name).replace("CODE", str(128 + number))
    assert done.returncode == 0


def test_a_signal_that_the_caller_has_ignored_stays_so() -> None:
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    done = run("send(signal.SIGHUP)\nprint('goes on')", preexec_fn=nohup)
    assert done.stdout == "goes on\n"


def test_a_signal_of_a_process_that_is_waited_for_counts_as_one_s_own() -> None:
    done = run("print(stop_signals.handle(Stopped(signal.SIGTERM)), stop_signals.heard_signal())")
    assert done.stdout == "143 15\n"
    assert run("print(stop_signals.heard_signal(), stop_signals.handle())").stdout == "2 130\n"
