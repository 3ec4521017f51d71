"""Calls the real command in a process of its own, as a user does, and reads the file it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import ROOT

SUITES = ROOT / "tests" / "sample_suites"
FAULTY = str(SUITES / "faulty.py")
BENCH = (sys.executable, "-P", "-m", "bench")
TORCHRUN = (sys.executable, "-P", "-m", "torch.distributed.run")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup does the same with a hang-up
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
LAUNCHER_PREFIXES = ("SLURM_", "OMPI_", "PMI_", "PMIX_", "MPI_LOCAL", "PALS_", "FLUX_")


def environ(**variables: str) -> dict[str, str]:
    """This process's environment without a launcher's traces, plus some variables."""
    clean = {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES and not k.startswith(LAUNCHER_PREFIXES)}
    return clean | variables


def call(*arguments: str, timeout_seconds: float = 120.0, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *arguments], capture_output=True, text=True, timeout=timeout_seconds, env=environ(**variables)
    )


def start(command: Sequence[str], launcher: bool = False, **variables: str) -> subprocess.Popen[str]:
    """A process whose output is read later; `launcher` puts it in a session of its own, as a terminal would."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(**variables),
        start_new_session=launcher,
    )


@dataclass(frozen=True)
class Saved:
    """The lines of a result file, by kind."""

    path: Path
    header: dict[str, Any]
    measurements: list[dict[str, Any]]
    resumes: list[dict[str, Any]]
    end: dict[str, Any] | None
    met: list[dict[str, Any]]
    """Lines that a joined run writes once its ranks have met."""

    def ranks(self) -> list[dict[str, Any]]:
        """Facts of every rank."""
        environments = [line["environment"] for line in (*self.met, self.header) if line["environment"].get("ranks")]
        found: list[dict[str, Any]] = environments[0]["ranks"]
        return found

    def of(self, op: str) -> dict[str, Any]:
        """The only measurement of an operation."""
        (found,) = [m for m in self.measurements if m["params"].get("op") == op]
        return found

    def statuses(self) -> dict[str, str]:
        return {m["params"]["op"]: m["status"] for m in self.measurements}


def saved(folder: Path) -> Saved:
    """The only result file in a folder, without visits beyond the planned ones: a busy machine brings some."""
    (path,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["kind"] == "header"
    visits = lines[0]["plan"].get("visits", 1)
    measurements = [{"visit": 0} | line for line in lines if line["kind"] == "measurement"]  # 0 is left out
    ends = [line for line in lines if line["kind"] == "end"]
    return Saved(
        path=path,
        header=lines[0],
        measurements=[line for line in measurements if line["visit"] < visits],
        resumes=[line for line in lines if line["kind"] == "resume"],
        end=ends[-1] if ends else None,
        met=[line for line in lines if line["kind"] == "ranks"],
    )
