"""Faults: a case that is fine, and cases that run out of memory, raise, hang and keep memory in a cycle.

One that broke must not harm the next.
"""

from __future__ import annotations

from typing import Any

from bench.suite import Check, Work

DEFAULTS: dict[str, Any] = {}
CHOICES = {"op": ("fine", "oom", "raises", "hangs", "keeps")}
EXPECTED = {"fine": "ok", "oom": "failed", "raises": "failed", "hangs": "failed", "keeps": "ok"}


def cases(machine: Any) -> list[dict[str, Any]]:
    return [{"op": op} for op in CHOICES["op"]]


def memory(params: Any, machine: Any) -> int:
    return 0


def prepare(params: Any, rank: Any) -> Work:
    import time

    import torch

    op, device = params["op"], rank.device
    is_cuda = device.type == "cuda"
    x = torch.ones(1 << 20, device=device)
    if op == "oom":
        x = torch.empty(2**40 if is_cuda else 2**50, device=device, dtype=torch.uint8)
    if op == "keeps":
        x = torch.ones((4 << 30) if is_cuda else 1 << 20, device=device)
        x.itself = x  # a cycle: only the collector frees it

    def run() -> None:
        if op == "hangs" and is_cuda:
            torch.cuda._sleep(60 * 2_000_000_000)
            torch.cuda.synchronize()
        elif op == "hangs":
            time.sleep(60)
        x.add_(1)

    def check() -> Check:
        if op == "raises":
            raise RuntimeError("on purpose")
        run()
        return Check(0.0, 0.0)

    return Work(variants={"full": run}, check=check)
