"""NVLinks: those that are active, against those that the product wires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.catalog.nvlinks import wired_links
from bench.core.values import counted
from bench.measure.doctor.facts import Facts
from bench.measure.system.nvml import GpuFacts
from bench.records.lines.parts import Action, Finding

# Azure/azhpc-images issue 443: after a reboot, all links of an H100 NVL were there again.
_ALL_GONE = "reboot the host; if they stay away, look at the bridge, the fabric manager and nvidia-smi nvlink -s"
_SOME_GONE = "drain the node and reset the GPU; look at nvidia-smi nvlink -s, the fabric manager and the kernel log"


def check_nvlinks(facts: Facts) -> Iterator[Finding]:
    """A finding for each GPU that has fewer active links than its product wires."""
    for gpu in facts.gpus:
        # Slices have no links, and a GPU on its own may have none to have.
        if gpu.nvlinks_active is not None and not gpu.mig:
            yield from _check_gpu(gpu, facts.gpus)


def _check_gpu(gpu: GpuFacts, gpus: Sequence[GpuFacts]) -> Iterator[Finding]:
    active, wired = gpu.nvlinks_active or 0, wired_links(gpu.name)
    if wired is None:
        yield from _check_unknown(gpu, gpus)
        return
    may_have_none = wired.wiring == "optional bridge" or len(gpus) == 1
    if active >= wired.links or (active == 0 and may_have_none):
        return
    yield _fault(gpu, f"{active} of {counted(wired.links, 'wired link')} active")


def _check_unknown(gpu: GpuFacts, gpus: Sequence[GpuFacts]) -> Iterator[Finding]:
    """Judge a GPU that the catalogue does not know by the others of its model."""
    active, links = gpu.nvlinks_active or 0, gpu.nvlinks or 0
    alike = Counter(other.nvlinks_active or 0 for other in gpus if other.name == gpu.name)
    most, number = alike.most_common(1)[0]
    if active < most and number > alike[active]:
        yield _fault(gpu, f"{counted(active, 'link')} active; {most} are on most others of its model")
    elif 0 < active < links:
        value = f"{active} of {counted(links, 'link')} active"
        remedy = "the catalogue does not know how many this model wires: look at its data sheet"
        yield Finding("warn", f"GPU {gpu.index} NVLink", value, remedy, "watch")


def _fault(gpu: GpuFacts, value: str) -> Finding:
    action: Action = "reset" if gpu.nvlinks_active else "reboot"
    remedy = _SOME_GONE if gpu.nvlinks_active else _ALL_GONE
    return Finding("fail", f"GPU {gpu.index} NVLink", value, remedy, action)
