"""Faults of checkpoints and of the input pipeline."""

from __future__ import annotations

import copy
from typing import Any

from tests.seeded.injection import Injection


def _local_tensors(state: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree

    leaves = [leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, torch.Tensor) and leaf.numel() > 1]
    return [getattr(leaf, "_local_tensor", leaf).detach() for leaf in leaves]


def bit_flipped(injection: Injection) -> None:
    """One bit of a loaded state is wrong."""
    import torch
    from torch.distributed.checkpoint import state_dict_loader

    def spoil(_result: Any, state: Any, *_args: Any, **_named: Any) -> None:
        _local_tensors(state)[0].view(-1).view(torch.int32)[0] ^= 1

    injection.after(state_dict_loader, "load", spoil)


def loads_nothing(injection: Injection) -> None:
    """A load that takes part, as the other ranks wait for it, and leaves the state as it was."""
    from torch.distributed.checkpoint import state_dict_loader

    def faulty(original: Any, state: Any, *args: Any, **named: Any) -> None:
        before = [tensor.clone() for tensor in _local_tensors(state)]
        original(state, *args, **named)
        for tensor, value in zip(_local_tensors(state), before, strict=True):
            tensor.copy_(value)

    injection.instead(state_dict_loader, "load", faulty)


def saves_the_first_state(injection: Injection) -> None:
    """Saves write the state that the first one had."""
    from torch.distributed.checkpoint import state_dict_saver

    kept: list[Any] = []

    def faulty(original: Any, state: Any, *args: Any, **named: Any) -> Any:
        kept[:] = kept or [copy.deepcopy(state)]
        return original(kept[0], *args, **named)

    for name in ("save", "async_save"):
        injection.instead(state_dict_saver, name, faulty)


def batch_twice(injection: Injection) -> None:
    """An epoch delivers its first batch twice, and leaves out the second."""
    from torch.utils.data import DataLoader

    def faulty(original: Any, loader: Any) -> Any:
        first = None
        for number, batch in enumerate(original(loader)):
            first = batch if number == 0 else first
            yield first if number == 1 else batch

    injection.instead(DataLoader, "__iter__", faulty)


def short_epoch(injection: Injection) -> None:
    """An epoch ends after its first batch."""
    from torch.utils.data import DataLoader

    injection.instead(DataLoader, "__iter__", lambda original, loader: iter([next(iter(original(loader)))]))


def share_of_rank_0(injection: Injection) -> None:
    """The sampler gives this rank the share of rank 0."""
    from torch.utils.data import DistributedSampler

    def faulty(original: Any, sampler: Any) -> Any:
        sampler.rank = 0
        return original(sampler)

    injection.instead(DistributedSampler, "__iter__", faulty)


def last_byte_lost(injection: Injection) -> None:
    """Files whose last byte is read as zero."""
    import numpy as np

    def spoil(result: Any, *_args: Any, **_named: Any) -> None:
        result[-1:] = result[-1:] ^ 1

    injection.after(np, "fromfile", spoil)
