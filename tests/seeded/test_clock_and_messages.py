"""Each fault of the clock and of communication is found by a run of the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.seeded import table
from tests.seeded.fault import Fault

pytestmark = [pytest.mark.seeded, pytest.mark.long, pytest.mark.ranks]
PLACES = ("clock", "communication")


@pytest.mark.parametrize("fault", table.at(*PLACES), ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    done = table.run(fault, fault.cases, tmp_path)
    assert not fault.judge(table.found(tmp_path)), done.stderr
    assert done.returncode == 3, done.stderr  # some case got no speed
