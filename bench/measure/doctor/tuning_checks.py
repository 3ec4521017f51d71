"""Settings of the host that make figures lower or less steady, if it has GPUs or RDMA devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from bench.core.values import counted, first_few
from bench.measure.doctor.facts import Facts
from bench.measure.system.host_tuning import HostTuning
from bench.records.lines.parts import Finding

LONG_WAKE_MICROSECONDS = 100
"""Several times as long as a small all-reduce within a node."""

# NVIDIA's NCCL user guide (Troubleshooting, GPU Direct): on a host without virtual machines, translation by the IOMMU
# and redirection by ACS send traffic between devices through the root.
_PEERS = "traffic between devices goes through the CPU"


def check_tuning(facts: Facts) -> Iterator[Finding]:
    """Each setting that is worth changing, then one line with those that are right."""
    tuning = facts.tuning
    findings = [*_governor(tuning)]
    has_devices = bool(facts.gpus or facts.present_gpus or facts.rdma_ports)
    if has_devices:
        findings += [finding for check in _DEVICE_CHECKS for finding in check(tuning)]
        findings += _memlock(facts)
    yield from findings
    if has_devices and not findings:
        yield Finding("ok", "host tuning", _summary(facts))


def _governor(tuning: HostTuning) -> Iterator[Finding]:
    others = {name: cores for name, cores in tuning.governors.items() if name != "performance"}
    if others:
        named = ", ".join(f"{name} on {counted(cores, 'core')}" for name, cores in sorted(others.items()))
        remedy = "clocks follow the load, and times vary: cpupower frequency-set -g performance"
        yield Finding("warn", "CPU governor", named, remedy, "watch")


def _sleep(tuning: HostTuning) -> Iterator[Finding]:
    wake = tuning.wake_microseconds
    if wake is not None and wake >= LONG_WAKE_MICROSECONDS and not tuning.is_virtual:
        value = f"idle cores may sleep in {tuning.sleep_state}, {wake} us to wake"
        remedy = f"small messages take longer now and then: cpupower idle-set -D {LONG_WAKE_MICROSECONDS}"
        yield Finding("warn", "C-states", value, remedy, "watch")


def _iommu(tuning: HostTuning) -> Iterator[Finding]:
    # None: not an x86 processor. Grace reaches its GPUs through the IOMMU by design.
    translating = sorted(kind for kind in tuning.iommu_types if kind.startswith("DMA"))
    if translating and tuning.is_virtual is False:
        value = f"it translates the addresses of GPUs ({', '.join(translating)})"
        yield Finding("warn", "IOMMU", value, f"{_PEERS}: iommu=pt on the kernel's command line, or off", "watch")


def _acs(tuning: HostTuning) -> Iterator[Finding]:
    if tuning.redirecting_ports and tuning.is_virtual is False:
        value = f"redirects peers at {first_few(tuning.redirecting_ports)}"
        yield Finding("warn", "PCIe ACS", value, f"{_PEERS}: turn it off in the BIOS, or with setpci", "watch")


def _memlock(facts: Facts) -> Iterator[Finding]:
    limit = facts.tuning.memlock_bytes
    if facts.rdma_ports and math.isfinite(limit):
        remedy = "RDMA cannot register more: ulimit -l unlimited, or LimitMEMLOCK=infinity of the service"
        yield Finding("warn", "memlock", f"{limit / 2**20:.3g} MiB", remedy, "watch")


_DEVICE_CHECKS: tuple[Callable[[HostTuning], Iterator[Finding]], ...] = (_sleep, _iommu, _acs)


def _summary(facts: Facts) -> str:
    """The settings that are known."""
    tuning = facts.tuning
    parts = ["governor performance"] if tuning.governors else []
    if tuning.wake_microseconds is not None:
        parts.append(f"idle cores wake in {tuning.wake_microseconds} us")
    if tuning.is_virtual:
        parts.append("IOMMU and ACS left to the host of this virtual machine")
    elif tuning.has_unread_ports:
        parts.append("ACS unknown (root may read it)")
    if facts.rdma_ports:
        parts.append("memlock unlimited")
    return ", ".join(parts) or "nothing to change"
