"""The kernels that the product measures, in plain torch loops without it: python -m device.bare DEVICE OUT.json

Each figure is the median time of one call in seconds: by CUDA events on a GPU, by the host's clock on a CPU.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

BIG = {"cuda": 8192, "cpu": 512}
SMALL = {"cuda": 2048, "cpu": 256}
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}


def host_median(run: Callable[[], object], calls: int) -> float:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return sorted(times)[calls // 2]


def device_median(run: Callable[[], object], calls: int) -> float:
    pairs = []
    for _ in range(calls):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return sorted(start.elapsed_time(end) / 1e3 for start, end in pairs)[calls // 2]


def timed(device: torch.device, run: Callable[[], object], calls: int = 30) -> float:
    for _ in range(8):
        run()
    return (device_median if device.type == "cuda" else host_median)(run, calls)


def product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    c = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)


def float8_product(size: int, device: torch.device) -> Callable[[], object]:
    a = torch.randn(size, size, device=device).to(torch.float8_e4m3fn)
    b = torch.randn(size, size, device=device).to(torch.float8_e4m3fn).t()
    one, c = torch.ones((), device=device), torch.empty(size, size, device=device, dtype=torch.bfloat16)
    return lambda: torch._scaled_mm(a, b, one, one, out_dtype=c.dtype, use_fast_accum=True, out=c)


def in_a_graph(run: Callable[[], object], calls: int) -> Callable[[], object]:
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    return graph.replay


def figures(device: torch.device) -> dict[str, float]:
    kind = device.type
    is_cuda = kind == "cuda"
    short = torch.bfloat16 if is_cuda else torch.float32
    found = {}
    for size, dtype in dict.fromkeys(((BIG[kind], short), (SMALL[kind], short), (BIG[kind], torch.float32))):
        found[f"matmul {size} {str(dtype)[6:]}"] = timed(device, product(size, dtype, device))
    if is_cuda:
        found[f"matmul {BIG[kind]} float8_e4m3fn"] = timed(device, float8_product(BIG[kind], device))
        found["matmul 256 bfloat16 in a graph"] = timed(device, in_a_graph(product(256, short, device), 100)) / 100
        found["two events around nothing"] = timed(device, lambda: None, 200)
    source = torch.randn(COPY_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    found[f"copy {COPY_BYTES[kind]}"] = timed(device, lambda: target.copy_(source), 20)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    all_seconds = figures(torch.device(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(all_seconds))
    for label, seconds in all_seconds.items():
        print(f"INFO bare {label}: {seconds * 1e6:.2f} us")
