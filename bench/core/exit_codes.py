"""The command's exit codes; bench/docs/running.md has them for users."""

from __future__ import annotations

OK = 0
GATE = 1
"""A check that the user asked for failed. Nothing else ends so."""
USAGE = 2
"""A mistake in the call, an unreadable file, or a gate that could judge nothing."""
PARTIAL = 3
"""The run ended early, or a case failed or is invalid."""
UNFORESEEN = 70
"""An unforeseen error: a mistake of bench itself (EX_SOFTWARE of sysexits.h); see `bench.core.crash`."""
RANK_FAILED = 71
"""Exit of a rank that a device, the network or a dead peer ended (EX_OSERR of sysexits.h); its parent goes on."""
BROKEN_GENERATION = 75
"""Exit of a rank whose generation a case broke (EX_TEMPFAIL of sysexits.h); its parent starts a fresh one."""
HUNG_UP = 129
"""SIGHUP, as a shell reports it: 128 + 1; a closed terminal or a lost connection of ssh."""
INTERRUPTED = 130
TERMINATED = 143
"""SIGTERM, as a shell reports it: 128 + 15."""
BROKEN_PIPE = 141
"""SIGPIPE, as a shell reports it: 128 + 13."""
OF_SIGNALS = frozenset((HUNG_UP, INTERRUPTED, TERMINATED, BROKEN_PIPE))
