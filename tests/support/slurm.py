"""A Slurm for tests: a controller, and one node daemon per host of `tests.support.namespaces`.

Everything of it lies in one folder and runs on those hosts, so that this machine's own Slurm, munge and files are not
touched. Tried with Debian's slurm-wlm 22.05.8.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.namespaces import GATEWAY, Hosts, hosts_or_skip, wait_for

NODES = ("node1", "node2", "node3", "node4")
TOOLS = ("slurmctld", "slurmd", "srun", "munged")
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={gateway}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/controller.pid
SlurmctldLogFile={folder}/controller.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=8
KillWait=5
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""A node counts as lost after 8 s of silence, and a step that is ended has 5 s to tidy up."""


class Slurm:
    """Nodes and a controller; commands run on the controller's host."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self._crashed: set[str] = set()
        self.configuration = folder / "slurm.conf"
        lines = (f"NodeName={n} NodeAddr={hosts.addresses[n]} CPUs=4 RealMemory=1000 State=UNKNOWN" for n in NODES)
        self.configuration.write_text(
            CONFIGURATION.format(
                gateway=GATEWAY, address=hosts.addresses[GATEWAY], folder=folder, nodes="\n".join(lines)
            )
        )

    def open(self) -> None:
        """Start the daemons; returns once all nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        (self.folder / "state").mkdir()
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        self.hosts.check(GATEWAY, "mkdir", "/run/munge")
        self.hosts.check(GATEWAY, "munged", "--force", "--socket=/run/munge/munge.socket.2", *files)
        self.hosts.check(GATEWAY, "slurmctld", "-f", str(self.configuration))
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle()

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self.hosts.check(node, "slurmd", "-f", str(self.configuration), "-N", node)

    def crash(self, node: str) -> None:
        """End a node's daemon and all its tasks at once; the controller is not told."""
        self.hosts.crash(node)
        self._crashed.add(node)

    def mend(self) -> None:
        """End all jobs, start the daemons that are gone, and wait until all nodes are idle."""
        self.call("scancel", "--user=root")
        while self._crashed:
            self.start_node(self._crashed.pop())
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        wait_for(lambda: set(self.states().values()) == {"idle"}, "all nodes are idle")

    def states(self) -> dict[str, str]:
        """State of each node, as `sinfo` says it."""
        lines = self.call("sinfo", "--noheader", "--Node", "--format=%N %T").stdout.splitlines()
        return dict(line.split() for line in lines)

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol` says of a job."""
        text = self.call("scontrol", "show", "job", job).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def submit(self, *words: str, **variables: str) -> str:
        """Submit a batch job; returns its number."""
        done = self.call("sbatch", "--parsable", *words, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_for_job(self, job: str, *states: str, seconds: float = 120.0) -> dict[str, str]:
        """Wait for a job to be in one of the states, and say all of it."""
        wait_for(lambda: self.job(job)["JobState"] in states, f"job {job} is {' or '.join(states)}", seconds)
        return self.job(job)

    def call(self, *words: str, timeout_seconds: float = 120.0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self.hosts.call(
            GATEWAY, *words, timeout_seconds=timeout_seconds, SLURM_CONF=str(self.configuration), **variables
        )

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A command whose output is read later."""
        return self.hosts.start(GATEWAY, *words, SLURM_CONF=str(self.configuration), **variables)


@contextmanager
def slurm_or_skip(folder: Path) -> Iterator[Slurm]:
    """A Slurm whose nodes are idle; skips the test if something that it needs is missing."""
    with hosts_or_skip(NODES, folder, *TOOLS) as hosts:
        slurm = Slurm(hosts, folder)
        slurm.open()
        yield slurm
