"""Faults of kernels, of the numbers that they are given, and of the optimizer."""

from __future__ import annotations

from typing import Any

from tests.seeded.injection import Injection


def product_in_bfloat16(injection: Injection) -> None:
    """Products of float32 that are taken in bfloat16."""
    import torch

    def faulty(_original: Any, a: Any, b: Any, *, out: Any) -> Any:
        return out.copy_(torch.mm(a.bfloat16(), b.bfloat16()))

    injection.instead(torch, "matmul", faulty, lambda a, b, out=None: out is not None and a.dtype == torch.float32)


def product_of_before(injection: Injection) -> None:
    """A product that leaves its output as it is while the inputs are the same as the last time."""
    import torch

    last: dict[int, tuple[Any, ...]] = {}

    def faulty(original: Any, a: Any, b: Any, *, out: Any) -> Any:
        state = a.data_ptr(), a._version, b.data_ptr(), b._version
        if last.get(out.data_ptr()) == state:
            return out
        last[out.data_ptr()] = state
        return original(a, b, out=out)

    injection.instead(torch, "matmul", faulty, lambda _a, _b, out=None: out is not None)


def product_not_taken(injection: Injection) -> None:
    import torch

    injection.instead(torch, "matmul", lambda _o, _a, _b, out: out, lambda _a, _b, out=None: out is not None)


def copy_of_a_half(injection: Injection) -> None:
    """A copy of large tensors that ends half-way."""
    import torch

    def faulty(original: Any, target: Any, source: Any, *args: Any, **named: Any) -> Any:
        half = len(target) // 2
        original(target[:half], source[:half], *args, **named)
        return target

    injection.instead(torch.Tensor, "copy_", faulty, _is_large)


def _is_large(target: Any, source: Any, *_args: Any, **_named: Any) -> bool:
    return bool(target.dim() == 1 and target.numel() >= 2**20 and source.shape == target.shape)


def triad_without_its_sum(injection: Injection) -> None:
    """The scaled sum of two tensors without the factor."""
    import torch

    injection.instead(
        torch,
        "add",
        lambda original, a, b, *, alpha, out: original(a, b, out=out),
        lambda *_args, **named: "alpha" in named and "out" in named,
    )


def zeros_for_random_numbers(injection: Injection) -> None:
    """Inputs that are all zero."""
    import torch

    injection.after(torch, "randn", lambda result, *_args, **_named: result.zero_())


def optimizer_does_nothing(injection: Injection) -> None:
    import torch

    injection.instead(torch.optim.AdamW, "step", lambda _original, _self, *_args: None)


def gradients_kept(injection: Injection) -> None:
    """Gradients that are not cleared before a step, so that they add up."""
    import torch

    injection.instead(torch.optim.Optimizer, "zero_grad", lambda _original, _self, *_args, **_named: None)


def loss_of_half_the_tokens(injection: Injection) -> None:
    from torch.nn import functional

    def faulty(original: Any, logits: Any, targets: Any, *args: Any, **named: Any) -> Any:
        half = len(logits) // 2
        return original(logits[:half], targets[:half], *args, **named)

    injection.instead(functional, "cross_entropy", faulty)


def shard_gradient_scaled(injection: Injection) -> None:
    """The gradient of a shard of a matrix, 512 rows of 1024, 1% too large."""
    import torch

    def spoil(gradients: Any, *_args: Any, **_named: Any) -> None:
        for gradient in gradients:
            if tuple(gradient.shape) == (512, 256):
                gradient.mul_(1.01)

    injection.after(torch.autograd, "grad", spoil)


def without_the_last_key(injection: Injection) -> None:
    """Attention of a single query that leaves out the newest key."""
    from torch.nn import functional

    def faulty(original: Any, query: Any, key: Any, value: Any, *args: Any, **named: Any) -> Any:
        return original(query, key[..., :-1, :], value[..., :-1, :], *args, **named)

    injection.instead(
        functional,
        "scaled_dot_product_attention",
        faulty,
        lambda query, key, *_args, **_named: query.shape[-2] == 1 and key.shape[-2] > 1,
    )
