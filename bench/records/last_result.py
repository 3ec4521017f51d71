"""`last`, wherever a result file is asked for: the newest in the results folder, by the time at which its run began."""

from __future__ import annotations

import os
from pathlib import Path

from bench.core import jsonl
from bench.errors import BenchError

LAST = "last"
DEFAULT_FOLDER = Path("results")
"""Folder that results are saved to if none is named."""
SUFFIXES = (".jsonl", ".jsonl.gz")


def result_files(folder: Path) -> list[Path]:
    """Files of a folder whose names are those of results, in the order of their names."""
    try:
        files = [file for file in folder.iterdir() if file.name.endswith(SUFFIXES) and not file.name.startswith(".")]
    except OSError as error:
        raise BenchError(f"cannot read folder {str(folder)!r}: {error.strerror}; check its permissions") from error
    return sorted(files)


def real_path(path: Path) -> str:
    """The path with its links followed, as far as they lead anywhere: of links in a circle, `Path.resolve` raises."""
    return os.path.realpath(path)


def is_last(path: Path) -> bool:
    """True for the word `last`, unless a file or folder has that name."""
    return str(path) == LAST and not path.exists()


def named_file(path: Path, but: Path | None = None) -> Path:
    """The path itself; for `last` the newest result, `but` one that does not count. Raises BenchError if there is none.

    Files whose first line is not a header, or does not say when the run began, do not count: they may be still empty.
    """
    if not is_last(path):
        return path
    folder = DEFAULT_FOLDER
    files = result_files(folder) if folder.is_dir() else []
    own = None if but is None else real_path(but)
    started = {file: _started(file) for file in files if own is None or real_path(file) != own}
    known = {file: time for file, time in started.items() if time is not None}
    if not known:
        raise BenchError(
            f"{LAST!r}: folder {str(folder)!r} has no{'' if but is None else ' other'} result here; name a file, or "
            "measure with `bench run`"
        )
    return max(known, key=lambda file: (known[file], file.name))


def is_newest(path: Path) -> bool:
    """True if `last` would be this file."""
    try:
        return real_path(named_file(Path(LAST))) == real_path(path)
    except BenchError:
        return False


def _started(path: Path) -> str | None:
    """Time at which a file's run began, ISO 8601 in UTC; None if its first line does not say."""
    from bench.records.lines import decoding  # late: `--help` needs the folder alone

    try:
        line = next(iter(jsonl.LineReader(path)), b"")
    except BenchError:  # a folder of that name, or a link that leads nowhere
        return None
    started = decoding.field_of(line, "started") if decoding.kind_of(line) == "header" else None
    return started if isinstance(started, str) else None
