"""Each fault of kernels, models, optimizers and storage is found by a run of the real command; and without a fault all
the cases of the table are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.seeded import table
from tests.seeded.fault import Fault
from tests.seeded.test_clock_and_messages import PLACES

pytestmark = [pytest.mark.seeded, pytest.mark.long, pytest.mark.ranks]
OTHERS = [fault for fault in table.ROWS if fault.place not in PLACES]


@pytest.mark.parametrize("fault", OTHERS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    done = table.run(fault, fault.cases, tmp_path)
    assert not fault.judge(table.found(tmp_path)), done.stderr
    assert done.returncode == 3, done.stderr  # some case got no speed


def test_without_a_fault_all_cases_of_the_table_are_right(tmp_path: Path) -> None:
    done = table.run(None, table.CASES, tmp_path, budget="6m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert table.found(tmp_path) == dict.fromkeys(table.CASES, ("ok", ""))
