"""Faults of ranks, processes and machines, as rows: how a run is started, what is done to it, and what it must say.

`python -m tests.support.machine_faults > results/evidence/faults/machine.md` tries them all.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests import ROOT
from tests.support.command import BENCH, SUITES, Saved, call, environ, saved

TROUBLE = str(SUITES / "trouble.py")
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
PROCESS_GROUPS = Path("/sys/fs/cgroup/pids")
HEAD = """# Faults of ranks, processes and machines

Two ranks on one machine, suite `tests/sample_suites/trouble.py`: a case before the fault, the case in which it strikes,
and one after it. Every other case has to be measured. Made by
`python -m tests.support.machine_faults > results/evidence/faults/machine.md`; `tests/run/test_machine_faults.py` holds
every row.

| fault | exit code, seconds | the case in which it struck |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    says: str = ""
    """Part of the reason of the case, or of its notes; empty: the case is measured."""
    op: str = "before"
    """Case of the suite in which it strikes."""
    code: int = 3
    prefix: Sequence[str] = ()
    """Words before the command."""
    words: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    act: Callable[[subprocess.Popen[str]], object] | None = None
    """What is done to the run once its first case is measured."""
    group: tuple[Path, str, int] | None = None
    """Control group in which the run is put: the hierarchy, a limit's file, and the limit."""
    resumes: bool = False
    """True: the run is dead afterwards, and has to be taken up again."""
    root_only: bool = False


def _in_rank(op: str, name: str, says: str = "", code: int | None = None, **more: object) -> Fault:
    code = (3 if says and not says.startswith("note: ") else 0) if code is None else code
    return Fault(name, says, op, code, **more)  # type: ignore[arg-type]


def _freeze_parent(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)


def _ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _unshared(script: str, *kinds: str) -> tuple[str, ...]:
    """Words that run a command in namespaces of its own, after a script."""
    return ("unshare", *kinds, "sh", "-c", f'{script}; exec "$@"', "sh")


