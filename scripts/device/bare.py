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


WARM_SECONDS, TIMED_SECONDS = 1.0, 1.5
"""As long as the product takes of a case: a GPU under load soon runs into its power cap, a short loop never does."""


def host_median(run: Callable[[], object]) -> float:
    times = []
    ends = time.perf_counter() + TIMED_SECONDS
    while not times or time.perf_counter() < ends:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def device_median(run: Callable[[], object]) -> float:
    pairs = []
    ends = time.perf_counter() + TIMED_SECONDS
    while not pairs or time.perf_counter() < ends:
        for _ in range(10):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            pairs.append((start, end))
        torch.cuda.synchronize()
    times = sorted(start.elapsed_time(end) / 1e3 for start, end in pairs)
    return times[len(times) // 2]


def timed(device: torch.device, run: Callable[[], object]) -> float:
    ends = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < ends:
        for _ in range(8):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (device_median if device.type == "cuda" else host_median)(run)


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
    sizes = [(BIG[kind], short), (SMALL[kind], short), (BIG[kind], torch.float32)]
    if is_cuda:
        sizes += [(1024, short), (1024, torch.float16)]
    for size, dtype in dict.fromkeys(sizes):
        found[f"matmul {size} {str(dtype)[6:]}"] = timed(device, product(size, dtype, device))
    if is_cuda:
        found[f"matmul {BIG[kind]} float8_e4m3fn"] = timed(device, float8_product(BIG[kind], device))
        found["matmul 256 bfloat16 in a graph"] = timed(device, in_a_graph(product(256, short, device), 100)) / 100
        found["two events around nothing"] = timed(device, lambda: None)
    source = torch.randn(COPY_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    found[f"copy {COPY_BYTES[kind]}"] = timed(device, lambda: target.copy_(source))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    all_seconds = figures(torch.device(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(all_seconds))
    for label, seconds in all_seconds.items():
        print(f"INFO bare {label}: {seconds * 1e6:.2f} us")
