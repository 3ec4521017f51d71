"""What a header says of ranks, versions, settings, variables and commit; and nothing private."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from bench.core.process_environment import unset_defaults
from bench.measure.launchers.place import Place
from bench.measure.system import devices, environment, host
from bench.records.environments import differences
from bench.records.lines.header import Environment, RankFacts

PLACE = Place(index=3, world_size=8, local_index=1, local_world_size=2, host_index=1, num_hosts=4)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_cpu_rank_is_described_in_plain_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("model name : AMD EPYC Processor\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2048 kB\n")
    facts = environment.describe_rank(torch.device("cpu"), PLACE, tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=RankFacts) == facts
    expected = {
        "rank": 3,
        "host_index": 1,
        "local_index": 1,
        "device_type": "cpu",
        "device_name": "AMD EPYC Processor",
        "memory_bytes": 2 * 2**20,
        "uuid": None,
        "mig": None,
        "omp_num_threads": "7",
        "num_threads": torch.get_num_threads(),
        "visible_devices": torch.cuda.device_count(),
    }
    assert {name: getattr(facts, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "mig"), [("NVIDIA H100 80GB HBM3", False), ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", True)]
)
def test_a_gpu_rank_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mig: bool) -> None:
    device = SimpleNamespace(
        name=name, total_memory=85 * 10**9, uuid="6b1f", pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 7)
    for bus in range(8):
        (tmp_path / f"proc/driver/nvidia/gpus/0000:{bus:02x}:00.0").mkdir(parents=True)
    node = tmp_path / "sys/bus/pci/devices/0000:3b:00.0/numa_node"
    node.parent.mkdir(parents=True)
    node.write_text("1\n")
    version = tmp_path / "sys/module/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("550.54.15\n")
    facts = environment.describe_rank(torch.device("cuda", 0), PLACE, tmp_path)
    expected = {
        "device_type": "cuda",
        "device_name": name,
        "memory_bytes": 85 * 10**9,
        "driver": "550.54.15",
        "uuid": "6b1f",
        "pci_bus_id": "0000:3b:00.0",
        "numa_node": 1,
        "mig": mig,
        "visible_devices": 7,
        "present_devices": 8,
    }
    assert {key: getattr(facts, key) for key in expected} == expected


def test_a_gpu_of_which_torch_says_less_has_unknown_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="AMD Instinct MI300X", total_memory=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    facts = environment.describe_rank(torch.device("cuda", 0), PLACE, tmp_path)
    assert [getattr(facts, name) for name in ("uuid", "pci_bus_id", "numa_node", "driver")] == [None] * 4
    assert facts.present_devices is None  # the kernel shows fewer than torch sees: not known


def test_only_named_variables_are_recorded_and_no_secret() -> None:
    environ = {
        "NCCL_ALGO": "Ring",
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "TORCH_NCCL_BLOCKING_WAIT": "1",
        "NCCL_SECRET_SAUCE": "x",
        "TORCH_API_KEY": "x",
        "CUDA_PASSWORD": "x",
        "GLOO_AUTH": "x",
        "HIP_Credential": "x",
        "PYTORCH_TOKEN": "x",
        "HOME": "/root",
        "AWS_REGION": "here",
        "MY_NCCL_ALGO": "Tree",
    }
    assert environment.named_variables(environ) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_ALGO": "Ring",
        "OMP_NUM_THREADS": "4",
        "TORCH_NCCL_BLOCKING_WAIT": "1",
    }


def test_variables_that_bench_set_itself_are_not_recorded() -> None:
    user = {"NCCL_ALGO": "Ring", "GLOO_SOCKET_IFNAME": "eth0"}
    own = unset_defaults({"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}, user)
    assert own["NCCL_SOCKET_IFNAME"] == "=lo"
    assert "GLOO_SOCKET_IFNAME" not in own
    # A rank inherits its parent's, and adds some.
    more = unset_defaults({"TORCH_CPP_LOG_LEVEL": "ERROR"}, user | own)
    assert environment.named_variables(user | own | more) == user
    assert unset_defaults({"NCCL_ALGO": "Tree"}, user) == {}


def test_settings_follow_the_switches() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.use_deterministic_algorithms(not deterministic)
        found = environment.settings(torch)
        assert found["matmul_fp32_precision"] == "tf32"
        assert found["deterministic_algorithms"] is not deterministic
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        assert environment.settings(torch)["matmul_fp32_precision"] == "ieee"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
        torch.use_deterministic_algorithms(deterministic)
    assert json.loads(json.dumps(found)) == found


def test_versions_are_text_or_none() -> None:
    found = environment.versions()
    assert found["torch"] == torch.__version__
    assert found["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    assert all(value is None or isinstance(value, str) for value in found.values())


def test_the_commit_is_that_of_this_product_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "bench-checkout"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "distributed-training-bench"\n')
    assert environment.commit(project) is None  # no repository
    git(project, "init", "-q")
    assert environment.commit(project) is None  # no commit
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "one")
    head = git(project, "rev-parse", "HEAD")
    assert environment.commit(project) == head

    (project / "result.jsonl").write_text("an untracked file changes no code")
    assert environment.commit(project) == head
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert environment.commit(project) == head
    monkeypatch.delenv("GIT_DIR")

    inner = project / "venv" / "site-packages"
    inner.mkdir(parents=True)
    (inner / "pyproject.toml").write_text('name = "distributed-training-bench"\n')
    assert environment.commit(inner) is None  # a folder inside somebody's checkout

    (project / "pyproject.toml").write_text('[project]\nname = "distributed-training-bench"\nversion = "2"\n')
    assert environment.commit(project) == head + "-dirty"
    (project / "pyproject.toml").write_text('[project]\nname = "something-else"\n')
    assert environment.commit(project) is None


def test_collect_makes_a_header_of_plain_json() -> None:
    ranks = [environment.describe_rank(torch.device("cpu"), Place(i, 2, i, 2)) for i in range(2)]
    facts = host.describe_host()
    found = environment.collect(ranks, {str(facts.hostname): facts})
    read = msgspec.json.decode(msgspec.json.encode(found), type=Environment)
    assert read == found
    assert (read.ranks, read.hosts[str(facts.hostname)]) == (ranks, facts)
    assert differences(found, read) == []


def test_a_rank_may_take_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 4096 kB\n")
    assert devices.available_memory_bytes(torch.device("cpu"), 4, tmp_path) == 2**20

    def free_and_total(device: Any) -> tuple[int, int]:
        return 77, 100

    monkeypatch.setattr(torch.cuda, "mem_get_info", free_and_total)
    assert devices.available_memory_bytes(torch.device("cuda", 0), 4, tmp_path) == 77


@pytest.mark.parametrize(
    ("device_type", "preset", "num_gpus", "num_cores", "ranks"),
    [
        ("cuda", "smoke", 8, 96, 8),
        ("cuda", "standard", 1, 96, 1),
        ("cpu", "smoke", 0, 96, 2),
        ("cpu", "standard", 0, 96, 8),
        ("cpu", "full", 0, 5, 5),
        ("cpu", "standard", 0, 1, 2),
        ("cpu", "standard", 4, 3, 3),
    ],
)
def test_default_ranks(device_type: str, preset: str, num_gpus: int, num_cores: int, ranks: int) -> None:
    assert devices.default_ranks(device_type, preset, num_gpus, num_cores) == ranks


def test_importing_it_imports_no_torch() -> None:
    code = (
        "import sys, bench.measure.system.environment, bench.measure.doctor.checks, bench.catalog.accelerators; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
