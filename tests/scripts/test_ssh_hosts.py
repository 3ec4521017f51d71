"""Host files and command lines of scripts/ssh_hosts.py, without a server."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measure.planning.options import RunOptions
from tests import ROOT
from tests.scripts.test_setup import script
from tests.support.command import start
from tests.support.namespaces import wait_for

host_file = script("host_file")
ssh_hosts = script("ssh_hosts")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1\nnode2\n", {"node1": 1, "node2": 1}),
        ("# of today\nnode1 slots=8  # ours\n\nnode2 slots=4 max_slots=8", {"node1": 8, "node2": 4}),
        ("node1:8\nfd00::1\n", {"node1": 8, "fd00::1": 1}),
        ("node1\nnode1\nnode2", {"node1": 2, "node2": 1}),
        ("node[08-10,12].lan", {"node08.lan": 1, "node09.lan": 1, "node10.lan": 1, "node12.lan": 1}),
    ],
)
def test_a_host_file_is_read_in_the_usual_forms(text: str, hosts: dict[str, int]) -> None:
    assert host_file.read_hosts(text, "hosts") == hosts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        ("node1\n-oProxyCommand=id", "hosts, line 2: '-oProxyCommand=id'"),
        ("node1;id", "letters, digits"),
        ("$(id)", "letters, digits"),
        ("me@node1", "letters, digits"),
        ("node1 cpu=8", "'cpu=8' is not understood"),
        ("node1 slots=0", "at least one rank"),
    ],
)
def test_other_lines_are_refused_by_number(text: str, said: str) -> None:
    with pytest.raises(host_file.HostsError, match=re.escape(said)):
        host_file.read_hosts(text, "hosts")


SSH = """#!/bin/sh
folder=$(dirname -- "$0")
while [ "$1" != -- ]; do shift; done
shift; host=$1; shift
[ ! -e "$folder/$host.down" ] || { echo "ssh: connect to host $host port 22: Connection refused" >&2; exit 255; }
exec sh -c "$*"
"""
BENCH = """#!/bin/sh
folder=$(dirname -- "$0")
printf '%s|' "$RANK" "$WORLD_SIZE" "$LOCAL_RANK" "$LOCAL_WORLD_SIZE" "$MASTER_ADDR" "$SAID" "$@" > "$folder/call$$"
echo >> "$folder/call$$"
cat "$folder/call$$" >> "$folder/calls"  # at once, since ranks run side by side
echo "out of $RANK"
echo "error of $RANK" >&2
"""
WAIT = """: > "$folder/there$RANK"
while :; do sleep 0.05; done
"""


class Ssh:
    """Stands in for ssh, which joins its words for a shell on the host, and for bench on the hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self.bench = folder / "a bench of $HOME"
        self.write(folder / "ssh", SSH)
        self.write(self.bench, BENCH)

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def start(self, hosts: str, *words: str, rest: str = "") -> subprocess.Popen[str]:
        (self.folder / "hosts").write_text(hosts)
        self.write(self.bench, BENCH + rest)
        command = [sys.executable, str(ROOT / "scripts" / "ssh_hosts.py"), str(self.folder / "hosts")]
        where = [
            "--ssh",
            shlex.quote(str(self.folder / "ssh")),
            "--bench",
            str(self.bench),
            "--folder",
            str(self.folder),
        ]
        self.processes.append(start([*command, *where, *words], launcher=True))
        return self.processes[-1]

    def call(self, hosts: str, *words: str, rest: str = "") -> tuple[int, str, str]:
        process = self.start(hosts, *words, rest=rest)
        out, errors = process.communicate(timeout=60)
        return process.returncode, out, errors

    def calls(self) -> list[str]:
        """The calls of bench, in the order of ranks."""
        path = self.folder / "calls"
        return sorted(path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    folder = tmp_path / "it's here"
    folder.mkdir()
    ssh = Ssh(folder)
    yield ssh
    for process in ssh.processes:
        process.kill()
        process.communicate()


def test_every_rank_has_its_place_and_the_words_as_they_were(ssh: Ssh) -> None:
    odd = "a'b\"c $(id) `id` *;&|>x"
    code, out, errors = ssh.call("node1 slots=2\nnode2\n", "-x", f"SAID={odd}", "--", "--label", odd)
    assert code == 0, errors
    words = f"{odd}|run|--launcher|env|--label|{odd}|"
    assert ssh.calls() == [f"0|3|0|2|node1|{words}", f"1|3|1|2|node1|{words}", f"2|3|0|1|node1|{words}"]
    assert out == "out of 0\n"
    lines = errors.splitlines()
    assert "error of 0" in lines
    assert {"node1, rank 1: error of 1", "node2, rank 2: error of 2", "node2, rank 2: out of 2"} < set(lines)


def test_a_host_that_does_not_answer_is_named_before_anything_starts(ssh: Ssh) -> None:
    (ssh.folder / "node2.down").touch()
    code, _, errors = ssh.call("node1\nnode2\n", "--")
    assert code == 2
    assert "node2 does not answer: ssh: connect to host node2 port 22: Connection refused" in errors
    assert "1 of the 2 hosts that the run needs answer; nothing was started" in errors
    assert not ssh.calls()


def test_a_host_without_bench_is_named(ssh: Ssh) -> None:
    code, _, errors = ssh.call("node1\n", "--bench", "/no/such/bench", "--")
    assert code == 2
    assert "node1 does not answer: has no /no/such/bench" in errors


def test_another_host_takes_the_place_of_a_lost_one(ssh: Ssh) -> None:
    # The second host is gone at the first call, and ssh says so.
    rest = '[ "$RANK$4" != 1--save-as ] || { touch "$folder/node2.down"; exit 255; }\n'
    rest += '[ "$4" != --save-as ] || exit 3\n'
    code, _, errors = ssh.call("node1\nnode2\nnode3\n", "--hosts", "2", "--", "--launches", "3", "-o", "r", rest=rest)
    assert (code, errors.count("lost node2; node1, node3 go on")) == (0, 1), errors
    first, second, *_ = (call.split("|")[6:-1] for call in ssh.calls())
    assert first[:4] == ["run", "--launcher", "env", "--resume"]
    assert second[:4] == ["run", "--launcher", "env", "--save-as"]
    assert first[4] == second[4]
    assert first[5:] == ["--allow-unlike"]
    assert second[5:] == ["--launches", "3"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_every_rank(ssh: Ssh, number: signal.Signals, code: int) -> None:
    rest = f'trap "echo told >> \\"$folder/calls\\"; exit 9" {number.name.removeprefix("SIG")}\n{WAIT}'
    process = ssh.start("node1\nnode2\n", "--", rest=rest)
    wait_for(lambda: all((ssh.folder / f"there{rank}").exists() for rank in (0, 1)), "both ranks run")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert ssh.calls().count("told") == 2


def test_a_killed_call_leaves_no_rank(ssh: Ssh) -> None:
    rest = 'trap "touch \\"$folder/told$RANK\\"; exit 9" TERM\n' + WAIT
    process = ssh.start("node1\nnode2\n", "--", rest=rest)
    wait_for(lambda: all((ssh.folder / f"there{rank}").exists() for rank in (0, 1)), "both ranks run")
    process.kill()
    wait_for(lambda: all((ssh.folder / f"told{rank}").exists() for rank in (0, 1)), "both ranks were told")
    process.communicate(timeout=30)


def test_what_a_resumed_run_takes_is_not_in_its_plan() -> None:
    names = {word.removeprefix("--").replace("-", "_") for word in ssh_hosts.KEPT}
    fields = set(RunOptions.__dataclass_fields__)
    assert names <= fields
    assert not names & {*RunOptions.PLAN_OPTIONS, "output"}
    assert not [
        name for name in names if f"--{name.replace('_', '-')}" not in (ROOT / "scripts" / "slurm.sh").read_text()
    ]


def test_the_arguments_are_split_for_a_run_that_may_be_resumed() -> None:
    new, again = ssh_hosts.resumable(
        ["--preset", "full", "-o", "my results", "--device=cpu", "--busy", "--launches", "3"]
    )
    assert new[0] == "--save-as"
    assert new[1].startswith("my results/ssh-")
    assert new[2:] == ["--preset", "full", "--device=cpu", "--busy", "--launches", "3"]
    assert again == ["--resume", new[1], "--device=cpu", "--busy"]
    assert ssh_hosts.resumable(["--resume", "last"]) == (["--resume", "last"], ["--resume", "last"])


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "ssh_hosts.py"), str(tmp_path / "none")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot read" in done.stderr
