"""What tells cases of PARAM's comms benchmark apart; the numbers are made up.

Form: printPreamble and reportBenchTime of https://github.com/facebookresearch/param (train/comms/pt).
"""

from __future__ import annotations

import pytest

from bench.importers import param
from bench.importers.reading import ImportHints

HEADS = "size (B)  nElementsPerRank  Latency(us):p50  p75  p95  Min  Max  AlgBW(GB/s)  BusBW(GB/s)"
ROW = "COMMS-RES-all_reduce-float32  1048576  262144  100.0  110.0  120.0  90.0  130.0  10.486  15.729"
PAIR = ROW.replace("262144", "262144  131072")


def text(mode: str = "comms", backend: str = "nccl", heads: str = HEADS, row: str = ROW, z: int = 1) -> str:
    return (
        f"\t backend: {backend} nw-stack: pytorch-dist mode: {mode} args.b: 8 args.e: 1M args.f: 2 args.z: {z}\n"
        f"groupSize 4\n\tCOMMS-RES  {heads}\n\t{row}\n"
    )


@pytest.mark.parametrize(
    ("changes", "extra"),
    [
        ({}, {}),
        ({"z": 0}, {"timing": "streamed"}),
        (
            {
                "mode": "comms-compute",
                "heads": f"{HEADS}  TotalLatency(us):p50  CompLatency(us):p50",
                "row": f"{ROW} 300.0 200.0",
            },
            {"mode": "comms-compute"},
        ),
        (
            {
                "heads": HEADS.replace("size", "total-size").replace("PerRank", "PerRank  nElementsPairPerRank"),
                "row": PAIR,
            },
            {"paired": True},
        ),
    ],
)
def test_calls_beside_others_are_cases_of_their_own(changes: dict[str, str], extra: dict[str, object]) -> None:
    found = param.read(text(**changes), ImportHints())
    assert [case.seconds[0] for case in found.readings] == [pytest.approx(130e-6)]
    assert found.readings[0].params == {"op": "all_reduce", "num_bytes": 1048576, "dtype": "float32", **extra}
    assert not found.remarks


def test_two_backends_in_one_text() -> None:
    found = param.read(text() + text(backend="gloo", row=ROW.replace("130.0", "900.0")), ImportHints())
    assert [case.params.get("backend") for case in found.readings] == ["nccl", "gloo"]
    assert (found.backend, {rank.device_type for rank in found.ranks}) == (None, {None})
    found = param.read(text() + text(), ImportHints())
    assert [case.params.get("backend") for case in found.readings] == [None, None]
    assert found.backend == "nccl"


def test_a_size_that_is_not_count_times_type() -> None:
    found = param.read(text(row=ROW.replace("262144", "999999")), ImportHints())
    assert found.remarks == (
        "line 4: size 1048576 is not count 999999 x 4 bytes, nor that of a share; the size is taken",
    )
