"""Each check of the doctor against made-up facts, and the gathering of real ones."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.measure.doctor import facts as gathering
from bench.measure.doctor.checks import Facts, Finding, examine, gather
from bench.measure.doctor.facts import num_hosts, usable_address, visible_gpus
from bench.measure.launchers.place import LauncherRank
from bench.measure.system import host
from bench.measure.system.nvml import GpuFacts

H100 = "NVIDIA H100 80GB HBM3"

CPU_NODE = Facts(
    device_type="cpu",
    num_ranks=2,
    backend="gloo",
    torch_version="2.13.0",
    usable_cores=4,
    affinity_cores=4,
    logical_cores=4,
    load=0.1,
    memory_available_bytes=16 << 30,
    shm_bytes=64 << 20,
    interfaces=("eth0", "lo"),
    hostname="node1",
    host_address="10.0.0.5",
)


def healthy_gpu(index: int, **more: Any) -> GpuFacts:
    good: dict[str, Any] = {
        "index": index,
        "name": H100,
        "uuid": f"GPU-{index}",
        "mig": False,
        "process_ids": (),
        "ecc_uncorrected": 0,
        "remapping_pending": False,
        "remapping_failed": False,
        "clock_reasons": (),
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_generation_max": 5,
        "pcie_generation_device": 5,
        "nvlinks_active": 18,
        "nvlinks": 18,
        "without_p2p": (),
    }
    return GpuFacts(**(good | more))


GPU_NODE = replace(
    CPU_NODE,
    device_type="cuda",
    backend="nccl",
    num_ranks=2,
    torch_gpus=(H100, H100),
    present_gpus=2,
    gpus=(healthy_gpu(0), healthy_gpu(1)),
    own_process_id=100,
    shm_bytes=2 << 30,
)


def rank_of(local_world_size: int | None, world_size: int) -> LauncherRank:
    return LauncherRank("Open MPI", 0, world_size, 0, "head", 29500, False, "0", local_world_size)


def trouble(facts: Facts) -> list[tuple[str, str, str]]:
    """(level, what, value) of all that is not ok; each of them says what to do."""
    bad = [finding for finding in examine(facts) if finding.level != "ok"]
    assert all(finding.remedy for finding in bad)
    return [(finding.level, finding.what, finding.value) for finding in bad]


def lines(facts: Facts) -> list[str]:
    return [finding.line() for finding in examine(facts)]


def with_gpu(**more: Any) -> Facts:
    return replace(GPU_NODE, gpus=(healthy_gpu(0), healthy_gpu(1, **more)))


def test_a_line_says_what_value_and_remedy() -> None:
    assert Finding("ok", "load", "0.1").line() == "ok: load: 0.1"
    assert Finding("warn", "load", "9", "wait").line() == "warn: load: 9; wait"


def test_healthy_nodes_have_nothing_but_ok() -> None:
    assert trouble(CPU_NODE) == []
    assert trouble(GPU_NODE) == []
    assert "ok: bench run: cpu, 2 ranks, gloo (no GPU, 4 usable cores)" in lines(CPU_NODE)
    assert "ok: bench run: cuda, 2 ranks, nccl (torch sees 2 GPUs)" in lines(GPU_NODE)
    assert "ok: GPU health: 2 GPUs without a finding" in lines(GPU_NODE)
    assert "ok: GPU peer to peer: between all" in lines(GPU_NODE)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"torch_gpus": (H100,), "present_gpus": 2}, ("warn", "visible GPUs", "1 of 2")),
        ({"torch_gpus": (H100, "NVIDIA H200")}, ("warn", "GPU models", f"1 x {H100}, 1 x NVIDIA H200")),
        (
            {"gpus": (), "no_gpu_facts": "the Python package nvidia-ml-py is not installed"},
            ("warn", "GPU health", "unknown: the Python package nvidia-ml-py is not installed"),
        ),
        ({"shm_bytes": 64 << 20}, ("warn", "/dev/shm", "64 MiB")),
        ({"quota_cores": 2.5}, ("warn", "CPU quota", "2.5 of 4 cores")),
        ({"omp_num_threads": "3"}, ("warn", "OMP_NUM_THREADS", "3 x 2 ranks on 4 cores")),
        ({"omp_num_threads": "all"}, ("warn", "OMP_NUM_THREADS", "'all'")),
        ({"usable_cores": 1}, ("warn", "ranks per core", "2 ranks on 1 core")),
        ({"load": 1.25}, ("warn", "load", "1.25 over one minute on 4 cores")),
        (
            {"gloo_interfaces": ("eth0", "ib7")},
            ("fail", "GLOO_SOCKET_IFNAME", "no interface named ib7"),
        ),
        (
            {"host_address": None},
            ("warn", "gloo address", "node1 is not an address of this host: gloo falls back to loopback"),
        ),
        (
            {"host_address": "127.0.1.1", "num_hosts": 2},
            ("fail", "gloo address", "127.0.1.1: other hosts cannot reach it"),
        ),
    ],
)
def test_what_is_wrong_with_a_node_is_found(change: dict[str, Any], finding: tuple[str, str, str]) -> None:
    assert trouble(replace(GPU_NODE, **change)) == [finding]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"mig": True}, ("warn", "GPU 1", "MIG is on")),
        ({"process_ids": (100, 7, 8)}, ("warn", "GPU 1", "in use by process 7, 8")),
        (
            {"ecc_uncorrected": 2},
            ("fail", "GPU 1 memory", "2 uncorrected ECC errors since the driver was loaded"),
        ),
        ({"recovery_action": 1}, ("fail", "GPU 1 recovery", "its driver asks for a reset of the GPU")),
        ({"recovery_action": 2}, ("fail", "GPU 1 recovery", "its driver asks for a reboot of the node")),
        ({"recovery_action": 99}, ("warn", "GPU 1 recovery", "its driver asks for recovery action 99")),
        ({"remapping_pending": True}, ("fail", "GPU 1 memory", "rows wait to be remapped")),
        ({"remapping_failed": True}, ("fail", "GPU 1 memory", "a row could not be remapped")),
        (
            {"clock_reasons": ("power cap", "hardware thermal slowdown")},
            ("warn", "GPU 1 clocks", "held down: hardware thermal slowdown"),
        ),
        ({"pcie_width": 8}, ("warn", "GPU 1 PCIe", "x8 of x16")),
        ({"pcie_generation_max": 4}, ("warn", "GPU 1 PCIe", "generation 4, the device can 5")),
        ({"nvlinks_active": 17}, ("fail", "GPU 1 NVLink", "17 of 18 wired links active")),
        ({"nvlinks_active": 0}, ("fail", "GPU 1 NVLink", "0 of 18 wired links active")),
    ],
)
def test_what_is_wrong_with_a_gpu_is_found(change: dict[str, Any], finding: tuple[str, str, str]) -> None:
    assert trouble(with_gpu(**change)) == [finding]
    assert not any(line.startswith("ok: GPU health") for line in lines(with_gpu(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"process_ids": (100,)},  # this process
        {"recovery_action": 0},
        {"clock_reasons": ("power cap",)},  # what load brings by design
        {"name": "NVIDIA H100 PCIe", "nvlinks_active": 0},  # a card without a bridge
        dict.fromkeys(("mig", "process_ids", "ecc_uncorrected", "pcie_width", "nvlinks", "clock_reasons")),
    ],
)
def test_what_is_no_fault_is_not_found(change: dict[str, Any]) -> None:
    assert trouble(with_gpu(**change)) == []


def test_a_gpu_alone_needs_no_link() -> None:
    alone = replace(GPU_NODE, torch_gpus=(H100,), present_gpus=1, num_ranks=1, gpus=(healthy_gpu(0, nvlinks_active=0),))
    assert trouble(alone) == []


def test_each_pair_without_peer_to_peer_is_named_once() -> None:
    gpus = (healthy_gpu(0, without_p2p=(2,)), healthy_gpu(1), healthy_gpu(2, without_p2p=(0, 9)))
    facts = replace(GPU_NODE, torch_gpus=(H100,) * 3, present_gpus=3, gpus=gpus)
    assert trouble(facts) == [("warn", "GPU peer to peer", "none between 0-2")]


TWO_SOCKETS: dict[str, Any] = {"cores_by_node": {0: 2, 1: 2}, "gpu_nodes": {0: 0, 1: 1}}


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (TWO_SOCKETS, "this process may use cores of node 0, 1; GPU 0 on node 0; GPU 1 on node 1"),
        # A rank of its launcher's, with one GPU: bound beside it, or nearly.
        ({"cores_by_node": {0: 0, 1: 4}, "gpu_nodes": {1: 0}}, "this process may use cores of node 1; GPU 1 on node 0"),
        (
            {"cores_by_node": {0: 4, 1: 1}, "gpu_nodes": {0: 0, 1: 0}},
            "this process may use cores of node 0, 1; GPU 0, 1 on node 0",
        ),
    ],
)
def test_cores_far_from_their_gpu_are_told(change: dict[str, Any], value: str) -> None:
    assert trouble(replace(GPU_NODE, **change)) == [("warn", "GPU NUMA", value)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"cores_by_node": {0: 4, 1: 0}, "gpu_nodes": {0: 0, 1: 0}},
            ["ok: GPU NUMA: bound to node 0, that of the GPU"],
        ),
        ({"cores_by_node": {0: 4}, "gpu_nodes": {0: 0, 1: 0}}, []),  # one node
        ({"cores_by_node": {0: 4, 1: 4}, "gpu_nodes": {0: None, 1: None}}, []),  # a virtual machine
        ({"cores_by_node": {0: 4, 1: 4}, "gpu_nodes": {0: 9}}, []),  # a node without cores
        ({"cores_by_node": {0: 4, 1: 4}, "gpu_nodes": {}}, []),
    ],
)
def test_where_cores_are_near_or_nothing_is_known_there_is_no_warning(change: dict[str, Any], said: list[str]) -> None:
    facts = replace(GPU_NODE, **change)
    assert trouble(facts) == []
    assert [line for line in lines(facts) if "NUMA" in line] == said


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        ({}, {0: 0, 1: 1}),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}, {1: 1}),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, {0: 0, 1: 1}),  # a batch shell
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_STEP_NODELIST": "localhost",
            },
            {0: 0},
        ),
    ],
)
def test_nodes_of_gpus_and_cores_are_read_from_sys(
    environ: dict[str, str], nodes: dict[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "node/node0/cpulist": "0-1,4",
        "node/node1/cpulist": "2-3",
        "node/node2/cpulist": "",  # a GPU's or a card's memory
    }
    for name, text in files.items():
        path = tmp_path / "sys/devices/system" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    for bus in (0, 1):
        path = tmp_path / f"sys/bus/pci/devices/0000:{bus:02x}:00.0/numa_node"
        path.parent.mkdir(parents=True)
        path.write_text(f"{bus}\n")

    def properties(device: Any) -> Any:
        index = device if isinstance(device, int) else device.index
        return SimpleNamespace(name=H100, uuid=None, pci_domain_id=0, pci_bus_id=index, pci_device_id=0)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(gathering, "gather_gpus", lambda: ((), "none"))
    monkeypatch.setattr(host, "cpu_affinity", lambda: [0, 2, 4])
    facts = gather(root=tmp_path, environ=environ)
    assert (facts.cores_by_node, facts.gpu_nodes) == ({0: 2, 1: 1}, nodes)
    assert "GPU NUMA" in [finding.what for finding in examine(facts) if finding.level == "warn"]


def test_accelerators_that_torch_cannot_use_fail_with_what_to_do() -> None:
    facts = replace(CPU_NODE, unusable="this machine has 8 NVIDIA GPUs, but torch sees none; install another torch")
    found = lines(facts)
    assert "fail: torch 2.13.0: this machine has 8 NVIDIA GPUs, but torch sees none; install another torch" in found
    assert [level for level, _, _ in trouble(facts)] == ["fail", "fail"]
    assert found[0].startswith("fail: bench run: stops")


def test_little_memory_matters_where_it_is_shared_by_ranks() -> None:
    assert trouble(replace(CPU_NODE, memory_available_bytes=3 << 30)) == [
        ("warn", "memory", "3.0 GiB available for 2 ranks")
    ]
    assert trouble(replace(GPU_NODE, memory_available_bytes=3 << 30)) == []


def test_loopback_is_enough_for_one_host() -> None:
    found = lines(replace(CPU_NODE, host_address="127.0.1.1"))
    assert "ok: gloo address: 127.0.1.1 (loopback: this host alone)" in found


def test_unknown_figures_are_passed_over() -> None:
    unknown = {"load": None, "memory_available_bytes": None, "shm_bytes": None, "affinity_cores": None}
    found = lines(replace(CPU_NODE, **unknown, logical_cores=None))  # type: ignore[arg-type]
    assert not any("None" in line for line in found)


def test_expectations_are_held_against_what_torch_sees() -> None:
    def expected(**numbers: int) -> list[str]:
        return [finding.line() for finding in examine(GPU_NODE, numbers)][len(examine(GPU_NODE)) :]

    assert expected(gpus=2, cores=4) == ["ok: expected gpus: 2", "ok: expected cores: 4"]
    assert expected(gpus=8)[0].startswith("fail: expected gpus: 2, not 8; ")
    with pytest.raises(BenchError, match=r"'gpu'.*gpus, ranks, cores, hosts"):
        examine(GPU_NODE, {"gpu": 8})


def test_an_address_is_one_that_can_be_bound_here() -> None:
    def entry(address: str) -> tuple[Any, ...]:
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))

    def elsewhere_first(*_: Any, **__: Any) -> list[Any]:
        return [entry("203.0.113.7"), entry("127.0.0.1")]

    def no_such_name(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror("Name or service not known")

    assert usable_address("x", elsewhere_first) == "127.0.0.1"  # 203.0.113.0/24 is for documentation only
    assert usable_address("x", elsewhere_first, bind=lambda _: True) == "203.0.113.7"
    assert usable_address("x", elsewhere_first, bind=lambda _: False) is None
    assert usable_address("x", no_such_name) is None


def test_the_number_of_hosts_is_what_the_launcher_says() -> None:
    assert num_hosts({}) == 1
    assert num_hosts({"SLURM_NNODES": "4"}) == 4
    assert num_hosts({"GROUP_WORLD_SIZE": "2", "SLURM_NNODES": "4"}) == 2
    assert num_hosts({"SLURM_NNODES": "many"}) == 1
    assert num_hosts({}, rank_of(local_world_size=2, world_size=5)) == 3
    assert num_hosts({}, rank_of(local_world_size=None, world_size=5)) == 1


def test_the_facts_are_of_the_gpus_that_torch_sees() -> None:
    gpus = (healthy_gpu(0), healthy_gpu(1), healthy_gpu(2))
    assert visible_gpus(gpus, ["2", "0"]) == (gpus[0], gpus[2])
    assert visible_gpus(gpus, [None]) == gpus


def test_this_machine_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(gathering, "gather_gpus", lambda: ((), "none"))
    for bus in range(8):
        (tmp_path / f"proc/driver/nvidia/gpus/0000:{bus:02x}:00.0").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth7").mkdir(parents=True)
    facts = gather(root=tmp_path, environ={"GLOO_SOCKET_IFNAME": "eth7,eth8", "OMP_NUM_THREADS": "1"})
    assert (facts.device_type, facts.backend, facts.present_gpus) == ("cpu", "gloo", 8)
    assert facts.interfaces == ("eth7",)
    levels = {finding.what: finding.level for finding in examine(facts)}
    assert levels[f"torch {torch.__version__}"] == "fail"
    assert levels["GLOO_SOCKET_IFNAME"] == "fail"


def test_a_driver_that_does_not_start_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(index: int) -> None:
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.\nTraceback ...")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", broken)
    monkeypatch.setattr(gathering, "gather_gpus", lambda: ((), "none"))
    found = [finding for finding in examine(gather()) if finding.what.startswith("torch ")]
    assert [finding.level for finding in found] == ["fail"]
    assert "CUDA driver initialization failed" in found[0].value
    assert "\n" not in found[0].line()
