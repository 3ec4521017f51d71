"""The lowest versions that pyproject.toml admits, as CI installs them."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

import pytest

from tests import ROOT
from tests.scripts.test_setup import script


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    lowest = script("lowest_constraints")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = lowest.lowest(project)
    assert "torch==2.8.0" in pins
    assert len(pins) == len({pin.partition("==")[0] for pin in pins})
    names = {
        re.split(r"[<>=]", text)[0]
        for text in (*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values()))
    }
    assert {pin.partition("==")[0] for pin in pins} == names
    assert not [pin for pin in lowest.lowest(project, ["torch"]) if pin.startswith("torch=")]


@pytest.mark.parametrize("requirement", ["torch", "torch<3", "torch>=2,<3", "torch~=2.8"])
def test_a_requirement_without_a_lowest_version_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="NAME>=VERSION"):
        script("lowest_constraints").lowest({"dependencies": [requirement]})


def test_a_pre_release_stands_for_its_release() -> None:
    lowest = script("lowest_constraints").lowest
    texts = ["a>=2.8.0.dev0", "b>=1.0rc1", "c>=3"]
    assert lowest({"dependencies": texts}) == ["a==2.8.0", "b==1.0", "c==3"]
