"""The architecture's name, how two environments differ, and what a published copy leaves out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.core.masking.placeholders import SET
from bench.records.anonymize import anonymize_result
from bench.records.environments import REMOVED, Difference, architecture, differences
from bench.records.file import load
from bench.records.lines import decoding
from bench.records.lines.header import Environment, HostFacts, RankFacts
from bench.records.privacy.hosts import HostNumbers
from bench.records.privacy.scrubber import Scrubber
from tests.support.results import header, save

UUID = "GPU-6b1fdc5a-0d8e-4c5a-9f55-2f1c5d7e8a90"


def gpu(name: str, host: str = "node1", **more: Any) -> dict[str, Any]:
    return {"device_type": "cuda", "device_name": name, "host": host} | more


def cpu(host: str = "node1", model: str = "AMD EPYC", threads: int = 1) -> dict[str, Any]:
    return {"device_type": "cpu", "device_name": model, "host": host, "num_threads": threads}


def environment() -> dict[str, Any]:
    return {
        "architecture": "2 x NVIDIA H100 80GB HBM3",
        "hosts": {
            "node1": {"hostname": "node1", "cpu_model": "AMD EPYC", "memory_bytes": 10**12, "load_averages": [0.1]},
            "node1.lab": {"hostname": "node1.lab", "cpu_model": "AMD EPYC", "memory_bytes": 10**12},
        },
        "ranks": [
            gpu("NVIDIA H100 80GB HBM3", "node1", uuid=UUID, pci_bus_id="0000:3b:00.0", cpu_affinity=[0, 1]),
            gpu("NVIDIA H100 80GB HBM3", "node1.lab", uuid=UUID, pci_bus_id="0000:3b:00.0", cpu_affinity=[2, 3]),
        ],
        "versions": {"torch": "2.13.0", "nccl": "2.27.3"},
        "variables": {"NCCL_ALGO": "Ring"},
        "settings": {"mkldnn": True},
        "commit": "abc",
    }


def found(one: dict[str, Any], two: dict[str, Any]) -> list[Difference]:
    """Differences of two environments of plain values."""
    return differences(msgspec.convert(one, Environment), msgspec.convert(two, Environment))


@pytest.mark.parametrize(
    ("ranks", "name"),
    [
        ([gpu("NVIDIA H100 80GB HBM3")] * 8, "8 x NVIDIA H100 80GB HBM3"),
        (
            [gpu("NVIDIA H100 80GB HBM3")] * 6 + [gpu("NVIDIA A100-SXM4-80GB")] * 2,
            "2 x A100 + 6 x H100 (mixed)",
        ),
        (
            [gpu("NVIDIA A100-SXM4-80GB"), gpu("NVIDIA A100-SXM4-40GB")],
            "1 x NVIDIA A100-SXM4-40GB + 1 x NVIDIA A100-SXM4-80GB (mixed)",
        ),
        ([gpu("AMD Instinct MI300X"), gpu("NVIDIA GB200")], "1 x GB200 + 1 x MI300X (mixed)"),
        ([cpu(), cpu()], "2 x AMD EPYC core"),
        ([cpu(model="Intel(R) Xeon(R) Processor")] * 2, "2 x Intel Xeon Processor core"),
        ([cpu()] * 6, "6 ranks on 4 x AMD EPYC core"),
        ([cpu(threads=2)] * 2, "2 ranks on 4 x AMD EPYC core"),
        ([cpu(), cpu("node2", "Arm Neoverse V2")], "1 x AMD EPYC core + 1 x Arm Neoverse V2 core (mixed)"),
        ([gpu("")], "1 x unknown cuda device"),
    ],
)
def test_architectures_are_named(ranks: list[dict[str, Any]], name: str) -> None:
    facts = [RankFacts(**rank) for rank in ranks]
    hosts = {"node1": HostFacts(usable_cores=4), "node2": HostFacts(usable_cores=4)}
    assert architecture(facts, hosts) == name
    assert architecture(facts[::-1], hosts) == name


def test_what_changes_speed_differs() -> None:
    one, two = environment(), environment()
    two["versions"]["nccl"] = "2.28.0"
    two["settings"]["mkldnn"] = False
    two["variables"] = {"OMP_NUM_THREADS": "4"}
    two["hosts"]["node1"]["cpu_quota_cores"] = 2.5
    two["ranks"][1]["cpu_affinity"] = [0, 1]
    assert found(one, two) == [
        ("host.cpu_quota_cores", None, sorted([2.5, None], key=repr)),
        ("rank.cpu_affinity", [[0, 1], [2, 3]], [0, 1]),
        ("versions.nccl", "2.27.3", "2.28.0"),
        ("settings.mkldnn", True, False),
        ("variables.NCCL_ALGO", "Ring", None),
        ("variables.OMP_NUM_THREADS", None, "4"),
    ]


def test_another_size_differs() -> None:
    one, two = environment(), environment()
    two["ranks"].pop()
    del two["hosts"]["node1.lab"]
    fields = [field for field, _, _ in found(one, two)]
    assert fields[:2] == ["ranks", "hosts"]


def test_what_changes_by_itself_does_not_differ() -> None:
    one, two = environment(), environment()
    two["hosts"] = dict(reversed(two["hosts"].items()))
    two["hosts"]["node1"] |= {
        "load_averages": [9.0],
        "memory_available_bytes": 1,
        "shm_free_bytes": 1,
        "cpu_frequency_hz": 1,
        "memory_bytes": 10**12 + 10**8,  # what a kernel keeps for itself
    }
    two["hosts"]["node1.lab"]["memory_bytes"] = 10**12 + 10**8
    for rank in two["ranks"]:
        rank |= {"uuid": "other", "pci_bus_id": "other"}
    two["variables"]["CUDA_HOME"] = "/opt/cuda"
    assert found(one, two) == []


def test_twice_the_memory_differs() -> None:
    one, two = environment(), environment()
    for rank in two["ranks"]:
        rank["memory_bytes"] = 2 * 10**10
    for rank in one["ranks"]:
        rank["memory_bytes"] = 10**10
    assert found(one, two) == [("rank.memory_bytes", 10**10, 2 * 10**10)]


def published(private: Any, folder: Path) -> Any:
    """The environment of a published copy, as plain values."""
    number = len(list(folder.iterdir()))
    saved = load(save(folder / f"{number}.jsonl", header(environment=private)))
    return decoding.plain(next(iter(anonymize_result(saved))))["environment"]


def test_a_published_copy_names_nothing(tmp_path: Path) -> None:
    private = environment()
    private["hosts"]["node1"]["os"] = "built on node1.lab by 192.168.4.7"
    private["variables"] |= {
        "NCCL_SOCKET_IFNAME": "ens1f0",
        "GLOO_SOCKET_IFNAME": "bond0",
        "NCCL_IB_HCA": "mlx5_0",
        "NCCL_COMM_ID": "10.0.0.1:5000",
        "NCCL_DEBUG_SUBSYS": "INIT,ENV",
        "CUDA_VISIBLE_DEVICES": UUID,
        "UCX_TLS": "rc,cuda_copy",
        "TORCH_LOGS": "/home/someone/log",
        "NCCL_HOSTID": "node1",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "OMP_PLACES": "cores",
        "UCX_MASTER": "node1.lab",
    }
    before = copy.deepcopy(private)
    public = published(private, tmp_path)
    assert private == before
    text = json.dumps(public)
    for secret in ("node1", "lab", "6b1fdc5a", "3b:00", "192.168", "ens1f0", "bond0", "mlx5", "10.0.0.1", "/home"):
        assert secret not in text, secret
    assert list(public["hosts"]) == ["host0", "host1"]
    assert [rank["host"] for rank in public["ranks"]] == ["host0", "host1"]
    assert [rank["cpu_affinity"] for rank in public["ranks"]] == [[0, 1], [2, 3]]
    kept = {name for name, value in public["variables"].items() if value not in (REMOVED, SET)}
    assert kept == {"NCCL_ALGO", "NCCL_DEBUG_SUBSYS", "UCX_TLS", "PYTORCH_CUDA_ALLOC_CONF", "OMP_PLACES"}
    assert public["architecture"] == private["architecture"]
    assert public["versions"] == private["versions"]


def test_a_published_copy_is_equal_to_its_original_and_to_its_own_copy(tmp_path: Path) -> None:
    private = environment()
    private["variables"]["NCCL_SOCKET_IFNAME"] = "ens1f0"
    public = published(private, tmp_path)
    assert found(private, public) == []
    assert published(public, tmp_path) == public


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot open /home/a/b.py: no", f"cannot open {REMOVED}: no"),
        ("./mine.py and ../x/y and ~/z", f"{REMOVED} and {REMOVED} and {REMOVED}"),
        ("12.5 GB/s in collective/all_reduce", "12.5 GB/s in collective/all_reduce"),
        ("connect to 10.1.2.3 failed", f"connect to {REMOVED} failed"),
        ("connect to fe80::1 failed", f"connect to {REMOVED} failed"),
        ("torch 2.13.0, driver 550.54.15", "torch 2.13.0, driver 550.54.15"),
        ("at 12:30:15 of 2026", "at 12:30:15 of 2026"),
        ("expandable_segments:True", "expandable_segments:True"),
        (f"{UUID} is lost", f"{REMOVED} is lost"),
        ("node1.lab hung, node1 too, not note12", "host1 hung, host0 too, not note12"),
    ],
)
def test_texts_are_scrubbed(text: str, clean: str) -> None:
    assert Scrubber(HostNumbers(["node1", "node1.lab"])).text(text) == clean
