"""scripts/lab with a stand-in for `bench`: hosts, links and ranks are there, and gone afterwards whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import ROOT

LAB = ROOT / "scripts" / "lab"


def lab(*arguments: str, bench: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = dict(os.environ) | ({} if bench is None else {"BENCH": str(bench)})
    return subprocess.run([str(LAB), *arguments], capture_output=True, text=True, timeout=60, env=environ, check=False)


def namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith("bench-lab-")]


def stand_in(folder: Path, rest: str) -> Path:
    path = folder / "bench"
    path.write_text(f'#!/bin/sh\necho "$RANK $WORLD_SIZE $(hostname) $*" >> {folder}/said\n{rest}\n')
    path.chmod(0o755)
    return path


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc", "unshare"))), reason="needs root, ip, tc and unshare"
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--hosts", "1"), "2 to 32"), (("--slow", "x"), "HOST=RATE"), (("--slow", "9=1mbit"), "hosts are 0 to 3")],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = lab(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@needs_root
def test_hosts_run_and_are_gone_also_after_a_failure(tmp_path: Path) -> None:
    bench = stand_in(tmp_path, "tc qdisc show dev eth0 >> $(dirname $0)/said; exit 3")
    done = lab("--hosts", "2", "--slow", "1=250mbit", "--", "collective", bench=bench)
    if "Operation not permitted" in done.stderr or "cannot shape" in done.stderr:
        pytest.skip("this kernel or container has no namespaces, veth or tbf")
    assert done.returncode == 3, done.stderr
    said = (tmp_path / "said").read_text()
    assert "0 2 lab0 run --launcher env --device cpu --label emulated links collective" in said
    assert "1 2 lab1 run" in said
    assert "rate 1Gbit" in said
    assert "rate 250Mbit" in said
    assert not namespaces()


@needs_root
def test_an_interrupted_lab_is_gone_and_a_killed_one_is_found_and_cleaned(tmp_path: Path) -> None:
    bench = stand_in(tmp_path, "exec sleep 60")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen([str(LAB), "--hosts", "2"], env=dict(os.environ, BENCH=str(bench)))
        for _ in range(200):
            if len((tmp_path / "said").read_text().splitlines() if (tmp_path / "said").exists() else []) == 2:
                break
            if process.poll() is not None:
                pytest.skip("no namespaces here")
            time.sleep(0.05)
        (tmp_path / "said").unlink()
        process.send_signal(number)
        process.wait(timeout=30)
        assert bool(namespaces()) == (number == signal.SIGKILL)
    refused = lab("--hosts", "2", bench=bench)
    assert refused.returncode == 2
    assert "--clean" in refused.stderr
    assert lab("--clean").returncode == 0
    assert not namespaces()
