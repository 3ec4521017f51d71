"""Facts of this host's GPUs from NVIDIA's management library (NVML), without touching their memory.

Names and meanings are those of NVIDIA's NVML API Reference Guide. The Python bindings (`nvidia-ml-py`,
module `pynvml`) are optional: without them, or without a driver, there are no facts, and the reason is
given instead. A question that a driver or a device does not answer gives None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bench.records.interference import HARMLESS_REASONS

# Bits of the clocks event (formerly throttle) reasons: what is worth telling. An idle GPU's clocks are low
# too, and that is not a fault (bit 0x1).
CLOCK_REASONS = {
    0x002: "clocks set by an application",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}

LIMITING = frozenset(CLOCK_REASONS.values()) - HARMLESS_REASONS
"""Reasons by which a GPU is slower than it was set to be."""

SM_CLOCK, MEMORY_CLOCK = 1, 2
ON_DIE = 0

# nvidia-ml-py defines NVML_P2P_CAPS_INDEX_READ with a comma behind it, which makes it a tuple.
P2P_READ = 0
P2P_OK = 0

SUCCESS = 0
UNCORRECTED = 1
SINCE_DRIVER_LOAD = 0


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """One GPU as NVML sees it; None if it did not answer."""

    index: int
    """NVML's number, in order of the PCI address; torch may count otherwise."""
    name: str
    uuid: str | None = None
    pci: str | None = None
    """PCI address, such as `00000000:3B:00.0`."""
    persistence: bool | None = None
    """True: the driver keeps the device ready while no program uses it."""
    recovery_action: int | None = None
    """Number of the step that the driver asks for (nvmlDeviceGpuRecoveryAction_t); 0: none."""
    memory_bytes: int | None = None
    mig: bool | None = None
    process_ids: tuple[int, ...] | None = None
    """Processes that compute on it; those of another container may be missing or have other numbers here."""
    ecc_uncorrected: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    remapping_pending: bool | None = None
    """Rows of the memory wait for a reset to be replaced by spare ones."""
    remapping_failed: bool | None = None
    """True: no spare row was left, so that the device has to be replaced."""
    clock_reasons: tuple[str, ...] | None = None
    """Reasons for which the clocks are held down at this moment."""
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    """Widest link that device and slot allow together."""
    pcie_generation_max: int | None = None
    """Fastest generation that device and slot allow together. (The current one is lower while idle.)"""
    pcie_generation_device: int | None = None
    """Fastest generation of the device by itself."""
    nvlinks_active: int | None = None
    nvlinks: int | None = None
    """Links that answer, active or not."""
    without_p2p: tuple[int, ...] | None = None
    """GPUs, by NVML's number, whose memory this one cannot read directly."""


def gather_gpus() -> tuple[tuple[GpuFacts, ...], str | None]:
    """Facts of all GPUs that NVML shows, and why there are none if there are none."""
    nvml, why = _start()
    if nvml is None:
        return (), why
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(_facts(nvml, index, handles) for index in range(len(handles))), None
    except nvml.NVMLError as error:
        return (), f"NVML does not answer: {error}"
    finally:
        nvml.nvmlShutdown()


def _start() -> tuple[ModuleType | None, str | None]:
    """The bindings with NVML running, to be shut down by the caller; or why there are none."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, "the Python package nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"NVML does not start: {error}"
    return nvml, None


def _facts(nvml: ModuleType, index: int, handles: list[Any]) -> GpuFacts:
    handle = handles[index]

    ask = _make_query(nvml, handle)
    memory, mig = ask("nvmlDeviceGetMemoryInfo"), ask("nvmlDeviceGetMigMode")
    remapped, pci = ask("nvmlDeviceGetRemappedRows"), ask("nvmlDeviceGetPciInfo")
    persistence = ask("nvmlDeviceGetPersistenceMode")
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    active, total = _links(nvml, ask)
    return GpuFacts(
        index=index,
        name=str(ask("nvmlDeviceGetName") or "unknown GPU"),
        uuid=ask("nvmlDeviceGetUUID"),
        pci=None if pci is None else _text(pci.busId),
        persistence=None if persistence is None else bool(persistence),
        recovery_action=_recovery_action(nvml, ask),
        memory_bytes=None if memory is None else int(memory.total),
        mig=None if mig is None else bool(mig[0]),
        process_ids=None if processes is None else tuple(int(each.pid) for each in processes),
        ecc_uncorrected=ask("nvmlDeviceGetTotalEccErrors", UNCORRECTED, SINCE_DRIVER_LOAD),
        remapping_pending=None if remapped is None else bool(remapped[2]),
        remapping_failed=None if remapped is None else bool(remapped[3]),
        clock_reasons=_clock_reasons(ask),
        pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
        pcie_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_generation_device=ask("nvmlDeviceGetGpuMaxPcieLinkGeneration"),
        nvlinks_active=active,
        nvlinks=total,
        without_p2p=_without_p2p(ask, index, handles),
    )


def _text(value: str | bytes) -> str:
    """A text of the library's; older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _make_query(nvml: ModuleType, handle: Any) -> Callable[..., Any]:
    def ask(function: str, *arguments: Any) -> Any:
        """The library's answer; None if it, the driver or the device does not know the question."""
        call: Callable[..., Any] | None = getattr(nvml, function, None)
        if call is None:
            return None
        try:
            return call(handle, *arguments)
        except nvml.NVMLError:
            return None

    return ask


