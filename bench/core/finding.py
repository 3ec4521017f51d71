"""A finding: one line of what is right, suspicious or wrong, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line that a user reads."""

    level: Level
    what: str
    value: str
    remedy: str = ""
    """What to do; empty where nothing is wrong."""

    def line(self) -> str:
        """`ok: what: value`, or `warn: what: value; remedy`."""
        return f"{self.level}: {self.what}: {self.value}" + (f"; {self.remedy}" if self.remedy else "")


def counted(number: int, thing: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
