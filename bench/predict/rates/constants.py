"""Everything that was fitted, or taken from a paper, frozen in `bench/catalog/data/predict_constants.json`.

`common` holds for every device and every software: what is reached of the catalogue's rates, latencies, traffic. A
`Stack` is one kind of training software: which attention kernel, what it overlaps, what its host needs a kernel. A
constant belongs to a stack, never to one published run or one paper; `scripts/evidence/fit_predict.py` fits them on
the rows that the file names under `fitted_on`, and `scripts/validate_predict.py` tries them on all others.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from bench.errors import BenchError

HOT_WATTS = 600.0
"""Power from H100 on; an A100 has 400 W."""


@dataclass(frozen=True)
class Common:
    """Constants of every device and software. Shares are of the catalogue's rates."""

    matmul_share: float
    """Share of the best rate that a multiplication reached alone: clocks fall if all units work for minutes."""
    hot_matmul_share: float
    """That share of devices of HOT_WATTS and more, and of those of unknown power: the more careful one."""
    fp8_share: float
    """That share in fp8, casts included."""
    wave_elements: float
    """Elements of the output at which half of the rate is reached, on a device of 312 TFLOP/s; more on a faster one."""
    depth_elements: float
    """Length of the products at which half of the rate is reached."""
    memory_share: float
    attention_share: float
    """Share of the rate that a fused attention kernel's authors published."""
    ring_share: float
    """Share of attention's rate if keys and values come from other ranks, a chunk at a time."""
    inside_share: float
    """Bus bandwidth / one-way link rate within a scale-up domain."""
    across_share: float
    """Bus bandwidth / NIC rate."""
    start_seconds: float
    """Seconds of a transfer, whatever its size and group: launches, and until the last rank has arrived."""
    inside_latency_seconds: float
    """Seconds of a ring's step, not fitted: NCCL's own model (src/graph/tuning.cc, hwLat: NVLink, ring, Simple)."""
    across_latency_seconds: float
    """Seconds of a ring's step, not fitted: all-gathers of 256 MB on 8, 16, 32 and 64 nodes of eight GPUs reach 178,
    127, 77 and 44 GB/s (95th percentile; Hugging Face, Ultra-Scale Playbook), which is 0.7 ms and 10 to 12 us per
    step."""
    overlap_tax: float
    """Share of a hidden transfer's time by which the computation over it becomes longer."""
    jitter_share: float
    """Standard deviation of a rank's own work in a step, as a share of it."""


@dataclass(frozen=True)
class Stack:
    """One kind of training software."""

    description: str
    attention: str
    """Row of ATTENTION: the kernel."""
    kernel_seconds: float
    """The host's time for one kernel: below it the device waits for the host."""
    traffic: float
    """Bytes that element-wise work moves, as a multiple of the fused kernels of Megatron-LM."""
    sequence_parallel: bool
    tensor_exposed: float
    """Share of tensor-parallel transfers that computation does not hide."""
    data_overlap: bool
    pipeline_exposed: float
    sends_slices: bool
    """A tensor-parallel rank sends its slice of a pipeline's boundary, not all (arXiv 2104.04473, section 4.1)."""
    gradient_bytes: int
    zero: int
    """Stage of ZeRO if none is given: 1 shards optimizer states, 2 gradients too, 3 parameters too (FSDP)."""
    compiled_loss: bool
    """The loss is one compiled kernel, that keeps no float32 copies of the logits."""
    torch_parallel: bool
    """torch's own DTensor and pipelining split the model: inputs of products that were gathered along the sequence are
    kept in full until the backward, and the boundaries of all microbatches have buffers."""
    eight_bit_inputs: bool
    """Inputs of fp8 products are kept for the backward in one byte (Transformer Engine's linear layers)."""
    step_seconds: float
    """Seconds of a step, whatever its size: the optimizer's launches, loss scaling, logging."""


@dataclass(frozen=True)
class Constants:
    common: Common
    stacks: dict[str, Stack]
    fitted_on: tuple[str, ...]
    made: str
    error_share: float
    """Standard deviation of the logarithm of predicted / measured over rows that were not fitted."""

    def stack(self, name: str) -> Stack:
        if name not in self.stacks:
            raise BenchError(f"no stack named {name!r}; there are: {', '.join(self.stacks)}")
        return self.stacks[name]


# Forward-and-backward rate of fused attention at a head size of 128, in FLOP/s: kernel -> first letters of the device.
# FlashAttention-2 (arXiv 2307.08691, section 4.1): up to 225 TFLOP/s a GPU in training on A100; 335 on H100 (figure 6).
# FlashAttention-3 (arXiv 2407.08608, section 4.1): up to 740 forward, and 1.5 to 1.75 x FlashAttention-2 backward.
# A kernel in Triton, of 2023: FlashAttention-2's authors find theirs 1.3 to 2.5 x as fast (same section); the middle,
# 1.9. Others: of the rate of the best product the share that FlashAttention-3 reaches on H100, 600 of 794.5 TFLOP/s,
# which is an assumption.
ATTENTION: dict[str, dict[str, float]] = {
    "flash2": {"A": 225e12, "H": 335e12, "GH": 335e12},
    "flash-triton": {"A": 118e12, "H": 176e12, "GH": 176e12},
    "fused": {"A": 225e12, "H": 600e12, "GH": 600e12},
    "unfused": {},
}
ATTENTION_OTHER_SHARE = 600.0 / 794.5


def attention_flops_per_s(kernel: str, device_name: str, reached: float) -> float:
    """FLOP/s of a kernel on a device whose best product reaches `reached`: no attention beats that (H20, not H100)."""
    letters = "".join(c for c in device_name.split("-")[0] if c.isalpha())
    rate = ATTENTION[kernel].get(letters, reached)
    return rate if rate < reached else ATTENTION_OTHER_SHARE * reached


def from_json(document: dict[str, Any]) -> Constants:
    fields = {f.name for f in dataclasses.fields(Common)}
    return Constants(
        common=Common(**{key: float(value) for key, value in document["common"].items() if key in fields}),
        stacks={name: Stack(**row) for name, row in document["stacks"].items()},
        fitted_on=tuple(document["fitted_on"]),
        made=str(document["made"]),
        error_share=float(document["error_share"]),
    )


@functools.cache
def frozen() -> Constants:
    text = (resources.files("bench.catalog.data") / "predict_constants.json").read_text(encoding="utf-8")
    return from_json(json.loads(text))
