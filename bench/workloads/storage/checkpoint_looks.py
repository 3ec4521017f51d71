"""Looks at what timed saves, loads and steps of the checkpoint suite leave: files, states, and counts of steps.

Every save has a new folder, so that its files cannot be those of the one before. Before a load the state is
overwritten. A look compares sizes of files, and some bytes of each tensor; the checks before and after the
samples load it all.
Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.suite import Check, TimedCheck
from bench.workloads.model.output_sketch import OutputSketch, local_part
from bench.workloads.storage.checkpoints import Checkpoints, Training

NUM_PIECES, PIECE_BYTES = 64, 64
"""Pieces of each tensor that are read from the files."""
METADATA = ".metadata"


@dataclass(frozen=True)
class Stored:
    """Place of a tensor's bytes in the files of a save; the next save's are laid out alike."""

    number: int
    """Place of the tensor among the state's leaves."""
    file: str
    begin: int
    pieces: tuple[int, ...]
    """Bytes from the tensor's first to each piece."""


@dataclass
class SaveLooks:
    """Looks at the files that this rank has written."""

    checkpoints: Checkpoints
    rank: int
    sizes: dict[str, int] = field(default_factory=dict)
    stored: list[Stored] = field(default_factory=list)
    expected: list[bytes] = field(default_factory=list)

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def learn(self, saved: Sequence[Tensor], _settings: Sequence[Any]) -> None:
        """Sizes of this rank's files in the current folder, and where the state that it saved is in them."""
        files = self._files()
        self.sizes = {path.name: path.stat().st_size for path in files}
        self.stored = [place for path in files for place in _find(path, saved)]

    def _files(self) -> list[Path]:
        # torch names the files by the rank that wrote them.
        return sorted(self.checkpoints.current.glob(f"__{self.rank}_*"))

    def arm(self) -> None:
        """Takes down some bytes of the state as it will be saved; a new folder comes with the reset."""
        tensors = self.checkpoints.training.leaves()[0]
        self.expected = [_pieces(tensors[place.number], place.pieces) for place in self.stored]

    def look(self, calls: int) -> Check:
        """Files of another size than they should have, or that are missing, and tensors whose bytes differ."""
        self.checkpoints.finish()
        folder = self.checkpoints.current
        sizes = {path.name: path.stat().st_size for path in self._files()}
        wrong = len(self.sizes.items() ^ sizes.items()) + (not (folder / METADATA).is_file())
        if not wrong:
            pairs = zip(self.stored, self.expected, strict=True)
            wrong = sum(_read(folder / place.file, place) != expected for place, expected in pairs)
        dist.barrier(group=self.checkpoints.group)  # the next reset removes the files of all
        return Check(float(wrong), 0.0)


@dataclass
class LoadLooks:
    """Looks at the state that a load has set on this rank."""

    training: Training
    sketch: OutputSketch | None = None
    settings: list[Any] = field(default_factory=list)

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.training.overwrite, self.look)

    def learn(self, saved: Sequence[Tensor], settings: Sequence[Any]) -> None:
        self.sketch, self.settings = OutputSketch(saved, 0.0), list(settings)

    def look(self, calls: int) -> Check:
        assert self.sketch is not None, "a check comes first"
        tensors, settings = self.training.leaves()
        check = self.sketch.check(tensors)
        return check if settings == self.settings else check._replace(error=1.0 + check.error)


@dataclass
class StepCountLooks:
    """Looks at the optimizer's own count of steps."""

    training: Training
    num_steps: int
    before: list[float] = field(default_factory=list)

    @property
    def timed_check(self) -> TimedCheck:
        return TimedCheck(self.arm, self.look)

    def _counts(self) -> list[float]:
        return [float(local_part(state["step"])) for state in self.training.optimizer.state.values()]

    def arm(self) -> None:
        self.before = self._counts()

    def look(self, calls: int) -> Check:
        wanted = [count + self.num_steps * calls for count in self.before]
        return Check(float(sum(a != b for a, b in zip(self._counts(), wanted, strict=True))), 0.0)


def _find(path: Path, tensors: Sequence[Tensor]) -> list[Stored]:
    """The tensors whose bytes are in a file, in one stretch; without those of few bytes, which might be anywhere."""
    found = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number, tensor in enumerate(tensors):
            if tensor.nbytes < NUM_PIECES * PIECE_BYTES:
                continue
            last = tensor.nbytes - PIECE_BYTES
            pieces = tuple(last * piece // (NUM_PIECES - 1) for piece in range(NUM_PIECES))
            begin = content.find(_pieces(tensor, pieces[:1]))
            place = Stored(number, path.name, begin, pieces)
            if begin >= 0 and _read(path, place) == _pieces(tensor, pieces):
                found.append(place)
    return found


def _pieces(tensor: Tensor, pieces: Sequence[int]) -> bytes:
    starts = torch.tensor(pieces, device=tensor.device).unsqueeze(1)
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    return flat[starts + torch.arange(PIECE_BYTES, device=tensor.device)].cpu().numpy().tobytes()


def _read(path: Path, place: Stored) -> bytes:
    parts = []
    with path.open("rb") as file:
        for piece in place.pieces:
            file.seek(place.begin + piece)
            parts.append(file.read(PIECE_BYTES))
    return b"".join(parts)
