from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bench.measure.engine.rank_state import RankState, changed_note


def test_what_a_case_changes_is_set_back_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    state = RankState()
    assert state.restore() == []
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads + 1)
    torch.use_deterministic_algorithms(True)
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    changed = state.restore()
    assert changed == [
        "torch's default type",
        "torch's gradients",
        "torch's number of threads",
        "torch's deterministic algorithms",
        "the working folder",
    ]
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == (
        torch.float32,
        True,
        threads,
    )
    assert Path.cwd() == tmp_path
    assert changed_note(changed[:1]) == (
        "the case changed torch's default type; it was set back for the cases after it"
    )
    assert state.restore() == []
