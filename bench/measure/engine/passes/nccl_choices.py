"""The pass that reads what the communication library chose for each case: which algorithm, protocol, channels.

NCCL says so only in its debug text, which it writes as it goes and which is switched on once per process. A process
that writes it is slower, so no timed one does: after the last launch one more generation of ranks is started, with
NCCL's debug file in a folder of its own. It prepares the cases that move data between ranks, calls each a few times
without timing it, and reads what one call has added to the file. Rank 0's file is enough: of every communicator that
has it in it, it is the one that writes (`bench.measure.engine.passes.nccl_debug`).

Nothing here is a measurement: a pass that fails, or for which no time is left, is a warning. A launcher's ranks
(torchrun, Slurm) cannot be started again by us, so that only local runs have this pass.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure.engine.passes import nccl_debug
from bench.records.lines.kinds import Choices

if TYPE_CHECKING:
    from bench.measure.planning.plan import Plan

LOGGED_BACKENDS = frozenset({"nccl"})
"""Backends that say what they choose. RCCL goes by the same name, and writes the same text."""
LOGGED_SUITES = frozenset({"collective", "point_to_point"})
"""Built-in suites whose cases are collectives, of which it is kept what was chosen; a user's own may be as well."""
PASS_SECONDS = 2.0
"""Kept of a budget for the calls themselves, besides a start of the ranks."""
FILE_VARIABLE = "NCCL_DEBUG_FILE"


def has_choices(plan: Plan, logged_backends: Collection[str]) -> bool:
    """Return True if the backend logs its choices for cases of the plan: not for one rank, and not in most suites."""
    speaks = plan.world_size > 1 and plan.backend in logged_backends
    return speaks and any(suite.name in LOGGED_SUITES or suite.name != suite.reference for suite in plan.suites)


def debug_environ(folder: Path) -> dict[str, str]:
    """Variables that make each process write its debug text into a file of its own in `folder`."""
    return {**nccl_debug.ENVIRON, FILE_VARIABLE: str(folder).replace("%", "%%") + "/nccl.%h.%p"}


class DebugFile:
    """The debug text of one process, as far as it is written.

    `pattern` is NCCL_DEBUG_FILE: `%h` stands for the host, `%p` for the process and `%%` for `%` (NVIDIA/nccl,
    src/debug.cc). NCCL flushes after each line, in the thread that makes the call.
    """

    def __init__(self, pattern: str, pid: int) -> None:
        parts = (glob.escape(part).replace("%h", "*").replace("%p", str(pid)) for part in pattern.split("%%"))
        self._pattern = "%".join(parts)
        self._offset = 0

    @classmethod
    def of_process(cls, environ: Mapping[str, str], pid: int) -> DebugFile:
        return cls(environ[FILE_VARIABLE], pid)

    def whole(self) -> str:
        """Return the whole text; empty if there is no file yet."""
        return self._read().decode(errors="replace")

    def new(self) -> str:
        """Return the text added since the last call."""
        data = self._read()
        added, self._offset = data[self._offset :], len(data)
        return added.decode(errors="replace")

    def _read(self) -> bytes:
        files = glob.glob(self._pattern)  # noqa: PTH207 - a pattern of the whole path
        return Path(files[0]).read_bytes() if files else b""


def choices_record(case: str, prepared: str, called: str, whole: str) -> Choices:
    """The line of the result file for a case, from what its preparation, one call of it, and all before have written.

    A replayed CUDA graph says nothing: what holds for it was chosen when it was captured, in its preparation.
    """
    choices = nccl_debug.parse_choices(called) or nccl_debug.parse_choices(prepared)
    return Choices(case=case, nccl=list(dict.fromkeys(choices)), setup=nccl_debug.parse_setup(whole))
