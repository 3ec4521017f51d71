"""What a text of OSU says of its ranks, windows and end; the numbers are made up.

Form: tutorials that show `mpirun -n 8 ... osu_xccl_allreduce`, its table, and then the same on 16 ranks. Options of the
launchers: https://docs.open-mpi.org/en/v5.0.x/man-openmpi/man1/mpirun.1.html and https://slurm.schedmd.com/srun.html
"""

from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.importers import osu
from bench.importers.reading import ImportHints
from bench.importers.source.cleaning import clean_text
from bench.importers.source.launcher import launched_ranks

TABLE = "# OSU NCCL-CUDA Allreduce Latency Test v7.5\n# Size       Avg Latency(us)\n1024      {}\n"
PROGRAM = r"osu_\w+"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("$ mpirun -np 4 ./osu_allreduce", 4),
        ("mpirun -n 8 -x UCX_NET_DEVICES=mlx5_6:1 osu_xccl_allreduce -x 10 -i 10 -d cuda D D", 8),
        ("srun -n16 ./osu_allgather", 16),
        ("srun --ntasks=16 --mpi=pmix ./osu_allgather", 16),
        ("mpiexec.hydra -n 4 -ppn 2 /opt/osu/osu_alltoall", 4),
        ("+ /usr/bin/mpirun --np 2 osu_latency", 2),
        ("mpirun -np $N ./osu_allreduce", None),
        ("mpirun -np 2 ./osu_bw : -np 2 ./osu_bw", 2),
        ("mpirun -np 2 ./osu_bw : -np 3 ./osu_bw", None),
        ("mpirun -N 8 ./osu_allreduce", None),
        ("srun -N 2 --ntasks-per-node=8 ./osu_allreduce", None),
        ("mpirun -np 4 ./hello", None),
        ("osu_allreduce ran with -np 4", None),
    ],
)
def test_numbers_of_command_lines(command: str, expected: int | None) -> None:
    assert launched_ranks(command, PROGRAM) == expected


def test_the_command_says_what_the_table_does_not() -> None:
    text = "$ mpirun -n 8 osu_xccl_allreduce -d cuda D D\n" + TABLE.format("10.0")
    found = osu.read(text, ImportHints())
    assert [(case.num_ranks, case.seconds[0]) for case in found.readings] == [(8, pytest.approx(1e-5))]
    with pytest.raises(BenchError, match="--ranks 16: the file says 8"):
        osu.read(text, ImportHints(num_ranks=16))


def test_two_runs_on_other_numbers_of_ranks() -> None:
    text = "".join(f"$ mpirun -n {ranks} osu_xccl_allreduce\n" + TABLE.format(ranks) for ranks in (8, 16))
    assert [case.num_ranks for case in osu.read(text, ImportHints()).readings] == [8, 16]
    with pytest.raises(BenchError, match="--ranks 8: the file says 16"):
        osu.read(text, ImportHints(num_ranks=8))


def test_a_command_is_of_the_next_title_alone() -> None:
    text = "$ mpirun -n 8 osu_xccl_allreduce\n" + TABLE.format("10.0") + TABLE.format("20.0")
    with pytest.raises(BenchError, match="add --ranks N"):
        osu.read(text, ImportHints())


LATENCY = "# OSU MPI Latency Test v5.9\n# Size          Latency (us)\n4                       1.50\n"


@pytest.mark.parametrize(
    ("last", "is_cut"),
    [
        ("8  12.25\n", False),
        ("8  12.", True),
        ("8  12.2", True),
        ("8  12", True),
        ("8  12.2\n16  13.00\n", False),
        ("8  12.2\n", False),
    ],
)
def test_a_text_that_ends_within_its_last_number(last: str, is_cut: bool) -> None:
    found = osu.read(clean_text((LATENCY + last).encode()).text, ImportHints())
    assert [line.why for line in found.ledger.of_kind("unread")] == (
        ["cut off within its last number"] if is_cut else []
    )
    assert len(found.readings) == len(LATENCY.splitlines()) - 2 + (0 if is_cut else len(last.splitlines()))


def test_windows_of_other_sizes_are_other_cases() -> None:
    table = (
        "# OSU MPI Multiple Bandwidth / Message Rate Test v7.4\n# [ pairs: 4 ] [ window size: {} ]\n"
        "# Size                  MB/s        Messages/s\n1024     2048.00    2000000.00\n"
    )
    found = osu.read("".join(table.format(size) for size in (1, 64)), ImportHints())
    assert [(case.num_ranks, case.params.get("window_size")) for case in found.readings] == [(8, 1), (8, None)]
