"""Sample inputs are written by hand in the form of nccl-tests' src/common.cu and src/util.cu."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers.nccl_tests import json_file, printed_text
from bench.importers.nccl_tests.rows import NcclTestsSetup, operation, version_text
from bench.importers.reading import ImportedCase, ImportedText, ImportHints, identity
from bench.importers.registry import import_file
from bench.importers.source.cleaning import clean_text
from bench.records.file import load
from bench.records.lines.parts import CheckOutcome, WorkFacts
from bench.records.rows import case_rows
from tests import DATA as TEST_DATA

DATA = TEST_DATA / "import"
NEW, OLD, DEBUG = (clean_text((DATA / f"nccl_{name}.txt").read_bytes()).text for name in ("new", "old", "debug"))
JSON = (DATA / "nccl.json").read_text()
HEAD = "# size count type redop root  time algbw busbw #wrong  time algbw busbw #wrong\n"
ROW = "  1048576  262144  float  sum  -1  40.00  26.21  26.21  0  38.00  27.59  27.59  0\n"
DEVICES = "".join(
    f"#  Rank  {rank} Group  0 Pid   1 on  n{rank} device  0 [0000:1b:00] NVIDIA H200\n" for rank in (0, 1)
)


def cases(read: ImportedText) -> dict[str, ImportedCase]:
    return {identity(reading.suite, reading.params)[0]: reading for reading in read.readings}


def read_text(text: str, **told: Any) -> ImportedText:
    return printed_text.read(text, ImportHints(**told))


def test_new_text() -> None:
    read = read_text(NEW)
    found = cases(read)
    assert list(found) == [
        "collective/all_reduce[num_bytes=1048576,timing=streamed]",
        "collective/all_reduce[in_place=true,num_bytes=1048576,timing=streamed]",
        "collective/all_reduce[num_bytes=2097152,timing=streamed]",
        "collective/all_reduce[in_place=true,num_bytes=2097152,timing=streamed]",
        "collective/all_reduce[num_bytes=4194304,timing=streamed]",
        "collective/all_reduce[in_place=true,num_bytes=4194304,timing=streamed]",
    ]
    first, _, wrong, _, unchecked, timeless = found.values()
    assert first.seconds == pytest.approx((40e-6,))
    assert first.num_ranks == 4
    assert first.work is not None
    assert first.work == WorkFacts(bytes=1048576, bus_factor=1.5)
    assert first.check == CheckOutcome(error=0.0, tolerance=0.0, scope="full")
    assert "a mean over 20 calls" in first.notes[0]
    assert (wrong.status, wrong.seconds) == ("invalid", ())
    assert "3" in str(wrong.reason)
    assert (unchecked.status, unchecked.check) == ("ok", None)
    assert (timeless.status, timeless.check) == ("failed", None)
    assert (read.version, read.versions) == ("2.17.6", {"nccl": "2.28.3"})
    assert [rank.host for rank in read.ranks] == ["nodeA", "nodeA", "nodeB", "nodeB"]
    assert [row.where for row in read.unread] == ["line 18"]
    assert read.unread[0].text.startswith("[1,0]<stdout>:     8388608") or "8388608" in read.unread[0].text


def test_text_and_json_of_a_run_give_the_same_cases() -> None:
    text, data = read_text(NEW), json_file.read(JSON, ImportHints())
    assert cases(text) == cases(data)
    assert text.ranks == data.ranks
    assert text.versions == data.versions
    assert data.started == "2026-01-31T12:00:00"
    assert data.settings == {"minbytes": "1M", "maxbytes": "4M", "stepfactor": "2", "ngpus": "2"}


def test_old_text_says_no_operation_and_its_sizes_are_rounded_down() -> None:
    with pytest.raises(BenchError, match="--op all_reduce"):
        read_text(OLD)
    found = cases(read_text(OLD, op="all_gather"))
    assert list(found)[::2] == [f"collective/all_gather[num_bytes={n},timing=streamed]" for n in (1024, 2048, 4096)]
    first, _, wrong, _, unknown, unchecked = found.values()
    assert first.work is not None
    assert first.work == WorkFacts(bytes=1008, bus_factor=pytest.approx(5 / 6))
    assert first.check == CheckOutcome(error=0.0, tolerance=1e-5, scope="full")
    assert (wrong.status, unknown.status) == ("invalid", "ok")
    assert unknown.check is None
    assert unchecked.check is None


def test_a_program_named_in_the_log_says_the_operation() -> None:
    assert {one.params["op"] for one in read_text("$ ./build/alltoall_perf -b 1K\n" + OLD).readings} == {"all_to_all"}


def test_rows_are_put_together_around_debug_lines_and_all_columns_are_read() -> None:
    read = read_text(DEBUG)
    nothing, _, out_of_place, in_place = read.readings
    assert nothing.status == "skipped"
    assert out_of_place.params["num_bytes"] == 65536
    assert (out_of_place.params["time"], out_of_place.params["blocking"]) == ("cpu", True)
    assert out_of_place.seconds == pytest.approx((5e-6,))
    assert in_place.seconds == pytest.approx((6e-6,))
    assert out_of_place.derived == pytest.approx(
        {
            "iteration_min_seconds": 8e-6,
            "iteration_max_seconds": 12e-6,
            "iteration_p99_seconds": 11.5e-6,
            "iteration_variation": 0.1,
            "stated_algbw_gb_per_s": 6.55,
            "stated_busbw_gb_per_s": 3.28,
        }
    )
    assert out_of_place.work is not None
    assert out_of_place.work == WorkFacts()  # no bandwidth from the host's time
    assert out_of_place.started == "2026-01-31T12:00:02"
    assert read.versions == {"nccl": "2.28.3", "cuda": "12.9"}
    assert [(row.where, row.text.split()[0]) for row in read.unread] == [("line 21", "16777216")]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("    2097152        524288     float     sum\n", "line 5"),
        ("    2097152\n", "line 5"),
        ("    2097152        524288     float     sum      -1    61.50   oops\n", "line 5"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(line: str, where: str) -> None:
    read = read_text(DEVICES + HEAD + "# all_reduce_perf\n" + line + ROW, op="all_reduce")
    assert [row.where for row in read.unread] == [where]
    assert len(read.readings) == 2


def test_runs_in_one_text_are_launches_and_repeated_rows_are_samples(tmp_path: Path) -> None:
    start = "# Collective test starting: all_reduce_perf\n# nThread 1 nGpus 2 minBytes 1048576 maxBytes 1048576\n"
    other = ROW.replace("40.00", "50.00")
    (tmp_path / "log.txt").write_text((start + DEVICES + HEAD + ROW + other) + (start + DEVICES + HEAD + other))
    result = load(import_file(tmp_path / "log.txt", ImportHints(), tmp_path / "out.jsonl").path)
    (row, _) = case_rows([result])
    assert (row["num_launches"], row["num_samples"]) == (2, 3)
    assert row["seconds_median"] == pytest.approx((45e-6 + 50e-6) / 2)
    other_devices = DEVICES.replace("H200", "H100")
    with pytest.raises(BenchError, match="different devices"):
        read_text(start + DEVICES + HEAD + ROW + start + other_devices + HEAD + ROW)


def test_the_number_of_ranks_is_stated_told_or_asked_for() -> None:
    with pytest.raises(BenchError, match="add --ranks N"):
        read_text(HEAD + ROW, op="all_reduce")
    of_16 = ROW.replace("26.21  0", "49.15  0").replace("27.59  0", "51.74  0")
    assert read_text(HEAD + of_16, op="all_reduce", num_ranks=16).readings[0].num_ranks == 16
    with pytest.raises(
        BenchError, match=r"--op all_reduce --ranks 8: line 2: .* is 1.88 .* 8 ranks is 1.75 .*16 ranks"
    ):
        read_text(HEAD + of_16, op="all_reduce", num_ranks=8)
    with pytest.raises(BenchError, match="--ranks 3: the file says 2"):
        read_text(DEVICES + HEAD + ROW, op="all_reduce", num_ranks=3)
    split = DEVICES.replace("Rank  1 Group  0", "Rank  1 Group  1")
    alone = read_text(split + HEAD + ROW, op="all_reduce").readings[0]
    assert (alone.num_ranks, alone.params["groups"]) == (1, 2)
    with pytest.raises(BenchError, match="--op reduce: the text says all_reduce"):
        read_text(NEW, op="reduce")


def test_json_version_3_with_samples_and_a_check_of_repeatability() -> None:
    read = json_file.read((DATA / "nccl_v3.json").read_text(), ImportHints())
    (reading,) = read.readings
    assert reading.params == {
        "op": "all_reduce", "num_bytes": 1024, "dtype": "bfloat16", "timing": "streamed", "graph": True,
        "redop": "max", "blocking": True,
    }  # fmt: skip
    assert [[round(s * 1e6) for s in row] for row in reading.variants["each_iteration"]] == [[8, 12, 9], [7, 11, 10]]
    assert reading.derived["bitwise_differences"] == 0
    assert reading.derived["iteration_variation"] == pytest.approx(0.16329932)
    assert read.versions == {"nccl": "2.29.0"}
    assert [(row.where, row.text) for row in read.unread] == [("result 2", '{"size": "many"}')]


def test_nothing_private_of_the_json_is_kept(tmp_path: Path) -> None:
    saved = import_file(DATA / "nccl.json", ImportHints(), tmp_path / "out.jsonl")
    text = saved.path.read_text()
    for private in ("hunter2", "someone", "secret", "AWS", "--token", "abc", "HOME", "./build"):
        assert private not in text
    header = json.loads(text.splitlines()[0])
    assert header["environment"]["imported_from"]["file"] == "nccl.json"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_json_versions(version: int) -> None:
    data = json.loads(JSON) | {"version": version}
    read = json_file.read(json.dumps(data), ImportHints())
    assert (read.format, len(read.readings)) == (f"JSON, version {version}", 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (JSON[:500], "no whole JSON"),
        ("{}", "no JSON of nccl-tests"),
        (json.dumps(json.loads(JSON) | {"version": 9}), "version 9 .* update bench"),
        (json.dumps(json.loads(JSON) | {"args": []}), "add --op"),
    ],
)
def test_json_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        json_file.read(text, ImportHints())


@pytest.mark.parametrize(("code", "text"), [(22803, "2.28.3"), (2708, "2.7.8"), (21005, "2.10.5"), (0, None)])
def test_nccl_version(code: int, text: str | None) -> None:
    assert version_text(code) == text


@pytest.mark.parametrize(
    ("program", "op"),
    [
        ("./build/all_reduce_perf", "all_reduce"),
        ("C:\\nccl\\alltoall_perf.exe", "all_to_all"),
        ("sendrecv_perf_mpi", "send_recv"),
        ("reduce_scatter_perf", "reduce_scatter"),
    ],
)
def test_operation(program: str, op: str) -> None:
    assert operation(program) == op


@pytest.mark.parametrize(
    ("printed", "requested"),
    [(1024, 1024), (1008, 1024), (960, 1024), (0, 0), (1072, 1072)],
)
def test_sizes_are_those_asked_for(printed: int, requested: int) -> None:
    """With 6 ranks and floats, 1024 bytes become 1008; with 16-byte shares 960. 1072 is near no step."""
    setup = NcclTestsSetup(num_ranks=6, min_bytes=256, max_bytes=4096, step_factor=4)
    assert setup.requested_bytes(printed) == requested


def test_sizes_asked_for_in_steps() -> None:
    setup = NcclTestsSetup(num_ranks=6, min_bytes=100, max_bytes=400, step_bytes=100)
    printed = (96, 100, 192, 384, 408, 10**30)
    assert [setup.requested_bytes(num_bytes) for num_bytes in printed] == [100, 100, 200, 400, 408, 10**30]


def test_bandwidths_are_those_that_nccl_tests_prints(tmp_path: Path) -> None:
    rows = case_rows([load(import_file(DATA / "nccl_new.txt", ImportHints(), tmp_path / "out.jsonl").path)])
    assert (round(rows[0]["algbw_gb_per_s"], 2), round(rows[0]["busbw_gb_per_s"], 2)) == (26.21, 39.32)
    assert (round(rows[1]["algbw_gb_per_s"], 2), round(rows[1]["busbw_gb_per_s"], 2)) == (27.59, 41.39)
    assert rows[0]["skew"] is None  # nothing is known of single ranks
    assert rows[0]["interval"] is None
