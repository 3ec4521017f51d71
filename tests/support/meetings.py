"""Ways in which joined ranks do not meet, as rows: how each rank is started, and what each must say.

`python -m tests.support.meetings > results/evidence/meetings.md` runs them all, and writes how long each took.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import ROOT
from tests.support.command import BENCH, SUITES, environ

LIMIT_SECONDS = 6.0
TINY = str(SUITES / "tiny.py")
UNRULY = str(SUITES / "unruly_import.py")


HEAD = f"""# Ways of not meeting

Joined ranks on one machine that do not meet, do not agree or are interrupted: seconds from the start of each process to
its end, and the line of its error. The limit (`--join-timeout`) is {LIMIT_SECONDS:g} s here, 120 s by default. Made by
`python -m tests.support.meetings > results/evidence/meetings.md`; `tests/run/test_run_meetings.py` holds every row, and
`tests/run/test_meetings_on_hosts.py` tries more on several hosts.

| way | seconds per process | error |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class Starting:
    """One rank: its variables, words after `bench run`, and the source that it runs."""

    variables: Mapping[str, str]
    words: tuple[str, ...] = (TINY,)
    source: str = ""
    """Change of a copy of the source: text that is put at the end of a file of it, as `FILE: TEXT`."""


@dataclass(frozen=True)
class Way:
    """A way of not meeting."""

    name: str
    ranks: Sequence[Starting]
    says: Sequence[str | None]
    """Part of the last line of each rank's stderr; None: it says nothing of it, since rank 0 does."""
    waits: bool = False
    """True if only the limit ends it."""
    port_taken: bool = False
    """True: another program listens on the port, and says nothing."""
    signal: int | None = None
    """Signal to rank 0 once it waits."""
    code: int = 2


def _plain(rank: int, size: int = 2, **more: str) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(size), **more}


def _pair(*, second: Mapping[str, str] | None = None, words: tuple[str, ...] = (TINY,), **more: str) -> list[Starting]:
    """Two ranks with the same further variables, but for those of the second."""
    return [Starting(_plain(0, **more), words), Starting({**_plain(1, **more), **(second or {})}, words)]


def _changed(source: str) -> list[Starting]:
    return [Starting(_plain(0)), Starting(_plain(1), source=source)]


