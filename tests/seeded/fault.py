"""A row of the table of seeded faults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.seeded.injection import Injection, When

CHECK = r"check (before|after): error (\S+|not a number) on rank \d is above the tolerance"
CHECK_ON_1 = CHECK.replace(r"rank \d", "rank 1")
LEFT = r"a timed call left error (\S+|not a number) on rank \d, above the tolerance"
LEFT_ON_1 = LEFT.replace(r"rank \d", "rank 1")
EITHER = f"{CHECK}|{LEFT}"
EITHER_ON_1 = f"{CHECK_ON_1}|{LEFT_ON_1}"
SHORTCUT = r"rank \d: calls of \S+ do not do their work each time"
CLOCK = r"clock of rank \d: "
CLOCK_ON_1 = "clock of rank 1: "


@dataclass(frozen=True)
class Fault:
    """A fault, and what a run has to say of it."""

    name: str
    place: str
    """Part that is at fault, such as `communication`."""
    install: Callable[[Injection], object]
    cases: Mapping[str, str]
    """Case id -> pattern that its reason has to match; empty: the case has to be right."""
    when: When = field(default_factory=When)
    precision: str = "10%"
    """For the run: many samples are taken to reach a high one."""
    is_at_start: bool = False
    """True: put in before anything is imported, as faults of the clock are."""

    def judge(self, found: Mapping[str, tuple[str, str]]) -> str:
        """Say what is not as expected of the cases' status and reason; empty: the fault was found in all of them."""
        for case, pattern in self.cases.items():
            status, reason = found.get(case, ("not measured", ""))
            wanted = "invalid" if pattern else "ok"
            if status != wanted:
                return f"{case} is {status}, and not {wanted}: {reason}"
            if pattern and not re.search(pattern, reason):
                return f"{case}: {reason!r} does not say {pattern!r}"
        return ""
