"""Figures that others published, with the text of their conditions read into fields.

The data file is `bench/catalog/data/reference_numbers.csv`; a new figure is one new row. Only this file knows the words
of the conditions that tell a node, a size, a network or a loop: the page on what is normal and every expectation read
these fields.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

LARGE = 8 << 30
"""Bytes from which on the rate of a collective no longer grows: `large` in the conditions, and every size above."""
NCCL_LOOP, TORCH_LOOP, COPY_LOOP, STREAM_LOOP = "nccl-tests", "torch", "copy", "stream"
"""Kinds of loop: NCCL's own tests, `torch.distributed` in a loop, copies by copy engines, and by a kernel (STREAM)."""
NVLS, SHARP, NO_REDUCTION = "nvls", "sharp", "none"
"""Who adds: the NVLink switch, switches of the network, or the GPUs alone."""

ALIASES = {
    "H200 SXM": "H200-SXM-141GB",
    "H100-SXM-96GB-HBM2e 500W": "H100-SXM-96GB",
    "GB200": "GB200-SXM (per GPU of NVL72)",
    "GB300": "GB300-SXM (per GPU of NVL72)",
    "A100-SXM": "A100-SXM-80GB",
}
"""Names in the data file -> names of the catalogue."""
FAULTS = ("TCP fall-back", "degraded", "oddly below", "surely a slip", "plot")
"""Words of conditions that speak of a fault, a slip or a reading from a plot: no figure of a healthy machine."""

_SAME_VENDOR = {"Quanta_Cloud_Technology": "QCT", "aws-samples": "AWS", "nvidia.com": "NVIDIA", "huggingface.co": "HF"}
_OWN_ISSUES = ("NVIDIA/aicr",)
"""Repositories whose threads are their owner's own reports, and not those of users."""
_BY_STAFF = ("NVIDIA staff", "what NVIDIA says")
_UNITS = {"K": 10, "M": 20, "G": 30}
_FABRICS = (
    ("EFA", r"EFA|AWS p5en"), ("TCPXO", r"TCPXO"), ("RoCE", r"RoCE|\bOCI\b"), ("InfiniBand", r"InfiniBand|DGX A100"),
    ("NVLink", r"NVLink only|1 rack|multi-node NVLink"),
)  # fmt: skip
_NODE_RATES = ((r"AWS p5en", 3200.0), (r"\bOCI\b", 3200.0), (r"EKS, EFA", 3200.0))
"""Machines of clouds whose rate per node another row of the data file states, in Gbit/s."""
_GPUS_PER_RACK, _TRAYS_PER_RACK = 72, 18


@dataclass(frozen=True)
class ReferenceNumber:
    """One published figure; None if its source does not say."""

    kind: str
    """What was measured, such as `all_reduce_busbw`."""
    value: float
    unit: str
    accelerator: str
    """Name of the catalogue if it has the device, else the source's."""
    num_ranks: int | None
    num_nodes: int | None
    fabric: str | None
    """Network between the nodes; None on one node."""
    node_gbit_per_s: float | None
    """Rate of all NICs of a node together."""
    reduction: str | None
    """NVLS, SHARP or NO_REDUCTION, if the source states it or what NCCL chose."""
    num_bytes: int | None
    """Payload; at most LARGE."""
    size: int | None
    """Edge of a square product."""
    loop: str | None
    publisher: str
    confidence: str
    conditions: str
    source: str

    @property
    def is_healthy(self) -> bool:
        """True if nothing in the row speaks of a fault, a slip or a guess."""
        return self.confidence != "low" and not any(word in self.conditions for word in FAULTS)


@functools.cache
def reference_numbers() -> tuple[ReferenceNumber, ...]:
    """All rows of the data file, in its order."""
    text = (resources.files("bench.catalog.data") / "reference_numbers.csv").read_text(encoding="utf-8")
    return tuple(map(_reference_number, csv.DictReader(io.StringIO(text))))


def publisher(source: str, conditions: str = "") -> str:
    """Who published a figure: all pages of one vendor are one source, and a thread of users is one of its own."""
    if source.startswith("mlcommons/"):
        company = source.split()[1].split("/")[0]
        return f"MLPerf, {_SAME_VENDOR.get(company, company)}"
    if any(words in conditions for words in _BY_STAFF):
        return "NVIDIA"
    thread = re.match(r"([\w.-]+/[\w.-]+)( PR)?#\d+", source)
    if thread and thread[1] not in _OWN_ISSUES:
        return thread[0]
    owner = re.split(r"[@ /]", source.removeprefix("github.com/"))[0]
    return {"huggingface": "HF"}.get(owner, _SAME_VENDOR.get(owner, owner))


