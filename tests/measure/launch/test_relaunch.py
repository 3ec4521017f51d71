"""The orders of a joined rank to itself, and the process that takes its place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.measure.launch.relaunch import Continuation, without_orders
from tests import ROOT

CHILD = """
import json, os, signal, socket, sys
from bench.measure.launch import relaunch
from bench.measure.launch.relaunch import Continuation, run_again
from bench.measure.launchers.place import LauncherRank
given = Continuation.from_text(None)
plain = socket.socket()
left_open = os.dup2(plain.fileno(), 40)  # inheritable, as sockets and devices of C++ code are
relaunch.bootstrap.command = lambda *words: [sys.executable, "-c", sys.argv[2], *words[2:]]
joined = LauncherRank("env", 0, 2, 0, "node0", 1234, False, "0")
print(json.dumps({"pid": os.getpid(), "left_open": left_open, "inherited": list(given.inherited)}), flush=True)
run_again(joined, ["run", "tiny", "--continuation", "old"], given, None, 12.5)
"""
SUCCESSOR = """
import json, os, signal, sys
held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
print(json.dumps({
    "pid": os.getpid(), "words": sys.argv[1:], "fds": sorted(map(int, os.listdir("/proc/self/fd"))),
    "term_is_held": signal.SIGTERM in held, "address": os.environ["MASTER_ADDR"], "port": os.environ["MASTER_PORT"],
}))
"""


@pytest.fixture(scope="module")
def both() -> tuple[dict[str, object], dict[str, object]]:
    """Facts of a process before and after it made way for the next launch."""
    with socket.socket() as given:
        given.set_inheritable(True)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(given.fileno()), SUCCESSOR],
            capture_output=True,
            text=True,
            timeout=60,
            pass_fds=(given.fileno(),),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        before, after = map(json.loads, done.stdout.splitlines())
        return {**before, "given": given.fileno()}, after


def test_the_process_id_stays_so_that_the_launcher_goes_on_watching(
    both: tuple[dict[str, object], dict[str, object]],
) -> None:
    assert both[0]["pid"] == both[1]["pid"]


def test_what_the_launcher_gave_is_kept_and_all_else_is_closed(
    both: tuple[dict[str, object], dict[str, object]],
) -> None:
    before, after = both
    assert before["inherited"] == [before["given"]]
    fds = after["fds"]
    assert isinstance(fds, list)
    assert before["given"] in fds
    assert before["left_open"] not in fds


def test_the_words_are_the_same_but_for_the_orders(both: tuple[dict[str, object], dict[str, object]]) -> None:
    words = both[1]["words"]
    assert isinstance(words, list)
    assert words[:-1] == ["run", "tiny", "--continuation"]
    orders = Continuation.from_text(str(words[-1]))
    assert (orders.number, orders.held, orders.began) == (1, None, 12.5)


def test_signals_wait_for_the_successor_and_the_address_is_known(
    both: tuple[dict[str, object], dict[str, object]],
) -> None:
    after = both[1]
    assert after["term_is_held"] is True
    assert (after["address"], after["port"]) == ("node0", "1234")


def test_orders_survive_their_text() -> None:
    orders = Continuation(2, "results/a b.jsonl", 1.5, (7,))
    assert Continuation.from_text(orders.to_text()) == orders


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"number": 1, "inherited": 3}', '{"inherited": [], "other": 1}'])
def test_words_that_are_no_orders_are_refused(text: str) -> None:
    with pytest.raises(BenchError, match="--continuation"):
        Continuation.from_text(text)


def test_the_first_process_has_no_orders() -> None:
    assert Continuation.from_text(None).number == 0
    assert Path("/proc/self/fd").is_dir()


def test_a_file_has_the_words_of_the_user_alone() -> None:
    assert without_orders(["run", "tiny", "--continuation", "{}", "-o", "x"]) == ["run", "tiny", "-o", "x"]
    assert without_orders(["run", "tiny"]) == ["run", "tiny"]
