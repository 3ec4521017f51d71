from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.records.anonymize import anonymize_result
from bench.records.file import Writer, load
from bench.records.lines import decoding
from bench.records.lines.header import SuiteFacts
from bench.records.lines.kinds import Header, Line, Measurement
from tests.support.results import end, header, measurement, not_ok, save

HOSTS = ("node07.secret-lab.example", "node08.secret-lab.example")
UUID = "GPU-3f2a9c1e-7b54-4d1a-9e21-0c8b7a6d5e4f"
PLANTED = [
    "node07", "node08", "node31", "secret-lab", UUID, UUID[4:], "10.1.2.3",
    "fe80::1ff:fe23:4567:890a",
    "02:42:ac:11:00:02",
    "0000:17:00.0", "enp3s0f0", "mlx5_4", "weird0if", "eth1", "/home/alice", "alice", "Alice Smith",
    "scratch", "master.cluster", "bob@", "C:\\Users", "out folder", "elsewhere", "private-repo",
]  # fmt: skip
TEXTS = [
    "rank 1 (node08), measure: RuntimeError: Connection reset by peer [10.1.2.3]:29500 (mine.py, line 3)",
    "FileNotFoundError: [Errno 2] No such file or directory: '/home/Alice Smith/data set/x.bin'",
    "see /home/alice/scratch/run.log and ~/private-repo/a or file:///scratch/b",
    "NODE07.secret-lab.example and node31 could not reach master.cluster.local:29500",
    "interfaces enp3s0f0, eth1 and weird0if (02:42:ac:11:00:02, fe80::1ff:fe23:4567:890a), HCA mlx5_4",
    f"device {UUID} at 0000:17:00.0 fell off the bus; write to bob@secret-lab.example",
    r"C:\Users\alice\x.txt and scratch/alice/train.py and https://secret-lab.example/private-repo?a=1",
]


def _header() -> dict[str, Any]:
    head = header(2, label="night run on node07")
    head["run_id"] = UUID
    environment = head["environment"]
    environment["hosts"] = {name: {"hostname": name, "kernel": "5.15.0.1"} for name in HOSTS}
    for rank, host in zip(environment["ranks"], HOSTS, strict=True):
        rank |= {"host": host, "uuid": UUID, "pci_bus_id": "0000:17:00.0"}
    environment["versions"]["cudnn"] = "9.10.2.21"
    environment["variables"] = {
        "NCCL_SOCKET_IFNAME": "=enp3s0f0,weird0if",
        "NCCL_IB_HCA": "mlx5_4:1",
        "NCCL_DEBUG_FILE": "/home/alice/nccl.log",
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_ALGO": "Ring",
    }
    head["command"] = [
        "run", "/home/alice/mine.py", "compute", "-o", "out folder", "--resume=elsewhere", "--against", "elsewhere",
        "--case", "collective/all_reduce[num_bytes=4]", "--set", "num_bytes=1MiB", "--label", "node07", "-oelsewhere",
    ]  # fmt: skip
    head["plan"] |= {
        "label": "node07",
        "suites": [{"name": "mine", "reference": "scratch/mine.py", "digest": "a" * 64, "metrics": {}}],
        "options": {"output": "out folder", "suites": ["scratch/mine.py", "compute"], "preset": "smoke"},
    }
    return head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    resume = {"kind": "resume", "started": "2026-01-31T13:00:00.000+00:00", "environment": _header()["environment"]}
    return save(
        tmp_path / "a.jsonl",
        _header(),
        measurement(
            "collective/all_reduce[num_bytes=4]",
            [[1, 2], [3, 4]],
            notes=TEXTS,
            spans=[[0, 0, "f", None, None, 1, 2]],
            traced_call_ns=[[3], [3]],
        ),
        *(not_ok(f"mine/case{n}", "failed", text) for n, text in enumerate(TEXTS)),
        resume | {"command": ["run", "--resume", "out folder/a.jsonl"]},
        end(),
    )


def test_nothing_planted_is_left_anywhere(path: Path) -> None:
    text = (
        "\n".join(json.dumps(decoding.plain(record)) for record in anonymize_result(load(path)))
        .replace("\\\\", "\\")
        .lower()
    )
    assert [word for word in PLANTED if word.lower() in text] == []


