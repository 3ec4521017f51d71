"""A folder for the files of a case: made and agreed on by all ranks, with room in it, and gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.core.process.held_folder import HeldFolder
from bench.errors import BenchError, Skip
from bench.measure.engine import control

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext

T = TypeVar("T")

TEMPORARY = "temporary"
"""Value of a suite's parameter `folder` that means the system's folder for temporary files."""
ROOM_FACTOR, ROOM_BYTES = 1.1, 64 * 2**20
"""Free space asked for, over the bytes to be written: block sizes, metadata and files of others."""


def parent_folder(folder: str) -> Path:
    """The folder that a parameter `folder` names. Raises BenchError if there is none."""
    path = Path(tempfile.gettempdir()) if folder == TEMPORARY else Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise BenchError(f"folder={folder}: there is no such folder; make it, or give another with --set folder=PATH")
    return path


def call_on_all(rank: RankContext, call: Callable[[], T]) -> T:
    """Call on every rank what may fail on one alone: a BenchError or OSError of any rank is raised on all."""
    results: list[T] = []
    error = None
    try:
        results.append(call())
    except (BenchError, OSError) as caught:
        error = f"rank {rank.index}: {caught}"
    errors = [text for text in control.all_gather_json(rank, error) if text is not None]
    if errors:
        raise BenchError(str(errors[0]))
    return results[0]


def new_scratch(rank: RankContext, folder: str, name: str, per_host: bool) -> tuple[Path, HeldFolder | None]:
    """A new folder for all ranks (`per_host`: one on each host), and on the rank that made it also what holds it.

    Raises BenchError on all ranks if it cannot be made, Skip if not all ranks see it.
    """
    makes = rank.local_index == 0 if per_host else rank.index == 0
    held = call_on_all(rank, lambda: HeldFolder(parent_folder(folder), name) if makes else None)
    host = rank.place.host_index if per_host else 0
    paths = control.all_gather_json(rank, [host, str(held.path)] if held else None)
    path = next(Path(row[1]) for row in paths if row is not None and row[0] == host)
    if not all(control.all_gather_json(rank, path.is_dir())):
        raise Skip(f"folder={folder} is not one and the same on all hosts; give one that they share: --set folder=PATH")
    return path, held


def require_room(rank: RankContext, folder: str, num_bytes: int) -> None:
    """Raises Skip if some rank's folder has no room for `num_bytes`, which all ranks that share it write."""
    needed = int(ROOM_FACTOR * num_bytes) + ROOM_BYTES
    free = call_on_all(rank, lambda: shutil.disk_usage(parent_folder(folder)).free)
    least = -control.maxima(rank, [-free])[0]
    if least < needed:
        raise Skip(f"folder={folder} has {least / 2**30:.2f} GiB free, and {needed / 2**30:.2f} GiB are needed")
