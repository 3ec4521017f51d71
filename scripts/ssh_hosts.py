"""One run on the hosts of a file, over ssh: for clusters without a scheduler.

    .venv/bin/python scripts/ssh_hosts.py HOSTFILE [OPTION]... -- [ARGUMENTS of `bench run`]
    .venv/bin/python scripts/ssh_hosts.py hosts.txt --ranks-per-host 8 -- --preset full -o /shared/results
    .venv/bin/python scripts/ssh_hosts.py hosts.txt --hosts 4 -- --launches 3  # the others are spare

The file has a host per line, as for mpirun or pdsh: `node1`, `node1 slots=8`, `node1:8` or `node[1-4]`. Each host needs
the same bench at the same path, and ssh must log in without a question. All hosts are asked first, so that one that
does not answer is named before anything starts (exit code 2). Rank 0 runs on the first host. Its output is shown as it
is; lines of other ranks begin with their host. MASTER_ADDR and MASTER_PORT in the environment name rank 0's address if
the other hosts know the first one under another name.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO

from host_file import HostsError, read_hosts

ROOT = Path(__file__).resolve().parent.parent
SSH_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3")
SSH_FAILED = 255
USAGE, PARTIAL = 2, 3
ANSWER_SECONDS = 30.0
GRACE_SECONDS = 30.0
"""Time between the first bad end of a rank and the end of the others: they find out, and rank 0 reports."""
FAREWELL_SECONDS = 15.0
"""Time that ranks have to end after a signal."""
KEPT = {"--device": 1, "--against": 1, "--join-timeout": 1, "--allow-unlike": 0, "--busy": 0, "--profile": 0}
"""Options that a resumed run takes, with their number of values; the others are in the plan of its file."""
RANK_SCRIPT = (
    'cd -- "$1" || exit 2; shift; rank=$$; exec 3<&0; '
    '(while read -r name; do kill -s "$name" "$rank"; done; kill -s TERM "$rank") <&3 >/dev/null 2>&1 & '
    'exec 3<&-; exec env "$@" </dev/null'
)
"""A rank, and beside it a reader of ssh's input: names of signals, and at its end SIGTERM. ssh itself ends no command
whose connection is gone."""


@dataclass(frozen=True)
class Settings:
    """How to reach the hosts, and what to call there."""

    ssh: tuple[str, ...]
    bench: str
    folder: str
    variables: tuple[str, ...]
    """`NAME=VALUE` for every rank."""

    def command(self, host: str, *words: str) -> list[str]:
        """ssh's words for a command on a host."""
        options = [word for option in SSH_OPTIONS for word in ("-o", option)]
        return [*self.ssh, "-T", *options, "--", host, shlex.join(words)]


