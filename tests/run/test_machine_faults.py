"""What ranks, processes and machines can do to a run: every other case is measured, and the reason is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machine_faults import FAULTS, Fault, strike

pytestmark = [pytest.mark.ranks, pytest.mark.long]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_run_outlives_it(fault: Fault, tmp_path: Path) -> None:
    if os.geteuid() != 0 and fault.root_only:
        pytest.skip("namespaces need root")
    if fault.group is not None and not os.access(fault.group[0], os.W_OK):
        pytest.skip(f"{fault.group[0]} cannot be written")
    assert strike(fault, tmp_path).complaints() == []
