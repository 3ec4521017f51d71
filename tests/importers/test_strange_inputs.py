"""Inputs of tools other than nccl-tests' text and OSU, in forms that their sources and public outputs have.

nvbandwidth: https://github.com/NVIDIA/nvbandwidth, nvbandwidth.cpp and multinode_testcases.cpp. MLPerf: logs of
https://github.com/mlcommons/training_results_v5.1, whose ranks print events at their own times. all_reduce_bench:
https://github.com/stas00/ml-engineering. pytest-benchmark: its documentation, "Comparing past runs".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers.reading import ImportedText
from bench.records.file import load
from tests import DATA
from tests.importers.test_further_formats import read, seconds_of
from tests.support.damage import call

DEVICES = ["0: NVIDIA GB200 (00000008:01:00): (hostA)", "1: NVIDIA GB200 (00000009:01:00): (hostA)"]
STAMP = 1_790_000_000_000
LLAMA = "[benchmark=llama31_8b,global_batch_size=32,max_sequence_length=8192]"


def nvbandwidth(*tests: dict[str, Any], **more: Any) -> str:
    """Text of a file with these tests."""
    return json.dumps({"nvbandwidth": {"git_version": "v0.8", "testcases": tests, "version": "v0.8", **more}}, indent=3)


def passed(name: str, matrix: list[list[str]], what: str = "bandwidth (GB/s)", **more: Any) -> dict[str, Any]:
    total = sum(float(cell) for row in matrix for cell in row if cell != "N/A")
    described = {"bandwidth_matrix": matrix, "bandwidth_description": what}
    return {"name": name, "status": "Passed", "sum": total, **described, **more}


def event(key: str, value: object, ms: int, **metadata: object) -> str:
    """A line of a log, `ms` milliseconds after its beginning."""
    row = {"namespace": "", "time_ms": STAMP + ms, "event_type": "POINT_IN_TIME", "key": key, "value": value}
    return f":::MLLOG {json.dumps({**row, 'metadata': {'file': 'train.py', **metadata}})}"


def log_of_run(begin: int = 0, rates: Sequence[float] = (32.0, 64.0), status: str = "success") -> list[str]:
    """Lines of a run of a minute, which starts a second after it begins."""
    return [
        event("init_start", None, begin),
        event("submission_benchmark", "llama31_8b", begin + 10),
        event("global_batch_size", 32, begin + 11),
        event("max_sequence_length", 8192, begin + 12),
        event("run_start", None, begin + 1000),
        *(event("tracked_stats", {"throughput": rate}, begin + 9000 * at) for at, rate in enumerate(rates, 1)),
        event("run_stop", None, begin + 61_000, status=status),
    ]


def read_log(lines: Sequence[str]) -> ImportedText:
    return read("\n".join(lines) + "\n", num_ranks=8)


def pytest_test(name: str, data: Sequence[float], **more: Any) -> dict[str, Any]:
    return {"name": name, "fullname": f"test_a.py::{name}", "stats": {"data": data, "iterations": 1}, **more}


def pytest_file(*tests: dict[str, Any]) -> str:
    return json.dumps({"machine_info": {"node": "hostA"}, "benchmarks": tests, "version": "5.1.0"})


def test_a_bisection_lacks_its_unit_and_pairs_each_process_with_one_half_away() -> None:
    rows = [["700"], ["710"], ["720"], ["730"]]
    test = passed("multinode_bisect_write_ce", rows, "Bisect benchmarking, simultaneous write CE BW")
    text = read(nvbandwidth(test, **{"GPU Device list": DEVICES}))
    case = "nvbandwidth/multinode_bisect_write_ce[gpu={},peer={}]"
    assert seconds_of(text) == {
        case.format(0, 2): (1 / 700,), case.format(1, 3): (1 / 710,), case.format(2, 0): (1 / 720,),
        case.format(3, 1): (1 / 730,),
    }  # fmt: skip
    assert {reading.num_ranks for reading in text.readings} == {4}
    assert [rank.device_name for rank in text.ranks] == ["NVIDIA GB200"] * 2 + [None] * 2


def test_tests_of_several_nodes_have_as_many_ranks_as_processes() -> None:
    start = "multinode_device_to_device_"
    tests = [
        passed(f"{start}all_to_one_write_sm", [["500", "501", "502", "503"]]),
        passed(f"{start}all_from_one_read_sm", [["510", "511", "512", "513"]]),
        passed(f"{start}broadcast_one_to_all_sm", [["600", "601", "602", "603"]]),
        passed(f"{start}broadcast_all_to_all_sm", [["900"]]),
        passed(f"{start}memcpy_read_ce", [["N/A" if at == to else "90" for at in range(4)] for to in range(4)]),
        {"name": f"{start}memcpy_read_sm", "status": "Waived"},
        passed("host_to_device_memcpy_ce", [["50", "51"]]),
        passed("all_to_one_write_ce", [["500", "501"]]),
    ]
    text = read(nvbandwidth(*tests, **{"GPU Device list": DEVICES}))
    ranks = {str(reading.params["op"]).removeprefix(start): reading.num_ranks for reading in text.readings}
    assert ranks == {
        "all_to_one_write_sm": 4, "all_from_one_read_sm": 4, "broadcast_one_to_all_sm": 4, "memcpy_read_ce": 2,
        "broadcast_all_to_all_sm": 4, "memcpy_read_sm": 4, "host_to_device_memcpy_ce": 1, "all_to_one_write_ce": 2,
    }  # fmt: skip
    assert f"nvbandwidth/{start}broadcast_all_to_all_sm" in seconds_of(text)


def test_a_failed_test_is_one_case_and_not_two_launches() -> None:
    name = "device_to_device_memcpy_read_ce"
    text = read(nvbandwidth({"name": name, "status": "Running"}, {"name": name, "status": "Error"}, error="oops"))
    assert [(case.status, case.launch, case.reason) for case in text.readings] == [
        ("failed", 0, "nvbandwidth says Error: oops")
    ]
    with pytest.raises(BenchError, match="nvbandwidth ran no test: CUDA_ERROR_NO_DEVICE: none"):
        read(json.dumps({"nvbandwidth": {"error": "CUDA_ERROR_NO_DEVICE: none", "version": "v0.8"}}))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"min": 50.0, "max": 52.0, "average": 51.0}, None),
        ({"min": 10.0}, "its min is 10, but the smallest cell of its matrix is 50"),
        ({"max": 60.0}, "its max is 60, but the largest cell of its matrix is 52"),
        ({"average": 40.0}, "its average is 40, but the mean of the cells of its matrix is 51"),
    ],
)
def test_extremes_of_a_verbose_run_are_held_against_the_cells(stated: dict[str, float], message: str | None) -> None:
    text = read(nvbandwidth(passed("host_to_device_memcpy_ce", [["50", "52"]], **stated)))
    assert [row.text for row in text.contradictions] == ([message] if message else [])


def test_the_smallest_cell_of_a_matrix_with_pairs_left_out_is_stated_as_zero() -> None:
    matrix = [["N/A", "90"], ["91", "N/A"]]
    stated = {"min": 0.0, "max": 91.0, "average": 90.5}
    assert not read(nvbandwidth(passed("device_to_device_memcpy_read_ce", matrix, **stated))).contradictions


@pytest.mark.parametrize("listed", [1, 3])
def test_columns_are_held_against_the_list_of_devices(listed: int) -> None:
    test = passed("host_to_device_memcpy_ce", [["50", "52"]])
    text = read(nvbandwidth(test, **{"GPU Device list": [f"{at}: NVIDIA H200 (00:0{at}:00)" for at in range(listed)]}))
    assert [row.text for row in text.contradictions] == [
        f"host_to_device_memcpy_ce has 2 columns, but `GPU Device list` has {listed} devices"
    ]
    assert len(text.ranks) == max(2, listed)


def test_bandwidths_are_shown_as_such_and_the_time_of_the_import_is_not_the_end(tmp_path: Path) -> None:
    source, path = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(nvbandwidth(passed("host_to_device_memcpy_ce", [["54.1"]])))
    assert call("import", str(source), "-o", str(path))[0] == 0
    code, output = call("show", str(path), "--wide")
    assert (code, "54 GB/s" in output) == (0, True), output
    assert "--launches" not in output
    assert "--budget" not in output
    end = load(path).end
    assert end is not None
    assert end.ended is None
    code, output = call("run", "--like", str(path))
    assert (code, "imported from nvbandwidth, whose tests bench cannot run" in output) == (2, True), output


def test_ranks_that_begin_at_their_own_times_are_one_run() -> None:
    lines = log_of_run()
    lines[3:3] = [event("init_start", None, 20 + rank) for rank in range(7)]
    at = next(index for index, line in enumerate(lines) if '"run_start"' in line)
    lines[at + 1 : at + 1] = [event("run_start", None, 1005), event("run_start", None, 1007)]
    text = read_log(lines)
    assert seconds_of(text) == {f"mlperf/train_step{LLAMA}": (1.0, 0.5), f"mlperf/time_to_train{LLAMA}": (60.0,)}
    assert {reading.launch for reading in text.readings} == {0}


def test_runs_after_one_another_are_launches() -> None:
    text = read_log([*log_of_run(), *log_of_run(10**6, (16.0,)), *log_of_run(2 * 10**6, (8.0,), "aborted")])
    steps = [(case.launch, case.seconds) for case in text.readings if case.params["op"] == "train_step"]
    assert steps == [(0, (1.0, 0.5)), (1, (2.0,)), (2, (4.0,))]
    ends = [(case.launch, case.status) for case in text.readings if case.params["op"] == "time_to_train"]
    assert ends == [(0, "ok"), (1, "ok"), (2, "failed")]


def test_events_that_two_ranks_print_in_one_line_are_both_read() -> None:
    lines = log_of_run()
    lines[5:7] = [f"{lines[5]}1: {lines[6]}"]
    assert seconds_of(read_log(lines))[f"mlperf/train_step{LLAMA}"] == (1.0, 0.5)


def test_a_run_that_never_stops_is_named() -> None:
    text = read_log(log_of_run()[:-1])
    assert list(seconds_of(text)) == [f"mlperf/train_step{LLAMA}"]
    assert text.remarks == ("line 5: run_start without a run_stop; the time to train is not known",)
    assert read_log(log_of_run()).remarks == ()


@pytest.mark.parametrize(
    ("value", "metadata", "status", "has_note"),
    [
        (None, {"status": "success"}, "ok", False),
        (None, {"status": "aborted"}, "failed", False),
        ("aborted", {}, "failed", False),
        ("success", {}, "ok", False),
        (None, {"status": None}, "ok", True),
    ],
)
def test_the_status_of_a_run_is_a_value_or_metadata(
    value: object, metadata: dict[str, object], status: str, has_note: bool
) -> None:
    (case,) = read_log([*log_of_run(rates=())[:-1], event("run_stop", value, 61_000, **metadata)]).readings
    assert case.status == status
    assert any("does not say that the run reached its target" in note for note in case.notes) == has_note


def test_a_test_that_is_in_the_file_again_is_a_later_launch() -> None:
    text = read(
        pytest_file(pytest_test("test_x", [1e-3]), pytest_test("test_y", [5e-3]), pytest_test("test_x", [2e-3]))
    )
    assert [(case.params["op"], case.launch, case.seconds) for case in text.readings] == [
        ("test_x", 0, (1e-3,)), ("test_y", 0, (5e-3,)), ("test_x", 1, (2e-3,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"min": 1e-3, "median": 1.5e-3, "max": 2e-3}, None),
        ({"median": 2e-3}, None),
        ({"median": 9.0}, "its median is 9 s, but that of its rounds is 0.001 s"),
        ({"max": 1e-3}, "its max is 0.001 s, but that of its rounds is 0.002 s"),
    ],
)
def test_statistics_are_held_against_the_rounds(stated: dict[str, float], message: str | None) -> None:
    test = pytest_test("test_x", [1e-3, 2e-3])
    test["stats"] |= stated
    assert [row.text for row in read(pytest_file(test)).contradictions] == ([message] if message else [])


def test_addresses_of_objects_are_no_part_of_a_case() -> None:
    tests = [
        pytest_test(f"test_x[p{at}-8]", [1e-3], params={"p": f"UNSERIALIZABLE[<object at 0x7f{at}>]", "n": 8})
        for at in range(2)
    ]
    assert list(seconds_of(read(pytest_file(*tests)))) == [
        "pytest_benchmark/test_x[id=p0-8,n=8]", "pytest_benchmark/test_x[id=p1-8,n=8]",
    ]  # fmt: skip


def test_own_facts_of_a_test_are_accounted_for() -> None:
    ledger = read(pytest_file(pytest_test("test_x", [1e-3], extra_info={"batch": 8}))).ledger
    (line,) = [line for line in ledger if "extra_info" in line.where]
    assert (line.where, line.kind) == ("benchmark 1, extra_info 'batch'", "not data")


def test_a_round_of_zero_is_given_as_the_reason() -> None:
    text = read(pytest_file(pytest_test("test_x", [0.0, 1e-9])))
    assert [line.why for line in text.ledger.of_kind("unread")] == ["has a round that is not a time above 0"]


def test_a_payload_in_parts_of_a_gib_is_cut_as_the_program_cuts_it() -> None:
    text = read(
        "- software: torch=2.9.1, cuda=None, nccl=(2, 27, 7)\n"
        "The 0.7GiB payload bandwidth of all_reduce over 4 ranks (5 warmups / 2 trials):\n"
        "| busbw | algbw |\n| 150.00GBps | 100.00GBps |\n| 75.00GBps | 50.00GBps |\n"
    )
    case = "collective/all_reduce[num_bytes=751619276]"
    assert seconds_of(text) == {case: (751619276 / 100e9, 751619276 / 50e9)}
    assert text.versions == {"torch": "2.9.1", "nccl": "2.27.7"}


def test_errors_that_nccl_kept_are_named() -> None:
    data = json.loads((DATA / "import" / "nccl_v3.json").read_text())
    assert not [remark for remark in read(json.dumps({**data, "errors": [""]})).remarks if "error of" in remark]
    remarks = read(json.dumps({**data, "errors": ["unhandled cuda error"]})).remarks
    assert "error of nccl-tests: unhandled cuda error" in remarks


def test_a_refused_file_costs_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text(ONE)
    Path("bad.txt").write_text("hello\n")
    Path("folder").mkdir()
    code, output = call("import", "bad.txt", "nowhere.txt", "folder", "good.json", "-o", "results")
    lines = output.splitlines()
    assert (code, len(lines), len(list(Path("results").iterdir()))) == (2, 4, 1), output
    assert "1 case of pytest-benchmark, from good.json" in lines[0]
    assert lines[1].startswith("bench: error: 'bad.txt': looks like none of")
    assert lines[2] == "bench: error: no file 'nowhere.txt'; name what the tool wrote"
    assert lines[3] == "bench: error: 'folder' is a folder; name the files in it that the tool wrote"


def test_a_tool_is_named_in_any_case_and_a_text_of_another_is_refused() -> None:
    assert read("\n".join(log_of_run()), "MLPerf", num_ranks=8).tool == "MLPerf"
    with pytest.raises(BenchError, match=r"no log of MLPerf: it has no line :::MLLOG"):
        read("hello\n", "mlperf")
    with pytest.raises(BenchError, match=r"'in.txt': --device NVIDIA A100: the file says NVIDIA H100"):
        read("- hardware: _Cuda(name='NVIDIA H100')\n" + TABLE, device="NVIDIA A100")


TABLE = (
    "The average bandwidth of all_reduce over 4 ranks (5 warmups / 20 trials):\n"
    "| payload | busbw | algbw |\n| 1MiB | 34.50GBps | 23.00GBps |\n"
)
ONE = pytest_file(pytest_test("test_x", [1e-3]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nvbandwidth Version: v0.8\nBuilt from Git version: v0.8\n", "printed text of nvbandwidth.*nvbandwidth -j"),
        (f"{ONE}\n{ONE}\n", "several JSON documents, the second at line 2; save each in a file of its own"),
        (f"[{ONE},\n{ONE}]\n", "2 JSON documents in one file; save each in a file of its own"),
        (f"[{ONE},{ONE}]", "2 JSON documents in one file; save each in a file of its own"),
        (f"$ run\n{ONE}\n$ run\n{ONE}\n", "2 JSON documents in one file"),
        ('{"identifier": "nccl-tests structured output", "benchmark": []}', "a JSON of a fork of nccl-tests"),
        (':::MLL 1580000000.5 run_start: {"value": null}\n', "a log of MLPerf before its lines were :::MLLOG"),
        (":::MLPv0.5.0 resnet 1541635581.66 (train.py:1) run_start\n", "a log of MLPerf before its lines"),
        ('{"context": {}, "benchmarks": [{"name": "x", "run_type": "iteration"}]}', "a JSON of Google Benchmark"),
        ('{"kind":"header","schema":1,"label":"run"}\n', "a result of bench already; name it to `bench show`"),
        (pytest_file(), "its list `benchmarks` is empty"),
        ("\n", "the file is empty"),
        ("nothing of these\n", "looks like none of"),
    ],
)
def test_a_file_that_is_known_and_not_read_is_named(text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read(text)
