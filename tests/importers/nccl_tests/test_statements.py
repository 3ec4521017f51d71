"""What a text of nccl-tests says of itself, held against its rows; the numbers are made up."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers.nccl_tests import printed_text
from bench.importers.nccl_tests.program import program_of
from bench.importers.reading import ImportedText, ImportHints
from bench.importers.source.cleaning import clean_text
from tests import DATA

BASE = (DATA / "import" / "cases" / "read-rightly" / "base.txt").read_text()
DEVICE_1 = "#  Rank  1 Group  0 Pid   1001 on    nodeA device  1 [0x0f] NVIDIA A100-SXM4-80GB\n"
FIRST_ROW = BASE.splitlines()[10]


def read(text: str, **told: Any) -> ImportedText:
    return printed_text.read(clean_text(text.encode()).text, ImportHints(**told))


def changed(*changes: tuple[str, str]) -> str:
    text = BASE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Rank  1 ", "Rank  2 ", "lists 2 ranks, but there is a rank 2, so that at least 3 took part"),
        ("Rank  1 ", "Rank  0 ", "lists rank 0 twice"),
        ("nGpus 2", "nGpus 4", r"lists 2 ranks, but a process has 4 \(nThread x nGpus\)"),
        (DEVICE_1, DEVICE_1 + "...\n", "lists 2 ranks, but shortens its list"),
        (DEVICE_1, "", "lists 1 rank, but a process has 2"),
        (
            DEVICE_1,
            DEVICE_1 + "nodeA:1:2 [0] NCCL INFO comm 0x5 rank 0 nranks 4 cudaDev 0 - Init COMPLETE\n",
            r"on its number of ranks: 4 \(NCCL's communicator in line 7\), 2 \(its list of devices\)",
        ),
        (
            DEVICE_1,
            DEVICE_1.replace("Group  0", "Group  1") + DEVICE_1.replace("Rank  1 ", "Rank  2 "),
            r"groups of different numbers of ranks \(group 0: 2, group 1: 1\)",
        ),
        (
            BASE,
            "# Collective test starting: all_gather_perf\n" + BASE + "# Collective test concluded: all_reduce_perf\n",
            "contradicts itself on its operation",
        ),
        ("-g 2\n", "-g 2; ./build/all_gather_perf -g 2\n", "names several programs"),
    ],
)  # fmt: skip
def test_contradictions_that_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read(changed((old, new)))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("262144     float     sum      -1    100.0", "26214     float     sum      -1    100.0", "line 11"),
        ("     1048576        262144     float", "     1048577        262144     float", "line 11"),
        ("11.65   11.65      0\n     2097152", "11.65   11.65      0    7.0\n     2097152", "line 11"),
        ("11.65      0\n     2097152", "11.65\n     2097152", "line 11"),
        ("#wrong     time   algbw   busbw #wrong", "#wrong", "line 11"),
        (FIRST_ROW, FIRST_ROW.replace("100.0", "1,000"), "line 11"),
        (FIRST_ROW, FIRST_ROW.replace("float", "FLOAT"), "line 11"),
        (FIRST_ROW, "| " + FIRST_ROW.replace("sum", "?"), "line 11"),
    ],
)
def test_rows_that_cannot_be_right_are_unread(old: str, new: str, where: str) -> None:
    found = read(changed((old, new)))
    assert found.unread[0].where == where
    assert all(reading.params["num_bytes"] != 1048576 for reading in found.readings)


def test_bandwidths_of_another_number_of_ranks_are_named_and_not_used() -> None:
    found = read(changed(("10.49   10.49", "10.49   18.36"), ("11.65   11.65", "11.65   20.39")))
    (contradiction,) = found.contradictions
    assert contradiction.note().startswith("line 11: bus bandwidth over algorithm bandwidth is 1.75 in 6 of 6 halves")
    assert "that of all_reduce on 2 ranks is 1 (it is that of 8 ranks)" in contradiction.text
    assert {reading.work.bus_factor for reading in found.readings if reading.work} == {None}


def test_the_last_lines_are_held_against_the_rows() -> None:
    assert read(BASE).remarks == ()
    rows = changed(("     2097152        524288     float     sum      -1    200.0   10.49   10.49", "# left out"))
    assert read(rows).remarks == ()  # the averages of two rows and of three are alike
    assert "average bus bandwidth of 20 GB/s" in read(changed((": 11.07", ": 20"))).remarks[0]
    assert "3 values out of bounds, and no row says which" in read(changed((": 0 OK", ": 3 FAILED"))).remarks[0]


def test_times_in_milliseconds_say_so_below_the_head() -> None:
    found = read(changed(("(us)", "(ms)"), ("100.0 ", "0.100 "), ("90.00 ", "0.090 ")))
    assert [reading.seconds for reading in found.readings[:2]] == [pytest.approx((1e-4,)), pytest.approx((9e-5,))]
    assert "2,097,152 bytes in 200000 us are 0.01 GB/s, but the row says 10.49" in found.contradictions[0].text


def test_a_table_whose_head_was_cut_off_or_lost() -> None:
    with pytest.raises(BenchError, match="does not say how many ranks"):
        read("\n".join(BASE.splitlines()[10:13]))
    found = read("\n".join(BASE.splitlines()[10:13]), op="all_reduce", num_ranks=2)
    assert len(found.readings) == 6
    first_format = (DATA / "import" / "public" / "first_format.txt").read_text()
    assert read(first_format, op="all_reduce", num_ranks=2).readings == ()
    wrapped = [line[start : start + 80] for line in BASE.splitlines() for start in range(0, max(len(line), 1), 80)]
    assert read("\n".join(wrapped), op="all_reduce", num_ranks=2).readings == ()


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda line: line.replace("1048576        262144", "1,048,576        262,144"), None),
        (lambda line: line.replace("   ", "\t"), None),
        (lambda line: f"| {' | '.join(line.split())} |" if "   " in line else line, "bars of a table"),
        (lambda line: line.replace("-1    ", "-1nodeA:7:7 [0] NCCL INFO Channel 0\n     "), None),
        (lambda line: line.replace("-1    ", "-1NCCL version 2.18.3+cuda12.2\n     "), None),
        (lambda line: line.replace("-1    ", "-1\nlibfabric:1:2:efa:ep: warning\nnot known at all\n     "), None),
    ],
)  # fmt: skip
def test_rows_in_other_shapes(change: Any, note: str | None) -> None:
    found = clean_text("\n".join(map(change, BASE.splitlines())).encode())
    assert note is None or note in found.taken_off[0].what
    readings = printed_text.read(found.text, ImportHints(op="all_reduce", num_ranks=2)).readings
    assert [round(seconds * 1e6, 6) for reading in readings for seconds in reading.seconds] == [
        100,
        90,
        200,
        180,
        400,
        360,
    ]


def test_a_second_table_without_a_start_is_a_further_launch() -> None:
    table = BASE[BASE.index("#       size") : BASE.index("# Out of")]
    found = read(BASE + table)
    assert [reading.launch for reading in found.readings] == [0] * 6 + [1] * 6
    assert {reading.num_ranks for reading in found.readings} == {2}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("$ ./build/all_reduce_perf -b 8 > logs/alltoall_perf.log", ["all_reduce_perf"]),
        ("Previously ran reduce_perf and saw 20 GB/s; now:", None),
        ("+ export LOG=broadcast_perf_out", None),
        ("+ srun --mpi=pmix ./nccl-tests/build/all_reduce_perf -b 1M", ["all_reduce_perf"]),
        ("Linking  /x/reduce.o > /x/build/reduce_perf", None),
        ("Running /nix/store/x-nccl-tests-2.13.6/bin/all_gather_perf", ["all_gather_perf"]),
        ("NCCL_ALGO=Tree mpirun -np 2 sendrecv_perf_mpi -g 1", ["sendrecv_perf_mpi"]),
        ("`srun all_reduce_perf_mpi -b 512M -g 1`", ["all_reduce_perf_mpi"]),
        ("C:\\build\\alltoall_perf.exe -g 2", ["alltoall_perf.exe"]),
        ("./a/all_reduce_perf -g 2 && ./a/all_gather_perf -g 2", ["all_reduce_perf", "all_gather_perf"]),
        ("the output of reduce_perf", None),
        ("ls build/all_reduce_perf", None),
    ],
)
def test_which_program_a_line_runs(line: str, names: list[str] | None) -> None:
    found = program_of(line)
    assert (None if found is None else list(found.names)) == names


def test_every_unknown_line_is_named_with_its_number() -> None:
    found = read(BASE.replace("#\n# Using", "#\nnot known at all, this line has seven more\n# Using"))
    (line,) = found.ledger.of_kind("unknown")
    assert (line.where, line.first_words) == ("line 4", "not known at all, this line ...")
    assert len(list(found.ledger)) == len(BASE.splitlines()) + 1
