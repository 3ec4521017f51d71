"""The doctor's checks of GPUs: alike, reachable from one another, healthy, and used by no other program at the moment.

What NVML's figures mean: NVIDIA's NVML API Reference Guide and "GPU Memory Error Management".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bench.catalog.xids import RECOVERY_STEPS
from bench.core.values import counted
from bench.measure.doctor.driver_error_checks import REMEDIES
from bench.measure.doctor.facts import Check, Facts
from bench.measure.doctor.nvlink_check import check_nvlinks
from bench.measure.system.nvml import GpuFacts
from bench.records.lines.parts import Finding

# What holds clocks down, by what it says of the machine. A power cap is what a GPU under load runs into by
# design.
BAD_CLOCK_REASONS = frozenset(
    {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "power brake", "reliability"}
)
HARMLESS_CLOCK_REASONS = frozenset({"power cap", "sync boost"})


def _alike(facts: Facts) -> Iterator[Finding]:
    models = Counter(facts.torch_gpus)
    if len(models) > 1:
        value = ", ".join(f"{number} x {name}" for name, number in sorted(models.items()))
        yield Finding(
            "warn", "GPU models", value, "all ranks wait for the slowest; measure uniform groups apart as well"
        )
    elif models:
        yield Finding("ok", "GPU models", f"{sum(models.values())} x {next(iter(models))}")


def _driver(facts: Facts) -> Iterator[Finding]:
    """Find a GPU that failed as the driver took it up: it is on the bus, and nvidia-smi does not list it."""
    if facts.without_driver:
        value = f"no driver for {', '.join(facts.without_driver)}, and one for others of its kind"
        remedy = "drain the node first; if it stays away, look at dmesg and replace the device"
        yield Finding("fail", "GPUs", value, remedy, "reboot")


def _management(facts: Facts) -> Iterator[Finding]:
    is_nvidia = any("NVIDIA" in name or "GeForce" in name for name in facts.torch_gpus)
    if is_nvidia and not facts.gpus:
        yield Finding(
            "warn",
            "GPU health",
            f"unknown: {facts.no_gpu_facts or 'NVML shows no GPU'}",
            'pip install "distributed-training-bench[cuda]" brings nvidia-ml-py',
        )


def _each_gpu(check: Callable[[GpuFacts], Iterable[Finding]]) -> Callable[[Facts], Iterator[Finding]]:
    def of_all(facts: Facts) -> Iterator[Finding]:
        for gpu in facts.gpus:
            yield from check(gpu)

    return of_all


def _mig(gpu: GpuFacts) -> Iterator[Finding]:
    if gpu.mig:
        yield Finding(
            "warn",
            f"GPU {gpu.index}",
            "MIG is on",
            "a slice is measured, not the device, and NCCL may refuse: nvidia-smi -i N -mig 0 turns it off",
            "watch",
        )


def _persistence(facts: Facts) -> Iterator[Finding]:
    """Without it the driver lets go of a GPU after each program, for seconds, and its settings are lost."""
    off = [str(gpu.index) for gpu in facts.gpus if gpu.persistence is False]
    if off:
        remedy = "each start takes seconds longer, and set clocks are lost: nvidia-smi -pm 1, or nvidia-persistenced"
        yield Finding("warn", "GPU persistence", f"off on GPU {', '.join(off)}", remedy, "watch")


def _processes(facts: Facts) -> Iterator[Finding]:
    for gpu in facts.gpus:
        others = [pid for pid in gpu.process_ids or () if pid != facts.own_process_id]
        if others:
            named = ", ".join(map(str, others))
            yield Finding(
                "warn",
                f"GPU {gpu.index}",
                f"in use by process {named}",
                "its figures will be lower: stop them",
                "watch",
            )


def _memory_errors(gpu: GpuFacts) -> Iterator[Finding]:
    what = f"GPU {gpu.index} memory"
    if gpu.remapping_failed:
        yield Finding(
            "fail", what, "a row could not be remapped", "replace the device (NVIDIA RMA criterion)", "isolate"
        )
    if gpu.remapping_pending:
        yield Finding(
            "fail",
            what,
            "rows wait to be remapped",
            "drain the node first; a reset of the GPU replaces the rows",
            "reset",
        )
    if gpu.ecc_uncorrected:
        yield Finding(
            "fail",
            what,
            f"{counted(gpu.ecc_uncorrected, 'uncorrected ECC error')} since the driver was loaded",
            "drain the node first; if they come back, replace the GPU",
            "reset",
        )


def _recovery(gpu: GpuFacts) -> Iterator[Finding]:
    """Repeat the driver's own word on what a GPU needs."""
    step, words = RECOVERY_STEPS.get(gpu.recovery_action or 0, ("watch", f"recovery action {gpu.recovery_action}"))
    if step == "watch":
        yield Finding("warn", f"GPU {gpu.index} recovery", f"its driver asks for {words}", REMEDIES["watch"], "watch")
    elif step == "reset" or step == "reboot":
        yield Finding("fail", f"GPU {gpu.index} recovery", f"its driver asks for {words}", REMEDIES[step], step)


