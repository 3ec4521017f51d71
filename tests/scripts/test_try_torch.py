"""Trying versions of torch: the environment of one, and the row that is told of its run. No torch is fetched."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from pathlib import Path

import pytest

from bench.core.torch_versions import FEATURES, spelt
from bench.records import file as result
from tests import ROOT
from tests.scripts.test_setup import script, wheel
from tests.support.results import end, measurement, not_ok, save

try_torch = script("try_torch")
TABLE = ROOT / "results" / "torch_versions.md"


def only_wheels_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip looks nowhere else, and no setting of this machine's is in the way."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


def test_an_environment_has_its_own_torch_and_is_lent_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path, "torch", "9.8.7", "nvidia-library==1", "triton==3", "sympy")
    wheel(tmp_path, "nvidia-library", "1")
    only_wheels_of(tmp_path, monkeypatch)
    python = try_torch.make_environment(tmp_path / "env", "9.8.7")
    ask = "from importlib.metadata import version; import click, sys; print(version('torch'), sys.prefix)"
    done = subprocess.run([python, "-P", "-c", ask], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["9.8.7", str(tmp_path / "env")]
    own = importlib.metadata.distributions(path=[str(path) for path in (tmp_path / "env").glob("lib/*/site-packages")])
    assert {package.metadata["Name"] for package in own} == {"torch", "nvidia-library"}


def test_a_version_that_is_not_there_is_told_in_pip_s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_wheels_of(tmp_path, monkeypatch)
    with pytest.raises(try_torch.TrialError, match=r"(?s)pip could not install --no-deps torch==9\.9\.9:.*No matching"):
        try_torch.make_environment(tmp_path / "env", "9.9.9")


def test_the_row_of_a_run_names_all_that_was_not_ok(tmp_path: Path) -> None:
    old = "torch 2.8 has no ScheduleDualPipeV"
    records = [
        measurement(),
        *(not_ok(f"pipeline_parallel/run[size={size}]", "skipped", old) for size in (1, 2)),
        not_ok("compute/matmul[size=8]", "failed", "RuntimeError: a | b\nmore"),
    ]
    cells = try_torch.row(result.load(save(tmp_path / "run.jsonl", *records, end())))
    assert cells == (
        "2.13.0",
        "1",
        f"pipeline_parallel/run (2): {old}",
        r"compute/matmul: RuntimeError: a \| b",
    )


@pytest.mark.parametrize(("ended", "bad"), [("complete", "none"), ("failed", "the run ended as `failed`")])
def test_the_row_of_a_run_of_sound_cases(tmp_path: Path, ended: str, bad: str) -> None:
    file = save(tmp_path / "run.jsonl", measurement(), end(ended))
    assert try_torch.row(result.load(file)) == ("2.13.0", "1", "none", bad)


def test_the_saved_table_says_what_each_version_lacks() -> None:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    for row in FEATURES.values():
        assert any(row.lack in line and f"| {spelt(row.since)} |" in line for line in lines), row
