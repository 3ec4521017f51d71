"""What the doctor says: one finding a line, and the shape of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.facts import Facts

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    level: Level
    what: str
    value: str
    remedy: str = ""
    """What to do; empty where nothing is wrong."""

    def line(self) -> str:
        """`ok: what: value`, or `warn: what: value; remedy`."""
        return f"{self.level}: {self.what}: {self.value}" + (f"; {self.remedy}" if self.remedy else "")


Check = Callable[["Facts"], Iterable[Finding]]


def counted(number: int, thing: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
