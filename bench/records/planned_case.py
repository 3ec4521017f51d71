"""What a plan says of its suites and its cases, as the result file's header has it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.suite import Params


@dataclass(frozen=True)
class SuiteFacts:
    """What the result file keeps of a suite, so that comparing different code can say so."""

    name: str
    reference: str
    summary: str
    metrics: dict[str, tuple[str, str]]
    digest: str | None = None
    """SHA-256 of the code; None: unknown, since it is another tool's, or the file was written before version 0.2.0."""


@dataclass(frozen=True)
class PlannedCase:
    suite: str
    id: str
    params: Params
    min_seconds: float = 0.0
    """For which it is sampled at least, whatever the preset says; in each launch, on the first visit."""
    prepare_seconds: float = 0.0
    """By which its preparation may take longer than the time-out, at each visit."""
