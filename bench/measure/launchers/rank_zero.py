"""The address of rank 0, if the launcher's variables do not say it."""

from __future__ import annotations

from collections.abc import Mapping

from bench.measure.launchers.place import LauncherRank


def locate(joined: LauncherRank, environ: Mapping[str, str]) -> LauncherRank:
    """This rank with the address of rank 0."""
    return joined