def _clocks(gpu: GpuFacts) -> Iterator[Finding]:
    reasons = [reason for reason in gpu.clock_reasons or () if reason not in HARMLESS_CLOCK_REASONS]
    if not reasons:
        return
    slowed = BAD_CLOCK_REASONS.intersection(reasons)
    remedy = "look at cooling and power" if slowed else "nvidia-smi -rac and -rgc set the clocks back"
    yield Finding("warn", f"GPU {gpu.index} clocks", f"held down: {', '.join(reasons)}", remedy, "watch")


def _pcie(gpu: GpuFacts) -> Iterator[Finding]:
    what = f"GPU {gpu.index} PCIe"
    if gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max:
        value = f"x{gpu.pcie_width} of x{gpu.pcie_width_max}"
        yield Finding("warn", what, value, "reseat the card, or look at the slot, riser and BIOS", "isolate")
    supported, device = gpu.pcie_generation_max, gpu.pcie_generation_device
    if supported and device and supported < device:
        value = f"generation {supported}, the device can {device}"
        remedy = "look at the slot and the BIOS; traffic with the host is slower"
        yield Finding("warn", what, value, remedy, "isolate")


def _p2p(facts: Facts) -> Iterator[Finding]:
    indices = {gpu.index for gpu in facts.gpus}
    pairs = [
        (gpu.index, other)
        for gpu in facts.gpus
        for other in gpu.without_p2p or ()
        if gpu.index < other and other in indices
    ]
    if pairs:
        named = ", ".join(f"{one}-{two}" for one, two in pairs)
        yield Finding(
            "warn",
            "GPU peer to peer",
            f"none between {named}",
            "traffic goes through host memory: look at nvidia-smi topo -p2p r, ACS and the IOMMU",
            "watch",
        )
    elif len(facts.gpus) > 1 and all(gpu.without_p2p is not None for gpu in facts.gpus):
        yield Finding("ok", "GPU peer to peer", "between all")


def _numa(facts: Facts) -> Iterator[Finding]:
    """A rank that runs on another node launches and copies over the link between the sockets, now and then."""
    cores = facts.cores_by_node
    node_of_gpu = {index: node for index, node in facts.gpu_nodes.items() if node is not None and node in cores}
    if len(cores) < 2 or not node_of_gpu:
        return
    own_nodes = [node for node, number in cores.items() if number]
    if any(own_nodes != [node] for node in node_of_gpu.values()):
        gpus = "; ".join(
            f"GPU {', '.join(str(index) for index in node_of_gpu if node_of_gpu[index] == node)} on node {node}"
            for node in sorted(set(node_of_gpu.values()))
        )
        yield Finding(
            "warn",
            "GPU NUMA",
            f"this process may use cores of node {', '.join(map(str, own_nodes))}; {gpus}",
            "launch times and host copies will vary from start to start: bind each rank to its GPU's node "
            "(torchrun --numa-binding=node, srun --cpu-bind, numactl --cpunodebind)",
            "watch",
        )
    else:
        yield Finding("ok", "GPU NUMA", f"bound to node {own_nodes[0]}, that of the GPU")


def _healthy(facts: Facts) -> Iterator[Finding]:
    """Says that the checks of single GPUs ran and found nothing, since silence could mean that they did not."""
    if facts.gpus and not any(True for check in _HEALTH_CHECKS for _ in check(facts)):
        yield Finding("ok", "GPU health", f"{counted(len(facts.gpus), 'GPU')} without a finding")


_HEALTH_CHECKS: tuple[Check, ...] = (
    _each_gpu(_mig),
    _processes,
    _each_gpu(_memory_errors),
    _each_gpu(_recovery),
    _each_gpu(_clocks),
    _each_gpu(_pcie),
    check_nvlinks,
)

GPU_CHECKS: tuple[Check, ...] = (_alike, _driver, _management, *_HEALTH_CHECKS, _healthy, _persistence, _p2p, _numa)
"""Every check of GPUs; a new one is a function and a row."""
