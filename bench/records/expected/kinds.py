"""Kinds of published figures that the rates of cases are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MIN_MEMORY_BYTES = 256 << 20
"""Array from which on no cache holds a copy."""

_PRODUCTS = {"bfloat16": "matmul_bf16", "float16": "matmul_fp16", "float8_e4m3fn": "matmul_fp8"}
_COPIES = {
    "host_to_device_memcpy_ce": "h2d_copy",
    "device_to_host_memcpy_ce": "d2h_copy",
    "device_to_device_memcpy_read_ce": "p2p_copy",
    "device_to_device_memcpy_write_ce": "p2p_copy",
}


class Asked(NamedTuple):
    """Kind of published figures that a row's rate is of, and what decides it besides the machine."""

    kind: str
    metric: str
    unit: str
    num_bytes: int | None = None
    size: int | None = None
    is_per_device: bool = True
    """True for one device, or a pair, however many work; False if all ranks work together."""


def asked_of(row: Mapping[str, Any]) -> Asked | None:
    """The kind of published figures that a row is compared with; None if there is none."""
    from bench.catalog.expectations import MIN_BYTES

    params = row["params"]
    maker = _KINDS.get(row["suite"])
    asked = maker(params, str(params.get("op"))) if maker else None
    is_small = asked is not None and asked.kind.endswith("_busbw") and (asked.num_bytes or 0) < MIN_BYTES
    return None if is_small else asked


def _collective(params: Mapping[str, Any], op: str) -> Asked | None:
    """A plain call: what torch or NCCL do by special means has no published figures."""
    plain = {"async_op": (None, False), "graph": (None, False), "buffer": (None, "plain"), "redop": (None, "sum")}
    if any(params.get(name) not in values for name, values in plain.items()):
        return None
    return Asked(f"{op}_busbw", "busbw_gb_per_s", "GB/s", _count(params.get("num_bytes")), is_per_device=False)


def _compute(params: Mapping[str, Any], op: str) -> Asked | None:
    num_bytes, kind = _count(params.get("num_bytes")), _PRODUCTS.get(str(params.get("dtype")))
    if op in ("copy", "triad"):
        is_large = num_bytes is not None and num_bytes >= MIN_MEMORY_BYTES
        return Asked(f"memory_{op}", "membw_gb_per_s", "GB/s") if is_large else None
    if op != "matmul" or kind is None or params.get("shape") != "square" or params.get("l2") == "cold":
        return None
    return Asked(kind, "tflop_per_s", "TFLOP/s", size=_count(params.get("size")))


def _copy(params: Mapping[str, Any], op: str) -> Asked | None:
    return Asked(_COPIES[op], "copy_gb_per_s", "GB/s") if op in _COPIES else None


_KINDS: Mapping[str, Callable[[Mapping[str, Any], str], Asked | None]] = {
    "collective": _collective,
    "compute": _compute,
    "nvbandwidth": _copy,
}
"""Suite -> the kind of figures of its cases; a new suite is a row."""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
