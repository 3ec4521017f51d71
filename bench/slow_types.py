"""Types whose products this processor has no instructions for: asked before any is tried, and told as a finding.

A product in such a type goes through plain loops and takes tens of times as long as in float32, so that one case of
the usual size can eat the time of all others. Suites know from `Machine.slow_types`: the compute suite takes the
smallest size alone, so that the figure is there, and the others leave their cases in it out.

On a CPU it is oneDNN that has or lacks the path: `torch.backends.cpu.get_cpu_capability()` is not the question, since
it tells what torch's own kernels use. On a core with AMX a bfloat16 product of 256 takes 0.06 ms, and 30 ms where
ONEDNN_MAX_CPU_ISA=AVX2 keeps oneDNN from it; with ATEN_CPU_CAPABILITY=avx2 alone it stays fast (torch 2.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.finding import Finding

if TYPE_CHECKING:
    from bench.result import Result

_QUESTIONS = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
"""Type -> the operator of torch that says whether oneDNN multiplies in it here (torch 2.8 to 2.14)."""
_BASE = "float32"


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
    asked = {dtype: getattr(torch.ops.mkldnn, name, None) for dtype, name in _QUESTIONS.items()}
    return frozenset(dtype for dtype, ask in asked.items() if ask is not None and not ask())


def findings(result: Result) -> list[Finding]:
    """One for each slow type that was measured, with how many times slower its products are where that is known."""
    from bench import frame

    if not result.slow_types():  # the usual case costs nothing
        return []
    rows = [row for row in frame.case_rows([result]) if row["status"] == "ok" and row["tflop_per_s"] is not None]
    measured = sorted({str(row["params"].get("dtype")) for row in rows} & result.slow_types())
    return [_finding(dtype, _times_slower(dtype, rows)) for dtype in measured]


def _finding(dtype: str, slower: tuple[float, int] | None) -> Finding:
    value = "this processor has no instructions for products in it"
    if slower is not None:
        value += f": one of {slower[1]} takes {_times(slower[0])} as long as in {_BASE}"
    remedy = f"compute in {_BASE} here; only its smallest product was measured, and other suites leave it out"
    return Finding("warn", dtype, value, remedy)


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def _times_slower(dtype: str, rows: list[dict[str, Any]]) -> tuple[float, int] | None:
    """How many times as long as in float32 a product of one size takes, and the size, the largest that has both."""
    seconds: dict[str, dict[int, float]] = {dtype: {}, _BASE: {}}
    for row in rows:
        params = row["params"]
        if row["suite"] == "compute" and params.get("shape") == "square" and params.get("dtype") in seconds:
            seconds[params["dtype"]][params["size"]] = row["seconds_median"]
    both = [size for size in seconds[dtype] if seconds[_BASE].get(size)]
    return (seconds[dtype][max(both)] / seconds[_BASE][max(both)], max(both)) if both else None
