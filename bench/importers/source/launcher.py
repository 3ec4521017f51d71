"""The number of ranks that the command line of a launcher states: `mpirun -np 8 ./osu_allreduce`."""

from __future__ import annotations

import re

_LAUNCHER = re.compile(r"(?:^|[\s/`'\"])(?:mpirun|mpiexec(?:\.\w+)?|orterun|prun|srun|aprun)\s")
_NUMBER = re.compile(r"\s(?:-np?|--np?|--ntasks)(?:\s+|=|(?<=-n))(\d{1,7})(?=\s|$)")


def launched_ranks(command: str, program: str) -> int | None:
    """Ranks that a command line starts `program` (a pattern) on; None if it states none, or several numbers."""
    if _LAUNCHER.search(command) is None or re.search(program, command) is None:
        return None
    found = {int(digits) for digits in _NUMBER.findall(command)}
    return found.pop() or None if len(found) == 1 else None
