"""Looks at what timed epochs deliver: how many samples, and of two batches, drawn by chance, every byte."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from bench.suite import Check, TimedCheck
from bench.workloads.comm.timed_outputs import combined_check
from bench.workloads.storage.epochs import Epochs
from bench.workloads.storage.input_files import digest

if TYPE_CHECKING:
    import torch

    from bench.workloads.model.timed_results import BufferLooks

NUM_BATCHES = 2
"""Batches of an epoch that are kept for the look."""


@dataclass
class EpochLooks:
    """Looks at the epochs of one rank."""

    epochs: Epochs
    digests: Sequence[str]
    """Digest of each sample as a step is to get it, by its index."""
    batch_size: int
    drawn: random.Random
    watched: frozenset[int] = frozenset()
    num_seen: int = 0
    num_samples: int = 0
    kept: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def arm(self) -> None:
        count = self.epochs.num_batches
        self.watched = frozenset(self.drawn.sample(range(count), min(NUM_BATCHES, count)))
        self.num_seen, self.num_samples = 0, 0
        self.kept.clear()
        self.epochs.watch = self.see

    def see(self, batch: torch.Tensor) -> None:
        """Called with each batch of an armed epoch, in its order."""
        self.num_samples += len(batch)
        if self.num_seen in self.watched:
            self.kept[self.num_seen] = batch
        self.num_seen += 1

    def look(self, calls: int) -> Check:
        """Samples too few or too many, and those of the kept batches that are not the ones whose turn it was."""
        self.epochs.watch = None
        error = abs(self.num_samples - calls * self.epochs.num_batches * self.batch_size)
        for number, batch in self.kept.items():
            first = number * self.batch_size
            wanted = islice(self.epochs.sampler, first, first + self.batch_size)
            rows = [digest(row) for row in batch.cpu().numpy()]
            error += sum(a != b for a, b in zip(rows, (self.digests[i] for i in wanted), strict=True))
        self.kept.clear()
        return Check(float(error), 0.0)


def epoch_checks(variants: Iterable[str], batches: EpochLooks, products: BufferLooks | None) -> dict[str, TimedCheck]:
    """The looks at what each variant does: batches, and the products of steps that compute."""
    parts = {name: [batches.timed_check] for name in ("full", "loader_only", "from_cache")} | {"step_only": []}
    if products is not None:
        for name in ("full", "step_only"):
            parts[name].append(products.timed_check)
    return {name: combined_check(*checks) for name, checks in parts.items() if checks and name in variants}