def test_what_was_planted_was_there(path: Path) -> None:
    text = path.read_text().replace("\\\\", "\\").lower()
    assert [word for word in PLANTED if word.lower() not in text] == []


def test_numbers_cases_and_versions_stay(path: Path, tmp_path: Path) -> None:
    original = load(path)
    with Writer.create(tmp_path / "b.jsonl") as writer:
        for record in anonymize_result(original):
            writer.append(record)
    copy = load(tmp_path / "b.jsonl")
    for before, after in zip(original.measurements, copy.measurements, strict=True):
        same = ("case", "suite", "params", "variants", "work", "check", "stop", "spans", "started", "launch", "status")
        one, two = decoding.plain(before), decoding.plain(after)
        assert [one.get(k) for k in same] == [two.get(k) for k in same]
        assert one["variants"] or before.status != "ok"
    assert copy.end == original.end
    assert copy.environment.versions == original.environment.versions
    assert copy.environment.variables["NCCL_ALGO"] == "Ring"
    assert copy.header.architecture == original.header.architecture
    assert copy.header.started == original.header.started
    assert copy.plan.suites[0] == SuiteFacts("mine", "(removed)", digest="a" * 64)
    assert copy.plan.options == {"output": "(removed)", "suites": ["(removed)", "compute"], "preset": "smoke"}
    assert copy.header.command == [
        "run", "(removed)", "compute", "-o", "(removed)", "--resume=(removed)", "--against", "(removed)",
        "--case", "collective/all_reduce[num_bytes=4]", "--set", "num_bytes=1MiB", "--label", "host0", "-o(removed)",
    ]  # fmt: skip


def test_hosts_are_numbered_alike_everywhere(path: Path) -> None:
    head, _, failed, *_ = anonymize_result(load(path))
    assert isinstance(head, Header)
    assert isinstance(failed, Measurement)
    assert head.label == "label0"
    assert list(head.environment.hosts) == ["host0", "host1"]
    assert [rank.host for rank in head.environment.ranks] == ["host0", "host1"]
    assert failed.reason is not None
    assert failed.reason.startswith("rank 1 (host1), measure: RuntimeError: Connection reset by peer")


def test_the_original_is_left_alone(path: Path) -> None:
    result = load(path)
    lines: list[Line] = [result.header, *result.measurements]
    before = [decoding.encode(line) for line in lines]
    assert len(list(anonymize_result(result))) > 2
    assert [decoding.encode(line) for line in lines] == before


def test_a_host_named_like_a_suite_renames_no_case(tmp_path: Path) -> None:
    head = header()
    for rank in head["environment"]["ranks"]:
        rank["host"] = "compute"
    head["environment"]["hosts"] = {"compute": {"hostname": "compute"}}
    path = save(tmp_path / "a.jsonl", head, measurement("compute/matmul[size=8]", notes=["on compute"]))
    _, copy = anonymize_result(load(path))
    assert isinstance(copy, Measurement)
    assert (copy.suite, copy.case, copy.notes) == ("compute", "compute/matmul[size=8]", ["on host0"])


def test_units_and_fractions_are_no_paths(tmp_path: Path) -> None:
    notes = [
        "12 GB/s, 3 tokens/s, 1 / time",
        "see collective/all_reduce[num_bytes=4]",
        "arrays: 8 MiB, 0.5 x the cache",
    ]
    path = save(tmp_path / "a.jsonl", measurement(notes=notes))
    _, copy = anonymize_result(load(path))
    assert isinstance(copy, Measurement)
    assert copy.notes == notes


def test_the_hosts_of_ranks_that_did_not_meet_are_left_out(tmp_path: Path) -> None:
    """The reason names hosts of which no environment knows."""
    head = _header()
    del head["environment"]["ranks"]
    reason = "1 of 2 ranks came within 120 s; missing: secret-node7: rank 1"
    unmet = save(tmp_path / "unmet.jsonl", head, end("failed", exit_code=2) | {"reason": reason})
    text = "\n".join(json.dumps(decoding.plain(record)) for record in anonymize_result(load(unmet)))
    assert "secret-node7" not in text
    assert "the ranks did not meet (removed)" in text
