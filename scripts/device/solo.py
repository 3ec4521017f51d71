"""`bench` as the only rank of a joined run, with suites told that one rank is enough.

    python -m device.solo PORT ARGUMENTS

All their CUDA and NCCL code runs, with nobody to talk to. Figures mean nothing; checks and exceptions do.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any


def lift_the_need_of_two_ranks() -> None:
    from suites import collective, context_parallel, data_parallel, tensor_parallel

    of_collective, of_context = collective._skip_reason, context_parallel._skip_reason

    def collective_reason(params: Any, rank: Any, row: Any) -> str | None:
        return of_collective(params, SimpleNamespace(world_size=2, backend=rank.backend), row)

    def context_reason(params: Any, num_ranks: int, device_type: str) -> str | None:
        reason = of_context(params, num_ranks, device_type)
        return None if reason and reason.startswith("one rank") else reason

    collective._skip_reason = collective_reason
    context_parallel._skip_reason = context_reason
    tensor_parallel._skip_reason = lambda *arguments: None
    data_parallel._skip_reason = lambda *arguments: None


if __name__ == "__main__":
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1]}
    os.environ.update(alone)
    lift_the_need_of_two_ranks()
    from bench.cli import main

    main([*sys.argv[2:], "--launcher", "env"])  # auto would start ranks of its own
