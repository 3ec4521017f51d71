"""What fake tensors leave out: generators, values that are read, and bytes that are alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

aten = torch.ops.aten
ALLOCATED_BYTES = 512
"""Torch's allocator gives out multiples of it (CUDACachingAllocator.cpp, kMinBlockSize)."""
PLAIN = (Tensor, FakeTensor, torch.nn.Parameter)
WHOLE = (torch.int64, torch.int32, torch.bool)


class FakeGenerator(torch.Generator):
    """A generator of the host whose seed tells for which kind of device it was wanted; it draws nothing."""

    def __new__(cls, device: torch.device | str = "cpu") -> FakeGenerator:
        generator = super().__new__(cls)
        super(FakeGenerator, generator).manual_seed(SEEDS[torch.device(device).type])
        return generator

    def manual_seed(self, seed: int) -> FakeGenerator:
        return self


SEEDS = {"cpu": 1, "cuda": 2}


class Tensors(TorchDispatchMode):
    """Goes above a FakeTensorMode. `alive` and `peak`: bytes of the tensors on the device, now and at most.

    With `keeps_integers` whole numbers have values beside their fake tensors, as far as they come from whole numbers.
    """

    def __init__(self, keeps_integers: bool) -> None:
        super().__init__()
        self.peak = self.alive = 0
        self._sizes: Any = WeakIdKeyDictionary()
        self._references: dict[int, Any] = {}
        self._integers: Any = WeakIdKeyDictionary()
        self._keeps_integers = keeps_integers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if any(kind not in PLAIN for kind in types):
            return NotImplemented  # a DTensor; its parts come here one by one
        generator = kwargs.get("generator")
        if generator is not None:
            kwargs["generator"] = None
        if func is aten._local_scalar_dense.default:
            return self._value(args[0])
        result = self._called(func, args, kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                assert generator is None or generator.initial_seed() == SEEDS[tensor.device.type], (
                    f"{func}: a generator of another device draws for a tensor on {tensor.device}"
                )
                self._count(tensor)
        return result

    def _value(self, tensor: Tensor) -> Any:
        known = self._real(tensor)
        if known is not None:
            with unset_fake_temporarily():
                return known.item()
        return True if tensor.dtype is torch.bool else 1.0 if tensor.dtype.is_floating_point else 1

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation on fake tensors; on whole numbers that are known also on these."""
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        reals = [self._real(each) for each in given]
        is_known = (
            self._keeps_integers
            and func.namespace == "aten"
            and all(each is not None and each.dtype in WHOLE for each in reals)
        )
        if func in DYNAMIC and is_known:
            real = self._of_real(func, args, kwargs)
            result = tree_map_only(Tensor, partial(_fake, device=given[0].device), real)
        else:
            result = func(*args, **kwargs)
            fakes = [each for each in tree_leaves(result) if isinstance(each, FakeTensor)]
            if not is_known or not fakes or not all(each.dtype in WHOLE for each in fakes):
                return result
            real = self._of_real(func, args, kwargs)
        for fake, value in zip(tree_leaves(result), tree_leaves(real), strict=True):
            if isinstance(fake, FakeTensor):
                self._integers[fake] = value
        return result

    def _of_real(self, func: Any, args: Any, kwargs: Any) -> Any:
        host_args, host = tree_map_only(Tensor, self._real, (args, kwargs))
        if host.get("device") is not None:
            host = {**host, "device": torch.device("cpu")}
        with unset_fake_temporarily():
            return func(*host_args, **host)

    def _real(self, tensor: Tensor) -> Tensor | None:
        if not isinstance(tensor, FakeTensor):
            return tensor
        return self._integers.get(tensor) if tensor.dtype in WHOLE else None

    def _count(self, tensor: Tensor) -> None:
        if tensor.device.type != "cuda":
            return
        storage = tensor.untyped_storage()
        if storage not in self._sizes:
            size = _allocated(storage)
            self._sizes[storage] = size
            # The reference has to live as long as the storage: only then its end is told.
            self._references[id(storage)] = weakref.ref(storage, partial(self._freed, id(storage), [size]))
            self._changed(size)

    def _freed(self, key: int, size: list[int], _reference: Any) -> None:
        del self._references[key]
        self._changed(-size[0])

    def _changed(self, num_bytes: int) -> None:
        self.alive += num_bytes
        self.peak = max(self.peak, self.alive)

    def resized(self, resize: Callable[..., Any]) -> Callable[..., Any]:
        """UntypedStorage.resize_, by which fully_shard frees what it had gathered; no operation tells of it."""

        @wraps(resize)
        def call(storage: Any, size: int) -> None:
            resize(storage, size)
            before = self._sizes.get(storage)
            if before is not None:
                after = self._sizes[storage] = _allocated(storage)
                self._references[id(storage)].__callback__.args[1][0] = after
                self._changed(after - before)

        return call


DYNAMIC = (aten.bincount.default, aten.nonzero.default, aten.repeat_interleave.Tensor)
"""Operations the size of whose result depends on values."""


def _fake(real: Tensor, device: torch.device) -> Tensor:
    return torch.empty(real.shape, dtype=real.dtype, device=device)


def _allocated(storage: Any) -> int:
    return -(-int(storage.size()) // ALLOCATED_BYTES) * ALLOCATED_BYTES


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """scaled_dot_product_attention by the kernel that torch chooses on CUDA (sdp_utils.cpp, select_sdp_backend).

    Flash for 16 bits without a mask; memory-efficient for 16 and 32 bits without grouped heads; else plain products.
    """
    is_short, is_wide = query.dtype.itemsize == 2, query.dtype.itemsize > 4
    if is_short and attn_mask is None:
        flash = aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]
    if not is_wide and not enable_gqa:
        needs_backward = torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value))
        bias = attn_mask
        if attn_mask is not None and attn_mask.dtype is torch.bool:
            bias = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(attn_mask.logical_not(), -torch.inf)
        if bias is not None:
            bias = bias.expand(*query.shape[:-1], key.shape[-2])
        efficient = aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, bias, needs_backward, dropout_p, is_causal, scale=scale)[0]
    plain = aten._scaled_dot_product_attention_math
    return plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]