WAYS: tuple[Way, ...] = (
    Way("a rank is not started", [Starting(_plain(0))], ["1 of 2 ranks came within 6 s; missing: rank 1;"], waits=True),
    Way(
        "rank 0 is not started",
        [Starting(_plain(1))],
        ["rank 1: rank 0 did not come within 6 s: 127.0.0.1:<port>: refused: the host is there"],
        waits=True,
    ),
    Way(
        "a node of two is not started",
        [Starting(_plain(r, 4, LOCAL_RANK=str(r), LOCAL_WORLD_SIZE="2")) for r in (0, 1)],
        ["2 of 4 ranks came within 6 s; missing: rank 2, 3;", None],
        waits=True,
    ),
    Way(
        "two world sizes",
        [Starting(_plain(0, 2)), Starting(_plain(1, 3))],
        ["has a world size of 2, rank 1 on HOST one of 3", "has a world size of 2, rank 1 on HOST one of 3"],
    ),
    Way(
        "two processes are rank 0",
        [Starting(_plain(0)), Starting(_plain(0))],
        ["two processes are rank 0: process", "two processes are rank 0: process"],
    ),
    Way(
        "two processes are rank 1",
        [Starting(_plain(0, 3)), Starting(_plain(1, 3)), Starting(_plain(1, 3))],
        ["two processes are rank 1: process"] * 3,
    ),
    Way(
        "a rank beyond the world size",
        [Starting(_plain(2)), Starting(_plain(5))],
        ["RANK=2", "RANK=5"],
    ),
    Way("MASTER_PORT out of range", _pair(MASTER_PORT="99999"), ["MASTER_PORT=99999: 1 to 65535"] * 2),
    Way("MASTER_PORT is no number", _pair(MASTER_PORT="tcp"), ["MASTER_PORT='tcp'"] * 2),
    Way(
        "another program holds MASTER_PORT",
        _pair(),
        ["MASTER_PORT=<port> is taken on HOST by python", "127.0.0.1:<port>: it accepts connections, and no store"],
        port_taken=True,
        waits=True,
    ),
    Way("MASTER_ADDR is a node list", _pair(MASTER_ADDR="node[01-02]"), ["MASTER_ADDR=node[01-02] is a list"] * 2),
    Way("MASTER_ADDR has several hosts", _pair(MASTER_ADDR="node1,node2"), ["MASTER_ADDR=node1,node2 is a list"] * 2),
    Way("MASTER_ADDR has a port", _pair(MASTER_ADDR="node1:29500"), ["MASTER_ADDR=node1:29500"] * 2),
    Way("MASTER_ADDR is a URL", _pair(MASTER_ADDR="tcp://node1"), ["MASTER_ADDR=tcp://node1"] * 2),
    Way("MASTER_ADDR is empty", _pair(MASTER_ADDR=""), ["MASTER_ADDR"] * 2),
    Way(
        "MASTER_ADDR cannot be resolved",
        _pair(MASTER_ADDR="node1.invalid"),
        ["MASTER_ADDR=node1.invalid: HOST cannot resolve the name"] * 2,
    ),
    Way(
        "MASTER_ADDR leads nowhere",
        [Starting(_plain(1, MASTER_ADDR="240.0.0.1"))],
        ["rank 1: rank 0 did not come within 6 s: 240.0.0.1:<port>: "],
        waits=True,
    ),
    Way(
        "MASTER_ADDR is not set",
        [Starting({**_plain(0), "MASTER_ADDR": "-"}), Starting({**_plain(1), "MASTER_ADDR": "-"})],
        ["RANK=0 and WORLD_SIZE=2 without MASTER_ADDR", "RANK=1 and WORLD_SIZE=2 without MASTER_ADDR"],
    ),
    Way(
        "an interface that does not exist",
        _pair(second={"GLOO_SOCKET_IFNAME": "eth77"}),
        ["rank 1 on HOST: GLOO_SOCKET_IFNAME=eth77", None],
    ),
    Way(
        "a variable differs",
        _pair(NCCL_ALGO="Ring", second={"NCCL_ALGO": "Tree"}),
        ["rank 1 on HOST has NCCL_ALGO=Tree; rank 0 on HOST has NCCL_ALGO=Ring", None],
    ),
    Way(
        "an option differs",
        [Starting(_plain(0), (TINY, "--seed", "1")), Starting(_plain(1), (TINY, "--seed", "2"))],
        ["rank 1 on HOST was given seed 2; rank 0 on HOST was given seed 1", None],
    ),
    Way(
        "other suites are asked for",
        [Starting(_plain(0), (TINY, "--set", "op=first")), Starting(_plain(1), (TINY, "--set", "op=last"))],
        ["rank 1 on HOST was given settings op=last", None],
    ),
    Way(
        "another version",
        _changed('bench/__init__.py: __version__ = "9.9.9"'),
        ["rank 1 on HOST has bench 9.9.9", None],
    ),
    Way("other code of the engine", _changed("bench/core/clock.py: # changed"), ["has other code of bench", None]),
    Way(
        "other code of a suite",
        [
            Starting(_plain(0), ("collective",)),
            Starting(_plain(1), ("collective",), "suites/collective.py: CHANGED = 1"),
        ],
        ["has other code of suite collective", None],
    ),
    Way(
        "a suite fails on one rank",
        _pair(words=(UNRULY,), second={"UNRULY": "raise"}),
        ["rank 1 on HOST: suite", None],
    ),
    Way(
        "a rank is killed once it has come",
        _pair(words=(UNRULY,), second={"UNRULY": "die"}),
        ["rank 1 on HOST came and has said nothing since", ""],
        waits=True,
    ),
    Way(
        "a rank hangs once it has come",
        _pair(words=(UNRULY,), second={"UNRULY": "hang"}),
        ["rank 1 on HOST came and has said nothing since", None],
        waits=True,
    ),
    Way("rank 0's own mistake", _pair(words=(TINY, "--visits", "0")), ["--visits 0: at least 1", None]),
    Way(
        "SIGTERM while the ranks meet",
        [Starting(_plain(0))],
        ["interrupted while the ranks met: 1 of 2 ranks; waiting for rank 1"],
        signal=signal.SIGTERM,
        code=143,
    ),
    Way("PALS", [Starting({"PALS_RANKID": "0", "PALS_LOCAL_RANKID": "0", "PMI_SIZE": "2"})], ["mpiexec (PALS)"]),
    Way("Flux", [Starting({"FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "2", "FLUX_TASK_LOCAL_ID": "0"})], ["flux run"]),
    Way("Intel MPI", [Starting({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "I_MPI_MPIRUN": "mpirun"})],
        ["Intel MPI"]),
)  # fmt: skip


@dataclass
class Outcome:
    """End of one rank."""

    code: int
    errors: str
    seconds: float

    @property
    def complaint(self) -> str:
        """The line of the error, without its head; empty if there is none."""
        lines = [line for line in self.errors.splitlines() if line.startswith("bench: error: ")]
        return lines[-1].removeprefix("bench: error: ") if lines else ""


@dataclass
class Trial:
    """A way as it went."""

    way: Way
    port: int
    outcomes: list[Outcome] = field(default_factory=list)

    def expected(self, rank: int) -> str | None:
        """Text that a rank's complaint must have; None: it has none."""
        text = self.way.says[rank]
        return text and text.replace("HOST", socket.gethostname()).replace("<port>", str(self.port))

    def faults(self) -> list[str]:
        """Differences from what should have happened, one text each."""
        found = []
        for number, outcome in enumerate(self.outcomes):
            text = self.expected(number)
            if text is None and outcome.complaint:
                found.append(f"process {number} said {outcome.complaint}")
            if text and text not in outcome.complaint:
                found.append(f"process {number} did not say {text!r}, but {outcome.errors[-500:]!r}")
            if outcome.code != self.way.code and not (text == "" and outcome.code < 0):
                found.append(f"process {number} ended with {outcome.code}")
            if "Traceback" in outcome.errors or "frame #" in outcome.errors:
                found.append(f"process {number} printed a traceback: {outcome.errors[-1500:]}")
        return found


def try_way(way: Way, folder: Path) -> Trial:
    """Start the ranks of a way, and see how each ends."""
    with _occupied() if way.port_taken else contextlib.nullcontext(free_port()) as port:
        began, limit = time.monotonic(), f"{LIMIT_SECONDS:g}s"
        running = []
        for starting in way.ranks:
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            plain = {} if "RANK" not in starting.variables else address
            variables = {name: text for name, text in {**plain, **starting.variables}.items() if text != "-"}
            command = [*BENCH, "run", *starting.words, "--preset", "smoke", "--join-timeout", limit, "-o", str(folder)]
            root = _source(starting.source, folder)
            running.append(_start(command, variables, root))
        if way.signal is not None:
            _wait_for(running[0][1], "waiting for")
            running[0][0].send_signal(way.signal)
        trial = Trial(way, port)
        for process, errors in running:
            code = process.wait(timeout=90)
            trial.outcomes.append(Outcome(code, errors.read_text(), time.monotonic() - began))
        return trial


def _start(command: Sequence[str], variables: Mapping[str, str], root: Path) -> tuple[subprocess.Popen[bytes], Path]:
    errors = Path(tempfile.mkstemp(suffix=".err")[1])
    with errors.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=stream, env=environ(**variables, PYTHONPATH=str(root)), cwd="/"
        )
    return process, errors


def _wait_for(errors: Path, text: str) -> None:
    ends = time.monotonic() + 60
    while text not in errors.read_text() and time.monotonic() < ends:
        time.sleep(0.05)


def _source(change: str, folder: Path) -> Path:
    """The folder of the source, or of a changed copy of it."""
    if not change:
        return ROOT
    name, _, text = change.partition(": ")
    copy = folder / "other source"
    for package in ("bench", "suites"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    with (copy / name).open("a") as file:
        file.write(f"\n{text}\n")
    return copy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _occupied() -> Iterator[int]:
    """A port on which a program listens that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def main() -> int:
    """Try every way, print a table of it, and return 1 if one ended otherwise than it should."""
    faulty = 0
    sys.stdout.write(HEAD)
    for way in WAYS:
        if len(sys.argv) > 1 and not any(word in way.name for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            trial = try_way(way, Path(folder))
        seconds = ", ".join(f"{outcome.seconds:.1f}" for outcome in trial.outcomes)
        texts = " / ".join(dict.fromkeys(outcome.complaint for outcome in trial.outcomes if outcome.complaint))
        texts = texts.replace(socket.gethostname(), "HOST").replace(str(trial.port), "PORT")
        texts = re.sub(r"process \d+", "process N", texts).replace(f"{ROOT}/", "").replace("|", "\\|")
        sys.stdout.write(f"| {way.name} | {seconds} | {texts} |\n")
        sys.stdout.flush()
        for fault in trial.faults():
            faulty = 1
            sys.stderr.write(f"   fault: {fault}\n")
    return faulty


if __name__ == "__main__":
    sys.exit(main())
