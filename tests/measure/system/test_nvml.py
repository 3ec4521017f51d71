"""What is asked of NVML, against a fake of its bindings that answers as the real ones do."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bench.measure.system.nvml import GpuFacts, gather_gpus


class NVMLError(Exception):
    """As the bindings raise for "Not Supported"."""


def fake(answers: dict[str, Any], num_gpus: int = 2) -> ModuleType:
    """Bindings whose per-device functions give answers[name], or answers[name](*arguments) of a callable."""
    module = ModuleType("pynvml")
    state = SimpleNamespace(running=False)

    def start() -> None:
        state.running = True

    def stop() -> None:
        state.running = False

    def function(name: str) -> Any:
        def ask(*arguments: Any) -> Any:
            assert state.running
            answer = answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments) if callable(answer) else answer

        return ask

    module.NVMLError = NVMLError  # type: ignore[attr-defined]
    module.NVML_NVLINK_MAX_LINKS = 18  # type: ignore[attr-defined]
    module.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230  # type: ignore[attr-defined]
    module.nvmlInit, module.nvmlShutdown = start, stop  # type: ignore[attr-defined]
    module.nvmlDeviceGetCount = lambda: num_gpus  # type: ignore[attr-defined]
    module.nvmlDeviceGetHandleByIndex = lambda index: index  # type: ignore[attr-defined]
    for name in answers:
        setattr(module, name, function(name))
    module.state = state  # type: ignore[attr-defined]
    return module


def link_state(handle: int, link: int) -> int:
    if link >= 4:
        raise NVMLError("Not Supported")
    return int(not (handle == 1 and link == 3))


FULL = {
    "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=85 * 10**9, free=1, used=2),
    "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId=f"00000000:{handle + 16:02X}:00.0"),
    "nvmlDeviceGetPersistenceMode": 0,
    "nvmlDeviceGetFieldValues": lambda handle, fields: [
        SimpleNamespace(nvmlReturn=0 if fields == [230] else 3, value=SimpleNamespace(uiVal=1))
    ],
    "nvmlDeviceGetMigMode": [1, 0],
    "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=11), SimpleNamespace(pid=12)],
    "nvmlDeviceGetTotalEccErrors": lambda handle, kind, counter: 10 * kind + counter,
    "nvmlDeviceGetRemappedRows": (0, 3, 1, 0),
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1 | 0x4 | 0x40,
    "nvmlDeviceGetCurrPcieLinkWidth": 8,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkGeneration": 4,
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetNvLinkState": link_state,
    "nvmlDeviceGetP2PStatus": lambda one, two, kind: 5 if kind == 0 else 0,
}


def test_all_that_a_gpu_answers_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake(FULL)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    gpus, why = gather_gpus()
    assert why is None
    assert gpus[1] == GpuFacts(
        index=1,
        name="NVIDIA H100 80GB HBM3",
        uuid="GPU-1",
        pci="00000000:11:00.0",
        persistence=False,
        recovery_action=1,
        memory_bytes=85 * 10**9,
        mig=True,
        process_ids=(11, 12),
        ecc_uncorrected=10,  # kind 1: uncorrected; counter 0: since the driver was loaded
        remapping_pending=True,
        remapping_failed=False,
        clock_reasons=("power cap", "hardware thermal slowdown"),  # idleness is not a reason
        pcie_width=8,
        pcie_width_max=16,
        pcie_generation_max=4,
        pcie_generation_device=5,
        nvlinks_active=3,
        nvlinks=4,
        without_p2p=(0,),
    )
    assert (gpus[0].nvlinks_active, gpus[0].without_p2p) == (4, (1,))
    assert not module.state.running


def test_what_a_device_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {name: NVMLError("Not Supported") for name in FULL}
    known = {"nvmlDeviceGetName": "NVIDIA GeForce RTX 4090", "nvmlDeviceGetNvLinkState": NVMLError()}
    for answers in (refused | known, known):  # refused by the device; and not in these bindings at all
        monkeypatch.setitem(sys.modules, "pynvml", fake(answers))
        gpus, _ = gather_gpus()
        assert gpus[0] == GpuFacts(index=0, name="NVIDIA GeForce RTX 4090")


def test_older_drivers_have_the_older_name_of_clock_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = FULL | {
        "nvmlDeviceGetCurrentClocksEventReasons": NVMLError("Function Not Found"),
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x8,
    }
    monkeypatch.setitem(sys.modules, "pynvml", fake(answers))
    assert gather_gpus()[0][0].clock_reasons == ("hardware slowdown",)


def test_one_gpu_has_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake(FULL, num_gpus=1))
    assert gather_gpus()[0][0].without_p2p == ()


def test_no_bindings_and_no_driver_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gather_gpus() == ((), "the Python package nvidia-ml-py is not installed")

    def refuse() -> None:
        raise NVMLError("Driver Not Loaded")

    module = fake(FULL)
    module.nvmlInit = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gather_gpus() == ((), "NVML does not start: Driver Not Loaded")


def test_a_lost_gpu_stops_the_questions_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(index: int) -> int:
        raise NVMLError("GPU is lost")

    module = fake(FULL)
    module.nvmlDeviceGetHandleByIndex = lost  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gather_gpus() == ((), "NVML does not answer: GPU is lost")
    assert not module.state.running
