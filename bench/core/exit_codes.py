"""The command's exit codes; bench/docs/running.md lists them too."""

from __future__ import annotations

OK = 0
GATE = 1
"""A check that the user asked for failed."""
USAGE = 2
"""A mistake in the call, an unreadable file, or a gate that could judge nothing."""
PARTIAL = 3
"""The run ended early, or a case failed or is invalid."""
BROKEN_GENERATION = 70
"""Exit of a rank whose generation a case broke (EX_SOFTWARE of sysexits.h); its parent starts a fresh one."""
HUNG_UP = 129
"""SIGHUP, as a shell reports it: 128 + 1; a closed terminal or a lost connection of ssh."""
INTERRUPTED = 130
TERMINATED = 143
"""SIGTERM, as a shell reports it: 128 + 15."""
BROKEN_PIPE = 141
"""SIGPIPE, as a shell reports it: 128 + 13."""