@dataclass
class Rank:
    """A rank on its host."""

    index: int
    host: str
    process: subprocess.Popen[str]
    code: int | None = field(default=None, init=False)

    def signal(self, name: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()

    def pass_on(self, stream: IO[str]) -> None:
        """Show the lines of a rank that is not rank 0."""
        for line in stream:
            write_line(f"{self.host}, rank {self.index}: {line.rstrip()}")


Event = int | signal.Signals
"""The index of a rank that ended, or a signal to this program."""


def find_answering(hosts: Sequence[str], settings: Settings) -> dict[str, str | None]:
    """Ask every host; None: it answers and has bench, else the reason."""
    with ThreadPoolExecutor(max_workers=min(64, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(lambda host: _ask(host, settings), hosts), strict=True))


def _ask(host: str, settings: Settings) -> str | None:
    words = settings.command(host, "sh", "-c", 'cd -- "$1" && command -v "$2"', "sh", settings.folder, settings.bench)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {ANSWER_SECONDS:g} s"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return said[-1].strip() if said else f"has no {settings.bench} (--bench names another)"


def rank_command(
    settings: Settings, hosts: dict[str, int], host: str, local: int, arguments: Sequence[str]
) -> list[str]:
    """ssh's words for one rank of a run on `hosts`."""
    names = list(hosts)
    index = sum(hosts[name] for name in names[: names.index(host)]) + local
    variables = {
        "RANK": index,
        "WORLD_SIZE": sum(hosts.values()),
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": hosts[host],
        "MASTER_ADDR": os.environ.get("MASTER_ADDR") or names[0],
        "MASTER_PORT": os.environ.get("MASTER_PORT") or "29500",
    }
    given = [*settings.variables, *(f"{name}={value}" for name, value in variables.items())]
    bench = [settings.bench, "run", "--launcher", "env", *arguments]
    return settings.command(host, "sh", "-c", RANK_SCRIPT, "sh", settings.folder, *given, *bench)


class Run:
    """The ranks of one run, from their start to their end."""

    def __init__(self, settings: Settings, hosts: dict[str, int], arguments: Sequence[str]) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.stopped: signal.Signals | None = None
        self._previous = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        self.ranks: list[Rank] = []
        self._readers: list[threading.Thread] = []
        for host, slots in hosts.items():
            for local in range(slots):
                self._start(host, rank_command(settings, hosts, host, local, arguments))

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.events.put(signal.Signals(number))

    def _start(self, host: str, command: Sequence[str]) -> None:
        index = len(self.ranks)
        piped = None if index == 0 else subprocess.PIPE
        # In a session of its own: Ctrl-C goes to the ranks by way of this program, which waits for their report.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=piped, stderr=piped, text=True, start_new_session=True
        )
        rank = Rank(index, host, process)
        self.ranks.append(rank)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self._readers.append(threading.Thread(target=rank.pass_on, args=(stream,), daemon=True))
                self._readers[-1].start()
        threading.Thread(target=self._wait, args=(rank,), daemon=True).start()

    def _wait(self, rank: Rank) -> None:
        rank.code = rank.process.wait()
        self.events.put(rank.index)

    def finish(self) -> int:
        """Wait for all ranks, ending those that outlive a bad end of another; returns the exit code."""
        ends: float | None = None
        signalled = False
        while any(rank.code is None for rank in self.ranks):
            try:
                event = self.events.get(timeout=None if ends is None else max(0.0, ends - time.monotonic()))
            except Empty:
                self._stop(signal.SIGTERM, at_once=signalled)
                signalled, ends = True, time.monotonic() + FAREWELL_SECONDS
                continue
            if isinstance(event, signal.Signals):
                self._stop(event, at_once=self.stopped is not None)
                self.stopped = self.stopped or event
                signalled, ends = True, time.monotonic() + FAREWELL_SECONDS
            elif self.ranks[event].code != 0 and ends is None:
                ends = time.monotonic() + GRACE_SECONDS
        for reader in self._readers:
            reader.join(timeout=1.0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        return self._exit_code()

    def _stop(self, number: signal.Signals, at_once: bool) -> None:
        for rank in self.ranks:
            if rank.code is None and at_once:
                rank.process.kill()  # with the connection its rank ends too
            elif rank.code is None:
                rank.signal("INT" if number == signal.SIGINT else "TERM")

    def _exit_code(self) -> int:
        if self.stopped is not None:
            return 128 + self.stopped
        codes = [rank.code or 0 for rank in self.ranks]
        bad = next((code for code in codes if code), 0)
        return PARTIAL if bad < 0 or bad == SSH_FAILED else bad


def resumable(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of a run whose file is known, and those with which it is resumed. Raises HostsError."""
    if any(word.partition("=")[0] == "--resume" for word in words):
        return list(words), list(words)
    new: list[str] = []
    kept: list[str] = []
    folder, rest = "results", list(words)
    while rest:
        name, equals, value = rest[0].partition("=")
        taken = 1 + (0 if equals else KEPT.get(name, 1 if name in ("-o", "--output") else 0))
        words, rest = rest[:taken], rest[taken:]
        if name in ("-o", "--output"):
            if not equals and len(words) < taken:
                raise HostsError(f"{name}: a folder")
            folder = value if equals else words[1]
        else:
            new += words
            kept += words if name in KEPT else []
    file = f"{folder}/ssh-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl"
    return ["--save-as", file, *new], ["--resume", file, *kept]


def run(hosts: dict[str, int], needed: int, settings: Settings, words: Sequence[str]) -> int:
    """Make the run on the first hosts that answer; goes on with others if one is lost. Raises HostsError."""
    silent = {host: reason for host, reason in find_answering(list(hosts), settings).items() if reason is not None}
    for host, reason in silent.items():
        say(f"{host} does not answer: {reason}")
    left = [host for host in hosts if host not in silent]
    if len(left) < needed:
        raise HostsError(f"{len(left)} of the {needed} hosts that the run needs answer; nothing was started")
    arguments, again = resumable(words) if needed < len(hosts) else (list(words), list(words))
    while True:
        used = {host: hosts[host] for host in left[:needed]}
        attempt = Run(settings, used, arguments)
        code = attempt.finish()
        if code == 0 or attempt.stopped is not None:
            return code
        lost = [host for host, reason in find_answering(list(used), settings).items() if reason is not None]
        if not lost:
            return code
        left = [host for host in left if host not in lost]
        if len(left) < needed:
            say(f"lost {', '.join(lost)}; {len(left)} of the {needed} hosts that the run needs are left")
            return PARTIAL
        say(f"lost {', '.join(lost)}; {', '.join(left[:needed])} go on")
        arguments = [*again, "--allow-unlike"]


def say(text: str) -> None:
    write_line(f"ssh_hosts: {text}")


def write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # at once, since each rank has a thread that writes
    sys.stderr.flush()


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ssh_hosts.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hostfile", metavar="HOSTFILE", type=Path)
    parser.add_argument("--ranks-per-host", type=int, metavar="N", help="on every host, whatever the file says")
    parser.add_argument("--hosts", type=int, metavar="N", help="hosts to use; the file's others are spare")
    parser.add_argument(
        "-x", dest="variables", action="append", default=[], metavar="NAME[=VALUE]", help="a variable for every rank"
    )
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="ssh and its options, such as 'ssh -l me'")
    parser.add_argument(
        "--bench",
        default=os.environ.get("BENCH") or str(ROOT / ".venv" / "bin" / "bench"),
        help="its path on the hosts",
    )
    parser.add_argument("--folder", default=str(Path.cwd()), help="folder to work in on the hosts; default: this one")
    return parser.parse_args(words)


def variable(text: str) -> str:
    """`NAME=VALUE` of a variable for the ranks. Raises HostsError."""
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise HostsError(f"-x {text}: NAME or NAME=VALUE")
    if not equals and name not in os.environ:
        raise HostsError(f"-x {name}: is not set here; say -x {name}=VALUE")
    return f"{name}={value if equals else os.environ[name]}"


def main(words: list[str]) -> int:
    own, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options = parse(own)
    try:
        try:
            hosts = read_hosts(options.hostfile.read_text(), str(options.hostfile))
        except OSError as error:
            raise HostsError(f"cannot read {options.hostfile}: {error.strerror}") from error
        if options.ranks_per_host is not None and options.ranks_per_host < 1:
            raise HostsError(f"--ranks-per-host {options.ranks_per_host}: at least 1")
        hosts = {host: options.ranks_per_host or slots for host, slots in hosts.items()}
        needed = len(hosts) if options.hosts is None else options.hosts
        if not 1 <= needed <= len(hosts):
            raise HostsError(f"--hosts {needed}: {options.hostfile} names {len(hosts)}")
        variables = tuple(variable(text) for text in options.variables)
        try:
            ssh = tuple(shlex.split(options.ssh))
        except ValueError as error:
            raise HostsError(f"--ssh {options.ssh}: {error}") from error
        settings = Settings(ssh, options.bench, options.folder, variables)
        return run(hosts, needed, settings, arguments)
    except HostsError as error:
        say(str(error))
        return USAGE
    except KeyboardInterrupt:  # nothing runs yet, or nothing any more
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
