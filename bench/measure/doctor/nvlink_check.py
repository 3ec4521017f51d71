"""NVLinks: those that are active, against those that the product wires."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from bench.catalog.nvlinks import wired_links
from bench.core.values import counted
from bench.measure.doctor.facts import Facts
from bench.measure.system.nvml import GpuFacts
from bench.records.lines.parts import Action, Finding, Level

# Azure/azhpc-images issue 443: after a reboot, all links of an H100 NVL were there again.
_REMEDIES: dict[Action, str] = {
    "reboot": "drain the node first; if they stay away, look at bridge, fabric manager and nvidia-smi nvlink -s",
    "reset": "drain the node first; look at nvidia-smi nvlink -s, the fabric manager and the kernel log",
    "watch": "the catalogue does not know how many this model wires: look at its data sheet",
}


def check_nvlinks(facts: Facts) -> Iterator[Finding]:
    """One finding for the GPUs that have equally few active links: fewer than their product wires."""
    indices = defaultdict[tuple[Action, str], list[str]](list)
    for gpu in facts.gpus:
        # Slices have no links.
        fault = None if gpu.mig else _fault(gpu, facts.gpus)
        if fault is not None:
            indices[fault].append(str(gpu.index))
    for (action, value), of_gpus in indices.items():
        level: Level = "warn" if action == "watch" else "fail"
        several = len(of_gpus) > 1
        what = f"NVLink of {len(of_gpus)} GPUs" if several else f"GPU {of_gpus[0]} NVLink"
        where = f" on GPU {', '.join(of_gpus)}" if several else ""
        yield Finding(level, what, value + where, _REMEDIES[action], action)


def _fault(gpu: GpuFacts, gpus: Sequence[GpuFacts]) -> tuple[Action, str] | None:
    """(action, value) for a GPU with too few links; None if it has them, or its driver does not say."""
    active, wired = gpu.nvlinks_active, wired_links(gpu.name)
    if active is None:
        return None
    if wired is None:
        return _unlike_others(active, gpu, gpus)
    # A GPU on its own may have no link to have.
    may_have_none = wired.wiring == "optional bridge" or len(gpus) == 1
    if active >= wired.links or (active == 0 and may_have_none):
        return None
    return "reset" if active else "reboot", f"{active} of {counted(wired.links, 'wired link')} active"


def _unlike_others(active: int, gpu: GpuFacts, gpus: Sequence[GpuFacts]) -> tuple[Action, str] | None:
    """Judge a GPU that the catalogue does not know by the others of its model."""
    alike = Counter(other.nvlinks_active or 0 for other in gpus if other.name == gpu.name)
    most, number = alike.most_common(1)[0]
    if active < most and number > alike[active]:
        action: Action = "reset" if active else "reboot"
        return action, f"{counted(active, 'link')} active; {most} are on most others of its model"
    if 0 < active < (gpu.nvlinks or 0):
        return "watch", f"{active} of {counted(gpu.nvlinks or 0, 'link')} active"
    return None
