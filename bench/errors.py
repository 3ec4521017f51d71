"""The one error that is the user's to fix; the command prints it as one line and exits with 2.

Our own mistakes are `assert`s and keep their traceback.
"""

from __future__ import annotations


class BenchError(Exception):
    """One line: the mistake, the value, and the remedy."""


class Skip(Exception):  # noqa: N818 - not an error: a case that has no meaning here
    """Raised in a suite's `prepare` to skip the case on every rank, with the reason."""