def vendor(number: ReferenceNumber) -> str:
    """The publisher as a source of a range: a company's MLPerf submissions and its own pages are one."""
    return number.publisher.removeprefix("MLPerf, ")


def size_class(num_bytes: int) -> int:
    """Bytes that stand for a size: LARGE for all from about 8 GB on, else the size."""
    return LARGE if num_bytes >= 8 * 10**9 else num_bytes


def default_reduction(fabric: str | None, num_ranks: int, num_nodes: int) -> str:
    """Place of the reduction by default: NCCL takes the NVLink switch of full nodes from NVLink 4 on."""
    has_switch = re.match(r"NVLink [4-9]", fabric or "") is not None
    return NVLS if has_switch and num_nodes == 1 and num_ranks == 8 else NO_REDUCTION


def _reference_number(row: Mapping[str, str]) -> ReferenceNumber:
    conditions = row["conditions"]
    text = f"{row['software']}; {conditions}"
    ranks = int(row["num_devices"]) if row["num_devices"].isdigit() else None
    nodes = _num_nodes(conditions, ranks)
    return ReferenceNumber(
        kind=row["what"],
        value=float(row["value"]),
        unit=row["unit"],
        accelerator=ALIASES.get(row["hardware"], row["hardware"]),
        num_ranks=ranks,
        num_nodes=nodes,
        fabric=None if nodes == 1 else next((name for name, pattern in _FABRICS if re.search(pattern, text)), None),
        node_gbit_per_s=_node_rate(text),
        reduction=_reduction(text),
        num_bytes=_num_bytes(conditions),
        size=_edge(conditions),
        loop=_loop(text, row["what"]),
        publisher=publisher(row["source"], conditions),
        confidence=row["confidence"],
        conditions=conditions,
        source=row["source"],
    )


def _num_nodes(conditions: str, ranks: int | None) -> int | None:
    racks = re.search(r"\b(\d+) racks?\b", conditions)
    if racks:
        return _TRAYS_PER_RACK * int(racks[1])
    stated = re.search(r"\b(\d+) (?:nodes?\b|trays of)", conditions)
    if stated:
        return int(stated[1])
    if ranks == _GPUS_PER_RACK:
        return _TRAYS_PER_RACK
    if ranks is not None and "several DGX" in conditions:
        return ranks // 8
    return 1 if ranks is not None and ranks <= 2 else None


def _node_rate(text: str) -> float | None:
    stated = re.search(r"\b(\d+) x (\d+) Gb/s", text)
    if stated:
        return float(stated[1]) * float(stated[2])
    return next((rate for pattern, rate in _NODE_RATES if re.search(pattern, text)), None)


def _reduction(text: str) -> str | None:
    if re.search(r"SHARP|in-network reduction on", text):
        return SHARP
    if re.search(r"NVLS_ENABLE=0|NVLS off|NVLink off|; Ring\b|chose: Ring|does not have", text):
        return NO_REDUCTION
    return NVLS if "NVLS" in text else None


def _num_bytes(conditions: str) -> int | None:
    stated = re.search(r"\bsize=(\d+)([KMG])(i?)B", conditions)
    if stated:
        unit = 1 << _UNITS[stated[2]] if stated[3] else 10 ** (3 * _UNITS[stated[2]] // 10)
        return size_class(int(stated[1]) * unit)
    return LARGE if re.match(r"large\b", conditions) else None


def _edge(conditions: str) -> int | None:
    stated = re.match(r"m,n,k=([\d,]+)", conditions)
    edges = set(stated[1].strip(",").split(",")) if stated else set()
    return int(edges.pop()) if len(edges) == 1 else None


def _loop(text: str, kind: str) -> str | None:
    if kind.startswith("memory_"):
        return STREAM_LOOP
    if kind.endswith("_copy"):
        return COPY_LOOP
    if "all_reduce_bench" in text or "torch loop" in text:
        return TORCH_LOOP
    if re.search(r"nccl-tests|rccl-tests|\bnccl 2\.", text):
        return NCCL_LOOP
    return "sustained" if re.search(r"sustained|warm-up iterations", text) else None


def relative_width(low: float, high: float) -> float:
    """Width of a range as a share of its middle."""
    return (high - low) / ((high + low) / 2) if high + low > 0 else math.inf
