"""The check of a real GPU, tried on a CPU: its quick steps run, and what they judge can fail."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

SCRIPTS = ROOT / "scripts"


def _check(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "device_check"), "--device", "cpu", "-o", str(output), *arguments]
    environ = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=240, check=False)


@pytest.mark.ranks
@pytest.mark.long
def test_the_quick_steps_run_on_a_cpu(tmp_path: Path) -> None:
    done = _check(tmp_path, "--only", "versions", "one_rank", "compute")
    summary = (tmp_path / "summary.txt").read_text()
    assert done.returncode == 0, summary + (tmp_path / "log.txt").read_text()
    assert "PASS all_reduce: ok" in summary
    assert "PASS sample of nothing: " in summary
    assert "PASS exit code: 0" in summary
    with tarfile.open(tmp_path / "results.tgz") as archive:
        (name,) = archive.getnames()
        file = archive.extractfile(name)
        assert file is not None
        header = json.loads(file.readline())
    assert [rank["host"] for rank in header["environment"]["ranks"]] == ["host0"]


@pytest.mark.ranks
def test_a_step_that_fails_is_told_and_ends_nothing_else(tmp_path: Path) -> None:
    done = _check(tmp_path, "--only", "compare", "explained", "versions", "--limit", "100")
    summary = (tmp_path / "summary.txt").read_text()
    assert done.returncode == 1
    assert "FAIL measured kernels: none" in summary
    assert "FAIL explain: [] (expected [0])" in summary
    assert "PASS bench --version: 0" in summary


@pytest.mark.parametrize(("value", "word"), [(None, "FAIL"), (0.9, "FAIL"), (1.0, "PASS"), (1.1, "FAIL")])
def test_a_value_outside_of_its_range_fails(
    value: float | None, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from device.findings import judge

    judge("ratio", value, 0.97, 1.03)
    assert capsys.readouterr().out.startswith(f"{word} ratio: ")


def test_every_step_is_in_a_group_that_fits_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from device.steps import STEPS

    seconds: dict[str, int] = {}
    for step in STEPS.values():
        for group in step.groups.split():
            seconds[group] = seconds.get(group, 0) + step.seconds
    assert set(seconds) == {"arch", "a", "b"}
    assert max(seconds.values()) <= 600


def test_statuses_fail_for_what_is_not_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from device.findings import statuses

    statuses(tmp_path)
    assert capsys.readouterr().out.startswith("FAIL")
    record: dict[str, Any] = {"kind": "measurement", "case": "a/b", "launch": 0, "reason": "why", "check": None}
    lines = [record | {"status": status} for status in ("ok", "skipped", "failed", "invalid")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    statuses(tmp_path)
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["PASS", "INFO", "FAIL", "FAIL"]


@pytest.mark.long
@pytest.mark.ranks
def test_a_step_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """A soak lasts six seconds, and its ranks have to start first."""
    done = _check(tmp_path, "--only", "soak", "--limit", "6")
    assert done.returncode == 1
    assert "FAIL soak: took too long" in (tmp_path / "summary.txt").read_text()
