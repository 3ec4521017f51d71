"""Outlook of a run, without measuring anything: its plan, and the architecture that it would be on."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import msgspec

from bench.measure.engine import emulation
from bench.measure.planning.plan import Plan
from bench.measure.system.host import cpu_model, usable_cores
from bench.records.environments import architecture
from bench.records.lines.header import HostFacts, PlannedCase, RankFacts


@dataclass(frozen=True)
class Outlook:
    """A run that is not made yet."""

    plan: Plan
    architecture: str
    """Name in the header of its result."""

    @property
    def cases(self) -> tuple[PlannedCase, ...]:
        """All that would be measured with time enough."""
        return (*self.plan.cases, *self.plan.left_out)

    def to_text(self) -> str:
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_text(text: str) -> Outlook:
        return msgspec.json.decode(text, type=Outlook)


def local_outlook(plan: Plan) -> Outlook:
    """Outlook of ranks that this process would start."""
    host = socket.gethostname()
    names = _device_names(plan)
    ranks = [
        RankFacts(
            rank=index,
            host=host,
            device_type=plan.device_type,
            device_name=name,
            num_threads=plan.threads_per_rank or 1,
            **emulation.planned_speeds(plan, index)._asdict(),
        )
        for index, name in enumerate(names)
    ]
    return Outlook(plan, architecture(ranks, {host: HostFacts(usable_cores=usable_cores())}))


def _device_names(plan: Plan) -> list[str | None]:
    """A name for each rank."""
    if plan.device_type == "cpu":
        return [cpu_model()] * plan.world_size
    import torch

    return [torch.cuda.get_device_name(index) for index in range(plan.world_size)]
