"""Types whose products this processor has no instructions for: asked before any is tried, and reported as a finding.

A product in such a type goes through plain loops and takes tens of times as long as in float32, so that one case of
the usual size can eat the time of all others. Suites know from `Machine.slow_types`: the compute suite takes the
smallest size alone, so that the figure is there, and the others leave their cases in it out.

On a CPU it is oneDNN that has or lacks the path: `torch.backends.cpu.get_cpu_capability()` is not the question, since
it tells what torch's own kernels use. On a core with AMX a bfloat16 product of 256 takes 0.06 ms, and 30 ms where
ONEDNN_MAX_CPU_ISA=AVX2 keeps oneDNN from it; with ATEN_CPU_CAPABILITY=avx2 alone it stays fast (torch 2.13).
"""

from __future__ import annotations

from typing import Any

_QUESTIONS = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
"""Type -> the operator of torch that says whether oneDNN multiplies in it here (torch 2.8 to 2.14)."""


def slow_types(device_type: str) -> frozenset[str]:
    """Floating types without a fast product on this process's devices, as torch itself tells.

    A question that this torch does not know leaves its type out: the first call of a case still prices it.
    """
    if device_type != "cpu":
        return frozenset()
    import torch

    mkldnn: Any = torch.backends.mkldnn  # untyped
    if not mkldnn.is_available():
        return frozenset(_QUESTIONS)
    questions = {dtype: getattr(torch.ops.mkldnn, name, None) for dtype, name in _QUESTIONS.items()}
    return frozenset(dtype for dtype, ask in questions.items() if ask is not None and not ask())
