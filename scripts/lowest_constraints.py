"""Print the lowest version of each package that pyproject.toml admits, as constraints for pip.

    python scripts/lowest_constraints.py [NAME...] > lowest.txt && pip install -c lowest.txt '.[test]'

A bound that is a pre-release (torch's) stands for its release, since an index may have no such pre-release. Packages
that are named are left out. Uses only the standard library.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)>=(?P<release>\d+(?:\.\d+)*)(?:\.dev\d+|(?:a|b|rc)\d+)?")


def lowest(project: Mapping[str, Any], left_out: Collection[str] = ()) -> list[str]:
    """`name==version` of all dependencies, those of extras too. Raises ValueError for one without a lower bound."""
    extras = project.get("optional-dependencies", {}).values()
    pins: dict[str, str] = {}
    for requirement in (*project["dependencies"], *(text for extra in extras for text in extra)):
        found = _REQUIREMENT.fullmatch(requirement)
        if found is None:
            raise ValueError(f"{requirement}: a requirement is written NAME>=VERSION")
        if found["name"] not in left_out:
            pins[found["name"]] = found["release"]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"], sys.argv[1:])))
