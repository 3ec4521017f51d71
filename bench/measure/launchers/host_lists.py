"""Lists of hosts as schedulers write them."""

from __future__ import annotations

import re


def first_host(nodes: str) -> str:
    """The first host of a Slurm host list: `gpu[003-007,9],login1` gives `gpu003`."""
    first = re.match(r"(\[[^\]]*\]|[^\[,])*", nodes.strip())
    assert first is not None
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group())
