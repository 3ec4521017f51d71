"""PARAM, OSU and pytest-benchmark; the sample inputs are written by hand in the form that their sources print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers import osu, param, pytest_benchmark
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, identity
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import WorkFacts
from tests import DATA as TEST_DATA

DATA = TEST_DATA / "import"
PARAM = (DATA / "param.txt").read_text()
OSU = (DATA / "osu.txt").read_text()
PYTEST = json.loads((DATA / "pytest_benchmark.json").read_text())


def cases(read: ImportedText) -> dict[str, ImportedCase]:
    return {identity(reading.suite, reading.params)[0]: reading for reading in read.readings}


def test_param() -> None:
    read = param.read(PARAM, ImportHints())
    found = cases(read)
    assert list(found) == [
        "collective/all_reduce[num_bytes=1024]",
        "collective/all_reduce[num_bytes=1048576]",
        "collective/all_gather[dtype=bfloat16,num_bytes=1048576]",
        "collective/all_gather[dtype=bfloat16,num_bytes=1048576,tensor_list=true]",
    ]
    large = found["collective/all_reduce[num_bytes=1048576]"]
    assert (large.num_ranks, large.seconds) == (8, pytest.approx((100e-6,)))
    assert large.derived == pytest.approx({"median_rank_seconds": 80e-6})
    assert "the slowest rank's mean" in large.notes[0]
    assert large.work is not None
    assert large.work == WorkFacts(bytes=1048576, bus_factor=1.75)
    assert [row.where for row in read.unread] == ["line 10"]
    assert "10.1.2.3" not in repr(read)
    assert read.settings == {"backend": "nccl", "nw-stack": "pytorch-dist", "mode": "comms", "b": "1024",
                             "e": "1048576", "f": "1024", "z": "1"}  # fmt: skip
    assert read.ranks == (RankFacts(device_type="cuda"),) * 8


def test_param_without_blocking_is_streamed_and_srun_prefixes_do_not_matter() -> None:
    text = "".join(f"0: {line}\n" for line in PARAM.replace("args.z: 1", "args.z: 0").splitlines())
    assert "collective/all_reduce[num_bytes=1024,timing=streamed]" in cases(param.read(text, ImportHints()))


def test_old_param_rows_do_not_say_the_collective() -> None:
    text = "groupSize 2\n\tCOMMS-RES\t size (B)  Latency(us):p50  Min  Max\n\tCOMMS-RES\t  64  5.0  4.0  6.0\n"
    with pytest.raises(BenchError, match="add --op"):
        param.read(text, ImportHints())
    assert list(cases(param.read(text, ImportHints(op="reduce")))) == ["collective/reduce[num_bytes=64]"]


def test_param_that_heads_a_column_which_its_rows_lack() -> None:
    text = PARAM.replace("   nElementsPerRank  ", "   nElementsPerRank   nElementsPairPerRank ")
    assert len(param.read(text, ImportHints()).readings) == 4


def test_param_tables_without_a_time_of_the_collective_are_named() -> None:
    quantised = "\tCOMMS-RES-QUANT\t   size (B)  nElementsPerRank  P95 Latency(us): Quant  Comms\n"
    rows = "\tCOMMS-RES-QUANT-all_reduce-float32\t  1024  256  1.0  2.0\n"
    read = param.read("groupSize 2\n" + quantised + rows, ImportHints())
    assert (read.readings, [row.where for row in read.unread]) == ((), ["line 3"])


def test_osu() -> None:
    read = osu.read(OSU, ImportHints(num_ranks=4))
    found = cases(read)
    assert list(found) == [
        "collective/all_reduce[num_bytes=1024]",
        "collective/all_reduce[num_bytes=1048576]",
        "collective/all_gather[dtype=int8,num_bytes=1048576]",
        "collective/barrier",
        "osu/bandwidth[num_bytes=1000000]",
    ]
    full, _, mean, barrier, bandwidth = found.values()
    assert full.seconds == pytest.approx((12e-6,))  # the slowest rank, where -f prints it
    assert "slowest rank" in full.notes[0]
    assert mean.seconds == pytest.approx((100e-6,))
    assert "over the ranks" in mean.notes[0]
    assert mean.work is not None
    assert mean.work == WorkFacts(bytes=4 * 262144, bus_factor=0.75)
    assert barrier.seconds == pytest.approx((7.5e-6,))
    assert bandwidth.seconds == pytest.approx((50e-6,))  # 1 MB at 20 GB/s
    assert bandwidth.num_ranks == 2
    assert read.version == "7.5"
    assert [row.where for row in read.unread] == ["line 24"]
    assert {rank.device_type for rank in read.ranks} == {"cuda"}


def test_osu_does_not_say_how_many_ranks() -> None:
    with pytest.raises(BenchError, match="add --ranks N"):
        osu.read(OSU, ImportHints())
    pairs = "# OSU MPI Multiple Bandwidth / Message Rate Test v7.4\n# [ pairs: 3 ] [ window size: 64 ]\n"
    read = osu.read(
        pairs + "# Size                  MB/s        Messages/s\n1024    2048.00    2000000.00\n", ImportHints()
    )
    assert (read.readings[0].num_ranks, read.readings[0].seconds) == (6, pytest.approx((0.5e-6,)))


def test_osu_old_types_validation_and_repeated_tests() -> None:
    text = "# OSU MPI Allreduce Latency Test v5.8\n# Size       Avg Latency(us)        Validation\n"
    read = osu.read(
        text + "4    1.50    Pass\n8    1.60    Fail\n" + text + "4    1.70    Pass\n", ImportHints(num_ranks=2)
    )
    first, wrong, again = read.readings
    assert first.params == {"op": "all_reduce", "num_bytes": 4, "dtype": "float32"}
    assert (wrong.status, wrong.seconds) == ("invalid", ())
    assert (first.launch, again.launch, again.params) == (0, 1, first.params)
    assert {rank.device_type for rank in read.ranks} == {"cpu"}


def test_pytest_benchmark() -> None:
    read = pytest_benchmark.read(json.dumps(PYTEST), ImportHints())
    assert list(cases(read)) == ["pytest_benchmark/test_sum[dtype=float32,n=1024]", "pytest_benchmark/test_empty"]
    rounds, median = read.readings
    assert (rounds.seconds, rounds.calls, rounds.notes) == ((3e-6, 1e-6, 2e-6), 10, ())
    assert (median.seconds, median.calls) == ((2.5e-8,), 1)
    assert "the median of rounds" in median.notes[0]
    assert [row.where for row in read.unread] == ["benchmark 3"]
    assert (read.version, read.versions, read.started) == ("5.3.1", {"python": "3.12.4"}, PYTEST["datetime"])
    assert read.ranks == (RankFacts(host="ci-7", device_type="cpu", device_name="AMD EPYC 7B13"),)


def _test(name: str, fullname: str, params: Any = None) -> dict[str, Any]:
    return {"name": name, "fullname": fullname, "params": params, "stats": {"median": 1.0}}


@pytest.mark.parametrize(
    ("tests", "ids"),
    [
        (
            [_test("test_x", "tests/test_a.py::test_x"), _test("test_x", "tests/test_b.py::TestB::test_x")],
            ["pytest_benchmark/test_x[where=test_a.py]", "pytest_benchmark/test_x[where=test_b.py.TestB]"],
        ),
        ([_test("test_x[a,b]=c d", "t.py::test_x[a,b]=c d")], ["pytest_benchmark/test_x[id=a_b_c_d-e7a4]"]),
        (
            [_test("test_x[0]", "t.py::test_x[0]", {"fn": "<lambda>", "n": 0})],
            ["pytest_benchmark/test_x[fn=lambda-a153,n=0]"],
        ),
    ],
)
def test_pytest_benchmark_names(tests: list[dict[str, Any]], ids: list[str]) -> None:
    assert list(cases(pytest_benchmark.read(json.dumps({"benchmarks": tests}), ImportHints()))) == ids


@pytest.mark.parametrize(
    ("text", "message"), [("{", "no whole JSON"), ("[]", "no list `benchmarks`"), ('{"benchmarks": 1}', "no list")]
)
def test_no_pytest_benchmark(text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        pytest_benchmark.read(text, ImportHints())
