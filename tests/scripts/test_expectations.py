"""The evidence on expectations is what its script says, and reaches its goals."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts" / "evidence"))
        return importlib.import_module("expectations")


def test_the_page_is_what_the_script_says(script: ModuleType) -> None:
    assert script.OUT.read_text(encoding="utf-8") == "\n".join(script.page()) + "\n"


def test_figures_lie_in_the_range_that_the_other_sources_make(script: ModuleType) -> None:
    rows = script.judged()
    trials = script.left_out(rows, lambda row, other: script.vendor(other) != script.vendor(row))
    trials += [trial for rule in script.RULES for trial in script.of_rule(rule, rows)]
    inside = sum(trial.is_inside for trial in trials)
    assert len(trials) > 20
    assert inside >= script.GOAL * len(trials)
    assert max(trial.width for trial in trials) <= script.MAX_WIDTH
