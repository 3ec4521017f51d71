"""Which readings are one case, and what the user says; the numbers are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers.reading import ImportHints, distinct_name
from bench.importers.registry import import_file
from bench.records.file import Result, load
from tests import DATA
from tests.support.damage import call

OSU_TABLE = "# OSU MPI{} Allreduce Latency Test v7.5\n# Number of Ranks {}\n# Size       Avg Latency(us)\n8  {}\n"
OSU_LATENCY = "# OSU MPI Latency Test v7.5\n# Size  Latency (us)\n8  1.0\n"
PARAM = (DATA / "import" / "cases" / "read-rightly" / "param_plain.txt").read_text()
NCCL = json.loads((DATA / "import" / "nccl.json").read_text())


def imported(text: str | bytes, folder: Path, **told: Any) -> Result:
    source = folder / "in.txt"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "out.jsonl").unlink(missing_ok=True)
    return load(import_file(source, ImportHints(**told), folder / "out.jsonl").path)


def cases(result: Result) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in result.measurements:
        samples = record.variants["full"].nanoseconds
        assert samples is not None
        found.setdefault(record.case, []).extend(samples[0].tolist())
    return found


def _test(name: str, fullname: str, data: list[float], params: object = None) -> dict[str, Any]:
    stats = {"data": data, "iterations": 1, "median": data[0]}
    return {"name": name, "fullname": fullname, "params": params, "stats": stats}


ONE_TEST = json.dumps({"benchmarks": [_test("t", "x.py::t", [1.0])], "machine_info": {}})


def test_numbers_of_ranks_are_cases_of_their_own(tmp_path: Path) -> None:
    result = imported(OSU_TABLE.format("", 2, 10) + OSU_TABLE.format("", 4, 30), tmp_path)
    assert cases(result) == {
        "collective/all_reduce[num_bytes=8,ranks=2]": [10_000],
        "collective/all_reduce[num_bytes=8,ranks=4]": [30_000],
    }
    assert {record.launch for record in result.measurements} == {0}


def test_the_library_and_the_place_of_the_data_are_apart_in_one_text(tmp_path: Path) -> None:
    nccl = OSU_TABLE.replace("MPI{}", "NCCL{}")
    result = imported(
        OSU_TABLE.format("-CUDA", 2, 10) + nccl.format("-CUDA", 2, 5) + OSU_TABLE.format("", 2, 7), tmp_path
    )
    assert cases(result) == {
        "collective/all_reduce[library=mpi,memory=cuda,num_bytes=8]": [10_000],
        "collective/all_reduce[library=nccl,memory=cuda,num_bytes=8]": [5_000],
        "collective/all_reduce[library=mpi,memory=host,num_bytes=8]": [7_000],
    }
    assert imported(nccl.format("-CUDA", 2, 5), tmp_path).plan.backend == "nccl"


def test_times_below_a_nanosecond_are_kept(tmp_path: Path) -> None:
    data = {"benchmarks": [_test("test_x", "a.py::test_x", [3e-10, 4.5e-10, 2.25e-9, 1.5e-7])], "machine_info": {}}
    result = imported(json.dumps(data), tmp_path)
    assert cases(result)["pytest_benchmark/test_x"] == pytest.approx([0.3, 0.45, 2.25, 150])
    for command in (["show"], ["compare", str(result.path)]):
        code, output = call(*command, str(result.path))
        assert code == 0, output
    assert "0.3" in call("show", str(result.path), "--format", "csv")[1] or "3" in output


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_test("t[a b]", "x.py::t[a b]", [1.0], {"s": "a b"}), _test("t[a/b]", "x.py::t[a/b]", [2.0], {"s": "a/b"})),
        (_test("t[1]", "x.py::t[1]", [1.0], {"s": 1}), _test("t[1_]", "x.py::t[1_]", [2.0], {"s": "1"})),
        (_test("t[T]", "x.py::t[T]", [1.0], {"s": True}), _test("t[True]", "x.py::t[True]", [2.0], {"s": "true"})),
        (_test("t[a]", "x.py::t[a]", [1.0], {"where": "a"}), _test("t[b]", "x.py::t[b]", [2.0], {"where": "b"})),
        (_test("t", "a/b/x.py::t", [1.0]), _test("t", "a/c/x.py::t", [2.0])),
        (_test("t", "a/x.py::A::t", [1.0]), _test("t", "a/x.py::B::t", [2.0])),
        (_test("t", "a-b/x.py::t", [1.0]), _test("t", "a/b/x.py::t", [2.0])),
        (_test("t", "a\\x.py::t", [1.0]), _test("t", "b\\x.py::t", [2.0])),
        (_test("t[\U0001f680]", "x.py::t[\U0001f680]", [1.0]), _test("t[\U0001f389]", "x.py::t[\U0001f389]", [2.0])),
        (_test("t[a]", "x.py::t[a]", [1.0], {"a b": 1}), _test("t[b]", "x.py::t[b]", [2.0], {"a/b": 1})),
        (_test("t[None]", "x.py::t[None]", [1.0], {"s": None}), _test("t[n]", "x.py::t[n]", [2.0], {"s": "None"})),
    ],
)  # fmt: skip
def test_different_tests_are_never_one_case(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    result = imported(json.dumps({"benchmarks": [first, second], "machine_info": {}}), tmp_path)
    assert list(cases(result).values()) == [[1e9], [2e9]]
    if first["name"] != second["name"]:  # alone in a file each, they are different cases too
        alone = [
            list(cases(imported(json.dumps({"benchmarks": [each], "machine_info": {}}), tmp_path)))
            for each in (first, second)
        ]
        assert alone[0] != alone[1]


def test_a_name_that_an_id_can_hold_is_left_alone() -> None:
    assert (distinct_name("float32"), distinct_name("\u65e5\u672c")) == ("float32", "\u65e5\u672c")
    assert distinct_name("a b") != distinct_name("a/b") != distinct_name("a_b")


@pytest.mark.parametrize(
    ("text", "told", "message"),
    [
        (PARAM, {"num_ranks": 8}, "--ranks 8: the file says 4"),
        (PARAM, {"op": "all_gather"}, "--op all_gather: the file says all_reduce"),
        (OSU_LATENCY, {"num_ranks": 4}, "--ranks 4: the file says 2"),
        (OSU_LATENCY, {"op": "reduce"}, "--op reduce: the file says latency"),
        (OSU_TABLE.format("", 4, 10), {"num_ranks": 8}, "--ranks 8: the file says 4"),
        (json.dumps(NCCL), {"num_ranks": 2}, "--ranks 2: the file says 4"),
        (json.dumps(NCCL), {"op": "reduce"}, "--op reduce: the file says all_reduce"),
        (ONE_TEST, {"num_ranks": 2}, "--ranks 2: the file says 1"),
        (ONE_TEST, {"op": "reduce"}, "--op reduce: the file says t;"),
    ],
)  # fmt: skip
def test_an_option_is_used_or_contradicted(tmp_path: Path, text: str, told: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        imported(text, tmp_path, **told)


def test_operations_are_taken_as_other_tools_spell_them(tmp_path: Path) -> None:
    table = (DATA / "import" / "cases" / "nccl-told-device-lost" / "table_only.txt").read_text()
    for name in ("all_reduce", "allreduce", "AllReduce", "all-reduce"):
        result = imported(table, tmp_path, op=name, num_ranks=2, device="D")
        assert {record.params["op"] for record in result.measurements} == {"all_reduce"}
        assert (result.plan.world_size, result.architecture) == (2, "2 x D")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["config"]["devices"][1].update(rank=3), "ranks 0, 3, not the first of each process of 2"),
        (lambda data: data["config"]["devices"][1].update(rank=0), "lists the ranks 0, 0"),
        (lambda data: data.update(results=[]), "no row of nccl-tests can be read"),
    ],
)  # fmt: skip
def test_json_that_contradicts_itself_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    data = json.loads(json.dumps(NCCL))
    change(data)
    with pytest.raises(BenchError, match=message):
        imported(json.dumps(data), tmp_path)


def test_json_with_bandwidths_of_another_operation(tmp_path: Path) -> None:
    data = json.loads(json.dumps(NCCL))
    data["args"][0] = "./build/all_gather_perf"
    result = imported(json.dumps(data), tmp_path)
    origin = result.environment.imported_from
    assert origin is not None
    assert "whose count is of one rank's share" in origin.contradictions[0]
    assert "that of all_gather on 4 ranks is 0.75" in origin.contradictions[1]
    assert "warning: it contradicts itself: the row of 1,048,576 bytes: " in call("show", str(result.path))[1]


def test_json_in_a_log_is_found_and_two_results_are_refused(tmp_path: Path) -> None:
    text = json.dumps(NCCL, indent=1)
    log = "".join(f"[0] {line}\n" for line in ["starting", *text.splitlines(), "done"])
    assert len(imported(log, tmp_path).measurements) == 6
    with pytest.raises(BenchError):
        imported(f"{text}\n{text}\n", tmp_path)


def test_param_against_its_own_bandwidths_and_percentiles(tmp_path: Path) -> None:
    result = imported(PARAM.replace("15.729", "10.486"), tmp_path)
    origin = result.environment.imported_from
    assert origin is not None
    assert "that of all_reduce on 4 ranks is 1.5" in origin.contradictions[0]
    falling = PARAM.replace("130.0        10.486", "95.0        10.486")
    with pytest.raises(BenchError, match="p95 is above Max"):
        imported(falling, tmp_path)
    with pytest.raises(BenchError, match="groupSize 4, more than its world_size 2"):
        imported(PARAM.replace("groupSize 4", "world_size: 2\ngroupSize 4"), tmp_path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("8  10.0  12.0  15.0  1000", "its mean is not between its extremes"),
        ("8  10.0  9.0  9.5  1000", "its mean is not between its extremes"),
        ("8  10.0  9.0", "does not fit the head"),
        ("8.5  10.0  9.0  11.0  1000", "has no time, or no size"),
    ],
)
def test_rows_of_osu_that_cannot_be_right(tmp_path: Path, row: str, reason: str) -> None:
    head = (
        "# OSU MPI Allreduce Latency Test v7.5\n# Size  Avg Latency(us)  Min Latency(us)  Max Latency(us)  Iterations\n"
    )
    with pytest.raises(BenchError, match=reason):
        imported(f"{head}{row}\n", tmp_path, num_ranks=2)
