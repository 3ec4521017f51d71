"""The doctor's checks: the defaults of `bench run` on this machine, and faults of its set-up.

Each check is a small pure function of `Facts` and one row of CHECKS. A fail is what makes a result wrong
or a run impossible, a warning what may make a figure lower or less steady than the hardware; each says
what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.core import torch_versions
from bench.core.values import counted
from bench.errors import BenchError
from bench.measure.doctor.driver_error_checks import check_driver_errors
from bench.measure.doctor.facts import Check, Facts, gather, is_loopback
from bench.measure.doctor.gpu_checks import GPU_CHECKS
from bench.measure.doctor.launcher_check import check_launcher
from bench.measure.doctor.port_checks import check_ports
from bench.measure.doctor.tuning_checks import check_tuning
from bench.measure.launchers.interfaces import nccl_complaint
from bench.records.lines.parts import Finding, Level

__all__ = ["CHECKS", "EXPECTABLE", "Facts", "Finding", "examine", "gather"]

# NVIDIA's NCCL user guide (Troubleshooting, Docker) asks for --shm-size=1g: its shared memory transport
# needs it.
SHM_BYTES_FOR_NCCL = 1 << 30
# A few background processes are usual; a tenth of the cores busy with something else is not.
BUSY_SHARE_OF_CORES = 0.1
MEMORY_BYTES_PER_RANK = 2 << 30
"""Memory on a CPU below which the larger cases of the standard preset are left out."""

EXPECTABLE: dict[str, Callable[[Facts], int]] = {
    "gpus": lambda facts: len(facts.torch_gpus),
    "ranks": lambda facts: facts.num_ranks if facts.joining.rank is None else facts.joining.rank.world_size,
    "cores": lambda facts: facts.usable_cores,
    "hosts": lambda facts: facts.num_hosts,
}
"""Names that `expect` takes -> the figure they stand for."""


def examine(facts: Facts, expect: Mapping[str, int] | None = None) -> list[Finding]:
    """Every finding, in the order of CHECKS, then what was expected.

    Raises BenchError for an expectation of something unknown.
    """
    findings = [finding for check in CHECKS for finding in check(facts)]
    return findings + [_check_expectation(facts, name, number) for name, number in (expect or {}).items()]


def _check_expectation(facts: Facts, name: str, number: int) -> Finding:
    if name not in EXPECTABLE:
        raise BenchError(f"nothing named {name!r} can be expected; there are: {', '.join(EXPECTABLE)}")
    actual = EXPECTABLE[name](facts)
    if actual == number:
        return Finding("ok", f"expected {name}", str(actual))
    return Finding("fail", f"expected {name}", f"{actual}, not {number}", "look at the other lines, or at the node")


def _run(facts: Facts) -> Iterator[Finding]:
    seen = len(facts.torch_gpus)
    why = f"torch sees {counted(seen, 'GPU')}" if seen else f"no GPU, {counted(facts.usable_cores, 'usable core')}"
    if facts.unusable:
        remedy = "fix that, or ask for --device cpu"
        yield Finding("fail", "bench run", "stops, since torch cannot use the accelerators of this machine", remedy)
        return
    ranks = "" if facts.joining.refusal else f"{_num_ranks(facts)}, "
    yield Finding("ok", "bench run", f"{facts.device_type}, {ranks}{facts.backend} ({why})")


def _num_ranks(facts: Facts) -> str:
    rank = facts.joining.rank
    return counted(facts.num_ranks, "rank") if rank is None else f"{counted(rank.world_size, 'rank')} in all"


def _launcher(facts: Facts) -> Iterator[Finding]:
    yield from check_launcher(facts.joining)


def _torch(facts: Facts) -> Iterator[Finding]:
    if facts.unusable:
        value, _, remedy = facts.unusable.partition("; ")
        yield Finding("fail", f"torch {facts.torch_version}", value, remedy)
        return
    yield Finding("ok", "torch", facts.torch_version)
    lacks = torch_versions.missing(facts.torch_version, facts.backend).values()
    if lacks:
        newest = torch_versions.spelt(max(row.since for row in lacks))
        # Not a warning: what can be measured with this torch is right; the cases in question are skipped.
        value = f"{'; '.join(row.lack for row in lacks)}: such cases are skipped; {newest} or newer has all"
        yield Finding("ok", f"torch {torch_versions.spelt(torch_versions.release(facts.torch_version))}", value)


def _visible(facts: Facts) -> Iterator[Finding]:
    seen = len(facts.torch_gpus)
    if seen and seen < facts.present_gpus:
        yield Finding(
            "warn",
            "visible GPUs",
            f"{seen} of {facts.present_gpus}",
            "the others are not measured: look at CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES and the job's request",
        )
    elif seen:
        yield Finding("ok", "visible GPUs", str(seen))


def _cores(facts: Facts) -> Iterator[Finding]:
    quota, cores = facts.quota_cores, facts.affinity_cores or facts.logical_cores
    if quota is not None and cores is not None and quota < cores:
        yield Finding(
            "warn",
            "CPU quota",
            f"{quota:g} of {cores} cores",
            "threads above the quota are stopped for part of each period: give the container whole cores",
        )
    elif facts.affinity_cores and facts.logical_cores and facts.affinity_cores < facts.logical_cores:
        yield Finding("ok", "CPU cores", f"bound to {facts.affinity_cores} of {facts.logical_cores}")
    else:
        yield Finding("ok", "CPU cores", str(facts.usable_cores))


def _threads(facts: Facts) -> Iterator[Finding]:
    text, cores, ranks = facts.omp_num_threads, facts.usable_cores, facts.num_ranks
    if text is None:
        threads_each = max(1, cores // max(1, ranks))
        yield Finding("ok", "OMP_NUM_THREADS", f"not set; bench run shares the cores out, {threads_each} a rank")
    elif not text.isdigit() or int(text) < 1:
        yield Finding("warn", "OMP_NUM_THREADS", repr(text), "set it to one number of threads, or unset it")
    elif int(text) * ranks > cores:
        yield Finding(
            "warn",
            "OMP_NUM_THREADS",
            f"{text} x {counted(ranks, 'rank')} on {counted(cores, 'core')}",
            f"threads will compete for cores: set it to {max(1, cores // max(1, ranks))}, or unset it",
        )
    else:
        yield Finding("ok", "OMP_NUM_THREADS", f"{text} x {counted(ranks, 'rank')} on {counted(cores, 'core')}")


def _more_ranks_than_cores(facts: Facts) -> Iterator[Finding]:
    if facts.num_ranks > facts.usable_cores:
        yield Finding(
            "warn",
            "ranks per core",
            f"{facts.num_ranks} ranks on {counted(facts.usable_cores, 'core')}",
            "ranks will take turns, and times between them mean little: take more cores",
        )


def _load(facts: Facts) -> Iterator[Finding]:
    if facts.load is None:
        return
    cores = facts.logical_cores or facts.usable_cores
    value = f"{facts.load:.2f} over one minute on {counted(cores, 'core')}"
    # Below half a process even a small machine is quiet.
    if facts.load > max(0.5, BUSY_SHARE_OF_CORES * cores):
        yield Finding("warn", "load", value, "something else is running: stop it, or wait until it is done")
    else:
        yield Finding("ok", "load", value)


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory_available_bytes is None:
        return
    value = f"{facts.memory_available_bytes / 2**30:.1f} GiB available"
    bytes_per_rank = facts.memory_available_bytes / max(1, facts.num_ranks)
    if facts.device_type == "cpu" and bytes_per_rank < MEMORY_BYTES_PER_RANK:
        yield Finding(
            "warn", "memory", f"{value} for {facts.num_ranks} ranks", "larger cases will be skipped: free some"
        )
    else:
        yield Finding("ok", "memory", value)


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    if facts.shm_bytes is None:
        return
    value = f"{facts.shm_bytes / 2**20:.0f} MiB"
    if facts.backend == "nccl" and facts.shm_bytes < SHM_BYTES_FOR_NCCL:
        yield Finding("warn", "/dev/shm", value, "NCCL needs more: start the container with --shm-size=1g")
    else:
        yield Finding("ok", "/dev/shm", value)


def _interfaces(facts: Facts) -> Iterator[Finding]:
    missing = [name for name in facts.gloo_interfaces if name not in facts.interfaces]
    if missing:
        yield Finding(
            "fail",
            "GLOO_SOCKET_IFNAME",
            f"no interface named {', '.join(missing)}",
            f"there are: {', '.join(facts.interfaces)}; unset it or name one of these",
        )
    elif facts.gloo_interfaces:
        yield Finding("ok", "GLOO_SOCKET_IFNAME", ", ".join(facts.gloo_interfaces))
    else:
        yield _gloo_address(facts)


def _nccl_interfaces(facts: Facts) -> Iterator[Finding]:
    if facts.backend != "nccl" or not facts.nccl_interfaces:
        return
    reason = nccl_complaint(facts.nccl_interfaces, facts.interfaces)
    if reason is None:
        yield Finding("ok", "NCCL_SOCKET_IFNAME", facts.nccl_interfaces)
    else:
        remedy = f"there are: {', '.join(facts.interfaces)}; unset it or name one of these"
        yield Finding("fail", "NCCL_SOCKET_IFNAME", f"{facts.nccl_interfaces}: {reason}", remedy)


def _gloo_address(facts: Facts) -> Finding:
    """Check the address of the host's name, which gloo takes by default: the other hosts must reach it."""
    remedy = "set GLOO_SOCKET_IFNAME to the interface that the hosts share, or fix /etc/hosts"
    bad: Level = "fail" if facts.num_hosts > 1 else "warn"
    if facts.host_address is None:
        return Finding(
            bad, "gloo address", f"{facts.hostname} is not an address of this host: gloo falls back to loopback", remedy
        )
    if not is_loopback(facts.host_address):
        return Finding("ok", "gloo address", facts.host_address)
    if facts.num_hosts > 1:
        return Finding("fail", "gloo address", f"{facts.host_address}: other hosts cannot reach it", remedy)
    return Finding("ok", "gloo address", f"{facts.host_address} (loopback: this host alone)")


CHECKS: tuple[Check, ...] = (
    _run,
    _launcher,
    _torch,
    _visible,
    *GPU_CHECKS,
    check_driver_errors,
    check_ports,
    check_tuning,
    _cores,
    _threads,
    _more_ranks_than_cores,
    _load,
    _memory,
    _shared_memory,
    _interfaces,
    _nccl_interfaces,
)
"""Every check; a new one is a function and a row."""
