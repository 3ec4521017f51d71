"""What is read of a host: a fake tree of files in, known figures out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure.system import cgroup, host
from bench.records import environments

GIB = 2**30


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/job/step\n",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
    "proc/self/mountinfo": (
        "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "36 31 0:33 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
    ),
}


def test_the_smallest_quota_on_the_way_up_holds(tmp_path: Path) -> None:
    put(tmp_path, V2 | {"sys/fs/cgroup/job/step/cpu.max": "max 100000", "sys/fs/cgroup/job/cpu.max": "250000 100000"})
    assert cgroup.quota_cores(tmp_path) == 2.5
    put(tmp_path, {"sys/fs/cgroup/job/step/cpu.max": "50000 100000"})
    assert cgroup.quota_cores(tmp_path) == 0.5


def test_version_1_in_a_container_that_sees_only_its_own_subtree(tmp_path: Path) -> None:
    put(
        tmp_path,
        V1
        | {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {GIB}\n",
        },
    )
    assert cgroup.quota_cores(tmp_path) == 3.0
    assert cgroup.memory_limit_bytes(tmp_path) == 4 * GIB
    assert cgroup.memory_room_bytes(tmp_path) == 2 * GIB  # 4 - (3 - 1 of page cache)


def test_no_limit_is_none_in_both_versions(tmp_path: Path) -> None:
    one, two = tmp_path / "v1", tmp_path / "v2"
    put(
        one,
        V1
        | {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    put(two, V2 | {"sys/fs/cgroup/job/cpu.max": "max 100000", "sys/fs/cgroup/job/step/memory.max": "max"})
    for root in (one, two, tmp_path / "nothing"):
        assert cgroup.quota_cores(root) is None
        assert cgroup.memory_limit_bytes(root) is None
        assert cgroup.memory_room_bytes(root) is None


def test_the_memory_room_is_the_smallest_of_all_groups(tmp_path: Path) -> None:
    put(
        tmp_path,
        V2
        | {
            "sys/fs/cgroup/job/step/memory.max": str(8 * GIB),
            "sys/fs/cgroup/job/step/memory.current": str(1 * GIB),
            "sys/fs/cgroup/job/memory.max": str(10 * GIB),
            "sys/fs/cgroup/job/memory.current": str(9 * GIB),
            "proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemAvailable: {32 * 2**20} kB\nHugePages_Total: 0\n",
        },
    )
    assert cgroup.memory_room_bytes(tmp_path) == 1 * GIB
    assert host.available_host_memory_bytes(tmp_path) == 1 * GIB
    assert host.memory_info(tmp_path) == {"MemTotal": 64 * GIB, "MemAvailable": 32 * GIB}


def test_usable_cores_are_whole_and_at_least_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_affinity", lambda: [0, 1, 2, 3, 8, 9])
    assert host.usable_cores(tmp_path) == 6
    put(tmp_path, V2 | {"sys/fs/cgroup/job/step/cpu.max": "350000 100000"})
    assert host.usable_cores(tmp_path) == 3
    put(tmp_path, {"sys/fs/cgroup/job/step/cpu.max": "20000 100000"})
    assert host.usable_cores(tmp_path) == 1


def test_cores_are_counted_by_place(tmp_path: Path) -> None:
    # Two sockets of two cores of two threads each.
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        put(tmp_path, {f"{folder}/physical_package_id": str(cpu // 2 % 2), f"{folder}/core_id": str(cpu % 2)})
    put(tmp_path, {"sys/devices/system/cpu/cpufreq/x": "", "sys/devices/system/cpu/cpu8/online": "0"})
    assert host.count_cores(tmp_path) == (8, 4, 2)
    assert host.count_cores(tmp_path / "nothing") == (None, None, None)


@pytest.mark.parametrize(
    ("model", "tidy"),
    [
        ("Intel(R) Xeon(R) Processor", "Intel Xeon Processor"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Intel Xeon Platinum 8481C"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "Intel Core i7-8700"),
        ("AMD EPYC 7B13 64-Core Processor", "AMD EPYC 7B13"),
        ("Arm Neoverse V2", "Arm Neoverse V2"),
    ],
)
def test_processor_names_are_tidied(model: str, tidy: str) -> None:
    assert environments.tidy_cpu_model(model) == tidy


def test_an_arm_processor_is_named_by_its_cores(tmp_path: Path) -> None:
    put(tmp_path, {"proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\nprocessor\t: 1\n"})
    assert host.cpu_model(tmp_path) == "Arm Neoverse V2"
    assert host.virtualised(tmp_path) is None


def test_a_host_is_described_from_its_files(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/cpuinfo": "model name\t: AMD EPYC 9654\ncpu MHz\t\t: 2400.5\nflags\t\t: fpu hypervisor\n\n",
            "proc/meminfo": "MemTotal:  1024 kB\nMemAvailable:  512 kB\n",
            "proc/loadavg": "1.50 0.75 0.10 2/89 4891\n",
            "etc/os-release": 'NAME="x"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "3700000\n",
            "sys/module/nvidia/version": "550.54.15\n",
            "sys/devices/system/node/node0/x": "",
            "sys/devices/system/node/node1/x": "",
            "dev/shm/x": "",
        },
    )
    facts = host.describe_host(tmp_path)
    expected = {
        "cpu_model": "AMD EPYC 9654",
        "cpu_frequency_hz": 2_400_500_000,
        "cpu_governor": "performance",
        "cpu_max_frequency_hz": 3_700_000_000,
        "memory_bytes": 2**20,
        "memory_available_bytes": 2**19,
        "memory_limit_bytes": None,
        "load_averages": [1.5, 0.75, 0.1],
        "numa_nodes": 2,
        "os": "Ubuntu 24.04.1 LTS",
        "virtualised": True,
        "gpu_driver": "550.54.15",
        "cpu_quota_cores": None,
        "logical_cores": None,
    }
    assert {name: getattr(facts, name) for name in expected} == expected
    assert facts.shm_bytes


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    facts = host.describe_host(tmp_path)
    for name in ("cpu_governor", "memory_bytes", "numa_nodes", "shm_bytes", "load_averages", "virtualised"):
        assert getattr(facts, name) is None, name


def test_accelerators_that_torch_cannot_see_are_told(tmp_path: Path) -> None:
    assert host.unusable_accelerators(0, tmp_path) is None
    put(tmp_path, {f"proc/driver/nvidia/gpus/0000:{bus}:00.0/information": "" for bus in ("1b", "43")})
    text = host.unusable_accelerators(0, tmp_path)
    assert text is not None
    assert "2 NVIDIA GPUs" in text
    assert "--device cpu" in text
    assert host.present_gpus(tmp_path) == 2
    assert host.unusable_accelerators(1, tmp_path) is None  # 1 of 2 is another matter


def test_amd_nodes_without_simds_are_processors(tmp_path: Path) -> None:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    put(tmp_path, {"dev/kfd": "", f"{nodes}/0/properties": "cpu_cores_count 96\nsimd_count 0\n"})
    assert host.present_gpus(tmp_path) == 0
    assert host.unusable_accelerators(0, tmp_path) is None
    put(tmp_path, {f"{nodes}/1/properties": "cpu_cores_count 0\nsimd_count 1216\n"})
    assert host.present_gpus(tmp_path) == 1
    text = host.unusable_accelerators(0, tmp_path)
    assert text is not None
    assert "1 AMD GPU (" in text


def test_a_device_file_alone_is_an_accelerator(tmp_path: Path) -> None:
    put(tmp_path, {"dev/kfd": ""})
    text = host.unusable_accelerators(0, tmp_path)
    assert text is not None
    assert "at least 1 AMD GPU" in text


def test_a_numa_node_of_minus_one_is_unknown(tmp_path: Path) -> None:
    put(tmp_path, {"sys/bus/pci/devices/0000:3b:00.0/numa_node": "1\n"})
    put(tmp_path, {"sys/bus/pci/devices/0000:5e:00.0/numa_node": "-1\n"})
    assert host.pci_numa_node("0000:3B:00.0", tmp_path) == 1
    assert host.pci_numa_node("0000:5e:00.0", tmp_path) is None
    assert host.pci_numa_node("0000:ff:00.0", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "cores"), [("0-2,8", {0, 1, 2, 8}), ("5", {5}), ("", set()), ("0-x", set()), ("nonsense", set())]
)
def test_a_node_has_the_cores_of_its_list(tmp_path: Path, text: str, cores: set[int]) -> None:
    folder = tmp_path / "sys/devices/system/node/node3"
    folder.mkdir(parents=True)
    (folder / "cpulist").write_text(text)
    assert host.numa_cores(tmp_path) == ({3: cores} if cores else {})
    assert host.numa_cores(tmp_path / "nothing") == {}
