"""Epochs of one rank over the files of the input pipeline's suite: with their steps, and each without the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.workloads.storage import page_cache
from bench.workloads.storage.input_files import Files

if TYPE_CHECKING:
    import torch


@dataclass
class Epochs:
    """The loader of one rank, its steps, and the numbers of its epochs."""

    files: Files
    loader: Any
    sampler: Any
    shifted: Shifted
    step: Callable[[], object]
    num_batches: int
    device: torch.device
    epoch: int = 0
    watch: Callable[[torch.Tensor], object] | None = None
    """Is given every batch of the epochs that are looked at."""
    cached: list[float | None] = field(default_factory=list)
    """Share of the files in the page cache after each time that they were dropped from it."""

    def batches(self, folder: int = 0) -> Iterator[torch.Tensor]:
        """One epoch over this rank's share of a folder's samples, on the device, in an order of its own."""
        self.epoch += 1
        self.sampler.set_epoch(self.epoch)
        self.shifted.shift = folder * self.files.num_samples
        watch = self.watch
        for batch in self.loader:
            moved = batch.to(self.device, non_blocking=True)
            if watch is not None:
                watch(moved)
            yield moved

    def full(self) -> None:
        for _ in self.batches():
            self.step()

    def step_only(self) -> None:
        for _ in range(self.num_batches):
            self.step()

    def load(self, folder: int = 0) -> None:
        for _ in self.batches(folder):
            pass

    def drop(self) -> None:
        paths = self.files.paths(0)
        page_cache.drop_from_cache(paths)
        self.cached.append(page_cache.cached_share(paths))

    def facts(self) -> dict[str, float | None]:
        """Share of the files in the page cache: the median of what epochs found, or as it is now."""
        shares = [share for share in self.cached if share is not None]
        share = median(shares) if shares else page_cache.cached_share(self.files.paths(0))
        return {"cached_share": share}

    def stop(self) -> None:
        """Ends the workers, which a loader keeps from epoch to epoch."""
        iterator, self.loader = self.loader._iterator, None
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


@dataclass
class Shifted:
    """A sampler's indices, moved to one of the folders."""

    inner: Any
    shift: int = 0

    def __iter__(self) -> Iterator[int]:
        return (index + self.shift for index in self.inner)

    def __len__(self) -> int:
        return len(self.inner)
