"""Suites on fake GPUs: which worlds they work in, and what memory they take, beside what they say of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import DATA, ROOT
from tests.support.fake_cuda import missing
from tests.support.fake_memory import LIMITS, SMALL_BYTES

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def _made(module: str, *arguments: str) -> str:
    """What a module prints, in a process that has run no backward before."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


QUICK_SUITES = {"collective": 9, "context_parallel": 7, "inference": 1}
"""Suite -> how many of its cases are counted: those of a second or less each."""


@pytest.mark.long
def test_estimates_of_memory_are_near_the_count() -> None:
    rows = [line.split("\t") for line in _made("tests.support.fake_memory").splitlines()]
    assert len(rows) > 50
    _assert_near(rows)


@pytest.mark.long
def test_estimates_of_memory_of_quick_suites_are_near_the_count() -> None:
    rows = [line.split("\t") for line in _made("tests.support.fake_memory", *QUICK_SUITES).splitlines()]
    assert len(rows) == sum(QUICK_SUITES.values())
    _assert_near(rows)


def _assert_near(rows: list[list[str]]) -> None:
    low, high = LIMITS
    for _ratio, needed, counted, ranks, case, error in rows:
        assert not error, f"{case} on {ranks}: {error}"
        slack = SMALL_BYTES
        assert low * int(counted) - slack <= int(needed) <= high * int(counted) + slack, f"{case} on {ranks} ranks"


@pytest.mark.long
def test_every_suite_works_in_the_worlds_of_the_table() -> None:
    """Regenerate it by `python -m tests.support.fake_worlds > tests/data/fake_worlds.md`."""
    table = _made("tests.support.fake_worlds")
    assert "**" not in table, table
    assert table == (DATA / "fake_worlds.md").read_text()
