"""Checkpoints of a sharded model that trains: saving, loading, and the folders of its saves.

Importing this module imports torch: the suite imports it inside `prepare`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    import torch.distributed as dist

    from bench.measure.engine.rank import RankContext


Seen = Callable[[list[torch.Tensor], list[Any]], object]


@dataclass
class Training:
    """A sharded model with its optimizer: what is saved and loaded, and goes on meanwhile."""

    model: Any
    optimizer: torch.optim.Optimizer
    batch: torch.Tensor

    def step(self) -> None:
        loss = self.model(self.batch).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def set_state(self, state: Mapping[str, Any]) -> None:
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def leaves(self) -> tuple[list[torch.Tensor], list[Any]]:
        """This rank's own tensors, and the settings of the optimizer, each in one fixed order."""
        tensors: list[torch.Tensor] = []
        others: list[Any] = []
        _collect(self.state(), tensors, others)
        return tensors, others

    def overwrite(self) -> None:
        """Leaves nothing of the state as it was."""
        with torch.no_grad():
            for tensor in self.leaves()[0]:
                tensor.fill_(torch.nan)
        for group in self.optimizer.param_groups:
            group["lr"] = -1.0


def _collect(value: Any, tensors: list[torch.Tensor], others: list[Any]) -> None:
    """Sorts the leaves of a state into tensors (of a sharded one this rank's part) and everything else."""
    if isinstance(value, DTensor):
        tensors.append(value.to_local().detach())
    elif isinstance(value, torch.Tensor):
        tensors.append(value.detach())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            _collect(value[key], tensors, others)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, tensors, others)
    else:
        others.append(value)


def make_training(hidden: int, num_layers: int, batch_size: int, rank: RankContext) -> Training:
    """`num_layers` linear layers of [hidden, hidden], each sharded over all ranks; random weights, and moments from one
    real step on a batch of [batch_size, hidden] a rank."""
    with torch.device("meta"):
        layers = [nn.Linear(hidden, hidden, bias=False) for _ in range(num_layers)]
        model = nn.Sequential(*layers)
    mesh = rank.mesh((rank.world_size,), ("data",))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device=rank.device)
    generator = rank.generator(rank.index)
    with torch.no_grad():
        for parameter in model.parameters():
            assert isinstance(parameter, DTensor)
            parameter.to_local().normal_(std=hidden**-0.5, generator=generator)
    batch = torch.randn(batch_size, hidden, device=rank.device, generator=generator)
    training = Training(model, torch.optim.AdamW(model.parameters(), lr=1e-4), batch)
    training.step()
    return training


@dataclass
class Checkpoints:
    """The folders of a case, and what is written into and read from them."""

    training: Training
    root: Path
    fsync: bool
    group: dist.ProcessGroup
    """A gloo group of its own: a save in the background must not get between the messages of others."""
    removes: bool
    """True: this rank removes what all have written."""
    num_saves: int = 0
    pending: Any = None
    """The future of an asynchronous save."""
    ended: list[bool] = field(default_factory=list)
    """One entry per `steps_and_save`: True if the save was done when the steps were."""

    @property
    def current(self) -> Path:
        return self.root / f"save{self.num_saves}"

    def renew(self) -> None:
        """Waits for a save in the background, removes the files, and names a fresh folder."""
        self.finish()
        if self.removes:
            shutil.rmtree(self.current, ignore_errors=True)
        self.num_saves += 1

    def finish(self) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def _writer(self, folder: Path) -> Any:
        return FileSystemWriter(folder, sync_files=self.fsync)

    def save(self, folder: Path | None = None) -> None:
        """Into the current folder, or another."""
        save(self.training.state(), storage_writer=self._writer(folder or self.current), process_group=self.group)

    def begin_save(self) -> None:
        writer = self._writer(self.current)
        self.pending = async_save(self.training.state(), storage_writer=writer, process_group=self.group)

    def save_meanwhile(self) -> None:
        self.begin_save()
        self.finish()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.training.step()

    def steps_and_save(self, count: int) -> None:
        self.begin_save()
        self.steps(count)
        self.ended.append(bool(self.pending.done()))

    def load(self, folder: Path) -> None:
        state = self.training.state()
        load(state, storage_reader=FileSystemReader(folder), process_group=self.group)
        self.training.set_state(state)

    def errors(self, save: Callable[[], object], load: Callable[[], object], seen: Seen | None = None) -> int:
        """Count the bytes and settings of this rank's state that differ after saving, overwriting and loading it.

        `seen` is given the state, when the files are there.
        """
        self.renew()
        tensors, settings = self.training.leaves()
        saved = [tensor.clone() for tensor in tensors]
        save()
        self.training.overwrite()
        self.finish()
        if seen is not None:
            seen(saved, settings)
        load()
        tensors, others = self.training.leaves()
        return differing_bytes(saved, tensors) + sum(bool(a != b) for a, b in zip(settings, others, strict=True))


def differing_bytes(saved: Iterable[torch.Tensor], loaded: Iterable[torch.Tensor]) -> int:
    """Bytes that differ between tensors and their counterparts."""
    pairs = zip(saved, loaded, strict=True)
    return sum(int((a.reshape(-1).view(torch.uint8) != b.reshape(-1).view(torch.uint8)).sum()) for a, b in pairs)
