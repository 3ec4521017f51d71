"""Attention with grouped heads whose memory grows with the sequence and not with its square, on every device.

Importing this module imports torch.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def grouped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    is_causal: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention of [batch, heads, length, head_dim] over keys and values of as many or fewer heads.

    CUDA's fused kernels take fewer key-value heads only without a mask and in 16 bits: flash and cuDNN know no
    float32 and no mask, and the memory-efficient kernel no grouped heads (torch's sdp_utils.cpp, which asks
    `check_batch_size_and_num_heads_dense` of it). Anything else would fall back to the kernel that keeps all scores,
    [heads, length, length]. There each key-value head is repeated for its queries instead, which costs a share of that.
    """
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1 and not _takes_groups(query, mask):
        key, value = (tensor.repeat_interleave(num_groups, dim=1) for tensor in (key, value))
        num_groups = 1
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=num_groups > 1
    )


def _takes_groups(query: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Return True if a fused kernel of this device takes fewer key-value heads than query heads."""
    return not query.is_cuda or (query.element_size() <= 2 and mask is None)
