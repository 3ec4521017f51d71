"""The files of the input pipeline: how they are written, from the run's seed, and how a DataLoader's worker reads them.

Workers import this module; it imports torch only when the first sample is read, which they have by then.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

VOCABULARY = 50_257
"""Vocabulary of GPT-2, whose tokens fit into 16 bits."""
FILES_PER_FOLDER = 1000


@dataclass(frozen=True)
class FileLayout:
    """Layout of samples in files under a folder."""

    paths: Callable[[Path, int], list[Path]]
    """(folder, number of samples) -> every file."""
    raw: Callable[[int, int, int], NDArray[Any]]
    """(seed, index, size of a sample) -> what is written of a sample."""
    write: Callable[[Path, int, NDArray[Any]], None]
    """(folder, index, sample)."""
    read: Callable[[Sequence[Path], Sequence[int], int], list[NDArray[Any]]]
    """(folder of each sample, index of each, size) -> what a training step gets of them."""
    delivered: Callable[[NDArray[Any]], NDArray[Any]]
    """Conversion of a written sample to a step's input."""


def _random_bytes(seed: int, index: int, num_bytes: int) -> NDArray[np.uint8]:
    """Incompressible, and different for every sample: a storage that compresses or deduplicates gains nothing."""
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(-(-num_bytes // 8))
    return words.view(np.uint8)[:num_bytes]


def _sample_path(folder: Path, index: int) -> Path:
    return folder / f"{index // FILES_PER_FOLDER:06}" / f"{index:09}.bin"


def _write_sample(folder: Path, index: int, sample: NDArray[Any]) -> None:
    path = _sample_path(folder, index)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sample.tobytes())


def _read_samples(folders: Sequence[Path], indices: Sequence[int], size: int) -> list[NDArray[Any]]:
    pairs = zip(folders, indices, strict=True)
    return [np.fromfile(_sample_path(folder, index), dtype=np.uint8) for folder, index in pairs]


def _token_path(folder: Path) -> Path:
    return folder / "tokens.bin"


def _tokens(seed: int, index: int, size: int) -> NDArray[np.uint16]:
    return _random_bytes(seed, index, 2 * size).view(np.uint16) % VOCABULARY


def _write_tokens(folder: Path, index: int, sample: NDArray[Any]) -> None:
    path = _token_path(folder)
    path.touch()
    with path.open("r+b") as file:
        file.seek(index * sample.nbytes)
        file.write(sample.tobytes())


def _read_tokens(folders: Sequence[Path], indices: Sequence[int], size: int) -> list[NDArray[Any]]:
    """The file is mapped again for every batch, as nanoGPT does: pages that stay mapped could not be dropped."""
    maps = {folder: np.memmap(_token_path(folder), dtype=np.uint16, mode="r") for folder in set(folders)}
    pairs = zip(folders, indices, strict=True)
    return [_as_int64(maps[folder][index * size : (index + 1) * size]) for folder, index in pairs]


def _as_int64(tokens: NDArray[Any]) -> NDArray[np.int64]:
    return tokens.astype(np.int64)


def _unchanged(sample: NDArray[Any]) -> NDArray[Any]:
    return sample


LAYOUTS: Mapping[str, FileLayout] = {
    "tokens": FileLayout(
        paths=lambda folder, _: [_token_path(folder)],
        raw=_tokens,
        write=_write_tokens,
        read=_read_tokens,
        delivered=_as_int64,
    ),
    "samples": FileLayout(
        paths=lambda folder, count: [_sample_path(folder, index) for index in range(count)],
        raw=_random_bytes,
        write=_write_sample,
        read=_read_samples,
        delivered=_unchanged,
    ),
}


@dataclass(frozen=True)
class Files:
    """A data set for torch.utils.data.DataLoader: some folders with the same samples in each.

    Indices go on from folder to folder: `num_samples` + i is sample i of the second.
    """

    op: str
    folders: tuple[Path, ...]
    num_samples: int
    """Number of samples in each folder."""
    size: int
    """Length of a sample: bytes, or tokens."""

    def __len__(self) -> int:
        return self.num_samples * len(self.folders)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[torch.Tensor]:
        import torch

        folders = [self.folders[index // self.num_samples] for index in indices]
        within = [index % self.num_samples for index in indices]
        return [torch.from_numpy(array) for array in LAYOUTS[self.op].read(folders, within, self.size)]

    def paths(self, folder: int) -> list[Path]:
        return LAYOUTS[self.op].paths(self.folders[folder], self.num_samples)

    def write(self, indices: range, seed: int) -> list[str]:
        """Writes samples into every folder; returns the digest of each as a step is to get it."""
        layout = LAYOUTS[self.op]
        digests = []
        for index in indices:
            sample = layout.raw(seed, index, self.size)
            for folder in self.folders:
                layout.write(folder, index, sample)
            digests.append(digest(layout.delivered(sample)))
        return digests


def digest(sample: NDArray[Any]) -> str:
    """64 bits of BLAKE2b over a sample's bytes: no two of some millions are alike by chance."""
    return hashlib.blake2b(sample.tobytes(), digest_size=8).hexdigest()


def end_with_rank(worker: int) -> None:
    """Called in each worker: it ends when its rank does, however that ended.

    The DataLoader's own watch looks for a change of the parent process. That of a forked worker is the process that
    forks, which in turn stays as long as a worker does.
    """
    rank = multiprocessing.parent_process()
    assert rank is not None

    def watch() -> None:
        wait([rank.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-rank", daemon=True).start()
