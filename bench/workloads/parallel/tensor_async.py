"""Asynchronous tensor parallelism: torch cuts an all-gather or reduce-scatter and its product into overlapping pieces.

The block of `sequence` is compiled. Inductor's pass `_micro_pipeline_tp` replaces each all-gather followed by a
product, and each product followed by a reduce-scatter, with one operator over symmetric memory
(torch/_inductor/fx_passes/micro_pipeline_tp.py; Wang et al. 2023, "Overlap communication with dependent computation via
decomposition", ASPLOS). The pass skips code that it does not recognise, without a message. So the compiled graph is
read, and without a single fused operator there is nothing to measure under this name.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

FUSED = (
    "symm_mem.fused_all_gather_matmul",
    "symm_mem.fused_all_gather_scaled_matmul",
    "symm_mem.fused_matmul_reduce_scatter",
    "symm_mem.fused_scaled_matmul_reduce_scatter",
)
"""Operators that the pass puts in."""
LEFT = ("_c10d_functional.all_gather_into_tensor", "_c10d_functional.reduce_scatter_tensor")
"""Collectives that it should have replaced."""


@dataclass
class Graphs:
    """Counts of operators in the graphs that were compiled, after all passes."""

    found: Counter[str] = field(default_factory=Counter)

    def look(self, graph: torch.fx.Graph) -> None:
        """Inductor calls it at the end of its passes over a graph."""
        self.found.update(count_operators(node.target for node in graph.nodes if node.op == "call_function"))

    @property
    def num_fused(self) -> int:
        return sum(self.found[name] for name in FUSED)

    def said(self) -> str:
        """Describe the graphs, such as `2 fused operators, 1 collective left`."""
        left = sum(self.found[name] for name in LEFT)
        return f"{self.num_fused} fused operators, {left} all-gathers and reduce-scatters left as they were"


def count_operators(targets: Iterable[Any]) -> Counter[str]:
    """Count the calls of each operator of interest: `symm_mem.fused_all_gather_matmul.default` under its name."""
    names = (str(target).rpartition(".")[0] or str(target) for target in targets)
    return Counter(name for name in names if name in (*FUSED, *LEFT))


def skip_reason(device_type: str, backend: str, num_hosts: int) -> str | None:
    """Return the reason for which it cannot run here; None if it can."""
    if device_type != "cuda" or backend != "nccl":
        return f"async_tp: needs GPUs with symmetric memory and NCCL, and this is {device_type} with {backend}"
    if num_hosts > 1:
        return f"async_tp: symmetric memory is of the GPUs of one host, and the group is on {num_hosts}"
    return None


def compile_block(block: nn.Module, group: dist.ProcessGroup, graphs: Graphs) -> nn.Module:
    """The block, to be compiled at its first call; `graphs` then knows what was fused."""
    import torch.distributed._symmetric_memory as symmetric_memory

    with warnings.catch_warnings():
        # Deprecated as needless in 2.13, whose pass nevertheless leaves alone every group that was not named so.
        warnings.simplefilter("ignore", FutureWarning)
        symmetric_memory.enable_symm_mem_for_group(group.group_name)
    options: dict[str, Any] = {"_micro_pipeline_tp": True, "post_grad_custom_post_pass": graphs.look}
    # Of a module it makes a module, which its annotations do not say.
    return cast("nn.Module", torch.compile(block, options=options, fullgraph=True, dynamic=False))
