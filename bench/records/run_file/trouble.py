"""What can become of a run's result file while it is written, in words that follow its path."""

from __future__ import annotations

import os
from pathlib import Path

from bench.records.run_file.kept_bytes import KeptBytes

CHANGED = "was changed by another program"


def lost(path: Path, descriptor: int, size: int) -> str | None:
    """Reason why a path is not the open file with its size any more; None if it is."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "was deleted" if path.parent.is_dir() else "is gone with its folder"
    except OSError as error:
        return f"cannot be reached any more ({error.strerror})"
    if not os.path.samestat(found, os.fstat(descriptor)):
        return "was replaced by a link" if path.is_symlink() else "was replaced by another file"
    if found.st_size != size:
        return "was cut off by another program" if found.st_size < size else CHANGED
    if not os.access(path, os.R_OK):
        return "may not be read any more"
    return None


def differs_at(path: Path, kept: KeptBytes) -> str | None:
    """Reason why a file that this run has let go lacks some of its lines; None if it has all of them."""
    try:
        with path.open("rb") as stream:
            return None if kept.begins(stream.fileno(), kept.size) else CHANGED
    except FileNotFoundError:
        return "was deleted"
    except OSError as error:
        return f"cannot be read any more ({error.strerror})"


def cannot_take(error: OSError) -> str:
    """Reason of a failed write."""
    return f"takes no more lines ({error.strerror or error})"
