"""The process that only plans and supervises takes nothing of a GPU: asked for what opens a CUDA context, it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.measure.doctor import facts as gathering
from bench.measure.launch import supervisor
from bench.measure.launchers.place import Place
from bench.measure.planning.options import RunOptions
from bench.measure.planning.planner import new_plan
from bench.measure.system import devices
from bench.measure.system.devices import choose_device
from bench.run import closing, run

GIB = 2**30
NAME = "NVIDIA H100 80GB HBM3"


class Contextless:
    """`torch.cuda` with those functions alone that ask the driver, and open no context on a device.

    Initialising CUDA opens none (torch's own test/test_cuda_primary_ctx.py holds it to that), nor do the number and the
    properties of the devices; memory, streams, events, allocations and choosing a device do.
    """

    def __init__(self, *total_memory: int) -> None:
        self._total_memory = total_memory
        self.refused: list[str] = []

    def is_available(self) -> bool:
        return bool(self._total_memory)

    def device_count(self) -> int:
        return len(self._total_memory)

    def get_device_properties(self, device: int | torch.device) -> Any:
        index = device if isinstance(device, int) else device.index
        place = {"pci_domain_id": 0, "pci_bus_id": index, "pci_device_id": 0}
        return SimpleNamespace(name=NAME, total_memory=self._total_memory[index], uuid=f"{index}", **place)

    def get_device_name(self, device: int) -> str:
        return NAME

    def __getattr__(self, name: str) -> Any:
        self.refused.append(name)
        raise AssertionError(f"torch.cuda.{name} may open a CUDA context in the supervising process")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Contextless:
    """Four GPUs, of which the third is smaller."""
    fake = Contextless(80 * GIB, 80 * GIB, 40 * GIB, 80 * GIB)
    monkeypatch.setattr(torch, "cuda", fake)
    monkeypatch.setattr(gathering, "gather_gpus", lambda: ((), "none"))
    return fake


def test_a_plan_is_for_the_smallest_of_the_gpus_that_the_ranks_take(node: Contextless) -> None:
    assert devices.planned_memory_bytes("cuda", 4) == 40 * GIB
    assert devices.planned_memory_bytes("cuda", 2) == 80 * GIB
    plan = new_plan(RunOptions(preset="smoke", suites=("compute",)), "cuda", Place(0, 4, 0, 4), None)
    assert plan.device_type == "cuda"
    assert plan.cases
    assert node.refused == []


def test_on_a_cpu_a_rank_has_its_share_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 4096 kB\n")
    assert devices.planned_memory_bytes("cpu", 4, tmp_path) == 2**20


@pytest.mark.parametrize("preset", ["smoke", "node", "standard"])
def test_a_run_opens_no_context_before_its_ranks_start(
    node: Contextless, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[int] = []

    def start(recorder: Any, began: float, only_launch: int | None, launch_seconds: float | None) -> int:
        started.append(recorder.plan.world_size)
        recorder.end("failed", 1)
        return 0

    monkeypatch.setattr(supervisor, "run_local", start)
    monkeypatch.setattr(closing, "close", lambda against, path, code: code)
    assert run.run(RunOptions(preset=preset, output=tmp_path, launcher="local", busy=preset == "node"), []) == 0
    assert started == [4]
    assert node.refused == []
    assert f"4 of 4 GPUs ({NAME})" in capsys.readouterr().err


def test_the_doctor_opens_no_context(node: Contextless) -> None:
    assert choose_device("auto") == ("cuda", 4)
    assert gathering.gather().torch_gpus == (NAME,) * 4
    assert node.refused == []