FAULTS: tuple[Fault, ...] = (
    _in_rank("segfault", "a rank ends by SIGSEGV", "rank 1 on HOST was killed by SIGSEGV in phase measure"),
    _in_rank("abort", "a rank aborts", "rank 1 on HOST was killed by SIGABRT in phase measure"),
    _in_rank("system_exit", "a suite calls sys.exit(0)", "rank 1 (HOST), measure: SystemExit: 0"),
    _in_rank(
        "exit_0", "a suite ends its process with code 0", "rank 1 on HOST ended with exit code 0 in phase measure"
    ),
    _in_rank("keyboard", "a suite raises KeyboardInterrupt", "rank 1 (HOST), measure: KeyboardInterrupt"),
    _in_rank("memory_error", "a suite raises MemoryError", "rank 1 (HOST), measure: MemoryError"),
    _in_rank("recursion", "endless recursion", "rank 1 (HOST), measure: RecursionError"),
    _in_rank("stop", "a rank is stopped for good", "rank 1 gives no sign of life"),
    _in_rank("pause", "a rank is stopped for two seconds"),
    _in_rank("chatter", "a suite prints 800 kB to stdout and stderr"),
    _in_rank("closed_output", "a suite closes stdout and stderr"),
    _in_rank("lost_folder", "a suite changes to a folder, and removes it"),
    _in_rank("threads", "a suite leaves 50 threads behind"),
    _in_rank("dtype", "a suite changes torch's default type, and switches gradients off"),
    _in_rank("environment", "a suite changes OMP_NUM_THREADS and TMPDIR"),
    _in_rank(
        "hog",
        "a rank is killed for memory (control group of 1.5 GB)",
        "rank 1 on HOST was killed by SIGKILL in phase measure",
        group=(MEMORY_GROUPS, "memory.limit_in_bytes", 1_500_000_000),
    ),
    Fault("the run's process is stopped for three seconds", act=_freeze_parent, code=0),
    Fault("the run's process is killed", act=lambda run: run.kill(), code=-9, resumes=True),
    Fault("64 open files", prefix=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"), code=0),
    Fault("stacks of 1 MiB", prefix=("sh", "-c", 'ulimit -s 1024; exec "$@"', "sh"), code=0),
    Fault("files of at most 4 MB", prefix=("bash", "-c", 'ulimit -f 4000; exec "$@"', "bash"), code=0),
    Fault("one core for both ranks", prefix=("taskset", "-c", "0"), code=0),
    Fault("only a loopback interface", prefix=_unshared("ip link set lo up", "--net"), code=0, root_only=True),
    Fault(
        "the host's name cannot be resolved",
        prefix=_unshared("hostname nowhere.invalid", "--uts"),
        code=0,
        root_only=True,
    ),
    Fault(
        "a full temporary folder",
        prefix=_unshared("mount -t tmpfs -o size=8k tmpfs /mnt; dd if=/dev/zero of=/mnt/x 2>/dev/null", "--mount"),
        variables={"TMPDIR": "/mnt"},
        code=0,
        root_only=True,
    ),
    Fault(
        "/dev/shm of 64 kB",
        prefix=_unshared("mount -t tmpfs -o size=64k tmpfs /dev/shm", "--mount"),
        code=0,
        root_only=True,
    ),
    Fault(
        "a read-only home",
        prefix=_unshared("mount -t tmpfs -o ro tmpfs /mnt", "--mount"),
        variables={"HOME": "/mnt"},
        code=0,
        root_only=True,
    ),
    Fault("at most 200 threads", group=(PROCESS_GROUPS, "pids.max", 200), code=0),
)


@dataclass(frozen=True)
class Struck:
    """A run after its fault."""

    fault: Fault
    code: int
    seconds: float
    errors: str
    file: Saved

    def outcome(self) -> str:
        """Status and reason of the case in which the fault struck."""
        record = self.file.of(self.fault.op)
        return ": ".join(filter(None, [record["status"], record.get("reason") or ""]))

    def complaints(self) -> list[str]:
        """Differences from what should have happened, one text each."""
        found = []
        expected = self.fault.says.replace("HOST", socket.gethostname())
        statuses = self.file.statuses()
        wrong = {op: status for op, status in statuses.items() if op != self.fault.op and status != "ok"}
        if set(statuses) != {"before", self.fault.op, "after"} or wrong:
            found.append(f"cases: {statuses}")
        if expected and expected not in self.outcome():
            found.append(f"not {expected!r}, but {self.outcome()!r}")
        if not expected and not self.outcome().startswith("ok"):
            found.append(f"not ok: {self.outcome()}")
        if self.code != self.fault.code:
            found.append(f"exit code {self.code}")
        if "Traceback" in self.errors:
            found.append(self.errors[-1500:])
        if self.file.end is None:
            found.append("no end line")
        return found


def strike(fault: Fault, folder: Path) -> Struck:
    """Run with a fault, and take the run up again if the fault ends it."""
    cases = [word for op in dict.fromkeys(("before", fault.op, "after")) for word in ("--case", f"trouble/{op}")]
    command = [*fault.prefix, *BENCH, "run", TROUBLE, *cases, "--preset", "smoke", "--timeout", "8"]
    began = time.monotonic()
    with _limited(fault) as enter:
        run = subprocess.Popen(
            [*enter, *command, "-o", str(folder), *fault.words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(**fault.variables, PYTHONPATH=str(ROOT)),
        )
        if fault.act is not None:
            _wait_for_record(folder)
            fault.act(run)
        _, errors = run.communicate(timeout=180)
    code, seconds = run.returncode, time.monotonic() - began
    if fault.resumes:
        (path,) = folder.glob("*.jsonl")
        again = call("run", "--resume", str(path))
        assert again.returncode == 0, again.stderr
    return Struck(fault, code, seconds, errors, saved(folder))


@contextmanager
def _limited(fault: Fault) -> Iterator[tuple[str, ...]]:
    """Words that put a command into a control group with the fault's limit; the group is removed in the end."""
    if fault.group is None:
        yield ()
        return
    hierarchy, name, limit = fault.group
    group = hierarchy / f"bench-test-{time.monotonic_ns()}"
    group.mkdir()
    try:
        (group / name).write_text(str(limit))
        yield ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            group.rmdir()
        except OSError:  # its last process has not quite ended
            time.sleep(0.05)
        else:
            break


def _wait_for_record(folder: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if any('"kind":"measurement"' in path.read_text() for path in folder.glob("*.jsonl")):
            return
        time.sleep(0.05)


def main() -> int:
    """Try every fault, print a table, and return 1 if one went otherwise than it should."""
    faulty = 0
    sys.stdout.write(HEAD)
    for fault in FAULTS:
        if len(sys.argv) > 1 and not any(word in fault.name for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            struck = strike(fault, Path(folder))
        text = re.sub(r"\b[0-9]+ s\b", "N s", struck.outcome()).replace(socket.gethostname(), "HOST")
        resumed = "; taken up again: 0" if fault.resumes else ""
        sys.stdout.write(
            f"| {fault.name} | {struck.code}{resumed}, {struck.seconds:.0f} s | {text.replace('|', '/')} |\n"
        )
        sys.stdout.flush()
        for complaint in struck.complaints():
            faulty = 1
            sys.stderr.write(f"   {fault.name}: {complaint}\n")
    return faulty


if __name__ == "__main__":
    sys.exit(main())