def _recovery_action(nvml: ModuleType, ask: Callable[..., Any]) -> int | None:
    """A number by the bindings' name for its field, which older ones lack; None if the driver does not know it."""
    field = getattr(nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
    values = None if field is None else ask("nvmlDeviceGetFieldValues", [field])
    return int(values[0].value.uiVal) if values and values[0].nvmlReturn == SUCCESS else None


def _clock_reasons(ask: Callable[..., Any]) -> tuple[str, ...] | None:
    bits = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:
        bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons")  # its name until driver 535
    return None if bits is None else tuple(name for bit, name in CLOCK_REASONS.items() if int(bits) & bit)


def _links(nvml: ModuleType, ask: Callable[..., Any]) -> tuple[int | None, int | None]:
    """(active links, links that answer); None if the device has none."""
    states = [ask("nvmlDeviceGetNvLinkState", link) for link in range(nvml.NVML_NVLINK_MAX_LINKS)]
    answered = [state for state in states if state is not None]
    return (sum(map(bool, answered)), len(answered)) if answered else (None, None)


def _without_p2p(ask: Callable[..., Any], index: int, handles: list[Any]) -> tuple[int, ...] | None:
    states = {
        other: ask("nvmlDeviceGetP2PStatus", handle, P2P_READ) for other, handle in enumerate(handles) if other != index
    }
    if None in states.values():
        return None
    return tuple(other for other, state in states.items() if state != P2P_OK)


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """A GPU at one moment; None if NVML did not answer."""

    clock_reasons: tuple[str, ...] | None
    sm_clock_hz: int | None
    memory_clock_hz: int | None
    temperature_celsius: int | None
    power_watts: float | None


ReadGpu = Callable[[], GpuState | None]


@contextmanager
def _open_device(pci: str | None, uuid: str | None) -> Iterator[Callable[..., Any] | None]:
    """Query of one GPU while the block lasts; None if NVML does not know the device.

    The PCI address is tried first: the UUID of a slice (MIG) has no clocks of its own.
    """
    nvml = _start()[0] if pci or uuid else None
    if nvml is None:
        yield None
        return
    try:
        handle = _handle_of(nvml, pci, uuid)
        yield None if handle is None else _make_query(nvml, handle)
    finally:
        nvml.nvmlShutdown()


@contextmanager
def open_state_reader(pci: str | None, uuid: str | None) -> Iterator[ReadGpu]:
    """Function that reads the state of one GPU, in about a millisecond; it gives None if NVML cannot."""
    with _open_device(pci, uuid) as ask:
        yield lambda: None if ask is None else _state(ask)


def _state(ask: Callable[..., Any]) -> GpuState:
    reasons = _clock_reasons(ask)  # first, while the device is still at work
    sm_mhz, memory_mhz = ask("nvmlDeviceGetClockInfo", SM_CLOCK), ask("nvmlDeviceGetClockInfo", MEMORY_CLOCK)
    milliwatts = ask("nvmlDeviceGetPowerUsage")
    return GpuState(
        clock_reasons=reasons,
        sm_clock_hz=None if sm_mhz is None else int(sm_mhz) * 1_000_000,
        memory_clock_hz=None if memory_mhz is None else int(memory_mhz) * 1_000_000,
        temperature_celsius=ask("nvmlDeviceGetTemperature", ON_DIE),
        power_watts=None if milliwatts is None else int(milliwatts) / 1000,
    )


def _handle_of(nvml: ModuleType, pci: str | None, uuid: str | None) -> Any:
    """NVML's handle of a device; torch counts otherwise, and gives UUIDs without their prefix. None: not found."""
    if uuid is not None and not uuid.startswith(("GPU-", "MIG-")):
        uuid = f"GPU-{uuid}"
    for function, name in (("nvmlDeviceGetHandleByPciBusId", pci), ("nvmlDeviceGetHandleByUUID", uuid)):
        if name is not None:
            try:
                return getattr(nvml, function)(name)
            except nvml.NVMLError:
                continue
    return None


@dataclass(frozen=True)
class EnergyReader:
    """Energy and power of one GPU; each gives None if the device does not have it."""

    name: str
    millijoules: Callable[[], int | None]
    """Energy since the driver was loaded, on Volta and newer."""
    milliwatts: Callable[[], int | None]


@contextmanager
def energy_reader(pci: str | None, uuid: str | None) -> Iterator[EnergyReader | None]:
    """Energy reader of one GPU while the block lasts; None if NVML does not know the device."""
    with _open_device(pci, uuid) as ask:
        yield ask and EnergyReader(
            str(ask("nvmlDeviceGetName") or ""),
            lambda: ask("nvmlDeviceGetTotalEnergyConsumption"),
            lambda: ask("nvmlDeviceGetPowerUsage"),
        )
